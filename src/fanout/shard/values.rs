//! What a shard remembers: changes, the answers from memory, and what is forgotten for want of room.

use smallvec::SmallVec;

use super::super::ConnectionId;
use super::super::last::{LastValue, Loading, Waiter};
use super::super::memory::SPARED_MAX;
use super::super::message::{Pull, Value};
use super::{Output, Shard};
use crate::model::product::ProductId;
use crate::wire::frame::Frame;

impl Shard {
    /// Takes changes of one product, oldest first, and removes those whose versions are not above the last, or that nobody
    /// is told of. The subscribers are to be told of the others before the answers that this makes.
    ///
    /// `is_whole` says of the newest whether it is more than the product's id.
    pub(in super::super) fn cast(
        &mut self,
        product: ProductId,
        frames: &mut SmallVec<[(u64, Frame); 1]>,
        is_whole: bool,
        out: &mut Output,
    ) {
        if self.is_watched {
            self.heard(product, frames.last().map_or(0, |&(version, _)| version));
        }
        let Some(topic) = self.index.topic(product) else {
            frames.clear();
            return;
        };
        let mut newest = topic.last.version();
        frames.retain(|&mut (version, _)| {
            let is_newer = version > newest;
            newest = newest.max(version);
            is_newer
        });
        let Some((version, frame)) = frames.last() else { return };
        let is_asked = topic.last.is_remembered() || !self.loadings.is_empty();
        if !is_asked {
            topic.last.cast(*version, None);
            return;
        }
        self.cast_to_asked(product, *version, frame, is_whole, out);
    }

    /// Takes the newest change of a product that somebody may have asked for.
    fn cast_to_asked(&mut self, product: ProductId, version: u64, frame: &Frame, is_whole: bool, out: &mut Output) {
        let is_waited_for = self.loadings.get(&product).is_some_and(|loading| !loading.waiters.is_empty());
        self.change(product, |last| {
            let is_remembered = is_whole && (last.is_remembered() || is_waited_for);
            last.cast(version, is_remembered.then(|| frame.clone()));
        });
        // While changes may be missed, one that comes is not known to be the newest.
        if !self.is_lost && self.loadings.contains_key(&product) {
            self.healed(product);
            self.answer_waiters(product, out, Waiter::told);
            self.rest(product);
        }
        self.make_room(out);
    }

    /// Answers a pull, at once or later; `is_watcher` says whether the connection is told of every product.
    pub(in super::super) fn pull(&mut self, connection: ConnectionId, pull: Pull, is_watcher: bool, out: &mut Output) {
        let Pull { product, known, number } = pull;
        let waiting = match self.index.subscription(connection, product) {
            Some(subscription) => std::mem::take(&mut subscription.waiting),
            None if is_watcher => {
                self.keep(product);
                self.take_place_of_watcher(connection, product).unwrap_or(0)
            }
            None => {
                out.answer(connection, product, number, Value::Ended);
                return;
            }
        };
        if waiting > 0 {
            out.answer(connection, product, self.leave(product, waiting), Value::Ended);
        }
        if !self.is_lost && self.to_heal.is_empty() && !self.heals(product) {
            let topic = self.index.topic(product).expect("a product that is told has an entry");
            if let Some(value) = topic.last.answer(known) {
                out.answer(connection, product, number, value);
                return;
            }
        }
        self.wait(connection, pull);
        self.wish(out);
    }

    fn wait(&mut self, connection: ConnectionId, Pull { product, known, number }: Pull) {
        let loading = self.loadings.entry(product).or_insert_with(|| Loading::new(self.next_number));
        if !loading.is_wanted() {
            loading.since = self.next_number;
        }
        // A version that is known was heard elsewhere, perhaps after a read that is under way.
        let needs = if known > 0 { self.next_number } else { loading.since };
        loading.waiters.push(Waiter { connection, number, known, needs });
        let waiting = u32::try_from(loading.waiters.len()).expect("fewer than 2^32 connections");
        self.set_place(connection, product, waiting);
        self.want(product);
    }

