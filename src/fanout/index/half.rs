//! One of the two halves of an index: the subscriptions to topics of one size ([`Half`]), pure data.
//!
//! Two maps say the same from both sides. Each subscription knows its position in the other side's list, so that
//! adding and removing one costs the same whatever the number of topics, of subscribers, or of other connections.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::hash_map::EntryRef;
use hashbrown::{Equivalent, HashMap, HashTable, hash_table};

use super::{CoreSubscribers, Ended, TopicEntry, is_nearly_empty, shrink};
use crate::fanout::ConnectionId;
use crate::fanout::last::Forgotten;
use crate::model::topic::{Subject, Topic, WideRow};

/// The form in which a half looks for its topics.
pub(super) trait HalfTopic: Copy + Debug + Eq + Hash + Equivalent<Self::Row> {
    /// The form in which it keeps them: 8 bytes that give the topic and its key.
    type Row: Clone + Debug + Eq + Hash;

    fn of(row: &Self::Row) -> Self;
    fn topic(self) -> Topic;
    fn subject(row: Self::Row) -> Subject;
    /// Returns the row that stands for all with its topic: that of the entries, if they have one, or else this one.
    fn shared<V, S: BuildHasher>(row: Self::Row, entries: &HashMap<Self::Row, V, S>) -> Self::Row;
}

/// A narrow topic.
impl HalfTopic for u64 {
    type Row = Self;

    fn of(row: &Self) -> Self {
        *row
    }

    fn topic(self) -> Topic {
        Topic::of_narrow(self)
    }

    fn subject(row: Self) -> Subject {
        Subject::Narrow(row)
    }

    fn shared<V, S: BuildHasher>(row: Self, _entries: &HashMap<Self, V, S>) -> Self {
        row
    }
}

/// A wide one.
impl HalfTopic for Topic {
    type Row = SharedRow;

    fn of(row: &SharedRow) -> Self {
        row.0.topic
    }

    fn topic(self) -> Topic {
        self
    }

    fn subject(row: SharedRow) -> Subject {
        Subject::Wide(row.0)
    }

    fn shared<V, S: BuildHasher>(row: SharedRow, entries: &HashMap<SharedRow, V, S>) -> SharedRow {
        entries.get_key_value(&row.0.topic).map_or(row, |(shared, _)| shared.clone())
    }
}

/// The row of a wide topic: one for all of its subscriptions, so that its key stands in the half once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SharedRow(pub(super) Arc<WideRow>);

/// As its topic.
impl Hash for SharedRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic.hash(state);
    }
}

impl Equivalent<SharedRow> for Topic {
    fn equivalent(&self, row: &SharedRow) -> bool {
        *self == row.0.topic
    }
}

#[derive(Debug)]
pub(super) struct Half<T: HalfTopic, S> {
    entries_by_row: HashMap<T::Row, TopicEntry, S>,
    topics_by_connection: HashMap<ConnectionId, Subscriptions<T>, S>,
    /// The subscriptions that a close is ending.
    ending: Vec<Subscription<T>>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(u64, TopicEntry)>() <= 48, "a last value adds 16 bytes to a subscribed topic");
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(SharedRow, TopicEntry)>() <= 48, "a wide topic adds its row alone");

/// The subscriptions of one connection, by the hash of the topic.
type Subscriptions<T> = HashTable<Subscription<T>>;

/// A topic, with the connection's position in its core's list of that topic's subscribers.
#[derive(Debug)]
struct Subscription<T: HalfTopic> {
    row: T::Row,
    position: u32,
    /// The connection's place among those who wait for the topic's value, counted from 1; 0: it does not wait.
    waiting: u32,
}

const _: () = assert!(size_of::<Subscription<u64>>() == 16, "the place of who waits stands in room that was there");
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Subscription<Topic>>() == 16, "a wide topic adds nothing");

impl<T: HalfTopic> Subscription<T> {
    fn is_of(&self, topic: T) -> bool {
        topic.equivalent(&self.row)
    }
}

impl<T: HalfTopic, S: Default> Default for Half<T, S> {
    fn default() -> Self {
        Self { entries_by_row: HashMap::default(), topics_by_connection: HashMap::default(), ending: Vec::new() }
    }
}

impl<T: HalfTopic, S: BuildHasher + Default> Half<T, S> {
    /// Subscribes a connection to a topic; returns whether it was not subscribed before, and the topic's entry.
    pub(super) fn subscribe_to(&mut self, connection: ConnectionId, row: T::Row) -> (bool, &mut TopicEntry) {
        let topic = T::of(&row);
        let hasher = self.entries_by_row.hasher();
        let topics = self.topics_by_connection.entry(connection).or_default();
        let hash_table::Entry::Vacant(subscription) = topics.entry(
            hasher.hash_one(topic),
            |subscription| subscription.is_of(topic),
            |subscription| hasher.hash_one(&subscription.row),
        ) else {
            let entry = self.entries_by_row.get_mut(&topic);
            return (false, entry.expect("a subscribed topic is in both maps"));
        };
        let row = T::shared(row, &self.entries_by_row);
        let entry = self.entries_by_row.entry(row.clone()).or_default();
        let cores = &mut entry.cores;
        let index = cores.iter().position(|subscribers| subscribers.core == connection.core).unwrap_or_else(|| {
            cores.push(CoreSubscribers { core: connection.core, keys: Arc::default() });
            cores.len() - 1
        });
        let keys = Arc::make_mut(&mut cores[index].keys);
        let position = u32::try_from(keys.len()).expect("fewer than 2^32 connections on a core");
        subscription.insert(Subscription { row, position, waiting: 0 });
        keys.push(connection.key);
        (true, entry)
    }

