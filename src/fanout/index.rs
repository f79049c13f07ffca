//! The subscriptions of one shard, by product and by connection: [`SubscriptionIndex`], pure data. A product's entry
//! holds its last value too, so that a change looks up both at once.
//!
//! Two maps say the same from both sides. Each subscription knows its position in the other side's list, so that
//! adding and removing one costs the same whatever the number of products, of subscribers, or of other connections.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable, hash_table};
use slotmap::Key;
use smallvec::SmallVec;

use super::last::LastValue;
use super::{ConnectionId, CoreId, SlotKey};
use crate::model::product::ProductId;

/// The subscribers of one product on one core. The list is shared with messages in flight: cloning it copies a
/// pointer, and changing it while a message holds it copies the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSubscribers {
    /// The core that owns these connections.
    pub core: CoreId,
    /// The connections, in no order; never empty.
    pub keys: Arc<Keys>,
}

/// The connections of one core that subscribe to one product. A few of them stand in the list itself: most products
/// have few subscribers, and the cost of a large index is the number of places in memory that a change or a close
/// touches.
pub type Keys = SmallVec<[SlotKey; 4]>;

/// The subscriptions of a shard's slice of the products. Strangers choose the product IDs, so the hash has to be one
/// whose collisions they cannot choose with them, as [`SubscriptionIndex::new`] takes; a fixed one is for counting
/// instructions.
#[derive(Debug, Default)]
pub struct SubscriptionIndex<S = DefaultHashBuilder> {
    connections_by_product: HashMap<ProductId, Topic, S>,
    products_by_connection: HashMap<ConnectionId, Subscriptions, S>,
    /// The subscriptions that a close is ending.
    ending: Vec<Subscription>,
}

/// One product: its subscribers, core by core, and its last value. It has the one or the other, or is kept.
#[derive(Debug, Default)]
pub(super) struct Topic {
    cores: SmallVec<[CoreSubscribers; 1]>,
    pub(super) last: LastValue,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(ProductId, Topic)>() <= 48, "a last value adds 16 bytes to a subscribed product");

/// The subscriptions of one connection, by the hash of the product.
type Subscriptions = HashTable<Subscription>;

/// A product, with the connection's position in its core's list of that product's subscribers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    product: ProductId,
    position: u32,
    /// The connection's place among those who wait for the product's value, counted from 1; 0: it does not wait.
    pub(super) waiting: u32,
}

const _: () = assert!(size_of::<Subscription>() == 16, "the place of who waits stands in room that was there");

/// A subscription that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) product: ProductId,
    /// As in [`Subscription::waiting`].
    pub(super) waiting: u32,
    /// True if nobody is told of the product any more.
    pub(super) was_last: bool,
}

impl Topic {
    /// Returns the subscribers, core by core.
    pub(super) fn subscribers(&self) -> &[CoreSubscribers] {
        &self.cores
    }

    /// Returns whether somebody is told of its changes.
    pub(super) fn is_wanted(&self) -> bool {
        !self.cores.is_empty() || self.last.is_kept()
    }
}

/// The progress of the close of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closing {
    /// Every place of the connection's table before this one is empty.
    place: usize,
}

impl SubscriptionIndex {
    /// Returns an index without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: BuildHasher + Default> SubscriptionIndex<S> {
    /// Subscribes a connection to a product; returns whether it was not subscribed before.
    pub fn subscribe(&mut self, connection: ConnectionId, product: ProductId) -> bool {
        self.subscribe_to(connection, product).0
    }

    /// Does the same, and returns the product's entry too.
    pub(super) fn subscribe_to(&mut self, connection: ConnectionId, product: ProductId) -> (bool, &mut Topic) {
        let hasher = self.connections_by_product.hasher();
        let products = self.products_by_connection.entry(connection).or_default();
        let hash_table::Entry::Vacant(subscription) = products.entry(
            hasher.hash_one(product),
            |subscription| subscription.product == product,
            |subscription| hasher.hash_one(subscription.product),
        ) else {
            let topic = self.connections_by_product.get_mut(&product);
            return (false, topic.expect("a subscribed product is in both maps"));
        };
        let topic = self.connections_by_product.entry(product).or_default();
        let cores = &mut topic.cores;
        let index = cores.iter().position(|subscribers| subscribers.core == connection.core).unwrap_or_else(|| {
            cores.push(CoreSubscribers { core: connection.core, keys: Arc::default() });
            cores.len() - 1
        });
        let keys = Arc::make_mut(&mut cores[index].keys);
        let position = u32::try_from(keys.len()).expect("fewer than 2^32 connections on a core");
        subscription.insert(Subscription { product, position, waiting: 0 });
        keys.push(connection.key);
        (true, topic)
    }

