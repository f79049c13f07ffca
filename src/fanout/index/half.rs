//! One of the two halves of an index: the subscriptions to topics of one size ([`Half`]), pure data.
//!
//! Two maps say the same from both sides. Each subscription knows its position in the other side's list, so that
//! adding and removing one costs the same whatever the number of topics, of subscribers, or of other connections.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable, hash_table};
use slotmap::Key as _;

use super::{CoreSubscribers, Ended, TopicEntry, is_nearly_empty, shrink};
use crate::fanout::ConnectionId;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Topic, WideRow};

/// The form in which a half has its topics.
pub(super) trait HalfTopic: Copy + Debug + Eq + Hash {
    /// The row, where the topic does not give its key back.
    type Row: Debug;

    fn topic(self) -> Topic;
    fn subject(self, key: &Self::Row) -> Subject;
}

/// A narrow topic.
impl HalfTopic for u64 {
    type Row = ();

    fn topic(self) -> Topic {
        Topic::of_narrow(self)
    }

    fn subject(self, (): &()) -> Subject {
        Subject::Narrow(self)
    }
}

/// A wide one.
impl HalfTopic for Topic {
    type Row = Arc<WideRow>;

    fn topic(self) -> Topic {
        self
    }

    fn subject(self, row: &Arc<WideRow>) -> Subject {
        Subject::Wide(Arc::clone(row))
    }
}

#[derive(Debug)]
pub(super) struct Half<T: HalfTopic, S> {
    connections_by_topic: HashMap<T, Named<T::Row>, S>,
    topics_by_connection: HashMap<ConnectionId, Subscriptions<T>, S>,
    /// The subscriptions that a close is ending.
    ending: Vec<Subscription<T>>,
}

/// A topic's entry, with its row where that is wide.
#[derive(Debug)]
pub(super) struct Named<R> {
    pub(super) entry: TopicEntry,
    pub(super) row: R,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(u64, Named<()>)>() <= 48, "a last value adds 16 bytes to a subscribed topic");
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(Topic, Named<Arc<WideRow>>)>() <= 64, "a wide topic adds itself and its key");

/// The subscriptions of one connection, by the hash of the topic.
type Subscriptions<T> = HashTable<Subscription<T>>;

/// A topic, with the connection's position in its core's list of that topic's subscribers.
#[derive(Clone, Copy, Debug)]
struct Subscription<T> {
    topic: T,
    position: u32,
    /// The connection's place among those who wait for the topic's value, counted from 1; 0: it does not wait.
    waiting: u32,
}

const _: () = assert!(size_of::<Subscription<u64>>() == 16, "the place of who waits stands in room that was there");
const _: () = assert!(size_of::<Subscription<Topic>>() == 24, "a wide topic adds 8 bytes");

impl<T: HalfTopic, S: Default> Default for Half<T, S> {
    fn default() -> Self {
        Self { connections_by_topic: HashMap::default(), topics_by_connection: HashMap::default(), ending: Vec::new() }
    }
}

impl<T: HalfTopic, S: BuildHasher + Default> Half<T, S> {
    /// Subscribes a connection to a topic; returns whether it was not subscribed before, and the topic's entry.
    pub(super) fn subscribe_to(
        &mut self,
        connection: ConnectionId,
        topic: T,
        row: impl FnOnce() -> T::Row,
    ) -> (bool, &mut TopicEntry) {
        let hasher = self.connections_by_topic.hasher();
        let topics = self.topics_by_connection.entry(connection).or_default();
        let hash_table::Entry::Vacant(subscription) = topics.entry(
            hasher.hash_one(topic),
            |subscription| subscription.topic == topic,
            |subscription| hasher.hash_one(subscription.topic),
        ) else {
            let named = self.connections_by_topic.get_mut(&topic);
            return (false, &mut named.expect("a subscribed topic is in both maps").entry);
        };
        let named = self.connections_by_topic.entry(topic);
        let entry = &mut named.or_insert_with(|| Named { entry: TopicEntry::default(), row: row() }).entry;
        let cores = &mut entry.cores;
        let index = cores.iter().position(|subscribers| subscribers.core == connection.core).unwrap_or_else(|| {
            cores.push(CoreSubscribers { core: connection.core, keys: Arc::default() });
            cores.len() - 1
        });
        let keys = Arc::make_mut(&mut cores[index].keys);
        let position = u32::try_from(keys.len()).expect("fewer than 2^32 connections on a core");
        subscription.insert(Subscription { topic, position, waiting: 0 });
        keys.push(connection.key);
        (true, entry)
    }

