//! Tables of anybody in Postgres, beside the products.
//!
//! [`TableSpec`] is what the command line says of one. [`install`](install::install) finds it, checks that its rows can be
//! cast, and gives it what Rowcast needs of it: a column for the version and triggers that stamp and tell every change.
//! [`remove`](remove::remove) takes all of that away again. What is shared by all tables, and the form in which changes are
//! told, is in `migrations/0004_tables.sql`.
//!
//! A [`PostgresStore`](super::PostgresStore) reads and writes the rows of an [`InstalledTable`]
//! (`migrations/0005_table_rows.sql`), and tells by its [`Fingerprint`] whether all its changes were told.

mod error;
mod fingerprint;
mod form;
mod hidden;
mod inspection;
pub mod install;
pub mod prepare;
mod reads;
pub mod remove;
mod spec;
mod writes;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

pub use self::error::{TableError, Unfit};
pub use self::fingerprint::{Fingerprint, TableLook, TableNote, TableState};
pub(crate) use self::fingerprint::{looks, read_looks};
pub use self::hidden::HiddenColumns;
pub use self::reads::{FoundRow, TableKeys, TablePage, TableRead};
pub use self::spec::{BadSpec, HiddenColumn, TableSpec};
pub use self::writes::{RowError, RowWrite, WrittenRow};
use super::config::PostgresConfig;
use super::migrate::ADVISORY_LOCK;
use crate::model::key::{Key, KeyKind};

/// The column that Rowcast adds to a table.
pub const VERSION_COLUMN: &str = "rowcast_version";

/// A table that has what Rowcast needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledTable {
    /// The name as it was given.
    pub name: String,
    /// The column of its key, as it was given, if it was.
    pub given_key: Option<String>,
    /// Its number in `pg_class`, by which notifications name it.
    pub oid: u32,
    /// Its number in `rowcast_tables`, by which tombstones name it.
    pub id: i32,
    /// The name with its schema, quoted as SQL takes it.
    pub qualified: String,
    /// The column of the key.
    pub key: String,
    /// The keys that it has.
    pub kind: KeyKind,
    /// The columns that nobody is shown.
    pub hidden: HiddenColumns,
}

impl InstalledTable {
    /// Returns the key whose text is this, also one that is too long to be told, or to name a row.
    pub(crate) fn key_of_stored(&self, text: &str) -> Key {
        self.kind.of_text(text).unwrap_or_else(|_| Key::Text(text.into()))
    }
}

/// A connection on which tables are changed, while no other server changes any.
struct Session {
    client: Client,
    connection: JoinHandle<()>,
    /// The schema of Rowcast's own tables.
    schema: String,
    is_utf8: bool,
}

impl Session {
    /// Connects for the sake of a table.
    async fn open(config: &PostgresConfig, name: &str) -> Result<Self, TableError> {
        const ABOUT: &str = "SELECT nspname, current_setting('server_encoding') = 'UTF8' FROM pg_class \
             JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = 'rowcast_tables'::regclass";
        let failed = |source| TableError::Database { name: name.to_owned(), doing: "connect", source };
        let (client, connection) = config.connect().await.map_err(failed)?;
        // Ends when the client is dropped, which also gives the advisory lock back. An error of the connection is one of
        // the query that waits for it.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let settings = config.settings(Duration::ZERO)
            + "; SET standard_conforming_strings = on; SET client_min_messages = warning";
        client.batch_execute(&settings).await.map_err(failed)?;
        client.execute("SELECT pg_advisory_lock($1)", &[&ADVISORY_LOCK]).await.map_err(failed)?;
        let about = client.query_one(ABOUT, &[]).await.map_err(|source| match source.code() {
            Some(&SqlState::UNDEFINED_TABLE) => TableError::NotInstalled { name: name.to_owned() },
            _ => failed(source),
        })?;
        Ok(Self { client, connection, schema: about.get(0), is_utf8: about.get(1) })
    }

    /// Returns once the connection is closed.
    async fn close(self) {
        drop(self.client);
        let _ = self.connection.await;
    }
}
