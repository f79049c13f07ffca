//! The arguments of the storms of readers that ask for states: [`ResumeArgs`], [`SnapshotArgs`].

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;

use super::{OwnServerArgs, loopback};
use crate::peer::Peer;
use crate::target::Target;
use crate::token::Token;

/// The arguments of `resume`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) storm: StormArgs,

    /// Percentage of the products that change while the readers are away
    #[arg(long, env = "ROWCAST_LOAD_CHANGED", value_name = "PERCENT", default_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) changed: u32,

    /// Load this server on this machine, which runs already, and start none; give --pid, and --overwrite-products
    #[arg(long, env = "ROWCAST_LOAD_URL", value_name = "URL", requires = "pid")]
    pub(crate) url: Option<String>,

    /// What kind of server it is: rowcast, or centrifugo, whose channels then recover from a cache of the last publication
    #[arg(long, env = "ROWCAST_LOAD_PEER", value_name = "KIND", default_value = "rowcast")]
    pub(crate) peer: Peer,

    /// With --url, process ids of the server, separated by commas, to measure its CPU
    #[arg(long, env = "ROWCAST_LOAD_PID", value_name = "PID", value_delimiter = ',', requires = "url")]
    pub(crate) pid: Vec<u32>,
}

impl ResumeArgs {
    /// Refuses what cannot be run; returns the server that runs already, if it is to be loaded.
    pub(crate) fn running(&self) -> anyhow::Result<Option<Target>> {
        let Some(url) = &self.url else {
            ensure!(self.peer == Peer::Rowcast, "of other servers than Rowcast none is started; name one with --url");
            return Ok(None);
        };
        let Some(authority) = url.strip_prefix("ws://") else {
            bail!("--url {url}: begins with ws://, as in ws://127.0.0.1:8080")
        };
        ensure!(
            matches!(self.peer, Peer::Rowcast | Peer::Centrifugo),
            "resume speaks the protocols of Rowcast and Centrifugo only"
        );
        ensure!(
            self.peer == Peer::Rowcast || (self.changed == 0 && self.storm.http2.is_none()),
            "with --peer centrifugo nothing changes, over HTTP/1.1; leave --changed and --http2 out"
        );
        ensure!(
            self.storm.own.overwrite_products || self.peer != Peer::Rowcast,
            "this writes products 1 to {} of the server, over whatever they are. If nobody needs them, give \
             --overwrite-products; nothing was written",
            self.storm.products
        );
        let address = loopback(authority.split('/').next().unwrap_or(authority));
        Ok(Some(Target::plain(address.with_context(|| format!("--url {url}"))?, Token::default())))
    }
}

/// The arguments of `snapshot`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) storm: StormArgs,
}

/// The readers, and the server that is started for them.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct StormArgs {
    /// WebSockets that subscribe, all at the same moment
    #[arg(long, env = "ROWCAST_LOAD_CONNECTIONS", value_name = "N", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,

    /// Products that each subscribes to, chosen at random but the same in every run
    #[arg(long, env = "ROWCAST_LOAD_IDS_PER_CONNECTION", value_name = "K", default_value = "1024",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) ids_per_connection: u32,

    /// Products that there are, with the ids 1 to P
    #[arg(long, env = "ROWCAST_LOAD_PRODUCTS", value_name = "P", default_value = "100000",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) products: u32,

    /// Length of the WebSocket frame of a product, which a long product name fills
    #[arg(long, env = "ROWCAST_LOAD_PAYLOAD_BYTES", value_name = "BYTES", default_value = "190",
          value_parser = clap::value_parser!(u32).range(180..=1_000_000))]
    pub(crate) payload_bytes: u32,

    /// Hold this many of the WebSockets on each TCP connection, over HTTP/2
    #[arg(long, env = "ROWCAST_LOAD_HTTP2", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) http2: Option<u32>,

    /// The server that is started, and ended with the run [default: rowcast beside this binary]
    #[arg(long, env = "ROWCAST_LOAD_SERVER", value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,

    /// Cores of the server
    #[arg(long, env = "ROWCAST_LOAD_CORES", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) cores: u16,

    /// Keep the server on this processor; give the generator another, as in taskset -c 1 rowcast-load …
    #[arg(long, env = "ROWCAST_LOAD_SERVER_PROCESSOR", value_name = "N")]
    pub(crate) server_processor: Option<u32>,

    /// More options for the server, between spaces, as in "--last-values-bytes 1000000"
    #[arg(
        long,
        env = "ROWCAST_LOAD_SERVER_OPTIONS",
        value_name = "OPTIONS",
        value_delimiter = ' ',
        allow_hyphen_values = true
    )]
    pub(crate) server_options: Vec<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) own: OwnServerArgs,
}

