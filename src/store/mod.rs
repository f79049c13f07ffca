//! The place where rows are read and written: [`Store`], embedded or Postgres.
//!
//! A write is done in one transaction, and only if its [`Precondition`] holds of the row then. A store acknowledges it
//! after it is durable, with the version that the change got. The change itself reaches subscribers as an event of the
//! source ([`SourceEvent`](crate::model::event::SourceEvent)), never from here.

pub mod embedded;
pub mod postgres;
mod precondition;
mod read;
mod rows;

use tokio::runtime::Handle;

use self::embedded::EmbeddedStore;
use self::postgres::PostgresStore;
pub use self::precondition::{Precondition, Versions};
pub use self::read::{Found, Keys, READ_BYTES_MAX, READ_IDS_MAX, Read};
pub use self::rows::{Page, RowId, Versioned, Written};
use crate::model::epoch::Epoch;
use crate::model::key::{Key, KeyKind};
use crate::model::row::Row;
use crate::model::table::{Table, TableId};
use crate::model::topic::Subject;

/// The outcome of [`Store::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was no such row; there is now.
    Inserted,
    /// The row was replaced whole.
    Replaced,
}

/// The subject of a store's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another row stands in the way; the same write may be done once that row is another.
    Conflict,
    /// The store has a rule that this row breaks.
    Invalid,
    /// The store cannot hold these characters.
    Unrepresentable,
    /// This server itself may not do it.
    Denied,
}

/// The reason for which a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An insert of a key that is taken.
    #[error("{0} exists")]
    Exists(RowId),
    /// No row has this key.
    #[error("{0} does not exist")]
    NotFound(RowId),
    /// The row is not as the precondition demands; nothing was written.
    #[error("{0} is not as the precondition demands")]
    PreconditionFailed(RowId),
    /// No table has this name.
    #[error("table {0:?} does not exist")]
    NoTable(Box<str>),
    /// No table can have this name.
    #[error("a table cannot be named {0:?}")]
    BadTableName(Box<str>),
    /// The write would make one table more than there may be.
    #[error("there are {0} tables already")]
    TooManyTables(usize),
    /// The row would have more bytes than this with the patch.
    #[error("a row has at most {0} bytes")]
    TooLong(usize),
    /// A rule of the store forbids it, and asking again will not help.
    #[error("the store refuses it: {reason}")]
    Refused {
        /// The subject of the refusal.
        refusal: Refusal,
        /// The store's reason, as whoever asked may know it: names no host, no statement, and nothing of other rows.
        reason: String,
    },
    /// The table was changed by its owner, and is read and written again once that was looked at.
    /// The text is for the log; it may name hosts.
    #[error("a table is not live: {0}")]
    Changed(String),
    /// The store is not as this program expects it, and asking again will not help.
    /// The text is for the log; it may name hosts.
    #[error("the store is not as expected: {0}")]
    Fault(String),
    /// The store itself is not there now (the database is down, the disk is full, all connections are taken).
    /// The text is for the log; it may name hosts.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// The place where rows are read and written. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file of this process.
    Embedded(EmbeddedStore),
    /// In a database, whose connections live on this runtime, the control core's, whichever core asks.
    Postgres(PostgresStore, Handle),
}

/// Has the control core do something with the database. It is done to its end even if whoever asked has left.
async fn on_control<T: Send + 'static>(
    control: &Handle,
    task: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    control.spawn(task).await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

impl Store {
    /// Returns the keys of a table that a first write would make under this name.
    ///
    /// # Errors
    /// [`StoreError::NoTable`] where writes make no tables, and [`StoreError::BadTableName`].
    pub fn keys_of_new_table(&self, name: &str) -> Result<KeyKind, StoreError> {
        match self {
            Self::Embedded(_) => embedded::keys_of_new_table(name),
            Self::Postgres(..) => Err(StoreError::NoTable(name.into())),
        }
    }

    /// Returns up to `limit` rows of a table, ordered by key, from the first above `after`: as many as have `bytes_max`
    /// bytes together, but at least one. They are as they were at one moment.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(
        &self,
        table: &Table,
        after: Option<Key>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, StoreError> {
        match self {
            Self::Embedded(store) => store.list(table.id, after, limit, bytes_max).await,
            Self::Postgres(store, control) => {
                let (store, name) = (store.clone(), table.name.clone());
                on_control(control, async move { store.list(&name, after, limit, bytes_max).await }).await
            }
        }
    }

