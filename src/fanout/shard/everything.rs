//! What a shard keeps while somebody is told of every product: the version of each that the store has.
//!
//! The rows come as pages of ids and versions, each at a barrier, while changes go on. A change that was cast is newer
//! than the row of a page that has not come yet, so a product that was cast meanwhile is not taken from its page.

use super::super::ConnectionId;
use super::super::last::LastValue;
use super::super::message::Value;
use super::{Output, Shard};
use crate::model::product::ProductId;

impl Shard {
    /// Begins to keep every product that changes, and that [`Shard::listed`] tells of.
    pub(in super::super) fn watch(&mut self) {
        (self.is_watched, self.is_listing) = (true, true);
        // What is kept still has followed every change.
        self.to_release = Vec::new();
    }

    /// Learns whether the rows that the store has are all here, from the last [`Shard::watch`] or gap on.
    pub(in super::super) const fn set_listing(&mut self, is_listing: bool) {
        self.is_listing = is_listing;
    }

    /// Ends that: what is kept for nobody else is to be [released](Shard::release).
    pub(in super::super) fn unwatch(&mut self) {
        self.is_watched = false;
        self.to_release = self.kept().collect();
    }

    /// Forgets up to `max` of the products that were kept for nobody else; returns their number.
    pub(in super::super) fn release(&mut self, max: usize) -> usize {
        let released = self.to_release.len().min(max);
        for product in self.to_release.split_off(self.to_release.len() - released) {
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
        if self.to_release.is_empty() {
            self.to_release = Vec::new();
        }
        released
    }

    /// Returns whether there are products for [`Shard::release`].
    pub(in super::super) const fn has_to_release(&self) -> bool {
        !self.to_release.is_empty()
    }

    /// Takes the version of a row that the store has. Where changes may have been missed since somebody was told of every
    /// product, news is to be read and told.
    pub(in super::super) fn listed(&mut self, product: ProductId, version: u64, may_have_missed: bool) {
        self.keep(product);
        let topic = self.index.topic(product).expect("it is kept");
        if topic.last.version() >= version {
            return;
        }
        if may_have_missed || topic.last.is_remembered() {
            self.to_heal.push(product);
        } else {
            topic.last.cast(version, None);
        }
    }

    /// Returns the products that may exist, and the greatest version of any.
    pub(in super::super) fn keys(&mut self) -> (Vec<ProductId>, u64) {
        let mut newest = 0;
        let keys = self.index.topics().filter(|(_, topic)| topic.last.is_kept());
        let keys = keys.inspect(|(_, topic)| newest = newest.max(topic.last.version()));
        let keys = keys.filter(|(_, topic)| !topic.last.is_absent()).map(|(product, _)| product).collect();
        (keys, newest)
    }

    /// Forgets a product that was deleted with the last change, unless somebody has subscribed to it or waits for it. Not
    /// while rows come: one that was read before the deletion would bring it back.
    pub(in super::super) fn deleted(&mut self, product: ProductId) {
        if !self.is_watched || self.is_listing || self.loadings.contains_key(&product) || !self.to_heal.is_empty() {
            return;
        }
        let Some(topic) = self.index.topic(product) else { return };
        if !topic.subscribers().is_empty() {
            return;
        }
        self.change(product, LastValue::let_go);
        if let Some(topic) = self.index.topic(product) {
            topic.last.keep(false);
            self.index.forget(product);
        }
    }

    /// Ends the pulls of a connection that is told of every product no more.
    pub(in super::super) fn leave_everything(&mut self, connection: ConnectionId, out: &mut Output) {
        let places = self.places_of_watchers.keys().filter(|(watcher, _)| *watcher == connection);
        let products: Vec<ProductId> = places.map(|&(_, product)| product).collect();
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
            self.places_of_watchers.insert((connection, product), place)
        };
        before.unwrap_or(0)
    }

    pub(super) fn take_place_of_watcher(&mut self, connection: ConnectionId, product: ProductId) -> Option<u32> {
        if self.places_of_watchers.is_empty() {
            return None;
        }
        let place = self.places_of_watchers.remove(&(connection, product));
        super::shrink(&mut self.places_of_watchers);
        place
    }

    fn kept(&mut self) -> impl Iterator<Item = ProductId> {
        self.index.topics().filter(|(_, topic)| topic.last.is_kept()).map(|(product, _)| product)
    }
}
