//! The rows of a table and their versions, as far as they are known: [`Replica`], pure data.
//!
//! It follows docs/protocol.md. Within an epoch the versions of a row only grow, deletions included, so that the
//! version at which a row went is kept too; where a row is missing, that version is taken again, since a server may lag
//! behind the one before it. Another epoch makes every version mean nothing. Of everything, what is not named until the
//! reply is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::event::{Action, Change, Entry, Row};
use crate::key::Key;
use crate::message;

/// The rows that are gone whose versions are kept.
const GONE_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Replica {
    table: Arc<str>,
    epoch: Option<Arc<str>>,
    known_by_key: BTreeMap<Key, Known>,
    /// The greatest version that was told in this epoch.
    newest: u64,
    /// The rows that went, in that order; some of them may be there again.
    gone: VecDeque<Key>,
    /// The rows that were named since [`Replica::begin`].
    named: Option<BTreeSet<Key>>,
    owed: BTreeSet<Key>,
}

/// The state of one row.
#[derive(Default)]
struct Known {
    /// The version of the row, or that at which it went; 0 if none was told in this epoch.
    version: u64,
    /// True if the version is not that of the state that is known: of a row that went it is the one before.
    is_doubtful: bool,
    row: Option<Row>,
    /// The newer version of which the key alone was told.
    owed: Option<(u64, Action)>,
}

impl Known {
    const fn exists(&self) -> bool {
        self.row.is_some() || self.owed.is_some()
    }

    fn newest(&self) -> u64 {
        self.owed.map_or(self.version, |(version, _)| version)
    }
}

impl Replica {
    pub(crate) fn new(table: Arc<str>, epoch: Option<Arc<str>>) -> Self {
        Self { table, epoch, ..Self::default() }
    }

    /// Returns the epoch of the versions, though none may be known.
    pub(crate) fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// Returns the greatest version, if any is known.
    pub(crate) fn newest(&self) -> Option<u64> {
        (self.epoch.is_some() && self.newest > 0).then_some(self.newest)
    }

    /// Returns the version whose state is known of a row, there or gone; 0 if none is.
    pub(crate) fn version(&self, key: &Key) -> u64 {
        self.known_by_key.get(key).filter(|known| !known.is_doubtful).map_or(0, |known| known.version)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        let (key, known) = self.known_by_key.get_key_value(key)?;
        entry(key, known)
    }