    /// Gives those who wait for a product the answers that `answer` has for them.
    pub(super) fn answer_waiters(
        &mut self,
        product: ProductId,
        out: &mut Output,
        answer: impl Fn(&Waiter, &mut LastValue) -> Option<Value>,
    ) {
        let Some(loading) = self.loadings.get_mut(&product) else { return };
        if loading.waiters.is_empty() {
            return;
        }
        let (waiters, mut left) = (std::mem::take(&mut loading.waiters), SmallVec::new());
        for waiter in waiters {
            let topic = self.index.topic(product).expect("what is waited for has an entry");
            let value = answer(&waiter, &mut topic.last);
            let place = if let Some(value) = value {
                out.answer(waiter.connection, product, waiter.number, value);
                0
            } else {
                left.push(waiter);
                u32::try_from(left.len()).expect("fewer than 2^32 connections")
            };
            self.set_place(waiter.connection, product, place);
        }
        if let Some(loading) = self.loadings.get_mut(&product) {
            loading.waiters = left;
        }
    }

    /// Changes a product's value, and counts its bytes.
    pub(super) fn change<R>(&mut self, product: ProductId, change: impl FnOnce(&mut LastValue) -> R) -> R {
        let topic = self.index.topic(product).expect("a value is that of an entry");
        let is_idle = !topic.is_wanted();
        let before = topic.last.is_held().then(|| topic.last.held_bytes());
        let result = change(&mut topic.last);
        let after = topic.last.is_held().then(|| topic.last.held_bytes());
        match (before, after) {
            (Some(before), Some(after)) => self.memory.replaced(before, after),
            (None, Some(after)) => {
                let stamp = self.memory.held(product, after);
                topic.last.held().expect("it is held").stamp = stamp;
            }
            (Some(before), None) if is_idle => {
                self.memory.forgotten(before);
                self.index.forget(product);
            }
            (Some(before), None) => self.memory.let_go(before),
            (None, None) => {}
        }
        if self.memory.is_untidy() {
            self.tidy();
        }
        result
    }

    /// Counts a product whose value was held for nobody, and that has a subscriber again.
    pub(super) fn returns(&mut self, product: ProductId) {
        let topic = self.index.topic(product).expect("it was subscribed to");
        if !topic.last.is_kept()
            && let Some(held) = topic.last.held()
        {
            held.stamp = self.memory.returns(product);
            if self.memory.is_untidy() {
                self.tidy();
            }
        }
    }

    /// Counts a product that has lost its last subscriber.
    pub(super) fn idles(&mut self, product: ProductId) {
        let may_have_missed = self.heals(product);
        self.healed(product);
        self.rest(product);
        let Some(topic) = self.index.topic(product) else { return };
        if let Some(held) = topic.last.held() {
            held.stamp = self.memory.idles(product);
            if may_have_missed {
                // Nobody waits for the read that would find what was missed.
                self.change(product, LastValue::let_go);
            } else if self.memory.is_untidy() {
                self.tidy();
            }
        }
    }

    /// Forgets values until the others have room, as few as that takes.
    pub(super) fn make_room(&mut self, out: &mut Output) {
        let mut spared = 0;
        while self.memory.is_over()
            && let Some(considered) = self.memory.consider()
        {
            let Some(topic) = self.index.topic(considered.product) else { continue };
            let Some(held) = topic.last.held() else { continue };
            if held.stamp != considered.stamp {
                continue;
            }
            if !considered.is_idle && held.is_used && spared < SPARED_MAX {
                held.is_used = false;
                spared += 1;
                self.memory.spare(considered);
                continue;
            }
            out.evicted += 1;
            let frame_bytes = topic.last.held_bytes();
            topic.last.let_go();
            if considered.is_idle {
                self.memory.forgotten(frame_bytes);
                self.index.forget(considered.product);
            } else {
                self.memory.let_go(frame_bytes);
            }
        }
    }

    pub(super) fn tidy(&mut self) {
        let index = &mut self.index;
        self.memory.tidy(|product| index.topic(product)?.last.held().map(|held| held.stamp));
    }
}
