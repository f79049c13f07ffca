//! The way of a command: from the reader into the [`Commands`](super::commands::Commands) that are in progress, to the shards,
//! and from their word that it is carried out to the answer.

use super::command::{self, Command, States};
use super::commands::{COMMANDS_IDS_MAX, Counted, Next};
use super::epochs::Standing;
use super::queue::Word;
use super::refusal::{Refusal, Why};
use super::{Effects, Given, Phase, Session, answer};
use crate::fanout::{self, Operation};
use crate::metrics::Limit;
use crate::model::table::TableId;
use crate::wire::frame::Frame;

impl Session {
    /// Returns the number of the peer's commands that are in progress.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.commands.as_ref().map_or(0, |commands| commands.len())
    }

    pub(super) fn is_full(&self) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.is_full())
    }

    pub(super) fn begin_command(&mut self, command: Result<Command, Refusal>, given: &Given<'_>) {
        if self.phase != Phase::Open {
            return;
        }
        match command {
            Ok(mut command) => {
                let withheld = self.grant.as_deref();
                let withheld = withheld.and_then(|grant| command::withhold(&mut command, grant, given.tables));
                self.commands.get_or_insert_default().push(command, withheld);
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Answers a message that is not carried out, after the commands before it.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        match &mut self.commands {
            Some(commands) => commands.push_refused(answer::refused(refusal)),
            None => self.reply(answer::refused(refusal)),
        }
    }

    /// Returns the next command for the shards, which stand like that towards the source. Ask after every event, until
    /// there is none.
    pub fn next_command(&mut self, standing: &Standing, given: &Given<'_>) -> Option<(fanout::Command, Effects)> {
        let limit = given.limits.subscriptions_max;
        let listed = self.values.as_ref().map_or(0, |values| values.stale.listed());
        // Their lists are bounded like those of commands in progress.
        let may_ask = self.phase != Phase::Open || standing.epoch.is_some() && listed < COMMANDS_IDS_MAX;
        let next = self.commands.as_mut()?.next(self.subscriptions as usize, limit, may_ask)?;
        let (Next { mut command, states }, mut effects) = (next, Effects::default());
        if command.operation == Operation::Revoke {
            command.revocation = self.begin_revocation(given);
            self.settle_values(given, &mut effects);
        }
        if self.phase != Phase::Open {
            return Some((command, effects));
        }
        match command.operation {
            Operation::Unsubscribe => self.unfollow(command.topics.topics(), given, &mut effects),
            Operation::UnsubscribeAll(table) => {
                self.unfollow_table(table);
                self.unfollow_all(table, given, &mut effects);
            }
            Operation::SubscribeAll { table, .. } => self.follow_all(table, given),
            Operation::Subscribe => self.renew(command.topics.topics()),
            Operation::Count | Operation::Revoke => {}
        }
        let is_subscription = matches!(command.operation, Operation::Subscribe | Operation::SubscribeAll { .. });
        if is_subscription {
            self.follow_table(&command, standing, given);
        }
        if let (Some(states), Some(epoch)) = (states, standing.epoch) {
            if let (Operation::SubscribeAll { table, .. }, States::Everything { newest, epoch: its }) =
                (command.operation, &states)
            {
                self.ask_everything(table, (*newest, *its), epoch, standing, given);
            } else {
                let part = self.ask(&mut command, states, epoch, standing, given);
                self.commands.as_mut()?.awaits(command.number, part);
            }
        }
        Some((command, effects))
    }

    pub(super) fn applied(&mut self, number: u32, topics: usize, given: &Given<'_>, effects: &mut Effects) {
        let limit = given.limits.subscriptions_max;
        if let Some(table) = self.commands.as_ref().and_then(|commands| commands.lists(number)) {
            self.list_all(table, number);
        }
        if let Some(values) = &mut self.values {
            values.stale.compared(number);
        }
        if self.commands.as_ref().is_some_and(|commands| commands.revokes(number)) {
            self.end_narrowing(given);
        }
        let Some(commands) = &mut self.commands else { return };
        if commands.applied(number, topics, self.subscriptions as usize, limit) == Counted::TooMany {
            effects.refused = Some(Limit::Subscriptions);
        }
        self.settle_values(given, effects);
    }

    pub(super) fn everything_refused(&mut self, number: u32, given: &Given<'_>, effects: &mut Effects) {
        effects.refused = Some(Limit::WildcardRows);
        if let Some(commands) = &mut self.commands {
            let table = commands.joins(number);
            commands.refused(number, Why::TooManyRows(table.unwrap_or(TableId::PRODUCTS)));
            if let Some(table) = table {
                self.unfollow_everything(table);
                self.was_not_whole(table);
            }
        }
        self.answer_done(given, effects);
    }

    /// Answers the commands that are done, in their order.
    pub(super) fn answer_done(&mut self, given: &Given<'_>, effects: &mut Effects) {
        let mut subscriptions = self.subscriptions as usize;
        while let Some(commands) = &mut self.commands {
            let stale = self.values.as_ref().map(|values| &values.stale);
            let is_answered = |part| stale.is_none_or(|stale| stale.is_answered(part));
            let Some(answer) = commands.pop_done(&mut subscriptions, is_answered) else { break };
            let is_last = commands.is_empty();
            if let Some(answer) = answer {
                self.reply(answer);
            }
            if is_last {
                self.commands = None;
            }
        }
        self.subscriptions = u32::try_from(subscriptions).expect("a session has fewer than 2^32 subscriptions");
        if subscriptions == 0 && self.commands.is_none() {
            self.unfollow_tables();
        }
        if self.commands.is_none() && self.phase == Phase::Answering {
            self.close(self.reason, given, effects);
        }
    }

    /// Queues the answer to a command: in order with the states, for a reader that asks for them.
    pub(super) fn reply(&mut self, frame: Frame) {
        if self.is_asked() {
            self.say(Word::Answer, frame);
        } else {
            self.queue.push_control(self.encoding.text(frame));
        }
    }
}
