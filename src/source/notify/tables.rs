//! The tables beside the products, as the looks at the database find them: [`Watched`] says what is fed of each, and what is
//! to be done about it. Pure.
//!
//! A table was noted as it was when its epoch began. Where a look finds it otherwise, rows may have changed without their
//! versions: it is lost until it is noted anew, with another epoch. Before that it is prepared once more, as at the start:
//! another table may have its name, and its key another type.

use std::collections::VecDeque;

use crate::model::epoch::Epoch;
use crate::store::postgres::tables::{InstalledTable, TableLook, TableNote, TableState};

/// The number of looks within which rows that a truncation took are read again; the next one takes half a minute.
const LOOKS_OF_TRUNCATION: u64 = 10;
/// The most files of truncations that are remembered: some more than there may be between two looks.
const FILES_MAX: usize = 64;

/// What was fed of a table, which outlives sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    is_lost: bool,
    epoch: Option<Epoch>,
    /// The number of the last look that was begun before the last truncation was heard.
    truncated_after: Option<u64>,
    /// The files that truncations have given it, the newest last. One of these is no reason to lose the table.
    files: VecDeque<u32>,
    /// The table as it was prepared last, if it was not as it is noted.
    prepared: Option<String>,
    /// True from when its rows could not be read until they can be.
    is_unreadable: bool,
    /// True from a gap that its triggers told until all of that transaction is heard.
    has_gap: bool,
}

/// What is fed of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Lost,
    /// What was missed is to be read.
    Missed,
    Began(Epoch),
}

/// What is to be done about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Note(TableNote),
    Prepare,
    /// Reads are to be tried.
    Try,
}

/// The conclusion from a look at a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub(super) word: Option<Word>,
    pub(super) step: Option<Step>,
    /// The reason for which it is not live, and what somebody can do about that.
    pub(super) obstacle: Option<String>,
    /// True if versions went back, which are those of all tables: an epoch of all is to begin.
    pub(super) is_replaced: bool,
}

impl Watched {
    /// Returns whether it was fed that changes may be missed.
    pub(super) const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Learns that its triggers did not tell a change. Returns what is to be fed.
    pub(super) const fn gap(&mut self) -> Option<Word> {
        let was_told = std::mem::replace(&mut self.has_gap, true) || self.is_lost;
        if was_told { None } else { Some(Word::Lost) }
    }

    /// Learns that all of the transactions that were being heard are. Returns what is to be fed.
    pub(super) const fn heard_whole(&mut self) -> Option<Word> {
        let had_gap = std::mem::replace(&mut self.has_gap, false);
        if had_gap && !self.is_lost { Some(Word::Missed) } else { None }
    }

    /// Learns that a truncation was heard, after so many looks were begun.
    pub(super) const fn truncated(&mut self, looks: u64) {
        self.truncated_after = Some(looks);
    }

    /// Learns that a truncation gave it this file. It is heard before any look finds that.
    pub(super) fn has_file(&mut self, file: u32) {
        if self.files.len() == FILES_MAX {
            self.files.pop_front();
        }
        self.files.push_back(file);
    }

    /// Learns that versions of all tables are of another epoch.
    pub(super) const fn epoch_of_all(&mut self) {
        self.epoch = None;
    }

    /// Learns that the table was prepared as a look found it.
    pub(super) fn prepared(&mut self, look: &TableLook) {
        self.prepared = Some(look.seen.text());
    }

    /// Learns that its rows cannot be read.
    pub(super) const fn unreadable(&mut self) {
        self.is_unreadable = true;
    }

    /// Learns that its rows can be read.
    pub(super) const fn readable(&mut self) {
        self.is_unreadable = false;
    }

