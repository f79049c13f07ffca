//! Errors in the options: [`ConfigError`].

use std::net::SocketAddr;

use crate::auth::KeysError;
use crate::store::postgres::config;
use crate::store::postgres::tables::BadSpec;

/// An error in the configuration; its text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address cannot be read or found.
    #[error("--listen {0}: not an address and a port, such as 127.0.0.1:8080")]
    Listen(String),
    /// The address of the redirect cannot be read or found.
    #[error("--redirect-listen {0}: not an address and a port, such as 127.0.0.1:8081")]
    RedirectListen(String),
    /// Everybody on the network could read and write.
    #[error(
        "--listen {0} is reached from other machines, where anybody could read and write; give a --jwt-key that their tokens are signed with, add --allow-anonymous if anybody may, or listen on 127.0.0.1"
    )]
    Public(SocketAddr),
    /// The keys for tokens.
    #[error("--jwt-key {0}")]
    Keys(#[from] KeysError),
    /// Nobody would look at what the tokens must say.
    #[error("{0} says what tokens must say, and without --jwt-key there are none; give that too")]
    NoKeys(&'static str),
    /// Not what browsers send.
    #[error(
        "--allowed-origin {0}: not an origin, such as https://shop.example or http://localhost:5173, without a path; null and file:// are taken as well"
    )]
    Origin(String),
    /// Ids are sent in commands of a bounded size, and counted in 32 bits.
    #[error("--max-subscriptions {0} is above 4294967295")]
    Subscriptions(usize),
    /// The queue could not hold a usual change.
    #[error("--send-queue-bytes {0} is less than 4096, too little for a change")]
    QueueBytes(usize),
    /// The database's URL.
    #[error("--database-url (or DATABASE_URL): {0}")]
    Database(#[from] config::ConfigError),
    /// A task that is done to a database, without one.
    #[error("{0} needs --database-url, or DATABASE_URL in the environment")]
    NoDatabase(&'static str),
    /// A table's name that is none.
    #[error("--table {0}: {1}")]
    Table(String, BadSpec),
    /// A hidden column's name that is none.
    #[error("--hide {0}: {1}")]
    Hide(String, BadSpec),
    /// `unmigrate` without a table.
    #[error("unmigrate needs a --table")]
    NoTable,
    /// The options of `watch`.
    #[error("{0:#}")]
    Watch(anyhow::Error),
}
