//! The loader: it reads rows for the shards, many at a time, and hands each answer over at its barrier.
//!
//! A shard [wishes](Wishes::wish) for topics whose value it does not know. What was read is true only together with
//! its place in the stream of changes, which the barrier of the read marks: ingest tells the loader that it was
//! [heard](Loader::heard) after it has handed on all that came before.

mod listings;
mod plan;
mod run;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

pub use self::run::run;
use crate::fanout::{CoreId, Reads, Watch};
use crate::model::epoch::Epoch;
use crate::model::table::TableId;
use crate::model::topic::Subject;

/// The topics that the shards of one core want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The core that is told.
    pub core: CoreId,
    /// Each with the number of its loading in its shard, which the answer carries.
    pub topics: Vec<(Subject, u32)>,
}

/// What ingest has handed on of the source's word on itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceHeard {
    /// From here on every change is told, with versions of this epoch.
    Began(Epoch),
    /// Changes may have been missed.
    Gap,
    /// The mark of the read with this number.
    Barrier(u64),
    /// Whether rows of this table are to be read: not while it alone is lost.
    Table(TableId, bool),
}

/// A demand on the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// To read topics.
    Wish(Wish),
    /// To list the rows of a table for a core, or not any more.
    Watch(CoreId, TableId, Option<Watch>),
    /// To go on with the listing: a core has taken rows that it was handed for its watch with this number.
    Taken(CoreId, TableId, u32),
    /// To have the store renew its epoch, or a table's: a row of it was below the version that was known.
    Regressed(TableId),
    /// To take note of what the source said.
    Heard(SourceHeard),
}

/// The way to the loader for the shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wishes(UnboundedSender<Demand>);

impl Wishes {
    /// Asks for topics. A loader that has ended answers nobody.
    pub fn wish(&self, wish: Wish) {
        let _ = self.0.send(Demand::Wish(wish));
    }

    /// Says that a row of a table was read whose version is below the one that was known when its read was wished for: the
    /// history was replaced.
    pub fn regressed(&self, table: TableId) {
        let _ = self.0.send(Demand::Regressed(table));
    }
}

impl Reads for Wishes {
    fn wish(&self, core: CoreId, topics: Vec<(Subject, u32)>) {
        Self::wish(self, Wish { core, topics });
    }

    fn watch(&self, core: CoreId, table: TableId, watch: Option<Watch>) {
        let _ = self.0.send(Demand::Watch(core, table, watch));
    }

    fn taken(&self, core: CoreId, table: TableId, number: u32) {
        let _ = self.0.send(Demand::Taken(core, table, number));
    }

    fn regressed(&self, table: TableId) {
        Self::regressed(self, table);
    }
}

/// The way to the loader for ingest.
#[derive(Clone, Debug)]
pub struct Loader(UnboundedSender<Demand>);

impl Loader {
    /// Tells what the source said, once all that it had said before is handed on.
    pub fn heard(&self, heard: SourceHeard) {
        let _ = self.0.send(Demand::Heard(heard));
    }

    /// Returns the way for the shards.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        Wishes(self.0.clone())
    }
}

/// The demands on the loader, in their order.
#[derive(Debug)]
pub struct Demands(UnboundedReceiver<Demand>);

impl Demands {
    /// Returns the next demand, or `None` once nobody is left to make one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Demand> {
        self.0.recv().await
    }

    /// Returns the next demand that waits, if any.
    pub fn try_next(&mut self) -> Option<Demand> {
        self.0.try_recv().ok()
    }
}

/// Makes the way to a loader, and its other end.
#[must_use]
pub fn channel() -> (Loader, Demands) {
    // Bounded by the topics of the shards, each of which waits in one wish for each number of its loading, and by the
    // barriers, of which one is under way.
    #[allow(clippy::disallowed_methods)]
    let (sender, receiver) = mpsc::unbounded_channel();
    (Loader(sender), Demands(receiver))
}
