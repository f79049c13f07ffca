//! What the truth of a table's changes depends on, as the database has it at one moment: [`Fingerprint`].

use tokio_postgres::Row;

use super::InstalledTable;
use crate::store::StoreError;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::{PostgresStore, column};

const FINGERPRINTS: &str = "SELECT oid, file, columns, key, triggers FROM rowcast_fingerprints($1, $2)";

/// A table as its name is read at one moment. Where two of the same table differ, its rows may have changed without
/// being told: a column with a default was added, the table was swapped by renaming, or rewritten, or its triggers were
/// off for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    oid: Option<u32>,
    file: Option<u32>,
    columns: Option<String>,
    key: Option<String>,
    triggers: Option<String>,
}

/// Whether the changes of a table are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// They are.
    Live,
    /// There is no such table.
    Gone,
    /// Another table has its name, which is to be installed.
    Swapped,
    /// The column of its key is none any more: renamed, dropped, or without its unique index.
    NoKey,
    /// A trigger is missing or off.
    TriggersOff,
}

impl Fingerprint {
    /// Returns whether the changes of the table with this fingerprint are told as it was installed.
    #[must_use]
    pub fn state(&self, table: &InstalledTable) -> TableState {
        match self {
            Self { oid: None, .. } => TableState::Gone,
            Self { oid: Some(oid), .. } if *oid != table.oid => TableState::Swapped,
            Self { key: None, .. } => TableState::NoKey,
            Self { triggers: None, .. } => TableState::TriggersOff,
            _ => TableState::Live,
        }
    }
}

impl PostgresStore {
    /// Returns the fingerprints of tables, in their order, as of one moment, and marks the stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn fingerprints(&self, tables: &[InstalledTable], barrier: u64) -> Result<Vec<Fingerprint>, StoreError> {
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let ids: Vec<i32> = tables.iter().map(|table| table.id).collect();
        let rows = self.query_and_mark(FINGERPRINTS, &[&names, &ids], barrier).await;
        self.told(rows.and_then(|rows| rows.iter().map(fingerprint).collect()))
    }
}

fn fingerprint(row: &Row) -> Result<Fingerprint, Failure> {
    Ok(Fingerprint {
        oid: column(row, "oid")?,
        file: column(row, "file")?,
        columns: column(row, "columns")?,
        key: column(row, "key")?,
        triggers: column(row, "triggers")?,
    })
}
