//! The connections that subscribe to every product: [`Everything`]. Each core has all of them, for its own shards.
//!
//! While there are any, the shards keep the version of every product that the store has, so that what differs can be told
//! after changes may have been missed. A connection that comes is told that it is subscribed once its core has them.
//!
//! Who lists the products asks for one page after the other, as it gets on, and has only its place: each page is what the
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
use crate::model::product::ProductId;

/// The cost of a product of a listing.
const LISTED_COST: usize = 2;
/// The most products of a page.
pub(super) const PAGE_MAX: usize = 64;
/// The cost of a page.
pub(super) const PAGE_COST: usize = JOB_COST + PAGE_MAX * LISTED_COST;

/// The connections that are told of every product, and the listing of the rows that the store has.
#[derive(Debug, Default)]
pub(super) struct Everything {
    members: Vec<CoreSubscribers>,
    /// The place of each in the list of its core.
    places: HashMap<ConnectionId, usize>,
    /// The commands of members that are yet to be told that they are subscribed.
    joining: Vec<Joining>,
    /// The number of the watch.
    number: u32,
    has_all: bool,
    /// True if a member was ever promised every product.
    is_promised: bool,
    /// True if changes may have been missed since the first member came.
    has_missed: bool,
    /// The rows that came for this watch.
    listings: VecDeque<Listing>,
    /// The number of rows that the shards of the process keep, and the most with which a further connection is told of
    /// every product.
    rows_kept: Arc<AtomicUsize>,
    rows_max: usize,
}

