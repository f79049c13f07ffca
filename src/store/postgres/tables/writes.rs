//! Writes of one row of a table: [`RowWrite`].

use tokio_postgres::Row;

use super::InstalledTable;
use crate::model::key::Key;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::{Condition, PostgresStore, TRIES_MAX, column};
use crate::store::{Precondition, StoreError};

const WRITE: &str = "SELECT fault, is_new, told_key, version, row_text \
     FROM rowcast_write(rowcast_named($1, $2::text, true), $3, $4, $5::text::json, $6, $7, $8)";

/// A write of one row. Rows and patches are JSON objects; of members with one name the last counts.
#[derive(Clone, Copy, Debug)]
pub enum RowWrite<'a> {
    /// Adds a row.
    Insert {
        /// Its key; without one it is the one in the row, or one that the database gives it.
        key: Option<&'a Key>,
        /// The row; a column that it does not name gets its default.
        row: &'a str,
    },
    /// Writes a whole row, new or not.
    Put {
        /// Its key.
        key: &'a Key,
        /// The row; a column that it does not name gets its default.
        row: &'a str,
    },
    /// Changes the columns that are named, of a row that is there.
    Patch {
        /// Its key.
        key: &'a Key,
        /// The columns; those of JSON are merged (RFC 7396).
        patch: &'a str,
    },
    /// Removes a row that is there.
    Delete {
        /// Its key.
        key: &'a Key,
    },
}

/// A row as it is after it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenRow {
    /// Its key.
    pub key: Key,
    /// True if there was no row with this key.
    pub is_new: bool,
    /// The version of the change, without a row that of its removal; 0 where it is not known, of a delete that somebody has
    /// undone.
    pub version: u64,
    /// The row as `row_to_json` writes it; none of one that was deleted, or that a trigger of its table has removed again.
    pub row: Option<Box<str>>,
}

/// The reason for which a row was not written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// It names a column that the table does not have.
    #[error("the table has no column {0}")]
    NoColumn(String),
    /// It has another key than the one that it is written under, or its column would make another of it.
    #[error("the row has another key than the one that it is written under")]
    OtherKey,
    /// An insert of a key that is taken.
    #[error("a row with this key exists")]
    Exists,
    /// No row has this key.
    #[error("no row has this key")]
    NotFound,
    /// The row is not as the precondition demands.
    #[error("the row is not as the precondition demands")]
    PreconditionFailed,
    /// The store's refusal or failure.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RowWrite<'_> {
    const fn action(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "insert",
            Self::Put { .. } => "put",
            Self::Patch { .. } => "patch",
            Self::Delete { .. } => "delete",
        }
    }

    /// Returns the key that it is written under, unless the row has it or the database draws it.
    pub(in super::super) const fn key(&self) -> Option<&Key> {
        match self {
            Self::Insert { key, .. } => *key,
            Self::Put { key, .. } | Self::Patch { key, .. } | Self::Delete { key } => Some(key),
        }
    }

    const fn json(&self) -> Option<&str> {
        match self {
            Self::Insert { row, .. } | Self::Put { row, .. } => Some(row),
            Self::Patch { patch, .. } => Some(patch),
            Self::Delete { .. } => None,
        }
    }
}

impl PostgresStore {
    /// Writes a row in one transaction, if the condition holds of it then.
    ///
    /// # Errors
    /// See [`RowError`].
    pub async fn write_row(
        &self,
        table: &InstalledTable,
        write: RowWrite<'_>,
        condition: Precondition,
    ) -> Result<WrittenRow, RowError> {
        let (action, key, json) = (write.action(), write.key().map(Key::to_string), write.json());
        let Condition { presence, wanted, unwanted } = condition.into();
        let mut tries = 1;
        let rows = loop {
            let arguments: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&table.id, &table.name, &action, &key, &json, &presence, &wanted, &unwanted];
            match self.query_once(WRITE, &arguments).await {
                // Somebody else may have inserted the key meanwhile: that is found in a second look.
                Err(failure) if failure.is_taken() && tries == 1 || failure.may_pass() && tries < TRIES_MAX => {
                    tries += 1;
                }
                outcome => break self.told(outcome)?,
            }
        };
        match self.told(column::<Option<&str>>(&rows[0], "fault"))? {
            None => Ok(self.told(written(table, &rows[0]))?),
            Some("unknown") => Err(RowError::NoColumn(self.told(column(&rows[0], "told_key"))?)),
            Some("key") => Err(RowError::OtherKey),
            Some("exists") => Err(RowError::Exists),
            Some("absent") => Err(RowError::NotFound),
            Some("unmet") => Err(RowError::PreconditionFailed),
            Some(_) => Err(self.told::<()>(Err(Failure::LeftOut)).expect_err("it is an error").into()),
        }
    }
}

fn written(table: &InstalledTable, row: &Row) -> Result<WrittenRow, Failure> {
    let key = table.key_of_stored(column(row, "told_key")?);
    let version = column::<Option<i64>>(row, "version")?.map_or(0, i64::cast_unsigned);
    Ok(WrittenRow { key, is_new: column(row, "is_new")?, version, row: column(row, "row_text")? })
}
