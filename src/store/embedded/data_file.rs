//! The file of an embedded store: made whole or not at all, checked when it is opened, closed by its owner.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tracing::info;

use super::guard::guarded;
use super::lock::{DirectoryLock, Marks};
use super::names::is_name;
use super::{EmbeddedConfig, OpenError, layout_1};
use crate::model::epoch::Epoch;
use crate::model::table::{PRODUCTS, TableId};

/// A row's version and JSON.
pub(super) type StoredRow = (u64, &'static [u8]);

/// The rows of all tables, by their [keys in the file](super::keys).
pub(super) const ROWS: TableDefinition<'static, &[u8], StoredRow> = TableDefinition::new("rows");
/// The places of the tables but products, by their names.
pub(super) const TABLES: TableDefinition<'static, &str, u16> = TableDefinition::new("tables");
/// Numbers about the store itself.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// In [`META`]: the version that was given last.
pub(super) const VERSION: &str = "version";
/// In [`META`]: the epoch of the versions.
const EPOCH: &str = "epoch";
/// In [`META`]: the mark of the directory's holder that opened the file last.
const OPENED: &str = "opened";
/// In [`META`]: the layout of these tables.
pub(super) const LAYOUT: &str = "layout";
const LAYOUT_OF_THIS_PROGRAM: u64 = 2;

/// The open file, until its owner closes it.
#[derive(Debug)]
pub(super) struct DataFile {
    path: PathBuf,
    /// The device and the inode that it was opened at.
    place: Option<(u64, u64)>,
    epoch: Epoch,
    database: RwLock<Option<Database>>,
}

impl DataFile {
    /// Opens the file in `dir`, which `lock` holds, or makes it. The checksum of every page is verified, so that a damaged file is refused
    /// here and not met later; that reads the whole file once.
    pub(super) fn open(dir: &Path, lock: &DirectoryLock) -> Result<Self, OpenError> {
        let path = dir.join("products.redb");
        let in_dir = |error| OpenError::Directory { dir: dir.to_owned(), error };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => return Err(OpenError::Empty { file: path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(dir, &path).map_err(in_dir)?,
            Err(error) => return Err(in_dir(error)),
        }
        let database = open(&path)?;
        Self::of(path.clone(), database, lock.marks()).map_err(|error| OpenError::File { file: path, error })
    }

    /// Wraps an open file.
    pub(super) fn of(path: PathBuf, database: Database, marks: Marks) -> Result<Self, redb::Error> {
        let epoch = guarded(|| epoch(&database, marks))?;
        Ok(Self { place: place(&path), path, epoch, database: RwLock::new(Some(database)) })
    }

    /// Returns whether the file is still the one that its name leads to. What is written into one that was removed, or that
    /// another took the place of, is gone when it is closed.
    pub(super) fn is_in_place(&self) -> bool {
        place(&self.path) == self.place
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the epoch of the file's versions.
    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Does something with the open file.
    ///
    /// # Errors
    /// Those of the work, [`redb::Error::Corrupted`] where it panics, and [`redb::Error::DatabaseClosed`].
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        guarded(|| work(database))
    }

    /// Returns the names of the tables but products, in the order of their places.
    pub(super) fn tables(&self) -> Result<Vec<String>, redb::Error> {
        self.with(|database| {
            let mut places = Vec::new();
            for entry in database.begin_read()?.open_table(TABLES)?.iter()? {
                let (name, place) = entry?;
                places.push((place.value(), name.value().to_owned()));
            }
            places.sort_unstable();
            Ok(places.into_iter().map(|(_, name)| name).collect())
        })
    }

    /// Makes the tables that are named and not there.
    ///
    /// # Errors
    /// If one cannot be named so, and where there is no place for it.
    pub(super) fn make_tables(&self, config: &EmbeddedConfig) -> Result<(), OpenError> {
        let mut tables = self.tables().map_err(|error| self.failed(error))?;
        let mut made = Vec::new();
        for name in &config.tables {
            if name == PRODUCTS || tables.contains(name) {
                continue;
            }
            if !is_name(name) {
                return Err(OpenError::TableName(name.clone()));
            }
            // Products have the first place.
            let place = u16::try_from(tables.len() + 1).ok().and_then(TableId::new);
            let place = place.filter(|place| place.get() < config.tables_max);
            let max = config.tables_max;
            made.push((place.ok_or_else(|| OpenError::TooManyTables { name: name.clone(), max })?, name));
            tables.push(name.clone());
        }
        self.with(|database| {
            let transaction = database.begin_write()?;
            for (place, name) in made {
                add_table(&transaction, name, place)?;
            }
            Ok(transaction.commit()?)
        })
        .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: redb::Error) -> OpenError {
        OpenError::File { file: self.path.clone(), error }
    }

    /// Closes the file and opens it again: redb takes no more writes once one has failed. Waits for reads to end.
    pub(super) fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        *database = Some(open(&self.path)?);
        Ok(())
    }

    /// Closes the file. Waits for reads to end.
    pub(super) fn close(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
    }
}

/// Returns the device and the inode of a file (inode(7)), if there is one.
fn place(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes a new file with its tables, under another name until it is on the disk whole.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let unfinished = dir.join("products.redb.new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = guarded(|| {
        let database = Database::create(&unfinished)?;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(LAYOUT, LAYOUT_OF_THIS_PROGRAM)?;
            meta.insert(VERSION, 0)?;
        }
        transaction.open_table(ROWS)?;
        transaction.open_table(TABLES)?;
        layout_1::leave_for_0_1_0(&transaction)?;
        Ok(transaction.commit()?)
    });
    made.map_err(|error| match error {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    })?;
    fs::rename(&unfinished, path)?;
    File::open(dir)?.sync_all()
}

