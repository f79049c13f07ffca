//! The tables of a session: what the looks find is fed, and what is to be done is begun.

use super::{Aside, Session, Unwanted};
use crate::model::epoch::Epoch;
use crate::model::event::SourceEvent;
use crate::source::notify::tables::{Conclusion, Step, Watched, Word};
use crate::store::postgres::tables::prepare::prepare_again;
use crate::store::postgres::tables::{InstalledTable, TableError, TableLook};

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

    /// Has what is known of the table with this number in `pg_class`, if it is cast, learn something.
    pub(super) fn hear_of(&mut self, oid: u32, learn: impl FnOnce(&mut Watched)) {
        let served = self.listener.store.served();
        if let Some(place) = served.iter().position(|served| served.installed().oid == oid) {
            learn(&mut self.known.tables[place]);
        }
    }
}
