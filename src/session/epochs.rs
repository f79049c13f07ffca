//! The epochs of versions that a reader is told: `Epochs`, and what a session does where one begins. Versions of another
//! epoch mean nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use super::queue::Word;
use super::values::Values;
use super::{Effects, Given, Phase, Session, answer};
use crate::fanout::{CastRun, TableStandings};
use crate::model::epoch::Epoch;
use crate::model::table::TableId;
use crate::wire::event_stream;
use crate::wire::frame::FrameRun;

/// The standing of the shards towards the source of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The epoch of the versions that they tell, once it is known.
    pub epoch: Option<Epoch>,
    /// Whether no change was missed.
    pub is_live: bool,
    /// The tables that are not as all are, if any.
    pub tables: Option<Rc<TableStandings>>,
}

impl Standing {
    /// Returns the epoch of a table, if it has one of its own.
    fn own_epoch(&self, table: TableId) -> Option<Epoch> {
        self.tables.as_ref().and_then(|tables| tables.epoch(table))
    }

    /// Returns whether no change of a table was missed that was not missed of all.
    pub(super) fn is_table_live(&self, table: TableId) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.is_live(table))
    }
}

/// The epochs that a reader was told.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// That of all versions; `None` if it never asked for states.
    all: Option<Epoch>,
    /// The meaning of that.
    told_as: ToldAs,
    /// Those of tables, which it was told after that.
    by_table: HashMap<TableId, Epoch>,
}

/// The meaning of the epoch of all versions to a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ToldAs {
    /// The first of this connection, which it may have known before, with others of tables.
    #[default]
    First,
    /// Another one, which ends those of tables.
    New,
    /// The same, of this reader alone.
    Own,
}

impl Epochs {
    /// Returns whether the reader was told any, since it asked for states.
    pub(super) const fn are_told(&self) -> bool {
        self.all.is_some()
    }

    /// Returns the epoch that the reader was told of a table, by its name or with all.
    fn of(&self, table: TableId) -> Option<Epoch> {
        self.by_table.get(&table).copied().or(self.all)
    }

    /// Begins another epoch of all versions; one who never asked for states is told it with the first of them.
    fn begin(&mut self, epoch: Epoch) {
        *self = match self.all {
            Some(_) => Self { all: Some(epoch), told_as: ToldAs::New, by_table: HashMap::new() },
            None => Self::default(),
        };
    }

    /// Begins one that nobody else has, of the tables that were told by name too.
    fn begin_own(&mut self, epoch: Epoch) {
        (self.all, self.told_as) = (Some(epoch), ToldAs::Own);
        self.by_table.values_mut().for_each(|its| *its = epoch);
    }
}

impl Session {
    /// Returns whether the reader asks for states, so that its answers go in order with them.
    pub(super) fn is_asked(&self) -> bool {
        self.values.as_ref().is_some_and(|values| values.epochs.are_told())
    }

    /// Returns the epoch that the reader was told of a table.
    pub(super) fn epoch_of(&self, table: TableId) -> Option<Epoch> {
        self.values.as_ref()?.epochs.of(table)
    }

