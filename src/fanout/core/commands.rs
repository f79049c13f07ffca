//! The work of a core's shards for connections: their commands and their ends.
//!
//! Everything that costs per topic is cut into slices. A [`Core::work`] call does one; a small job that has nothing
//! of its connection before it is done at once, as far as the turn's budget goes. The core of the connection hands a
//! command's topics out slice by slice, those of its own shards to itself and the others to their cores, so that a
//! part is never larger than a slice, and all parts of a connection reach a shard in the order of its commands.

use smallvec::SmallVec;

use super::super::index::{Closing, FETCHED_AT_ONCE, TopicEntry};
use super::super::message::{Answer, Command, Differing, History, Job, Message, Operation, Order, Refused};
use super::super::shard::{Shard, Subscribed};
use super::super::{ConnectionId, CoreId, Hub, SlotKey};
use super::everything::PAGE_COST;
use super::{Core, Outgoing, SLICES_OF_A_FLUSH, Subscriber};
use crate::model::table::TableId;
use crate::model::topic::{Subjects, Topic};

/// The cost of a job beside its topics: so many topics of a command take as long.
pub(super) const JOB_COST: usize = 4;
const _: () = assert!(super::SLICE_COST > JOB_COST, "each slice has room for a topic");

impl<S: Subscriber> Core<S> {
    /// Makes the shards carry out a connection's command, after all that it gave before. [`Subscriber::applied`] tells
    /// once when they have, if the connection still lives: perhaps before this returns.
    pub fn command(&mut self, key: SlotKey, command: Command) {
        if self.seats.contains_key(key) {
            let job = Job::command(command, self.told);
            self.take_up(Order { connection: self.connection(key), job });
            // A pull ends with its subscription.
            self.flush();
        }
    }

    /// Returns whether something waits for [`Core::work`].
    pub(in super::super) fn has_work(&self) -> bool {
        let is_idle = self.work.is_empty() && self.health.telling.is_empty() && self.rows.is_empty();
        let is_idle = is_idle && !self.tables.has_work();
        let has_shards_work = |shard: &Shard| shard.has_to_heal() || shard.has_to_release();
        !is_idle || self.everything.has_work() || self.shards.iter().any(has_shards_work)
    }

    /// Begins a turn: does one slice of the waiting work, and sends other cores the messages that are due to them.
    /// Connections are flushed at the end, but while rows that were read wait: after at most [`SLICES_OF_A_FLUSH`] turns.
    pub(in super::super) fn work(&mut self) {
        self.is_turn_asked = true;
        self.at_once_cost = self.slice_cost;
        let mut cost = self.slice_cost;
        self.take_rows(&mut cost);
        self.take_listing(&mut cost);
        self.heal(&mut cost);
        self.tell(&mut cost);
        while cost > JOB_COST
            && let Some((connection, job)) = self.work.take()
        {
            let unfinished = self.carry_on(connection, job, &mut cost);
            self.work.go_on(connection, unfinished);
        }
        self.unflushed_slices += 1;
        if self.rows.is_empty() || self.unflushed_slices >= SLICES_OF_A_FLUSH {
            self.flush();
        }
        self.send_waiting();
        self.tell_if_healed();
        self.metrics.last_values.set(signed(self.shards.iter().map(Shard::held_bytes).sum()));
        self.is_turn_asked = false;
    }

    /// Does a job at once if it may be, and lets it wait for its turn otherwise.
    pub(super) fn take_up(&mut self, Order { connection, job }: Order) {
        let is_next = match &job {
            Job::Command { command, .. } => {
                !self.work.has(connection) && JOB_COST + command.topics.len() <= self.at_once_cost
            }
            Job::Pulls { pulls, .. } => !self.work.has(connection) && JOB_COST + pulls.len() <= self.at_once_cost,
            Job::List(_) => !self.work.has(connection) && PAGE_COST <= self.at_once_cost,
            Job::Close { command: Some(_), .. } | Job::Revoke(_) => false,
            Job::Close { .. } => {
                // A close undoes all else that waits.
                if self.work.has(connection) {
                    self.work.replace(connection, job);
                    return;
                }
                self.at_once_cost > 0
            }
        };
        let mut cost = self.at_once_cost;
        let unfinished = if is_next { self.carry_on(connection, job, &mut cost) } else { Some(job) };
        if is_next {
            self.at_once_cost = cost;
        }
        if let Some(job) = unfinished {
            self.work.push(connection, job);
            self.ask_for_turn();
        }
    }

