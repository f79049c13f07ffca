//! The forms in which rows are answered: [`Form`]. Pure.

use bytes::Bytes;

use crate::model::key::Key;
use crate::store::Versioned;

/// The form in which a table's rows are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// That of `/products`: the version is a member of the row.
    Product,
    /// That of `/tables`: the row is bare, or in a list beside its key and its version.
    Row,
}

/// The text of a row: what stands before it, its JSON, and what stands after it.
pub(super) type Text = (String, Bytes, String);

impl Form {
    /// Returns the text before the rows of a list.
    pub(super) const fn list_start(self) -> &'static str {
        match self {
            Self::Product => r#"{"products":["#,
            Self::Row => r#"{"rows":["#,
        }
    }

    /// Returns a row as it stands alone.
    pub(super) fn alone(self, row: &Versioned) -> Text {
        match self {
            Self::Product => with_version(row),
            Self::Row => (String::new(), row.row.bytes(), String::new()),
        }
    }

    /// Returns a row as it stands in a list.
    pub(super) fn listed(self, row: &Versioned) -> Text {
        match self {
            Self::Product => with_version(row),
            Self::Row => {
                let mut key = Vec::new();
                row.key.write_json(&mut key);
                let key = String::from_utf8(key).expect("JSON is text");
                (format!(r#"{{"key":{key},"version":{},"row":"#, row.version), row.row.bytes(), "}".to_owned())
            }
        }
    }
}

/// Returns the text after the rows of a list, with the key after which the next list goes on.
pub(super) fn list_end(next: Option<&Key>) -> Vec<u8> {
    let mut end = br#"],"next":"#.to_vec();
    match next {
        Some(next) => next.write_json(&mut end),
        None => end.extend_from_slice(b"null"),
    }
    end.push(b'}');
    end
}

/// The version follows the members of a product, which has some.
fn with_version(row: &Versioned) -> Text {
    let json = row.row.bytes();
    (String::new(), json.slice(..json.len() - 1), format!(r#","version":{}}}"#, row.version))
}
