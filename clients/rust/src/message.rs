//! The messages of a server, as a reader understands them: [`Message`].

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::event::{Action, Refusal, Row};
use crate::key::Key;

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
    /// The subscriptions to these rows have ended: another token does not grant them.
    Unsubscribed {
        /// The table, unless they are products.
        table: Option<String>,
        /// Their keys; none: the subscription to all rows of the table.
        keys: Option<Vec<Key>>,
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
        /// The id of the command, if that was a number.
        id: Option<u64>,
        /// The reason for which it was refused, if it was.
        error: Option<Refusal>,
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
    /// What happened.
    pub action: Action,
    /// The row; none if its key alone was told, since it is too large or cannot be read.
    pub row: Option<Row>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    action: Option<String>,
    version: u64,
    #[serde(borrow)]
    product: Option<&'a RawValue>,
    table: Option<String>,
    key: Option<Key>,
    #[serde(borrow)]
    row: Option<&'a RawValue>,
    absent: Option<Vec<Key>>,
    versions: Vec<u64>,
    #[serde(borrow)]
    unsubscribed: Option<&'a RawValue>,
    epoch: Option<String>,
    live: Option<bool>,
    skipped: Option<u64>,
    reconnect: Option<Reconnect>,
    #[serde(borrow)]
    reply: Option<&'a RawValue>,
    error: Option<String>,
    code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reconnect {
    after_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    product_id: i64,
    /// Every product has it that is not its key alone.
    product_name: Option<IgnoredAny>,
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
                let Product { product_id, product_name } = serde_json::from_str(product.get())?;
                let row = product_name.map(|_| product.to_owned().into());
                let key = Key::Integer(product_id);
                Self::Change(Change { table: None, key, version, action: Action::parse(&action), row })
            }
            Raw { action: Some(action), table, key: Some(key), row, version, .. } => {
                let row = row.map(|row| row.to_owned().into());
                Self::Change(Change { table, key, version, action: Action::parse(&action), row })
            }
            Raw { absent: Some(keys), versions, table, .. } => Self::Absent { table, keys, versions },
            Raw { unsubscribed: Some(rows), table, .. } => {
                let is_all = rows.get() == r#""*""#;
                let keys = if is_all { None } else { Some(serde_json::from_str(rows.get())?) };
                Self::Unsubscribed { table, keys }
            }
            Raw { epoch: Some(epoch), table, .. } => Self::Epoch { epoch, table },
            Raw { live: Some(is_live), table, .. } => Self::Live { is_live, table },
            Raw { skipped: Some(skipped), .. } => Self::Skipped(skipped),
            Raw { reconnect: Some(Reconnect { after_ms }), .. } => Self::Reconnect { after_ms },
            Raw { error: Some(sentence), code, reply, .. } => {
                Self::Reply { id: id(reply), error: Some(Refusal { code, sentence }) }
            }
            Raw { reply, .. } if reply.is_some() => Self::Reply { id: id(reply), error: None },
            _ => Self::Other,
        })
    }
}

fn id(reply: Option<&RawValue>) -> Option<u64> {
    reply.and_then(|reply| reply.get().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_json_and_what_is_unknown_is_ignored() {
        let text =
            br#"{"action":"UPDATE","version":42,"product":{"productId":1,"productName":"a","x":[1,"\n"]},"new":{}}"#;
        let Message::Change(change) = Message::parse(text).unwrap() else { panic!("a change") };
        assert_eq!((change.table, change.key, change.version), (None, Key::Integer(1), 42));
        assert_eq!(change.action, Action::Update);
        assert_eq!(change.row.unwrap().json(), r#"{"productId":1,"productName":"a","x":[1,"\n"]}"#);
        let text = br#"{"action":"INSERT","version":42,"product":{"productId":1}}"#;
        let Message::Change(alone) = Message::parse(text).unwrap() else { panic!("a change") };
        assert!(alone.row.is_none());
        assert!(matches!(Message::parse(br#"{"new":{}}"#).unwrap(), Message::Other));
        for bad in [&b"["[..], b"{\"live\":1}", b"{\"action\":\"UPDATE\",\"version\":-1,\"product\":{}}"] {
            assert!(Message::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rows_of_any_table_have_keys_of_two_kinds() {
        let text = br#"{"action":"DELETE","version":42,"table":"orders","key":17,"row":{"id":1.50}}"#;
        let Message::Change(change) = Message::parse(text).unwrap() else { panic!("a change") };
        assert_eq!(
            (change.table.as_deref(), change.key, change.action),
            (Some("orders"), Key::Integer(17), Action::Delete)
        );
        assert_eq!(change.row.unwrap().json(), r#"{"id":1.50}"#);
        let text = br#"{"action":"SNAPSHOT","version":1,"table":"orders","key":"a\"9"}"#;
        let Message::Change(alone) = Message::parse(text).unwrap() else { panic!("a change") };
        assert_eq!((alone.key, alone.row.is_none()), (Key::Text("a\"9".into()), true));
        let text = br#"{"absent":[-3,"9007199254740993"],"versions":[12,0],"table":"orders"}"#;
        let Message::Absent { table, keys, versions } = Message::parse(text).unwrap() else { panic!("an absence") };
        assert_eq!((table.as_deref(), versions), (Some("orders"), vec![12, 0]));
        assert_eq!(keys, [Key::Integer(-3), Key::Integer(9_007_199_254_740_993)]);
        let refused = Message::parse(br#"{"reply":7,"ok":false,"error":"no","code":"forbidden"}"#).unwrap();
        assert!(matches!(refused, Message::Reply { id: Some(7), error: Some(error) } if error.code == "forbidden"));
        assert!(matches!(
            Message::parse(br#"{"reply":"a","ok":true}"#).unwrap(),
            Message::Reply { id: None, error: None }
        ));
        let Message::Unsubscribed { table, keys } = Message::parse(br#"{"unsubscribed":[3]}"#).unwrap() else {
            panic!("an end")
        };
        assert_eq!((table, keys), (None, Some(vec![Key::Integer(3)])));
        let all = Message::parse(br#"{"unsubscribed":"*","table":"orders"}"#).unwrap();
        assert!(matches!(all, Message::Unsubscribed { table: Some(table), keys: None } if table == "orders"));
        for bad in [
            &br#"{"action":"UPDATE","version":1,"table":"t","key":{}}"#[..],
            br#"{"absent":[1.5]}"#,
            br#"{"unsubscribed":"all"}"#,
        ] {
            assert!(Message::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
