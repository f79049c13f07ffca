//! One shard: the subscriptions of its slice of the products, and what it knows of them: [`Shard`], pure data.
//!
//! A product of which nobody has asked the value costs its subscribers and a version. One that is asked for is loaded,
//! and remembered as long as there is room: every change takes the place of the one before. The rules by which a value
//! counts are in [`super::last`]; here are the maps, the numbers of the wishes, and what happens when the source was
//! away.

mod everything;
mod kept;
mod loads;
mod values;

use std::collections::VecDeque;

use hashbrown::{DefaultHashBuilder, HashMap};

use self::kept::Kept;
use super::ConnectionId;
use super::index::{Closing, CoreSubscribers, Ended, SubscriptionIndex, Topic, shrink};
use super::last::Loading;
use super::memory::Memory;
use super::message::{Pulled, Value};
use crate::model::product::ProductId;
use crate::wire::frame::Frame;

/// The wishes of a shard that the loader may have at once: more than it reads in one go. Further ones wait in the shard,
/// where one that nobody needs any more costs nothing.
const WISHES_MAX: usize = 16 * 1024;

/// The subscriptions and the last values of a shard.
#[derive(Debug)]
pub(super) struct Shard {
    index: SubscriptionIndex,
    /// Empty most of the time: a change looks here only if it is not.
    loadings: HashMap<ProductId, Loading, DefaultHashBuilder>,
    /// The products to wish for, in their order.
    to_wish: VecDeque<ProductId>,
    wishes_max: usize,
    /// The number of wishes that the loader has.
    awaited: usize,
    next_number: u32,
    /// Answers to wishes before this number mean nothing: changes may have been missed since.
    void_before: u32,
    /// True if changes may be missed.
    is_lost: bool,
    /// The products of which changes may have been missed, and that are yet to become loadings.
    to_heal: Vec<ProductId>,
    /// The number of loadings that heal.
    healing: usize,
    memory: Memory,
    /// True if somebody is told of every product.
    is_watched: bool,
    /// True if the rows that the store has are still coming.
    is_listing: bool,
    /// The places among those who wait of connections that are told of every product, and are not subscribed to this
    /// one; as in [`Subscription::waiting`](super::index::Subscription).
    places_of_watchers: HashMap<ConnectionId, HashMap<ProductId, u32>, DefaultHashBuilder>,
    /// The products that are kept for those who are told of every product; for nobody any more if none is.
    kept: Kept,
    /// Those of them that went while rows came, each with the version at which it did.
    gone: Vec<(ProductId, u64)>,
    /// The greatest version that was heard or listed for them.
    newest: u64,
}

/// The outcome of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscribed {
    /// True if the connection was not subscribed before.
    pub(super) is_new: bool,
    /// True if the version that it knows is the newest, as a pull would say.
    pub(super) is_same: bool,
}

/// The results of what a shard did: to be passed on in this order, casts first.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// What all subscribers of a product are to be told.
    pub(super) casts: Vec<(ProductId, u64, Frame)>,
    /// The answers to pulls.
    pub(super) answers: Vec<(ConnectionId, Pulled)>,
    /// Wishes for the loader, with their numbers.
    pub(super) wishes: Vec<(ProductId, u32)>,
    /// True if a row was below the version that was known.
    pub(super) has_regressed: bool,
    /// Values that were forgotten for want of room.
    pub(super) evicted: u64,
}

impl Output {
    /// Returns whether there is nothing to pass on.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { casts, answers, wishes, has_regressed, evicted } = self;
        casts.is_empty() && answers.is_empty() && wishes.is_empty() && !*has_regressed && *evicted == 0
    }

    fn answer(&mut self, connection: ConnectionId, product: ProductId, number: u32, value: Value) {
        self.answers.push((connection, Pulled { product, number, value }));
    }
}