    /// Ends one subscription of a connection; returns whether there was one.
    pub fn unsubscribe(&mut self, connection: ConnectionId, product: ProductId) -> bool {
        self.end(connection, product).is_some()
    }

    /// Ends one subscription of a connection, if there is one.
    pub(super) fn end(&mut self, connection: ConnectionId, product: ProductId) -> Option<Ended> {
        let hasher = self.connections_by_product.hasher();
        let products = self.products_by_connection.get_mut(&connection)?;
        let is_it = |subscription: &Subscription| subscription.product == product;
        let entry = products.find_entry(hasher.hash_one(product), is_it).ok()?;
        let (subscription, _) = entry.remove();
        if products.is_empty() {
            self.products_by_connection.remove(&connection);
        } else if is_nearly_empty(products.len(), products.capacity()) {
            products.shrink_to(2 * products.len(), |subscription| hasher.hash_one(subscription.product));
        }
        let ended = self.forget_subscriber(connection, subscription);
        // A check now and then is enough, and costs nothing that could be measured.
        if self.connections_by_product.len().is_multiple_of(256) {
            self.give_room_back();
        }
        Some(ended)
    }

    /// Ends up to `max` subscriptions of a connection that is gone; returns their number. To be called until the
    /// connection [is subscribed](Self::is_subscribed) to nothing, with the same `closing` and no subscription in
    /// between.
    pub fn close(&mut self, connection: ConnectionId, closing: &mut Closing, max: usize) -> usize {
        self.close_with(connection, closing, max, |_, _| {})
    }

    /// Does the same, and tells of each subscription that it ended, when it is ended.
    pub(super) fn close_with(
        &mut self,
        connection: ConnectionId,
        closing: &mut Closing,
        max: usize,
        mut on_end: impl FnMut(&mut Self, Ended),
    ) -> usize {
        let Some(products) = self.products_by_connection.get_mut(&connection) else { return 0 };
        let mut ending = std::mem::take(&mut self.ending);
        while ending.len() < max && closing.place < products.num_buckets() {
            if let Ok(entry) = products.get_bucket_entry(closing.place) {
                ending.push(entry.remove().0);
            }
            closing.place += 1;
        }
        if products.is_empty() {
            self.products_by_connection.remove(&connection);
        }
        let ended = ending.len();
        for subscription in ending.drain(..) {
            let gone = self.forget_subscriber(connection, subscription);
            on_end(self, gone);
        }
        if ending.capacity() <= ENDING_KEPT {
            self.ending = ending;
        }
        self.give_room_back();
        ended
    }

    /// Returns whether this connection is subscribed to this product.
    #[must_use]
    pub fn contains(&self, connection: ConnectionId, product: ProductId) -> bool {
        self.products_by_connection
            .get(&connection)
            .is_some_and(|products| products.find(self.hash(product), |it| it.product == product).is_some())
    }

    /// Returns whether this connection is subscribed to anything.
    #[must_use]
    pub fn is_subscribed(&self, connection: ConnectionId) -> bool {
        self.products_by_connection.contains_key(&connection)
    }

    /// Returns the subscribers of a product, core by core: one look-up, and nothing more if there are none.
    #[must_use]
    pub fn subscribers(&self, product: ProductId) -> &[CoreSubscribers] {
        self.connections_by_product.get(&product).map_or(&[], Topic::subscribers)
    }

    /// Reads the places in memory that the subscription of a connection to this product changes. In a large index none of
    /// them is in the processor's caches, and it fetches those of several products at once if nothing is done with one
    /// before the next is read.
    pub(super) fn fetch(&self, product: ProductId) -> u64 {
        let cores = self.subscribers(product).iter();
        cores.map(|subscribers| subscribers.keys.last().map_or(0, |key| key.data().as_ffi())).sum()
    }

    /// Reads the places in memory of a product's value, in the same way.
    pub(super) fn fetch_value(&self, product: ProductId) -> u64 {
        self.connections_by_product.get(&product).map_or(0, |topic| topic.last.fetch())
    }

    /// Returns a product that has a subscriber or a value.
    pub(super) fn topic(&mut self, product: ProductId) -> Option<&mut Topic> {
        self.connections_by_product.get_mut(&product)
    }

    /// Returns all products that have a subscriber or a value.
    pub(super) fn topics(&mut self) -> impl Iterator<Item = (ProductId, &mut Topic)> {
        self.connections_by_product.iter_mut().map(|(&product, topic)| (product, topic))
    }

    /// Returns a product, which has an entry from here on.
    pub(super) fn topic_or_new(&mut self, product: ProductId) -> &mut Topic {
        self.connections_by_product.entry(product).or_default()
    }

    /// Forgets a product of which nobody is told.
    pub(super) fn forget(&mut self, product: ProductId) {
        let topic = self.connections_by_product.remove(&product);
        debug_assert!(topic.is_none_or(|topic| !topic.is_wanted()), "nobody is told of it");
        // As at the end of a subscription.
        if self.connections_by_product.len().is_multiple_of(256) {
            self.give_room_back();
        }
    }

