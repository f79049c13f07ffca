//! The command line and the environment: what a user writes ([`Cli`]), and what the server is given ([`Config`]) after
//! all of it was checked.
//!
//! Each group of options is a module with its arguments, under a heading of `--help`, and their way into the [`Config`].

mod access;
mod cli;
mod error;
mod limits;
mod serve;
mod store;
mod tables;
mod tls;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::cli::{CertArgs, Cli, Command, LogFormat, MigrateArgs, UnmigrateArgs};
pub use self::error::ConfigError;
pub use self::serve::ServeArgs;
pub use self::watch::WatchArgs;
use crate::auth::CurrentKeys;
use crate::http::HttpLimits;
use crate::http::origin::AllowedOrigins;
use crate::session::SessionLimits;
use crate::store::embedded::EmbeddedConfig;
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::tables::prepare::WantedTables;
use crate::transport::admission::AdmissionLimits;
use crate::transport::tls::TlsFiles;
use crate::watch::WatchConfig;

/// A task, checked.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Task {
    /// Serve.
    Serve(Config),
    /// Migrate a database, and install Rowcast on tables of it.
    Migrate(MigrateConfig),
    /// Take Rowcast off tables again.
    Unmigrate(MigrateConfig),
    /// Make a certificate for development.
    Certify(CertConfig),
    /// Watch the products of a server.
    Watch(WatchConfig),
}

/// The database, and tables of it.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// The database.
    pub database: Box<PostgresConfig>,
    /// The tables.
    pub tables: WantedTables,
}

/// The certificate to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertConfig {
    /// The names and addresses that it is for.
    pub hosts: Vec<String>,
    /// The directory to write to.
    pub dir: PathBuf,
    /// True if it replaces files that are there.
    pub force: bool,
}

/// The configuration of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// TLS on that address, if it is spoken.
    pub tls: Option<TlsConfig>,
    /// The store of the products.
    pub store: StoreConfig,
    /// The number of cores.
    pub cores: u16,
    /// The number of shards.
    pub shards: usize,
    /// The bytes of the last values that all shards remember together.
    pub last_values_bytes_max: usize,
    /// The most rows of a table that readers may subscribe to as a whole.
    pub wildcard_rows_max: usize,
    /// The longest time for which a core without time to spare lets changes gather.
    pub gather_max: Duration,
    /// The time over which the WebSockets are closed when it stops.
    pub drain: Duration,
    /// The bounds on sockets and handshakes.
    pub admission: AdmissionLimits,
    /// The bounds of each HTTP connection.
    pub http: HttpLimits,
    /// The bounds of each WebSocket.
    pub limits: SessionLimits,
    /// The keys of tokens; without them everybody may do everything.
    pub keys: Option<Arc<CurrentKeys>>,
    /// The origins whose pages may use the server.
    pub allowed_origins: Arc<AllowedOrigins>,
}

/// The configuration of TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate and its key.
    pub files: TlsFiles,
    /// The time that a handshake may take.
    pub handshake_timeout: Duration,
    /// The address to listen on without TLS, only to send everybody on to https.
    pub redirect_listen: Option<SocketAddr>,
}

/// The choice of a store.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// The embedded one, in its directory.
    Embedded(EmbeddedConfig),
    /// A database.
    Postgres(DatabaseConfig),
}

/// A database whose tables are served.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The database.
    pub database: Box<PostgresConfig>,
    /// The tables.
    pub tables: WantedTables,
    /// True if what is missing is made at the start.
    pub migrates: bool,
}

#[cfg(test)]
mod tests;
