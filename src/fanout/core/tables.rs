//! What is known of one table beside the source as a whole: its own epoch, and whether changes of it alone were missed.

use std::rc::Rc;

use hashbrown::HashMap;

use super::super::message::{Beginning, History, Message, TableTerm, TableWord};
use super::super::{CoreId, SlotKey};
use super::{Core, Subscriber, TELL_COST};
use crate::model::epoch::Epoch;
use crate::model::table::TableId;

/// The tables that are not as all are, for connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStandings {
    /// The epochs of those that have one of their own.
    epochs: HashMap<TableId, Epoch>,
    /// Those of which changes may be missing.
    lost: Vec<TableId>,
}

impl TableStandings {
    #[cfg(test)]
    pub(crate) fn of(epochs: &[(TableId, Epoch)], lost: &[TableId]) -> Self {
        Self { epochs: epochs.iter().copied().collect(), lost: lost.to_vec() }
    }

    /// Returns the epoch of a table, if it has one of its own.
    #[must_use]
    pub fn epoch(&self, table: TableId) -> Option<Epoch> {
        self.epochs.get(&table).copied()
    }

    /// Returns whether no change of a table is missing that is not missing of all.
    #[must_use]
    pub fn is_live(&self, table: TableId) -> bool {
        !self.lost.contains(&table)
    }
}

/// The tables of a core.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Those of which the source said that changes were missed, until all cores have told those; and those that other cores
    /// are ahead with.
    health_by_table: HashMap<TableId, TableHealth>,
    /// For connections; `None` while all tables are alike.
    standings: Option<Rc<TableStandings>>,
    /// The numbers of the histories that began last: of all, and of tables.
    begun: u32,
    begun_by_table: HashMap<TableId, u32>,
    /// The connections that are to be told whether a table is live, and flushed.
    telling: Vec<(TableId, Vec<SlotKey>)>,
}

/// A core's knowledge of whether all that was missed of a table is told.
#[derive(Debug)]
struct TableHealth {
    /// The number of the source's last word; 0: there was none yet.
    number: u32,
    /// True if changes may be missed.
    is_lost: bool,
    /// Of each core: the last word before which it has told all that was missed.
    healed: Vec<u32>,
}

impl TableHealth {
    fn new(cores: usize) -> Self {
        Self { number: 0, is_lost: false, healed: vec![0; cores] }
    }

    fn is_live(&self) -> bool {
        !self.is_lost && self.healed.iter().all(|&healed| healed >= self.number)
    }

    /// Returns whether there is nothing to remember.
    fn is_settled(&self) -> bool {
        !self.is_lost && self.healed.iter().all(|&healed| healed == self.number)
    }
}

impl Tables {
    /// Returns whether every table is as all are.
    pub(super) fn are_alike(&self) -> bool {
        self.health_by_table.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.telling.is_empty()
    }

    /// Returns whether the source said of this table alone that changes may be missed.
    pub(super) fn is_lost(&self, table: TableId) -> bool {
        self.health_by_table.get(&table).is_some_and(|health| health.is_lost)
    }

    /// Returns whether versions of a table that are of the history with this number mean nothing any more.
    pub(super) fn is_void(&self, history: u32, table: TableId) -> bool {
        history < self.begun || self.begun_by_table.get(&table).is_some_and(|&begun| history < begun)
    }

    fn health(&mut self, table: TableId, cores: usize) -> &mut TableHealth {
        self.health_by_table.entry(table).or_insert_with(|| TableHealth::new(cores))
    }

    fn change(&mut self, change: impl FnOnce(&mut TableStandings)) {
        let mut standings = self.standings.as_deref().cloned().unwrap_or_default();
        change(&mut standings);
        self.standings = (standings != TableStandings::default()).then(|| Rc::new(standings));
    }
}

impl<S: Subscriber> Core<S> {
    /// Returns the tables that are not as all are, if any.
    #[must_use]
    pub fn table_standings(&self) -> Option<Rc<TableStandings>> {
        self.tables.standings.clone()
    }

