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
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::cli::{CertArgs, Cli, Command, LogFormat, MigrateArgs};
pub use self::error::ConfigError;
pub use self::serve::ServeArgs;
use crate::auth::Keys;
use crate::connection::ConnectionLimits;
use crate::http::HttpLimits;
use crate::http::origin::AllowedOrigins;
use crate::store::postgres::config::PostgresConfig;
use crate::transport::admission::AdmissionLimits;
use crate::transport::tls::TlsFiles;

/// What is to be done, checked.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Task {
    /// Serve.
    Serve(Config),
    /// Migrate this database.
    Migrate(Box<PostgresConfig>),
    /// Make a certificate for development.
    Certify(CertConfig),
}

/// Which certificate to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertConfig {
    /// For whom.
    pub hosts: Vec<String>,
    /// Where to.
    pub dir: PathBuf,
    /// Whether files that are there give way.
    pub force: bool,
}

/// What the server is given.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether it speaks TLS there, and how.
    pub tls: Option<TlsConfig>,
    /// Where products are.
    pub store: StoreConfig,
    /// How many cores.
    pub cores: u16,
    /// How many shards.
    pub shards: usize,
    /// How long a core without time to spare lets changes gather at most.
    pub gather_max: Duration,
    /// Over how long the WebSockets are closed when it stops.
    pub drain: Duration,
    /// How many may come in.
    pub admission: AdmissionLimits,
    /// What bounds each HTTP connection.
    pub http: HttpLimits,
    /// What bounds each WebSocket.
    pub limits: ConnectionLimits,
    /// What tokens are checked with; without keys everybody may do everything.
    pub keys: Option<Arc<Keys>>,
    /// Whose pages may use the server.
    pub allowed_origins: Arc<AllowedOrigins>,
}

/// How to speak TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate and its key.
    pub files: TlsFiles,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Where to listen without TLS, only to send everybody on to https.
    pub redirect_listen: Option<SocketAddr>,
}

/// Which store.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// The embedded one in this directory.
    Embedded(PathBuf),
    /// This database.
    Postgres(Box<PostgresConfig>),
}

#[cfg(test)]
mod tests;
