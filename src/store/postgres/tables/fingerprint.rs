//! What the truth of a table's changes depends on, as the database has it at one moment: [`Fingerprint`].

use serde::Deserialize;

use super::InstalledTable;
use super::form::literal;
use crate::model::epoch::Epoch;
use crate::store::StoreError;
use crate::store::postgres::PostgresStore;

/// A table as its name is read at one moment. Where two of the same table differ, its rows may have changed without
/// being told: a column with a default was added, the table was swapped by renaming, or rewritten, or its triggers were
/// off for a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fingerprint {
    oid: Option<u32>,
    file: Option<u32>,
    columns: Option<String>,
    key: Option<String>,
    triggers: Option<String>,
    /// True if a function of the triggers belongs to a role that may tell nothing.
    #[serde(skip)]
    lacks_rights: bool,
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
    /// A function of the triggers belongs to a role that may tell nothing.
    NoRights,
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
            Self { lacks_rights: true, .. } => TableState::NoRights,
            _ => TableState::Live,
        }
    }

    /// Returns it as it is noted. The file comes last.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { oid, file, columns, key, triggers, lacks_rights } = self;
        let rights = if *lacks_rights { " without rights" } else { "" };
        format!("{oid:?} {columns:?} {key:?} {triggers:?}{rights} {file:?}")
    }

    /// Returns the number of its file.
    #[must_use]
    pub const fn file(&self) -> Option<u32> {
        self.file
    }

    /// Returns whether the table was noted as it is, but for its file, which TRUNCATE replaces too.
    #[must_use]
    pub fn differs_by_file_alone(&self, noted: &str) -> bool {
        let text = self.text();
        let before = |text: &'_ str| text.rsplit_once(' ').map(|(before, _)| before.to_owned());
        text != noted && before(&text) == before(noted)
    }
}

/// A table at one moment, and what was noted of it when its epoch began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableLook {
    /// The table.
    #[serde(flatten)]
    pub seen: Fingerprint,
    /// The triggers that are missing, off or without rights, if any, as a sentence says it.
    pub off: Option<String>,
    /// Its [text](Fingerprint::text) then; none, if it was never noted.
    pub noted: Option<String>,
    /// The number of its epoch, if it has one of its own.
    pub(crate) epoch: Option<i64>,
}

impl TableLook {
    /// Returns its epoch, if it has one of its own.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch.and_then(|number| Epoch::new(number.cast_unsigned()))
    }

    /// Returns whether a server that heard all changes since would have to begin an epoch.
    #[must_use]
    pub fn is_as_noted(&self) -> bool {
        self.noted.as_ref() == Some(&self.seen.text())
    }

    /// Returns whether it has no trigger of Rowcast.
    #[must_use]
    pub fn has_no_trigger(&self) -> bool {
        self.off.as_ref().is_some_and(|off| off.matches("is missing").count() == 3)
    }

    /// Returns whether it has a trigger of Rowcast that somebody has switched off.
    #[must_use]
    pub fn has_trigger_off(&self) -> bool {
        self.off.as_ref().is_some_and(|off| off.contains("is off"))
    }
}

/// What is noted of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNote {
    /// The name that the server gives it.
    pub name: String,
    /// The note that is to be replaced, and its epoch; where another one stands, nothing is done.
    pub expected: Option<String>,
    /// The epoch of that note.
    pub expected_epoch: Option<Epoch>,
    /// The new note.
    pub seen: String,
    /// True if an epoch of the table begins with it.
    pub begins: bool,
}

const NOTE: &str = "SELECT rowcast_note($1, $2, $3, $4, $5)";

/// Returns the expression that reads tables at one moment, as an array in JSON.
pub(crate) fn looks<'a>(tables: impl Iterator<Item = &'a InstalledTable> + Clone) -> String {
    // The role of a server of products alone may read none of what the expression reads.
    if tables.clone().next().is_none() {
        return "'[]'".to_owned();
    }
    // With and without standard_conforming_strings.
    let name = |table: &InstalledTable| format!("E{}", literal(&table.name.replace('\\', "\\\\")));
    let names = tables.clone().map(name).collect::<Vec<_>>().join(", ");
    let ids = tables.map(|table| table.id.to_string()).collect::<Vec<_>>().join(", ");
    format!(
        "(SELECT coalesce(json_agg(json_build_object('oid', seen.oid::bigint, 'file', file::bigint, 'columns', columns, \
             'key', key, 'triggers', triggers, 'off', rowcast_table_triggers_off(seen.oid), 'noted', fingerprint, \
             'epoch', epoch) ORDER BY place), '[]') \
         FROM rowcast_fingerprints(ARRAY[{names}]::text[], ARRAY[{ids}]::int[]) AS seen \
         LEFT JOIN rowcast_served AS noted ON noted.name = (ARRAY[{names}]::text[])[place])"
    )
}

impl PostgresStore {
    /// Notes a table.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn note(&self, note: &TableNote) -> Result<(), StoreError> {
        let TableNote { name, expected, expected_epoch, seen, begins } = note;
        let expected_epoch = expected_epoch.map(|epoch| epoch.get().cast_signed());
        self.query(NOTE, &[name, expected, &expected_epoch, seen, begins]).await.map(|_| ())
    }

    /// Looks at tables at one moment.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn look_at_tables(&self, tables: &[InstalledTable]) -> Result<Vec<TableLook>, StoreError> {
        let messages = self.simple_query(&format!("SELECT {} AS tables", looks(tables.iter()))).await?;
        let text = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get("tables"),
            _ => None,
        });
        read_looks(text.unwrap_or_default()).ok_or_else(|| StoreError::Fault("tables were not looked at".into()))
    }
}

/// Reads what [`looks`] answers.
pub(crate) fn read_looks(json: &str) -> Option<Vec<TableLook>> {
    let mut looks: Vec<TableLook> = serde_json::from_str(json).ok()?;
    for TableLook { seen, off, .. } in &mut looks {
        seen.lacks_rights = off.as_ref().is_some_and(|off| off.contains("lacks rights"));
    }
    Some(looks)
}
