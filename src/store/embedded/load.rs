//! Reads for the shards, each with its mark in the source's stream.

use redb::ReadTransaction;
use tokio::sync::oneshot;

use super::data_file::{META, PRODUCTS, VERSION};
use super::guard::guarded;
use super::writer::Request;
use super::{EmbeddedStore, unwritable, versioned};
use crate::model::key::Key;
use crate::model::product::ProductId;
use crate::model::table::TableId;
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

    /// Reads the ids and versions that follow `after` in the same way.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn keys(&self, table: TableId, after: Option<Key>, barrier: u64) -> Result<Keys, StoreError> {
        debug_assert_eq!(table, TableId::PRODUCTS, "only products are stored");
        let snapshot = self.snapshot(barrier).await?;
        self.readers.read(move |_| read_keys(&snapshot, after.as_ref())).await
    }

    async fn snapshot(&self, barrier: u64) -> Result<ReadTransaction, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writes.send(Request::Snapshot(barrier, answer)).await.map_err(|_| unwritable())?;
        answered.await.map_err(|_| unwritable())?
    }
}

/// Reads until the texts have [`READ_BYTES_MAX`] bytes, and leaves the rest. A product that is not there has been told to
/// be gone up to the version that was given last.
fn read(snapshot: &ReadTransaction, rows: &[Subject]) -> Result<Read, redb::Error> {
    let products = snapshot.open_table(PRODUCTS)?;
    let last_version = snapshot.open_table(META)?.get(VERSION)?.map_or(0, |version| version.value());
    let (mut read, mut bytes) = (Read { found: Vec::with_capacity(rows.len()), left: Vec::new() }, 0);
    for topic in rows.iter().map(Subject::topic) {
        if bytes >= READ_BYTES_MAX {
            read.left.push(topic);
            continue;
        }
        let id = ProductId::of_topic(topic).expect("only products are read");
        let found = match guarded(|| Ok(products.get(id.get())?.map(|row| versioned(id.get(), row.value())))) {
            Ok(Some(row)) => Found::Present(row),
            Ok(None) => Found::Absent { version: last_version },
            Err(redb::Error::Corrupted(_)) => Found::Unreadable,
            Err(error) => return Err(error),
        };
        if let Found::Present(row) = &found {
            let product = &row.product;
            bytes += product.manufacturer.len() + product.price_per_unit.len() + product.product_name.len();
        }
        read.found.push((topic, found));
    }
    Ok(read)
}

/// Reads up to [`READ_IDS_MAX`] ids. A row that cannot be read has no version that is known.
fn read_keys(snapshot: &ReadTransaction, after: Option<&Key>) -> Result<Keys, redb::Error> {
    let products = snapshot.open_table(PRODUCTS)?;
    let first = after.and_then(ProductId::of_key).map_or(0, |after| after.get() + 1);
    let mut keys = Vec::new();
    for entry in products.range(first..)? {
        if keys.len() >= READ_IDS_MAX {
            return Ok(Keys { keys, is_last: false });
        }
        let (key, row) = entry?;
        let version = match guarded(|| Ok(row.value().0)) {
            Ok(version) => version,
            Err(redb::Error::Corrupted(_)) => 0,
            Err(error) => return Err(error),
        };
        let id = ProductId::new(key.value()).expect("only product ids are stored");
        keys.push((id.subject(), version));
    }
    Ok(Keys { keys, is_last: true })
}
