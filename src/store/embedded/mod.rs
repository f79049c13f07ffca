//! The embedded store: one `redb` file in a directory that one process owns.
//!
//! A table is made by its first row, or where the server is started with its name. Its place in the file is its place in
//! the server's list of [`Tables`], to which nobody else adds one.
//!
//! Reads run beside each other on snapshots, on a few threads. Writes go to one thread, which commits all that wait
//! together. What it commits is the change, so it tells the source's events as well: its beginning first, since no
//! change is ever missed, and then each change.

mod data_file;
mod guard;
mod keys;
mod layout_1;
mod load;
mod lock;
mod names;
mod readers;
mod writer;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::ReadableDatabase;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};

use self::data_file::{DataFile, ROWS};
use self::lock::DirectoryLock;
use self::readers::Readers;
use self::writer::{Bounds, Done, Request, Work, Write};
use super::{Page, Precondition, Put, RowId, StoreError, Versioned};
use crate::model::event::SourceEvent;
use crate::model::key::{Key, KeyKind};
use crate::model::row::Row;
use crate::model::table::{TableId, Tables};
use crate::supervisor::Part;

/// The most writes that wait for the next commit; those that find no room wait for it.
const WRITES_WAITING_MAX: usize = 1024;
/// The time for which [`EmbeddedStore::check`] waits for a commit.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which the place of the data file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The place of a store, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// The directory.
    pub dir: PathBuf,
    /// The names of tables that are made at the start, where they are not there yet.
    pub tables: Vec<String>,
    /// The most tables that a first row may make the last of; those that are there stay.
    pub tables_max: u16,
    /// The most bytes of a row.
    pub row_bytes_max: usize,
}

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
    /// No table can have this name.
    #[error("no table can be named {0:?}: a name is a letter or _, and at most 62 letters, digits, _ and . after it")]
    TableName(String),
    /// The file has no place for a table with this name.
    #[error("there is no room for the table {name}: at most {max} are made; raise --max-tables")]
    TooManyTables {
        /// The name.
        name: String,
        /// The number of tables that may be made.
        max: u16,
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
    tables: Tables,
    readers: Readers,
    writes: mpsc::Sender<Request>,
    file: Arc<DataFile>,
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
    /// Opens the store in its directory, which is made if it does not exist, adds its tables to `tables`, which has that
    /// of products alone, and feeds its changes to `feed`. Its thread is this part of the server.
    ///
    /// # Errors
    /// A sentence that names the obstacle.
    pub fn open(
        config: &EmbeddedConfig,
        tables: &Tables,
        feed: mpsc::Sender<SourceEvent>,
        part: Part,
    ) -> Result<(Self, EmbeddedWriter), OpenError> {
        let dir = &config.dir;
        let lock = DirectoryLock::take(dir)?;
        let file = DataFile::open(dir, &lock)?;
        file.make_tables(config)?;
        Self::of(file, lock, config, tables, feed, part)
            .map_err(|error| OpenError::Directory { dir: dir.clone(), error })
    }

    /// Adds the tables of an open file, and starts the threads over it.
    fn of(
        file: DataFile,
        lock: DirectoryLock,
        config: &EmbeddedConfig,
        tables: &Tables,
        feed: mpsc::Sender<SourceEvent>,
        part: Part,
    ) -> io::Result<(Self, EmbeddedWriter)> {
        // Products have the first place.
        for (place, name) in (1..).zip(file.tables().map_err(io::Error::other)?) {
            let table = tables.add(&name, KeyKind::Any).map_err(io::Error::other)?;
            assert_eq!(table.id.get(), place, "a table has the same place in the file and in the list");
        }
        let file = Arc::new(file);
        let failed = Arc::new(AtomicBool::new(false));
        let (writes, requests) = mpsc::channel(WRITES_WAITING_MAX);
        let readers = Readers::spawn(&file)?;
        let bounds = Bounds { tables_max: config.tables_max, row_bytes_max: config.row_bytes_max };
        let work = Work {
            file: Arc::clone(&file),
            tables: tables.clone(),
            bounds,
            failed: Arc::clone(&failed),
            feed,
            is_told_whole: Cell::new(false),
        };
        let thread = writer::spawn(work, requests, part)?;
        Ok((Self { tables: tables.clone(), readers, writes, file, failed }, EmbeddedWriter { thread, _lock: lock }))
    }

    /// Returns up to `limit` rows of a table, ordered by key, from the first above `after`: as many as have `bytes_max`
    /// bytes together, but at least one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(
        &self,
        table: TableId,
        after: Option<Key>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, StoreError> {
        self.readers
            .read(move |database| {
                let rows = database.begin_read()?.open_table(ROWS)?;
                let (mut page, mut bytes) = (Page::default(), 0);
                for entry in keys::range(&rows, table, after.as_ref())? {
                    let (key, row) = entry?;
                    bytes += row.value().1.len();
                    let is_first = page.rows.is_empty() && limit > 0;
                    if page.rows.len() >= limit || (bytes > bytes_max && !is_first) {
                        page.next = page.rows.last().map(|row: &Versioned| row.key.clone());
                        break;
                    }
                    let key = keys::decode(key.value()).ok_or_else(damaged)?;
                    page.rows.push(versioned(key, row.value())?);
                }
                Ok(page)
            })
            .await
    }

    /// Returns one row.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`] and [`StoreError::Unavailable`].
    pub async fn get(&self, id: RowId) -> Result<Versioned, StoreError> {
        let Some(table) = self.tables.find(&id.table) else { return Err(StoreError::NoTable(id.table)) };
        let key = id.key.clone();
        let read = move |database: &redb::Database| {
            let rows = database.begin_read()?.open_table(ROWS)?;
            let row = rows.get(&keys::encode(table.id, &key)[..])?;
            row.map(|row| versioned(key, row.value())).transpose()
        };
        self.readers.read(read).await?.ok_or(StoreError::NotFound(id))
    }

    /// Adds a row, and its table with the first; the row as it is then.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::TooManyTables`], [`StoreError::PreconditionFailed`] and
    /// [`StoreError::Unavailable`].
    pub async fn insert(&self, id: RowId, row: Row, condition: Precondition) -> Result<Versioned, StoreError> {
        let key = id.key.clone();
        self.write(id, Write::Insert(row), condition).await.map(|done| done.row(key))
    }

    /// Replaces a row whole, or adds it, and its table with the first.
    ///
    /// # Errors
    /// [`StoreError::TooManyTables`], [`StoreError::PreconditionFailed`] and [`StoreError::Unavailable`].
    pub async fn put(&self, id: RowId, row: Row, condition: Precondition) -> Result<(Put, Versioned), StoreError> {
        let key = id.key.clone();
        let done = self.write(id, Write::Put(row), condition).await?;
        Ok((if done.inserted { Put::Inserted } else { Put::Replaced }, done.row(key)))
    }

    /// Changes a part of a row; the whole as it is then.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::TooLong`], [`StoreError::PreconditionFailed`] and
    /// [`StoreError::Unavailable`].
    pub async fn patch(&self, id: RowId, patch: Row, condition: Precondition) -> Result<Versioned, StoreError> {
        let key = id.key.clone();
        self.write(id, Write::Patch(patch), condition).await.map(|done| done.row(key))
    }

    /// Removes a row; the version of the change.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::PreconditionFailed`] and
    /// [`StoreError::Unavailable`].
    pub async fn delete(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        self.write(id, Write::Delete, condition).await.map(|done| done.version)
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
        let is_failed = self.failed.load(Ordering::Relaxed) || self.writes.is_closed() || !self.file.is_in_place();
        if is_failed { Err(unwritable()) } else { Ok(()) }
    }

    /// Looks every few seconds whether the data file is in its place, and has the source tell when it is gone and when it
    /// is back. Ends with the writing thread.
    pub async fn watch(&self) {
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if self.writes.send(Request::Look).await.is_err() {
                return;
            }
        }
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

    async fn write(&self, id: RowId, write: Write, condition: Precondition) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writes.send(Request::Write(id, write, condition, answer)).await.map_err(|_| unwritable())?;
        answered.await.map_err(|_| unwritable())?
    }
}

/// Returns the keys of a table that a first row would make under this name.
///
/// # Errors
/// [`StoreError::BadTableName`].
pub fn keys_of_new_table(name: &str) -> Result<KeyKind, StoreError> {
    if names::is_name(name) { Ok(KeyKind::Any) } else { Err(StoreError::BadTableName(name.into())) }
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

fn versioned(key: Key, stored: (u64, &[u8])) -> Result<Versioned, redb::Error> {
    let (version, json) = stored;
    Ok(Versioned { key, version, row: Row::stored(json).ok_or_else(damaged)? })
}

fn damaged() -> redb::Error {
    redb::Error::Corrupted("a row is no text of ours".to_owned())
}

#[cfg(test)]
mod tests;