    /// Returns the rows that exist, in the order of their keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.known_by_key.iter().filter_map(|(key, known)| entry(key, known))
    }

    /// Returns the rows to be read.
    pub(crate) const fn owed(&self) -> &BTreeSet<Key> {
        &self.owed
    }

    /// Begins to be told everything: what is not named from here on until [`Replica::complete`] will be gone.
    pub(crate) fn begin(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    /// Learns that all was told since [`Replica::begin`].
    pub(crate) fn complete(&mut self) -> Vec<Change> {
        let Some(named) = self.named.take() else { return Vec::new() };
        let there = self.known_by_key.iter().filter(|(_, known)| known.exists()).map(|(key, _)| key);
        let gone: Vec<Key> = there.filter(|key| !named.contains(key)).cloned().collect();
        gone.iter().filter_map(|key| self.drop_row(key, 0, Action::Absent)).collect()
    }

    /// Learns that a row is named. What earlier subscriptions brought is not.
    pub(crate) fn name(&mut self, key: &Key) {
        if let Some(named) = &mut self.named {
            named.insert(key.clone());
        }
    }

    /// Begins an epoch: forgets versions, and keeps rows. Returns false if it is the same.
    pub(crate) fn enter_epoch(&mut self, epoch: &Arc<str>) -> bool {
        if self.epoch.as_ref() == Some(epoch) {
            return false;
        }
        self.epoch = Some(Arc::clone(epoch));
        self.newest = 0;
        self.gone.clear();
        self.owed.clear();
        self.known_by_key.retain(|_, known| {
            (known.version, known.owed) = (0, None);
            known.exists()
        });
        true
    }

    /// Takes a change, or a row as it is; returns what is other by it.
    pub(crate) fn apply(&mut self, change: &message::Change) -> Option<Change> {
        let message::Change { key, version, action, row, .. } = change;
        let known = self.known_by_key.entry(key.clone()).or_default();
        let is_repeated = *version == known.version && known.row.is_some();
        known.is_doubtful &= !is_repeated;
        if *version < known.newest() || is_repeated {
            return None;
        }
        self.newest = self.newest.max(*version);
        let previous = known.row.clone();
        match row {
            _ if *action == Action::Delete => return self.drop_row(key, *version, *action),
            Some(row) => {
                *known = Known { version: *version, row: Some(row.clone()), ..Known::default() };
                self.owed.remove(key);
            }
            None if known.owed.is_some_and(|(owed, _)| owed == *version) => return None,
            None => {
                known.owed = Some((*version, *action));
                self.owed.insert(key.clone());
            }
        }
        Some(self.told(key, *version, *action, previous))
    }

    /// Returns a change to the row as it is known.
    fn told(&self, key: &Key, version: u64, action: Action, previous: Option<Row>) -> Change {
        let known = self.known_by_key.get(key);
        let row = known.and_then(|known| known.row.clone());
        let is_owed = known.is_some_and(|known| known.owed.is_some());
        Change { table: Arc::clone(&self.table), key: key.clone(), version, action, row, previous, is_owed }
    }

    /// Takes the word that a row does not exist; version 0: it is not known since when.
    pub(crate) fn absent(&mut self, key: &Key, version: u64) -> Option<Change> {
        if 0 < version && version < self.known_by_key.get(key).map_or(0, Known::newest) {
            return None;
        }
        self.newest = self.newest.max(version);
        self.drop_row(key, version, Action::Absent)
    }

    /// Takes a row that was owed and has been read.
    pub(crate) fn fill(&mut self, key: &Key, version: u64, row: Row) -> Option<Change> {
        let (owed, action) = self.known_by_key.get(key)?.owed?;
        if version < owed {
            return None;
        }
        self.apply(&message::Change { table: None, key: key.clone(), version, action, row: Some(row) })
    }

    /// Returns the state of a row that exists.
    pub(crate) fn state(&self, key: &Key) -> Option<Change> {
        let known = self.known_by_key.get(key).filter(|known| known.exists())?;
        Some(self.told(key, known.newest(), Action::Snapshot, None))
    }

    /// Returns the states of all rows that exist.
    pub(crate) fn states(&self) -> Vec<Change> {
        self.known_by_key.keys().filter_map(|key| self.state(key)).collect()
    }

    /// Has the state of a row told anew, whatever is known of it.
    pub(crate) fn doubt(&mut self, key: &Key) {
        if let Some(known) = self.known_by_key.get_mut(key) {
            known.is_doubtful = true;
        }
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.known_by_key.remove(key);
        self.owed.remove(key);
    }

    pub(crate) fn forget_all_but(&mut self, is_kept: impl Fn(&Key) -> bool) {
        self.known_by_key.retain(|key, _| is_kept(key));
        self.owed.retain(is_kept);
        self.named = None;
    }

    fn drop_row(&mut self, key: &Key, version: u64, action: Action) -> Option<Change> {
        let known = self.known_by_key.entry(key.clone()).or_default();
        let (existed, previous) = (known.exists(), known.row.take());
        // A server that lags behind the one before may tell the row at its version again.
        let is_doubtful = version == 0 && (existed || known.is_doubtful);
        *known = Known { version: version.max(known.version), is_doubtful, ..Known::default() };
        self.owed.remove(key);
        self.gone.push_back(key.clone());
        if self.gone.len() > GONE_MAX
            && let Some(first) = self.gone.pop_front()
            && self.known_by_key.get(&first).is_some_and(|known| !known.exists())
        {
            self.known_by_key.remove(&first);
        }
        existed.then(|| self.told(key, version, action, previous))
    }
}

fn entry(key: &Key, known: &Known) -> Option<Entry> {
    let row = known.row.clone()?;
    Some(Entry { key: key.clone(), version: known.version, row, is_owed: known.owed.is_some() })
}
