//! The messages between ingest and the cores, and from core to core.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use super::index::Closing;
use super::{ConnectionId, Keys, SlotKey};
use crate::model::product::ProductId;
use crate::wire::frame::{Frame, FrameRun};

/// One change, encoded, for all subscribers of its product.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The product that changed.
    pub product: ProductId,
    /// The version of the change.
    pub version: u64,
    /// The change as subscribers get it.
    pub frame: Frame,
    /// The time at which this process learned that the change is committed.
    pub committed_at: Instant,
}

/// Changes of one product as subscribers are given them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastRun {
    /// The product that changed.
    pub product: ProductId,
    /// The frame and the version of each change, oldest first.
    pub frames: FrameRun,
}

impl CastRun {
    /// Returns the version of each change, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[u64] {
        self.frames.versions()
    }
}

/// The action of a command on each of its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Subscribe to it.
    Subscribe,
    /// End the subscription to it.
    Unsubscribe,
    /// Only count whether it is subscribed to.
    Count,
}

/// A connection's request to the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its number: the answer carries it, and no other command of the connection that is under way has it.
    pub number: u32,
    /// The action on each product.
    pub operation: Operation,
    /// The products; one that is repeated counts once where it makes a difference.
    pub products: Vec<ProductId>,
}

/// A change's right to be under way between ingest and the last core that delivers it; dropping it gives its units
/// back.
#[derive(Debug)]
pub(super) struct CastPermit {
    pub(super) committed_at: Instant,
    pub(super) _units: OwnedSemaphorePermit,
}

/// A run on its way to its subscribers, with the permits of its changes.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) run: CastRun,
    pub(super) permits: SmallVec<[CastPermit; 1]>,
}

/// The work that a core's shards are still to do for a connection.
#[derive(Debug)]
pub(super) enum Job {
    /// A command, from its `next` product on; `changed` is how many products before that were new, ended or counted
    /// here.
    Command { command: Command, next: usize, changed: usize },
    /// The end of all its subscriptions, from this shard of the core on.
    Close { shard: usize, closing: Closing },
}

impl Job {
    pub(super) const fn command(command: Command) -> Self {
        Self::Command { command, next: 0, changed: 0 }
    }

    pub(super) fn close() -> Self {
        Self::Close { shard: 0, closing: Closing::default() }
    }
}

/// A job for the shards of another core.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) connection: ConnectionId,
    pub(super) job: Job,
}

/// The result of a command's part: the number of its products that were new, ended or counted.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) key: SlotKey,
    pub(super) number: u32,
    pub(super) products: usize,
}

/// A message in a core's inbox.
#[derive(Debug)]
pub(super) enum Message {
    /// To the core of the product's shard: find the subscribers.
    Cast(Cast, CastPermit),
    /// To a core with subscribers: deliver.
    Deliver(Arc<Delivery>, Arc<Keys>),
    /// To a core with shards of the products, from the connections' core; each connection's orders in their order.
    Orders(Vec<Order>),
    /// To the connections' core.
    Answers(Vec<Answer>),
    /// To the core itself: some work waits for its next turn.
    Turn,
}
