//! The truth that a core's shards keep: the answers to pulls, the rows that are read, and the healing after changes may
//! have been missed.

use std::collections::VecDeque;
use std::hint::black_box;

use smallvec::SmallVec;

use super::super::index::{FETCHED_AT_ONCE, TopicEntry};
use super::super::message::{CastRun, Delivery, History, Job, Message, Order, Pull, Pulled, Term};
use super::super::shard::{Read, Shard};
use super::super::{ConnectionId, CoreId, SlotKey};
use super::{Core, Subscriber, send_to_others};
use crate::model::epoch::Epoch;
use crate::wire::frame::FrameRun;

/// The cost of telling a connection something, with a system call that writes it.
pub(super) const TELL_COST: usize = 16;
/// The cost of a row that was read, with the answers to those who wait for it.
const ROW_COST: usize = 4;

/// A core's knowledge of whether all that was missed is told.
#[derive(Debug)]
pub(super) struct Health {
    /// The time in which this core's shards hear every change, or the last such time.
    pub(super) term: Term,
    /// True if changes may be missed: the term is over, or none has begun.
    pub(super) is_lost: bool,
    /// Of each core: the last term before which it has told all that was missed.
    pub(super) healed_terms: Vec<u32>,
    pub(super) is_live: bool,
    /// The connections that are to be told whether the core is live, and flushed.
    pub(super) telling: Vec<SlotKey>,
}

impl Health {
    pub(super) fn new(cores: usize) -> Self {
        let (term, healed_terms) = (Term::default(), vec![0; cores]);
        Self { term, is_lost: true, healed_terms, is_live: false, telling: Vec::new() }
    }
}

impl<S: Subscriber> Core<S> {
    /// Asks for the newest state of topics that a connection is subscribed to, after all that it gave before.
    /// [`Subscriber::pulled`] tells of each once: perhaps before this returns.
    pub fn pull(&mut self, key: SlotKey, pulls: Vec<Pull>) {
        if self.seats.contains_key(key) && !pulls.is_empty() {
            let job = Job::pulls(pulls, self.told);
            self.take_up(Order { connection: self.connection(key), job });
            self.flush();
        }
    }

