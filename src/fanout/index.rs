//! The subscriptions of one shard, by topic and by connection: [`SubscriptionIndex`], pure data. A topic's entry
//! holds its last value too, so that a change looks up both at once.
//!
//! Narrow topics and wide ones stand in halves of their own. Both take 8 bytes of each subscription and of a topic's entry:
//! the integer, or a pointer to the row, which has the wide topic and its key once for all of them.

mod half;

use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use slotmap::Key as _;
use smallvec::SmallVec;

use self::half::{Bounds, Half, HalfTopic, SharedRow};
use super::last::{Forgotten, LastValue};
use super::{ConnectionId, CoreId, SlotKey};
use crate::auth::Coverage;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Topic, WideRow};

/// The subscribers of one topic on one core. The list is shared with messages in flight: cloning it copies a
/// pointer, and changing it while a message holds it copies the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSubscribers {
    /// The core that owns these connections.
    pub core: CoreId,
    /// The connections, in no order; never empty.
    pub keys: Arc<Keys>,
}

/// The connections of one core that subscribe to one topic. A few of them stand in the list itself: most topics
/// have few subscribers, and the cost of a large index is the number of places in memory that a change or a close
/// touches.
pub type Keys = SmallVec<[SlotKey; 4]>;

/// The subscriptions of a shard's slice of the topics. Strangers choose the keys, so the hash has to be one whose
/// collisions they cannot choose with them, as [`SubscriptionIndex::new`] takes; a fixed one is for counting instructions.
#[derive(Debug)]
pub struct SubscriptionIndex<S = DefaultHashBuilder> {
    narrow: Half<u64, S>,
    wide: Half<Topic, S>,
}

/// One topic: its subscribers, core by core, and its last value. It has the one or the other, or is kept.
#[derive(Debug, Default)]
pub(super) struct TopicEntry {
    cores: SmallVec<[CoreSubscribers; 1]>,
    pub(super) last: LastValue,
}

/// A subscription that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended<R = Subject> {
    /// Its row, as a half has it or as a subject.
    pub(super) row: R,
    /// The connection's place among those who waited for the topic's value, counted from 1; 0: it did not wait.
    pub(super) waiting: u32,
    /// True if the topic has no subscribers any more.
    pub(super) was_last: bool,
    /// What was known of the topic if its entry went with its last subscriber.
    pub(super) forgotten: Forgotten,
}

impl<R> Ended<R> {
    fn with_subject<T: HalfTopic<Row = R>>(self) -> Ended {
        let Self { row, waiting, was_last, forgotten } = self;
        Ended { row: T::subject(row), waiting, was_last, forgotten }
    }
}

impl TopicEntry {
    /// Returns the subscribers, core by core.
    pub(super) fn subscribers(&self) -> &[CoreSubscribers] {
        &self.cores
    }

    /// Reads the places in memory that a subscription to each of these changes. In a large index none of them is in the
    /// processor's caches, and it fetches those of several topics at once where the way to one leads over no other: all are
    /// gone to step by step.
    pub(super) fn fetch_subscribers(entries: &[&Self]) {
        let cores = || entries.iter().flat_map(|entry| entry.subscribers());
        black_box(cores().fold(0, |sum, core| sum ^ core.keys.len()));
        black_box(cores().fold(0, |sum, core| sum ^ core.keys.last().map_or(0, |key| key.data().as_ffi())));
    }

    /// Reads the places in memory of their values, in the same way.
    pub(super) fn fetch_values(entries: &[&Self]) {
        let held = || entries.iter().filter_map(|entry| entry.last.held_frame());
        black_box(held().fold(0, |sum, frame| sum ^ frame.len()));
        black_box(held().fold(0, |sum, frame| sum ^ frame.fetch()));
    }

    /// Returns whether somebody is told of its changes.
    pub(super) fn is_wanted(&self) -> bool {
        !self.cores.is_empty() || self.last.is_kept()
    }
}

/// The progress of the close of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// The place of the connection's narrow subscriptions before which all are done; `None` once all are.
    narrow: Option<usize>,
    /// Likewise of the wide ones.
    wide: Option<usize>,
}

impl Closing {
    /// Returns whether all is ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.narrow.is_none() && self.wide.is_none()
    }
}

impl Default for Closing {
    fn default() -> Self {
        Self { narrow: Some(0), wide: Some(0) }
    }
}

