//! The command line of `rowcast-load`.

mod healing;
mod own_server;
mod states;
mod target;

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::message::Message;
use crate::noisy_neighbour::AttackName;
use crate::peer::Peer;
use crate::table::{COLUMNS_MIN, Keys, Table};

pub(crate) use healing::HealingArgs;
pub(crate) use own_server::OwnServerArgs;
pub(crate) use states::{ResumeArgs, SnapshotArgs, StormArgs};
pub(crate) use target::{TargetArgs, loopback};

/// The command line.
#[derive(Debug, Parser)]
#[command(version, about = "Puts a load on a Rowcast server, checks that every change arrives, and measures", after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  rowcast-load fanout --overwrite-products --connections 1000 --rate 50 --pid $(pidof rowcast)
                                     1,000 readers of one product, 50 changes/s: latency, and CPU per delivery
  rowcast-load fanout --overwrite-products --connections 1000 --publishers 64 --svg run.svg
                                     as fast as 64 publishers are answered
  rowcast-load fanout --overwrite-products --connections 5000 --ids-per-connection 20 --products 10000 --rate 3000
                                     many products with few readers each
  rowcast-load fanout --overwrite-products --connections 1000 --slow-percent 5 --churn 20
                                     some readers stop reading, and some leave and come back
  rowcast-load fanout --overwrite-products --connections 1000 --products 100 --churn 50 --slow 5 --verify-state
                                     and at the end, whether each reader knows what the store has
  rowcast-load fanout --overwrite-products --connections 1000 --http2 100 --url wss://127.0.0.1:8443 --insecure
                                     the readers over HTTP/2, 100 WebSockets on each TCP connection
  rowcast-load fanout --overwrite-products --connections 1000 --rate 50 --event-streams --pid $(pidof rowcast)
                                     the readers by GET /events: CPU per delivery beside that of the first
  rowcast-load fanout --overwrite-products --products 1000 --publishers 4 --publisher notify --batch 500 --database-url postgres://…
                                     how many notifications per second the server takes in
  rowcast-load fanout --overwrite-products --table load --keys text --columns 12 --payload-bytes 300 --connections 1000 --rate 50
                                     rows of any table, here with keys that are texts
  rowcast-load memory --connections 15000 --pid $(pidof rowcast)
                                     memory of an idle connection
  rowcast-load subscribe --connections 100 --ids-per-connection 5000 --products 100000
                                     what subscribing, unsubscribing and closing cost
  rowcast-load resume --connections 1000 --ids-per-connection 1024 --changed 10
                                     1,000 readers come back with 1,024 versions each, a tenth of which is old; this and
                                     the next start the server themselves
  rowcast-load snapshot --connections 1000 --ids-per-connection 1024 --server-processor 0
                                     1,000 readers ask for 1,024 products each: rows loaded, and rows from memory
  rowcast-load healing --overwrite-products --database-url postgres://… --kills 10 --rate 3000 --ids-per-connection 20
                                     the server loses its Postgres ten times while products change: how long readers are
                                     not live, and whether each of them knows in the end what the store has
  rowcast-load noisy-neighbour --attack large-commands,not-commands
                                     what one client's flood costs 50 other readers, on a server that it starts itself
  taskset -c 0 rowcast-load floor --listen 127.0.0.1:9100 --batch 16
                                     a server of nothing but sends: fanout --peer floor --url ws://127.0.0.1:9100