    /// Returns one subscription of a connection, if there is one.
    pub(super) fn subscription(&mut self, connection: ConnectionId, product: ProductId) -> Option<&mut Subscription> {
        let hash = self.hash(product);
        self.products_by_connection.get_mut(&connection)?.find_mut(hash, |it| it.product == product)
    }

    /// Returns the number of products that have a subscriber or a value.
    #[must_use]
    pub fn products_len(&self) -> usize {
        self.connections_by_product.len()
    }

    /// Returns the number of connections that have a subscription.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.products_by_connection.len()
    }

    /// Makes the maps smaller if they are nearly empty, so that the room for a flood of subscriptions is not kept. It
    /// happens after most of the entries have gone, so that each removal pays a part of it.
    fn give_room_back(&mut self) {
        shrink(&mut self.connections_by_product);
        shrink(&mut self.products_by_connection);
    }

    fn hash(&self, product: ProductId) -> u64 {
        self.connections_by_product.hasher().hash_one(product)
    }

    /// Takes a subscriber out of its list, and records the new position of the one that moves there.
    fn forget_subscriber(&mut self, connection: ConnectionId, subscription: Subscription) -> Ended {
        let Subscription { product, position, waiting } = subscription;
        let hash = self.hash(product);
        let Entry::Occupied(mut entry) = self.connections_by_product.entry(product) else {
            unreachable!("a subscribed product is in both maps");
        };
        let Topic { cores, last } = entry.get_mut();
        let index = cores
            .iter()
            .position(|subscribers| subscribers.core == connection.core)
            .expect("a subscribed connection's core is in the product's list");
        let keys = Arc::make_mut(&mut cores[index].keys);
        let forgotten = keys.swap_remove(position as usize);
        debug_assert_eq!(forgotten, connection.key, "both maps name the same place");
        if let Some(&key) = keys.get(position as usize) {
            let moved = ConnectionId { core: connection.core, key };
            self.products_by_connection
                .get_mut(&moved)
                .and_then(|products| products.find_mut(hash, |subscription| subscription.product == product))
                .expect("every listed subscriber is in both maps")
                .position = position;
        }
        let mut was_last = false;
        if keys.is_empty() {
            cores.swap_remove(index);
            was_last = cores.is_empty() && !last.is_kept();
            if was_last && !last.is_held() {
                entry.remove();
            }
        } else if keys.capacity() > 64 && keys.len() < keys.capacity() / 4 {
            keys.shrink_to_fit();
        }
        Ended { product, waiting, was_last }
    }

    /// Returns the products that are kept though they may have no subscribers, by rising ids.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Vec<ProductId> {
        let kept = self.connections_by_product.iter().filter(|(_, topic)| topic.last.is_kept());
        let mut kept: Vec<ProductId> = kept.map(|(&product, _)| product).collect();
        kept.sort_unstable();
        kept
    }

    /// Panics if the two maps disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut listed = 0;
        for (&product, Topic { cores, last }) in &self.connections_by_product {
            assert!(!cores.is_empty() || last.is_held() || last.is_kept());
            for subscribers in cores {
                assert!(!subscribers.keys.is_empty());
                listed += subscribers.keys.len();
                for (&key, position) in subscribers.keys.iter().zip(0u32..) {
                    let connection = ConnectionId { core: subscribers.core, key };
                    let products = &self.products_by_connection[&connection];
                    let found = products.find(self.hash(product), |it| it.product == product);
                    assert_eq!(found.map(|subscription| subscription.position), Some(position));
                }
            }
        }
        assert!(self.products_by_connection.values().all(|products| !products.is_empty()));
        assert_eq!(listed, self.products_by_connection.values().map(HashTable::len).sum::<usize>());
    }
}

/// The products whose places in memory are fetched together.
pub(super) const FETCHED_AT_ONCE: usize = 16;

/// The most subscriptions ended at once whose room is kept for the next close.
const ENDING_KEPT: usize = 1024;

/// Makes a map smaller if it is nearly empty.
pub(super) fn shrink<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if is_nearly_empty(map.len(), map.capacity()) {
        map.shrink_to(2 * map.len());
    }
}

