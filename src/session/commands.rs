//! The commands of one reader that are in progress: [`Commands`], pure data.
//!
//! Up to [`COMMANDS_MAX`] of them are with the shards at once. The shards carry them out in the order in which they are
//! given, but tell in any order that they have; answers go out in the order of the commands.
//!
//! A command that asks for states is done once the shards have carried it out and its states are answered.
//!
//! A subscription that may exceed the limit waits until everything before it is done, since only then is the number of
//! the reader's subscriptions known. If it may exceed it even then, the shards first count which of its topics are
//! subscribed to already.

use std::collections::VecDeque;

use super::answer;
use super::authorize::Authorizing;
use super::command::{Command, ReplyId, States};
use super::refusal::{Refusal, Why};
use super::stale::Part;
use crate::fanout::{self, Operation};
use crate::model::table::TableId;
use crate::model::topic::Subjects;
use crate::wire::frame::Frame;

/// The most commands in progress; a peer that sends more is not read.
pub const COMMANDS_MAX: usize = 16;
/// The most topic ids of commands in progress before a further one is read: it bounds their memory, not their size.
pub const COMMANDS_IDS_MAX: usize = 16 * 1024;

/// The commands in progress, in the order in which they came.
#[derive(Debug, Default)]
pub struct Commands {
    entries: VecDeque<Entry>,
    /// The number of the first of them.
    first: u32,
    /// The number of topic ids that they hold.
    ids: usize,
    /// The change of the grant that is in progress. Boxed because few have one.
    authorizing: Option<Box<Authorizing>>,
}

/// A command and the work that it still needs.
#[derive(Debug)]
enum Entry {
    /// To be given to the shards.
    Waiting(Waiting),
    /// With the shards, which count its topics.
    Counting(Waiting),
    /// With the shards, which carry it out.
    Applying { operation: Operation, ids: usize, answer: Answer },
    /// Carried out: so many topics are new, or were ended.
    Applied { operation: Operation, topics: usize, answer: Answer },
    /// Not for the shards, and carried out.
    Done(Option<ReplyId>),
    /// Not for the shards.
    Refused(Frame),
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    withheld: Option<Why>,
    /// True if it is known to stay within the limit.
    fits: bool,
}

/// The answer to the sender of a command that was carried out.
#[derive(Debug)]
struct Answer {
    reply: Option<ReplyId>,
    withheld: Option<Why>,
    /// The part of what is stale that is to be answered before.
    after: Option<Part>,
    /// The table whose rows the shards list, if it asks for the states of all.
    lists: Option<TableId>,
}

/// A command for the shards, with the states that it asks for.
#[derive(Debug)]
pub struct Next {
    /// The command.
    pub command: fanout::Command,
    /// If present, [`Commands::awaits`] is to be told the part that they are.
    pub states: Option<States>,
}

/// The shards' verdict on a command, as far as its sender is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It goes on.
    GoesOn,
    /// It was refused, because it would exceed the limit.
    TooMany,
}

