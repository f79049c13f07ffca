//! The embedded store: one `redb` file in a directory that one process owns.
//!
//! Reads run beside each other on snapshots. Writes go to one thread, which commits all that wait
//! together. What it commits is the change, so it tells the source's events as well: a barrier first, since no change
//! is ever missed, and then each change.

mod lock;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use self::lock::DirectoryLock;
use self::writer::{Done, Request, Write};
use super::{Precondition, Put, StoreError, Versioned};
use crate::model::event::SourceEvent;
use crate::model::product::{Product, ProductId, ProductPatch};
use crate::supervisor::Part;

/// How many writes may wait for the next commit; those that find no room wait for it.
const WRITES_WAITING_MAX: usize = 1024;

/// Version, manufacturer, price per unit, units available, product name.
type Row = (u64, &'static str, &'static str, i64, &'static str);

const PRODUCTS: TableDefinition<'static, u64, Row> = TableDefinition::new("products");
/// Numbers about the store itself.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// In [`META`]: the version that was given last.
const VERSION: &str = "version";
/// In [`META`]: the layout of these tables.
const LAYOUT: &str = "layout";
const LAYOUT_OF_THIS_PROGRAM: u64 = 1;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("the data directory {}: {error}; give a directory that this user may write with --data-dir", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error("the data directory {} is in use by {holder}; stop that, or choose another directory with --data-dir", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who holds it: the process, and since when.
        holder: String,
    },
    /// The file is not one of this program's, or is damaged.
    #[error("the data file {}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: redb::Error,
    },
    /// A newer program wrote it.
    #[error("the data file {} was written by a newer Rowcast (layout {layout}); use that one", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its layout.
        layout: u64,
    },
}

/// A handle to the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    database: Arc<Database>,
    writes: mpsc::Sender<Request>,
    failed: Arc<AtomicBool>,
}

/// The thread that writes. It ends after [`EmbeddedStore::stop`], when all that waited is committed.
#[derive(Debug)]
pub struct EmbeddedWriter {
    thread: JoinHandle<()>,
    _lock: DirectoryLock,
}

impl EmbeddedWriter {
    /// Waits for the thread's end and lets the directory go.
    pub fn join(self) {
        // A panic in that thread has already been printed, and there is nothing left to save.
        let _ = self.thread.join();
    }
}

impl EmbeddedStore {
    /// Opens the store in `dir`, which is made if it does not exist, and feeds its changes to `feed`. Its
    /// thread is this part of the server.
    ///
    /// # Errors
    /// A sentence that says what is in the way.
    pub fn open(dir: &Path, feed: mpsc::Sender<SourceEvent>, part: Part) -> Result<(Self, EmbeddedWriter), OpenError> {
        let lock = DirectoryLock::take(dir)?;
        let file = dir.join("products.redb");
        let database = Database::builder()
            .set_repair_callback(|repair| {
                info!(percent = (repair.progress() * 100.0).round(), "repairing the data file after a hard stop");
            })
            .create(&file)
            .map_err(|error| OpenError::File { file: file.clone(), error: error.into() })?;
        match prepare(&database) {
            Ok(LAYOUT_OF_THIS_PROGRAM) => {}
            Ok(layout) => return Err(OpenError::Newer { file, layout }),
            Err(error) => return Err(OpenError::File { file, error }),
        }
        let database = Arc::new(database);
        let failed = Arc::new(AtomicBool::new(false));
        let (writes, requests) = mpsc::channel(WRITES_WAITING_MAX);
        let thread = writer::spawn(Arc::clone(&database), Arc::clone(&failed), requests, feed, part)
            .map_err(|error| OpenError::Directory { dir: dir.to_owned(), error })?;
        Ok((Self { database, writes, failed }, EmbeddedWriter { thread, _lock: lock }))
    }