The server has to be on this machine, and fanout and notify overwrite its products: use one of its own. On two processors, keep the two apart: taskset -c 0 rowcast …, and
taskset -c 1 rowcast-load …. Exit code 1 means that a change was lost, repeated or out of order, and says which.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Readers that subscribe, publishers that change products: latencies, throughput, and whether all arrived
    Fanout(Box<FanoutArgs>),
    /// Opens idle subscribed connections and tells the server's memory for each
    Memory(MemoryArgs),
    /// Storms of subscribing, unsubscribing and closing, and what they cost the server
    Subscribe(SubscribeArgs),
    /// All readers come back at once with the versions that they know: what each of them costs, and how long it takes
    Resume(ResumeArgs),
    /// All readers ask at once for their products as they are, from the store and from memory
    Snapshot(SnapshotArgs),
    /// The server's connection to its Postgres is ended while readers listen: how long they are not live, and whether
    /// what they know then is what the store has
    Healing(HealingArgs),
    /// One notification at a time: how much later than a bare LISTEN client a WebSocket has it
    Notify(NotifyArgs),
    /// TLS handshakes, full and resumed, each followed by one request, and what they cost the server
    Handshakes(HandshakesArgs),
    /// A heavy or hostile client beside other readers: what it costs them, for each of many attacks
    NoisyNeighbour(NoisyNeighbourArgs),
    /// A server that does nothing but send: the floor that others are measured against
    Floor(FloorArgs),
    /// Draws a comparison, as loadtest/compare gives it: JSON on standard input, SVG on standard output
    Chart,
}

/// The readers.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct ReadersArgs {
    /// WebSockets that subscribe
    #[arg(long, env = "ROWCAST_LOAD_CONNECTIONS", value_name = "N", default_value = "1000")]
    pub(crate) connections: usize,

    /// Products that each subscribes to, chosen at random but the same in every run
    #[arg(long, env = "ROWCAST_LOAD_IDS_PER_CONNECTION", value_name = "K", default_value = "1")]
    pub(crate) ids_per_connection: usize,

    /// Products that there are, with the ids 1 to P
    #[arg(long, env = "ROWCAST_LOAD_PRODUCTS", value_name = "P", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) products: u32,

    /// Hold this many of the WebSockets on each TCP connection, over HTTP/2 (fanout and memory); publishers stay on HTTP/1.1
    #[arg(long, env = "ROWCAST_LOAD_HTTP2", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) http2: Option<u32>,
}

