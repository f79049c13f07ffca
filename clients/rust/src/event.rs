//! What a subscription tells: [`Event`], [`Change`], [`Row`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::key::Key;

/// What a subscription tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A row as it is, or as it has become.
    Change(Change),
    /// Every row that was asked for has been told, or does not exist; after each reconnect again.
    Complete,
    /// What was told is the present state, as far as the server knows.
    Live,
    /// What was told may be old, from here until [`Event::Live`].
    Stale,
    /// The server refuses some of the rows, or all. What may be for a while is asked for again. Where all rows of a table
    /// are refused, neither [`Event::Complete`] nor [`Event::Live`] follows.
    Refused(Refusal),
}

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: Arc<str>,
    /// The key.
    pub key: Key,
    /// The version of the change; 0 where it is not known since when the row is absent.
    pub version: u64,
    /// What happened.
    pub action: Action,
    /// The row as it is; none if it does not exist.
    pub row: Option<Row>,
    /// The row as it was known before.
    pub previous: Option<Row>,
    /// True if the row is too large for a message: a newer one than `row` is being read, and told then.
    pub is_owed: bool,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// It is new.
    Insert,
    /// It is another.
    Update,
    /// It was deleted.
    Delete,
    /// It is as told; what happened before is not known.
    Snapshot,
    /// It does not exist; what happened before is not known.
    Absent,
}

impl Action {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "INSERT" => Self::Insert,
            "DELETE" => Self::Delete,
            "SNAPSHOT" => Self::Snapshot,
            // Of a newer server's word it is known that the row comes with it.
            _ => Self::Update,
        }
    }
}

/// A refusal by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word for programs: `forbidden`, `bad_keys`, `unknown_table` (docs/protocol.md has all).
    pub code: String,
    /// The sentence for people.
    pub sentence: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sentence.fmt(f)
    }
}

/// A row, as JSON. It is never altered, and a clone shares it.
#[derive(Clone)]
pub struct Row(Arc<RawValue>);

impl Row {
    /// Returns its JSON, as the server wrote it.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// Reads it as a value of the caller's type.
    ///
    /// # Errors
    /// If it is none of that type.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json())
    }
}

impl From<Box<RawValue>> for Row {
    fn from(json: Box<RawValue>) -> Self {
        Self(json.into())
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

/// A row that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The version; 0 if that is one of another history, since which the row was not told.
    pub version: u64,
    /// The row.
    pub row: Row,
    /// True if a newer one is being read.
    pub is_owed: bool,
}
