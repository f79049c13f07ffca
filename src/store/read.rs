//! The rows that a load reads: [`Read`].

use super::Versioned;
use crate::model::key::Key;
use crate::model::topic::{Subject, Topic};

/// The most rows of one read.
pub const READ_IDS_MAX: usize = 10_000;
/// The most bytes of rows of one read, beside its last row.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// The keys and versions of a read of those that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// By rising keys, all at one moment.
    pub keys: Vec<(Subject, u64)>,
    /// The key after which the next ones follow, if there are any: that of the last of these, or of a row after it whose key
    /// is too long to be told.
    pub next: Option<Key>,
}

/// The outcome of a read of some rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The rows that were read, all at one moment.
    pub found: Vec<(Topic, Found)>,
    /// The rows that are left for another read. All of them where a row among them spoilt the reading of the others.
    pub left: Vec<Topic>,
}

/// A row as a read found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The row.
    Present(Versioned),
    /// There is no such row.
    Absent {
        /// The version up to which that is known; 0 where it is not.
        version: u64,
    },
    /// A row that is there and cannot be read.
    Unreadable {
        /// Its version; 0 where that cannot be read either.
        version: u64,
    },
}