/// The arguments of `fanout`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    #[command(flatten)]
    pub(crate) readers: ReadersArgs,

    /// Give the readers event streams (GET /events) in place of WebSockets
    #[arg(long, env = "ROWCAST_LOAD_EVENT_STREAMS", conflicts_with = "http2")]
    pub(crate) event_streams: bool,

    /// Write products 1 to P of the server (or rows 1 to P of --table), over whatever they are; nothing is written without it
    #[arg(long, env = "ROWCAST_LOAD_OVERWRITE_PRODUCTS")]
    pub(crate) overwrite_products: bool,

    /// Write and follow rows of this table in place of products, over REST. In Postgres it has the columns id (its key),
    /// stamp (text) and c1, c2, … (int): CREATE TABLE load (id text PRIMARY KEY, stamp text, c1 int, c2 int, c3 int)
    #[arg(long, env = "ROWCAST_LOAD_TABLE", value_name = "NAME")]
    pub(crate) table: Option<String>,

    /// The keys of --table
    #[arg(long, env = "ROWCAST_LOAD_KEYS", value_name = "KIND", default_value = "integer", requires = "table")]
    pub(crate) keys: Keys,

    /// The columns of --table, its key included
    #[arg(long, env = "ROWCAST_LOAD_COLUMNS", value_name = "N", default_value = "5", requires = "table",
          value_parser = clap::value_parser!(u32).range(i64::from(COLUMNS_MIN)..=64))]
    pub(crate) columns: u32,

    /// Changes per second, whatever the answers; without it, as fast as the publishers are answered
    #[arg(long, env = "ROWCAST_LOAD_RATE", value_name = "R")]
    pub(crate) rate: Option<f64>,

    /// Connections that publish, each waiting for its answer [default: 64, or one for each 50 writes/s of --rate]
    #[arg(long, env = "ROWCAST_LOAD_PUBLISHERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) publishers: Option<u32>,

    /// Changes that a publisher makes at once, in one transaction: with --publisher sql or notify
    #[arg(long, env = "ROWCAST_LOAD_BATCH", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,

    /// Length of the WebSocket frame of a change, which a long product name fills
    #[arg(long, env = "ROWCAST_LOAD_PAYLOAD_BYTES", value_name = "BYTES", default_value = "190",
          value_parser = clap::value_parser!(u32).range(180..=1_000_000))]
    pub(crate) payload_bytes: u32,

    /// How changes are made
    #[arg(long, env = "ROWCAST_LOAD_PUBLISHER", value_name = "WAY", default_value = "rest")]
    pub(crate) publisher: PublisherKind,

    /// Where to publish, if not at --url: ADDRESS:PORT (the client port of NATS, for instance)
    #[arg(long, env = "ROWCAST_LOAD_PUBLISH_TO", value_name = "ADDRESS:PORT")]
    pub(crate) publish_to: Option<String>,

    /// The server's Postgres, for --publisher sql and notify
    #[arg(long, env = "ROWCAST_LOAD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    #[serde(skip)]
    pub(crate) database_url: Option<String>,

    /// Readers that stop reading until the end of the run
    #[arg(long, env = "ROWCAST_LOAD_SLOW", value_name = "N", conflicts_with = "slow_percent")]
    pub(crate) slow: Option<usize>,

    /// The same, as a percentage of the readers
    #[arg(long, env = "ROWCAST_LOAD_SLOW_PERCENT", value_name = "PERCENT")]
    pub(crate) slow_percent: Option<f64>,

    /// Connections per second that are closed and opened again
    #[arg(long, env = "ROWCAST_LOAD_CHURN", value_name = "R", default_value = "0")]
    pub(crate) churn: f64,

    /// Seconds before measuring begins
    #[arg(long, env = "ROWCAST_LOAD_WARM_UP", value_name = "SECONDS", default_value = "1")]
    pub(crate) warm_up: f64,

    /// Seconds that are measured
    #[arg(long, env = "ROWCAST_LOAD_DURATION", value_name = "SECONDS", default_value = "10")]
    pub(crate) duration: f64,

    /// Have the readers ask for the state of each product first, and compare at the end the version that each knows of
    /// each of its products with the store, which is read over REST; a difference is a fault
    #[arg(long, env = "ROWCAST_LOAD_VERIFY_STATE")]
    pub(crate) verify_state: bool,

    /// Draw the latencies and the throughput to this file, as SVG
    #[arg(long, env = "ROWCAST_LOAD_SVG", value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// The way in which changes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PublisherKind {
    /// Over HTTP (NATS: over its own protocol)
    Rest,
    /// Rows written to Postgres
    Sql,
    /// Ready messages, notified to the server's channel in Postgres without a row
    Notify,
}

/// The arguments of `memory`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) readers: ReadersArgs,
}

/// The arguments of `subscribe`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct SubscribeArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) readers: ReadersArgs,
}

/// The arguments of `notify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NotifyArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// The database of the server under test, on this machine
    #[arg(long, env = "ROWCAST_LOAD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: String,

    /// Notify of a product of the server, whatever it is; nothing is sent without it
    #[arg(long, env = "ROWCAST_LOAD_OVERWRITE_PRODUCTS")]
    pub(crate) overwrite_products: bool,

    /// Notifications per second
    #[arg(long, env = "ROWCAST_LOAD_RATE", value_name = "R", default_value = "200")]
    pub(crate) rate: f64,

    /// Seconds
    #[arg(long, env = "ROWCAST_LOAD_DURATION", value_name = "SECONDS", default_value = "10")]
    pub(crate) duration: f64,
}

impl NotifyArgs {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!((1.0..=10_000.0).contains(&self.rate), "--rate is from 1 to 10000 notifications per second");
        ensure!(
            self.overwrite_products,
            "this tells the server's readers of changes of product {} that nobody made. If nobody needs it, give \
             --overwrite-products; nothing was sent",
            crate::notify::PRODUCT
        );
        ensure!((0.1..=3600.0).contains(&self.duration), "--duration is from 0.1 to 3600 seconds");
        Ok(())
    }
}

/// The arguments of `handshakes`.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct HandshakesArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Handshakes that are under way at once
    #[arg(long, env = "ROWCAST_LOAD_AT_ONCE", value_name = "N", default_value = "16",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) at_once: u32,

    /// Seconds for each kind of handshake
    #[arg(long, env = "ROWCAST_LOAD_DURATION", value_name = "SECONDS", default_value = "5")]
    pub(crate) duration: f64,
}