const fn is_nearly_empty(len: usize, capacity: usize) -> bool {
    const KEPT: usize = 1024;
    capacity > KEPT && len < capacity / 8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use slotmap::KeyData;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(u8, u64),
        Unsubscribe(u8, u64),
        /// The end of a connection, so many subscriptions at a time.
        Close(u8, usize),
        /// A message in flight takes the lists of a product.
        Hold(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let connection = 0u8..12;
        let product = 0u64..8;
        let step = prop_oneof![
            5 => (connection.clone(), product.clone()).prop_map(|(c, p)| Step::Subscribe(c, p)),
            3 => (connection.clone(), product.clone()).prop_map(|(c, p)| Step::Unsubscribe(c, p)),
            1 => (connection, 1..4usize).prop_map(|(c, max)| Step::Close(c, max)),
            1 => product.prop_map(Step::Hold),
        ];
        proptest::collection::vec(step, 0..200)
    }

    /// Returns a connection of one of three cores, in one of two generations of its slot.
    fn connection(number: u8) -> ConnectionId {
        let key = key(u32::from(number / 6), u32::from(number % 2));
        ConnectionId { core: CoreId(u16::from(number % 6 / 2)), key }
    }

    /// Returns the key of the slot's connection after so many others.
    fn key(slot: u32, others: u32) -> SlotKey {
        KeyData::from_ffi(u64::from(others * 2 + 1) << 32 | u64::from(slot)).into()
    }

    /// Closes a connection, so many subscriptions at a time; returns the number of them.
    fn close(index: &mut SubscriptionIndex, connection: ConnectionId, max: usize) -> usize {
        let (mut closing, mut ended) = (Closing::default(), 0);
        while index.is_subscribed(connection) {
            let more = index.close(connection, &mut closing, max);
            assert!((1..=max).contains(&more), "{more} of at most {max} ended");
            ended += more;
        }
        ended
    }

    fn product(number: u64) -> ProductId {
        ProductId::new(number).unwrap()
    }

    fn named(index: &SubscriptionIndex, number: u64) -> BTreeSet<(CoreId, SlotKey)> {
        let lists = index.subscribers(product(number)).iter();
        lists.flat_map(|list| list.keys.iter().map(|&key| (list.core, key))).collect()
    }

    proptest! {
        #[test]
        fn it_does_what_a_set_of_pairs_does(steps in steps()) {
            let mut index = SubscriptionIndex::new();
            let mut model: BTreeSet<(u8, u64)> = BTreeSet::new();
            let mut held = Vec::new();
            for step in steps {
                match step {
                    Step::Subscribe(c, p) => {
                        prop_assert_eq!(index.subscribe(connection(c), product(p)), model.insert((c, p)));
                    }
                    Step::Unsubscribe(c, p) => {
                        prop_assert_eq!(index.unsubscribe(connection(c), product(p)), model.remove(&(c, p)));
                    }
                    Step::Close(c, max) => {
                        let before = model.len();
                        model.retain(|&(other, _)| other != c);
                        let mut closing = Closing::default();
                        let first = index.close(connection(c), &mut closing, max);
                        index.check();
                        prop_assert_eq!(first + close(&mut index, connection(c), max), before - model.len());
                    }
                    Step::Hold(p) => {
                        let lists = index.subscribers(product(p)).to_vec();
                        let copy: Vec<_> = lists.iter().map(|list| (list.core, list.keys.to_vec())).collect();
                        held.push((lists, copy));
                    }
                }
                index.check();
                for p in 0..8 {
                    let expected: BTreeSet<_> = model
                        .iter()
                        .filter(|&&(_, other)| other == p)
                        .map(|&(c, _)| connection(c))
                        .map(|c| (c.core, c.key))
                        .collect();
                    prop_assert_eq!(named(&index, p), expected);
                }
            }
            for (lists, copy) in held {
                let kept: Vec<_> = lists.iter().map(|list| (list.core, list.keys.to_vec())).collect();
                prop_assert_eq!(kept, copy, "a list in flight changed");
            }
            for c in 0..12 {
                close(&mut index, connection(c), usize::MAX);
            }
            prop_assert_eq!((index.products_len(), index.connections_len()), (0, 0));
        }
    }

    #[test]
    fn a_flood_of_subscriptions_leaves_no_room_behind() {
        let mut index = SubscriptionIndex::new();
        let ids = 100..50_000;
        for number in (0..50).chain(ids.clone()) {
            index.subscribe(connection(0), product(number));
            index.subscribe(connection(1), product(number % 50));
        }
        for number in ids {
            index.unsubscribe(connection(0), product(number));
        }
        assert!(index.connections_by_product.capacity() < 8192, "{}", index.connections_by_product.capacity());
        close(&mut index, connection(0), usize::MAX);
        index.check();
        assert_eq!((index.products_len(), index.connections_len()), (50, 1));
        for slot in 0..50_000 {
            index.subscribe(ConnectionId { core: CoreId(7), key: key(slot, 0) }, product(1));
        }
        for slot in 0..50_000 {
            close(&mut index, ConnectionId { core: CoreId(7), key: key(slot, 0) }, 10);
        }
        assert!(index.products_by_connection.capacity() < 8192, "{}", index.products_by_connection.capacity());
        index.check();
    }
}