/// A command that subscribes to every product.
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
    fn is_full(&self) -> bool {
        !self.members.is_empty() && self.rows_kept.load(Ordering::Relaxed) > self.rows_max
    }

    /// Returns the subscribers of a product and the members, each connection once.
    pub(super) fn audience<'a>(&'a self, shard: &'a Shard, product: ProductId) -> Cow<'a, [CoreSubscribers]> {
        let subscribers = shard.subscribers(product);
        if self.members.is_empty() {
            return Cow::Borrowed(subscribers);
        }
        let mut audience = Cow::Borrowed(&*self.members);
        for &CoreSubscribers { core, ref keys } in subscribers {
            let is_other = |key: &SlotKey| !self.places.contains_key(&ConnectionId { core, key: *key });
            let mut others = keys.iter().copied().filter(is_other).peekable();
            if others.peek().is_some() {
                keys_of(audience.to_mut(), core).extend(others);
            }
        }
        audience
    }

    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.places.contains_key(&connection)
    }

    /// Returns whether the shards have the version of every product, if they are to have it.
    pub(super) const fn is_listed(&self) -> bool {
        self.members.is_empty() || self.has_all
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.places.is_empty() && self.joining.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.listings.is_empty()
    }

    /// Takes rows of the store, unless they are for an earlier watch.
    pub(super) fn take(&mut self, number: u32, listing: Listing) {
        if number == self.number && !self.members.is_empty() {
            self.listings.push_back(listing);
        }
    }

    /// Learns that changes may be missed from here on.
    pub(super) fn lose(&mut self) {
        self.listings.clear();
        (self.has_all, self.has_missed) = (false, true);
        // What is on its way was read before.
        self.number = self.number.wrapping_add(1);
    }

    /// Learns that every change comes from here on, perhaps with versions of another epoch: what was known may be old.
    pub(super) const fn begin(&mut self) {
        self.has_missed = true;
    }

    /// Adds a connection; returns whether it is the first.
    fn add(&mut self, connection: ConnectionId) -> bool {
        let is_first = self.members.is_empty();
        let keys = keys_of(&mut self.members, connection.core);
        self.places.insert(connection, keys.len());
        keys.push(connection.key);
        is_first
    }

    /// Removes a connection; returns whether it was there.
    fn remove(&mut self, connection: ConnectionId) -> bool {
        let Some(place) = self.places.remove(&connection) else { return false };
        let keys = keys_of(&mut self.members, connection.core);
        keys.swap_remove(place);
        if let Some(&key) = keys.get(place) {
            self.places.insert(ConnectionId { core: connection.core, key }, place);
        }
        self.members.retain(|members| !members.keys.is_empty());
        true
    }
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
    /// Tells the shards to tell a connection of every product.
    pub(super) fn join_everything(&mut self, connection: ConnectionId, number: u32, lists: bool) {
        let is_new = !self.everything.contains(connection);
        if is_new && connection.core == self.id && self.everything.is_full() {
            self.part_done(connection, number, Err(Refused));
            return;
        }
        let command = Command::new(number, Operation::SubscribeAll { lists }, Vec::new());
        self.give_to_all_others(connection, &command);
        if is_new && self.everything.add(connection) {
            self.everything.is_promised = false;
            self.everything.has_missed = self.health.is_lost;
            self.shards.iter_mut().for_each(Shard::watch);
            self.list_again();
        }
        let added = usize::from(is_new && connection.core == self.id);
        self.metrics.subscriptions.inc_by(signed(added));
        self.everything.joining.push(Joining { connection, number, lists, added });
        if self.everything.has_all && !self.everything.has_work() {
            self.tell_joining();
        }
    }

    /// Ends that; returns the number of subscriptions that it was.
    pub(super) fn leave_everything(&mut self, connection: ConnectionId) -> usize {
        if !self.everything.remove(connection) {
            return 0;
        }
        for shard in &mut self.shards {
            shard.leave_everything(connection, &mut self.out);
        }
        if !self.out.is_empty() {
            self.pass_on();
        }
        for Joining { number, added, .. } in
            self.everything.joining.extract_if(.., |it| it.connection == connection).collect::<Vec<_>>()
        {
            self.part_done(connection, number, Ok(added));
        }
        if self.everything.members.is_empty() {
            self.everything.listings.clear();
            self.everything.has_all = false;
            self.shards.iter_mut().for_each(Shard::unwatch);
            self.watch(None);
            self.ask_for_turn();
        }
        let is_own = usize::from(connection.core == self.id);
        self.metrics.subscriptions.dec_by(signed(is_own));
        is_own
    }

    /// Has the rows that the store has listed from the first on, for the members.
    pub(super) fn list_again(&mut self) {
        if self.everything.members.is_empty() {
            return;
        }
        let Self { everything, shards, .. } = self;
        everything.listings.clear();
        everything.has_all = false;
        everything.number = everything.number.wrapping_add(1);
        for shard in shards {
            shard.set_listing(true);
        }
        let watch = Watch { number: everything.number, may_refuse: !everything.is_promised };
        self.watch(Some(watch));
    }

    fn watch(&self, watch: Option<Watch>) {
        if let Some(loader) = &self.loader {
            loader.watch(self.id, watch);
        }
    }

    /// Gives the shards a slice of the rows that the store has, and forgets a slice of what is kept for nobody.
    pub(super) fn take_listing(&mut self, cost: &mut usize) {
        for shard in &mut self.shards {
            let released = shard.release((*cost / LISTED_COST).max(1));
            *cost = cost.saturating_sub(released * LISTED_COST);
        }
        match self.everything.listings.pop_front() {
            None => {}
            Some(Listing::Rows(mut rows)) => {
                let left = rows.len().saturating_sub((*cost / LISTED_COST).max(1));
                *cost = cost.saturating_sub((rows.len() - left) * LISTED_COST);
                for (product, version) in rows.drain(left..) {
                    let place = self.hub.place_of(self.hub.shard_of(product));
                    self.shards[place].listed(product, version, self.everything.has_missed);
                }
                if !rows.is_empty() {
                    self.everything.listings.push_front(Listing::Rows(rows));
                } else if let Some(loader) = &self.loader {
                    loader.taken(self.id, self.everything.number);
                }
            }
            Some(Listing::End) => {
                (self.everything.has_all, self.everything.is_promised) = (true, true);
                for shard in &mut self.shards {
                    shard.set_listing(false);
                }
                self.tell_joining();
            }
            Some(Listing::TooMany) => self.refuse_joining(),
        }
    }

    /// Tells those who are yet to be told that they are subscribed, and up to which version if they want to list.
    fn tell_joining(&mut self) {
        let newest = self.shards.iter().map(Shard::newest).max().unwrap_or(0);
        for Joining { connection, number, lists, added } in std::mem::take(&mut self.everything.joining) {
            if lists {
                self.give_listed(connection, Listed::Newest(newest));
            }
            self.part_done(connection, number, Ok(added));
        }
    }

    /// Asks for the next products of the list of all, for a connection that is told of every product.
    /// [`Subscriber::listed`] tells it the answer: perhaps before this returns.
    pub fn list(&mut self, key: SlotKey, wish: PageWish) {
        if self.seats.contains_key(key) {
            self.take_up(Order { connection: self.connection(key), job: Job::List(wish) });
        }
    }

    /// Answers such a question, or gives it to the core of the shard. Who is told of every product no more is told that
    /// there is nothing.
    pub(super) fn list_page(&mut self, connection: ConnectionId, wish: PageWish, cost: &mut usize) {
        let PageWish { from: Place { shard, after }, number } = wish;
        let is_member = self.everything.contains(connection);
        let mut page = Page { number, products: Vec::new(), next: None };
        if is_member && shard < self.hub.shards() {
            let core = self.hub.core_of(shard);
            if core != self.id {
                self.outgoing[usize::from(core.0)].orders.push(Order { connection, job: Job::List(wish) });
                self.ask_for_turn();
                return;
            }
            let max = (*cost / LISTED_COST).clamp(1, PAGE_MAX);
            *cost = cost.saturating_sub(max * LISTED_COST);
            let (products, last) = self.shards[self.hub.place_of(shard)].page(after, max);
            let next_shard = (shard + 1 < self.hub.shards()).then_some(Place { shard: shard + 1, after: None });
            let next = last.map(|last| Place { shard, after: Some(last) }).or(next_shard);
            page = Page { number, products, next };
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

    fn refuse_joining(&mut self) {
        for Joining { connection, number, .. } in std::mem::take(&mut self.everything.joining) {
            self.leave_everything(connection);
            self.part_done(connection, number, Err(Refused));
        }
    }

    /// Gives a connection the word of the shards of a core on the list of all products.
    pub(super) fn listed(&mut self, key: SlotKey, listed: Listed) {
        if let Some(seat) = self.seats.get_mut(key) {
            seat.subscriber.listed(listed);
        }
    }
}