impl SubscriptionIndex {
    /// Returns an index without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: Default> Default for SubscriptionIndex<S> {
    fn default() -> Self {
        Self { narrow: Half::default(), wide: Half::default() }
    }
}

impl<S: BuildHasher + Default> SubscriptionIndex<S> {
    /// Subscribes a connection to a topic; returns whether it was not subscribed before.
    pub fn subscribe(&mut self, connection: ConnectionId, subject: &Subject) -> bool {
        self.subscribe_to(connection, subject).0
    }

    /// Does the same, and returns the topic's entry too.
    pub(super) fn subscribe_to(&mut self, connection: ConnectionId, subject: &Subject) -> (bool, &mut TopicEntry) {
        match subject {
            Subject::Narrow(topic) => self.narrow.subscribe_to(connection, *topic),
            Subject::Wide(row) => self.subscribe_to_wide(connection, row),
        }
    }

    /// Apart, so that the subscription to an integer does not save the registers that this one needs.
    #[inline(never)]
    fn subscribe_to_wide(&mut self, connection: ConnectionId, row: &Arc<WideRow>) -> (bool, &mut TopicEntry) {
        self.wide.subscribe_to(connection, SharedRow(Arc::clone(row)))
    }

    /// Ends one subscription of a connection; returns whether there was one.
    pub fn unsubscribe(&mut self, connection: ConnectionId, topic: Topic) -> bool {
        match topic.narrow() {
            Some(topic) => self.narrow.end(connection, topic).is_some(),
            None => self.wide.end(connection, topic).is_some(),
        }
    }

    /// Ends one subscription of a connection, if there is one.
    pub(super) fn end(&mut self, connection: ConnectionId, topic: Topic) -> Option<Ended> {
        match topic.narrow() {
            Some(topic) => self.narrow.end(connection, topic).map(Ended::with_subject::<u64>),
            None => self.wide.end(connection, topic).map(Ended::with_subject::<Topic>),
        }
    }

    /// Ends up to `max` subscriptions of a connection that is gone; returns their number. To be called until the close
    /// [is done](Closing::is_done), with the same `closing` and no subscription in between.
    pub fn close(&mut self, connection: ConnectionId, closing: &mut Closing, max: usize) -> usize {
        let (narrow, _) = self.narrow.close_with(connection, |_| true, &mut closing.narrow, Bounds::ends(max), |_| {});
        if closing.narrow.is_some() {
            return narrow;
        }
        let bounds = Bounds::ends(max - narrow);
        narrow + self.wide.close_with(connection, |_| true, &mut closing.wide, bounds, |_| {}).0
    }

    /// Does the same, for the rows of one table or for all, and tells of each subscription that it ended, when it is ended.
    pub(super) fn close_with(
        &mut self,
        connection: ConnectionId,
        table: Option<TableId>,
        closing: &mut Closing,
        max: usize,
        mut on_end: impl FnMut(Ended),
    ) -> usize {
        let is_to_end = |topic: Topic| table.is_none_or(|table| topic.table() == table);
        let (narrow, _) = self.narrow.close_with(
            connection,
            |topic| is_to_end(Topic::of_narrow(*topic)),
            &mut closing.narrow,
            Bounds::ends(max),
            |ended| on_end(ended.with_subject::<u64>()),
        );
        if closing.narrow.is_some() {
            return narrow;
        }
        let on_end = |ended: Ended<SharedRow>| on_end(ended.with_subject::<Topic>());
        let is_to_end = |row: &SharedRow| is_to_end(row.0.topic);
        narrow + self.wide.close_with(connection, is_to_end, &mut closing.wide, Bounds::ends(max - narrow), on_end).0
    }

    /// Does the same for the rows that `coverage` does not have, as far as the cost may be `max`; returns the cost.
    pub(super) fn revoke_with(
        &mut self,
        connection: ConnectionId,
        coverage: &mut Coverage<'_>,
        closing: &mut Closing,
        max: usize,
        mut on_end: impl FnMut(Ended),
    ) -> usize {
        let (_, narrow) = self.narrow.close_with(
            connection,
            |topic| !coverage.covers_row(Topic::of_narrow(*topic), None),
            &mut closing.narrow,
            Bounds::looks(max),
            |ended| on_end(ended.with_subject::<u64>()),
        );
        if closing.narrow.is_some() {
            return narrow;
        }
        let on_end = |ended: Ended<SharedRow>| on_end(ended.with_subject::<Topic>());
        let is_to_end = |row: &SharedRow| !coverage.covers_row(row.0.topic, Some(&row.0));
        let bounds = Bounds::looks(max.saturating_sub(narrow));
        narrow + self.wide.close_with(connection, is_to_end, &mut closing.wide, bounds, on_end).1
    }

