//! The topics that a shard keeps for those who are told of every topic: [`Kept`], pure data.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::topic::Topic;

/// The topics, in their order: whoever lists them comes back to a place, whatever came and went meanwhile.
#[derive(Debug, Default)]
pub(super) struct Kept {
    topics: BTreeSet<Topic>,
    /// The number of those of all shards of the process.
    of_all_shards: Arc<AtomicUsize>,
}

impl Kept {
    /// Returns a set without topics that counts those of all shards there.
    pub(super) const fn counting(of_all_shards: Arc<AtomicUsize>) -> Self {
        Self { topics: BTreeSet::new(), of_all_shards }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn insert(&mut self, topic: Topic) {
        if self.topics.insert(topic) {
            self.of_all_shards.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&mut self, topic: Topic) {
        if self.topics.remove(&topic) {
            self.of_all_shards.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the first topic.
    pub(super) fn pop(&mut self) -> Option<Topic> {
        let topic = self.topics.pop_first()?;
        self.of_all_shards.fetch_sub(1, Ordering::Relaxed);
        Some(topic)
    }

    /// Returns up to `max` topics that follow one, or the first, by rising ids.
    pub(super) fn after(&self, topic: Option<Topic>, max: usize) -> Vec<Topic> {
        let from = topic.map_or(Unbounded, Excluded);
        self.topics.range((from, Unbounded)).take(max).copied().collect()
    }
}
