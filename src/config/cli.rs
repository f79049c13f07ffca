//! The command line as a whole: the tasks of `rowcast`, and the options of the small ones.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::serve::ServeArgs;
use super::store::DatabaseArgs;
use super::tables::{ProductArgs, TableArgs};
use super::watch::WatchArgs;
use super::{CertConfig, ConfigError, MigrateConfig, Task};
use crate::store::postgres::tables::prepare::WantedTables;

/// The command line of `rowcast`.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; without one, `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

const EXAMPLES: &str = "Examples:
  rowcast                                             serve http://127.0.0.1:8080, products in ./rowcast-data
  rowcast --listen 127.0.0.1:9000 --cores 1           another port, one thread for fan-out
  rowcast --database-url postgres://app@db/shop       products in Postgres; changes by any client are cast
  rowcast migrate --database-url postgres://app@db/shop
                                                      only prepare the database, with a role that may
  rowcast migrate --table orders --table shop.customers:customer_no --database-url …
                                                      and tables of yours, with their keys
  rowcast cert && rowcast --tls-cert cert.pem --tls-key key.pem
                                                      https and wss with a certificate for development
  rowcast watch 1 2 3                                 follow three products of that server in this terminal
  rowcast watch 1 2 3 --once --format json            print three products as they are, and end

Every option can be given by its environment variable instead. Logs go to standard error; RUST_LOG=rowcast=debug shows
more. SIGTERM and Ctrl-C stop the server: it closes its WebSockets over --drain-seconds, casts what is committed, and
ends. Another one, after a second, ends it at once.";

/// The tasks of `rowcast`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the page, the REST API and the WebSockets (this is the default)
    Serve(Box<ServeArgs>),
    /// Bring a Postgres database's tables and triggers up to date, and exit; `serve` does it too
    Migrate(MigrateArgs),
    /// Take away again what `migrate --table` installed on tables of a Postgres database
    Unmigrate(UnmigrateArgs),
    /// Make a certificate for development: cert.pem and key.pem, signed by nobody but itself
    Cert(CertArgs),
    /// Show products as they are and as they change, of a server that runs
    Watch(WatchArgs),
}

/// The options of `migrate`.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    tables: TableArgs,
    #[command(flatten)]
    products: ProductArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// The options of `unmigrate`.
#[derive(Clone, Debug, Args)]
pub struct UnmigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    tables: TableArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// The options of `cert`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Certificate")]
pub struct CertArgs {
    /// Name or address that the certificate is for; may be given several times [default: this machine's]
    #[arg(long, env = "ROWCAST_HOST", value_name = "NAME", value_delimiter = ',')]
    host: Vec<String>,

    /// Directory to write cert.pem and key.pem to
    #[arg(long, env = "ROWCAST_OUT", value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Replace the files if they are there
    #[arg(long, env = "ROWCAST_FORCE")]
    force: bool,

    #[command(flatten)]
    log: LogArgs,
}

/// The options of the log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// How log lines are written to standard error
    #[arg(long, env = "ROWCAST_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Cli {
    /// The form of the log.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        match &self.command {
            None => self.serve.log.log_format,
            Some(Command::Serve(args)) => args.log.log_format,
            Some(Command::Migrate(args)) => args.log.log_format,
            Some(Command::Unmigrate(args)) => args.log.log_format,
            Some(Command::Cert(args)) => args.log.log_format,
            Some(Command::Watch(args)) => args.log.log_format,
        }
    }

    /// Checks everything that can be checked before anything is opened. `database_url` is the environment's
    /// `DATABASE_URL`, which counts where the option is not given.
    ///
    /// # Errors
    /// One sentence for the user.
    pub fn into_task(self, database_url: Option<String>) -> Result<Task, ConfigError> {
        match self.command {
            None => self.serve.into_config(database_url).map(Task::Serve),
            Some(Command::Serve(args)) => args.into_config(database_url).map(Task::Serve),
            Some(Command::Migrate(args)) => {
                let database = args.database.postgres(database_url)?.ok_or(ConfigError::NoDatabase("migrate"))?;
                let (specs, without_products) = (args.tables.into_specs()?, args.products.no_products);
                let tables = WantedTables { specs, without_products, ..WantedTables::default() };
                Ok(Task::Migrate(MigrateConfig { database, tables }))
            }
            Some(Command::Unmigrate(args)) => {
                let database = args.database.postgres(database_url)?.ok_or(ConfigError::NoDatabase("unmigrate"))?;
                let tables = WantedTables { specs: args.tables.into_specs()?, ..WantedTables::default() };
                if tables.specs.is_empty() {
                    return Err(ConfigError::NoTable);
                }
                Ok(Task::Unmigrate(MigrateConfig { database, tables }))
            }
            Some(Command::Cert(args)) => Ok(Task::Certify(args.into_config())),
            Some(Command::Watch(args)) => args.into_config().map(Task::Watch).map_err(ConfigError::Watch),
        }
    }
}

impl CertArgs {
    fn into_config(self) -> CertConfig {
        let hosts = match self.host[..] {
            [] => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            _ => self.host,
        };
        CertConfig { hosts, dir: self.out, force: self.force }
    }
}
