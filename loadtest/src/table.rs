//! The table whose rows a load writes and follows ([`Table`]): their keys, their content, and their paths. Pure.
//!
//! A row of any table carries the same text as a product, in a column of its own, beside numbers:
//!
//! ```json
//! {"action":"UPDATE","version":42,"table":"orders","key":"k7","row":{"id":"k7","stamp":"t000000123456789~~~","c1":1,"c2":2}}
//! ```

use std::fmt::{Display, Write};

use anyhow::ensure;
use clap::ValueEnum;
use serde::Serialize;

use crate::commands::join;
use crate::message::{self, Message, MessageFinder};

/// The columns that every row has: its key, and the text that carries the time.
pub(crate) const COLUMNS_MIN: u32 = 2;

/// The table of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// That of products.
    Products,
    /// One that is named.
    Named(Named),
}

/// A table that is named. A process has one, whose name lives as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) keys: Keys,
    pub(crate) columns: u32,
}

/// The keys of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Keys {
    /// 1, 2, 3
    Integer,
    /// k1, k2, k3
    Text,
}

impl Keys {
    /// Returns the key of the row with this number, as JSON.
    fn json(self, number: impl Display) -> String {
        match self {
            Self::Integer => number.to_string(),
            Self::Text => format!("\"k{number}\""),
        }
    }
}

impl Table {
    /// Returns the table with this name; products where there is none.
    ///
    /// # Errors
    /// If the name is none of a table that rows can be written to here.
    pub(crate) fn new(name: Option<&str>, keys: Keys, columns: u32) -> anyhow::Result<Self> {
        let Some(name) = name else { return Ok(Self::Products) };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        ensure!(
            !name.is_empty() && name.bytes().all(is_plain),
            "--table {name}: a name has letters, digits, '_' and '.' here"
        );
        Ok(Self::Named(Named { name: String::from(name).leak(), keys, columns }))
    }

    /// Returns the members of a command that list the rows with these numbers.
    pub(crate) fn listed(self, numbers: &[u32]) -> String {
        let mut text = match self {
            Self::Products => r#""productIDs":["#.to_owned(),
            Self::Named(Named { name, .. }) => format!(r#""table":"{name}","keys":["#),
        };
        for (place, number) in numbers.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let _ = match self {
                Self::Products => write!(text, "{comma}{number}"),
                Self::Named(Named { keys, .. }) => write!(text, "{comma}{}", keys.json(number)),
            };
        }
        text + "]"
    }

    /// Returns the path of the row with this number.
    pub(crate) fn path(self, number: u32) -> String {
        match self {
            Self::Products => format!("/products/{number}"),
            Self::Named(Named { name, keys, .. }) => {
                format!("/tables/{name}/{}", keys.json(number).trim_matches('"'))
            }
        }
    }

    /// Returns the path of the event stream of the rows with these numbers.
    pub(crate) fn events_path(self, numbers: &[u32]) -> String {
        let mut path = "/events?".to_owned();
        match self {
            Self::Products => {
                path.push_str("productIDs=");
                join(&mut path, numbers);
            }
            Self::Named(Named { name, keys, .. }) => {
                let _ = write!(path, "table={name}");
                for number in numbers {
                    let _ = write!(path, "&key={}", keys.json(number).trim_matches('"'));
                }
            }
        }
        path
    }

    /// Returns the path of the list of its rows.
    pub(crate) fn list_path(self) -> String {
        match self {
            Self::Products => "/products".to_owned(),
            Self::Named(Named { name, .. }) => format!("/tables/{name}"),
        }
    }

    /// Returns the row, as a writer sends it over REST.
    pub(crate) fn row_json(self, message: &Message, padding: usize) -> String {
        let Self::Named(Named { keys, columns, .. }) = self else { return message::product_json(message, padding) };
        let (key, stamp) = (keys.json(message.product), message::product_name(message.due_ns, padding));
        let mut row = format!(r#"{{"id":{key},"stamp":"{stamp}""#);
        for column in 1..=columns - COLUMNS_MIN {
            let _ = write!(row, r#","c{column}":{column}"#);
        }
        row + "}"
    }

    /// Returns the message of its change, as the server sends it.
    pub(crate) fn change_json(self, message: &Message, padding: usize) -> String {
        let Self::Named(Named { name, keys, .. }) = self else { return message::change_json(message, padding) };
        let (key, row) = (keys.json(message.product), self.row_json(message, padding));
        format!(r#"{{"action":"UPDATE","version":{},"table":"{name}","key":{key},"row":{row}}}"#, message.version)
    }

    /// Returns what finds its changes in text.
    pub(crate) fn finder(self) -> MessageFinder {
        match self {
            Self::Products => MessageFinder::new(),
            Self::Named(Named { keys: Keys::Integer, .. }) => MessageFinder::of("\"key\":", "\"stamp\":\"t"),
            Self::Named(Named { keys: Keys::Text, .. }) => MessageFinder::of("\"key\":\"k", "\"stamp\":\"t"),
        }
    }

    /// Returns the padding that makes a frame of `frame_bytes`, if that many are enough.
    pub(crate) fn padding(self, message: &Message, frame_bytes: usize) -> Option<usize> {
        message::padding(self.change_json(message, 0).len(), frame_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(keys: Keys, columns: u32) -> Table {
        Table::new(Some("shop.orders"), keys, columns).unwrap()
    }

    #[test]
    fn what_was_written_is_found() {
        for keys in [Keys::Integer, Keys::Text] {
            let table = orders(keys, 12);
            let mut finder = table.finder();
            for (product, version) in [(1, 1), (10_000, 7), (3, 123_456_789)] {
                let message = Message { product, version, due_ns: 987_654_321 };
                let text = table.change_json(&message, 20);
                assert_eq!(finder.find(text.as_bytes()), Some(message), "{text}");
                let json: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(json["row"].as_object().unwrap().len(), 12);
                assert_eq!(json["row"]["id"], json["key"]);
                assert!(text.ends_with(&format!("{}}}", table.row_json(&message, 20))));
            }
        }
    }

    #[test]
    fn rows_are_named_by_their_keys() {
        let (integers, texts) = (orders(Keys::Integer, 2), orders(Keys::Text, 2));
        assert_eq!(Table::Products.listed(&[1, 2]), r#""productIDs":[1,2]"#);
        assert_eq!(integers.listed(&[1, 2]), r#""table":"shop.orders","keys":[1,2]"#);
        assert_eq!(texts.listed(&[1, 2]), r#""table":"shop.orders","keys":["k1","k2"]"#);
        assert_eq!([integers.path(7), texts.path(7)], ["/tables/shop.orders/7", "/tables/shop.orders/k7"]);
        assert!(Table::new(Some("a/b"), Keys::Text, 2).is_err());
    }

    #[test]
    fn padding_makes_the_frame_as_long_as_it_was_asked_to_be() {
        let message = Message { product: 12, version: 345, due_ns: 1 };
        for table in [Table::Products, orders(Keys::Text, 12)] {
            for wanted in [256, 1000, 70_000] {
                let padding = table.padding(&message, wanted).unwrap();
                let payload = table.change_json(&message, padding).len();
                assert_eq!(payload + crate::frames::head_bytes(payload), wanted);
            }
        }
        assert_eq!(orders(Keys::Text, 12).padding(&message, 150), None);
    }
}
