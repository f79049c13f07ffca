//! One committed change of a row: [`Change`], and its JSON.

use std::time::Instant;

use crate::model::key::Key;
use crate::model::row::Row;
use crate::model::table::{Table, TableId, Tables};
use crate::model::topic::Subject;

/// The kind of change to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The row came into being.
    Insert,
    /// The row was replaced or patched.
    Update,
    /// The row is gone; the change carries it as it was.
    Delete,
}

impl Action {
    /// Returns the word that subscribers read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// One committed insert, update or delete of one row.
#[derive(Clone, Debug)]
pub struct Change {
    /// The row that changed.
    pub subject: Subject,
    /// A number that only grows for one row, deletes included.
    pub version: u64,
    /// The content for subscribers.
    pub body: ChangeBody,
    /// False if the content is the row's key alone, since the row is too long to be cast.
    pub is_whole: bool,
    /// The time at which this process learned that the change is committed.
    pub committed_at: Instant,
}

/// The content of a change, in the form in which its source has it.
#[derive(Clone, Debug)]
pub enum ChangeBody {
    /// The row.
    Row(Action, Row),
    /// The whole JSON as the database built it.
    Encoded(String),
}

impl Change {
    /// Makes a change that was committed just now, with the row as it is (for a delete: as it was).
    #[must_use]
    pub fn of_row(action: Action, subject: Subject, version: u64, row: Row) -> Self {
        Self { subject, version, body: ChangeBody::Row(action, row), is_whole: true, committed_at: Instant::now() }
    }

    /// Makes a change that was committed just now of which only the key is told.
    #[must_use]
    pub fn of_key(action: Action, subject: Subject, version: u64, table: &Table) -> Self {
        let mut json = Vec::new();
        write_key_alone(action.as_str(), version, table, &subject.key(), &mut json);
        let json = String::from_utf8(json).expect("JSON is text");
        Self { subject, version, body: ChangeBody::Encoded(json), is_whole: false, committed_at: Instant::now() }
    }

    /// Returns whether the row is gone with it.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        match &self.body {
            ChangeBody::Row(action, _) => *action == Action::Delete,
            // The action is the first member.
            ChangeBody::Encoded(json) => json.get(..24).is_some_and(|start| start.contains("\"DELETE\"")),
        }
    }

    /// Appends the JSON message of this change to `buffer`: `{"action":"UPDATE","version":42,"product":{"productId":1,…}}`,
    /// of another of these tables `{"action":"UPDATE","version":42,"table":"orders","key":17,"row":{…}}`.
    pub fn write_json(&self, tables: &Tables, buffer: &mut Vec<u8>) {
        match &self.body {
            ChangeBody::Encoded(json) => buffer.extend_from_slice(json.as_bytes()),
            ChangeBody::Row(action, row) => {
                write_head(action.as_str(), self.version, buffer);
                match self.subject.topic().table() {
                    TableId::PRODUCTS => write_product(row, buffer),
                    table => write_row(&tables.get(table), &self.subject.key(), row, buffer),
                }
            }
        }
    }
}

/// Appends the JSON message of a row as it is: that of a change, with `SNAPSHOT` as its action.
pub fn write_snapshot_json(version: u64, table: &Table, key: &Key, row: &Row, buffer: &mut Vec<u8>) {
    write_head("SNAPSHOT", version, buffer);
    match table.id {
        TableId::PRODUCTS => write_product(row, buffer),
        _ => write_row(table, key, row, buffer),
    }
}

/// Appends the JSON message of a row of which only the key is told: `{"action":"UPDATE","version":42,"table":"orders","key":17}`,
/// of a product `{"action":"UPDATE","version":42,"product":{"productId":1}}`.
pub fn write_key_alone(action: &str, version: u64, table: &Table, key: &Key, buffer: &mut Vec<u8>) {
    write_head(action, version, buffer);
    if table.id == TableId::PRODUCTS {
        buffer.extend_from_slice(b"\"product\":{\"productId\":");
        key.write_json(buffer);
        buffer.push(b'}');
    } else {
        write_name(table, key, buffer);
    }
    buffer.push(b'}');
}

/// Appends what follows the head where the row is a product.
fn write_product(product: &Row, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"\"product\":");
    buffer.extend_from_slice(product.as_bytes());
    buffer.push(b'}');
}

/// Appends what follows the head where it is one of another table.
fn write_row(table: &Table, key: &Key, row: &Row, buffer: &mut Vec<u8>) {
    write_name(table, key, buffer);
    buffer.extend_from_slice(b",\"row\":");
    buffer.extend_from_slice(row.as_bytes());
    buffer.push(b'}');
}

/// Appends `"table":"orders","key":17`.
fn write_name(table: &Table, key: &Key, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"\"table\":");
    table.write_name(buffer);
    buffer.extend_from_slice(b",\"key\":");
    key.write_json(buffer);
}

/// Appends `{"action":"UPDATE","version":42,`.
fn write_head(action: &str, version: u64, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"{\"action\":\"");
    buffer.extend_from_slice(action.as_bytes());
    buffer.extend_from_slice(b"\",\"version\":");
    buffer.extend_from_slice(version.to_string().as_bytes());
    buffer.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::model::product::{Product, ProductId};

    /// The messages of an update and of a snapshot.
    fn messages(tables: &Tables, subject: &Subject, row: &Row) -> (String, String) {
        let (mut change, mut snapshot) = (Vec::new(), Vec::new());
        Change::of_row(Action::Update, subject.clone(), 42, row.clone()).write_json(tables, &mut change);
        let table = tables.get(subject.topic().table());
        write_snapshot_json(42, &table, &subject.key(), row, &mut snapshot);
        (String::from_utf8(change).unwrap(), String::from_utf8(snapshot).unwrap())
    }

    #[test]
    fn the_json_is_that_of_the_protocol() {
        let product = Product {
            product_id: ProductId::new(1).unwrap(),
            manufacturer: "Apple".into(),
            price_per_unit: "500EUR".into(),
            units_available: 6,
            product_name: "MacBook \"Pro\"\n".into(),
        };
        let (json, snapshot) = messages(&Tables::new(), &product.product_id.subject(), &Row::from(&product));
        assert_eq!(snapshot, json.replace("UPDATE", "SNAPSHOT"));
        assert_eq!(
            json,
            r#"{"action":"UPDATE","version":42,"product":{"productId":1,"manufacturer":"Apple","pricePerUnit":"500EUR","unitsAvailable":6,"productName":"MacBook \"Pro\"\n"}}"#
        );
    }

    #[test]
    fn a_row_of_another_table_is_told_with_its_table_and_key() {
        let tables = Tables::new();
        let orders = tables.add("or\"ders", KeyKind::Any).unwrap();
        let row = Row::parse(br#"{"state": "paid"}"#).unwrap();
        for (text, key) in [("17", "17"), ("a-9", "\"a-9\""), ("\"", r#""\"""#)] {
            let subject = tables.subject(orders.id, KeyKind::Any.of_text(text).unwrap());
            let (json, snapshot) = messages(&tables, &subject, &row);
            let rest = format!(r#""version":42,"table":"or\"ders","key":{key},"row":{{"state":"paid"}}}}"#);
            assert_eq!(json, format!(r#"{{"action":"UPDATE",{rest}"#));
            assert_eq!(snapshot, format!(r#"{{"action":"SNAPSHOT",{rest}"#));
        }
    }
}