    /// Ends the subscriptions of a connection that is gone.
    pub(super) fn close(&mut self, key: SlotKey, is_known_elsewhere: bool) {
        self.under_way.forget(key);
        let connection = self.connection(key);
        self.take_up(Order { connection, job: Job::close(None) });
        if is_known_elsewhere {
            let others = self.outgoing.iter_mut().zip(0..).filter(|&(_, core)| CoreId(core) != self.id);
            others.for_each(|(outgoing, _)| outgoing.orders.push(Order { connection, job: Job::close(None) }));
            self.ask_for_turn();
        }
    }

    /// Learns that a part of a command is carried out.
    pub(super) fn answered(&mut self, answer: &Answer) {
        if let Some(topics) = self.under_way.answered(answer.key, answer.number, answer.topics) {
            self.applied(answer.key, answer.number, topics);
        }
    }

    /// Sends the messages that wait for other cores: one message of each kind to a core.
    pub(in super::super) fn send_waiting(&mut self) {
        for (outgoing, core) in self.outgoing.iter_mut().zip((0..).map(CoreId)) {
            outgoing.send_answers(&self.hub, core);
            if !outgoing.orders.is_empty() {
                self.hub.send(core, Message::Orders(std::mem::take(&mut outgoing.orders)));
            }
        }
    }

    /// Wakes this core for a turn, if none is on its way.
    pub(super) fn ask_for_turn(&mut self) {
        if !self.is_turn_asked {
            self.is_turn_asked = true;
            self.hub.send(self.id, Message::Turn);
        }
    }

    /// Goes on with a job as far as `cost` allows, and leaves the rest of it there; returns the unfinished part of the
    /// job.
    fn carry_on(&mut self, connection: ConnectionId, job: Job, cost: &mut usize) -> Option<Job> {
        *cost = cost.saturating_sub(JOB_COST);
        match job {
            Job::Command { command, next, changed, history } => {
                self.carry_on_command(connection, command, (next, changed), history, cost)
            }
            Job::Pulls { pulls, next, history } => self.carry_on_pulls(connection, pulls, next, history, cost),
            Job::List(wish) => {
                self.list_page(connection, wish, cost);
                None
            }
            Job::Revoke(revoking) => self.carry_on_revoking(connection, revoking, cost),
            Job::Close { shard, closing, ended, command } => {
                self.carry_on_close(connection, (shard, closing), ended, command, cost)
            }
        }
    }

    fn carry_on_command(
        &mut self,
        connection: ConnectionId,
        command: Command,
        (next, changed): (usize, usize),
        history: History,
        cost: &mut usize,
    ) -> Option<Job> {
        let end = command.topics.len().min(next.saturating_add(*cost));
        match command.operation {
            Operation::SubscribeAll { table, lists } => {
                self.join_everything(table, connection, command.number, lists);
                return None;
            }
            Operation::UnsubscribeAll(table) => {
                self.give_to_all_others(connection, &command);
                let command = Some((command.number, table));
                return self.carry_on_close(connection, Default::default(), 0, command, cost);
            }
            Operation::Revoke => return self.revoke(connection, &command, cost),
            Operation::Subscribe | Operation::Unsubscribe | Operation::Count => {}
        }
        *cost -= end - next;
        let changed = changed + self.hand_out(connection, &command, history, next..end);
        if end < command.topics.len() {
            return Some(Job::Command { command, next: end, changed, history });
        }
        self.part_done(connection, command.number, Ok(changed));
        None
    }

