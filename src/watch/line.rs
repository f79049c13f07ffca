//! A change as a line of JSON: the message of docs/protocol.md that tells it ([`line`]).

use rowcast_client::{Action, Change, Key};
use serde::Serialize;
use serde_json::value::RawValue;

/// A message. What it has not is left out.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<Product<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<[&'a Key; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<[u64; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Product<'a> {
    Row(&'a RawValue),
    #[serde(rename_all = "camelCase")]
    Alone {
        product_id: &'a Key,
    },
}

/// Returns the message of a change, a product's if `is_product`. A row that was deleted is told as it was, and one that is
/// being read by its key alone.
pub(super) fn line(change: &Change, is_product: bool) -> Vec<u8> {
    let Change { table, key, version, action, row, previous, is_owed } = change;
    let table = (!is_product).then_some(&**table);
    let row = if *action == Action::Delete { previous } else { row };
    let row = row.as_ref().filter(|_| !is_owed).and_then(|row| row.parse::<&RawValue>().ok());
    let (action, version_told) = (Some(*action), Some(*version));
    let message = match change.action {
        Action::Absent => Message { absent: Some([key]), versions: Some([*version]), table, ..Message::default() },
        _ if is_product => {
            let product = Some(row.map_or(Product::Alone { product_id: key }, Product::Row));
            Message { action, version: version_told, product, ..Message::default() }
        }
        _ => Message { action, version: version_told, table, key: Some(key), row, ..Message::default() },
    };
    serde_json::to_vec(&message).expect("a message is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: &str, action: Action, row: Option<&str>, is_product: bool) -> String {
        let row = row.map(|row| RawValue::from_string(row.to_owned()).unwrap().into());
        let (row, previous) = if action == Action::Delete { (None, row) } else { (row, None) };
        let (table, key) = ("orders".into(), key.into());
        let change = Change { table, key, version: 7, action, row, previous, is_owed: false };
        String::from_utf8(line(&change, is_product)).unwrap()
    }

    #[test]
    fn a_line_is_the_message_of_the_protocol() {
        let row = Some(r#"{"a":1.50}"#);
        for (found, expected) in [
            (shown("1", Action::Insert, row, true), r#"{"action":"INSERT","version":7,"product":{"a":1.50}}"#),
            (shown("1", Action::Delete, row, true), r#"{"action":"DELETE","version":7,"product":{"a":1.50}}"#),
            (shown("1", Action::Update, None, true), r#"{"action":"UPDATE","version":7,"product":{"productId":1}}"#),
            (shown("1", Action::Absent, None, true), r#"{"absent":[1],"versions":[7]}"#),
            (
                shown("a-9", Action::Snapshot, row, false),
                r#"{"action":"SNAPSHOT","version":7,"table":"orders","key":"a-9","row":{"a":1.50}}"#,
            ),
            (shown("17", Action::Update, None, false), r#"{"action":"UPDATE","version":7,"table":"orders","key":17}"#),
            (shown("17", Action::Absent, None, false), r#"{"absent":[17],"versions":[7],"table":"orders"}"#),
        ] {
            assert_eq!(found, expected);
        }
    }
}