    /// Returns whether this connection is subscribed to this topic.
    #[must_use]
    pub fn contains(&self, connection: ConnectionId, topic: Topic) -> bool {
        match topic.narrow() {
            Some(topic) => self.narrow.contains(connection, topic),
            None => self.wide.contains(connection, topic),
        }
    }

    /// Returns whether this connection is subscribed to anything.
    #[must_use]
    pub fn is_subscribed(&self, connection: ConnectionId) -> bool {
        self.narrow.is_subscribed(connection) || self.wide.is_subscribed(connection)
    }

    /// Returns the subscribers of a topic, core by core: one look-up, and nothing more if there are none.
    #[must_use]
    pub fn subscribers(&self, topic: Topic) -> &[CoreSubscribers] {
        match topic.narrow() {
            Some(topic) => self.narrow.subscribers(topic),
            None => self.wide.subscribers(topic),
        }
    }

    /// Returns a topic that has a subscriber or a value, to be read.
    pub(super) fn entry(&self, topic: Topic) -> Option<&TopicEntry> {
        match topic.narrow() {
            Some(topic) => self.narrow.entry(topic),
            None => self.wide.entry(topic),
        }
    }

    /// Returns a topic that has a subscriber or a value.
    pub(super) fn entry_of(&mut self, topic: Topic) -> Option<&mut TopicEntry> {
        match topic.narrow() {
            Some(topic) => self.narrow.entry_of(topic),
            None => self.wide.entry_of(topic),
        }
    }

    /// Returns a topic that has an entry as a subject.
    ///
    /// # Panics
    /// If it is wide and has none.
    pub(super) fn subject(&self, topic: Topic) -> Subject {
        let row = topic.narrow().is_none().then(|| self.wide.row_of(topic)).flatten();
        Subject::new(topic, row.map(|row| &row.0))
    }

    /// Returns all topics that have a subscriber or a value.
    pub(super) fn topics(&self) -> impl Iterator<Item = Topic> {
        self.narrow.topics().chain(self.wide.topics())
    }

    /// Returns a subject's entry, which it has from here on.
    pub(super) fn entry_or_new(&mut self, subject: &Subject) -> &mut TopicEntry {
        match subject {
            Subject::Narrow(topic) => self.narrow.entry_or_new(*topic),
            Subject::Wide(row) => self.wide.entry_or_new(SharedRow(Arc::clone(row))),
        }
    }

    /// Forgets a topic of which nobody is told.
    pub(super) fn forget(&mut self, topic: Topic) {
        match topic.narrow() {
            Some(topic) => self.narrow.forget(topic),
            None => self.wide.forget(topic),
        }
    }

    /// Returns the place of a subscribed connection among those who wait for the topic's value, counted from 1; 0: it does
    /// not wait.
    pub(super) fn waiting(&mut self, connection: ConnectionId, topic: Topic) -> Option<&mut u32> {
        match topic.narrow() {
            Some(topic) => self.narrow.waiting(connection, topic),
            None => self.wide.waiting(connection, topic),
        }
    }

    /// Returns the number of topics that have a subscriber or a value.
    #[must_use]
    pub fn topics_len(&self) -> usize {
        self.narrow.topics_len() + self.wide.topics_len()
    }

    /// Returns the number of connections that have a subscription; one that has both narrow and wide ones counts twice.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.narrow.connections_len() + self.wide.connections_len()
    }

    /// Returns the topics that are kept though they may have no subscribers, in their order.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Vec<Topic> {
        let mut kept: Vec<Topic> = self.narrow.kept().chain(self.wide.kept()).collect();
        kept.sort_unstable();
        kept
    }

    /// Panics if the maps of a half disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.narrow.check();
        self.wide.check();
    }
}

/// The topics whose places in memory are fetched together.
pub(super) const FETCHED_AT_ONCE: usize = 16;

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
mod tests;
