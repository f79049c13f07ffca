//! The tables of a session: what their triggers tell and what the looks find is fed, and what is to be done is begun.

use super::{Aside, Session, Unwanted};
use crate::model::change::{Action, Change};
use crate::model::epoch::Epoch;
use crate::model::event::SourceEvent;
use crate::source::notify::Lost;
use crate::source::notify::notification::{self, RowAt, TableChange, TablePayload};
use crate::source::notify::tables::{Conclusion, Step, Watched, Word};
use crate::store::postgres::tables::prepare::prepare_again;
use crate::store::postgres::tables::{InstalledTable, TableError, TableLook};

/// The reason of a gap that a TRUNCATE makes (`migrations/0004_tables.sql`).
const TRUNCATED: &str = "truncated";
/// The reason of a gap where a row had a greater version than the sequence drew (`tables/before.sql`).
const REPLACED: &str = "replaced";
/// The reason that is shown of a table that is being put right.
const PASSING: &str = "it was changed, and is being read anew";

impl Session<'_> {
    /// Concludes from the look with this number at all tables.
    pub(super) async fn conclude_tables(
        &mut self,
        looks: &[TableLook],
        number: u64,
        epoch: Epoch,
    ) -> Result<(), Unwanted> {
        let store = self.listener.store.clone();
        for (place, (served, look)) in store.served().iter().zip(looks).enumerate() {
            let (table, installed) = (served.table.id, served.installed());
            let has_regressed = served.take_regressed();
            if served.take_unreadable() {
                self.known.tables[place].unreadable();
            }
            let concluded = self.known.tables[place].conclude(&installed, look, number, has_regressed);
            let Conclusion { word, step, obstacle, is_replaced } = concluded;
            self.show_obstacle(place, &installed.name, obstacle, step.as_ref());
            if is_replaced {
                self.renew(epoch, "a row is older than what was told of it");
            }
            if let Some(step) = step
                && self.busy.insert(place)
            {
                self.begin_step(place, installed.as_ref().clone(), look.clone(), step);
            }
            let event = match word {
                None => continue,
                Some(Word::Lost) => SourceEvent::TableLost(table),
                Some(Word::Missed) => SourceEvent::Missed(table),
                Some(Word::Began(epoch)) => {
                    tracing::warn!(table = &*served.table.name, %epoch, "the versions of a table began anew");
                    SourceEvent::TableBegan(table, epoch)
                }
            };
            self.send(event).await?;
        }
        Ok(())
    }

    fn show_obstacle(&self, place: usize, name: &str, obstacle: Option<String>, step: Option<&Step>) {
        let health = &self.listener.health;
        let is_lost = self.known.tables[place].is_lost();
        // What was found when it was prepared last is shown until it is prepared.
        let is_kept = step == Some(&Step::Prepare) && health.tables().contains_key(name);
        if is_lost && is_kept {
            return;
        }
        let reason = is_lost.then(|| obstacle.unwrap_or_else(|| PASSING.to_owned()));
        if !health.set_table(name, reason.as_deref()) {
            return;
        }
        if let Some(reason) = reason {
            tracing::error!(table = name, reason, "a table is not live");
        } else {
            tracing::info!(table = name, "a table is live again");
        }
    }

    fn begin_step(&mut self, place: usize, installed: InstalledTable, look: TableLook, step: Step) {
        let store = self.listener.store.clone();
        match step {
            Step::Note(note) => {
                self.asides.spawn(async move { Aside::Noted(place, store.note(&note).await) });
            }
            Step::Try => {
                self.asides.spawn(async move { Aside::Tried(place, store.try_reading(&installed).await) });
            }
            Step::Prepare => {
                let (config, installs) = (self.listener.config.clone(), self.listener.installs);
                self.asides.spawn(async move {
                    let prepared = prepare_again(&config, &installed, installs).await;
                    Aside::Prepared(place, Box::new((look, prepared)))
                });
            }
        }
    }

    /// Learns what came of preparing a table once more.
    pub(super) fn table_prepared(
        &mut self,
        place: usize,
        look: &TableLook,
        prepared: Result<InstalledTable, TableError>,
    ) {
        self.busy.remove(&place);
        match prepared {
            Ok(installed) => {
                self.listener.store.served().replace(place, installed);
                self.known.tables[place].prepared(look);
                self.is_look_due = true;
            }
            Err(error) => {
                let Some(served) = self.listener.store.served().iter().nth(place) else { return };
                // Others than its own words may name hosts.
                let shown = match &error {
                    TableError::Database { .. } => "it could not be installed on; see the log".to_owned(),
                    told => told.to_string().trim_start_matches(&format!("table {}: ", served.table.name)).to_owned(),
                };
                if self.listener.health.set_table(&served.table.name, Some(&shown)) {
                    tracing::error!(%error, "a table is not live");
                }
            }
        }
    }

    /// Takes the word of another table's trigger, if that table is cast.
    pub(super) async fn hear_table(&mut self, payload: TablePayload<'_>) -> Result<Result<(), Unwanted>, Lost> {
        match payload {
            TablePayload::Change(change) => {
                self.hear_version(change.version, (change.oid, change.key));
                self.forward_row(change).await
            }
            // Nobody can be subscribed to such a key.
            TablePayload::Keyless { oid, version } => {
                self.known.floor = self.known.floor.max(version);
                if self.listener.store.served().by_oid(oid).is_some() {
                    self.listener.health.metrics().source.keys_too_long.inc();
                }
                Ok(Ok(()))
            }
            TablePayload::Gap { oid, reason } => {
                if self.listener.store.served().by_oid(oid).is_none() {
                    return Ok(Ok(()));
                }
                if reason == TRUNCATED {
                    let looks = self.known.proofs;
                    self.hear_of(oid, |table| table.truncated(looks));
                }
                if let (REPLACED, Some(epoch)) = (reason, self.known.epoch) {
                    self.renew(epoch, "the sequence of versions was below that of a row");
                }
                Ok(self.begin_gap(oid, reason).await)
            }
            TablePayload::File { oid, file } => {
                self.hear_of(oid, |table| table.has_file(file));
                Ok(Ok(()))
            }
        }
    }

    /// Feeds a change of another table.
    async fn forward_row(&mut self, change: TableChange<'_>) -> Result<Result<(), Unwanted>, Lost> {
        let tables = self.listener.store.served();
        let Some(served) = tables.by_oid(change.oid) else { return Ok(Ok(())) };
        let Ok(subject) = tables.subject(served, change.key) else {
            return Ok(self.begin_gap(change.oid, "a change has no key of its table").await);
        };
        let row = match change.row {
            RowAt::Payload(row) => served.shown(row),
            RowAt::Table => served.shown(self.oversize_message(change.version).await?.row_of(&change)?),
            RowAt::Nowhere => None,
        };
        let action = match change.action {
            notification::Action::Insert => Action::Insert,
            notification::Action::Update => Action::Update,
            notification::Action::Delete => Action::Delete,
        };
        let change = match row {
            Some(row) => Change::of_row(action, subject, change.version, row),
            None => Change::of_key(action, subject, change.version, &served.table),
        };
        Ok(self.send(SourceEvent::Change(change)).await)
    }

    /// Feeds that changes of the table with this number in `pg_class` are missing. Which they are is known once all of the
    /// transaction is heard: Postgres drops a second gap of one transaction, whatever was told between.
    async fn begin_gap(&mut self, oid: u32, reason: &str) -> Result<(), Unwanted> {
        let word = self.hear_of(oid, Watched::gap).flatten();
        // A gap ends with a look at the latest.
        self.is_look_due = true;
        let Some(served) = self.listener.store.served().by_oid(oid).filter(|_| word.is_some()) else { return Ok(()) };
        tracing::info!(table = &*served.table.name, reason, "changes of a table were not told; its rows are read");
        self.send(SourceEvent::TableLost(served.table.id)).await
    }

    /// Ends the gaps of tables, once a notification of another transaction is heard: those of one follow each other.
    pub(super) async fn end_gaps(&mut self) -> Result<(), Unwanted> {
        for place in 0..self.known.tables.len() {
            let Some(Word::Missed) = self.known.tables[place].heard_whole() else { continue };
            let Some(served) = self.listener.store.served().iter().nth(place) else { continue };
            self.send(SourceEvent::Missed(served.table.id)).await?;
        }
        Ok(())
    }

    /// Has what is known of the table with this number in `pg_class`, if it is cast, learn something, and returns what that
    /// answers.
    fn hear_of<T>(&mut self, oid: u32, learn: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        let place = self.listener.store.served().iter().position(|served| served.installed().oid == oid)?;
        Some(learn(&mut self.known.tables[place]))
    }
}