/// The server's own limit of subscriptions, as long as nobody gives another.
const SUBSCRIPTIONS_MAX: u32 = 100_000;
/// The same of the WebSockets on an HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 128;

impl StormArgs {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.own.is_harmless(),
            "this writes products 1 to {} to the database of --database-url, and the tables of a server where there are \
             none. If nobody needs what is there, give --overwrite-products; nothing was written",
            self.products
        );
        Ok(())
    }

    /// Returns the options of the server, with room for what the readers ask of it.
    pub(crate) fn server_options(&self) -> Vec<String> {
        let mut options = vec!["--cores".to_owned(), self.cores.to_string()];
        let mut add = |name: &str, value: String| options.extend([name.to_owned(), value]);
        // Nobody is left to be asked to come back when it is stopped.
        add("--drain-seconds", "0".to_owned());
        // Also those of the round in which each product is somebody's.
        let each = self.products.div_ceil(self.connections);
        add("--max-subscriptions", SUBSCRIPTIONS_MAX.max(self.ids_per_connection.saturating_add(each)).to_string());
        if let Some(streams) = self.http2.filter(|streams| *streams > HTTP2_STREAMS_MAX) {
            add("--http2-max-streams", streams.to_string());
        }
        if let Some(url) = &self.own.database_url {
            add("--database-url", url.clone());
        }
        options.extend(self.server_options.iter().filter(|option| !option.is_empty()).cloned());
        options
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn storm(args: &[&str]) -> super::StormArgs {
        match Cli::try_parse_from([&["rowcast-load"], args].concat()).unwrap().command {
            Command::Resume(args) => args.storm,
            Command::Snapshot(args) => args.storm,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_database_is_written_to_only_on_request() {
        for command in ["resume", "snapshot"] {
            let args = [command, "--database-url", "postgres://localhost"];
            assert!(storm(&args).check().unwrap_err().to_string().contains("--overwrite-products"), "{command}");
            assert!(storm(&[&args[..], &["--overwrite-products"]].concat()).check().is_ok(), "{command}");
            assert!(storm(&[command]).check().is_ok(), "the server has a store of its own");
        }
    }

    #[test]
    fn a_server_that_runs_already_is_loaded_only_on_request() {
        let running = |args: &[&str]| {
            let args = [&["rowcast-load", "resume"], args].concat();
            let Command::Resume(args) = Cli::try_parse_from(args).unwrap().command else { panic!("resume") };
            args.running().map(|target| target.map(|target| target.address.port())).map_err(|error| error.to_string())
        };
        assert_eq!(running(&[]), Ok(None));
        let url = ["--url", "ws://127.0.0.1:81/", "--pid", "1"];
        assert!(running(&url).unwrap_err().contains("--overwrite-products"));
        assert_eq!(running(&[&url[..], &["--overwrite-products"]].concat()), Ok(Some(81)));
        assert_eq!(running(&[&url[..], &["--peer", "centrifugo"]].concat()), Ok(Some(81)));
        for (more, why) in [
            (&["--peer", "centrifugo", "--changed", "1"][..], "--changed"),
            (&["--peer", "bun"], "Rowcast and Centrifugo only"),
        ] {
            assert!(running(&[&url[..], more].concat()).unwrap_err().contains(why), "{more:?}");
        }
        assert!(running(&["--peer", "centrifugo"]).unwrap_err().contains("--url"));
        assert!(running(&["--url", "ws://192.0.2.1:80", "--pid", "1", "--overwrite-products"]).is_err());
        assert!(
            Cli::try_parse_from(["rowcast-load", "resume", "--url", "ws://127.0.0.1:81"]).is_err(),
            "without --pid"
        );
    }

    #[test]
    fn the_server_has_room_for_what_is_asked_of_it() {
        let options = |args: &[&str]| storm(args).server_options().join(" ");
        let plain = options(&["resume"]);
        assert_eq!(plain, "--cores 1 --drain-seconds 0 --max-subscriptions 100000");
        let many = ["snapshot", "--connections", "1", "--ids-per-connection", "99999", "--products", "200000"];
        let more = ["--http2", "129", "--server-options", "--shards 3 --gather-ms 0"];
        let options = options(&[&many[..], &more].concat());
        assert!(options.contains("--max-subscriptions 299999"), "{options}");
        assert!(options.ends_with("--http2-max-streams 129 --shards 3 --gather-ms 0"), "{options}");
    }
}
