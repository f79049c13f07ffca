//! Reads for the shards, each with its mark in the source's stream.

use redb::ReadTransaction;
use tokio::sync::oneshot;

use super::data_file::{META, ROWS, VERSION};
use super::guard::guarded;
use super::writer::Request;
use super::{EmbeddedStore, damaged, keys, unwritable, versioned};
use crate::model::key::Key;
use crate::model::table::{TableId, Tables};
use crate::model::topic::Subject;
use crate::store::{Found, Keys, READ_BYTES_MAX, READ_IDS_MAX, Read, StoreError};

impl EmbeddedStore {
    /// Reads these rows as they are between two commits, where the stream gets the mark. The writing thread only takes
    /// the snapshot; it is read beside the writes that follow.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load(&self, rows: Vec<Subject>, barrier: u64) -> Result<Read, StoreError> {
        let snapshot = self.snapshot(barrier).await?;
        self.readers.read(move |_| read(&snapshot, &rows)).await
    }

    /// Reads the keys and versions of a table's rows that follow `after` in the same way.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn keys(&self, table: TableId, after: Option<Key>, barrier: u64) -> Result<Keys, StoreError> {
        let snapshot = self.snapshot(barrier).await?;
        let tables = self.tables.clone();
        self.readers.read(move |_| read_keys(&snapshot, &tables, table, after.as_ref())).await
    }

    async fn snapshot(&self, barrier: u64) -> Result<ReadTransaction, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writes.send(Request::Snapshot(barrier, answer)).await.map_err(|_| unwritable())?;
        answered.await.map_err(|_| unwritable())?
    }
}

/// Reads until the rows have [`READ_BYTES_MAX`] bytes, and leaves the rest. A row that is not there has been told to be
/// gone up to the version that was given last.
fn read(snapshot: &ReadTransaction, wanted: &[Subject]) -> Result<Read, redb::Error> {
    let rows = snapshot.open_table(ROWS)?;
    let last_version = snapshot.open_table(META)?.get(VERSION)?.map_or(0, |version| version.value());
    let (mut read, mut bytes) = (Read { found: Vec::with_capacity(wanted.len()), left: Vec::new() }, 0);
    for subject in wanted {
        let topic = subject.topic();
        if bytes >= READ_BYTES_MAX {
            read.left.push(topic);
            continue;
        }
        let key = subject.key();
        let found = guarded(|| {
            let row = rows.get(&keys::encode(topic.table(), &key)[..])?;
            row.map(|row| versioned(key, row.value())).transpose()
        });
        let found = match found {
            Ok(Some(row)) => Found::Present(row),
            Ok(None) => Found::Absent { version: last_version },
            Err(redb::Error::Corrupted(_)) => Found::Unreadable { version: 0 },
            Err(error) => return Err(error),
        };
        if let Found::Present(row) = &found {
            bytes += row.row.as_bytes().len();
        }
        read.found.push((topic, found));
    }
    Ok(read)
}

/// Reads up to [`READ_IDS_MAX`] keys. A row that cannot be read has no version that is known.
fn read_keys(
    snapshot: &ReadTransaction,
    tables: &Tables,
    table: TableId,
    after: Option<&Key>,
) -> Result<Keys, redb::Error> {
    let rows = snapshot.open_table(ROWS)?;
    let mut found = Vec::new();
    for entry in keys::range(&rows, table, after)? {
        if found.len() >= READ_IDS_MAX {
            let next = found.last().map(|(last, _): &(Subject, u64)| last.key());
            return Ok(Keys { keys: found, next });
        }
        let (key, row) = entry?;
        let version = match guarded(|| Ok(row.value().0)) {
            Ok(version) => version,
            Err(redb::Error::Corrupted(_)) => 0,
            Err(error) => return Err(error),
        };
        let key = keys::decode(key.value()).ok_or_else(damaged)?;
        found.push((tables.subject(table, key), version));
    }
    Ok(Keys { keys: found, next: None })
}
