//! The topics of one command that wait to be pulled, all of one table: [`List`], pure data.

use std::sync::Arc;

use super::parts::Part;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Subjects, Topic, WideRow};

/// The topics of one command that are not pulled yet; never none.
#[derive(Debug)]
pub(super) struct List {
    /// In falling order, so that the next is last.
    pub(super) topics: Vec<Topic>,
    /// The row of each wide one; empty if all are narrow.
    pub(super) rows: Vec<Option<Arc<WideRow>>>,
    /// The versions that the reader knows, one for each topic; empty if it knows none.
    pub(super) versions: Vec<u64>,
    /// A bit for each topic that left before its turn, 64 to a number; empty if none did.
    pub(super) left: Vec<u64>,
    pub(super) part: Part,
    /// Nothing of it is pulled while this is there.
    pub(super) held: Option<Box<Held>>,
}

/// A command whose versions the shards compare with theirs as they carry it out.
#[derive(Debug)]
pub(super) struct Held {
    /// The command's number.
    pub(super) number: u32,
    /// The topics with another version, as far as they were told.
    pub(super) differing: Vec<Topic>,
}

impl List {
    /// Returns the list of these topics, each once, with the greatest of its versions.
    pub(super) fn new(subjects: Subjects, versions: Vec<u64>, part: Part) -> Self {
        let (topics, rows, versions) = subjects.falling(versions);
        debug_assert!(topics.iter().all(|topic| topic.table() == topics[0].table()), "a command is on one table");
        Self { topics, rows, versions, left: Vec::new(), part, held: None }
    }

    /// Returns the table.
    pub(super) fn table(&self) -> TableId {
        self.topics[0].table()
    }

    pub(super) fn subject(&self, place: usize) -> Subject {
        Subject::new(self.topics[place], self.rows.get(place).and_then(Option::as_ref))
    }

    /// Returns the number of topics that have not left, of a list of which none was pulled.
    pub(super) fn len(&self) -> usize {
        self.topics.len() - self.left.iter().map(|bits| bits.count_ones() as usize).sum::<usize>()
    }

    /// Keeps these topics, as far as they have not left.
    pub(super) fn keep(&mut self, mut kept: Vec<Topic>) {
        kept.sort_unstable_by(|one, other| other.cmp(one));
        kept.dedup();
        kept.retain(|&topic| self.place_of(topic).is_some());
        let places = kept.iter().map(|&topic| self.place_of(topic).expect("it was found"));
        let places: Vec<usize> = places.collect();
        self.versions = places.iter().map(|&place| self.versions[place]).collect();
        if !self.rows.is_empty() {
            self.rows = places.iter().map(|&place| self.rows[place].clone()).collect();
        }
        (self.topics, self.left) = (kept, Vec::new());
    }

    /// Takes the last topic with the version that is known of it, unless it has left before.
    pub(super) fn pop(&mut self) -> Option<(Subject, u64)> {
        let topic = self.topics.pop()?;
        let subject = Subject::new(topic, self.rows.pop().flatten().as_ref());
        let known = self.versions.pop().unwrap_or(0);
        (!self.has_left(self.topics.len())).then_some((subject, known))
    }

    /// Takes a topic before its turn; returns its row if it is wide, and the version that is known of it.
    pub(super) fn take(&mut self, topic: Topic) -> Option<(Option<Arc<WideRow>>, u64)> {
        let place = self.place_of(topic)?;
        self.leave(place);
        let row = self.rows.get(place).cloned().flatten();
        Some((row, self.versions.get(place).copied().unwrap_or(0)))
    }

    /// Lets all topics leave but those that stay; returns the number of those that had not.
    pub(super) fn leave_all_but(&mut self, mut stays: impl FnMut(Topic, Option<&WideRow>) -> bool) -> usize {
        let mut gone = 0;
        for place in 0..self.topics.len() {
            let row = self.rows.get(place).and_then(|row| row.as_deref());
            if !self.has_left(place) && !stays(self.topics[place], row) {
                self.leave(place);
                gone += 1;
            }
        }
        gone
    }

    fn leave(&mut self, place: usize) {
        if self.left.is_empty() {
            self.left = vec![0; self.topics.len().div_ceil(64)];
        }
        self.left[place / 64] |= 1 << (place % 64);
    }

    pub(super) fn have_all_left(&self) -> bool {
        (0..self.topics.len()).all(|place| self.has_left(place))
    }

    pub(super) fn place_of(&self, topic: Topic) -> Option<usize> {
        let place = self.topics.binary_search_by(|listed| topic.cmp(listed)).ok()?;
        (!self.has_left(place)).then_some(place)
    }

    pub(super) fn has_left(&self, place: usize) -> bool {
        self.left.get(place / 64).is_some_and(|bits| bits & (1 << (place % 64)) != 0)
    }
}