    /// Ends one subscription of a connection, if there is one.
    pub(super) fn end(&mut self, connection: ConnectionId, topic: T) -> Option<Ended<T::Row>> {
        let hasher = self.entries_by_row.hasher();
        let topics = self.topics_by_connection.get_mut(&connection)?;
        let is_it = |subscription: &Subscription<T>| subscription.is_of(topic);
        let entry = topics.find_entry(hasher.hash_one(topic), is_it).ok()?;
        let (subscription, _) = entry.remove();
        if topics.is_empty() {
            self.topics_by_connection.remove(&connection);
        } else if is_nearly_empty(topics.len(), topics.capacity()) {
            topics.shrink_to(2 * topics.len(), |subscription| hasher.hash_one(&subscription.row));
        }
        let ended = self.forget_subscriber(connection, subscription);
        // A check now and then is enough, and costs nothing that could be measured.
        if self.entries_by_row.len().is_multiple_of(256) {
            self.give_room_back();
        }
        Some(ended)
    }

    /// Ends those subscriptions of a connection whose topics are to be ended, from this place of its subscriptions on and
    /// within these bounds, and tells of each; returns their number, and the cost of the places that it looked at.
    pub(super) fn close_with(
        &mut self,
        connection: ConnectionId,
        mut is_to_end: impl FnMut(&T::Row) -> bool,
        place: &mut Option<usize>,
        bounds: Bounds,
        mut on_end: impl FnMut(Ended<T::Row>),
    ) -> (usize, usize) {
        let Some(topics) = self.topics_by_connection.get_mut(&connection) else {
            *place = None;
            return (0, 0);
        };
        let Some(first) = *place else { return (0, 0) };
        let mut ending = std::mem::take(&mut self.ending);
        let last = topics.num_buckets().min(first.saturating_add(bounds.places()));
        let mut at = first;
        while ending.len() < bounds.ends && at < last {
            if let Ok(entry) = topics.get_bucket_entry(at)
                && is_to_end(&entry.get().row)
            {
                ending.push(entry.remove().0);
            }
            at += 1;
        }
        *place = (at < topics.num_buckets() && !topics.is_empty()).then_some(at);
        if topics.is_empty() {
            self.topics_by_connection.remove(&connection);
        } else if place.is_none() && is_nearly_empty(topics.len(), topics.capacity()) {
            let hasher = self.entries_by_row.hasher();
            topics.shrink_to(2 * topics.len(), |subscription| hasher.hash_one(&subscription.row));
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
        (ended, ended.max((at - first).div_ceil(bounds.places_per_end)))
    }

    /// Returns whether this connection is subscribed to this topic.
    pub(super) fn contains(&self, connection: ConnectionId, topic: T) -> bool {
        self.topics_by_connection
            .get(&connection)
            .is_some_and(|topics| topics.find(self.hash(topic), |it| it.is_of(topic)).is_some())
    }

    /// Returns whether this connection is subscribed to anything.
    pub(super) fn is_subscribed(&self, connection: ConnectionId) -> bool {
        self.topics_by_connection.contains_key(&connection)
    }

    /// Returns the subscribers of a topic, core by core: one look-up, and nothing more if there are none.
    pub(super) fn subscribers(&self, topic: T) -> &[CoreSubscribers] {
        self.entry(topic).map_or(&[], TopicEntry::subscribers)
    }

    /// Returns a topic that has a subscriber or a value, to be read.
    pub(super) fn entry(&self, topic: T) -> Option<&TopicEntry> {
        self.entries_by_row.get(&topic)
    }

    /// Returns a topic that has a subscriber or a value.
    pub(super) fn entry_of(&mut self, topic: T) -> Option<&mut TopicEntry> {
        self.entries_by_row.get_mut(&topic)
    }

    /// Returns the row of a topic that has an entry.
    pub(super) fn row_of(&self, topic: T) -> Option<&T::Row> {
        Some(self.entries_by_row.get_key_value(&topic)?.0)
    }

    /// Returns all topics that have a subscriber or a value.
    pub(super) fn topics(&self) -> impl Iterator<Item = Topic> {
        self.entries_by_row.keys().map(|row| T::of(row).topic())
    }

    /// Returns a topic's entry, which it has from here on.
    pub(super) fn entry_or_new(&mut self, row: T::Row) -> &mut TopicEntry {
        self.entries_by_row.entry(row).or_default()
    }

    /// Forgets a topic of which nobody is told.
    pub(super) fn forget(&mut self, topic: T) {
        let entry = self.entries_by_row.remove(&topic);
        debug_assert!(entry.is_none_or(|entry| !entry.is_wanted()), "nobody is told of it");
        // As at the end of a subscription.
        if self.entries_by_row.len().is_multiple_of(256) {
            self.give_room_back();
        }
    }

    /// Returns the place of a subscribed connection among those who wait for the topic's value, counted from 1; 0: it does
    /// not wait.
    pub(super) fn waiting(&mut self, connection: ConnectionId, topic: T) -> Option<&mut u32> {
        let hash = self.hash(topic);
        Some(&mut self.topics_by_connection.get_mut(&connection)?.find_mut(hash, |it| it.is_of(topic))?.waiting)
    }

    /// Returns the number of topics that have a subscriber or a value.
    pub(super) fn topics_len(&self) -> usize {
        self.entries_by_row.len()
    }

    /// Returns the number of connections that have a subscription.
    pub(super) fn connections_len(&self) -> usize {
        self.topics_by_connection.len()
    }

    /// Makes the maps smaller if they are nearly empty, so that the room for a flood of subscriptions is not kept. It
    /// happens after most of the entries have gone, so that each removal pays a part of it.
    fn give_room_back(&mut self) {
        shrink(&mut self.entries_by_row);
        shrink(&mut self.topics_by_connection);
    }

    fn hash(&self, topic: T) -> u64 {
        self.entries_by_row.hasher().hash_one(topic)
    }

    /// Takes a subscriber out of its list, and records the new position of the one that moves there.
    fn forget_subscriber(&mut self, connection: ConnectionId, subscription: Subscription<T>) -> Ended<T::Row> {
        let Subscription { row, position, waiting } = subscription;
        let topic = T::of(&row);
        let hash = self.hash(topic);
        let EntryRef::Occupied(mut entry) = self.entries_by_row.entry_ref(&topic) else {
            unreachable!("a subscribed topic is in both maps");
        };
        let TopicEntry { cores, last } = entry.get_mut();
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
                .and_then(|topics| topics.find_mut(hash, |subscription| subscription.is_of(topic)))
                .expect("every listed subscriber is in both maps")
                .position = position;
        }
        let (mut was_last, mut forgotten) = (false, Forgotten::default());
        if keys.is_empty() {
            cores.swap_remove(index);
            was_last = cores.is_empty();
            if was_last && !last.is_held() && !last.is_kept() {
                forgotten = last.forgotten();
                entry.remove();
            }
        } else if keys.capacity() > 64 && keys.len() < keys.capacity() / 4 {
            keys.shrink_to_fit();
        }
        Ended { row, waiting, was_last, forgotten }
    }

