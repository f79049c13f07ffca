//! What a shard remembers: changes, the answers from memory, and what is forgotten for want of room.

use smallvec::SmallVec;

use super::super::ConnectionId;
use super::super::last::{LastValue, Loading, Waiter, is_before};
use super::super::memory::SPARED_MAX;
use super::super::message::{Pull, Value};
use super::{Newest, Output, Shard};
use crate::model::topic::{Subject, Topic};
use crate::wire::frame::Frame;

impl Shard {
    /// Takes changes of one topic, oldest first, and removes those whose versions are not above the last, or that nobody
    /// is told of. The subscribers are to be told of the others before the answers that this makes.
    ///
    /// `newest` says what the newest of them is.
    pub(in super::super) fn cast(
        &mut self,
        subject: &Subject,
        frames: &mut SmallVec<[(u64, Frame); 1]>,
        newest: Newest,
        out: &mut Output,
    ) {
        let topic = subject.topic();
        if !self.watched.is_empty() {
            self.heard(subject, frames.last().map_or(0, |&(version, _)| version));
        }
        let Some(entry) = self.index.entry_of(topic) else {
            frames.clear();
            return;
        };
        let mut before = entry.last.version();
        frames.retain(|&mut (version, _)| {
            let is_newer = version > before;
            before = before.max(version);
            is_newer
        });
        let Some((version, frame)) = frames.last() else { return };
        let is_asked = entry.last.is_remembered() || !self.loadings.is_empty();
        if !is_asked {
            entry.last.cast(*version, newest.is_deletion, None);
            return;
        }
        self.cast_to_asked(topic, (*version, newest), frame, out);
    }

    /// Takes the newest change of a topic that somebody may have asked for.
    fn cast_to_asked(&mut self, topic: Topic, (version, newest): (u64, Newest), frame: &Frame, out: &mut Output) {
        let Newest { is_whole, is_deletion } = newest;
        let is_waited_for = self.loadings.get(&topic).is_some_and(|loading| !loading.waiters.is_empty());
        self.change(topic, |last| {
            let is_remembered = is_whole && (last.is_remembered() || is_waited_for);
            last.cast(version, is_deletion, is_remembered.then(|| frame.clone()));
        });
        // While changes may be missed, one that comes is not known to be the newest.
        if !self.is_lost && self.loadings.contains_key(&topic) && !self.is_table_lost(topic.table()) {
            self.healed(topic);
            self.answer_waiters(topic, out, Waiter::told);
            self.rest(topic);
        }
        self.make_room(out);
    }

    /// Answers a pull, at once or later; `is_watcher` says whether the connection is told of every topic.
    pub(in super::super) fn pull(&mut self, connection: ConnectionId, pull: Pull, is_watcher: bool, out: &mut Output) {
        let Pull { ref subject, known, number } = pull;
        let topic = subject.topic();
        let (waiting, is_subscribed) = match self.index.waiting(connection, topic) {
            Some(waiting) => (std::mem::take(waiting), true),
            None if is_watcher => {
                self.keep(subject);
                (self.take_place_of_watcher(connection, topic).unwrap_or(0), false)
            }
            None => {
                out.answer(connection, pull.subject, number, Value::Ended);
                return;
            }
        };
        if waiting > 0 && self.is_repeated(topic, waiting, number) {
            self.set_place(connection, topic, waiting);
            out.answer(connection, pull.subject, number, Value::Ended);
            return;
        }
        if waiting > 0 {
            out.answer(connection, subject.clone(), self.leave(topic, waiting), Value::Ended);
        }
        let is_known = !self.is_lost && self.to_heal.is_empty() && !self.heals(topic);
        if is_known && !self.is_table_lost(topic.table()) {
            let entry = self.index.entry_of(topic).expect("a topic that is told has an entry");
            if let Some(value) = entry.last.answer(known) {
                out.answer(connection, pull.subject, number, value);
                if !is_subscribed {
                    self.let_gone_go(topic);
                }
                return;
            }
        }
        self.wait(connection, topic, known, number);
        self.wish(out);
    }

    /// Returns whether a pull with this number is older than the one that waits at a place. A core repeats a pull whose answer
    /// was of an epoch that is over. A connection that pulls anew as an epoch begins does so before that answer comes: its
    /// new pull is here first, and is to have the answer.
    fn is_repeated(&self, topic: Topic, waiting: u32, number: u32) -> bool {
        let waiter = self.loadings.get(&topic).and_then(|loading| loading.waiters.get(waiting as usize - 1));
        waiter.is_some_and(|waiter| is_before(number, waiter.number))
    }

