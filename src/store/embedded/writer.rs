//! The one thread that writes: takes all that waits, commits it together, tells the source, answers.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::data_file::{DataFile, META, ROWS, StoredRow, VERSION, add_table};
use super::guard::guarded;
use super::{keys, told, unwritable, versioned};
use crate::model::change::{Action, Change};
use crate::model::event::SourceEvent;
use crate::model::key::{Key, KeyKind};
use crate::model::row::Row;
use crate::model::table::{TableId, Tables};
use crate::store::{Precondition, RowId, StoreError, Versioned};
use crate::supervisor::Part;

/// The most writes that share a commit: it bounds the memory of a transaction.
const COMMIT_WRITES_MAX: usize = 1024;

/// A write to make of a row.
#[derive(Debug)]
pub(super) enum Write {
    Insert(Row),
    Put(Row),
    Patch(Row),
    Delete,
}

/// A write that was made.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) inserted: bool,
    /// The row; of a delete, as it was.
    pub(super) row: Row,
    pub(super) version: u64,
}

impl Done {
    /// Returns the row, under its key.
    pub(super) fn row(self, key: Key) -> Versioned {
        Versioned { key, version: self.version, row: self.row }
    }
}

/// The bounds of what is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) tables_max: u16,
    pub(super) row_bytes_max: usize,
}

/// The channel for the events of the source; one that is gone has no subscribers left to miss them.
type Feed = mpsc::Sender<SourceEvent>;

type Answer = oneshot::Sender<Result<Done, StoreError>>;

#[derive(Debug)]
pub(super) enum Request {
    Write(RowId, Write, Precondition, Answer),
    /// Finds out whether commits are possible. The sender is dropped when that is known.
    Probe(oneshot::Sender<()>),
    /// Finds out whether the file is in its place.
    Look,
    /// Marks the source's stream with this number and answers the state that the file has there.
    Snapshot(u64, oneshot::Sender<Result<ReadTransaction, StoreError>>),
    Stop,
}

/// A write that waits for its commit.
struct Waiting {
    id: RowId,
    write: Write,
    condition: Precondition,
    answer: Answer,
}

/// The requests that are done together.
#[derive(Default)]
struct Batch {
    writes: Vec<Waiting>,
    probes: Vec<oneshot::Sender<()>>,
    snapshots: Vec<(u64, oneshot::Sender<Result<ReadTransaction, StoreError>>)>,
    is_last: bool,
}

/// The parts of the thread.
pub(super) struct Work {
    pub(super) file: Arc<DataFile>,
    pub(super) tables: Tables,
    pub(super) bounds: Bounds,
    pub(super) failed: Arc<AtomicBool>,
    pub(super) feed: Feed,
    /// True while the source's last word on itself is that every change is told.
    pub(super) is_told_whole: Cell<bool>,
}

pub(super) fn spawn(work: Work, requests: mpsc::Receiver<Request>, part: Part) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("store".into()).spawn(move || {
        let _part = part;
        work.run(requests);
        work.file.close();
    })
}

impl Batch {
    fn of(requests: impl Iterator<Item = Request>) -> Self {
        let mut batch = Self::default();
        for request in requests {
            match request {
                Request::Write(id, write, condition, answer) => {
                    batch.writes.push(Waiting { id, write, condition, answer });
                }
                Request::Probe(done) => batch.probes.push(done),
                // Every batch begins with it.
                Request::Look => {}
                Request::Snapshot(number, answer) => batch.snapshots.push((number, answer)),
                Request::Stop => batch.is_last = true,
            }
        }
        batch
    }
}

impl Work {
    fn run(&self, mut requests: mpsc::Receiver<Request>) {
        self.tell(true);
        let mut taken = Vec::new();
        loop {
            let is_closed = requests.blocking_recv_many(&mut taken, COMMIT_WRITES_MAX) == 0;
            let Batch { writes, probes, snapshots, is_last } = Batch::of(taken.drain(..));
            let is_in_place = self.look();
            if !is_in_place {
                refuse(writes, unwritable);
            } else if !writes.is_empty() || !probes.is_empty() {
                self.write(writes);
            }
            drop(probes);
            for (number, answer) in snapshots {
                self.snapshot(number, answer);
            }
            if is_last || is_closed {
                return;
            }
        }
    }