    /// Returns the topics that are kept though they may have no subscribers.
    #[cfg(test)]
    pub(super) fn kept(&self) -> impl Iterator<Item = Topic> {
        let kept = self.entries_by_row.iter().filter(|(_, entry)| entry.last.is_kept());
        kept.map(|(row, _)| T::of(row).topic())
    }

    /// Returns the topics and the connections for which its maps have room.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        (self.entries_by_row.capacity(), self.topics_by_connection.capacity())
    }

    /// Returns the bytes of its tables.
    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        let topics: usize = self.topics_by_connection.values().map(HashTable::allocation_size).sum();
        self.entries_by_row.allocation_size() + self.topics_by_connection.allocation_size() + topics
    }

    /// Panics if the two maps disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut listed = 0;
        for (row, TopicEntry { cores, last }) in &self.entries_by_row {
            let topic = T::of(row);
            assert_eq!(T::subject(row.clone()).topic(), topic.topic());
            assert!(!cores.is_empty() || last.is_held() || last.is_kept());
            for subscribers in cores {
                assert!(!subscribers.keys.is_empty());
                listed += subscribers.keys.len();
                for (&key, position) in subscribers.keys.iter().zip(0u32..) {
                    let connection = ConnectionId { core: subscribers.core, key };
                    let topics = &self.topics_by_connection[&connection];
                    let found = topics.find(self.hash(topic), |it| it.is_of(topic));
                    assert_eq!(found.map(|subscription| subscription.position), Some(position));
                }
            }
        }
        assert!(self.topics_by_connection.values().all(|topics| !topics.is_empty()));
        assert_eq!(listed, self.topics_by_connection.values().map(HashTable::len).sum::<usize>());
    }
}

/// The most that one step of a close does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The subscriptions that it ends.
    ends: usize,
    /// The places that cost as much as one of them: those without a subscription that ends cost little, but not nothing.
    places_per_end: usize,
}

impl Bounds {
    /// Returns those of a close that ends nearly all, or looks at the table alone.
    pub(super) const fn ends(ends: usize) -> Self {
        Self { ends, places_per_end: 64 }
    }

    /// Returns those of one that looks at the key of each.
    pub(super) const fn looks(cost: usize) -> Self {
        Self { ends: cost, places_per_end: 4 }
    }

    const fn places(self) -> usize {
        self.ends.saturating_mul(self.places_per_end)
    }
}

/// The most subscriptions ended at once whose room is kept for the next close.
const ENDING_KEPT: usize = 1024;