    /// Ends one subscription of a connection, if there is one.
    pub(super) fn end(&mut self, connection: ConnectionId, topic: T) -> Option<Ended> {
        let hasher = self.connections_by_topic.hasher();
        let topics = self.topics_by_connection.get_mut(&connection)?;
        let is_it = |subscription: &Subscription<T>| subscription.topic == topic;
        let entry = topics.find_entry(hasher.hash_one(topic), is_it).ok()?;
        let (subscription, _) = entry.remove();
        if topics.is_empty() {
            self.topics_by_connection.remove(&connection);
        } else if is_nearly_empty(topics.len(), topics.capacity()) {
            topics.shrink_to(2 * topics.len(), |subscription| hasher.hash_one(subscription.topic));
        }
        let ended = self.forget_subscriber(connection, subscription);
        // A check now and then is enough, and costs nothing that could be measured.
        if self.connections_by_topic.len().is_multiple_of(256) {
            self.give_room_back();
        }
        Some(ended)
    }

    /// Ends up to `max` subscriptions of a connection, to rows of one table or to all, from this place of its subscriptions
    /// on, and tells of each; returns their number.
    pub(super) fn close_with(
        &mut self,
        connection: ConnectionId,
        table: Option<TableId>,
        place: &mut Option<usize>,
        max: usize,
        mut on_end: impl FnMut(Ended),
    ) -> usize {
        let Some(topics) = self.topics_by_connection.get_mut(&connection) else {
            *place = None;
            return 0;
        };
        let Some(first) = *place else { return 0 };
        let mut ending = std::mem::take(&mut self.ending);
        // Places without a subscription that ends cost little, but not nothing.
        let last = topics.num_buckets().min(first.saturating_add(max.saturating_mul(PLACES_PER_END)));
        let mut at = first;
        while ending.len() < max && at < last {
            if let Ok(entry) = topics.get_bucket_entry(at)
                && table.is_none_or(|table| entry.get().topic.topic().table() == table)
            {
                ending.push(entry.remove().0);
            }
            at += 1;
        }
        *place = (at < topics.num_buckets() && !topics.is_empty()).then_some(at);
        if topics.is_empty() {
            self.topics_by_connection.remove(&connection);
        }
        let ended = ending.len();
        for subscription in ending.drain(..) {
            let gone = self.forget_subscriber(connection, subscription);
            on_end(gone);
        }
        if ending.capacity() <= ENDING_KEPT {
            self.ending = ending;
        }
        self.give_room_back();
        ended
    }

    /// Returns whether this connection is subscribed to this topic.
    pub(super) fn contains(&self, connection: ConnectionId, topic: T) -> bool {
        self.topics_by_connection
            .get(&connection)
            .is_some_and(|topics| topics.find(self.hash(topic), |it| it.topic == topic).is_some())
    }

    /// Returns whether this connection is subscribed to anything.
    pub(super) fn is_subscribed(&self, connection: ConnectionId) -> bool {
        self.topics_by_connection.contains_key(&connection)
    }

    /// Returns the subscribers of a topic, core by core: one look-up, and nothing more if there are none.
    pub(super) fn subscribers(&self, topic: T) -> &[CoreSubscribers] {
        self.connections_by_topic.get(&topic).map_or(&[], |named| named.entry.subscribers())
    }

    /// Reads the places in memory that the subscription of a connection to this topic changes. In a large index none of
    /// them is in the processor's caches, and it fetches those of several topics at once if nothing is done with one
    /// before the next is read.
    pub(super) fn fetch(&self, topic: T) -> u64 {
        let cores = self.subscribers(topic).iter();
        cores.map(|subscribers| subscribers.keys.last().map_or(0, |key| key.data().as_ffi())).sum()
    }

    /// Reads the places in memory of a topic's value, in the same way.
    pub(super) fn fetch_value(&self, topic: T) -> u64 {
        self.connections_by_topic.get(&topic).map_or(0, |named| named.entry.last.fetch())
    }

    /// Returns a topic that has a subscriber or a value.
    pub(super) fn entry_of(&mut self, topic: T) -> Option<&mut TopicEntry> {
        Some(&mut self.connections_by_topic.get_mut(&topic)?.entry)
    }

    /// Returns the row of a topic that has an entry.
    pub(super) fn row_of(&self, topic: T) -> Option<&T::Row> {
        Some(&self.connections_by_topic.get(&topic)?.row)
    }

    /// Returns all topics that have a subscriber or a value.
    pub(super) fn topics(&self) -> impl Iterator<Item = Topic> {
        self.connections_by_topic.keys().map(|topic| topic.topic())
    }

