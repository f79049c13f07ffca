//! The connections that subscribe to every row of a table: [`Everything`]. Each core has all of them, for its own shards.
//!
//! While there are any, the shards keep the version of every row that the store has of that table, so that what differs can be told
//! after changes may have been missed. A connection that comes is told that it is subscribed once its core has them.
//!
//! Who lists the topics asks for one page after the other, as it gets on, and has only its place: each page is what the
//! shard keeps then. What comes and goes elsewhere is told as a change, since a member is told of each.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;

use super::super::message::{Command, Listed, Listing, Operation, Order, Page, PageWish, Place, Refused};
use super::super::shard::Shard;
use super::super::{ConnectionId, CoreId, CoreSubscribers, Keys, SlotKey};
use super::Job;
use super::commands::{JOB_COST, signed};
use super::{Core, Subscriber, Watch};
use crate::model::table::TableId;
use crate::model::topic::{Subjects, Topic};

/// The cost of a topic of a listing.
const LISTED_COST: usize = 2;
/// The most topics of a page.
pub(super) const PAGE_MAX: usize = 64;
/// The cost of a page.
pub(super) const PAGE_COST: usize = JOB_COST + PAGE_MAX * LISTED_COST;

/// The connections that are told of every row of tables, and the listings of the rows that the store has.
#[derive(Debug, Default)]
pub(super) struct Everything {
    /// Those of each table that has any.
    members_by_table: HashMap<TableId, Members>,
    /// The number of the next watch.
    next_number: u32,
    /// The number of rows that the shards of the process keep, and the most with which a further connection is told of
    /// every row.
    rows_kept: Arc<AtomicUsize>,
    rows_max: usize,
}

/// The connections that are told of every row of one table.
// Each says one thing, and they do not exclude each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Default)]
struct Members {
    by_core: Vec<CoreSubscribers>,
    /// The place of each in the list of its core.
    places: HashMap<ConnectionId, usize>,
    /// The commands of members that are yet to be told that they are subscribed.
    joining: Vec<Joining>,
    /// The number of the watch.
    number: u32,
    has_all: bool,
    /// True if a member was ever promised every topic.
    is_promised: bool,
    /// True if changes may have been missed since the first member came.
    has_missed: bool,
    /// True if changes of this table alone may be missed: nothing is listed then.
    is_lost: bool,
    /// The rows that came for this watch.
    listings: VecDeque<Listing>,
}

/// A command that subscribes to every topic.
#[derive(Clone, Copy, Debug)]
struct Joining {
    connection: ConnectionId,
    /// The command's number.
    number: u32,
    /// True if it asks for the list.
    lists: bool,
    /// The number of subscriptions that it adds here.
    added: usize,
}

impl Everything {
    /// Returns the same without members; all shards of the process count there what they keep.
    pub(super) fn new(rows_kept: Arc<AtomicUsize>) -> Self {
        Self { rows_kept, rows_max: usize::MAX, ..Self::default() }
    }

    /// Sets the most rows that are kept when a connection comes.
    pub(super) const fn keep(&mut self, rows_max: usize) {
        self.rows_max = rows_max;
    }

    /// Returns whether no connection is to come, since the rows have become too many for those who are here. Before the
    /// first comes it is looked at when the rows are listed.
    fn is_full(&self, table: TableId) -> bool {
        self.members_by_table.contains_key(&table) && self.rows_kept.load(Ordering::Relaxed) > self.rows_max
    }

    /// Returns the subscribers of a topic and the members of its table, each connection once.
    pub(super) fn audience<'a>(&'a self, shard: &'a Shard, topic: Topic) -> Cow<'a, [CoreSubscribers]> {
        let subscribers = shard.subscribers(topic);
        if self.members_by_table.is_empty() {
            return Cow::Borrowed(subscribers);
        }
        let Some(members) = self.members_by_table.get(&topic.table()) else { return Cow::Borrowed(subscribers) };
        let mut audience = Cow::Borrowed(&*members.by_core);
        for &CoreSubscribers { core, ref keys } in subscribers {
            let is_other = |key: &SlotKey| !members.places.contains_key(&ConnectionId { core, key: *key });
            let mut others = keys.iter().copied().filter(is_other).peekable();
            if others.peek().is_some() {
                keys_of(audience.to_mut(), core).extend(others);
            }
        }
        audience
    }

