//! The tables beside products that a reader is subscribed to rows of: what it is told where changes of one of them alone may
//! be missing.

use super::answer;
use super::epochs::Standing;
use super::queue::Word;
use super::stale::Part;
use super::values::Values;
use super::{Effects, Given, Phase, Session};
use crate::fanout::{self, Operation};
use crate::model::table::TableId;

/// A table that a reader is subscribed to rows of.
#[derive(Clone, Copy, Debug)]
pub(super) struct FollowedTable {
    table: TableId,
    /// True if the reader was told that what it shows of the table may be old.
    is_told_lost: bool,
    /// The part after which it is told that the table is back.
    live_after: Option<Part>,
    /// True if the subscriptions have ended, and the reader is yet to be told that the table is back: with the next one.
    has_ended: bool,
}

/// Ends the subscriptions to rows of tables. Those of which the reader was told that they are lost are kept, since it may
/// remember that too.
pub(super) fn end_tables(followed: &mut Vec<FollowedTable>, ends: impl Fn(TableId) -> bool) {
    followed.retain_mut(|its| {
        if ends(its.table) {
            (its.has_ended, its.live_after) = (true, None);
        }
        !its.has_ended || its.is_told_lost
    });
    if followed.is_empty() {
        *followed = Vec::new();
    }
}

impl Session {
    /// Notes the table of a command that subscribes, and tells the reader where changes are missing.
    pub(super) fn follow_table(&mut self, command: &fanout::Command, standing: &Standing, given: &Given<'_>) {
        if !standing.is_live {
            self.tell_lost();
        }
        let table = match command.operation {
            Operation::SubscribeAll { table, .. } => Some(table),
            _ => command.topics.topics().first().map(|topic| topic.table()),
        };
        let Some(table) = table.filter(|table| *table != TableId::PRODUCTS) else { return };
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        let before = values.followed.iter_mut().find(|its| its.table == table);
        let returns = before.as_ref().is_some_and(|its| its.has_ended);
        if let Some(its) = before {
            its.has_ended = false;
        } else {
            let its = FollowedTable { table, is_told_lost: false, live_after: None, has_ended: false };
            values.followed.push(its);
        }
        self.tell_epoch_of_followed(table, standing, given);
        if !standing.is_table_live(table) {
            self.tell_table_lost(table, given);
        } else if returns {
            self.tell_table_live(table, given);
        }
    }

    /// Learns that every subscription to rows of a table ends.
    pub(super) fn unfollow_table(&mut self, table: TableId) {
        if let Some(values) = &mut self.values {
            end_tables(&mut values.followed, |its| its == table);
        }
    }

    /// Learns that there are no subscriptions.
    pub(super) fn unfollow_tables(&mut self) {
        if let Some(values) = &mut self.values {
            end_tables(&mut values.followed, |_| true);
        }
    }

    /// Returns whether the reader is subscribed to rows of a table.
    pub(super) fn follows(&mut self, table: TableId) -> bool {
        self.followed(table).is_some()
    }

    /// Returns the tables that the reader is subscribed to rows of.
    pub(super) fn followed_tables(&self) -> Vec<TableId> {
        let followed = self.values.iter().flat_map(|values| &values.followed);
        followed.filter(|its| !its.has_ended).map(|its| its.table).collect()
    }

    fn followed(&mut self, table: TableId) -> Option<&mut FollowedTable> {
        self.values.as_mut()?.followed.iter_mut().find(|its| its.table == table && !its.has_ended)
    }

    /// Learns that changes of a table may be missing from here on, or that all that was missed has been given to it.
    pub(super) fn table_live(&mut self, table: TableId, is_live: bool, given: &Given<'_>, effects: &mut Effects) {
        if self.phase != Phase::Open || !self.follows(table) {
            return;
        }
        if !is_live {
            // Nobody is told of a return that did not last.
            let is_taken = self.queue.take_word(Word::TableLive(table));
            if let Some(its) = self.followed(table) {
                its.live_after = None;
                its.is_told_lost |= is_taken;
            }
            self.tell_table_lost(table, given);
            self.settle_values(given, effects);
            return;
        }
        let part = self.values.as_mut().filter(|values| !values.stale.is_empty()).map(|values| values.stale.end_part());
        let Some(its) = self.followed(table).filter(|its| its.is_told_lost) else { return };
        its.live_after = part;
        if part.is_none() {
            self.tell_table_live(table, given);
        }
    }

    /// Takes the words back that tables are live, since changes that were missed give way: they are told again after those.
    pub(super) fn take_table_lives(&mut self) {
        let Some(values) = &mut self.values else { return };
        for its in &mut values.followed {
            if self.queue.take_word(Word::TableLive(its.table)) {
                its.is_told_lost = true;
                its.live_after = Some(values.stale.end_part());
            }
        }
    }

    /// Tells that tables are live whose states have come.
    pub(super) fn settle_tables(&mut self, given: &Given<'_>) {
        let Some(values) = &mut self.values else { return };
        let (stale, followed) = (&values.stale, &mut values.followed);
        let is_due = |its: &&mut FollowedTable| its.live_after.is_some_and(|part| stale.is_answered(part));
        let due = followed.iter_mut().filter(is_due).map(|its| {
            its.live_after = None;
            its.table
        });
        for table in due.collect::<Vec<_>>() {
            self.tell_table_live(table, given);
        }
    }

    /// Tells the reader, once, that what it shows of a table may be old.
    fn tell_table_lost(&mut self, table: TableId, given: &Given<'_>) {
        if let Some(its) = self.followed(table).filter(|its| !its.is_told_lost) {
            its.is_told_lost = true;
            self.say(Word::Other, answer::table_live(false, &given.tables.get(table)));
        }
    }

    fn tell_table_live(&mut self, table: TableId, given: &Given<'_>) {
        if let Some(its) = self.followed(table) {
            its.is_told_lost = false;
            self.say(Word::TableLive(table), answer::table_live(true, &given.tables.get(table)));
        }
    }
}
