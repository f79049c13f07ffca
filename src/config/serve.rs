//! The options of `serve`: the listening address, fan-out, slow readers, stopping, and the groups of the other modules.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU16, NonZeroUsize};
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;

use super::access::AccessArgs;
use super::cli::LogArgs;
use super::limits::LimitArgs;
use super::store::StoreArgs;
use super::tls::TlsArgs;
use super::{Config, ConfigError};
use crate::fanout::LAST_VALUES_BYTES_MAX;
use crate::model::product::Product;
use crate::session::queue::{SendQueueLimits, SlowConsumerPolicy};

/// The options of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    listening: ListenArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    fan_out: FanOutArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    stopping: StopArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The listening address.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Listening")]
struct ListenArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "ROWCAST_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Listen on an address that other machines reach although there is no --jwt-key, so that anybody there may read and
    /// write
    #[arg(long, env = "ROWCAST_ALLOW_ANONYMOUS")]
    allow_anonymous: bool,
}

/// Fan-out.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Fan-out")]
struct FanOutArgs {
    /// Threads that hold the connections and fan out [default: one per processor]
    #[arg(long, env = "ROWCAST_CORES", value_name = "N")]
    cores: Option<NonZeroU16>,

    /// Slices of the products, each owned by one core [default: one per core]
    #[arg(long, env = "ROWCAST_SHARDS", value_name = "N")]
    shards: Option<NonZeroUsize>,

    /// Milliseconds that a core without time to spare lets changes gather at most, to deliver more of them with each write.
    /// Raises what an overloaded server delivers, and how late. 0 delivers at once whatever the load
    #[arg(long, env = "ROWCAST_GATHER_MS", value_name = "MS", default_value = "50")]
    gather_ms: u16,

    /// Bytes of last values that all shards remember together: of each product that a reader asked for the newest change or
    /// row, so that the next one is answered without the store. Above it, what is used least is forgotten and read again when
    /// it is asked for
    #[arg(long, env = "ROWCAST_LAST_VALUES_BYTES", value_name = "BYTES", default_value_t = LAST_VALUES_BYTES_MAX)]
    last_values_bytes: usize,

    /// The most rows that the store may have for a reader to subscribe to "*", which is all of them: their ids and versions
    /// are kept in memory meanwhile, about 90 bytes each. While the table has grown above it, whoever is subscribed stays,
    /// and further readers are refused
    #[arg(long, env = "ROWCAST_WILDCARD_ROWS", value_name = "N", default_value = "2000000")]
    wildcard_rows: usize,
}

/// The queue of a reader that is behind.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Slow readers")]
struct QueueArgs {
    /// What gives way when a reader is too slow
    #[arg(long, env = "ROWCAST_SLOW_CONSUMER", value_name = "POLICY", default_value = "conflate")]
    slow_consumer: SlowConsumerPolicy,

    /// Changes that may wait for one socket
    #[arg(long, env = "ROWCAST_SEND_QUEUE_FRAMES", value_name = "N", default_value = "1024")]
    send_queue_frames: NonZeroUsize,

    /// Bytes of changes that may wait for one socket
    #[arg(long, env = "ROWCAST_SEND_QUEUE_BYTES", value_name = "BYTES", default_value = "1048576")]
    send_queue_bytes: NonZeroUsize,
}

/// The stop of the server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Stopping")]
struct StopArgs {
    /// Seconds over which a server that stops closes its WebSockets; 0 closes all at once
    #[arg(long, env = "ROWCAST_DRAIN_SECONDS", value_name = "SECONDS", default_value = "10")]
    drain_seconds: u16,
}

impl ServeArgs {
    pub(super) fn into_config(self, database_url: Option<String>) -> Result<Config, ConfigError> {
        let cores = self.fan_out.cores.map_or_else(processors, NonZeroU16::get);
        let keys = self.access.keys()?;
        let http = self.limits.http();
        Ok(Config {
            listen: self.listening.address(keys.is_some())?,
            tls: self.tls.into_config()?,
            store: self.store.into_config(database_url, http.body_bytes_max)?,
            cores,
            shards: self.fan_out.shards.map_or(usize::from(cores), NonZeroUsize::get),
            last_values_bytes_max: self.fan_out.last_values_bytes,
            wildcard_rows_max: self.fan_out.wildcard_rows,
            gather_max: Duration::from_millis(self.fan_out.gather_ms.into()),
            drain: Duration::from_secs(self.stopping.drain_seconds.into()),
            admission: self.limits.admission(),
            http,
            limits: self.limits.connection(self.queue.limits()?)?,
            keys,
            allowed_origins: self.access.origins()?.into(),
        })
    }
}

impl ListenArgs {
    fn address(&self, has_keys: bool) -> Result<SocketAddr, ConfigError> {
        let address = socket_address(&self.listen).ok_or_else(|| ConfigError::Listen(self.listen.clone()))?;
        if has_keys || self.allow_anonymous || address.ip().to_canonical().is_loopback() {
            Ok(address)
        } else {
            Err(ConfigError::Public(address))
        }
    }
}

impl QueueArgs {
    fn limits(&self) -> Result<SendQueueLimits, ConfigError> {
        let bytes_max = self.send_queue_bytes.get();
        if bytes_max < 4096 {
            return Err(ConfigError::QueueBytes(bytes_max));
        }
        Ok(SendQueueLimits { frames_max: self.send_queue_frames.get(), bytes_max, policy: self.slow_consumer })
    }
}

fn processors() -> u16 {
    available_parallelism().map_or(1, |processors| u16::try_from(processors.get()).unwrap_or(u16::MAX))
}

/// The first address that a text such as `localhost:8080` stands for.
pub(super) fn socket_address(text: &str) -> Option<SocketAddr> {
    text.to_socket_addrs().ok()?.next()
}

const _: () = assert!(
    Product::JSON_BYTES_MAX <= 1024 * 1024,
    "the default of --send-queue-bytes holds the largest product's change"
);
