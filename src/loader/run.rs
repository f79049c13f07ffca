//! The loader at work: [`run`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{Instant as TokioInstant, sleep_until};

use super::listings::{ListEnd, Listed};
use super::plan::{Answers, Order, Plan, Sought, Told};
use super::{Demand, Demands};
use crate::fanout::{CoreId, Hub, Listing, Loaded, LoadedRow};
use crate::metrics::{Load, Metrics};
use crate::model::epoch::Epoch;
use crate::model::table::Tables;
use crate::model::topic::Subject;
use crate::store::{Found, Keys, Read, Store, StoreError};
use crate::wire::frame::Frame;

/// The time for which the reads of a table may fail while the source seems well; then its readers are told.
const FAILING_MAX: Duration = Duration::from_secs(10);
/// The wait before a new epoch is asked for again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

type Reading = Pin<Box<dyn Future<Output = Result<Outcome, StoreError>> + Send>>;
type Renewing = Pin<Box<dyn Future<Output = (Epoch, Result<Epoch, StoreError>)> + Send>>;

/// The rows of a read.
enum Outcome {
    Rows(Read),
    Keys(Keys),
}

/// The loader's parts.
struct Work {
    plan: Plan,
    store: Store,
    hub: Hub,
    metrics: Arc<Metrics>,
    reading: Option<Reading>,
    renewing: Option<Renewing>,
    /// The number of changes when the time for the barrier began.
    changes: u64,
}

/// Reads what the shards wish for, and hands it over, until nobody is left to wish for anything. At most `rows_max` rows
/// are listed for those who want to know every topic.
pub async fn run(mut demands: Demands, store: Store, hub: Hub, rows_max: usize, metrics: Arc<Metrics>) {
    let plan = Plan::new(hub.cores(), rows_max);
    let mut work = Work { plan, store, hub, metrics, reading: None, renewing: None, changes: 0 };
    loop {
        work.start();
        let deadline = work.plan.deadline().map(TokioInstant::from_std);
        tokio::select! {
            demand = demands.next() => match demand {
                Some(demand) => work.take(demand),
                None => return,
            },
            outcome = polled(&mut work.reading) => {
                work.reading = None;
                work.read(outcome);
            }
            (before, outcome) = polled(&mut work.renewing) => {
                work.renewing = None;
                work.renewed(before, outcome);
            }
            () = sleep_until(deadline.unwrap_or_else(TokioInstant::now)), if deadline.is_some() => work.is_due(),
        }
        work.hand_over();
    }
}