    /// Returns changes as events. Their ids are of the epoch that the reader was told; all have them of one, but those that
    /// have an epoch of their own.
    pub(super) fn events<'a>(&self, run: &'a CastRun) -> Cow<'a, FrameRun> {
        let epoch = self.epoch_of(run.subject.topic().table());
        if self.values.as_ref().is_some_and(|values| values.epochs.told_as == ToldAs::Own) {
            Cow::Owned(event_stream::rows(epoch, &run.frames))
        } else {
            run.events(epoch)
        }
    }

    /// Tells a reader that asks for states the epoch of all versions, and that of a table which has one of its own, unless it
    /// was told; returns the one that it was told of the table.
    ///
    /// One that claims another epoch of the table is told that by name, though it be that of all: a server that is behind
    /// has not heard of the table's own yet, and of that the epoch of all says nothing.
    pub(super) fn tell_epochs(
        &mut self,
        table: Option<TableId>,
        claimed: Option<Epoch>,
        epoch: Epoch,
        standing: &Standing,
        given: &Given<'_>,
    ) -> Epoch {
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        let is_first = !values.epochs.are_told();
        let told = *values.epochs.all.get_or_insert(epoch);
        if is_first {
            self.say(Word::Other, answer::epoch(told));
            // What it follows without states is not of that epoch for all that.
            for followed in self.followed_tables() {
                self.tell_table_epoch(followed, None, told, standing, given);
            }
        }
        table.map_or(told, |table| self.tell_table_epoch(table, claimed, told, standing, given))
    }

    /// Tells the epoch of a table that has one of its own to a reader that was told the one of all versions, unless it was told
    /// that too; returns the one that it was told of the table.
    fn tell_table_epoch(
        &mut self,
        table: TableId,
        claimed: Option<Epoch>,
        told: Epoch,
        standing: &Standing,
        given: &Given<'_>,
    ) -> Epoch {
        let Some(values) = &mut self.values else { return told };
        let epochs = &mut values.epochs;
        if let Some(&of_table) = epochs.by_table.get(&table) {
            return of_table;
        }
        let of_table = standing.own_epoch(table).unwrap_or(told);
        let knows_other = claimed.is_some_and(|claimed| claimed != of_table) && epochs.told_as == ToldAs::First;
        if (of_table != told || knows_other) && table != TableId::PRODUCTS {
            epochs.by_table.insert(table, of_table);
            self.say(Word::Other, answer::table_epoch(of_table, &given.tables.get(table)));
        }
        of_table
    }

    /// Tells a reader that compares versions, since it ever asked for states, that those of a table which it subscribes to
    /// without states are of another epoch: who is not subscribed to any row was not told when that began.
    pub(super) fn tell_epoch_of_followed(&mut self, table: TableId, standing: &Standing, given: &Given<'_>) {
        if let Some(told) = self.values.as_ref().and_then(|values| values.epochs.all) {
            self.tell_table_epoch(table, None, told, standing, given);
        }
    }

    /// Begins anew with a reader that claims a version which was never there: it is told an epoch that nobody else has,
    /// and all that it asked for.
    pub(super) fn begin_own_epoch(&mut self) {
        let epoch = Epoch::random();
        self.say(Word::Other, answer::epoch(epoch));
        if let Some(values) = &mut self.values {
            values.epochs.begin_own(epoch);
            values.doubt();
        }
    }

    /// Learns the epoch of all versions from here on: changes of another one that wait mean nothing, and everything that
    /// is subscribed to will be pushed.
    pub(super) fn epoch_began(&mut self, epoch: Epoch, given: &Given<'_>, effects: &mut Effects) {
        let told = self.values.as_ref().and_then(|values| values.epochs.all);
        if self.phase != Phase::Open || told == Some(epoch) {
            return;
        }
        let gone = self.queue.take_changes();
        let mut lost: u64 = gone.iter().map(|(_, run)| run.frames() as u64).sum();
        if let Some(values) = &mut self.values {
            lost += values.begin_anew();
            values.pull_of_whole(gone);
            values.epochs.begin(epoch);
        }
        if told.is_some() {
            self.say(Word::Other, answer::epoch(epoch));
        }
        effects.skipped += lost;
        self.queue.skip(lost);
        self.settle_values(given, effects);
    }

    /// Learns the epoch of all versions of a table from here on: changes of another one that wait mean nothing, and all that
    /// is subscribed to will be pushed.
    pub(super) fn table_epoch_began(&mut self, table: TableId, epoch: Epoch, given: &Given<'_>, effects: &mut Effects) {
        let told = self.epoch_of(table);
        if self.phase != Phase::Open || told == Some(epoch) {
            return;
        }
        let gone = self.queue.take_changes_if(|topic| topic.table() == table);
        let mut lost: u64 = gone.iter().map(|(_, run)| run.frames() as u64).sum();
        let is_followed = self.follows(table);
        if let Some(values) = &mut self.values {
            lost += values.begin_table_anew(table);
            values.pull_of_whole(gone);
            // Who is not subscribed to any row is told when it asks.
            values.epochs.by_table.remove(&table);
            if is_followed && told.is_some() {
                values.epochs.by_table.insert(table, epoch);
                self.say(Word::Other, answer::table_epoch(epoch, &given.tables.get(table)));
            }
        }
        effects.skipped += lost;
        self.queue.skip(lost);
        self.settle_values(given, effects);
    }
}
