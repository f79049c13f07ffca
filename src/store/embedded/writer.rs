//! The one thread that writes: takes all that waits, commits it together, tells the source, answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::data_file::{DataFile, META, PRODUCTS, Row, VERSION};
use super::guard::guarded;
use super::{told, versioned};
use crate::model::change::{Action, Change};
use crate::model::event::SourceEvent;
use crate::model::product::{Product, ProductId, ProductPatch};
use crate::store::{Precondition, StoreError};
use crate::supervisor::Part;

/// The most writes that share a commit: it bounds the memory of a transaction.
const COMMIT_WRITES_MAX: usize = 1024;

/// A write to make.
#[derive(Debug)]
pub(super) enum Write {
    Insert(Product),
    Put(Product),
    Patch(ProductId, ProductPatch),
    Delete(ProductId),
}

/// A write that was made.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) inserted: bool,
    /// The row; of a delete, as it was.
    pub(super) product: Product,
    pub(super) version: u64,
}

/// The channel for the events of the source; one that is gone has no subscribers left to miss them.
type Feed = mpsc::Sender<SourceEvent>;

type Answer = oneshot::Sender<Result<Done, StoreError>>;

#[derive(Debug)]
pub(super) enum Request {
    Write(Write, Precondition, Answer),
    /// Finds out whether commits are possible. The sender is dropped when that is known.
    Probe(oneshot::Sender<()>),
    /// Marks the source's stream with this number and answers the state that the file has there.
    Snapshot(u64, oneshot::Sender<Result<ReadTransaction, StoreError>>),
    Stop,
}

/// The requests that are done together.
#[derive(Default)]
struct Batch {
    writes: Vec<(Write, Precondition, Answer)>,
    probes: Vec<oneshot::Sender<()>>,
    snapshots: Vec<(u64, oneshot::Sender<Result<ReadTransaction, StoreError>>)>,
    is_last: bool,
}

pub(super) fn spawn(
    file: Arc<DataFile>,
    failed: Arc<AtomicBool>,
    requests: mpsc::Receiver<Request>,
    feed: Feed,
    part: Part,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("store".into()).spawn(move || {
        let _part = part;
        run(&file, &failed, requests, &feed);
        file.close();
    })
}

fn run(file: &DataFile, failed: &AtomicBool, mut requests: mpsc::Receiver<Request>, feed: &Feed) {
    let _ = feed.blocking_send(SourceEvent::Began(file.epoch()));
    let mut taken = Vec::new();
    loop {
        let is_closed = requests.blocking_recv_many(&mut taken, COMMIT_WRITES_MAX) == 0;
        let Batch { writes, probes, snapshots, is_last } = Batch::of(taken.drain(..));
        if !writes.is_empty() || !probes.is_empty() {
            match file.with(|database| commit(database, &writes)) {
                Ok(results) => {
                    failed.store(false, Ordering::Relaxed);
                    for ((_, _, answer), result) in writes.into_iter().zip(results) {
                        publish(feed, answer, result);
                    }
                }
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    refuse(file, writes, &error);
                }
            }
        }
        for (number, answer) in snapshots {
            snapshot(file, feed, number, answer);
        }
        if is_last || is_closed {
            return;
        }
    }
}

impl Batch {
    fn of(requests: impl Iterator<Item = Request>) -> Self {
        let mut batch = Self::default();
        for request in requests {
            match request {
                Request::Write(write, condition, answer) => batch.writes.push((write, condition, answer)),
                Request::Probe(done) => batch.probes.push(done),
                Request::Snapshot(number, answer) => batch.snapshots.push((number, answer)),
                Request::Stop => batch.is_last = true,
            }
        }
        batch
    }
}

/// Marks the stream between two commits: what this snapshot sees has been told before the mark, and all else after it.
fn snapshot(file: &DataFile, feed: &Feed, number: u64, answer: oneshot::Sender<Result<ReadTransaction, StoreError>>) {
    let snapshot = file.with(|database| Ok(database.begin_read()?));
    let _ = feed.blocking_send(SourceEvent::Barrier(number));
    let _ = answer.send(snapshot.map_err(|error| told(&error)));
}