    fn wait(&mut self, connection: ConnectionId, topic: Topic, known: u64, number: u32) {
        let loading = self.loadings.entry(topic).or_insert_with(|| Loading::new(self.next_number));
        if !loading.is_wanted() {
            loading.since = self.next_number;
        }
        // A version that is known was heard elsewhere, perhaps after a read that is under way.
        let needs = if known > 0 { self.next_number } else { loading.since };
        loading.waiters.push(Waiter { connection, number, known, needs });
        let waiting = u32::try_from(loading.waiters.len()).expect("fewer than 2^32 connections");
        self.set_place(connection, topic, waiting);
        self.want(topic);
    }

    /// Gives those who wait for a topic the answers that `answer` has for them.
    pub(super) fn answer_waiters(
        &mut self,
        topic: Topic,
        out: &mut Output,
        answer: impl Fn(&Waiter, &mut LastValue) -> Option<Value>,
    ) {
        let Some(loading) = self.loadings.get_mut(&topic) else { return };
        if loading.waiters.is_empty() {
            return;
        }
        let subject = self.index.subject(topic);
        let (waiters, mut left) = (std::mem::take(&mut loading.waiters), SmallVec::new());
        for waiter in waiters {
            let entry = self.index.entry_of(topic).expect("what is waited for has an entry");
            let value = answer(&waiter, &mut entry.last);
            let place = if let Some(value) = value {
                out.answer(waiter.connection, subject.clone(), waiter.number, value);
                0
            } else {
                left.push(waiter);
                u32::try_from(left.len()).expect("fewer than 2^32 connections")
            };
            self.set_place(waiter.connection, topic, place);
        }
        if let Some(loading) = self.loadings.get_mut(&topic) {
            loading.waiters = left;
        }
    }

    /// Changes a topic's value, and counts its bytes.
    pub(super) fn change<R>(&mut self, topic: Topic, change: impl FnOnce(&mut LastValue) -> R) -> R {
        let entry = self.index.entry_of(topic).expect("a value is that of an entry");
        let is_idle = !entry.is_wanted();
        let before = entry.last.is_held().then(|| entry.last.held_bytes());
        let result = change(&mut entry.last);
        let after = entry.last.is_held().then(|| entry.last.held_bytes());
        match (before, after) {
            (Some(before), Some(after)) => self.memory.replaced(before, after),
            (None, Some(after)) => {
                let stamp = self.memory.held(topic, after);
                entry.last.held().expect("it is held").stamp = stamp;
            }
            (Some(before), None) if is_idle => {
                self.memory.forgotten(before);
                self.index.forget(topic);
            }
            (Some(before), None) => self.memory.let_go(before),
            (None, None) => {}
        }
        if self.memory.is_untidy() {
            self.tidy();
        }
        result
    }

    /// Counts a topic whose value was held for nobody, and that has a subscriber again.
    pub(super) fn returns(&mut self, topic: Topic) {
        let entry = self.index.entry_of(topic).expect("it was subscribed to");
        if !entry.last.is_kept()
            && let Some(held) = entry.last.held()
        {
            held.stamp = self.memory.returns(topic);
            if self.memory.is_untidy() {
                self.tidy();
            }
        }
    }

    /// Counts a topic that nobody is told of any more.
    pub(super) fn idles(&mut self, topic: Topic) {
        let may_have_missed = self.heals(topic);
        self.healed(topic);
        self.rest(topic);
        let Some(entry) = self.index.entry_of(topic) else { return };
        if let Some(held) = entry.last.held() {
            held.stamp = self.memory.idles(topic);
            if may_have_missed {
                // Nobody waits for the read that would find what was missed.
                self.change(topic, LastValue::let_go);
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
            let Some(entry) = self.index.entry_of(considered.topic) else { continue };
            let Some(held) = entry.last.held() else { continue };
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
            let frame_bytes = entry.last.held_bytes();
            entry.last.let_go();
            if considered.is_idle {
                self.memory.forgotten(frame_bytes);
                self.index.forget(considered.topic);
            } else {
                self.memory.let_go(frame_bytes);
            }
        }
    }

    pub(super) fn tidy(&mut self) {
        let index = &mut self.index;
        self.memory.tidy(|topic| index.entry_of(topic)?.last.held().map(|held| held.stamp));
    }
}
