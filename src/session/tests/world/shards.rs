//! The shards of a [`World`]: they carry out what they are given, in its order and late perhaps, and tell in any order.

use super::*;
use crate::auth::Coverage;
use crate::fanout::{self, Revocation};
use crate::model::topic::testing::TABLE;

/// Work for the shards.
#[derive(Debug)]
pub(super) enum Order {
    Command(fanout::Command),
    Pull(Pull),
}

impl Order {
    pub(super) const fn pull(&self) -> Option<&Pull> {
        match self {
            Self::Pull(pull) => Some(pull),
            Self::Command(_) => None,
        }
    }

    fn is_end(&self) -> bool {
        let is_end =
            |it: &fanout::Command| matches!(it.operation, Operation::Unsubscribe | Operation::UnsubscribeAll(_));
        matches!(self, Self::Command(command) if is_end(command))
    }

    /// Returns whether it ends the subscription to a topic.
    pub(super) fn ends(&self, topic: u64) -> bool {
        let Self::Command(command) = self else { return false };
        match command.operation {
            Operation::Unsubscribe => command.topics.iter().any(|subject| number(subject.topic()) == topic),
            Operation::UnsubscribeAll(_) => true,
            // What the reader is owed is known by its commands, once it has a token.
            Operation::Subscribe | Operation::Count | Operation::SubscribeAll { .. } | Operation::Revoke => false,
        }
    }
}

/// A pull that a shard has looked at.
#[derive(Debug)]
pub(super) struct Pulling {
    pub(super) pull: Pull,
    /// True if the topic was not subscribed to then, or is not since.
    is_ended: bool,
}

/// A command that the shards have carried out, and not told so yet.
#[derive(Debug)]
pub(super) struct WithShards {
    number: u32,
    topics: usize,
    lists: bool,
    /// The topics whose versions differ from those that the reader knows.
    differing: Vec<Topic>,
    /// The rows that were revoked.
    revoked: Vec<Subject>,
}

impl World {
    /// The shards answer the question for a page at this place: two topics each, of which only those that exist are
    /// listed.
    pub(in super::super) fn answer_page(&mut self, place: usize) {
        let PageWish { from, number: asked, .. } = self.pages.remove(place);
        let first = from.after.map_or(0, |after| number(after) + 1);
        let looked_at: Vec<(u64, Row)> = self.rows.range(first..).take(2).map(|(&id, &row)| (id, row)).collect();
        let next = match looked_at.last() {
            Some(&(last, _)) if self.is_everything => Some(Place { after: Some(topic(last)), ..from }),
            _ => None,
        };
        let exists = |&(_, row): &(u64, Row)| self.is_everything && !row.is_gone;
        let topics = looked_at.into_iter().filter(exists).map(|(id, _)| subject(id)).collect();
        self.on(Event::Listed(Listed::Page(Page { number: asked, topics, next })));
    }

    /// The reader is owed nothing more of what it ends, but for what a later command asks for.
    pub(super) fn give(&mut self, command: fanout::Command) {
        let ends_before = self.orders.iter().filter(|order| order.is_end()).count();
        let is_beside_all = self.is_everything && command.operation == Operation::Unsubscribe;
        let order = Order::Command(command);
        if order.is_end() && !is_beside_all {
            let again = self.ending.get(ends_before).map(|ending| &ending.asked_again);
            self.owed.retain(|id| again.is_some_and(|again| again.contains(id)) || !order.ends(*id));
        }
        self.orders.push_back(order);
        self.look_at_orders();
    }

    /// The shards carry out what they were given, unless they are late.
    pub(super) fn look_at_orders(&mut self) {
        while !self.is_late
            && let Some(order) = self.orders.pop_front()
        {
            match order {
                Order::Command(command) => self.carry_out(&command),
                Order::Pull(pull) => {
                    let is_ended = !self.is_everything && !self.subscribed.contains(&pull.subject.topic());
                    self.pulls.push(Pulling { pull, is_ended });
                }
            }
        }
    }

    /// Notes that subscriptions have ended, but for those that a later command asks for.
    fn end(&mut self, topics: impl Iterator<Item = u64>) {
        let Ending { asked_again, .. } = self.ending.pop_front().unwrap_or_default();
        let ended: Vec<u64> = topics.filter(|id| !asked_again.contains(id)).collect();
        self.owed.retain(|id| !ended.contains(id));
        self.log.push((self.taken.len(), Done::Ended(ended)));
    }