    pub(super) fn contains(&self, table: TableId, connection: ConnectionId) -> bool {
        self.members_by_table.get(&table).is_some_and(|members| members.places.contains_key(&connection))
    }

    /// Returns whether the shards have the version of every row, of the tables of which they are to have it.
    pub(super) fn is_listed(&self) -> bool {
        self.members_by_table.values().all(|members| members.has_all || members.is_lost)
    }

    /// Returns whether they have those of one table, if they are to have it.
    pub(super) fn is_listed_of(&self, table: TableId) -> bool {
        self.members_by_table.get(&table).is_none_or(|members| members.has_all)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.members_by_table.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        self.members_by_table.values().any(Members::has_work)
    }

    /// Takes rows of the store, unless they are for an earlier watch.
    pub(super) fn take(&mut self, table: TableId, number: u32, listing: Listing) {
        if let Some(members) = self.members_by_table.get_mut(&table).filter(|members| members.number == number) {
            members.listings.push_back(listing);
        }
    }

    /// Learns that changes may be missed from here on.
    pub(super) fn lose(&mut self) {
        for members in self.members_by_table.values_mut() {
            members.lose(&mut self.next_number);
        }
    }

    /// Learns that every change comes from here on, perhaps with versions of another epoch: what was known may be old.
    pub(super) fn begin(&mut self) {
        self.members_by_table.values_mut().for_each(|members| members.has_missed = true);
    }

    /// Learns the same of one table, of which changes may have been missed.
    pub(super) fn miss(&mut self, table: TableId) {
        if let Some(members) = self.of(table) {
            (members.has_missed, members.is_lost) = (true, false);
        }
    }

    /// Returns the tables that have members.
    fn tables(&self) -> Vec<TableId> {
        self.members_by_table.keys().copied().collect()
    }

    fn of(&mut self, table: TableId) -> Option<&mut Members> {
        self.members_by_table.get_mut(&table)
    }
}

impl Members {
    fn has_work(&self) -> bool {
        !self.listings.is_empty()
    }

    /// Learns that changes may be missed from here on.
    fn lose(&mut self, next_number: &mut u32) {
        self.listings.clear();
        (self.has_all, self.has_missed) = (false, true);
        // What is on its way was read before.
        self.number = take_number(next_number);
    }

    /// Adds a connection; returns whether it is the first.
    fn add(&mut self, connection: ConnectionId) -> bool {
        let is_first = self.by_core.is_empty();
        let keys = keys_of(&mut self.by_core, connection.core);
        self.places.insert(connection, keys.len());
        keys.push(connection.key);
        is_first
    }

    /// Removes a connection; returns whether it was there.
    fn remove(&mut self, connection: ConnectionId) -> bool {
        let Some(place) = self.places.remove(&connection) else { return false };
        let keys = keys_of(&mut self.by_core, connection.core);
        keys.swap_remove(place);
        if let Some(&key) = keys.get(place) {
            self.places.insert(ConnectionId { core: connection.core, key }, place);
        }
        self.by_core.retain(|members| !members.keys.is_empty());
        true
    }
}

fn take_number(next: &mut u32) -> u32 {
    *next = next.wrapping_add(1);
    *next
}

/// Returns the connections of a core in a list of them.
fn keys_of(lists: &mut Vec<CoreSubscribers>, core: CoreId) -> &mut Keys {
    let place = lists.iter().position(|list| list.core == core).unwrap_or_else(|| {
        lists.push(CoreSubscribers { core, keys: Arc::default() });
        lists.len() - 1
    });
    Arc::make_mut(&mut lists[place].keys)
}