    /// Takes the source's word on one table.
    pub(super) fn take_table_term(&mut self, TableTerm { table, number, history, word }: TableTerm) {
        // The answers of the shards so far are of the history so far.
        self.send_waiting();
        let health = self.tables.health(table, self.hub.cores());
        (health.number, health.is_lost) = (number, word == TableWord::Lost);
        match word {
            TableWord::Lost => {
                self.shards.iter_mut().for_each(|shard| shard.lose_table(table));
                self.lose_everything_of(table);
            }
            TableWord::Missed | TableWord::Began => {
                let is_new_epoch = word == TableWord::Began;
                self.shards.iter_mut().for_each(|shard| shard.miss(table, is_new_epoch));
                self.everything.miss(table);
                if !self.health.is_lost {
                    self.list_table_again(table);
                }
            }
        }
        if word == TableWord::Began {
            self.health.term.history = history;
            self.turn_to(history);
        }
        self.update_live_table(table);
    }

    /// Learns that a core has told all that was missed of a table before a word of the source.
    pub(super) fn table_healed(&mut self, core: CoreId, table: TableId, number: u32) {
        self.tables.health(table, self.hub.cores()).healed[usize::from(core.0)] = number;
        self.update_live_table(table);
    }

    /// Tells all other cores, once for each word of the source, that what was missed of tables before it is told. The shards have
    /// told all that they were to read.
    pub(super) fn tell_healed_tables(&mut self) {
        let own = usize::from(self.id.0);
        let is_due = |health: &TableHealth| !health.is_lost && health.healed[own] < health.number;
        let due = self.tables.health_by_table.iter().filter(|(_, health)| is_due(health));
        let due: Vec<(TableId, u32)> = due.map(|(&table, health)| (table, health.number)).collect();
        for (table, number) in due {
            if self.everything.is_listed_of(table) {
                let (own, cores) = (self.id, (0..).map(CoreId).take(self.hub.cores()));
                cores.filter(|core| *core != own).for_each(|core| {
                    self.hub.send(core, Message::TableHealed(own, table, number));
                });
                self.table_healed(own, table, number);
            }
        }
    }

    /// Learns of a history from one that is in it, and tells the connections which epochs began with it and before it.
    pub(super) fn turn_to(&mut self, history: History) {
        if history.number <= self.told.number {
            return;
        }
        for beginning in self.hub.beginnings(self.id, self.told.number, history.number) {
            self.begin_epoch(beginning);
        }
        self.told = history;
    }

    fn begin_epoch(&mut self, Beginning { number, table, epoch }: Beginning) {
        let Some(table) = table else {
            self.tables.begun = number;
            // Before the first, tables may have been told theirs.
            if self.told.epoch.is_some() {
                self.tables.change(|standings| standings.epochs.clear());
            }
            self.told.epoch = Some(epoch);
            self.seats.values_mut().for_each(|seat| seat.subscriber.epoch(epoch));
            self.health.telling = self.seats.keys().collect();
            return;
        };
        self.tables.begun_by_table.insert(table, number);
        self.tables.change(|standings| {
            standings.epochs.insert(table, epoch);
        });
        self.seats.values_mut().for_each(|seat| seat.subscriber.table_epoch(table, epoch));
        self.tell_of_table(table);
    }

    fn update_live_table(&mut self, table: TableId) {
        let Some(health) = self.tables.health_by_table.get(&table) else { return };
        let is_live = health.is_live();
        if health.is_settled() {
            self.tables.health_by_table.remove(&table);
        }
        let was_live = self.tables.standings.as_ref().is_none_or(|standings| standings.is_live(table));
        if is_live == was_live {
            return;
        }
        self.tables.change(
            |TableStandings { lost, .. }| {
                if is_live { lost.retain(|its| *its != table) } else { lost.push(table) }
            },
        );
        self.tell_of_table(table);
    }

    /// Has all connections told whether a table is live, and flushed.
    fn tell_of_table(&mut self, table: TableId) {
        self.tables.telling.retain(|(its, _)| *its != table);
        self.tables.telling.push((table, self.seats.keys().collect()));
        self.ask_for_turn();
    }

    /// Tells a slice of the connections whether a table is live.
    pub(super) fn tell_of_tables(&mut self, cost: &mut usize) {
        let Some((table, mut keys)) = self.tables.telling.pop() else { return };
        let told = keys.len().min((*cost / TELL_COST).max(1));
        let is_live = self.tables.standings.as_ref().is_none_or(|standings| standings.is_live(table));
        for key in keys.split_off(keys.len() - told) {
            if let Some(seat) = self.seats.get_mut(key) {
                seat.subscriber.table_live(table, is_live);
                self.touch(key);
            }
        }
        *cost = cost.saturating_sub(told * TELL_COST);
        if !keys.is_empty() {
            self.tables.telling.push((table, keys));
        }
    }
}