    /// Returns whether every change that was missed has been pushed to every connection, and none is being missed.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.health.is_live
    }

    /// Returns the epoch of the versions that are pushed, once it is known.
    #[must_use]
    pub const fn epoch(&self) -> Option<Epoch> {
        self.told.epoch
    }

    /// Answers pulls of this core's topics from the `next` one on, as far as `cost` allows, and gives other cores
    /// those of theirs; returns the unfinished part of the job.
    pub(super) fn carry_on_pulls(
        &mut self,
        connection: ConnectionId,
        pulls: Vec<Pull>,
        next: usize,
        history: History,
        cost: &mut usize,
    ) -> Option<Job> {
        self.turn_to(history);
        let end = pulls.len().min(next.saturating_add(*cost));
        if self.is_behind(history, &pulls[next..end]) {
            return Some(Job::Pulls { pulls, next, history });
        }
        *cost -= end - next;
        let (mut is_for_others, is_current) = (false, history == self.told);
        for pulls in pulls[next..end].chunks(FETCHED_AT_ONCE) {
            let shards = self.fetched(pulls.iter().map(|pull| pull.subject.topic()), TopicEntry::fetch_values);
            self.fetch_subscriptions(connection, pulls, &shards);
            for (pull, shard) in pulls.iter().zip(shards) {
                let core = self.hub.core_of(shard);
                if core == self.id {
                    let table = pull.subject.topic().table();
                    // A version of another epoch means nothing.
                    let is_known = is_current || !self.tables.is_void(history.number, table);
                    let known = if is_known { pull.known } else { 0 };
                    let is_watcher = self.everything.contains(table, connection);
                    let shard = &mut self.shards[self.hub.place_of(shard)];
                    shard.pull(connection, Pull { known, ..pull.clone() }, is_watcher, &mut self.out);
                } else {
                    self.outgoing[usize::from(core.0)].pulls.push(pull.clone());
                    is_for_others = true;
                }
            }
        }
        if is_for_others {
            for outgoing in self.outgoing.iter_mut().filter(|outgoing| !outgoing.pulls.is_empty()) {
                let job = Job::pulls(std::mem::take(&mut outgoing.pulls), history);
                outgoing.orders.push(Order { connection, job });
            }
            self.ask_for_turn();
        }
        if !self.out.is_empty() {
            self.pass_on();
        }
        (end < pulls.len()).then_some(Job::Pulls { pulls, next: end, history })
    }

    /// Returns whether this core's shards are yet to begin an epoch that pulls of this history are of: what they know is of the
    /// one before. The source's word on it is in the inbox, or about to be.
    fn is_behind(&self, history: History, pulls: &[Pull]) -> bool {
        let own = self.health.term.history;
        let is_over = |history: History, pull: &Pull| self.tables.is_void(history.number, pull.subject.topic().table());
        own != self.told && pulls.iter().any(|pull| is_over(own, pull) && !is_over(history, pull))
    }

    /// Passes on what the shards put out: to all subscribers, to those who pulled, and to the loader.
    pub(super) fn pass_on(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for Read { subject, version, frame, is_absence } in out.casts.drain(..) {
            let topic = subject.topic();
            let run = CastRun::new(subject, FrameRun::one(version, frame));
            let history = self.health.term.history;
            let delivery = Delivery { run, history, is_gone: is_absence, permits: SmallVec::new() };
            let shard = &self.shards[self.hub.place_of(self.hub.shard_of(topic))];
            let subscribers = self.everything.audience(shard, topic);
            let (delivery, own) = send_to_others(delivery, &subscribers, self.id, &self.hub, &mut self.outgoing);
            drop(subscribers);
            if let Some(keys) = own {
                self.deliver(&delivery, &keys);
            }
        }
        self.fetch_awaited(&out.answers);
        for (connection, answer) in out.answers.drain(..) {
            if connection.core == self.id {
                self.give(connection.key, answer);
            } else {
                let outgoing = &mut self.outgoing[usize::from(connection.core.0)];
                outgoing.history = self.health.term.history;
                outgoing.pulled.push((connection.key, answer));
                self.ask_for_turn();
            }
        }
        if let Some(loader) = &self.loader {
            if !out.wishes.is_empty() {
                loader.wish(self.id, std::mem::take(&mut out.wishes));
            }
            if let Some(table) = out.regressed {
                loader.regressed(table);
            }
        }
        out.wishes.clear();
        out.regressed = None;
        if out.evicted > 0 {
            self.metrics.last_values_evicted.inc_by(std::mem::take(&mut out.evicted));
        }
        self.out = out;
    }

    /// Has the processor fetch the subscriptions of a connection to what it pulls from these shards, as far as they are this
    /// core's.
    fn fetch_subscriptions(&self, connection: ConnectionId, pulls: &[Pull], shards: &[usize]) {
        let is_subscribed = |&(pull, &shard): &(&Pull, &usize)| {
            self.hub.core_of(shard) == self.id
                && self.shards[self.hub.place_of(shard)].contains(connection, pull.subject.topic())
        };
        black_box(pulls.iter().zip(shards).filter(is_subscribed).count());
    }

    /// Has the processor fetch what this core's connections have of the pulls that are answered.
    fn fetch_awaited(&self, answers: &[(ConnectionId, Pulled)]) {
        let is_awaited = |(connection, answer): &&(ConnectionId, Pulled)| {
            connection.core == self.id
                && self.seats.get(connection.key).is_some_and(|seat| seat.subscriber.awaits(answer))
        };
        black_box(answers.iter().filter(is_awaited).count());
    }

    /// Gives a connection an answer of this core's shards.
    fn give(&mut self, key: SlotKey, answer: Pulled) {
        let history = self.health.term.history;
        if history != self.told && self.is_void(history, &answer) {
            self.pull_again(key, &answer);
        } else if let Some(seat) = self.seats.get_mut(key) {
            seat.subscriber.pulled(answer);
            self.touch(key);
        }
    }

    /// Gives connections the answers of another core's shards.
    pub(super) fn pulled(&mut self, history: History, answers: Vec<(SlotKey, Pulled)>) {
        let is_current = history == self.told;
        for (key, answer) in answers {
            if !is_current && self.is_void(history, &answer) {
                self.pull_again(key, &answer);
            } else if let Some(seat) = self.seats.get_mut(key) {
                seat.subscriber.pulled(answer);
                self.touch(key);
            }
        }
    }

    /// Returns whether an answer is of a history that was over before another one was told.
    fn is_void(&mut self, history: History, answer: &Pulled) -> bool {
        self.turn_to(history);
        self.tables.is_void(history.number, answer.subject.topic().table())
    }

    /// Repeats a pull whose answer is of an older history than the connection was told: the order with the pull reached another
    /// core ahead of the source's word on the new epoch, and this core had taken that word when the answer came.
    fn pull_again(&mut self, key: SlotKey, answer: &Pulled) {
        if self.seats.contains_key(key) {
            let pull = Pull { subject: answer.subject.clone(), known: 0, number: answer.number };
            self.work.push(self.connection(key), Job::pulls(vec![pull], self.told));
            self.ask_for_turn();
        }
    }

    /// Learns that changes may be missed from here on.
    pub(super) fn lose(&mut self) {
        self.health.is_lost = true;
        self.shards.iter_mut().for_each(Shard::lose);
        self.everything.lose();
        self.set_live(false);
    }

    /// Learns that every change comes from here on.
    pub(super) fn begin(&mut self, term: Term) {
        // The answers of the shards so far are of the history so far.
        self.send_waiting();
        self.set_live(false);
        self.health.is_lost = false;
        let is_new_epoch = term.history.epoch != self.health.term.history.epoch;
        self.health.term = term;
        self.shards.iter_mut().for_each(|shard| shard.begin(is_new_epoch));
        self.everything.begin();
        self.list_again();
        self.turn_to(term.history);
        self.update_live();
    }

    /// Gives the shards a slice of the rows that were read for them. A row that waits is only older than what was cast
    /// meanwhile.
    pub(super) fn take_rows(&mut self, cost: &mut usize) {
        let taken = self.rows.len().min((*cost / ROW_COST).max(1));
        for row in self.rows.drain(..taken) {
            let place = self.hub.place_of(self.hub.shard_of(row.topic));
            self.shards[place].loaded(row, &mut self.out);
        }
        if taken > 0 {
            *cost = cost.saturating_sub(taken * ROW_COST);
            self.metrics.last_values_loaded.inc_by(taken as u64);
            self.pass_on();
        }
        if self.rows.is_empty() {
            self.rows = VecDeque::new();
        }
    }

    /// Learns that a core has told all that was missed before a term.
    pub(super) fn healed(&mut self, core: CoreId, term: u32) {
        self.health.healed_terms[usize::from(core.0)] = term;
        self.update_live();
    }

    /// Tells all cores, once in a term, that what was missed before it is told.
    pub(super) fn tell_if_healed(&mut self) {
        let own = usize::from(self.id.0);
        let is_told = self.health.healed_terms[own] == self.health.term.number;
        if self.health.is_lost || is_told && self.tables.are_alike() || !self.shards.iter().all(Shard::is_healed) {
            return;
        }
        self.tell_healed_tables();
        if is_told || !self.everything.is_listed() {
            return;
        }
        let (core, term) = (self.id, self.health.term.number);
        self.hub.send_to_all(|| Message::Healed(core, term));
        self.healed(core, term);
    }

    /// Has a slice of the topics whose changes may have been missed read.
    pub(super) fn heal(&mut self, cost: &mut usize) {
        for shard in 0..self.shards.len() {
            if self.shards[shard].has_to_heal() {
                let max = (*cost / 2).max(1);
                let done = self.shards[shard].heal(max, &mut self.out);
                *cost = cost.saturating_sub(done);
            }
        }
        if !self.out.is_empty() {
            self.pass_on();
        }
    }

    /// Tells a slice of the connections whether the core is live.
    pub(super) fn tell(&mut self, cost: &mut usize) {
        self.tell_of_tables(cost);
        let told = self.health.telling.len().min((*cost / TELL_COST).max(1));
        for key in self.health.telling.split_off(self.health.telling.len() - told) {
            if let Some(seat) = self.seats.get_mut(key) {
                seat.subscriber.live(self.health.is_live);
                self.touch(key);
            }
        }
        *cost = cost.saturating_sub(told * TELL_COST);
        if told > 0 && self.health.telling.is_empty() {
            self.health.telling = Vec::new();
        }
    }

    fn update_live(&mut self) {
        self.set_live(
            !self.health.is_lost && self.health.healed_terms.iter().all(|&term| term == self.health.term.number),
        );
    }

    fn set_live(&mut self, is_live: bool) {
        if is_live != self.health.is_live {
            self.health.is_live = is_live;
            self.metrics.live.set(i64::from(is_live));
            // All cores come to be live together.
            if is_live && self.id == CoreId(0) {
                self.metrics.heals.inc();
            }
            self.health.telling = self.seats.keys().collect();
        }
        self.hub.set_live(self.id, is_live);
    }
}