impl<S: Subscriber> Core<S> {
    /// Tells the shards to tell a connection of every row of a table.
    pub(super) fn join_everything(&mut self, table: TableId, connection: ConnectionId, number: u32, lists: bool) {
        let is_new = !self.everything.contains(table, connection);
        if is_new && connection.core == self.id && self.everything.is_full(table) {
            self.part_done(connection, number, Err(Refused));
            return;
        }
        let command = Command::new(number, Operation::SubscribeAll { table, lists }, Subjects::default());
        self.give_to_all_others(connection, &command);
        let members = self.everything.members_by_table.entry(table).or_default();
        if is_new && members.add(connection) {
            members.is_promised = false;
            members.is_lost = self.tables.is_lost(table);
            members.has_missed = self.health.is_lost || members.is_lost;
            self.shards.iter_mut().for_each(|shard| shard.watch(table));
            self.list_table_again(table);
        }
        let added = usize::from(is_new && connection.core == self.id);
        self.metrics.subscriptions.inc_by(signed(added));
        let Some(members) = self.everything.of(table) else { return };
        members.joining.push(Joining { connection, number, lists, added });
        if members.has_all && !members.has_work() {
            self.tell_joining(table);
        }
    }

    /// Ends that, for a table or for all; returns the number of subscriptions that it was.
    pub(super) fn leave_everything(&mut self, table: Option<TableId>, connection: ConnectionId) -> usize {
        if self.everything.members_by_table.is_empty() {
            return 0;
        }
        let tables = table.map_or_else(|| self.everything.tables(), |table| vec![table]);
        tables.into_iter().map(|table| self.leave_table(table, connection)).sum()
    }

    fn leave_table(&mut self, table: TableId, connection: ConnectionId) -> usize {
        if !self.everything.of(table).is_some_and(|members| members.remove(connection)) {
            return 0;
        }
        for shard in &mut self.shards {
            shard.leave_everything(table, connection, &mut self.out);
        }
        if !self.out.is_empty() {
            self.pass_on();
        }
        let Some(members) = self.everything.of(table) else { return 0 };
        let joining: Vec<Joining> = members.joining.extract_if(.., |it| it.connection == connection).collect();
        let is_last = members.by_core.is_empty();
        for Joining { number, added, .. } in joining {
            self.part_done(connection, number, Ok(added));
        }
        if is_last {
            self.everything.members_by_table.remove(&table);
            self.shards.iter_mut().for_each(|shard| shard.unwatch(table));
            self.watch(table, None);
            self.ask_for_turn();
        }
        let is_own = usize::from(connection.core == self.id);
        self.metrics.subscriptions.dec_by(signed(is_own));
        is_own
    }

    /// Has the rows that the store has listed from the first on, for the members of each table.
    pub(super) fn list_again(&mut self) {
        for table in self.everything.tables() {
            self.list_table_again(table);
        }
    }

    pub(super) fn list_table_again(&mut self, table: TableId) {
        let number = take_number(&mut self.everything.next_number);
        let Some(members) = self.everything.of(table) else { return };
        members.listings.clear();
        (members.has_all, members.number) = (false, number);
        if members.is_lost {
            return;
        }
        let watch = Watch { number, may_refuse: !members.is_promised };
        for shard in &mut self.shards {
            shard.set_listing(table, true);
        }
        self.watch(table, Some(watch));
    }

    /// Learns that changes of one table may be missed from here on: nothing of it is listed.
    pub(super) fn lose_everything_of(&mut self, table: TableId) {
        let Some(members) = self.everything.members_by_table.get_mut(&table) else { return };
        members.lose(&mut self.everything.next_number);
        members.is_lost = true;
        self.watch(table, None);
    }

    fn watch(&self, table: TableId, watch: Option<Watch>) {
        if let Some(loader) = &self.loader {
            loader.watch(self.id, table, watch);
        }
    }

