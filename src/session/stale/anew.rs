//! What becomes of the topics that are stale where what the reader knows of them means nothing any more.

use super::{Stale, StaleSet};
use crate::model::table::TableId;
use crate::model::topic::{Subject, Subjects, Topic};

impl StaleSet {
    /// Forgets all claims of the reader, since one of them was never true: the states of these topics, and of those
    /// whose are still to come, are asked for in the oldest part that is not answered. What waits for any part waits for
    /// them; the answers under way are void. Lists of all topics begin again.
    pub fn doubt(&mut self, mut topics: Subjects) {
        self.parts.open();
        let lists = std::mem::take(&mut self.lists);
        (self.listed, self.held) = (0, 0);
        for list in &lists {
            let left = (0..list.topics.len()).filter(|&place| !list.has_left(place));
            left.for_each(|place| topics.push(list.subject(place)));
        }
        for (&topic, stale) in self.stale_by_topic.iter().filter(|(_, stale)| stale.newest == 0) {
            topics.push(Subject::new(topic, stale.row.as_ref()));
        }
        for topics in topics.by_table() {
            self.add_list(topics, Vec::new(), self.parts.first());
        }
        for list in lists {
            (0..list.topics.len()).filter(|&place| !list.has_left(place)).for_each(|_| self.parts.leave_one(list.part));
        }
        let mut left = Vec::new();
        self.stale_by_topic.retain(|_, stale| {
            (stale.known, stale.is_asked) = (0, false);
            let gave_way = stale.newest > 0;
            left.extend((!gave_way).then_some(stale.part));
            gave_way
        });
        for part in left {
            self.parts.leave_one(part);
        }
        self.pull_again();
        self.pages.begin_again();
        self.give_memory_back();
    }

    /// Begins in another history: no version means anything, and the answers under way are void. Returns the number of
    /// changes that gave way and never come.
    pub fn begin_anew(&mut self) -> u64 {
        let mut lost = 0;
        for stale in self.stale_by_topic.values_mut() {
            lost += u64::from(std::mem::take(&mut stale.newest) > 0);
            stale.known = 0;
        }
        self.lists.iter_mut().for_each(|list| list.versions = Vec::new());
        self.pull_again();
        lost
    }

    /// Does the same for the rows of one table; the answers of others that are under way are void too.
    pub fn begin_table_anew(&mut self, table: TableId) -> u64 {
        let mut lost = 0;
        for (_, stale) in self.stale_by_topic.iter_mut().filter(|(topic, _)| topic.table() == table) {
            lost += u64::from(std::mem::take(&mut stale.newest) > 0);
            stale.known = 0;
        }
        for list in self.lists.iter_mut().filter(|list| list.table() == table) {
            list.versions = Vec::new();
        }
        self.pull_again();
        lost
    }

    /// Lets all topics whose pulls are under way wait again, in the order of their pulls.
    fn pull_again(&mut self) {
        let age = |stale: &Stale| self.next_number.wrapping_sub(stale.number);
        let mut pulled: Vec<(u32, Topic)> = (self.stale_by_topic.iter())
            .filter(|(_, stale)| stale.is_pulled)
            .map(|(&topic, stale)| (age(stale), topic))
            .collect();
        pulled.sort_unstable();
        pulled.into_iter().rev().for_each(|(_, topic)| self.wait_again(topic));
        self.tables.count(&self.stale_by_topic);
    }
}