    /// Returns one row.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, id: RowId) -> Result<Versioned, StoreError> {
        match self {
            Self::Embedded(store) => store.get(id).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.get(id).await }).await
            }
        }
    }

    /// Adds a row to the table with this name; the row as it is then. Without a key it has the one that the table's
    /// schema finds in it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn insert(
        &self,
        table: &str,
        key: Option<Key>,
        row: Row,
        condition: Precondition,
    ) -> Result<Written, StoreError> {
        match self {
            Self::Embedded(store) => {
                let key = key.expect("a table without a schema finds no key in a row");
                store.insert(RowId::new(table, key), row, condition).await.map(Written::from)
            }
            Self::Postgres(store, control) => {
                let (store, table) = (store.clone(), Box::<str>::from(table));
                on_control(control, async move { store.insert(&table, key, row, condition).await }).await
            }
        }
    }

    /// Replaces a row whole, or adds it; which of them, and the row as it is then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put(&self, id: RowId, row: Row, condition: Precondition) -> Result<(Put, Written), StoreError> {
        match self {
            Self::Embedded(store) => store.put(id, row, condition).await.map(|(put, row)| (put, row.into())),
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.put(id, row, condition).await }).await
            }
        }
    }

    /// Changes a part of a row, as a merge patch (RFC 7396) says; the whole as it is then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn patch(&self, id: RowId, patch: Row, condition: Precondition) -> Result<Written, StoreError> {
        match self {
            Self::Embedded(store) => store.patch(id, patch, condition).await.map(Written::from),
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.patch(id, patch, condition).await }).await
            }
        }
    }

    /// Removes a row; the version of the change, or 0 where that is not known, since a trigger put the row back.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        match self {
            Self::Embedded(store) => store.delete(id, condition).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.delete(id, condition).await }).await
            }
        }
    }

    /// Reads these rows, at most [`READ_IDS_MAX`] of them, as they are at one moment, and puts the mark with this
    /// number into the source's stream: all that the read saw has been told before it, and what is told after it may be
    /// newer.
    ///
    /// # Errors
    /// See [`StoreError`]; a mark that comes all the same means nothing.
    pub async fn load(&self, rows: Vec<Subject>, barrier: u64) -> Result<Read, StoreError> {
        match self {
            Self::Embedded(store) => store.load(rows, barrier).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.load(&rows, barrier).await }).await
            }
        }
    }

    /// Reads the keys and versions of the rows of a table that follow `after`, or of the first, at most [`READ_IDS_MAX`]
    /// of them, and puts the mark with this number into the source's stream as [`Store::load`] does.
    ///
    /// # Errors
    /// See [`StoreError`]; a mark that comes all the same means nothing.
    pub async fn keys(&self, table: TableId, after: Option<Key>, barrier: u64) -> Result<Keys, StoreError> {
        match self {
            Self::Embedded(store) => store.keys(table, after, barrier).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.keys(table, after, barrier).await }).await
            }
        }
    }

    /// Begins a new history of versions, unless another one than `expected` stands; the source tells it. For rows that
    /// are older than what was told of them.
    ///
    /// # Errors
    /// See [`StoreError`]. The embedded store, whose rows nobody else writes, always has a [`StoreError::Fault`].
    pub async fn renew_epoch(&self, expected: Epoch) -> Result<Epoch, StoreError> {
        match self {
            Self::Embedded(_) => {
                Err(StoreError::Fault("a row of the data file is older than what was told of it".into()))
            }
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.renew_epoch(expected, 0).await }).await
            }
        }
    }

    /// Has the source begin a new epoch of a table, a row of which is older than what was told of it; answers false where
    /// only one of all can begin.
    #[must_use]
    pub fn table_regressed(&self, table: TableId) -> bool {
        match self {
            Self::Postgres(store, _) if table != TableId::PRODUCTS => {
                store.table_regressed(table);
                true
            }
            Self::Embedded(_) | Self::Postgres(..) => false,
        }
    }

    /// Has the source look before its time whether the tables are as they were: for reads that fail.
    pub fn look_again(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::Postgres(store, _) => store.look_at_tables_at_once(),
        }
    }

    /// Has the source say that changes may have been missed, where it can lose its way: of a table whose rows cannot be read
    /// while it seems to be well. It says so of that table alone, if it is not of products, until they can be read.
    pub fn table_unreadable(&self, table: TableId) {
        match self {
            Self::Embedded(_) => {}
            Self::Postgres(store, _) if table == TableId::PRODUCTS => store.listen_anew(),
            Self::Postgres(store, _) => store.table_unreadable(table),
        }
    }

    /// Checks that the store can be used now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.check().await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.check().await }).await
            }
        }
    }
}