    /// Concludes from the look with this number, for a server that may have read a row that was older than it knew.
    pub(super) fn conclude(
        &mut self,
        table: &InstalledTable,
        look: &TableLook,
        number: u64,
        has_regressed: bool,
    ) -> Conclusion {
        let name = &table.name;
        let (seen, noted) = (look.seen.text(), look.noted.clone());
        let note = |begins| {
            let (name, expected, expected_epoch, seen) = (name.clone(), noted.clone(), look.epoch(), seen.clone());
            Some(Step::Note(TableNote { name, expected, expected_epoch, seen, begins }))
        };
        match look.seen.state(table) {
            TableState::Gone => {
                self.lost(None, Some("there is no such table; make it again, or leave it out of --table"))
            }
            TableState::NoKey if look.has_no_trigger() => self.lost(
                None,
                Some(
                    "Rowcast was taken off it; `rowcast migrate` installs it again, or leave the table out of --table",
                ),
            ),
            TableState::TriggersOff if look.has_trigger_off() => {
                let off = look.off.as_deref().unwrap_or_default();
                let advice = format!("its trigger {off}; enable it (ALTER TABLE … ENABLE ALWAYS TRIGGER …)");
                self.lost(None, Some(&advice))
            }
            TableState::NoRights => {
                // It is noted so: once it has them again, its rows may have changed.
                let step = if look.is_as_noted() { None } else { note(true) };
                self.lost(
                    step,
                    Some(
                        "a function of its triggers (rowcast_before_…, rowcast_after_…, rowcast_truncated) belongs to a role \
                         that may not use what is Rowcast's; give it to one that may (ALTER FUNCTION … OWNER TO …)",
                    ),
                )
            }
            TableState::Swapped | TableState::NoKey | TableState::TriggersOff => {
                self.lost(Some(Step::Prepare), Some("it is not as it was installed, and is being looked at"))
            }
            TableState::Live if self.is_unreadable => {
                self.lost(Some(Step::Try), Some("its rows cannot be read; see the log"))
            }
            TableState::Live if noted.is_none() => Conclusion { step: note(false), ..self.live(look.epoch()) },
            TableState::Live if look.is_as_noted() => {
                self.prepared = None;
                let is_epoch_lost = look.epoch().is_none() && self.epoch.is_some();
                if is_epoch_lost || has_regressed && self.was_emptied_before(number) {
                    self.lost(note(true), None)
                } else if has_regressed {
                    Conclusion { is_replaced: true, ..self.live(look.epoch()) }
                } else {
                    self.live(look.epoch())
                }
            }
            TableState::Live => {
                let is_truncated = look.seen.file().is_some_and(|file| self.files.contains(&file));
                if is_truncated && look.seen.differs_by_file_alone(noted.as_deref().unwrap_or_default()) {
                    return Conclusion { step: note(false), ..self.live(look.epoch()) };
                }
                let is_prepared = self.prepared.as_ref() == Some(&seen);
                self.lost(if is_prepared { note(true) } else { Some(Step::Prepare) }, None)
            }
        }
    }

    /// Returns whether deletions from before a truncation may be all that is left of rows, as far as this look can tell.
    /// Without that, versions that go back are those of all tables, whose sequence was set back.
    fn was_emptied_before(&self, look: u64) -> bool {
        self.truncated_after.is_some_and(|after| look.saturating_sub(after) <= LOOKS_OF_TRUNCATION)
    }

    fn lost(&mut self, step: Option<Step>, obstacle: Option<&str>) -> Conclusion {
        let was_told = std::mem::replace(&mut self.is_lost, true) || self.has_gap;
        let word = (!was_told).then_some(Word::Lost);
        Conclusion { word, step, obstacle: obstacle.map(str::to_owned), is_replaced: false }
    }

    fn live(&mut self, epoch: Option<Epoch>) -> Conclusion {
        // What would end a gap that is not heard whole waits for the next look.
        if self.has_gap && (self.is_lost || epoch != self.epoch) {
            return Conclusion::default();
        }
        let was_lost = std::mem::take(&mut self.is_lost);
        let word = match epoch.filter(|_| epoch != self.epoch) {
            Some(epoch) => Some(Word::Began(epoch)),
            None => was_lost.then_some(Word::Missed),
        };
        self.epoch = epoch;
        Conclusion { word, ..Conclusion::default() }
    }
}

#[cfg(test)]
mod tests;