    /// Up to `limit` products, ordered by id, from the first above `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&self, after: Option<ProductId>, limit: usize) -> Result<Vec<Versioned>, StoreError> {
        self.read(move |database| {
            let table = database.begin_read()?.open_table(PRODUCTS)?;
            let first = after.map_or(0, |after| after.get() + 1);
            let rows = table.range(first..)?.take(limit);
            rows.map(|row| row.map(|(key, row)| versioned(key.value(), row.value())).map_err(Into::into)).collect()
        })
        .await
    }

    /// One product.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and [`StoreError::Unavailable`].
    pub async fn get(&self, id: ProductId) -> Result<Versioned, StoreError> {
        self.read(move |database| {
            let table = database.begin_read()?.open_table(PRODUCTS)?;
            Ok(table.get(id.get())?.map(|row| versioned(id.get(), row.value())))
        })
        .await?
        .ok_or(StoreError::NotFound(id))
    }

    /// Adds a product; the version of the change.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::PreconditionFailed`] and [`StoreError::Unavailable`].
    pub async fn insert(&self, product: Product, condition: Precondition) -> Result<u64, StoreError> {
        self.write(Write::Insert(product), condition).await.map(|done| done.version)
    }

    /// Replaces a product whole, or adds it.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`] and [`StoreError::Unavailable`].
    pub async fn put(&self, product: Product, condition: Precondition) -> Result<(Put, u64), StoreError> {
        let done = self.write(Write::Put(product), condition).await?;
        Ok((if done.inserted { Put::Inserted } else { Put::Replaced }, done.version))
    }

    /// Changes a part of a product; the whole as it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::PreconditionFailed`] and [`StoreError::Unavailable`].
    pub async fn patch(
        &self,
        id: ProductId,
        patch: ProductPatch,
        condition: Precondition,
    ) -> Result<Versioned, StoreError> {
        let done = self.write(Write::Patch(id, patch), condition).await?;
        Ok(Versioned { product: done.product, version: done.version })
    }

    /// Removes a product; the version of the change.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::PreconditionFailed`] and [`StoreError::Unavailable`].
    pub async fn delete(&self, id: ProductId, condition: Precondition) -> Result<u64, StoreError> {
        self.write(Write::Delete(id), condition).await.map(|done| done.version)
    }

    /// Whether the store can be written.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] after a commit has failed.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Relaxed) || self.writes.is_closed() { Err(unwritable()) } else { Ok(()) }
    }

    /// Ends the writing thread after it has committed what waits, and with it the feed. Writes that come later are
    /// refused.
    pub async fn stop(&self) {
        let _ = self.writes.send(Request::Stop).await;
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        let result = tokio::task::spawn_blocking(move || read(&database)).await;
        let result = result.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        result.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    async fn write(&self, write: Write, condition: Precondition) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writes.send(Request::Write(write, condition, answer)).await.map_err(|_| unwritable())?;
        answered.await.map_err(|_| unwritable())?
    }
}

fn unwritable() -> StoreError {
    StoreError::Unavailable("the data file cannot be written; see the log, and start again when it can".into())
}

/// Makes the tables of a new file; the layout of the file.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let layout = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(LAYOUT)?.map(|layout| layout.value());
        if found.is_none() {
            meta.insert(LAYOUT, LAYOUT_OF_THIS_PROGRAM)?;
            meta.insert(VERSION, 0)?;
            transaction.open_table(PRODUCTS)?;
        }
        found.unwrap_or(LAYOUT_OF_THIS_PROGRAM)
    };
    transaction.commit()?;
    Ok(layout)
}

fn versioned(id: u64, row: (u64, &str, &str, i64, &str)) -> Versioned {
    let (version, manufacturer, price_per_unit, units_available, product_name) = row;
    let product = Product {
        product_id: ProductId::new(id).expect("only product ids are stored"),
        manufacturer: manufacturer.to_owned(),
        price_per_unit: price_per_unit.to_owned(),
        units_available,
        product_name: product_name.to_owned(),
    };
    Versioned { product, version }
}

#[cfg(test)]
mod tests;
