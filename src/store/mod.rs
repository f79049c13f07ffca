//! The place where products are read and written: [`Store`], embedded or Postgres.
//!
//! A write is done in one transaction, and only if its [`Precondition`] holds of the row then. A store acknowledges it
//! after it is durable, with the version that the change got. The change itself reaches subscribers as an event of the
//! source ([`SourceEvent`](crate::model::event::SourceEvent)), never from here.

pub mod embedded;
pub mod postgres;
mod precondition;
mod read;

use tokio::runtime::Handle;

use self::embedded::EmbeddedStore;
use self::postgres::PostgresStore;
pub use self::precondition::{Precondition, Versions};
pub use self::read::{Found, Keys, READ_BYTES_MAX, READ_IDS_MAX, Read};
use crate::model::epoch::Epoch;
use crate::model::key::Key;
use crate::model::product::{Product, ProductId, ProductPatch};
use crate::model::table::TableId;
use crate::model::topic::Subject;

/// A product with the version of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The row.
    pub product: Product,
    /// The version that its last change got.
    pub version: u64,
}

/// Rows of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their ids.
    pub products: Vec<Versioned>,
    /// True if the store has products after the last of them.
    pub more: bool,
}

/// The outcome of [`Store::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was no such product; there is now.
    Inserted,
    /// The product was replaced whole.
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
    /// An insert of an id that is taken.
    #[error("product {0} exists")]
    Exists(ProductId),
    /// No product has this id.
    #[error("product {0} does not exist")]
    NotFound(ProductId),
    /// The row is not as the precondition demands; nothing was written.
    #[error("product {0} is not as the precondition demands")]
    PreconditionFailed(ProductId),
    /// A rule of the store forbids it, and asking again will not help.
    #[error("the store refuses it: {reason}")]
    Refused {
        /// The subject of the refusal.
        refusal: Refusal,
        /// The store's reason, as whoever asked may know it: names no host, no statement, and nothing of other rows.
        reason: String,
    },
    /// The store is not as this program expects it, and asking again will not help.
    /// The text is for the log; it may name hosts.
    #[error("the store is not as expected: {0}")]
    Fault(String),
    /// The store itself is not there now (the database is down, the disk is full, all connections are taken).
    /// The text is for the log; it may name hosts.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// The place where products are read and written. Cheap to clone.
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
    /// Returns up to `limit` products, ordered by id, from the first above `after`: as many as have `bytes_max` bytes
    /// of text together, but at least one. They are as they were at one moment.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(&self, after: Option<ProductId>, limit: usize, bytes_max: usize) -> Result<Page, StoreError> {
        match self {
            Self::Embedded(store) => store.list(after, limit, bytes_max).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.list(after, limit, bytes_max).await }).await
            }
        }
    }

    /// Returns one product.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, id: ProductId) -> Result<Versioned, StoreError> {
        match self {
            Self::Embedded(store) => store.get(id).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.get(id).await }).await
            }
        }
    }

    /// Adds a product; the version of the change.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn insert(&self, product: Product, condition: Precondition) -> Result<u64, StoreError> {
        match self {
            Self::Embedded(store) => store.insert(product, condition).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.insert(product, condition).await }).await
            }
        }
    }

    /// Replaces a product whole, or adds it; which of them, and the version of the change.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put(&self, product: Product, condition: Precondition) -> Result<(Put, u64), StoreError> {
        match self {
            Self::Embedded(store) => store.put(product, condition).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.put(product, condition).await }).await
            }
        }
    }

    /// Changes a part of a product; the whole as it is then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn patch(
        &self,
        id: ProductId,
        patch: ProductPatch,
        condition: Precondition,
    ) -> Result<Versioned, StoreError> {
        match self {
            Self::Embedded(store) => store.patch(id, patch, condition).await,
            Self::Postgres(store, control) => {
                let store = store.clone();
                on_control(control, async move { store.patch(id, patch, condition).await }).await
            }
        }
    }

    /// Removes a product; the version of the change.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete(&self, id: ProductId, condition: Precondition) -> Result<u64, StoreError> {
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

    /// Reads the keys and versions of the rows of a table that follow `after`, or of the first, at most [`READ_IDS_MAX`] of them, and
    /// puts the mark with this number into the source's stream as [`Store::load`] does.
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

    /// Has the source begin anew, with a gap, where it can lose its way: for loads that fail while it seems to be well.
    pub fn source_anew(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::Postgres(store, _) => store.listen_anew(),
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