    /// Finds out whether the file is in its place, and tells the source when that changes: what the file is to have that
    /// has its name is not known.
    fn look(&self) -> bool {
        let (is_in_place, was) = (self.file.is_in_place(), self.is_told_whole.get());
        if is_in_place != was {
            let file = self.file.path().display();
            if is_in_place {
                info!(%file, "the data file is back");
            } else {
                error!(%file, "the data file was removed or replaced; writes are refused, and readers are told that what they show may be old, until it is back, or the server is started again");
            }
            self.tell(is_in_place);
        }
        is_in_place
    }

    fn tell(&self, is_whole: bool) {
        self.is_told_whole.set(is_whole);
        let event = if is_whole { SourceEvent::Began(self.file.epoch()) } else { SourceEvent::Gap };
        let _ = self.feed.blocking_send(event);
    }

    fn write(&self, writes: Vec<Waiting>) {
        match self.file.with(|database| self.commit(database, &writes)) {
            Ok(Committed { results, new_tables }) => {
                self.failed.store(false, Ordering::Relaxed);
                for name in new_tables {
                    self.tables.add(&name, KeyKind::Any).expect("the commit has found a place");
                }
                for (waiting, result) in writes.into_iter().zip(results) {
                    self.publish(waiting, result);
                }
            }
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                self.recover(writes, &error);
            }
        }
    }

    /// Marks the stream between two commits: what this snapshot sees has been told before the mark, and all else after it.
    fn snapshot(&self, number: u64, answer: oneshot::Sender<Result<ReadTransaction, StoreError>>) {
        let snapshot = self.file.with(|database| Ok(database.begin_read()?));
        let _ = self.feed.blocking_send(SourceEvent::Barrier(number));
        let _ = answer.send(snapshot.map_err(|error| told(&error)));
    }

    /// Answers writes whose commit failed, and makes the next commit possible, which redb refuses after an error of the
    /// disk until the file is opened again.
    fn recover(&self, writes: Vec<Waiting>, why: &redb::Error) {
        error!(error = %why, "a commit failed; nothing of it was written");
        refuse(writes, || told(why));
        if matches!(why, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
            && let Err(error) = self.file.reopen()
        {
            error!(%error, "the data file cannot be opened again; reads and writes are refused until it can");
        }
    }

    /// Tells the source, then whoever asked for the write: an answer means that the change is on its way. Waits while the
    /// source has no room.
    fn publish(&self, waiting: Waiting, result: Result<(Action, Done), StoreError>) {
        let Waiting { id, answer, .. } = waiting;
        let result = result.map(|(action, done)| {
            let table = self.tables.find(&id.table).expect("a row that was written has a table");
            let subject = self.tables.subject(table.id, id.key);
            let change = Change::of_row(action, subject, done.version, done.row.clone());
            let _ = self.feed.blocking_send(SourceEvent::Change(change));
            done
        });
        // Whoever asked may have left.
        let _ = answer.send(result);
    }

    /// Writes all in one transaction, on disk when this returns. A write that cannot be done (its row exists, or does
    /// not) changes nothing and disturbs no other.
    fn commit(&self, database: &Database, writes: &[Waiting]) -> Result<Committed, redb::Error> {
        let transaction = database.begin_write()?;
        let committed = {
            let rows = transaction.open_table(ROWS)?;
            let mut meta = transaction.open_table(META)?;
            let version = meta.get(VERSION)?.map_or(0, |version| version.value());
            let mut commit = Commit { work: self, transaction: &transaction, rows, version, new_tables: Vec::new() };
            let results = writes.iter().map(|waiting| commit.apply(waiting)).collect::<Result<_, _>>()?;
            meta.insert(VERSION, commit.version)?;
            Committed { results, new_tables: commit.new_tables }
        };
        transaction.commit()?;
        Ok(committed)
    }
}

/// Answers writes that are not made.
fn refuse(writes: Vec<Waiting>, why: impl Fn() -> StoreError) {
    for waiting in writes {
        let _ = waiting.answer.send(Err(why()));
    }
}

type Outcome = Result<(Action, Done), StoreError>;

/// The results of a commit's writes, and the tables that it made, in the order of their places.
struct Committed {
    results: Vec<Outcome>,
    new_tables: Vec<Box<str>>,
}

/// A commit on its way.
struct Commit<'a> {
    work: &'a Work,
    transaction: &'a WriteTransaction,
    rows: Table<'a, &'static [u8], StoredRow>,
    version: u64,
    new_tables: Vec<Box<str>>,
}

