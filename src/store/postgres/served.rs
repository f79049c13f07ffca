//! The rows of tables beside the products, in the words of the store: [`ServedTables`].

use std::sync::Arc;

use super::PostgresStore;
use super::tables::{FoundRow, InstalledTable, RowError, RowWrite, TableKeys, WrittenRow};
use crate::model::key::{BadKey, Key};
use crate::model::row::Row;
use crate::model::table::{Table, TableId, Tables, TooManyTables};
use crate::model::topic::{Subject, Topic};
use crate::store::{Found, Keys, Page, Precondition, Put, Read, Refusal, RowId, StoreError, Versioned, Versions};

/// The tables whose rows are cast, beside the products. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServedTables {
    /// All tables of the process, which make the topics of rows.
    all: Tables,
    served: Arc<[ServedTable]>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct ServedTable {
    pub(crate) table: Arc<Table>,
    installed: InstalledTable,
}

impl ServedTables {
    /// Adds these to the tables of the process.
    pub(super) fn add(all: &Tables, installed: Vec<InstalledTable>) -> Result<Self, TooManyTables> {
        let served = installed.into_iter().map(|installed| {
            let table = all.add(&installed.name, installed.kind)?;
            Ok(ServedTable { table, installed })
        });
        Ok(Self { served: served.collect::<Result<_, TooManyTables>>()?, all: all.clone() })
    }

    /// Returns the table with this number in `pg_class`.
    pub(crate) fn by_oid(&self, oid: u32) -> Option<&ServedTable> {
        self.served.iter().find(|served| served.installed.oid == oid)
    }

    fn by_name(&self, name: &str) -> Result<&ServedTable, StoreError> {
        self.served.iter().find(|served| *served.table.name == *name).ok_or_else(|| StoreError::NoTable(name.into()))
    }

    fn by_id(&self, id: TableId) -> Result<&ServedTable, StoreError> {
        let its = self.served.iter().find(|served| served.table.id == id);
        its.ok_or_else(|| StoreError::Fault(format!("no table has the place {}", id.get())))
    }

    /// Returns the row of a table that a key in JSON names.
    ///
    /// # Errors
    /// If it is no key of the table, or too long.
    pub(crate) fn subject(&self, served: &ServedTable, json: &str) -> Result<Subject, BadKey> {
        let key = match serde_json::from_str::<String>(json) {
            Ok(text) => served.installed.kind.of_text(&text)?,
            Err(_) => served.installed.kind.of_text(json)?,
        };
        Ok(self.all.subject(served.table.id, key))
    }
}

impl ServedTable {
    /// Returns a row of the database as readers are shown it; `None` where it is not as `row_to_json` writes it.
    pub(crate) fn shown(&self, row: &str) -> Option<Row> {
        let mut shown = Vec::with_capacity(row.len());
        self.installed.hidden.strip(row, &mut shown).then(|| Row::encoded(shown))
    }

    fn versioned(&self, key: Key, version: u64, row: &str) -> Result<Versioned, StoreError> {
        let unread = || StoreError::Fault(format!("a row of {} is not as the database writes rows", self.table.name));
        Ok(Versioned { key, version, row: self.shown(row).ok_or_else(unread)? })
    }
}

impl PostgresStore {
    pub(crate) const fn served(&self) -> &ServedTables {
        &self.served
    }

