//! The rows of a list, read from the store some at a time: [`Cursor`].

use std::vec;

use super::access::Access;
use super::row::bytes_of;
use crate::auth::Run;
use crate::model::key::Key;
use crate::model::table::Table;
use crate::store::{RowId, Store, StoreError, Versioned};

/// The bytes of rows that are read from the store at once; a row that is longer comes alone.
const PAGE_BYTES: usize = 64 * 1024;
/// The most look-ups in the store for one answer, not counting those that filled a page.
const LOOKUPS_MAX: usize = 100;

/// The continuation after the rows that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// More rows, perhaps.
    Unread,
    /// The end, with this as `next`.
    Next(Option<Key>),
}

/// The rows that a list has left to read.
#[derive(Debug)]
pub(super) enum Cursor {
    /// Those with these keys, in this order.
    Keys(vec::IntoIter<Key>),
    /// Those that follow one another and may be read.
    Range(Range),
}

impl Cursor {
    /// Reads the next rows, or finds that there are none. Each read is of one moment; two of them may differ by what was
    /// committed between them.
    pub(super) async fn read(
        &mut self,
        store: &Store,
        access: &Access,
        table: &Table,
    ) -> Result<(Vec<Versioned>, Rest), StoreError> {
        match self {
            Self::Keys(keys) => read_keys(keys, store, table).await,
            Self::Range(range) => range.read(store, access, table).await,
        }
    }
}

async fn read_keys(
    keys: &mut vec::IntoIter<Key>,
    store: &Store,
    table: &Table,
) -> Result<(Vec<Versioned>, Rest), StoreError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for key in keys.by_ref() {
        match store.get(RowId::of(table, key)).await {
            Ok(row) => {
                bytes += bytes_of(&row);
                rows.push(row);
            }
            Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    let rest = if keys.as_slice().is_empty() { Rest::Next(None) } else { Rest::Unread };
    Ok((rows, rest))
}

/// The rows after a key.
#[derive(Debug)]
pub(super) struct Range {
    /// The greatest key that was read, or passed over.
    after: Option<Key>,
    /// The key that was listed last.
    listed: Option<Key>,
    /// The rows that may still be listed.
    left: usize,
    /// The most rows that the store is asked for: about as many as fit in a page.
    lookahead: usize,
    lookups_left: usize,
    rest: Rest,
}

impl Range {
    /// Returns the `limit` rows after `after` that may be read.
    pub(super) const fn new(after: Option<Key>, limit: usize) -> Self {
        Self { after, listed: None, left: limit, lookahead: usize::MAX, lookups_left: LOOKUPS_MAX, rest: Rest::Unread }
    }

    async fn read(
        &mut self,
        store: &Store,
        access: &Access,
        table: &Table,
    ) -> Result<(Vec<Versioned>, Rest), StoreError> {
        let mut rows = Vec::new();
        while rows.is_empty() && self.rest == Rest::Unread {
            match access.next_run(table, self.after.as_ref()) {
                None => self.rest = Rest::Next(None),
                Some(Run::Range { after, last }) => rows = self.read_range(store, table, after, last).await?,
                Some(Run::One(key)) => rows = self.read_one(store, table, key).await?,
            }
            if self.lookups_left == 0 && self.rest == Rest::Unread {
                // Those that may be read lie far apart.
                self.rest = Rest::Next(self.after.clone());
            }
        }
        Ok((rows, self.rest.clone()))
    }

    async fn read_range(
        &mut self,
        store: &Store,
        table: &Table,
        after: Option<Key>,
        last: Option<Key>,
    ) -> Result<Vec<Versioned>, StoreError> {
        // One more than is listed tells whether another page follows.
        let wanted = (self.left + 1).min(width(after.as_ref(), last.as_ref())).min(self.lookahead);
        let page = store.list(table, after, wanted, PAGE_BYTES).await?;
        let found = page.rows.len();
        let is_full = page.next.is_some() && (found < wanted || wanted == self.lookahead);
        // A page on which every key is too long says nothing of the bytes of rows.
        self.lookahead = if is_full && found > 0 { 2 * found } else { usize::MAX };
        let mut rows = page.rows;
        self.pass(&mut rows, last, page.next);
        if !is_full || rows.is_empty() {
            self.lookups_left -= 1;
        }
        Ok(rows)
    }

    async fn read_one(&mut self, store: &Store, table: &Table, key: Key) -> Result<Vec<Versioned>, StoreError> {
        self.lookups_left -= 1;
        let mut rows = match store.get(RowId::of(table, key.clone())).await {
            Ok(row) => vec![row],
            Err(StoreError::NotFound(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        self.pass(&mut rows, Some(key.clone()), Some(key));
        Ok(rows)
    }

    /// Keeps the rows that are listed, of those that the store has: those up to `last`, the end of a run that may be read.
    /// Those that the store has beside follow `next`.
    fn pass(&mut self, rows: &mut Vec<Versioned>, last: Option<Key>, next: Option<Key>) {
        let is_readable = |row: &&Versioned| last.as_ref().is_none_or(|last| row.key <= *last);
        let readable = rows.iter().take_while(is_readable).count();
        // Runs without rows are passed over.
        let beyond = rows.get(readable).map(|row| previous(&row.key));
        rows.truncate(readable);
        let last_key = |rows: &[Versioned]| rows.last().map(|row| row.key.clone());
        if rows.len() > self.left {
            rows.truncate(self.left);
            self.rest = Rest::Next(last_key(rows).or_else(|| self.listed.clone()));
        } else if beyond.is_none() && next.is_none() {
            self.rest = Rest::Next(None);
        }
        self.left -= rows.len();
        let passed = beyond.flatten().or_else(|| last_key(rows)).or(last).or(next);
        self.listed = last_key(rows).or_else(|| self.listed.take());
        self.after = passed.or_else(|| self.after.take());
    }
}

/// Returns the number of keys that there can be after one, up to another.
fn width(after: Option<&Key>, last: Option<&Key>) -> usize {
    match (after, last) {
        (Some(Key::Integer(after)), Some(Key::Integer(last))) => {
            usize::try_from(last.saturating_sub(*after)).unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    }
}

/// Returns the key before this one, if there is such a one.
const fn previous(key: &Key) -> Option<Key> {
    match key {
        Key::Integer(number) => match number.checked_sub(1) {
            Some(previous) => Some(Key::Integer(previous)),
            None => None,
        },
        Key::Uuid(_) | Key::Text(_) => None,
    }
}