    /// Learns that this core has done its part of a command.
    pub(super) fn part_done(&mut self, connection: ConnectionId, number: u32, topics: Result<usize, Refused>) {
        if connection.core == self.id {
            if let Some(topics) = self.under_way.all_given(connection.key, number, topics) {
                self.applied(connection.key, number, topics);
            }
        } else {
            let answer = Answer { key: connection.key, number, topics };
            self.outgoing[usize::from(connection.core.0)].answers.push(answer);
            self.ask_for_turn();
        }
    }

    /// Carries a part of a command out in this core's shards, and gives other cores the topics of their shards;
    /// returns the number of topics that it changed or counted here.
    fn hand_out(
        &mut self,
        connection: ConnectionId,
        command: &Command,
        history: History,
        part: std::ops::Range<usize>,
    ) -> usize {
        let (mut changed, mut is_for_others, mut differing) = (0, false, Vec::new());
        // A version of another history means nothing.
        let has_versions = !command.known.is_empty();
        let are_versions_known = has_versions && history == self.health.term.history;
        let places = part.clone().step_by(FETCHED_AT_ONCE);
        for (topics, first) in command.topics.topics()[part].chunks(FETCHED_AT_ONCE).zip(places) {
            let shards = self.fetched(topics.iter().copied(), TopicEntry::fetch_subscribers);
            for ((&topic, shard), place) in topics.iter().zip(shards).zip(first..) {
                let core = self.hub.core_of(shard);
                if core != self.id {
                    let outgoing = &mut self.outgoing[usize::from(core.0)];
                    outgoing.topics.push(command.topics.get(place));
                    outgoing.known.extend(command.known.get(place));
                    is_for_others = true;
                    continue;
                }
                let shard = &mut self.shards[self.hub.place_of(shard)];
                changed += usize::from(match command.operation {
                    Operation::Subscribe => {
                        let known = if are_versions_known { command.known[place] } else { 0 };
                        let Subscribed { is_new, is_same } =
                            shard.subscribe(connection, &command.topics.get(place), known);
                        if has_versions && !is_same {
                            differing.push(topic);
                        }
                        is_new
                    }
                    Operation::Unsubscribe => shard.unsubscribe(connection, topic, &mut self.out),
                    Operation::Count => shard.contains(connection, topic),
                    Operation::SubscribeAll { .. } | Operation::UnsubscribeAll(_) | Operation::Revoke => {
                        unreachable!("they name no topic")
                    }
                });
            }
        }
        if !self.out.is_empty() {
            self.pass_on();
        }
        match command.operation {
            Operation::Subscribe => self.metrics.subscriptions.inc_by(signed(changed)),
            Operation::Unsubscribe => self.metrics.subscriptions.dec_by(signed(changed)),
            Operation::Count | Operation::SubscribeAll { .. } | Operation::UnsubscribeAll(_) | Operation::Revoke => 0,
        };
        if is_for_others {
            self.give_to_others(connection, command, history);
        }
        if !differing.is_empty() {
            self.tell_differing(connection, command.number, differing);
        }
        changed
    }

    /// Returns the shards of up to [`FETCHED_AT_ONCE`] topics, and has the processor fetch what those of this core have of
    /// them.
    pub(super) fn fetched(
        &self,
        topics: impl Iterator<Item = Topic>,
        fetch: impl FnOnce(&[&TopicEntry]),
    ) -> SmallVec<[usize; FETCHED_AT_ONCE]> {
        let mut entries = SmallVec::<[_; FETCHED_AT_ONCE]>::new();
        let shard_of = |topic| {
            let shard = self.hub.shard_of(topic);
            if self.hub.core_of(shard) == self.id {
                entries.extend(self.shards[self.hub.place_of(shard)].entry(topic));
            }
            shard
        };
        let shards = topics.map(shard_of).collect();
        fetch(&entries);
        shards
    }

    /// Tells a connection, or its core, the topics whose newest versions it does not know.
    fn tell_differing(&mut self, connection: ConnectionId, number: u32, topics: Vec<Topic>) {
        let differing = Differing { key: connection.key, number, topics };
        if connection.core == self.id {
            self.differ(differing);
        } else {
            self.outgoing[usize::from(connection.core.0)].differing.push(differing);
            self.ask_for_turn();
        }
    }