    pub(super) async fn list_served(
        &self,
        table: &str,
        after: Option<Key>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, StoreError> {
        let served = self.served.by_name(table)?;
        let after = after.map(|key| key.to_string());
        let page = self.list_rows(&served.installed, after.as_deref(), limit, bytes_max).await?;
        let rows = page.rows.into_iter().map(|(key, version, row)| served.versioned(key, version, &row));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, more: page.next.is_some() })
    }

    pub(super) async fn get_served(&self, id: RowId) -> Result<Versioned, StoreError> {
        let served = self.served.by_name(&id.table)?;
        match self.get_row(&served.installed, &id.key).await? {
            Some((version, row)) => served.versioned(id.key, version, &row),
            None => Err(StoreError::NotFound(id)),
        }
    }

    /// Adds a row under its key, whatever the row says of that.
    pub(super) async fn insert_served(&self, id: RowId, row: &str, condition: Precondition) -> Result<u64, StoreError> {
        let is_plain = condition.is_none();
        let absent = Precondition { unwanted: Some(Versions::Any), ..condition };
        match self.write_served(&id, RowWrite::Put { key: &id.key, row }, absent).await {
            Err(StoreError::PreconditionFailed(id)) if is_plain => Err(StoreError::Exists(id)),
            outcome => outcome.map(|written| written.version),
        }
    }

    pub(super) async fn put_served(
        &self,
        id: RowId,
        row: &str,
        condition: Precondition,
    ) -> Result<(Put, u64), StoreError> {
        let written = self.write_served(&id, RowWrite::Put { key: &id.key, row }, condition).await?;
        Ok((if written.is_new { Put::Inserted } else { Put::Replaced }, written.version))
    }

    pub(super) async fn patch_served(
        &self,
        id: RowId,
        patch: &str,
        condition: Precondition,
    ) -> Result<Versioned, StoreError> {
        let written = self.write_served(&id, RowWrite::Patch { key: &id.key, patch }, condition).await?;
        let served = self.served.by_name(&id.table)?;
        served.versioned(written.key, written.version, written.row.as_deref().unwrap_or("{}"))
    }

    pub(super) async fn delete_served(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        Ok(self.write_served(&id, RowWrite::Delete { key: &id.key }, condition).await?.version)
    }

    async fn write_served(
        &self,
        id: &RowId,
        write: RowWrite<'_>,
        condition: Precondition,
    ) -> Result<WrittenRow, StoreError> {
        let served = self.served.by_name(&id.table)?;
        let unwritable =
            |error: RowError| StoreError::Refused { refusal: Refusal::Unrepresentable, reason: error.to_string() };
        self.write_row(&served.installed, write, condition).await.map_err(|error| match error {
            RowError::Exists => StoreError::Exists(id.clone()),
            RowError::NotFound => StoreError::NotFound(id.clone()),
            RowError::PreconditionFailed => StoreError::PreconditionFailed(id.clone()),
            RowError::Store(error) => error,
            RowError::NoColumn(_) | RowError::OtherKey => unwritable(error),
        })
    }

    /// Reads rows of one table.
    pub(super) async fn load_served(&self, rows: &[Subject], table: TableId, barrier: u64) -> Result<Read, StoreError> {
        let served = self.served.by_id(table)?;
        let keys: Vec<Key> = rows.iter().map(Subject::key).collect();
        let read = self.load_rows(&served.installed, &keys, barrier).await?;
        let topic = |key: Key| -> Topic { self.served.all.subject(table, key).topic() };
        let found = read.found.into_iter().map(|(key, found)| {
            let found = match found {
                FoundRow::Present { version, row } => match served.versioned(key.clone(), version, &row) {
                    Ok(row) => Found::Present(row),
                    Err(_) => Found::Unreadable,
                },
                FoundRow::Absent { version } => Found::Absent { version },
                FoundRow::Unreadable => Found::Unreadable,
            };
            (topic(key), found)
        });
        Ok(Read { found: found.collect(), left: read.left.into_iter().map(topic).collect() })
    }

    pub(super) async fn keys_served(
        &self,
        table: TableId,
        after: Option<&Key>,
        barrier: u64,
    ) -> Result<Keys, StoreError> {
        let served = self.served.by_id(table)?;
        let mut after = after.map(ToString::to_string);
        loop {
            let TableKeys { keys, next } = self.row_keys(&served.installed, after.as_deref(), barrier).await?;
            // A page of keys that are all too long to be told has nothing to go on from.
            if keys.is_empty() && next.is_some() {
                after = next;
                continue;
            }
            let keys = keys.into_iter().map(|(key, version)| (self.served.all.subject(table, key), version));
            return Ok(Keys { keys: keys.collect(), is_last: next.is_none() });
        }
    }
}
