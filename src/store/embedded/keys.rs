//! The keys of the data file: a row's table and key as bytes whose order is that of the tables and of their keys. Pure.

use std::ops::Bound;

use redb::{Range, ReadOnlyTable};
use smallvec::SmallVec;
use uuid::Uuid;

use super::data_file::StoredRow;
use crate::model::key::Key;
use crate::model::table::TableId;

/// A key of the file; most are kept without an allocation.
pub(super) type FileKey = SmallVec<[u8; 32]>;

/// The bytes of a table's number.
const TABLE_BYTES: usize = 2;
/// The first byte of a key, in the order of [`Key`].
const INTEGER: u8 = 1;
const UUID: u8 = 2;
const TEXT: u8 = 3;
/// Turned over so that negative integers come first.
const SIGN: u64 = 1 << 63;

/// Returns the key of a row in the file.
pub(super) fn encode(table: TableId, key: &Key) -> FileKey {
    let mut bytes = of_table(table.get());
    match key {
        Key::Integer(number) => {
            bytes.push(INTEGER);
            bytes.extend_from_slice(&(number.cast_unsigned() ^ SIGN).to_be_bytes());
        }
        Key::Uuid(uuid) => {
            bytes.push(UUID);
            bytes.extend_from_slice(uuid.as_bytes());
        }
        Key::Text(text) => {
            bytes.push(TEXT);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// Returns the key of the row whose key in the file this is; `None` if no row has such a one.
pub(super) fn decode(bytes: &[u8]) -> Option<Key> {
    let (&kind, rest) = bytes.get(TABLE_BYTES..)?.split_first()?;
    match kind {
        INTEGER => Some(Key::Integer((u64::from_be_bytes(rest.try_into().ok()?) ^ SIGN).cast_signed())),
        UUID => Uuid::from_slice(rest).ok().map(Key::Uuid),
        TEXT => str::from_utf8(rest).ok().map(|text| Key::Text(text.into())),
        _ => None,
    }
}

/// Returns the rows of a table that follow this one, or all.
pub(super) fn range(
    rows: &ReadOnlyTable<&'static [u8], StoredRow>,
    table: TableId,
    after: Option<&Key>,
) -> Result<Range<'static, &'static [u8], StoredRow>, redb::Error> {
    let (start, end) = following(table, after);
    let bounds = (start.as_ref().map(|key| &key[..]), end.as_ref().map(|key| &key[..]));
    Ok(rows.range::<&[u8]>(bounds)?)
}

/// Returns the range of the keys of a table that follow this one, or of all.
fn following(table: TableId, after: Option<&Key>) -> (Bound<FileKey>, Bound<FileKey>) {
    let start = match after {
        Some(after) => Bound::Excluded(encode(table, after)),
        None => Bound::Included(of_table(table.get())),
    };
    (start, Bound::Excluded(of_table(table.get() + 1)))
}

fn of_table(number: u16) -> FileKey {
    FileKey::from_slice(&number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![
            any::<i64>().prop_map(Key::Integer),
            (-3..3i64).prop_map(Key::Integer),
            any::<u128>().prop_map(|bits| Key::Uuid(Uuid::from_u128(bits))),
            "[a-cé]{0,4}".prop_map(|text| Key::Text(text.into())),
        ]
    }

    fn tables() -> impl Strategy<Value = TableId> {
        (0..=TableId::MAX.get()).prop_map(|number| TableId::new(number).unwrap())
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_tables_and_keys(one in (tables(), keys()), other in (tables(), keys())) {
            let (a, b) = (encode(one.0, &one.1), encode(other.0, &other.1));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            prop_assert_eq!(decode(&a), Some(one.1));
        }

        #[test]
        fn what_follows_is_of_the_table_alone(one in (tables(), keys()), after in (tables(), keys())) {
            let follows = |after| std::ops::RangeBounds::contains(&following(one.0, after), &encode(one.0, &one.1));
            prop_assert!(follows(None));
            prop_assert_eq!(follows(Some(&after.1)), one.1 > after.1);
            let in_other = std::ops::RangeBounds::contains(&following(after.0, None), &encode(one.0, &one.1));
            prop_assert_eq!(in_other, one.0 == after.0);
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