/// The arguments of `noisy-neighbour`, for which the server's store has another meaning.
#[derive(Clone, Debug, Args, Serialize)]
#[command(
    mut_arg("data_parent", |parent| parent.help("Where each server's data directory is made, to be removed with it \
        [default: the directory for temporary files]")),
    mut_arg("database_url", |url| url.help("A Postgres on this machine for the attack readyz, which then lies 10 ms away; \
        it gets the tables of a server, and product 4000000007 is written, over whatever it is")),
)]
pub(crate) struct NoisyNeighbourArgs {
    /// The server that is started for each attack, and ended with it [default: rowcast beside this binary]
    #[arg(long, env = "ROWCAST_LOAD_SERVER", value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,

    /// Attacks, separated by commas [default: all]
    #[arg(long, env = "ROWCAST_LOAD_ATTACK", value_name = "NAME", value_delimiter = ',')]
    pub(crate) attack: Vec<AttackName>,

    /// Cores of the server [default: as each attack wants it]
    #[arg(long, env = "ROWCAST_LOAD_CORES", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) cores: Option<u16>,

    /// Readers of one product, whose latencies are taken
    #[arg(long, env = "ROWCAST_LOAD_READERS", value_name = "N", default_value = "50")]
    pub(crate) readers: usize,

    /// Changes of it per second
    #[arg(long, env = "ROWCAST_LOAD_RATE", value_name = "R", default_value = "50")]
    pub(crate) rate: f64,

    /// Rounds without and with each attack, in turn; the medians of them are told
    #[arg(long, env = "ROWCAST_LOAD_ROUNDS", value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Seconds of a round
    #[arg(long, env = "ROWCAST_LOAD_SECONDS", value_name = "SECONDS", default_value = "2.5")]
    pub(crate) seconds: f64,

    /// Seconds after the last round, before the server's memory is read once more
    #[arg(long, env = "ROWCAST_LOAD_SETTLE", value_name = "SECONDS", default_value = "5")]
    pub(crate) settle: f64,

    /// Resident memory, in MiB, at which a server is ended before the machine has none left
    #[arg(long, env = "ROWCAST_LOAD_MEMORY_MAX_MIB", value_name = "MIB", default_value = "6144",
          value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    pub(crate) memory_max_mib: u64,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) own: OwnServerArgs,
}

impl NoisyNeighbourArgs {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=1000).contains(&self.readers), "--readers is from 1 to 1000");
        ensure!((1.0..=1000.0).contains(&self.rate), "--rate is from 1 to 1000 changes per second");
        ensure!((0.1..=600.0).contains(&self.seconds), "--seconds is from 0.1 to 600");
        ensure!((0.0..=600.0).contains(&self.settle), "--settle is from 0 to 600 seconds");
        ensure!(
            self.own.is_harmless(),
            "this writes a product to the database of --database-url, and the tables of a server where there are none. \
             If nobody needs what is there, give --overwrite-products; nothing was written"
        );
        Ok(())
    }
}

/// The arguments of `floor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloorArgs {
    /// Address and port to listen on, on this machine
    #[arg(long, env = "ROWCAST_LOAD_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9100")]
    pub(crate) listen: String,

    /// Changes that are sent together, as one write to each socket
    #[arg(long, env = "ROWCAST_LOAD_BATCH", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) batch: u32,
}

/// Returns the number of connections that publish so many changes per second, so many at once, unless another is given.
fn publishers_for(rate: f64, batch: u32) -> u32 {
    ((rate / f64::from(batch) / 50.0).ceil() as u32).clamp(1, 64)
}

impl FanoutArgs {
    /// Returns the number of connections that publish.
    pub(crate) fn publishers(&self) -> u32 {
        let most = if self.publisher == PublisherKind::Notify { self.readers.products } else { u32::MAX };
        self.publishers.unwrap_or_else(|| self.rate.map_or(64, |rate| publishers_for(rate, self.batch)).min(most))
    }