impl Shard {
    /// Returns a shard without subscriptions whose source has not begun, and whose values may take this many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            index: SubscriptionIndex::new(),
            loadings: HashMap::default(),
            to_wish: VecDeque::new(),
            wishes_max: WISHES_MAX,
            awaited: 0,
            next_number: 0,
            void_before: 0,
            is_lost: true,
            to_heal: Vec::new(),
            healing: 0,
            memory: Memory::new(bytes_max),
            is_watched: false,
            is_listing: false,
            places_of_watchers: HashMap::default(),
            kept: Kept::default(),
            gone: Vec::new(),
            newest: 0,
        }
    }

    /// Sets the bytes that the values may take.
    pub(super) fn remember(&mut self, bytes_max: usize) {
        self.memory.set_bytes_max(bytes_max);
    }

    /// Subscribes a connection to a product, of which it knows this version (0: none).
    pub(super) fn subscribe(&mut self, connection: ConnectionId, product: ProductId, known: u64) -> Subscribed {
        let (is_new, topic) = self.index.subscribe_to(connection, product);
        let is_same = !self.is_lost && self.to_heal.is_empty() && topic.last.is_same(known);
        if is_new {
            if is_first(topic) && topic.last.is_held() {
                self.returns(product);
            }
            if let Some(place) = self.take_place_of_watcher(connection, product) {
                self.set_place(connection, product, place);
            }
        }
        Subscribed { is_new, is_same: is_same && !self.heals(product) }
    }

    /// Ends a subscription of a connection, and its pull of the product; returns whether there was one.
    pub(super) fn unsubscribe(&mut self, connection: ConnectionId, product: ProductId, out: &mut Output) -> bool {
        let Some(ended) = self.index.end(connection, product) else { return false };
        if let Some(number) = self.ended(ended) {
            out.answer(connection, product, number, Value::Ended);
        }
        true
    }

    /// Ends up to `max` subscriptions of a connection; see [`SubscriptionIndex::close`]. Its pulls are answered if it has
    /// not gone.
    pub(super) fn close(
        &mut self,
        connection: ConnectionId,
        closing: &mut Closing,
        max: usize,
        out: Option<&mut Output>,
    ) -> usize {
        let mut gone = Vec::new();
        let ended = self.index.close_with(connection, closing, max, |_, ended| {
            if ended.waiting > 0 || ended.was_last {
                gone.push(ended);
            }
        });
        let mut out = out;
        for gone in gone {
            let number = self.ended(gone);
            if let (Some(out), Some(number)) = (&mut out, number) {
                out.answer(connection, gone.product, number, Value::Ended);
            }
        }
        ended
    }

    /// Reads what a subscription to this product changes ([`SubscriptionIndex::fetch`]).
    pub(super) fn fetch(&self, product: ProductId) -> u64 {
        self.index.fetch(product)
    }

    /// Reads the value of a product, in the same way.
    pub(super) fn fetch_value(&self, product: ProductId) -> u64 {
        self.index.fetch_value(product)
    }

    pub(super) fn contains(&self, connection: ConnectionId, product: ProductId) -> bool {
        self.index.contains(connection, product)
    }

    pub(super) fn is_subscribed(&self, connection: ConnectionId) -> bool {
        self.index.is_subscribed(connection)
    }

    /// Returns the subscribers of a product, core by core.
    pub(super) fn subscribers(&self, product: ProductId) -> &[CoreSubscribers] {
        self.index.subscribers(product)
    }

    /// Returns whether every product that has subscribers is known to be as it is, as far as changes have come.
    pub(super) const fn is_healed(&self) -> bool {
        !self.is_lost && self.to_heal.is_empty() && self.healing == 0
    }

    /// Returns whether there are products for [`Shard::heal`].
    pub(super) const fn has_to_heal(&self) -> bool {
        !self.to_heal.is_empty()
    }

    /// Returns the bytes that the values take.
    pub(super) const fn held_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Panics if what is kept is not what its products say; returns their number.
    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        self.index.check();
        let kept = self.kept.after(None, usize::MAX);
        assert_eq!(kept, self.index.kept());
        kept.len()
    }

    #[cfg(test)]
    pub(super) const fn index(&self) -> &SubscriptionIndex {
        &self.index
    }

    /// Returns whether changes of this product may have been missed, and it is being read.
    fn heals(&self, product: ProductId) -> bool {
        self.loadings.get(&product).is_some_and(|loading| loading.heals)
    }

    /// Ends what a subscription that has ended leaves; returns the number of the pull that waited.
    fn ended(&mut self, Ended { product, waiting, was_last }: Ended) -> Option<u32> {
        let number = (waiting > 0).then(|| self.leave(product, waiting));
        if was_last {
            self.idles(product);
        }
        number
    }

    /// Takes a waiter out of its list, and records the new place of the one that moves there. Returns its pull's number.
    fn leave(&mut self, product: ProductId, waiting: u32) -> u32 {
        let loading = self.loadings.get_mut(&product).expect("a product that is waited for is loading");
        let place = waiting as usize - 1;
        let left = loading.waiters.swap_remove(place);
        if let Some(moved) = loading.waiters.get(place) {
            let moved = moved.connection;
            self.set_place(moved, product, waiting);
        }
        self.rest(product);
        left.number
    }

    /// Forgets a loading that nobody needs any more, unless the loader has its wish.
    fn rest(&mut self, product: ProductId) {
        if self.loadings.get(&product).is_some_and(|loading| !loading.is_wanted() && loading.sent.is_none()) {
            self.loadings.remove(&product);
            shrink(&mut self.loadings);
        }
    }
}

/// Returns whether a product has one subscriber.
fn is_first(topic: &Topic) -> bool {
    matches!(topic.subscribers(), [only] if only.keys.len() == 1)
}

#[cfg(test)]
mod tests;
