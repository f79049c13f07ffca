//! The messages of a server, as a reader understands them: [`Message`].

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::key::Key;

/// One message. Where one names no table, it is about products, or about the whole connection.
#[derive(Debug)]
pub enum Message {
    /// A row changed, or is told as it is.
    Change(Change),
    /// These rows do not exist.
    Absent {
        /// The table, unless they are products.
        table: Option<String>,
        /// Their keys.
        keys: Vec<Key>,
        /// For each, the version up to which that is known; 0 if none is.
        versions: Vec<u64>,
    },
    /// The history in which versions mean something.
    Epoch {
        /// Its name.
        epoch: String,
        /// The table whose history this is; none: that of all of them.
        table: Option<String>,
    },
    /// What is shown is the present state, or may be old.
    Live {
        /// True if it is the present state.
        is_live: bool,
        /// The table of which this is said; none: all of them.
        table: Option<String>,
    },
    /// The answer to a command.
    Reply {
        /// The reason for which it was refused, if it was.
        error: Option<Refused>,
    },
    /// The server asks its reader to come back after so many milliseconds.
    Reconnect {
        /// Milliseconds.
        after_ms: u64,
    },
    /// So many changes will never come.
    Skipped(u64),
    /// A message of a newer server.
    Other,
}

/// A row that changed.
#[derive(Debug)]
pub struct Change {
    /// The table, unless it is a product.
    pub table: Option<String>,
    /// The key.
    pub key: Key,
    /// The version.
    pub version: u64,
    /// True if the row is gone.
    pub is_delete: bool,
    /// The row, as JSON; none if its key alone was told, since it is too large or cannot be read.
    pub row: Option<Box<RawValue>>,
}

/// The refusal of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The sentence for whoever reads.
    pub sentence: String,
    /// The word for programs.
    pub code: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sentence.fmt(f)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    version: u64,
    #[serde(borrow, default)]
    product: Option<&'a RawValue>,
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    key: Option<RawKey>,
    #[serde(borrow, default)]
    row: Option<&'a RawValue>,
    #[serde(default)]
    absent: Option<Vec<RawKey>>,
    #[serde(default)]
    versions: Vec<u64>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    live: Option<bool>,
    #[serde(default)]
    skipped: Option<u64>,
    #[serde(default)]
    reconnect: Option<Reconnect>,
    #[serde(borrow, default)]
    reply: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    code: String,
}

/// A key as it comes.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawKey {
    Number(i64),
    Text(Box<str>),
}

impl From<RawKey> for Key {
    /// A UUID is taken for the text that it has, since nothing tells the two apart.
    fn from(key: RawKey) -> Self {
        match key {
            RawKey::Number(number) => Self::Integer(number),
            RawKey::Text(text) => Self::Text(text),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reconnect {
    after_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id {
    product_id: i64,
}

impl Message {
    /// Reads a message. Members that it does not know are ignored.
    ///
    /// # Errors
    /// If it is not what a server of this protocol says.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw<'_> = serde_json::from_slice(text)?;
        Ok(match raw {
            Raw { action: Some(action), product: Some(product), version, .. } => {
                let Id { product_id } = serde_json::from_str(product.get())?;
                let (table, key, row) = (None, Key::Integer(product_id), Some(product.to_owned()));
                Self::Change(Change { table, key, version, is_delete: action == "DELETE", row })
            }
            Raw { action: Some(action), table, key: Some(key), row, version, .. } => {
                let (key, row) = (key.into(), row.map(RawValue::to_owned));
                Self::Change(Change { table, key, version, is_delete: action == "DELETE", row })
            }
            Raw { absent: Some(keys), versions, table, .. } => {
                Self::Absent { table, keys: keys.into_iter().map(Key::from).collect(), versions }
            }
            Raw { epoch: Some(epoch), table, .. } => Self::Epoch { epoch, table },
            Raw { live: Some(is_live), table, .. } => Self::Live { is_live, table },
            Raw { skipped: Some(skipped), .. } => Self::Skipped(skipped),
            Raw { reconnect: Some(Reconnect { after_ms }), .. } => Self::Reconnect { after_ms },
            Raw { error: Some(sentence), code, .. } => Self::Reply { error: Some(Refused { sentence, code }) },
            Raw { reply: Some(_), .. } => Self::Reply { error: None },
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_json_and_what_is_unknown_is_ignored() {
        let text = br#"{"action":"UPDATE","version":42,"product":{"productId":1,"x":[1,"\n"]},"new":{}}"#;
        let Message::Change(change) = Message::parse(text).unwrap() else { panic!("a change") };
        assert_eq!((change.table, change.key, change.version), (None, Key::Integer(1), 42));
        assert!(!change.is_delete);
        assert_eq!(change.row.unwrap().get(), r#"{"productId":1,"x":[1,"\n"]}"#);
        assert!(matches!(Message::parse(br#"{"new":{}}"#).unwrap(), Message::Other));
        for bad in [&b"["[..], b"{\"live\":1}", b"{\"action\":\"UPDATE\",\"version\":-1,\"product\":{}}"] {
            assert!(Message::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rows_of_any_table_have_keys_of_two_kinds() {
        let text = br#"{"action":"DELETE","version":42,"table":"orders","key":17,"row":{"id":1.50}}"#;
        let Message::Change(change) = Message::parse(text).unwrap() else { panic!("a change") };
        assert_eq!((change.table.as_deref(), change.key, change.is_delete), (Some("orders"), Key::Integer(17), true));
        assert_eq!(change.row.unwrap().get(), r#"{"id":1.50}"#);
        let text = br#"{"action":"SNAPSHOT","version":1,"table":"orders","key":"a\"9"}"#;
        let Message::Change(alone) = Message::parse(text).unwrap() else { panic!("a change") };
        assert_eq!((alone.key, alone.row.is_none()), (Key::Text("a\"9".into()), true));
        let text = br#"{"absent":[-3,"9007199254740993"],"versions":[12,0],"table":"orders"}"#;
        let Message::Absent { table, keys, versions } = Message::parse(text).unwrap() else { panic!("an absence") };
        assert_eq!((table.as_deref(), versions), (Some("orders"), vec![12, 0]));
        assert_eq!(keys, [Key::Integer(-3), Key::Text("9007199254740993".into())]);
        for bad in [&br#"{"action":"UPDATE","version":1,"table":"t","key":{}}"#[..], br#"{"absent":[1.5]}"#] {
            assert!(Message::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
