//! One shard: the subscriptions of its slice of the topics, and what it knows of them: [`Shard`], pure data.
//!
//! A topic of which nobody has asked the value costs its subscribers and a version. One that is asked for is loaded,
//! and remembered as long as there is room: every change takes the place of the one before. The rules by which a value
//! counts are in [`super::last`]; here are the maps, the numbers of the wishes, and what happens when the source was
//! away.

mod everything;
mod kept;
mod loads;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hashbrown::{DefaultHashBuilder, HashMap};

use self::everything::WatchedTable;
use super::ConnectionId;
use super::index::{Closing, CoreSubscribers, Ended, SubscriptionIndex, TopicEntry, shrink};
use super::last::Loading;
use super::memory::Memory;
use super::message::{Pulled, Value};
use crate::auth::Coverage;
use crate::model::table::{TableId, Tables};
use crate::model::topic::{Subject, Subjects, Topic};
use crate::wire::frame::Frame;

/// The wishes of a shard that the loader may have at once: more than it reads in one go. Further ones wait in the shard,
/// where one that nobody needs any more costs nothing.
const WISHES_MAX: usize = 16 * 1024;

/// The subscriptions and the last values of a shard.
#[derive(Debug)]
pub(super) struct Shard {
    index: SubscriptionIndex,
    tables: Tables,
    /// Empty most of the time: a change looks here only if it is not.
    loadings: HashMap<Topic, Loading, DefaultHashBuilder>,
    /// The topics to wish for, in their order.
    to_wish: VecDeque<Topic>,
    wishes_max: usize,
    /// The number of wishes that the loader has.
    awaited: usize,
    next_number: u32,
    /// Answers to wishes before this number mean nothing: changes may have been missed since.
    void_before: u32,
    /// True if changes may be missed.
    is_lost: bool,
    /// The tables of which changes may be missed; empty most of the time.
    lost_tables: Vec<TableId>,
    /// The topics of which changes may have been missed, and that are yet to become loadings.
    to_heal: Vec<Topic>,
    /// The number of loadings that heal.
    healing: usize,
    memory: Memory,
    /// The places among those who wait of connections that are told of every topic, and are not subscribed to this
    /// one; as in [`Subscription::waiting`](super::index::Subscription).
    places_of_watchers: HashMap<ConnectionId, HashMap<Topic, u32>, DefaultHashBuilder>,
    /// The tables of which rows are kept for those who are told of every row; empty most of the time.
    watched: HashMap<TableId, WatchedTable, DefaultHashBuilder>,
    /// The number of the rows that all shards of the process keep.
    rows_kept: Arc<AtomicUsize>,
}

/// The outcome of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscribed {
    /// True if the connection was not subscribed before.
    pub(super) is_new: bool,
    /// True if the version that it knows is the newest, as a pull would say.
    pub(super) is_same: bool,
}

/// The newest of the changes of one topic that come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    /// True if it is more than the topic's id.
    pub(super) is_whole: bool,
    /// True if the topic is gone.
    pub(super) is_deletion: bool,
}

/// A row that was read, or its absence, as all subscribers of the topic are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) subject: Subject,
    pub(super) version: u64,
    pub(super) frame: Frame,
    pub(super) is_absence: bool,
}

/// The results of what a shard did: to be passed on in this order, casts first.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// What all subscribers of a topic are to be told.
    pub(super) casts: Vec<Read>,
    /// The answers to pulls.
    pub(super) answers: Vec<(ConnectionId, Pulled)>,
    /// Wishes for the loader, with their numbers.
    pub(super) wishes: Vec<(Subject, u32)>,
    /// The table of a row that was below the version that was known.
    pub(super) regressed: Option<TableId>,
    /// Values that were forgotten for want of room.
    pub(super) evicted: u64,
}

impl Output {
    /// Returns whether there is nothing to pass on.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { casts, answers, wishes, regressed, evicted } = self;
        casts.is_empty() && answers.is_empty() && wishes.is_empty() && regressed.is_none() && *evicted == 0
    }

    fn answer(&mut self, connection: ConnectionId, subject: Subject, number: u32, value: Value) {
        self.answers.push((connection, Pulled { subject, number, value }));
    }
}

impl Shard {
    /// Returns a shard without subscriptions whose source has not begun, and whose values may take this many bytes.
    pub(super) fn new(bytes_max: usize, tables: Tables) -> Self {
        Self {
            index: SubscriptionIndex::new(),
            tables,
            loadings: HashMap::default(),
            to_wish: VecDeque::new(),
            wishes_max: WISHES_MAX,
            awaited: 0,
            next_number: 0,
            void_before: 0,
            is_lost: true,
            lost_tables: Vec::new(),
            to_heal: Vec::new(),
            healing: 0,
            memory: Memory::new(bytes_max),
            places_of_watchers: HashMap::default(),
            watched: HashMap::default(),
            rows_kept: Arc::default(),
        }
    }

    /// Sets the bytes that the values may take.
    pub(super) fn remember(&mut self, bytes_max: usize) {
        self.memory.set_bytes_max(bytes_max);
    }

    /// Subscribes a connection to a topic, of which it knows this version (0: none).
    pub(super) fn subscribe(&mut self, connection: ConnectionId, subject: &Subject, known: u64) -> Subscribed {
        let topic = subject.topic();
        let (is_new, entry) = self.index.subscribe_to(connection, subject);
        let is_same = !self.is_lost && self.to_heal.is_empty() && entry.last.is_same(known);
        if is_new {
            if is_first(entry) && entry.last.is_held() {
                self.returns(topic);
            }
            if let Some(place) = self.take_place_of_watcher(connection, topic) {
                self.set_place(connection, topic, place);
            }
        }
        Subscribed { is_new, is_same: is_same && !self.heals(topic) && !self.is_table_lost(topic.table()) }
    }

