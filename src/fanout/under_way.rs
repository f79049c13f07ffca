//! The commands of a core's connections that other cores have a part of: [`UnderWay`], pure data.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::SlotKey;
use super::index::shrink;
use super::message::Refused;

/// The state of each command that awaits answers.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// Never an empty list. Most connections have one command under way, if any.
    commands_by_connection: HashMap<SlotKey, SmallVec<[Awaiting; 1]>>,
}

#[derive(Debug)]
struct Awaiting {
    number: u32,
    answers: u32,
    topics: Result<usize, Refused>,
    /// True if all of it was given to the shards, so that the last answer ends it.
    is_given: bool,
}

impl Awaiting {
    fn add(&mut self, topics: Result<usize, Refused>) {
        self.topics = self.topics.and_then(|before| Ok(before + topics?));
    }
}

impl UnderWay {
    /// Records that one more part of this command was given to another core.
    pub(super) fn part_given(&mut self, key: SlotKey, number: u32) {
        let commands = self.commands_by_connection.entry(key).or_default();
        if let Some(command) = commands.iter_mut().find(|command| command.number == number) {
            command.answers += 1;
        } else {
            commands.push(Awaiting { number, answers: 1, topics: Ok(0), is_given: false });
        }
    }

    /// Records that all of this command was given, and that so many topics were changed or counted here. Returns the
    /// number of all topics, if no answer is awaited.
    pub(super) fn all_given(
        &mut self,
        key: SlotKey,
        number: u32,
        topics: Result<usize, Refused>,
    ) -> Option<Result<usize, Refused>> {
        let is_awaited = |command: &Awaiting| command.number == number;
        let awaited = self.commands_by_connection.get(&key).is_some_and(|commands| commands.iter().any(is_awaited));
        if !awaited {
            return Some(topics);
        }
        self.advance(key, number, |command| {
            command.is_given = true;
            command.add(topics);
        })
    }

    /// Records that a part was carried out. Returns the number of all topics, if it was the last part.
    pub(super) fn answered(
        &mut self,
        key: SlotKey,
        number: u32,
        topics: Result<usize, Refused>,
    ) -> Option<Result<usize, Refused>> {
        self.advance(key, number, |command| {
            command.answers -= 1;
            command.add(topics);
        })
    }

    /// Forgets the commands of a connection that is gone; their answers mean nothing then.
    pub(super) fn forget(&mut self, key: SlotKey) {
        self.commands_by_connection.remove(&key);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.commands_by_connection.is_empty()
    }

    fn advance(
        &mut self,
        key: SlotKey,
        number: u32,
        step: impl FnOnce(&mut Awaiting),
    ) -> Option<Result<usize, Refused>> {
        let commands = self.commands_by_connection.get_mut(&key)?;
        let place = commands.iter().position(|command| command.number == number)?;
        let command = &mut commands[place];
        step(command);
        if !command.is_given || command.answers > 0 {
            return None;
        }
        let topics = commands.swap_remove(place).topics;
        if commands.is_empty() {
            self.commands_by_connection.remove(&key);
            shrink(&mut self.commands_by_connection);
        }
        Some(topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_once_it_is_given_and_answered() {
        let (mut under_way, key) = (UnderWay::default(), SlotKey::default());
        assert_eq!(under_way.all_given(key, 1, Ok(5)), Some(Ok(5)), "all of it was done here");
        under_way.part_given(key, 2);
        under_way.part_given(key, 3);
        under_way.part_given(key, 2);
        assert_eq!(under_way.answered(key, 2, Ok(1)), None);
        assert_eq!(under_way.answered(key, 2, Ok(2)), None, "more of it may be given");
        assert_eq!(under_way.all_given(key, 3, Ok(10)), None);
        assert_eq!(under_way.answered(key, 3, Ok(20)), Some(Ok(30)));
        assert_eq!(under_way.all_given(key, 2, Ok(4)), Some(Ok(7)));
        under_way.part_given(key, 4);
        under_way.part_given(key, 4);
        assert_eq!(under_way.answered(key, 4, Err(Refused)), None);
        assert_eq!(under_way.answered(key, 4, Ok(1)), None);
        assert_eq!(under_way.all_given(key, 4, Ok(1)), Some(Err(Refused)), "one refusal is enough");
        assert!(under_way.is_empty());
    }

    #[test]
    fn answers_to_a_connection_that_is_gone_mean_nothing() {
        let (mut under_way, key) = (UnderWay::default(), SlotKey::default());
        under_way.part_given(key, 1);
        under_way.forget(key);
        assert_eq!(under_way.answered(key, 1, Ok(1)), None);
        assert!(under_way.is_empty());
    }
}