    pub(super) fn differ(&mut self, Differing { key, number, topics }: Differing) {
        if let Some(seat) = self.seats.get_mut(key) {
            seat.subscriber.differ(number, topics);
        }
    }

    fn give_to_others(&mut self, connection: ConnectionId, command: &Command, history: History) {
        for outgoing in &mut self.outgoing {
            if !outgoing.topics.is_empty() {
                let (topics, known) = (std::mem::take(&mut outgoing.topics), std::mem::take(&mut outgoing.known));
                let part = Command { known, ..Command::new(command.number, command.operation, topics) };
                outgoing.orders.push(Order { connection, job: Job::command(part, history) });
                self.under_way.part_given(connection.key, command.number);
            }
        }
        self.seats.get_mut(connection.key).expect("its commands ended with it").is_known_elsewhere = true;
        self.ask_for_turn();
    }

    /// Gives every other core its part of a command that is for all shards, if this is the connection's.
    pub(super) fn give_to_all_others(&mut self, connection: ConnectionId, command: &Command) {
        if connection.core != self.id || self.hub.cores() == 1 {
            return;
        }
        let own = usize::from(self.id.0);
        for (_, outgoing) in self.outgoing.iter_mut().enumerate().filter(|&(core, _)| core != own) {
            let part = Command::new(command.number, command.operation, Subjects::default());
            let part = Command { revocation: command.revocation.clone(), ..part };
            outgoing.orders.push(Order { connection, job: Job::command(part, self.told) });
            self.under_way.part_given(connection.key, command.number);
        }
        self.seats.get_mut(connection.key).expect("its commands ended with it").is_known_elsewhere = true;
        self.ask_for_turn();
    }

    fn carry_on_close(
        &mut self,
        connection: ConnectionId,
        (mut shard, mut closing): (usize, Closing),
        mut ended: usize,
        command: Option<(u32, TableId)>,
        cost: &mut usize,
    ) -> Option<Job> {
        let table = command.map(|(_, table)| table);
        ended += self.leave_everything(table, connection);
        while let Some(index) = self.shards.get_mut(shard) {
            let out = command.is_some().then_some(&mut self.out);
            let gone = index.close(connection, table, &mut closing, *cost, out);
            let is_done = closing.is_done();
            if !self.out.is_empty() {
                self.pass_on();
            }
            *cost -= gone;
            ended += gone;
            self.metrics.subscriptions.dec_by(signed(gone));
            if !is_done {
                return Some(Job::Close { shard, closing, ended, command });
            }
            (shard, closing) = (shard + 1, Closing::default());
        }
        if let Some((number, _)) = command {
            self.part_done(connection, number, Ok(ended));
        }
        None
    }

    fn applied(&mut self, key: SlotKey, number: u32, topics: Result<usize, Refused>) {
        if let Some(seat) = self.seats.get_mut(key) {
            match topics {
                Ok(topics) => seat.subscriber.applied(number, topics),
                Err(Refused) => seat.subscriber.refused(number),
            }
        }
    }
}

impl Outgoing {
    /// Sends the answers to commands and pulls.
    pub(super) fn send_answers(&mut self, hub: &Hub, core: CoreId) {
        if !self.listed.is_empty() {
            hub.send(core, Message::Listed(std::mem::take(&mut self.listed)));
        }
        if !self.differing.is_empty() {
            hub.send(core, Message::Differ(std::mem::take(&mut self.differing)));
        }
        if !self.revoked.is_empty() {
            hub.send(core, Message::Revoked(std::mem::take(&mut self.revoked)));
        }
        if !self.answers.is_empty() {
            hub.send(core, Message::Answers(std::mem::take(&mut self.answers)));
        }
        if !self.pulled.is_empty() {
            hub.send(core, Message::Pulled(self.history, std::mem::take(&mut self.pulled)));
        }
    }
}

pub(super) fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("fewer than 2^63 subscriptions")
}