/// Returns the epoch that stands in the file. Draws another for a file that has none yet, and for one that was not there
/// when the directory was held last: it is a copy or a backup, and the versions after it were given to other changes.
fn epoch(database: &Database, marks: Marks) -> Result<Epoch, redb::Error> {
    let transaction = database.begin_write()?;
    let mut meta = transaction.open_table(META)?;
    let is_ours = meta.get(OPENED)?.is_some_and(|opened| opened.value() == marks.found);
    let known = meta.get(EPOCH)?.filter(|_| is_ours).and_then(|epoch| Epoch::new(epoch.value()));
    let epoch = known.unwrap_or_else(Epoch::random);
    meta.insert(EPOCH, epoch.get())?;
    meta.insert(OPENED, marks.own)?;
    drop(meta);
    transaction.commit()?;
    Ok(epoch)
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let opened = guarded(|| {
        let database = Builder::new()
            .set_check_integrity_on_open(true)
            .set_repair_callback(|repair| {
                info!(percent = (repair.progress() * 100.0).round(), "checking the data file");
            })
            .open(path)?;
        let mut layout = layout(&database)?;
        if layout == Some(layout_1::LAYOUT) {
            let products = layout_1::bring_forward(&database)?;
            info!(products, "the data file of an older Rowcast was brought to the layout of this one");
            layout = Some(LAYOUT_OF_THIS_PROGRAM);
        }
        Ok((database, layout))
    });
    let file = path.to_owned();
    match opened {
        Ok((database, Some(LAYOUT_OF_THIS_PROGRAM))) => Ok(database),
        Ok((_, Some(layout))) => Err(OpenError::Newer { file, layout }),
        Ok((_, None)) => Err(OpenError::Damaged { file, reason: "its layout is missing".into() }),
        Err(redb::Error::Corrupted(reason)) => Err(OpenError::Damaged { file, reason }),
        Err(error) => Err(OpenError::File { file, error }),
    }
}

fn layout(database: &Database) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    Ok(transaction.open_table(META)?.get(LAYOUT)?.map(|layout| layout.value()))
}

/// Gives a table its place, which is that of none before it.
pub(super) fn add_table(transaction: &WriteTransaction, name: &str, place: TableId) -> Result<(), redb::Error> {
    transaction.open_table(TABLES)?.insert(name, place.get())?;
    Ok(())
}
