//! The one thread that writes: takes all that waits, commits it together, tells the source, answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{META, PRODUCTS, Row, VERSION, versioned};
use crate::model::change::{Action, Change};
use crate::model::event::SourceEvent;
use crate::model::product::{Product, ProductId, ProductPatch};
use crate::store::StoreError;
use crate::supervisor::Part;

/// How many writes share a commit at most: what bounds the memory of a transaction.
const COMMIT_WRITES_MAX: usize = 1024;

/// What to write.
#[derive(Debug)]
pub(super) enum Write {
    Insert(Product),
    Put(Product),
    Patch(ProductId, ProductPatch),
    Delete(ProductId),
}

/// What was written.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) inserted: bool,
    /// The row; of a delete, as it was.
    pub(super) product: Product,
    pub(super) version: u64,
}

/// Where the events of the source are told; one that is gone has no subscribers left to miss them.
type Feed = mpsc::Sender<SourceEvent>;

type Answer = oneshot::Sender<Result<Done, StoreError>>;

#[derive(Debug)]
pub(super) enum Request {
    Write(Write, Answer),
    Stop,
}

pub(super) fn spawn(
    database: Arc<Database>,
    failed: Arc<AtomicBool>,
    requests: mpsc::Receiver<Request>,
    feed: Feed,
    part: Part,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("store".into()).spawn(move || {
        let _part = part;
        run(&database, &failed, requests, &feed);
    })
}

fn run(database: &Database, failed: &AtomicBool, mut requests: mpsc::Receiver<Request>, feed: &Feed) {
    let _ = feed.blocking_send(SourceEvent::Barrier);
    let mut batch = Vec::new();
    loop {
        let taken = requests.blocking_recv_many(&mut batch, COMMIT_WRITES_MAX);
        let stops = taken == 0 || batch.iter().any(|request| matches!(request, Request::Stop));
        let writes: Vec<_> = batch.drain(..).filter_map(Request::into_write).collect();
        match commit(database, &writes) {
            Ok(results) => {
                failed.store(false, Ordering::Relaxed);
                for ((_, answer), result) in writes.into_iter().zip(results) {
                    publish(feed, answer, result);
                }
            }
            Err(error) => {
                error!(%error, "a commit failed; nothing of it was written");
                failed.store(true, Ordering::Relaxed);
                for (_, answer) in writes {
                    let _ = answer.send(Err(StoreError::Unavailable(error.to_string())));
                }
            }
        }
        if stops {
            return;
        }
    }
}

impl Request {
    fn into_write(self) -> Option<(Write, Answer)> {
        match self {
            Self::Write(write, answer) => Some((write, answer)),
            Self::Stop => None,
        }
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
fn commit(database: &Database, writes: &[(Write, Answer)]) -> Result<Results, redb::Error> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let transaction = database.begin_write()?;
    let results = {
        let mut products = transaction.open_table(PRODUCTS)?;
        let mut meta = transaction.open_table(META)?;
        let mut version = meta.get(VERSION)?.map_or(0, |version| version.value());
        let results =
            writes.iter().map(|(write, _)| apply(&mut products, &mut version, write)).collect::<Result<_, _>>()?;
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
) -> Result<Result<(Action, Done), StoreError>, redb::Error> {
    let id = write.product_id();
    let before = products.get(id.get())?.map(|row| versioned(id.get(), row.value()).product);
    let (action, product) = match (write, before) {
        (Write::Insert(_), Some(_)) => return Ok(Err(StoreError::Exists(id))),
        (Write::Patch(..) | Write::Delete(_), None) => return Ok(Err(StoreError::NotFound(id))),
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