impl Commit<'_> {
    fn apply(&mut self, waiting: &Waiting) -> Result<Outcome, redb::Error> {
        let Waiting { id, write, condition, .. } = waiting;
        let table = self.table(&id.table);
        // A row that was damaged spoils its own write alone.
        let decided = guarded(|| {
            let before = table.map(|table| self.before(table, id)).transpose()?.flatten();
            Ok(decide(id, write, before, condition))
        });
        let decided = match decided {
            Err(error @ redb::Error::Corrupted(_)) => return Ok(Err(told(&error))),
            decided => decided?.and_then(|(action, row)| self.bounded(action, row)),
        };
        let (action, row) = match (decided, table) {
            // A first row is what makes a table; nothing else of one can be done.
            (Err(StoreError::NotFound(id)), None) => return Ok(Err(StoreError::NoTable(id.table))),
            (Err(refused), _) => return Ok(Err(refused)),
            (Ok(decided), _) => decided,
        };
        let table = match table.map_or_else(|| self.make_table(&id.table), |table| Ok(Ok(table)))? {
            Ok(table) => table,
            Err(refused) => return Ok(Err(refused)),
        };
        self.version += 1;
        let key = keys::encode(table, &id.key);
        if action == Action::Delete {
            self.rows.remove(&key[..])?;
        } else {
            self.rows.insert(&key[..], (self.version, row.as_bytes()))?;
        }
        Ok(Ok((action, Done { inserted: action == Action::Insert, row, version: self.version })))
    }

    /// Returns the place of a table that is there, or that this commit makes.
    fn table(&self, name: &str) -> Option<TableId> {
        if let Some(table) = self.work.tables.find(name) {
            return Some(table.id);
        }
        self.new_tables.iter().position(|made| **made == *name).and_then(|nth| self.place(nth))
    }

    /// Returns the place of the nth table that this commit makes.
    fn place(&self, nth: usize) -> Option<TableId> {
        u16::try_from(self.work.tables.all().len() + nth).ok().and_then(TableId::new)
    }

    /// Gives a new table the next place.
    fn make_table(&mut self, name: &str) -> Result<Result<TableId, StoreError>, redb::Error> {
        let max = self.work.bounds.tables_max;
        let place = self.place(self.new_tables.len()).filter(|place| place.get() < max);
        let Some(place) = place else { return Ok(Err(StoreError::TooManyTables(max.into()))) };
        add_table(self.transaction, name, place)?;
        self.new_tables.push(name.into());
        Ok(Ok(place))
    }

    fn before(&self, table: TableId, id: &RowId) -> Result<Option<Versioned>, redb::Error> {
        let row = self.rows.get(&keys::encode(table, &id.key)[..])?;
        row.map(|row| versioned(id.key.clone(), row.value())).transpose()
    }

    /// Refuses a row that is too long, but where it goes.
    fn bounded(&self, action: Action, row: Row) -> Result<(Action, Row), StoreError> {
        let max = self.work.bounds.row_bytes_max;
        let fits = row.as_bytes().len() <= max || action == Action::Delete;
        if fits { Ok((action, row)) } else { Err(StoreError::TooLong(max)) }
    }
}

/// Returns the change that a write makes of a row, and the row as it is then; of a delete, as it was.
fn decide(
    id: &RowId,
    write: &Write,
    before: Option<Versioned>,
    condition: &Precondition,
) -> Result<(Action, Row), StoreError> {
    let is_met = condition.holds(before.as_ref().map(|before| before.version));
    match (write, before.map(|before| before.row)) {
        // RFC 9110, §13.2.1: a condition counts only where the write could be done without it.
        (Write::Patch(_) | Write::Delete, None) => Err(StoreError::NotFound(id.clone())),
        _ if !is_met => Err(StoreError::PreconditionFailed(id.clone())),
        (Write::Insert(_), Some(_)) => Err(StoreError::Exists(id.clone())),
        (Write::Insert(row) | Write::Put(row), None) => Ok((Action::Insert, row.clone())),
        (Write::Put(row), Some(_)) => Ok((Action::Update, row.clone())),
        (Write::Patch(patch), Some(before)) => Ok((Action::Update, before.merged(patch))),
        (Write::Delete, Some(before)) => Ok((Action::Delete, before)),
    }
}