    /// Returns a topic's entry, which it has from here on.
    pub(super) fn entry_or_new(&mut self, topic: T, row: impl FnOnce() -> T::Row) -> &mut TopicEntry {
        let named = self.connections_by_topic.entry(topic);
        &mut named.or_insert_with(|| Named { entry: TopicEntry::default(), row: row() }).entry
    }

    /// Forgets a topic of which nobody is told.
    pub(super) fn forget(&mut self, topic: T) {
        let entry = self.connections_by_topic.remove(&topic);
        debug_assert!(entry.is_none_or(|named| !named.entry.is_wanted()), "nobody is told of it");
        // As at the end of a subscription.
        if self.connections_by_topic.len().is_multiple_of(256) {
            self.give_room_back();
        }
    }

    /// Returns the place of a subscribed connection among those who wait for the topic's value, counted from 1; 0: it does
    /// not wait.
    pub(super) fn waiting(&mut self, connection: ConnectionId, topic: T) -> Option<&mut u32> {
        let hash = self.hash(topic);
        Some(&mut self.topics_by_connection.get_mut(&connection)?.find_mut(hash, |it| it.topic == topic)?.waiting)
    }

    /// Returns the number of topics that have a subscriber or a value.
    pub(super) fn topics_len(&self) -> usize {
        self.connections_by_topic.len()
    }

    /// Returns the number of connections that have a subscription.
    pub(super) fn connections_len(&self) -> usize {
        self.topics_by_connection.len()
    }

    /// Makes the maps smaller if they are nearly empty, so that the room for a flood of subscriptions is not kept. It
    /// happens after most of the entries have gone, so that each removal pays a part of it.
    fn give_room_back(&mut self) {
        shrink(&mut self.connections_by_topic);
        shrink(&mut self.topics_by_connection);
    }

    fn hash(&self, topic: T) -> u64 {
        self.connections_by_topic.hasher().hash_one(topic)
    }

    /// Takes a subscriber out of its list, and records the new position of the one that moves there.
    fn forget_subscriber(&mut self, connection: ConnectionId, subscription: Subscription<T>) -> Ended {
        let Subscription { topic, position, waiting } = subscription;
        let hash = self.hash(topic);
        let Entry::Occupied(mut entry) = self.connections_by_topic.entry(topic) else {
            unreachable!("a subscribed topic is in both maps");
        };
        let Named { entry: TopicEntry { cores, last }, row } = entry.get_mut();
        let subject = topic.subject(row);
        let index = cores
            .iter()
            .position(|subscribers| subscribers.core == connection.core)
            .expect("a subscribed connection's core is in the topic's list");
        let keys = Arc::make_mut(&mut cores[index].keys);
        let forgotten = keys.swap_remove(position as usize);
        debug_assert_eq!(forgotten, connection.key, "both maps name the same place");
        if let Some(&key) = keys.get(position as usize) {
            let moved = ConnectionId { core: connection.core, key };
            self.topics_by_connection
                .get_mut(&moved)
                .and_then(|topics| topics.find_mut(hash, |subscription| subscription.topic == topic))
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
        Ended { subject, waiting, was_last }
    }

    /// Returns the topics that are kept though they may have no subscribers.
    #[cfg(test)]
    pub(super) fn kept(&self) -> impl Iterator<Item = Topic> {
        let kept = self.connections_by_topic.iter().filter(|(_, named)| named.entry.last.is_kept());
        kept.map(|(topic, _)| topic.topic())
    }

    /// Returns the topics and the connections for which its maps have room.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        (self.connections_by_topic.capacity(), self.topics_by_connection.capacity())
    }

    /// Panics if the two maps disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut listed = 0;
        for (&topic, Named { entry: TopicEntry { cores, last }, row }) in &self.connections_by_topic {
            assert_eq!(topic.subject(row).topic(), topic.topic());
            assert!(!cores.is_empty() || last.is_held() || last.is_kept());
            for subscribers in cores {
                assert!(!subscribers.keys.is_empty());
                listed += subscribers.keys.len();
                for (&key, position) in subscribers.keys.iter().zip(0u32..) {
                    let connection = ConnectionId { core: subscribers.core, key };
                    let topics = &self.topics_by_connection[&connection];
                    let found = topics.find(self.hash(topic), |it| it.topic == topic);
                    assert_eq!(found.map(|subscription| subscription.position), Some(position));
                }
            }
        }
        assert!(self.topics_by_connection.values().all(|topics| !topics.is_empty()));
        assert_eq!(listed, self.topics_by_connection.values().map(HashTable::len).sum::<usize>());
    }
}

/// The most places that are looked at for each subscription that may be ended.
const PLACES_PER_END: usize = 64;

/// The most subscriptions ended at once whose room is kept for the next close.
const ENDING_KEPT: usize = 1024;
