//! Reads of tables' rows: for the shards, each with its mark in the stream (see [`load`](crate::store::postgres::load)), and
//! for lists.
//!
//! Rows come as JSON as `row_to_json` writes it, with the columns that nobody is shown: [`HiddenColumns`] takes those out.
//!
//! [`HiddenColumns`]: super::HiddenColumns

use std::collections::HashMap;

use tokio_postgres::Row;

use super::InstalledTable;
use crate::model::key::Key;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::{PostgresStore, column, number};
use crate::store::{READ_BYTES_MAX, READ_IDS_MAX, StoreError};

const LOAD: &str =
    "SELECT key, version, is_there, row_text FROM rowcast_load(rowcast_named($1, $2::text, false), $3, $4)";
/// Of one row, which a read of several would spoil: without its text where that cannot be read.
const LOAD_ONE: &str =
    "SELECT key, version, is_there, row_text FROM rowcast_load_one(rowcast_named($1, $2::text, false), $3)";
const KEYS: &str = "SELECT key, version FROM rowcast_keys(rowcast_named($1, $2::text, false), $3, $4)";
const PAGE: &str = "SELECT key, version, row_text FROM rowcast_page(rowcast_named($1, $2::text, false), $3, $4, $5)";

/// The outcome of a read of some rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRead {
    /// The keys that were read, all at one moment.
    pub found: Vec<(Key, FoundRow)>,
    /// The keys that are left for another read. All of them where a row among them spoilt the reading of the others.
    pub left: Vec<Key>,
}

/// A row as a read found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundRow {
    /// It is there.
    Present {
        /// Its version.
        version: u64,
        /// Its JSON.
        row: Box<str>,
    },
    /// It is not.
    Absent {
        /// The version up to which that is known; 0 where it is not.
        version: u64,
    },
    /// It is there and cannot be read.
    Unreadable {
        /// Its version; 0 where that cannot be read either.
        version: u64,
    },
}

/// The keys and versions of rows that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableKeys {
    /// By the order of the table's keys, all at one moment; without those that are too long.
    pub keys: Vec<(Key, u64)>,
    /// The text after which the next ones follow, if there may be any.
    pub next: Option<String>,
}

/// Rows of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePage {
    /// The keys, versions and rows, by the order of the table's keys; without those whose keys are too long.
    pub rows: Vec<(Key, u64, Box<str>)>,
    /// The text after which the next ones follow, if there are any.
    pub next: Option<String>,
}

impl PostgresStore {
    /// Reads the rows with these keys, at most [`READ_IDS_MAX`], and marks the stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load_rows(&self, table: &InstalledTable, keys: &[Key], barrier: u64) -> Result<TableRead, StoreError> {
        let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let bytes_max = i64::try_from(READ_BYTES_MAX).unwrap_or(i64::MAX);
        let rows = match &texts[..] {
            [text] => self.query_and_mark(LOAD_ONE, &[&table.id, &table.name, text], barrier).await,
            texts => self.query_and_mark(LOAD, &[&table.id, &table.name, &texts, &bytes_max], barrier).await,
        };
        match rows.and_then(|rows| read(table, keys, &rows)) {
            Err(failure) if failure.is_of_data() => Ok(match keys {
                [key] => {
                    TableRead { found: vec![(key.clone(), FoundRow::Unreadable { version: 0 })], left: Vec::new() }
                }
                _ => TableRead { found: Vec::new(), left: keys.to_vec() },
            }),
            outcome => self.told(outcome),
        }
    }

    /// Reads the keys and versions that follow the text of a key, or the first, at most [`READ_IDS_MAX`] of them, and marks
    /// the stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn row_keys(
        &self,
        table: &InstalledTable,
        after: Option<&str>,
        barrier: u64,
    ) -> Result<TableKeys, StoreError> {
        let limit = i64::try_from(READ_IDS_MAX).unwrap_or(i64::MAX);
        let outcome = self.query_and_mark(KEYS, &[&table.id, &table.name, &after, &limit], barrier).await;
        self.told(outcome.and_then(|rows| {
            let mut keys = TableKeys::default();
            for row in &rows {
                if let Ok(key) = table.kind.of_text(column(row, "key")?) {
                    keys.keys.push((key, number(row, "version")?));
                }
            }
            if rows.len() == READ_IDS_MAX {
                keys.next = rows.last().map(|row| column(row, "key")).transpose()?;
            }
            Ok(keys)
        }))
    }

    /// Reads no more of a table than it takes to find what such reads are refused or held up by.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn try_reading(&self, table: &InstalledTable) -> Result<(), StoreError> {
        let no_keys: Vec<String> = Vec::new();
        self.query(LOAD, &[&table.id, &table.name, &no_keys, &0_i64]).await?;
        self.query(KEYS, &[&table.id, &table.name, &None::<&str>, &1_i64]).await.map(|_| ())
    }

    /// Returns at most `limit` rows that follow the text of a key, or the first: as many as have `bytes_max` bytes together,
    /// but at least one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_rows(
        &self,
        table: &InstalledTable,
        after: Option<&str>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<TablePage, StoreError> {
        // One more is looked at.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(i64::MAX - 1);
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let rows = self.query(PAGE, &[&table.id, &table.name, &after, &limit, &bytes_max]).await?;
        self.told(page(table, &rows))
    }

    /// Returns the row with this key, with its version.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_row(&self, table: &InstalledTable, key: &Key) -> Result<Option<(u64, Box<str>)>, StoreError> {
        let rows = self.query(LOAD, &[&table.id, &table.name, &vec![key.to_string()], &i64::MAX]).await?;
        let row = rows.iter().find(|row| matches!(row.try_get("is_there"), Ok(true)));
        self.told(row.map(|row| Ok((number(row, "version")?, column(row, "row_text")?))).transpose())
    }
}

/// Returns each key as the rows have it.
fn read(table: &InstalledTable, keys: &[Key], rows: &[Row]) -> Result<TableRead, Failure> {
    let mut found_by_key: HashMap<Key, FoundRow> = HashMap::with_capacity(rows.len());
    let mut is_whole = true;
    for row in rows {
        let Some(text) = column::<Option<&str>>(row, "key")? else {
            is_whole = false;
            continue;
        };
        let Ok(key) = table.kind.of_text(text) else { continue };
        let version = number(row, "version")?;
        if column(row, "is_there")? {
            found_by_key.insert(
                key,
                match column(row, "row_text")? {
                    Some(row) => FoundRow::Present { version, row },
                    None => FoundRow::Unreadable { version },
                },
            );
        } else {
            // Tombstones come first, and a row that is there replaces its own.
            found_by_key.insert(key, FoundRow::Absent { version });
        }
    }
    let mut read = TableRead::default();
    for key in keys {
        match found_by_key.remove(key) {
            // A row that is not there any more, or one that found no room.
            Some(FoundRow::Absent { .. }) | None if !is_whole => read.left.push(key.clone()),
            Some(found) => read.found.push((key.clone(), found)),
            None => read.found.push((key.clone(), FoundRow::Absent { version: 0 })),
        }
    }
    Ok(read)
}

fn page(table: &InstalledTable, rows: &[Row]) -> Result<TablePage, Failure> {
    let mut page = TablePage::default();
    let mut last: Option<&str> = None;
    for row in rows {
        let Some(text) = column::<Option<&str>>(row, "key")? else {
            page.next = last.map(str::to_owned);
            break;
        };
        last = Some(text);
        if let Ok(key) = table.kind.of_text(text) {
            page.rows.push((key, number(row, "version")?, column(row, "row_text")?));
        }
    }
    Ok(page)
}
