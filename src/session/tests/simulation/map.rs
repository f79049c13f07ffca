//! A reader's rows and versions by the rules of the protocol: [`Map`].

use std::collections::BTreeMap;

use super::history::State;
use crate::model::epoch::Epoch;

/// The epochs of the store have small numbers, those of one reader alone random ones.
const EPOCH_MAX: u64 = 0xFF;

/// What a reader keeps, also from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Map {
    entries: BTreeMap<u64, Entry>,
    /// The epoch of all, and that which was told of the table, by its name or with all.
    epoch_of_all: Option<Epoch>,
    epoch: Option<Epoch>,
    /// The greatest version that it knows.
    newest: u64,
    /// True if this connection was told an epoch. Until then versions may be of any: what comes is taken in its order, and without
    /// its version.
    is_told: bool,
    /// The newest version of each row that came in this epoch on this connection.
    came: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Nothing older is taken.
    version: u64,
    /// The version that it says to know.
    claim: u64,
    row: State,
}

impl Map {
    /// Begins another connection.
    pub(super) fn connect(&mut self) {
        self.is_told = false;
        self.came.clear();
    }

    /// Returns whether this connection was told an epoch: answers go in order with all else from then on.
    pub(super) const fn is_told(&self) -> bool {
        self.is_told
    }

    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns the version that it says to know of a row; 0: none.
    pub(super) fn claim(&self, number: u64) -> u64 {
        self.entries.get(&number).map_or(0, |entry| entry.claim)
    }

    /// Returns the row that it shows.
    pub(super) fn row(&self, number: u64) -> State {
        self.entries.get(&number).and_then(|entry| entry.row)
    }

    /// Enters an epoch of all, or of the table. Versions of another one mean nothing; rows stay.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch, is_of_table: bool) {
        self.is_told = true;
        if !is_of_table && self.epoch_of_all.replace(epoch) == Some(epoch) || self.epoch == Some(epoch) {
            return;
        }
        self.epoch = Some(epoch);
        self.void_versions();
    }

    fn void_versions(&mut self) {
        self.newest = 0;
        self.came.clear();
        self.entries.retain(|_, entry| entry.row.is_some());
        self.entries.values_mut().for_each(|entry| (entry.version, entry.claim) = (0, 0));
    }

    /// Takes a row, or its deletion; `is_ending` says whether it may be of an epoch that was not told.
    pub(super) fn take(&mut self, number: u64, version: u64, row: State, is_ending: bool) {
        if !is_ending {
            self.check(number, version);
        }
        if let (Some((epoch, _)), Some(told)) = (row, self.epoch.filter(|_| self.is_told && !is_ending)) {
            assert!(told.get() == epoch || told.get() > EPOCH_MAX, "a version of {epoch} in {told:?}");
        }
        let before = self.entries.get(&number).copied().unwrap_or_default();
        let is_again = version == before.version && before.row.is_none();
        if !self.is_told {
            self.entries.insert(number, Entry { row, ..Entry::default() });
        } else if version > before.version || is_again {
            self.newest = self.newest.max(version);
            self.entries.insert(number, Entry { version, claim: version, row });
        }
    }

    /// Takes likewise an absence, at a version or at one that is not known: 0.
    pub(super) fn take_absence(&mut self, number: u64, version: u64, is_ending: bool) {
        if version > 0 && !is_ending {
            self.check(number, version);
        }
        let before = self.entries.get(&number).copied().unwrap_or_default();
        if version > 0 && version < before.version && self.is_told {
            return;
        }
        self.newest = self.newest.max(version);
        let entry = match (version, before.row) {
            (0, None) => before,
            // It went after that version, and whoever says to know that would not be told of a row that has it.
            (0, Some(_)) => Entry { claim: before.version.saturating_sub(1), row: None, ..before },
            _ => Entry { version, claim: version, row: None },
        };
        self.entries.insert(number, entry);
    }

    fn check(&mut self, number: u64, version: u64) {
        if self.is_told {
            let before = self.came.insert(number, version).unwrap_or(0);
            assert!(version >= before, "{number} goes from {before} back to {version}");
        }
    }
}