async fn polled<T>(task: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

impl Work {
    /// Begins the next read.
    fn start(&mut self) {
        if let Some(Order { barrier, what }) = self.plan.start(Instant::now()) {
            let store = self.store.clone();
            self.reading = Some(Box::pin(async move {
                match what {
                    Sought::Rows(rows) => store.load(rows, barrier).await.map(Outcome::Rows),
                    Sought::KeysAfter(table, after) => store.keys(table, after, barrier).await.map(Outcome::Keys),
                }
            }));
        }
    }

    fn take(&mut self, demand: Demand) {
        match demand {
            Demand::Wish(wish) => self.plan.wish(wish),
            Demand::Taken(core, table, number) => self.plan.listings().taken(core, table, number),
            Demand::Regressed(table) => {
                if !self.store.table_regressed(table) {
                    self.renew(None);
                }
            }
            Demand::Watch(core, table, watch) => {
                let is_void = self.plan.watch(core, table, watch);
                self.forget_reading(is_void);
            }
            Demand::Heard(heard) => {
                let is_void = self.plan.heard(heard);
                self.forget_reading(is_void);
            }
        }
    }

    fn forget_reading(&mut self, is_void: bool) {
        if is_void {
            self.reading = None;
            self.metrics.loads.ended(Load::Void);
        }
    }

    fn read(&mut self, outcome: Result<Outcome, StoreError>) {
        let now = Instant::now();
        match outcome {
            Ok(outcome) => {
                self.changes = self.metrics.source.changes.get();
                match outcome {
                    Outcome::Rows(read) => self.plan.read(read, now),
                    Outcome::Keys(keys) => self.plan.read_keys(keys, now),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "rows for the shards were not read; they are read again");
                self.store.look_again();
                self.failed(now);
            }
        }
    }

    /// Makes use of a deadline: a pause is over, or a barrier is due.
    fn is_due(&mut self) {
        let now = Instant::now();
        if !self.plan.is_overdue(now) {
            return;
        }
        let changes = self.metrics.source.changes.get();
        if changes == self.changes {
            tracing::warn!("the barrier of a read was not heard; the rows are read again");
            self.failed(now);
        } else {
            self.changes = changes;
            self.plan.is_late(now);
        }
    }

    fn failed(&mut self, now: Instant) {
        self.reading = None;
        self.plan.failed(now);
        self.metrics.loads.ended(Load::Failed);
        if let Some(table) = self.plan.failing_for(now, FAILING_MAX) {
            self.store.table_unreadable(table);
        }
    }

    /// Has the store begin a new epoch, unless that is under way.
    fn renew(&mut self, pause: Option<Duration>) {
        let (Some(epoch), None) = (self.plan.epoch(), &self.renewing) else { return };
        let store = self.store.clone();
        self.renewing = Some(Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            (epoch, store.renew_epoch(epoch).await)
        }));
    }

    fn renewed(&mut self, before: Epoch, outcome: Result<Epoch, StoreError>) {
        match outcome {
            Ok(epoch) => {
                self.metrics.source.epochs_begun.inc();
                tracing::warn!(%before, %epoch, "a row was older than what was told of it: a new history of versions began");
            }
            Err(error) => {
                tracing::error!(%before, %error, "a row is older than what was told of it, and no new history could begin");
                if matches!(error, StoreError::Unavailable(_)) && self.plan.epoch() == Some(before) {
                    self.renew(Some(RENEWAL_PAUSE));
                }
            }
        }
    }

    /// Hands the rows of a read over, once it counts.
    fn hand_over(&mut self) {
        let Some(told) = self.plan.told() else { return };
        self.metrics.loads.ended(Load::Done);
        match told {
            Told::Answers(answers_by_core) => {
                for (core, answers) in answers_by_core {
                    self.metrics.loads.rows.inc_by(answers.len() as u64);
                    self.hub.loaded(core, loaded(answers, self.hub.tables()));
                }
            }
            Told::Listed(listed) => self.list(listed),
        }
    }

    /// Hands each core the rows of its shards.
    fn list(&mut self, Listed { table, keys, end, watches }: Listed) {
        let mut keys_by_core: HashMap<CoreId, Vec<(Subject, u64)>> = HashMap::new();
        for (subject, version) in keys {
            let core = self.hub.core_of_topic(subject.topic());
            keys_by_core.entry(core).or_default().push((subject, version));
        }
        for (core, number) in watches {
            if let Some(keys) = keys_by_core.remove(&core) {
                self.plan.listings().handed(core, table, number);
                self.hub.list(core, table, number, Listing::Rows(keys));
            }
            match end {
                None => {}
                Some(ListEnd::Whole) => self.hub.list(core, table, number, Listing::End),
                Some(ListEnd::TooMany) => self.hub.list(core, table, number, Listing::TooMany),
            }
        }
    }
}

/// Returns the answers as shards take them. A row that several wished for is encoded once.
fn loaded(answers: Answers, tables: &Tables) -> Vec<Loaded> {
    let mut rows: Vec<Loaded> = Vec::with_capacity(answers.len());
    for (topic, number, found) in answers {
        let row = match (found, rows.last()) {
            (_, Some(last)) if last.topic == topic => last.row.clone(),
            (Found::Present(row), _) => {
                let frame = Frame::of_snapshot(row.version, &tables.get(topic.table()), &row.key, &row.row);
                LoadedRow::Present { version: row.version, frame }
            }
            (Found::Absent { version }, _) => LoadedRow::Absent { version },
            (Found::Unreadable { version }, _) => LoadedRow::Unreadable { version },
        };
        rows.push(Loaded { topic, number, row });
    }
    rows
}
