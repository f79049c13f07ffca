//! The embedded store: one `redb` file in a directory that one process owns.
//!
//! Reads run beside each other on snapshots, on a few threads. Writes go to one thread, which commits all that wait
//! together. What it commits is the change, so it tells the source's events as well: its beginning first, since no
//! change is ever missed, and then each change.

mod data_file;
mod guard;
mod load;
mod lock;
mod readers;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::ReadableDatabase;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::data_file::{DataFile, PRODUCTS};
use self::lock::DirectoryLock;
use self::readers::Readers;
use self::writer::{Done, Request, Write};
use super::{Page, Precondition, Put, StoreError, Versioned};
use crate::model::event::SourceEvent;
use crate::model::product::{Product, ProductId, ProductPatch};
use crate::supervisor::Part;

/// The most writes that wait for the next commit; those that find no room wait for it.
const WRITES_WAITING_MAX: usize = 1024;
/// The time for which [`EmbeddedStore::check`] waits for a commit.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason for which a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("the data directory {}: {error}; give a directory that this user may write with --data-dir", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// Another process has it.
    #[error("the data directory {} is in use by {holder}; stop that, or choose another directory with --data-dir", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The holder: the process, and since when.
        holder: String,
    },
    /// The file is empty, which no file of a store ever is: its data is lost.
    #[error(
        "the data file {} is empty, so what it held is lost; restore it from a backup, or remove it to begin with no \
         products", file.display()
    )]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The file differs from the one that was written.
    #[error("the data file {} is damaged ({reason}); restore it from a backup", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The damage.
        reason: String,
    },
    /// The file is not one of this program's, or cannot be read.
    #[error("the data file {}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The error.
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
    readers: Readers,
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
    /// A sentence that names the obstacle.
    pub fn open(dir: &Path, feed: mpsc::Sender<SourceEvent>, part: Part) -> Result<(Self, EmbeddedWriter), OpenError> {
        let lock = DirectoryLock::take(dir)?;
        let file = DataFile::open(dir, &lock)?;
        Self::of(file, lock, feed, part).map_err(|error| OpenError::Directory { dir: dir.to_owned(), error })
    }

    /// Starts the threads over an open file.
    fn of(
        file: DataFile,
        lock: DirectoryLock,
        feed: mpsc::Sender<SourceEvent>,
        part: Part,
    ) -> io::Result<(Self, EmbeddedWriter)> {
        let file = Arc::new(file);
        let failed = Arc::new(AtomicBool::new(false));
        let (writes, requests) = mpsc::channel(WRITES_WAITING_MAX);
        let readers = Readers::spawn(&file)?;
        let thread = writer::spawn(file, Arc::clone(&failed), requests, feed, part)?;
        Ok((Self { readers, writes, failed }, EmbeddedWriter { thread, _lock: lock }))
    }

    /// Returns up to `limit` products, ordered by id, from the first above `after`: as many as have `bytes_max` bytes
    /// of text together, but at least one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&self, after: Option<ProductId>, limit: usize, bytes_max: usize) -> Result<Page, StoreError> {
        self.readers
            .read(move |database| {
                let table = database.begin_read()?.open_table(PRODUCTS)?;
                let first = after.map_or(0, |after| after.get() + 1);
                let (mut page, mut bytes) = (Page::default(), 0);
                for entry in table.range(first..)? {
                    let (key, row) = entry?;
                    let (_, manufacturer, price_per_unit, _, product_name) = row.value();
                    bytes += manufacturer.len() + price_per_unit.len() + product_name.len();
                    let is_first = page.products.is_empty() && limit > 0;
                    page.more = page.products.len() >= limit || (bytes > bytes_max && !is_first);
                    if page.more {
                        break;
                    }
                    page.products.push(versioned(key.value(), row.value()));
                }
                Ok(page)
            })
            .await
    }

    /// Returns one product.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and [`StoreError::Unavailable`].
    pub async fn get(&self, id: ProductId) -> Result<Versioned, StoreError> {
        self.readers
            .read(move |database| {
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

    /// Checks that the store can be written. After a commit has failed, tries another.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where that one fails too.
    pub async fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Relaxed) {
            let (done, tried) = oneshot::channel();
            let _ = timeout(PROBE_TIMEOUT, async {
                if self.writes.send(Request::Probe(done)).await.is_ok() {
                    let _ = tried.await;
                }
            })
            .await;
        }
        if self.failed.load(Ordering::Relaxed) || self.writes.is_closed() { Err(unwritable()) } else { Ok(()) }
    }

    /// Completes when the writing thread has ended, however it did. Before [`EmbeddedStore::stop`] it must not.
    pub async fn ended(&self) {
        self.writes.closed().await;
    }

    /// Ends the writing thread after it has committed the waiting writes, and with it the feed and the open file. Reads
    /// and writes that come later are refused.
    pub async fn stop(&self) {
        let _ = self.writes.send(Request::Stop).await;
    }

    async fn write(&self, write: Write, condition: Precondition) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writes.send(Request::Write(write, condition, answer)).await.map_err(|_| unwritable())?;
        answered.await.map_err(|_| unwritable())?
    }
}

fn unwritable() -> StoreError {
    StoreError::Unavailable("the data file cannot be written; see the log".into())
}

/// Returns the error to tell for an error of the file: damage is not mended by asking again.
fn told(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(_) => StoreError::Fault(format!("the data file is damaged: {error}")),
        _ => StoreError::Unavailable(format!("the data file: {error}")),
    }
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
