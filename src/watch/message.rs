//! The messages of a server, as a reader understands them: [`Message`].

use serde::Deserialize;
use serde_json::value::RawValue;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// A product changed, or is told as it is.
    Change(Change),
    /// These products do not exist.
    Absent {
        /// Their ids.
        products: Vec<u64>,
        /// For each, the version up to which that is known; 0 if none is.
        versions: Vec<u64>,
    },
    /// The history in which versions mean something.
    Epoch(String),
    /// What is shown is the present state (true) or may be old (false).
    Live(bool),
    /// The answer to a command, with the sentence of a refusal.
    Reply {
        /// The sentence.
        error: Option<String>,
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
    /// The id.
    pub product_id: u64,
    /// The version.
    pub version: u64,
    /// True if the product is gone.
    pub is_delete: bool,
    /// The row, as JSON.
    pub product: Box<RawValue>,
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
    absent: Option<Vec<u64>>,
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reconnect {
    after_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id {
    product_id: u64,
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
                let is_delete = action == "DELETE";
                Self::Change(Change { product_id, version, is_delete, product: product.to_owned() })
            }
            Raw { absent: Some(products), versions, .. } => Self::Absent { products, versions },
            Raw { epoch: Some(epoch), .. } => Self::Epoch(epoch),
            Raw { live: Some(live), .. } => Self::Live(live),
            Raw { skipped: Some(skipped), .. } => Self::Skipped(skipped),
            Raw { reconnect: Some(Reconnect { after_ms }), .. } => Self::Reconnect { after_ms },
            Raw { error: Some(error), .. } => Self::Reply { error: Some(error) },
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
        assert_eq!((change.product_id, change.version, change.is_delete), (1, 42, false));
        assert_eq!(change.product.get(), r#"{"productId":1,"x":[1,"\n"]}"#);
        assert!(matches!(Message::parse(br#"{"new":{}}"#).unwrap(), Message::Other));
        for bad in [&b"["[..], b"{\"live\":1}", b"{\"action\":\"UPDATE\",\"version\":-1,\"product\":{}}"] {
            assert!(Message::parse(bad).is_err(), "{bad:?}");
        }
    }
}