    /// Ends a subscription of a connection, and its pull of the topic; returns whether there was one.
    pub(super) fn unsubscribe(&mut self, connection: ConnectionId, topic: Topic, out: &mut Output) -> bool {
        let Some(ended) = self.index.end(connection, topic) else { return false };
        if let Some(number) = self.ended(&ended) {
            out.answer(connection, ended.row, number, Value::Ended);
        }
        true
    }

    /// Ends up to `max` subscriptions of a connection, to rows of one table or to all; see [`SubscriptionIndex::close`]. Its
    /// pulls are answered if it has not gone.
    pub(super) fn close(
        &mut self,
        connection: ConnectionId,
        table: Option<TableId>,
        closing: &mut Closing,
        max: usize,
        out: Option<&mut Output>,
    ) -> usize {
        let mut gone = Vec::new();
        let ended = self.index.close_with(connection, table, closing, max, |ended| {
            if ended.waiting > 0 || ended.was_last {
                gone.push(ended);
            }
        });
        self.all_ended(connection, gone, out);
        ended
    }

    /// Ends subscriptions of a connection whose rows `coverage` does not have, as far as the cost may be `max`, and adds
    /// the rows to `revoked`; returns the cost. See [`SubscriptionIndex::close`].
    pub(super) fn revoke(
        &mut self,
        connection: ConnectionId,
        coverage: &mut Coverage<'_>,
        closing: &mut Closing,
        max: usize,
        out: &mut Output,
        revoked: &mut Subjects,
    ) -> usize {
        let mut gone = Vec::new();
        let cost = self.index.revoke_with(connection, coverage, closing, max, |ended| {
            revoked.push(ended.row.clone());
            if ended.waiting > 0 || ended.was_last {
                gone.push(ended);
            }
        });
        self.all_ended(connection, gone, Some(out));
        cost
    }

    /// Ends what these subscriptions leave, and answers the pulls that waited if the connection has not gone.
    fn all_ended(&mut self, connection: ConnectionId, gone: Vec<Ended>, mut out: Option<&mut Output>) {
        for gone in gone {
            let number = self.ended(&gone);
            if let (Some(out), Some(number)) = (&mut out, number) {
                out.answer(connection, gone.row, number, Value::Ended);
            }
        }
    }

    /// Returns a topic that has a subscriber or a value, to be read.
    pub(super) fn entry(&self, topic: Topic) -> Option<&TopicEntry> {
        self.index.entry(topic)
    }

    pub(super) fn contains(&self, connection: ConnectionId, topic: Topic) -> bool {
        self.index.contains(connection, topic)
    }

    /// Returns the subscribers of a topic, core by core.
    pub(super) fn subscribers(&self, topic: Topic) -> &[CoreSubscribers] {
        self.index.subscribers(topic)
    }

    /// Returns whether every topic that has subscribers is known to be as it is, as far as changes have come.
    pub(super) const fn is_healed(&self) -> bool {
        !self.is_lost && self.to_heal.is_empty() && self.healing == 0
    }

    /// Returns whether there are topics for [`Shard::heal`].
    pub(super) const fn has_to_heal(&self) -> bool {
        !self.to_heal.is_empty()
    }

    /// Returns the bytes that the values take.
    pub(super) const fn held_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Panics if what is kept is not what its topics say; returns their number.
    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        self.index.check();
        let mut kept: Vec<Topic> =
            self.watched.values().flat_map(|watched| watched.kept.after(None, usize::MAX)).collect();
        kept.sort_unstable();
        assert_eq!(kept, self.index.kept());
        kept.len()
    }

    #[cfg(test)]
    pub(super) const fn index(&self) -> &SubscriptionIndex {
        &self.index
    }

    /// Returns whether changes of this table may be missed, while those of others may not.
    fn is_table_lost(&self, table: TableId) -> bool {
        !self.lost_tables.is_empty() && self.lost_tables.contains(&table)
    }

    /// Returns whether changes of this topic may have been missed, and it is being read.
    fn heals(&self, topic: Topic) -> bool {
        self.loadings.get(&topic).is_some_and(|loading| loading.heals)
    }

    /// Ends what a subscription that has ended leaves; returns the number of the pull that waited.
    fn ended(&mut self, &Ended { row: ref subject, waiting, was_last, forgotten }: &Ended) -> Option<u32> {
        let topic = subject.topic();
        let number = (waiting > 0).then(|| self.leave(topic, waiting));
        if was_last && (self.watched.is_empty() || !self.stays(subject, forgotten)) {
            self.idles(topic);
        }
        number
    }

    /// Takes a waiter out of its list, and records the new place of the one that moves there. Returns its pull's number.
    fn leave(&mut self, topic: Topic, waiting: u32) -> u32 {
        let loading = self.loadings.get_mut(&topic).expect("a topic that is waited for is loading");
        let place = waiting as usize - 1;
        let left = loading.waiters.swap_remove(place);
        if let Some(moved) = loading.waiters.get(place) {
            let moved = moved.connection;
            self.set_place(moved, topic, waiting);
        }
        self.rest(topic);
        left.number
    }

    /// Forgets a loading that nobody needs any more, unless the loader has its wish.
    fn rest(&mut self, topic: Topic) {
        if self.loadings.get(&topic).is_some_and(|loading| !loading.is_wanted() && loading.sent.is_none()) {
            self.loadings.remove(&topic);
            shrink(&mut self.loadings);
        }
    }
}

/// Returns whether a topic has one subscriber.
fn is_first(entry: &TopicEntry) -> bool {
    matches!(entry.subscribers(), [only] if only.keys.len() == 1)
}

#[cfg(test)]
mod tests;
