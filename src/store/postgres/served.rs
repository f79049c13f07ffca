//! The rows of tables beside the products, in the words of the store: [`ServedTables`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use serde_json::value::RawValue;

use super::PostgresStore;
use super::tables::{FoundRow, InstalledTable, RowError, RowWrite, TableKeys, WrittenRow};
use crate::model::key::{BadKey, Key};
use crate::model::row::Row;
use crate::model::table::{Table, TableId, Tables, TooManyTables};
use crate::model::topic::{Subject, Topic};
use crate::store::{
    Found, Keys, Page, Precondition, Put, Read, Refusal, RowId, StoreError, Versioned, Versions, Written,
};

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
    installed: ArcSwap<InstalledTable>,
    /// True if a row was read that is older than what was told of it.
    has_regressed: AtomicBool,
    /// True if its rows could not be read for a while.
    is_unreadable: AtomicBool,
}

impl ServedTables {
    /// Adds these to the tables of the process.
    pub(super) fn add(all: &Tables, installed: Vec<InstalledTable>) -> Result<Self, TooManyTables> {
        let served = installed.into_iter().map(|installed| {
            let table = all.add(&installed.name, installed.kind)?;
            Ok(ServedTable {
                table,
                installed: ArcSwap::from_pointee(installed),
                has_regressed: AtomicBool::new(false),
                is_unreadable: AtomicBool::new(false),
            })
        });
        Ok(Self { served: served.collect::<Result<_, TooManyTables>>()?, all: all.clone() })
    }

    /// Returns the table with this number in `pg_class`.
    pub(crate) fn by_oid(&self, oid: u32) -> Option<&ServedTable> {
        self.served.iter().find(|served| served.installed.load().oid == oid)
    }

    /// Returns them, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ServedTable> {
        self.served.iter()
    }

    /// Learns that a table, by its place here, is another one, or has another key.
    pub(crate) fn replace(&self, place: usize, installed: InstalledTable) {
        if let Some(served) = self.served.get(place) {
            self.all.set_keys(served.table.id, installed.kind);
            served.installed.store(Arc::new(installed));
        }
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
            Ok(text) => served.installed().kind.of_text(&text)?,
            Err(_) => served.installed().kind.of_text(json)?,
        };
        Ok(self.all.subject(served.table.id, key))
    }
}

impl ServedTable {
    /// Returns what was installed on it.
    pub(crate) fn installed(&self) -> Arc<InstalledTable> {
        self.installed.load_full()
    }

    /// Returns whether a row was read that is older than what was told of it, since this was last asked.
    pub(crate) fn take_regressed(&self) -> bool {
        self.has_regressed.swap(false, Ordering::Relaxed)
    }

    /// Returns whether its rows could not be read for a while, since this was last asked.
    pub(crate) fn take_unreadable(&self) -> bool {
        self.is_unreadable.swap(false, Ordering::Relaxed)
    }

    /// Returns a row of the database as readers are shown it; `None` where it is not as `row_to_json` writes it.
    pub(crate) fn shown(&self, row: &str) -> Option<Row> {
        let mut shown = Vec::with_capacity(row.len());
        self.installed().hidden.strip(row, &mut shown).then(|| Row::encoded(shown))
    }

    /// Returns the key that a row names in the column of the key, as a number or a text; anything else the database reads.
    fn key_in(&self, row: &str) -> Result<Option<Key>, StoreError> {
        let members: Members<'_> = serde_json::from_str(row).map_err(|error| unwritable(&error))?;
        let Some(named) = members.get(&*self.installed().key) else { return Ok(None) };
        let text = match named.get() {
            // A number is the text that it is written as, to the database too.
            number if number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => number.to_owned(),
            other => match serde_json::from_str(other) {
                Ok(text) => text,
                Err(_) => return Ok(None),
            },
        };
        let key = self.installed().kind.of_text(&text);
        key.map(Some).map_err(|error| unwritable(&format_args!("{}: {error}", self.installed().key)))
    }

    /// Checks that a row that may replace another names all columns that are hidden: whoever read the other could not know
    /// them, and would set them back to their defaults.
    fn require_hidden(&self, row: &str) -> Result<(), StoreError> {
        let installed = self.installed();
        let mut names = installed.hidden.names().peekable();
        if names.peek().is_none() {
            return Ok(());
        }
        let members: Members<'_> = serde_json::from_str(row).map_err(|error| unwritable(&error))?;
        names.find(|name| !members.contains_key(*name)).map_or(Ok(()), |name| {
            Err(unwritable(&format_args!(
                "the column {name} is hidden, and a PUT that does not name it would set it back; name it, or PATCH what changes"
            )))
        })
    }

    /// Returns a row as a write left it.
    fn shown_written(&self, written: WrittenRow) -> Result<Written, StoreError> {
        let WrittenRow { key, version, row, .. } = written;
        match row {
            Some(row) => self.versioned(key, version, &row).map(Written::from),
            None => Ok(Written { key, version, row: None }),
        }
    }

    fn versioned(&self, key: Key, version: u64, row: &str) -> Result<Versioned, StoreError> {
        let unread = || {
            StoreError::Fault(format!(
                "a row of {} is not as the database writes rows, or lacks a column that is to be hidden: it was renamed or \
                 dropped, and --hide has to name it as it is",
                self.table.name
            ))
        };
        Ok(Versioned { key, version, row: self.shown(row).ok_or_else(unread)? })
    }
}

