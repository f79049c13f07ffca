//! The `rowcast` command: reads the configuration, starts the log, serves until a signal, says how it ended.
//!
//! It is part of the library so that the program that calls it has nothing to compile but that call.

use std::io::Write;
use std::process::ExitCode;

use crate::config::{CertConfig, Cli, Config, MigrateConfig, StoreConfig, Task};
use crate::open_files;
use crate::server::Server;
use crate::shutdown::{Hangups, StopSignals};
use crate::store::postgres::tables::InstalledTable;
use crate::store::postgres::tables::install::Done;
use crate::store::postgres::tables::prepare::{Prepared, prepare};
use crate::store::postgres::tables::remove::remove;
use crate::supervisor;
use crate::telemetry;
use crate::transport::tls::write_self_signed;
use crate::watch::watch;
use anyhow::Context;
use clap::Parser;
use tracing::info;

/// The configuration cannot be used (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Runs the command with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(cli.log_format());
    let task = match cli.into_task(std::env::var("DATABASE_URL").ok()) {
        Ok(task) => task,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("start the runtime: {error}"), 1),
    };
    let doing = || {
        runtime.block_on(async {
            match task {
                Task::Serve(config) => serve(config).await,
                Task::Migrate(config) => apply_migrations(&config).await,
                Task::Unmigrate(config) => take_off(&config).await,
                Task::Certify(config) => certify(&config),
                Task::Watch(config) => watch(config, std::io::stdout().lock()).await,
            }
        })
    };
    let result = supervisor::end_of_main_thread(doing);
    // Without waiting for what hung until the deadline of the stop.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    telemetry::say_at_the_end(error);
    ExitCode::from(code)
}

/// Writes to standard output. Whoever started this may have closed it; what was done stays done.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut signals = StopSignals::catch().context("catch signals")?;
    let hangups = Hangups::catch().context("catch SIGHUP")?;
    if config.tls.is_none() && config.keys.is_none() {
        tokio::spawn(hangups.ignore());
    }
    let files_max = open_files::raise();
    if (config.admission.connections_max as u64) > files_max {
        info!(files_max, "the limit of open files is below --max-connections; raise it with ulimit -n");
    }
    let server = Server::start(&config).await?;
    greet(&server, &config);
    let ended = server
        .run(async {
            let signal = signals.next().await;
            info!(signal, "stopping; another signal, a second or more from now, exits at once");
            tokio::spawn(async move {
                let signal = signals.another().await;
                fail(&format!("exiting at once after a second signal ({signal}); what was open is cut"), 1);
                std::process::exit(1);
            });
        })
        .await?;
    info!(
        connections = ended.connections,
        connections_cut = ended.connections_cut,
        requests_cut = ended.requests_cut,
        "stopped"
    );
    Ok(())
}

async fn apply_migrations(config: &MigrateConfig) -> anyhow::Result<()> {
    let MigrateConfig { database, tables } = config;
    let Prepared { applied, tables, .. } = prepare(database, tables).await?;
    for name in applied {
        say(format_args!("applied {name}\n"));
    }
    for (InstalledTable { name, key, .. }, done) in tables {
        match done {
            Done::Installed => say(format_args!("installed on {name}, whose key is {key}\n")),
            Done::Updated => say(format_args!("brought {name} up to date, whose key is {key}\n")),
            Done::Nothing => {}
        }
    }
    say(format_args!("{database} is up to date\n"));
    Ok(())
}

async fn take_off(config: &MigrateConfig) -> anyhow::Result<()> {
    let names: Vec<String> = config.tables.specs.iter().map(|table| table.name.clone()).collect();
    remove(&config.database, &names).await?;
    for name in &names {
        say(format_args!("{name} is as it was without Rowcast\n"));
    }
    Ok(())
}

/// Makes a certificate, and says what to do with it.
fn certify(config: &CertConfig) -> anyhow::Result<()> {
    let files = write_self_signed(&config.hosts, &config.dir, config.force)?;
    let (certificate, key) = (files.certificate.display(), files.key.display());
    say(format_args!(
        "Wrote {certificate} and {key}, for {hosts}, good for 397 days\n\
         Serve with it:    rowcast --tls-cert {certificate} --tls-key {key}\n\
         Trust it in curl: curl --cacert {certificate} https://{host}:8080/\n\
         in Node.js:       NODE_EXTRA_CA_CERTS={certificate}\n\
         in Chromium:      certutil -d sql:$HOME/.pki/nssdb -A -t P,, -n rowcast -i {certificate}\n\
         in Firefox:       open the page, and accept the risk for this certificate\n\
         on Debian:        sudo cp {certificate} /usr/local/share/ca-certificates/rowcast.crt && sudo update-ca-certificates\n\
         It is for development: nobody has signed it. The key is for this user alone; do not share it.\n",
        hosts = config.hosts.join(", "),
        host = config.hosts[0],
    ));
    Ok(())
}

/// Says where to look and what to try.
fn greet(server: &Server, config: &Config) {
    let address = server.address();
    let store = match &config.store {
        StoreConfig::Embedded(store) => format!("the embedded store in {}", store.dir.display()),
        StoreConfig::Postgres(config) => format!("Postgres at {}", config.database),
    };
    let (http, ws) = if config.tls.is_some() { ("https", "wss") } else { ("http", "ws") };
    let token = if config.keys.is_some() { " -H \"Authorization: Bearer $TOKEN\"" } else { "" };
    let redirect =
        server.redirect_address().map(|redirect| format!("Requests to http://{redirect} are sent on to it\n"));
    let redirect = redirect.unwrap_or_default();
    if !server.has_products() {
        telemetry::greet(&format!(
            "Rowcast is live at {http}://{address}\n{redirect}\
             Tables are in {store}; WebSockets open at {ws}://{address}/websocket\n\
             See which: curl {http}://{address}/tables{token}\n"
        ));
        return;
    }
    telemetry::greet(&format!(
        "Rowcast is live at {http}://{address}\n{redirect}\
         Products are in {store}; WebSockets open at {ws}://{address}/websocket\n\
         Try this, and watch the page:\n  \
         curl -X PUT {http}://{address}/products/1 -H 'Content-Type: application/json'{token} \\\n    \
         -d '{{\"manufacturer\":\"Apple\",\"pricePerUnit\":\"500EUR\",\"unitsAvailable\":6,\"productName\":\"MacBook Pro\"}}'\n"
    ));
}
