//! What the triggers of tables tell (`migrations/0004_tables.sql`): [`TablePayload`]. Pure.

use super::number;

/// The content of a notification of a table's trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TablePayload<'a> {
    /// A row changed.
    Change(TableChange<'a>),
    /// A row changed whose key is not told.
    Keyless {
        /// The table's number in `pg_class`.
        oid: u32,
        /// The version of the change.
        version: u64,
    },
    /// Changes of the table are not told, or have no version: its rows are to be read, and the versions that were known
    /// mean nothing.
    Gap {
        /// The table's number in `pg_class`.
        oid: u32,
        /// The reason, for the log: one word.
        reason: &'a str,
    },
    /// The file that the table has after a TRUNCATE (`migrations/0012_truncated_files.sql`).
    File {
        /// The table's number in `pg_class`.
        oid: u32,
        /// The file's number.
        file: u32,
    },
}

/// A change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableChange<'a> {
    /// The table's number in `pg_class`.
    pub oid: u32,
    /// What was done.
    pub action: Action,
    /// The version of the change.
    pub version: u64,
    /// The row's key in JSON: an integer, or a string.
    pub key: &'a str,
    /// The place of the row.
    pub row: RowAt<'a>,
}

impl TableChange<'_> {
    /// Returns whether both tell the same of the same row, wherever that is.
    #[must_use]
    pub fn is_of(&self, other: &TableChange<'_>) -> bool {
        (self.oid, self.action, self.version, self.key) == (other.oid, other.action, other.version, other.key)
    }
}

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was added.
    Insert,
    /// It was changed.
    Update,
    /// It was removed.
    Delete,
}

/// The place of a row's JSON, which has the column of the version and those that are hidden too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowAt<'a> {
    /// Here.
    Payload(&'a str),
    /// In the table of the messages that are too long for a payload, under the version.
    Table,
    /// Nowhere: it is too long.
    Nowhere,
}

/// Reads what follows the first word of a payload, or answers `None` where no trigger of a table built it. A row is not
/// read beyond its first and its last byte.
pub(super) fn parse<'a>(kind: &str, rest: &'a str) -> Option<TablePayload<'a>> {
    let (oid, rest) = rest.split_once(' ')?;
    let oid = digits(oid)?;
    match kind {
        "row" => change(oid, rest).map(TablePayload::Change),
        "keyless" => match number(rest)? {
            (version, "") => Some(TablePayload::Keyless { oid, version }),
            _ => None,
        },
        "gap" if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Some(TablePayload::Gap { oid, reason: rest })
        }
        "file" => Some(TablePayload::File { oid, file: digits(rest)? }),
        _ => None,
    }
}

fn change(oid: u32, rest: &str) -> Option<TableChange<'_>> {
    let (action, rest) = rest.split_once(' ')?;
    let action = match action {
        "I" => Action::Insert,
        "U" => Action::Update,
        "D" => Action::Delete,
        _ => return None,
    };
    let (version, rest) = number(rest)?;
    let rest = rest.strip_prefix(' ')?;
    let (key, rest) = rest.split_at(key_length(rest)?);
    let row = match rest.strip_prefix(' ') {
        None if rest.is_empty() => RowAt::Nowhere,
        Some("+") => RowAt::Table,
        Some(row) if row.len() > 1 && row.starts_with('{') && row.ends_with('}') => RowAt::Payload(row),
        _ => return None,
    };
    Some(TableChange { oid, action, version, key, row })
}

/// Returns the length of the integer or the string that a text begins with.
fn key_length(text: &str) -> Option<usize> {
    let Some(string) = text.strip_prefix('"') else {
        let (key, _) = text.split_at(text.find(' ').unwrap_or(text.len()));
        key.parse::<i64>().ok()?;
        return Some(key.len());
    };
    let mut is_escaped = false;
    let end = string.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some(end + 2)
}

fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Payload, parse};
    use super::*;

    fn read(payload: &str) -> Option<TablePayload<'_>> {
        match parse(payload) {
            Some(Payload::Table(payload)) => Some(payload),
            other => {
                assert_eq!(other, None, "{payload}");
                None
            }
        }
    }

    #[test]
    fn what_no_trigger_writes_is_not_ours() {
        for payload in [
            "row",
            "row ",
            "row 1",
            "row x I 2 3",
            "row -1 I 2 3",
            "row +1 I 2 3",
            "row 4294967296 I 2 3",
            "row 1 X 2 3",
            "row 1 I x 3",
            "row 1 I -2 3",
            "row 1 I 9223372036854775808 3",
            "row 1 I 2",
            "row 1 I 2 ",
            "row 1 I 2 x",
            "row 1 I 2 9223372036854775808",
            "row 1 I 2 \"a",
            "row 1 I 2 \"a\\\"",
            "row 1 I 2 \"a\"x",
            "row 1 I 2 3 ",
            "row 1 I 2 3 -",
            "row 1 I 2 3 ++",
            "row 1 I 2 3 {",
            "row 1 I 2 3 [1]",
            "row 1 I 2 3 {\"id\":3",
            "keyless 1",
            "keyless 1 x",
            "keyless 1 2 3",
            "gap 1",
            "gap 1 ",
            "gap x truncated",
            "gap 1 two words",
            "file 1",
            "file 1 ",
            "file 1 x",
            "file 1 -2",
            "file 1 4294967296",
            "file 1 2 3",
        ] {
            assert_eq!(read(payload), None, "{payload}");
        }
    }

    #[test]
    fn every_form_is_read() {
        let change = |action, version, key, row| {
            Some(TablePayload::Change(TableChange { oid: 16400, action, version, key, row }))
        };
        assert_eq!(
            read(r#"row 16400 I 42 -7 {"id":-7,"rowcast_version":42}"#),
            change(Action::Insert, 42, "-7", RowAt::Payload(r#"{"id":-7,"rowcast_version":42}"#))
        );
        assert_eq!(read(r#"row 16400 U 42 "a \"b\\" +"#), change(Action::Update, 42, r#""a \"b\\""#, RowAt::Table));
        assert_eq!(read(r#"row 16400 D 42 """#), change(Action::Delete, 42, r#""""#, RowAt::Nowhere));
        assert_eq!(read("keyless 16400 9"), Some(TablePayload::Keyless { oid: 16400, version: 9 }));
        assert_eq!(read("file 16400 4294967295"), Some(TablePayload::File { oid: 16400, file: u32::MAX }));
        for reason in ["truncated", "stale", "42703"] {
            assert_eq!(read(&format!("gap 16400 {reason}")), Some(TablePayload::Gap { oid: 16400, reason }));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_key(key in ".{0,40}", row in ".{0,40}") {
            let (key, row) = (serde_json::to_string(&key).unwrap(), serde_json::to_string(&row).unwrap());
            let payload = format!("row 1 U 2 {key} {{\"a\":{row}}}");
            match read(&payload) {
                Some(TablePayload::Change(TableChange { key: read, row: RowAt::Payload(_), .. })) => prop_assert_eq!(read, key),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn nothing_panics(payload in r#"(row|gap|keyless|file) ?[0-9]{0,12} ?[IUD]? ?[0-9]{0,20} ?["0-9]?.{0,20}"#) {
            let _ = parse(&payload);
        }
    }
}
