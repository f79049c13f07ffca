//! The rows whose states a reader asked for by their keys, of all tables: [`Asked`], pure data. They are asked for again
//! where a claim of the reader was never true.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::topic::{Subject, Subjects, Topic, WideRow};

/// The most topics that are added to those asked for, or taken from them, one by one.
const ONE_BY_ONE_MAX: usize = 8;

/// The rows whose states a reader asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Their topics, without repetitions, in the order of their ids.
    topics: Vec<Topic>,
    /// The rows of the wide ones among them.
    wide: HashMap<Topic, Arc<WideRow>>,
}

impl Asked {
    /// Returns all of them.
    pub(super) fn subjects(&self) -> Subjects {
        self.topics.iter().map(|&topic| Subject::new(topic, self.wide.get(&topic))).collect()
    }

    /// Adds rows.
    pub(super) fn add(&mut self, subjects: &Subjects) {
        let topics = subjects.topics();
        if !subjects.are_narrow() {
            let wide = subjects.iter().filter_map(|subject| Some((subject.topic(), Arc::clone(subject.wide()?))));
            self.wide.extend(wide);
        }
        if topics.len() <= ONE_BY_ONE_MAX {
            for topic in topics {
                if let Err(place) = self.topics.binary_search(topic) {
                    self.topics.insert(place, *topic);
                }
            }
            return;
        }
        self.topics.reserve_exact(topics.len());
        self.topics.extend_from_slice(topics);
        // Joins what is in order already.
        self.topics.sort();
        self.topics.dedup();
    }

    /// Removes rows.
    pub(super) fn remove(&mut self, topics: &[Topic]) {
        if !self.wide.is_empty() {
            for topic in topics {
                self.wide.remove(topic);
            }
            if self.wide.is_empty() {
                self.wide = HashMap::new();
            }
        }
        if topics.len() <= ONE_BY_ONE_MAX {
            for topic in topics {
                if let Ok(place) = self.topics.binary_search(topic) {
                    self.topics.remove(place);
                }
            }
            return;
        }
        let mut ended = topics.to_vec();
        ended.sort_unstable();
        self.topics.retain(|topic| ended.binary_search(topic).is_err());
        self.topics.shrink_to_fit();
    }

    /// Removes all but those that stay, which are told with their rows if they are wide.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(Topic, Option<&WideRow>) -> bool) {
        let wide = &self.wide;
        self.topics.retain(|topic| stays(*topic, wide.get(topic).map(|row| &**row)));
        self.topics.shrink_to_fit();
        self.wide.retain(|topic, row| stays(*topic, Some(row)));
        self.wide.shrink_to_fit();
    }
}

#[cfg(test)]
impl Asked {
    /// Panics if the rows are not those of the wide topics.
    pub(super) fn check(&self) {
        let wide = self.topics.iter().filter(|topic| topic.narrow().is_none());
        assert_eq!(wide.count(), self.wide.len());
        assert!(self.topics.is_sorted_by(|one, other| one < other));
        for topic in &self.topics {
            assert_eq!(Subject::new(*topic, self.wide.get(topic)).topic(), *topic);
        }
    }
}
