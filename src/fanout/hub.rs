//! The handle through which everything reaches the shards: [`Hub`].

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Semaphore, mpsc};

use super::CoreId;
use super::message::{Cast, CastPermit, Message};
use crate::model::product::ProductId;

/// The most changes between ingest and the last core that delivers them, counted in units of [`UNIT_BYTES`]: it bounds
/// the cores' inboxes at 16 MiB of frames, beside the commands that their connections have under way.
const CAST_UNITS_MAX: u32 = 4096;
const UNIT_BYTES: usize = 4096;

/// Routes changes to the cores that own their shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inboxes: Vec<UnboundedSender<Message>>,
    shards: usize,
    cast_units: Arc<Semaphore>,
}

/// The receiving end of one core's messages.
#[derive(Debug)]
pub struct Inbox {
    /// The core that takes them.
    pub core: CoreId,
    pub(super) messages: UnboundedReceiver<Message>,
}

impl Hub {
    /// Returns a hub over this many cores and shards, both at least 1, with the inbox of each core.
    #[must_use]
    pub fn new(cores: u16, shards: usize) -> (Self, Vec<Inbox>) {
        assert!(cores > 0 && shards > 0, "there is at least one core and one shard");
        let (inboxes, receivers) = (0..cores)
            .map(|core| {
                // Bounded by the units of casts and by the commands that a connection has under way: a full inbox
                // that waited could stop two cores that send to each other.
                #[allow(clippy::disallowed_methods)]
                let (inbox, messages) = mpsc::unbounded_channel();
                (inbox, Inbox { core: CoreId(core), messages })
            })
            .unzip();
        let cast_units = Arc::new(Semaphore::new(CAST_UNITS_MAX as usize));
        (Self(Arc::new(Inner { inboxes, shards, cast_units })), receivers)
    }

    /// Sends a change to all subscribers of its product; waits while too many changes are under way.
    pub async fn cast(&self, cast: Cast) {
        let units = u32::try_from(1 + cast.frame.len() / UNIT_BYTES).unwrap_or(u32::MAX).min(CAST_UNITS_MAX);
        let units = Arc::clone(&self.0.cast_units).acquire_many_owned(units).await;
        let units = units.expect("the semaphore is never closed");
        let permit = CastPermit { committed_at: cast.committed_at, _units: units };
        self.send(self.core_of(self.shard_of(cast.product)), Message::Cast(cast, permit));
    }

    /// Waits until every change that was cast has been given to its subscribers.
    pub async fn settled(&self) {
        let all = self.0.cast_units.acquire_many(CAST_UNITS_MAX).await;
        drop(all.expect("the semaphore is never closed"));
    }

    /// Returns the number of cores.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.0.inboxes.len()
    }

    /// Returns the number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.0.shards
    }

    /// Returns the shard that owns a product's subscriptions. Multiplying by 2^64 / φ spreads ids that stand in a row
    /// and ids that share a factor (Knuth, The Art of Computer Programming, vol. 3, §6.4).
    pub(super) fn shard_of(&self, product: ProductId) -> usize {
        const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
        let spread = product.get().wrapping_mul(MULTIPLIER) >> 32;
        usize::try_from(spread).expect("32 bits fit") % self.0.shards
    }

    /// Returns the core that owns a shard.
    pub(super) fn core_of(&self, shard: usize) -> CoreId {
        CoreId(u16::try_from(shard % self.cores()).expect("a core's number has 16 bits"))
    }

    /// Sends a message to a core. A core that has ended takes none, and nobody waits for its answers then.
    pub(super) fn send(&self, core: CoreId, message: Message) {
        let _ = self.0.inboxes[usize::from(core.0)].send(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_a_row_and_multiples_spread_over_the_shards() {
        let (hub, _inboxes) = Hub::new(2, 8);
        for factor in [1, 2, 8, 1000, 1 << 20] {
            let mut products_by_shard = [0; 8];
            for number in 0..8000 {
                products_by_shard[hub.shard_of(ProductId::new(number * factor).unwrap())] += 1;
            }
            assert!(products_by_shard.iter().all(|&products| (500..1500).contains(&products)), "{products_by_shard:?}");
        }
    }
}