impl Commands {
    /// Returns whether no command is in progress.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of commands that are in progress.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no further command is to be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= COMMANDS_MAX || self.ids >= COMMANDS_IDS_MAX || self.authorizing.is_some()
    }

    /// Adds a command, with the part of it that was withheld.
    pub fn push(&mut self, command: Command, withheld: Option<Why>) {
        self.ids += command.topics.len();
        self.entries.push_back(Entry::Waiting(Waiting { command, withheld, fits: false }));
    }

    /// Adds the answer to a message that was no command; it waits for those before it.
    pub fn push_refused(&mut self, answer: Frame) {
        self.entries.push_back(Entry::Refused(answer));
    }

    /// Adds the command that ends what a new grant does not cover. No further one is read until that is said.
    pub fn push_authorizing(&mut self, reply: Option<ReplyId>, authorizing: Authorizing) {
        let command = Command { reply, operation: Operation::Revoke, topics: Subjects::default(), states: None };
        self.push(command, None);
        self.authorizing = Some(Box::new(authorizing));
    }

    /// Adds a command that is carried out, and is answered after those before it.
    pub fn push_done(&mut self, reply: Option<ReplyId>) {
        self.entries.push_back(Entry::Done(reply));
    }

    /// Returns the change of the grant that is in progress.
    pub fn authorizing(&mut self) -> Option<&mut Authorizing> {
        self.authorizing.as_deref_mut()
    }

    /// Returns whether some of what a new grant ended is to be said now: all commands before are answered.
    #[must_use]
    pub fn has_unsaid(&self) -> bool {
        let is_ended = matches!(self.entries.front(), Some(Entry::Applied { operation: Operation::Revoke, .. }));
        is_ended && self.authorizing.as_ref().is_some_and(|authorizing| !authorizing.is_said())
    }

    /// Returns whether a command is the one that ends what a new grant does not cover.
    #[must_use]
    pub fn revokes(&self, number: u32) -> bool {
        let place = number.wrapping_sub(self.first) as usize;
        matches!(self.entries.get(place), Some(Entry::Applying { operation: Operation::Revoke, .. }))
    }

    /// Returns the next command for the shards, of a reader that has so many subscriptions and may have `limit`; none
    /// that asks for states unless it may.
    pub fn next(&mut self, subscriptions: usize, limit: usize, may_ask: bool) -> Option<Next> {
        let place = self.entries.iter().position(|entry| matches!(entry, Entry::Waiting(_)))?;
        // Only the first can be with the shards to be counted, and those behind it are not to overtake it.
        if matches!(self.entries[0], Entry::Counting(_)) {
            return None;
        }
        let most = subscriptions + self.entries.iter().take(place).map(Entry::subscriptions_max).sum::<usize>();
        let Entry::Waiting(waiting) = &mut self.entries[place] else { return None };
        if waiting.command.states.is_some() && !may_ask {
            return None;
        }
        let may_exceed = !waiting.fits
            && waiting.command.operation == Operation::Subscribe
            && most + waiting.command.topics.len() > limit;
        if may_exceed && place > 0 {
            return None;
        }
        let number = self.first.wrapping_add(u32::try_from(place).expect("few commands are in progress"));
        Some(if may_exceed { self.count(number) } else { self.apply(place, number) })
    }

    fn count(&mut self, number: u32) -> Next {
        let Some(Entry::Waiting(mut waiting)) = self.entries.pop_front() else { unreachable!("it was looked at") };
        let listed = waiting.command.topics.len();
        waiting.command.drop_repetitions();
        let topics = waiting.command.topics.clone();
        self.ids -= listed - topics.len();
        self.entries.push_front(Entry::Counting(waiting));
        Next { command: fanout::Command::new(number, Operation::Count, topics), states: None }
    }

    fn apply(&mut self, place: usize, number: u32) -> Next {
        let Entry::Waiting(waiting) = &mut self.entries[place] else { unreachable!("it was looked at") };
        let command = &mut waiting.command;
        let (operation, topics, states) =
            (command.operation, std::mem::take(&mut command.topics), command.states.take());
        let lists = match operation {
            Operation::SubscribeAll { table, lists: true } => Some(table),
            _ => None,
        };
        let answer = Answer { reply: command.reply.take(), withheld: waiting.withheld.take(), after: None, lists };
        self.entries[place] = Entry::Applying { operation, ids: topics.len(), answer };
        Next { command: fanout::Command::new(number, operation, topics), states }
    }

    /// Has the answer to a command, which was just given, wait for a part of what is stale.
    pub fn awaits(&mut self, number: u32, part: Part) {
        let place = number.wrapping_sub(self.first) as usize;
        if let Some(Entry::Applying { answer, .. }) = self.entries.get_mut(place) {
            answer.after = Some(part);
        }
    }

    /// Returns the table whose rows the shards list for a command that asks for the states of all.
    #[must_use]
    pub fn lists(&self, number: u32) -> Option<TableId> {
        let place = number.wrapping_sub(self.first) as usize;
        match self.entries.get(place) {
            Some(Entry::Applying { answer, .. }) => answer.lists,
            _ => None,
        }
    }

    /// Returns the table to all rows of which a command subscribes.
    #[must_use]
    pub fn joins(&self, number: u32) -> Option<TableId> {
        let place = number.wrapping_sub(self.first) as usize;
        match self.entries.get(place) {
            Some(Entry::Applying { operation: Operation::SubscribeAll { table, .. }, .. }) => Some(*table),
            _ => None,
        }
    }

    /// Learns that the shards have refused a command, with the reason.
    pub fn refused(&mut self, number: u32, why: Why) {
        let place = number.wrapping_sub(self.first) as usize;
        if let Some(entry) = self.entries.get_mut(place)
            && let Entry::Applying { answer, ids, .. } = entry
        {
            self.ids -= *ids;
            *entry = Entry::Refused(answer::refused(&Refusal { reply: answer.reply.take(), why }));
        }
    }

    /// Returns whether a command is to be given to the shards that needs what the session keeps of its values: one that asks
    /// for states, or that ends what a new grant does not cover.
    #[must_use]
    pub fn needs_values(&self) -> bool {
        let needs = |its: &Command| its.states.is_some() || its.operation == Operation::Revoke;
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Waiting(its) | Entry::Counting(its) if needs(&its.command)))
    }

    /// Learns that all shards have done their part of a command, and the number of topics that were new, ended, or
    /// counted.
    pub fn applied(&mut self, number: u32, topics: usize, subscriptions: usize, limit: usize) -> Counted {
        let place = number.wrapping_sub(self.first) as usize;
        let Some(entry) = self.entries.get_mut(place) else { return Counted::GoesOn };
        match entry {
            Entry::Applying { operation, ids, answer } => {
                self.ids -= *ids;
                let (reply, withheld) = (answer.reply.take(), answer.withheld.take());
                let answer = Answer { reply, withheld, ..*answer };
                *entry = Entry::Applied { operation: *operation, topics, answer };
            }
            Entry::Counting(waiting) => {
                let wanted = subscriptions + waiting.command.topics.len() - topics;
                if wanted > limit {
                    self.ids -= waiting.command.topics.len();
                    let table =
                        waiting.command.topics.topics().first().map_or(TableId::PRODUCTS, |topic| topic.table());
                    let why = Why::TooManySubscriptions { table, limit };
                    let refusal = Refusal { reply: waiting.command.reply.take(), why };
                    *entry = Entry::Refused(answer::refused(&refusal));
                    return Counted::TooMany;
                }
                let topics = std::mem::take(&mut waiting.command.topics);
                let (reply, states) = (waiting.command.reply.take(), waiting.command.states.take());
                let command = Command { reply, operation: Operation::Subscribe, topics, states };
                *entry = Entry::Waiting(Waiting { command, withheld: waiting.withheld.take(), fits: true });
            }
            Entry::Waiting(_) | Entry::Applied { .. } | Entry::Done(_) | Entry::Refused(_) => {}
        }
        Counted::GoesOn
    }

    /// Takes the first command off if it is done, and returns its answer, if its sender wants one. Changes the number
    /// of subscriptions.
    pub fn pop_done(&mut self, subscriptions: &mut usize, is_answered: impl Fn(Part) -> bool) -> Option<Option<Frame>> {
        if self.has_unsaid() {
            return None;
        }
        match self.entries.front()? {
            Entry::Applied { answer: Answer { after: Some(part), .. }, .. } if !is_answered(*part) => {
                return None;
            }
            Entry::Applied { .. } | Entry::Done(_) | Entry::Refused(_) => {}
            Entry::Waiting(_) | Entry::Counting(_) | Entry::Applying { .. } => return None,
        }
        self.first = self.first.wrapping_add(1);
        match self.entries.pop_front()? {
            Entry::Applied { operation, topics, answer } => {
                match operation {
                    Operation::Subscribe | Operation::SubscribeAll { .. } => *subscriptions += topics,
                    Operation::Unsubscribe | Operation::UnsubscribeAll(_) => *subscriptions -= topics,
                    Operation::Revoke => {
                        *subscriptions -= topics;
                        self.authorizing = None;
                    }
                    Operation::Count => {}
                }
                Some(answer.frame(*subscriptions))
            }
            Entry::Done(reply) => Some(reply.map(|reply| answer::accepted(&reply, *subscriptions))),
            Entry::Refused(answer) => Some(Some(answer)),
            Entry::Waiting(_) | Entry::Counting(_) | Entry::Applying { .. } => unreachable!("it is done"),
        }
    }
}

impl Entry {
    /// Returns the most subscriptions that it may add.
    fn subscriptions_max(&self) -> usize {
        match self {
            Self::Applying { operation: Operation::Subscribe, ids, .. } => *ids,
            Self::Applied { operation: Operation::Subscribe | Operation::SubscribeAll { .. }, topics, .. } => *topics,
            Self::Applying { operation: Operation::SubscribeAll { .. }, .. } => 1,
            _ => 0,
        }
    }
}

impl Answer {
    fn frame(self, subscriptions: usize) -> Option<Frame> {
        match (self.withheld, self.reply) {
            (Some(why), reply) => Some(answer::refused(&Refusal { reply, why })),
            (None, Some(reply)) => Some(answer::accepted(&reply, subscriptions)),
            (None, None) => None,
        }
    }
}