/// Answers writes whose commit failed, and makes the next commit possible, which redb refuses after an error of the
/// disk until the file is opened again.
fn refuse(file: &DataFile, writes: Vec<(Write, Precondition, Answer)>, why: &redb::Error) {
    error!(error = %why, "a commit failed; nothing of it was written");
    for (_, _, answer) in writes {
        let _ = answer.send(Err(told(why)));
    }
    if matches!(why, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
        && let Err(error) = file.reopen()
    {
        error!(%error, "the data file cannot be opened again; reads and writes are refused until it can");
    }
}

/// Tells the source, then whoever asked for the write: an answer means that the change is on its way. Waits while the
/// source has no room.
fn publish(feed: &Feed, answer: Answer, result: Result<(Action, Done), StoreError>) {
    let result = result.map(|(action, done)| {
        let change = Change::of_row(action, done.version, done.product.clone());
        let _ = feed.blocking_send(SourceEvent::Change(change));
        done
    });
    // Whoever asked may have left.
    let _ = answer.send(result);
}

type Results = Vec<Result<(Action, Done), StoreError>>;

/// Writes all in one transaction, on disk when this returns. A write that cannot be done (its product exists, or does
/// not) changes nothing and disturbs no other.
fn commit(database: &Database, writes: &[(Write, Precondition, Answer)]) -> Result<Results, redb::Error> {
    let transaction = database.begin_write()?;
    let results = {
        let mut products = transaction.open_table(PRODUCTS)?;
        let mut meta = transaction.open_table(META)?;
        let mut version = meta.get(VERSION)?.map_or(0, |version| version.value());
        let apply = |(write, condition, _): &_| apply(&mut products, &mut version, write, condition);
        let results = writes.iter().map(apply).collect::<Result<_, _>>()?;
        meta.insert(VERSION, version)?;
        results
    };
    transaction.commit()?;
    Ok(results)
}

fn apply(
    products: &mut Table<'_, u64, Row>,
    version: &mut u64,
    write: &Write,
    condition: &Precondition,
) -> Result<Result<(Action, Done), StoreError>, redb::Error> {
    let id = write.product_id();
    let before = guarded(|| Ok(products.get(id.get())?.map(|row| versioned(id.get(), row.value()))));
    let before = match before {
        Err(error @ redb::Error::Corrupted(_)) => return Ok(Err(told(&error))),
        before => before?,
    };
    let is_met = condition.holds(before.as_ref().map(|before| before.version));
    let (action, product) = match (write, before.map(|before| before.product)) {
        // RFC 9110, §13.2.1: a condition counts only where the write could be done without it.
        (Write::Patch(..) | Write::Delete(_), None) => return Ok(Err(StoreError::NotFound(id))),
        _ if !is_met => return Ok(Err(StoreError::PreconditionFailed(id))),
        (Write::Insert(_), Some(_)) => return Ok(Err(StoreError::Exists(id))),
        (Write::Insert(product) | Write::Put(product), None) => (Action::Insert, product.clone()),
        (Write::Put(product), Some(_)) => (Action::Update, product.clone()),
        (Write::Patch(_, patch), Some(before)) => (Action::Update, patch.clone().apply(before)),
        (Write::Delete(_), Some(before)) => (Action::Delete, before),
    };
    *version += 1;
    if action == Action::Delete {
        products.remove(id.get())?;
    } else {
        let Product { manufacturer, price_per_unit, units_available, product_name, .. } = &product;
        let row = (*version, &manufacturer[..], &price_per_unit[..], *units_available, &product_name[..]);
        products.insert(id.get(), row)?;
    }
    Ok(Ok((action, Done { inserted: action == Action::Insert, product, version: *version })))
}

impl Write {
    const fn product_id(&self) -> ProductId {
        match self {
            Self::Insert(product) | Self::Put(product) => product.product_id,
            Self::Patch(id, _) | Self::Delete(id) => *id,
        }
    }
}