    /// Returns the table whose rows are written.
    pub(crate) fn table(&self) -> anyhow::Result<Table> {
        Table::new(self.table.as_deref(), self.keys, self.columns)
    }

    /// Returns the number of slow readers.
    pub(crate) fn slow(&self) -> usize {
        let by_percent = |percent: f64| (self.readers.connections as f64 * percent / 100.0).round() as usize;
        self.slow.unwrap_or_else(|| self.slow_percent.map_or(0, by_percent)).min(self.readers.connections)
    }

    /// Returns true if there is something to lose: the other servers keep no products.
    fn writes_products(&self) -> bool {
        self.target.peer == Peer::Rowcast || self.publisher != PublisherKind::Rest
    }

    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.rate.is_none_or(|rate| rate > 0.0),
            "--rate is above 0; leave it out to go as fast as answers come"
        );
        ensure!((0.1..=3600.0).contains(&self.duration), "--duration is from 0.1 to 3600 seconds");
        ensure!((0.0..=600.0).contains(&self.warm_up), "--warm-up is from 0 to 600 seconds");
        ensure!((0.0..=10_000.0).contains(&self.churn), "--churn is from 0 to 10000 connections per second");
        ensure!(
            self.overwrite_products || !self.writes_products(),
            "this writes {} 1 to {} of the server, over whatever they are. If nobody needs them, give \
             --overwrite-products; nothing was written",
            self.table.as_deref().map_or("products".to_owned(), |table| format!("the rows of {table}")),
            self.readers.products
        );
        let is_rest = self.target.peer == Peer::Rowcast && self.publisher == PublisherKind::Rest;
        ensure!(
            self.table.is_none() || is_rest,
            "--table is for a Rowcast that is written to over REST; leave --peer and --publisher out"
        );
        let longest = Message { product: self.readers.products, version: 999_999_999, due_ns: 0 };
        let is_long_enough = self.table()?.padding(&longest, self.payload_bytes as usize).is_some();
        ensure!(
            self.table.is_none() || is_long_enough,
            "--payload-bytes {}: the rows of {} columns are longer; give more",
            self.payload_bytes,
            self.columns
        );
        ensure!(
            self.publisher == PublisherKind::Rest || self.database_url.is_some(),
            "--publisher sql and notify need --database-url, the database of the server under test"
        );
        ensure!(
            self.batch == 1 || self.publisher != PublisherKind::Rest,
            "--batch goes with --publisher sql or notify: a request has one change"
        );
        ensure!(
            self.publisher != PublisherKind::Notify || self.publishers() <= self.readers.products,
            "--publisher notify makes the versions, and those of a product have to grow: each belongs to one publisher; \
             give no more --publishers than --products"
        );
        ensure!(
            !self.verify_state || (self.target.peer == Peer::Rowcast && self.publisher != PublisherKind::Notify),
            "--verify-state compares what readers know with the rows that a Rowcast stores; leave --peer out, and \
             --publisher notify, which writes none"
        );
        ensure!(
            !self.event_streams || self.target.peer == Peer::Rowcast,
            "--event-streams is for a Rowcast; leave --peer out"
        );
        ensure!(
            self.readers.http2.is_none() || (self.slow() == 0 && self.churn == 0.0),
            "--http2 goes without --slow, --slow-percent and --churn: its readers stay, and all of them read"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_option_has_a_variable_and_help() {
        for command in Cli::command().get_subcommands() {
            for option in command.get_arguments().filter(|option| option.get_id() != "help") {
                let name = option.get_id().as_str();
                let variable = option.get_env().unwrap_or_else(|| panic!("{name} has no variable"));
                assert_eq!(*variable, *format!("ROWCAST_LOAD_{}", name.to_uppercase()));
                assert!(option.get_help().is_some(), "{name} has no help");
            }
        }
        Cli::command().debug_assert();
    }

    #[test]
    fn products_are_overwritten_only_on_request() {
        let check = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["rowcast-load", "fanout"], args].concat()).unwrap();
            let Command::Fanout(args) = cli.command else { panic!("{cli:?}") };
            args.check().map_err(|error| error.to_string())
        };
        let sql = ["--publisher", "sql", "--database-url", "postgres://localhost"];
        for args in [&[][..], &["--peer", "rowcast", "--products", "9"], &sql, &[&sql[..], &["--peer", "bun"]].concat()]
        {
            assert!(check(args).unwrap_err().contains("--overwrite-products"), "{args:?}");
            assert_eq!(check(&[args, &["--overwrite-products"]].concat()), Ok(()), "{args:?}");
        }
        assert_eq!(check(&["--peer", "bun"]), Ok(()));
    }

    #[test]
    fn a_database_is_written_to_only_on_request() {
        let check = |args: &[&str]| {
            let checked = match Cli::try_parse_from([&["rowcast-load"], args].concat()).unwrap().command {
                Command::Notify(args) => args.check(),
                Command::NoisyNeighbour(args) => args.check(),
                other => panic!("{other:?}"),
            };
            checked.map_err(|error| error.to_string())
        };
        for command in ["notify", "noisy-neighbour"] {
            let args = [command, "--database-url", "postgres://localhost"];
            assert!(check(&args).unwrap_err().contains("--overwrite-products"), "{command}");
            assert_eq!(check(&[&args[..], &["--overwrite-products"]].concat()), Ok(()), "{command}");
        }
        assert_eq!(check(&["noisy-neighbour"]), Ok(()), "the servers that it starts have stores of their own");
    }

    #[test]
    fn publishers_and_slow_readers_follow_from_what_is_given() {
        let fanout =
            |args: &[&str]| match Cli::try_parse_from([&["rowcast-load", "fanout"], args].concat()).unwrap().command {
                Command::Fanout(args) => args,
                other => panic!("{other:?}"),
            };
        assert_eq!(fanout(&[]).publishers(), 64);
        assert_eq!(fanout(&["--rate", "50"]).publishers(), 1);
        assert_eq!(fanout(&["--rate", "3000"]).publishers(), 60);
        assert_eq!(fanout(&["--rate", "3000", "--publishers", "3"]).publishers(), 3);
        assert_eq!(fanout(&["--slow-percent", "5"]).slow(), 50);
        let fanout = |args: &[&str]| fanout(&[args, &["--overwrite-products"]].concat());
        assert!(fanout(&["--publisher", "sql"]).check().is_err());
        let notify = ["--publisher", "notify", "--database-url", "postgres://localhost", "--batch", "100"];
        assert!(fanout(&notify).check().is_ok());
        let several = |more: &[&str]| fanout(&[&notify[..], more].concat());
        assert!(several(&["--rate", "50", "--products", "1"]).check().is_ok());
        assert_eq!(several(&["--products", "20"]).publishers(), 20, "each product is of one publisher");
        assert!(several(&["--products", "3", "--publishers", "4"]).check().is_err());
        let sql = ["--publisher", "sql", "--database-url", "postgres://localhost", "--batch", "100", "--rate", "50"];
        assert!(fanout(&sql).check().is_ok());
        assert!(fanout(&["--batch", "100"]).check().is_err());
        assert!(fanout(&["--verify-state"]).check().is_ok());
        assert!(fanout(&["--verify-state", "--peer", "bun"]).check().is_err());
        assert!(fanout(&[&notify[..], &["--verify-state"]].concat()).check().is_err());
        let table = ["--table", "orders", "--keys", "text", "--columns", "12", "--payload-bytes", "300"];
        assert!(fanout(&table).check().is_ok());
        assert!(fanout(&[&table[..], &["--verify-state"]].concat()).check().is_ok());
        assert!(fanout(&[&table[..], &["--peer", "bun"]].concat()).check().is_err());
        assert!(
            fanout(&["--table", "orders", "--columns", "40"])
                .check()
                .unwrap_err()
                .to_string()
                .contains("--payload-bytes")
        );
        assert!(fanout(&["--table", "a/b"]).check().is_err());
        assert!(fanout(&["--http2", "100"]).check().is_ok());
        assert!(fanout(&["--http2", "100", "--slow", "1"]).check().is_err());
        assert!(fanout(&["--http2", "100", "--churn", "1"]).check().is_err());
    }
}
