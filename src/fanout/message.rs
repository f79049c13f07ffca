//! What goes between ingest and the cores, and from core to core.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use super::{ConnectionId, Keys, Operation, SlotKey};
use crate::model::product::ProductId;
use crate::wire::frame::{Frame, FrameRun};

/// One change, encoded, for everybody who subscribed to its product.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The product that changed.
    pub product: ProductId,
    /// The version of the change.
    pub version: u64,
    /// The change as subscribers get it.
    pub frame: Frame,
    /// When this process learned that the change is committed.
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
    /// The version of each change, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[u64] {
        self.frames.versions()
    }
}

/// A change's right to be under way between ingest and the last core that delivers it; dropping it gives its units back.
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

/// What reaches a core's inbox.
#[derive(Debug)]
pub(super) enum Message {
    /// To the core of the product's shard: find the subscribers.
    Cast(Cast, CastPermit),
    /// To a core with subscribers: deliver.
    Deliver(Arc<Delivery>, Arc<Keys>),
    /// To a core with shards of these products, from the connection's core.
    Command(ConnectionId, Operation, Vec<ProductId>),
    /// The answer: how many products the command changed or counted there.
    Applied(SlotKey, usize),
    /// To every other core: this connection is gone.
    Close(ConnectionId),
}
