//! What a shard keeps while somebody is told of every product: the version of each that the store has.
//!
//! The rows come as pages of ids and versions, each at a barrier, while changes go on. A change that was cast is newer
//! than the row of a page that has not come yet, so a product that was cast meanwhile is not taken from its page.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::ConnectionId;
use super::super::index::shrink;
use super::super::last::LastValue;
use super::super::message::Value;
use super::kept::Kept;
use super::{Output, Shard};
use crate::model::product::ProductId;

impl Shard {
    /// Begins to keep every product that changes, and that [`Shard::listed`] tells of.
    pub(in super::super) fn watch(&mut self) {
        // What is kept still has followed every change.
        (self.is_watched, self.is_listing, self.newest) = (true, true, 0);
    }

    /// Returns the shard, which counts there what it keeps, with the others of the process.
    pub(in super::super) fn counting(self, rows_kept: Arc<AtomicUsize>) -> Self {
        Self { kept: Kept::counting(rows_kept), ..self }
    }

    /// Learns whether the rows that the store has are all here, from the last [`Shard::watch`] or gap on.
    pub(in super::super) const fn set_listing(&mut self, is_listing: bool) {
        self.is_listing = is_listing;
    }

    /// Ends that: what is kept for nobody else is to be [released](Shard::release).
    pub(in super::super) fn unwatch(&mut self) {
        self.is_watched = false;
        self.gone = Vec::new();
    }

    /// Forgets up to `max` of the products that are kept for nobody, or that are gone; returns their number.
    pub(in super::super) fn release(&mut self, max: usize) -> usize {
        let mut released = 0;
        while released < max && self.has_to_release() {
            released += 1;
            if let Some((product, version)) = self.gone.pop() {
                self.deleted(product, version);
                continue;
            }
            let Some(product) = self.kept.pop() else { break };
            let Some(topic) = self.index.topic(product) else { continue };
            topic.last.keep(false);
            if topic.is_wanted() {
                continue;
            }
            let is_held = topic.last.is_held();
            self.idles(product);
            if !is_held {
                self.index.forget(product);
            }
        }
        released
    }

    /// Returns whether there are products for [`Shard::release`].
    pub(in super::super) fn has_to_release(&self) -> bool {
        if self.is_watched { !self.gone.is_empty() && !self.may_come_back() } else { !self.kept.is_empty() }
    }

    /// Returns whether a row that is gone may be among those that are still to come.
    const fn may_come_back(&self) -> bool {
        self.is_listing || !self.to_heal.is_empty()
    }

    /// Takes the version of a row that the store has. Where changes may have been missed since somebody was told of every
    /// product, news is to be read and told.
    pub(in super::super) fn listed(&mut self, product: ProductId, version: u64, may_have_missed: bool) {
        self.keep(product);
        let topic = self.index.topic(product).expect("it is kept");
        self.newest = self.newest.max(version).max(topic.last.version());
        if topic.last.version() >= version {
            return;
        }
        // Its subscribers are told by the read that heals it, which finds no news in a version that is known.
        let is_subscribed = !topic.subscribers().is_empty();
        if is_subscribed && (!self.to_heal.is_empty() || self.heals(product)) {
            return;
        }
        let topic = self.index.topic(product).expect("it is kept");
        if may_have_missed || topic.last.is_remembered() {
            self.to_heal.push(product);
        } else {
            topic.last.cast(version, None);
        }
    }

    /// Returns the greatest version that was listed or heard since the last [`Shard::watch`] and in this epoch.
    pub(in super::super) const fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns those of the next `max` kept products after one, or of the first, that may exist; and the last that it looked
    /// at, or `None` if there are no more. Forgets those that are gone.
    pub(in super::super) fn page(
        &mut self,
        after: Option<ProductId>,
        max: usize,
    ) -> (Vec<ProductId>, Option<ProductId>) {
        let mut products = self.kept.after(after, max);
        let last = products.last().copied().filter(|_| products.len() == max);
        products.retain(|&product| {
            let last = &self.index.topic(product).expect("it is kept").last;
            let (is_absent, version) = (last.is_absent(), last.version());
            if is_absent && !self.may_come_back() {
                self.deleted(product, version);
            }
            !is_absent
        });
        (products, last)
    }

    /// Takes note of a change.
    pub(super) fn heard(&mut self, product: ProductId, version: u64) {
        self.keep(product);
        self.newest = self.newest.max(version);
    }

    /// Forgets a product that is gone at this version, unless somebody has subscribed to it or waits for it, or another version
    /// is known: then it came back, or the versions went back and what was told of it is to be healed in a new epoch. Once
    /// the last row has come: one that was read before the deletion would bring it back.
    pub(in super::super) fn deleted(&mut self, product: ProductId, version: u64) {
        if !self.is_watched || self.loadings.contains_key(&product) {
            return;
        }
        let Some(topic) = self.index.topic(product) else { return };
        if !topic.subscribers().is_empty() {
            return;
        }
        if topic.last.version() != version {
            return;
        }
        if self.may_come_back() {
            self.gone.push((product, version));
            return;
        }
        self.change(product, LastValue::let_go);
        if let Some(topic) = self.index.topic(product) {
            topic.last.keep(false);
            self.index.forget(product);
        }
        self.kept.remove(product);
    }

    /// Ends the pulls of a connection that is told of every product no more.
    pub(in super::super) fn leave_everything(&mut self, connection: ConnectionId, out: &mut Output) {
        let Some(places) = self.places_of_watchers.get(&connection) else { return };
        let products: Vec<ProductId> = places.keys().copied().collect();
        for product in products {
            if let Some(place) = self.take_place_of_watcher(connection, product) {
                let number = self.leave(product, place);
                out.answer(connection, product, number, Value::Ended);
            }
        }
    }

    /// Keeps a product.
    pub(super) fn keep(&mut self, product: ProductId) {
        let topic = self.index.topic_or_new(product);
        if topic.last.is_kept() {
            return;
        }
        let was_idle = !topic.is_wanted();
        topic.last.keep(true);
        self.kept.insert(product);
        if was_idle && let Some(held) = topic.last.held() {
            held.stamp = self.memory.returns(product);
            if self.memory.is_untidy() {
                self.tidy();
            }
        }
    }

    /// Sets a connection's place among those who wait for a product, 0 for none; returns the one before.
    pub(super) fn set_place(&mut self, connection: ConnectionId, product: ProductId, place: u32) -> u32 {
        if let Some(subscription) = self.index.subscription(connection, product) {
            return std::mem::replace(&mut subscription.waiting, place);
        }
        let before = if place == 0 {
            self.take_place_of_watcher(connection, product)
        } else {
            self.places_of_watchers.entry(connection).or_default().insert(product, place)
        };
        before.unwrap_or(0)
    }

    pub(super) fn take_place_of_watcher(&mut self, connection: ConnectionId, product: ProductId) -> Option<u32> {
        let places = self.places_of_watchers.get_mut(&connection)?;
        let place = places.remove(&product);
        shrink(places);
        if places.is_empty() {
            self.places_of_watchers.remove(&connection);
            shrink(&mut self.places_of_watchers);
        }
        place
    }
}