impl PostgresStore {
    pub(crate) const fn served(&self) -> &ServedTables {
        &self.served
    }

    /// Has the listener begin a new epoch of a table, a row of which is older than what was told of it.
    pub(crate) fn table_regressed(&self, table: TableId) {
        if let Ok(served) = self.served.by_id(table) {
            served.has_regressed.store(true, Ordering::Relaxed);
            self.look_at_tables_at_once();
        }
    }

    /// Has the listener say that a table is not live until its rows can be read.
    pub(crate) fn table_unreadable(&self, table: TableId) {
        if let Ok(served) = self.served.by_id(table) {
            served.is_unreadable.store(true, Ordering::Relaxed);
            self.look_at_tables_at_once();
        }
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
        let page = self.list_rows(&served.installed(), after.as_deref(), limit, bytes_max).await?;
        let rows = page.rows.into_iter().map(|(key, version, row)| served.versioned(key, version, &row));
        let next = page.next.map(|text| served.installed().key_of_stored(&text));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, next })
    }

    pub(super) async fn get_served(&self, id: RowId) -> Result<Versioned, StoreError> {
        let served = self.served.by_name(&id.table)?;
        match self.get_row(&served.installed(), &id.key).await? {
            Some((version, row)) => served.versioned(id.key, version, &row),
            None => Err(StoreError::NotFound(RowId::of(&served.table, id.key))),
        }
    }

    /// Adds a row under this key, or the one in it, or one that the database draws.
    pub(super) async fn insert_served(
        &self,
        table: &str,
        key: Option<Key>,
        row: &str,
        condition: Precondition,
    ) -> Result<Written, StoreError> {
        let served = self.served.by_name(table)?;
        let key = match key {
            Some(key) => Some(key),
            None => served.key_in(row)?,
        };
        let write = RowWrite::Insert { key: key.as_ref(), row };
        let written = self.write_served(served, write, condition).await?;
        served.shown_written(written)
    }

    pub(super) async fn put_served(
        &self,
        id: RowId,
        row: &str,
        condition: Precondition,
    ) -> Result<(Put, Written), StoreError> {
        let served = self.served.by_name(&id.table)?;
        if condition.unwanted != Some(Versions::Any) {
            served.require_hidden(row)?;
        }
        let written = self.write_served(served, RowWrite::Put { key: &id.key, row }, condition).await?;
        let put = if written.is_new { Put::Inserted } else { Put::Replaced };
        Ok((put, served.shown_written(written)?))
    }

    pub(super) async fn patch_served(
        &self,
        id: RowId,
        patch: &str,
        condition: Precondition,
    ) -> Result<Written, StoreError> {
        let served = self.served.by_name(&id.table)?;
        let written = self.write_served(served, RowWrite::Patch { key: &id.key, patch }, condition).await?;
        served.shown_written(written)
    }

    pub(super) async fn delete_served(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        let served = self.served.by_name(&id.table)?;
        Ok(self.write_served(served, RowWrite::Delete { key: &id.key }, condition).await?.version)
    }

    async fn write_served(
        &self,
        served: &ServedTable,
        write: RowWrite<'_>,
        condition: Precondition,
    ) -> Result<WrittenRow, StoreError> {
        // Only of a row that has a key already can there be another.
        let named = |refused: fn(RowId) -> StoreError| match write.key() {
            Some(key) => refused(RowId::of(&served.table, key.clone())),
            None => StoreError::Fault(format!("a new row of {} was compared with another", served.table.name)),
        };
        self.write_row(&served.installed(), write, condition).await.map_err(|error| match error {
            RowError::Exists => named(StoreError::Exists),
            RowError::NotFound => named(StoreError::NotFound),
            RowError::PreconditionFailed => named(StoreError::PreconditionFailed),
            RowError::Store(error) => error,
            RowError::NoColumn(_) | RowError::OtherKey => unwritable(&error),
        })
    }

    /// Reads rows of one table.
    pub(super) async fn load_served(&self, rows: &[Subject], table: TableId, barrier: u64) -> Result<Read, StoreError> {
        let served = self.served.by_id(table)?;
        let keys: Vec<Key> = rows.iter().map(Subject::key).collect();
        let read = self.load_rows(&served.installed(), &keys, barrier).await?;
        let topic = |key: Key| -> Topic { self.served.all.subject(table, key).topic() };
        let found = read.found.into_iter().map(|(key, found)| {
            let found = match found {
                FoundRow::Present { version, row } => match served.versioned(key.clone(), version, &row) {
                    Ok(row) => Found::Present(row),
                    Err(_) => Found::Unreadable { version },
                },
                FoundRow::Absent { version } => Found::Absent { version },
                FoundRow::Unreadable { version } => Found::Unreadable { version },
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
        let after = after.map(ToString::to_string);
        let TableKeys { keys, next } = self.row_keys(&served.installed(), after.as_deref(), barrier).await?;
        let keys = keys.into_iter().map(|(key, version)| (self.served.all.subject(table, key), version));
        Ok(Keys { keys: keys.collect(), next: next.map(|text| served.installed().key_of_stored(&text)) })
    }
}

/// The members of a row, by their names.
type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// Refuses what is no row of its table.
fn unwritable(why: &dyn fmt::Display) -> StoreError {
    StoreError::Refused { refusal: Refusal::Unrepresentable, reason: why.to_string() }
}