    /// Gives the shards a slice of the rows that the store has, and forgets a slice of what is kept for nobody.
    pub(super) fn take_listing(&mut self, cost: &mut usize) {
        for shard in &mut self.shards {
            let released = shard.release((*cost / LISTED_COST).max(1));
            *cost = cost.saturating_sub(released * LISTED_COST);
        }
        let with_work = self.everything.members_by_table.iter_mut().find(|(_, members)| members.has_work());
        let Some((&table, members)) = with_work else { return };
        match members.listings.pop_front() {
            None => {}
            Some(Listing::Rows(mut rows)) => {
                let left = rows.len().saturating_sub((*cost / LISTED_COST).max(1));
                *cost = cost.saturating_sub((rows.len() - left) * LISTED_COST);
                for (subject, version) in rows.drain(left..) {
                    let place = self.hub.place_of(self.hub.shard_of(subject.topic()));
                    self.shards[place].listed(&subject, version, members.has_missed);
                }
                if !rows.is_empty() {
                    members.listings.push_front(Listing::Rows(rows));
                } else if let Some(loader) = &self.loader {
                    loader.taken(self.id, table, members.number);
                }
            }
            Some(Listing::End) => {
                (members.has_all, members.is_promised) = (true, true);
                for shard in &mut self.shards {
                    shard.set_listing(table, false);
                }
                self.tell_joining(table);
            }
            Some(Listing::TooMany) => self.refuse_joining(table),
        }
    }

    /// Tells those who are yet to be told that they are subscribed, and up to which version if they want to list.
    fn tell_joining(&mut self, table: TableId) {
        let newest = self.shards.iter().map(|shard| shard.newest(table)).max().unwrap_or(0);
        let Some(members) = self.everything.of(table) else { return };
        for Joining { connection, number, lists, added } in std::mem::take(&mut members.joining) {
            if lists {
                self.give_listed(connection, Listed::Newest(table, newest));
            }
            self.part_done(connection, number, Ok(added));
        }
    }

    /// Asks for the next topics of the list of all, for a connection that is told of every topic.
    /// [`Subscriber::listed`] tells it the answer: perhaps before this returns.
    pub fn list(&mut self, key: SlotKey, wish: PageWish) {
        if self.seats.contains_key(key) {
            self.take_up(Order { connection: self.connection(key), job: Job::List(wish) });
        }
    }

    /// Answers such a question, or gives it to the core of the shard. Who is told of every topic no more is told that
    /// there is nothing.
    pub(super) fn list_page(&mut self, connection: ConnectionId, wish: PageWish, cost: &mut usize) {
        let PageWish { table, from: Place { shard, after }, number } = wish;
        let is_member = self.everything.contains(table, connection);
        let mut page = Page { number, topics: Subjects::default(), next: None };
        if is_member && shard < self.hub.shards() {
            let core = self.hub.core_of(shard);
            if core != self.id {
                self.outgoing[usize::from(core.0)].orders.push(Order { connection, job: Job::List(wish) });
                self.ask_for_turn();
                return;
            }
            let max = (*cost / LISTED_COST).clamp(1, PAGE_MAX);
            *cost = cost.saturating_sub(max * LISTED_COST);
            let (topics, last) = self.shards[self.hub.place_of(shard)].page(table, after, max);
            let next_shard = (shard + 1 < self.hub.shards()).then_some(Place { shard: shard + 1, after: None });
            let next = last.map(|last| Place { shard, after: Some(last) }).or(next_shard);
            page = Page { number, topics, next };
        }
        self.give_listed(connection, Listed::Page(page));
    }

    fn give_listed(&mut self, connection: ConnectionId, listed: Listed) {
        if connection.core == self.id {
            self.listed(connection.key, listed);
        } else {
            self.outgoing[usize::from(connection.core.0)].listed.push((connection.key, listed));
            self.ask_for_turn();
        }
    }

    fn refuse_joining(&mut self, table: TableId) {
        let Some(members) = self.everything.of(table) else { return };
        for Joining { connection, number, .. } in std::mem::take(&mut members.joining) {
            self.leave_table(table, connection);
            self.part_done(connection, number, Err(Refused));
        }
    }

    /// Gives a connection the word of the shards of a core on the list of all topics.
    pub(super) fn listed(&mut self, key: SlotKey, listed: Listed) {
        if let Some(seat) = self.seats.get_mut(key) {
            seat.subscriber.listed(listed);
        }
    }
}