    fn carry_out(&mut self, command: &fanout::Command) {
        let named = command.topics.topics().iter();
        let mut revoked = Vec::new();
        let topics = match command.operation {
            Operation::Subscribe => named.filter(|topic| self.subscribed.insert(**topic)).count(),
            Operation::Unsubscribe => named.filter(|topic| self.subscribed.remove(topic)).count(),
            Operation::Count => named.filter(|topic| self.subscribed.contains(topic)).count(),
            Operation::SubscribeAll { .. } => usize::from(!std::mem::replace(&mut self.is_everything, true)),
            Operation::UnsubscribeAll(_) => {
                self.end(0..IDS);
                std::mem::take(&mut self.subscribed).len() + usize::from(std::mem::take(&mut self.is_everything))
            }
            Operation::Revoke => {
                self.unheard_tokens -= 1;
                let Revocation { grant, wholes } = &**command.revocation.as_ref().expect("it says what stays");
                let mut coverage = Coverage::new(grant, &self.tables);
                let rows = self.subscribed.iter().map(|topic| subject(number(*topic)));
                revoked = rows.filter(|row| !coverage.covers(row)).collect();
                for row in &revoked {
                    assert!(self.subscribed.remove(&row.topic()));
                }
                let ends_all = wholes.contains(&TABLE) && std::mem::take(&mut self.is_everything);
                revoked.len() + usize::from(ends_all)
            }
        };
        if command.operation == Operation::Unsubscribe {
            if self.is_everything {
                self.ending.pop_front();
            } else {
                self.end(command.topics.topics().iter().copied().map(number));
            }
        }
        if !self.is_everything {
            let subscribed = &self.subscribed;
            for pulling in &mut self.pulls {
                pulling.is_ended |= !subscribed.contains(&pulling.pull.subject.topic());
            }
        }
        assert!(self.subscribed.len() <= SUBSCRIPTIONS_MAX);
        let lists = matches!(command.operation, Operation::SubscribeAll { table: TABLE, lists: true });
        let differing = self.differing(command);
        self.with_shards.push(WithShards { number: command.number, topics, lists, differing, revoked });
        assert!(
            self.with_shards.len() + self.orders.iter().filter(|order| order.pull().is_none()).count() <= COMMANDS_MAX
        );
    }

    /// Returns the topics of which the reader does not know the newest version, and some of which the shards do not.
    fn differing(&self, command: &fanout::Command) -> Vec<Topic> {
        let is_known = |(topic, known): &(&Topic, &u64)| {
            let newest = self.rows.get(&number(**topic)).map_or(0, |row| row.version);
            **known > 0 && **known == newest && !newest.is_multiple_of(3)
        };
        let pairs = command.topics.topics().iter().zip(&command.known);
        pairs.filter(|pair| !is_known(pair)).map(|(topic, _)| *topic).collect()
    }

    /// A shard answers the pull at this place, by what the store has.
    pub(super) fn answer(&mut self, place: usize, knows_tombstones: bool) {
        let Pulling { pull: Pull { subject, known, number: pulled }, is_ended } = self.pulls.remove(place);
        let topic = number(subject.topic());
        let row = self.rows.get(&topic).copied().unwrap_or(Row { version: 0, is_gone: true });
        let value = if is_ended {
            Value::Ended
        } else if known > row.version {
            Value::Unreached
        } else if known == row.version && known > 0 {
            Value::Same
        } else if row.is_gone {
            Value::Absent { version: if knows_tombstones { row.version } else { 0 } }
        } else {
            Value::Present { version: row.version, frame: row_frame("s", topic, row.version, 20) }
        };
        if value == Value::Unreached {
            self.has_new_epoch = true;
        }
        self.on(Event::Pulled(Pulled { subject, number: pulled, value }));
    }

    /// The shards tell that the command at this place is carried out, if there is one.
    pub(in super::super) fn tell_applied(&mut self, place: usize) {
        if place < self.with_shards.len() {
            let WithShards { number, topics, lists, differing, revoked } = self.with_shards.remove(place);
            // Each core tells of its own.
            let (first, second) = revoked.split_at(revoked.len() / 2);
            for revoked in [first, second].into_iter().filter(|revoked| !revoked.is_empty()) {
                self.on(Event::Revoked(revoked.iter().cloned().collect()));
            }
            if !differing.is_empty() {
                // Each core tells of its own.
                let (first, second) = differing.split_at(differing.len() / 2);
                self.on(Event::Differ(number, first.to_vec()));
                self.on(Event::Differ(number, second.to_vec()));
            }
            if lists {
                let exists = self.rows.values().filter(|row| !row.is_gone);
                let newest = exists.map(|row| row.version).max().unwrap_or(0);
                // Each core knows its own.
                self.on(Event::Listed(Listed::Newest(TABLE, newest)));
                self.on(Event::Listed(Listed::Newest(TABLE, newest / 2)));
            }
            self.on(Event::Applied { number, topics });
        }
    }
}
