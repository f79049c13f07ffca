//! The parts of what is stale, each all that was added up to some moment: [`Parts`], pure data.

use std::collections::VecDeque;

/// The number of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part(u32);

impl Part {
    /// Returns whether this part was ended before the other. Numbers wrap, and those of one time are near each other.
    pub(super) const fn is_before(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) > u32::MAX / 2
    }
}

/// The parts that are not answered, and the one that is open.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The number of topics of each that are not answered, the last part being open.
    topics: VecDeque<u32>,
    first: Part,
}

impl Parts {
    /// Returns the oldest part that is not answered.
    pub(super) const fn first(&self) -> Part {
        self.first
    }

    /// Returns the part that is open.
    pub(super) fn open(&mut self) -> Part {
        if self.topics.is_empty() {
            self.topics.push_back(0);
        }
        let parts = u32::try_from(self.topics.len() - 1).expect("fewer than 2^32 parts are not answered");
        Part(self.first.0.wrapping_add(parts))
    }

    /// Ends the part that is open, and returns it; the one before if it has no topics.
    pub(super) fn end(&mut self) -> Part {
        let part = self.open();
        if *self.topics_of(part) == 0 {
            return Part(part.0.wrapping_sub(1));
        }
        self.topics.push_back(0);
        part
    }

    /// Returns whether all of this part, and of those before it, is answered.
    pub(super) const fn is_answered(&self, part: Part) -> bool {
        part.is_before(self.first)
    }

    /// Adds topics to a part.
    pub(super) fn add(&mut self, part: Part, topics: usize) {
        *self.topics_of(part) += u32::try_from(topics).expect("a command has fewer than 2^32 topics");
    }

    /// Learns that a topic of a part is answered, or gone.
    pub(super) fn leave_one(&mut self, part: Part) {
        self.leave(part, 1);
    }

    /// Learns that so many are.
    pub(super) fn leave(&mut self, part: Part, topics: usize) {
        *self.topics_of(part) -= u32::try_from(topics).expect("a part has fewer than 2^32 topics");
        while self.topics.len() > 1 && self.topics[0] == 0 {
            self.topics.pop_front();
            self.first.0 = self.first.0.wrapping_add(1);
        }
    }

    fn topics_of(&mut self, part: Part) -> &mut u32 {
        &mut self.topics[part.0.wrapping_sub(self.first.0) as usize]
    }
}

#[cfg(test)]
impl Parts {
    /// Returns none, the first of which has this number.
    pub(super) fn beginning_at(number: u32) -> Self {
        Self { first: Part(number), ..Self::default() }
    }
}
