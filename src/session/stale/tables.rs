//! The tables of what is stale: [`StaleTables`], pure data.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Stale;
use crate::model::table::TableId;
use crate::model::topic::Topic;

/// The tables, in the order of their turns: the next is first.
#[derive(Debug, Default)]
pub(super) struct StaleTables(VecDeque<StaleTable>);

/// One table.
#[derive(Debug)]
pub(super) struct StaleTable {
    table: TableId,
    /// The number of topics that are stale.
    pub(super) stale: usize,
    /// The number of those whose pulls are under way.
    pub(super) pulled: usize,
    /// The places of those that wait, in their order. A place counts if the topic has its number.
    pub(super) waiting: VecDeque<(Topic, u32)>,
}

impl StaleTables {
    /// Returns the table of a topic, which it has from here on.
    pub(super) fn of(&mut self, topic: Topic) -> &mut StaleTable {
        let table = topic.table();
        let place = self.0.iter().position(|its| its.table == table).unwrap_or_else(|| {
            self.0.push_back(StaleTable { table, stale: 0, pulled: 0, waiting: VecDeque::new() });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// Returns the tables that have stale topics, and of each the number of pulls that are under way.
    pub(super) fn stale(&self) -> impl Iterator<Item = (TableId, usize)> {
        self.0.iter().filter(|its| its.stale > 0).map(|its| (its.table, its.pulled))
    }

    /// Returns whether a topic of these tables waits.
    pub(super) fn have_waiting(&self, is_open: impl Fn(TableId) -> bool) -> bool {
        self.0.iter().any(|its| its.stale > its.pulled && is_open(its.table))
    }

    /// Gives these tables their turn.
    pub(super) fn in_turn(&mut self, is_open: impl Fn(TableId) -> bool) -> impl Iterator<Item = &mut StaleTable> {
        if self.0.len() > 1 {
            self.0.rotate_left(1);
        }
        self.0.iter_mut().filter(move |its| its.stale > its.pulled && is_open(its.table))
    }

    /// Counts all anew, and forgets the places of what is not stale any more.
    pub(super) fn count(&mut self, stale_by_topic: &HashMap<Topic, Stale>) {
        for its in &mut self.0 {
            (its.stale, its.pulled) = (0, 0);
            its.waiting.retain(|(topic, _)| stale_by_topic.contains_key(topic));
        }
        for (topic, stale) in stale_by_topic {
            let its = self.of(*topic);
            its.stale += 1;
            its.pulled += usize::from(stale.is_pulled);
        }
    }
}
