//! The tables of which a reader is told every row, those to come too: [`Everything`], and what a session does about them.
//!
//! Where the reader asks for their states, the rows are listed once the shards have carried the command out
//! ([`stale::pages`](super::stale)), and pulled like those that it named.

use super::epochs::Standing;
use super::values::Values;
use super::{Effects, Given, Session};
use crate::fanout::Listed;
use crate::model::epoch::Epoch;
use crate::model::table::TableId;
use crate::model::topic::Subjects;

/// The tables of which a reader is told every row.
#[derive(Debug, Default)]
pub(super) struct Everything(Vec<Whole>);

/// One of them.
#[derive(Debug)]
struct Whole {
    table: TableId,
    /// True if the reader asked for their states too.
    is_asked: bool,
    /// The newest version that it claims to know of any row, until that is looked at; 0: none.
    newest_claimed: u64,
    /// The newest of those that the shards know, as far as they have said.
    newest_heard: u64,
}

impl Everything {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, table: TableId) -> bool {
        self.0.iter().any(|whole| whole.table == table)
    }

    /// Returns the tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = TableId> {
        self.0.iter().map(|whole| whole.table)
    }

    /// Returns the tables whose states the reader asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = TableId> {
        self.0.iter().filter(|whole| whole.is_asked).map(|whole| whole.table)
    }

    fn get_mut(&mut self, table: TableId) -> Option<&mut Whole> {
        self.0.iter_mut().find(|whole| whole.table == table)
    }

    fn add(&mut self, table: TableId) {
        if !self.contains(table) {
            self.0.push(Whole { table, is_asked: false, newest_claimed: 0, newest_heard: 0 });
        }
    }

    pub(super) fn remove(&mut self, table: TableId) {
        self.0.retain(|whole| whole.table != table);
    }

    /// Forgets the versions of the tables that begin anew.
    pub(super) fn begin_anew(&mut self, begins: impl Fn(TableId) -> bool) {
        for whole in self.0.iter_mut().filter(|whole| begins(whole.table)) {
            (whole.newest_claimed, whole.newest_heard) = (0, 0);
        }
    }
}

impl Session {
    /// Begins to be told of every row.
    pub(super) fn follow_all(&mut self, table: TableId, given: &Given<'_>) {
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        values.everything.add(table);
        values.is_filtered |= self.grant.is_some();
    }

    /// Begins to ask for the states of all rows, which are listed once the shards have carried the command out.
    pub(super) fn ask_everything(
        &mut self,
        table: TableId,
        (newest, its): (u64, Option<Epoch>),
        epoch: Epoch,
        standing: &Standing,
        given: &Given<'_>,
    ) {
        let told = self.tell_epochs(Some(table), its, epoch, standing, given);
        if let Some(values) = &mut self.values {
            values.stale.list(Subjects::default(), Vec::new());
            let newest = if its == Some(told) { newest } else { 0 };
            if let Some(whole) = values.everything.get_mut(table) {
                (whole.is_asked, whole.newest_claimed) = (true, whole.newest_claimed.max(newest));
            }
        }
    }

    /// Takes the shards' word on the list of all rows.
    pub(super) fn listed(&mut self, listed: Listed, given: &Given<'_>, effects: &mut Effects) {
        match (listed, &mut self.values) {
            (Listed::Newest(table, newest), Some(values)) => {
                if let Some(whole) = values.everything.get_mut(table) {
                    whole.newest_heard = whole.newest_heard.max(newest);
                }
            }
            (Listed::Page(mut page), Some(_)) => {
                if self.is_filtered() {
                    page.topics = page.topics.iter().filter(|subject| self.may_get(subject)).collect();
                }
                if let Some(values) = &mut self.values {
                    values.stale.page(page);
                }
                self.settle_values(given, effects);
            }
            (_, None) => {}
        }
    }

    /// Asks for the states of all rows, for a command that the shards have carried out.
    pub(super) fn list_all(&mut self, table: TableId, number: u32) {
        let Some(values) = &mut self.values else { return };
        let Some(whole) = values.everything.get_mut(table).filter(|whole| whole.is_asked) else { return };
        // A version that none reaches is of another history: the reader begins anew.
        let is_false = std::mem::take(&mut whole.newest_claimed) > whole.newest_heard;
        let part = values.stale.list_all(table);
        if let Some(commands) = &mut self.commands {
            commands.awaits(number, part);
        }
        if is_false {
            self.begin_own_epoch();
        }
    }

    /// Learns that it is not told of every row, since the shards refuse to, or its new grant does not cover them.
    pub(super) fn unfollow_everything(&mut self, table: TableId) {
        if let Some(values) = &mut self.values {
            values.everything.remove(table);
            values.stale.end_pages(table);
        }
    }
}
