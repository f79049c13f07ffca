//! One committed change of a product: [`Change`], and its JSON.

use std::time::Instant;

use crate::model::key::Key;
use crate::model::product::{Product, ProductId};
use crate::model::table::{Table, TableId};

/// The kind of change to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The product came into being.
    Insert,
    /// The product was replaced or patched.
    Update,
    /// The product is gone; the change carries it as it was.
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

/// One committed insert, update or delete of one product.
#[derive(Clone, Debug)]
pub struct Change {
    /// The product that changed.
    pub product_id: ProductId,
    /// A number that only grows for one product, deletes included.
    pub version: u64,
    /// The content for subscribers.
    pub body: ChangeBody,
    /// False if the content is the product's id alone, since the row is too long to be cast.
    pub is_whole: bool,
    /// The time at which this process learned that the change is committed.
    pub committed_at: Instant,
}

/// The content of a change, in the form in which its source has it.
#[derive(Clone, Debug)]
pub enum ChangeBody {
    /// The row, yet to be encoded.
    Row(Action, Product),
    /// The whole JSON as the database built it.
    Encoded(String),
}

impl Change {
    /// Makes a change that was committed just now, with the row as it is (for a delete: as it was).
    #[must_use]
    pub fn of_row(action: Action, version: u64, product: Product) -> Self {
        Self {
            product_id: product.product_id,
            version,
            body: ChangeBody::Row(action, product),
            is_whole: true,
            committed_at: Instant::now(),
        }
    }

    /// Returns whether the product is gone with it.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        match &self.body {
            ChangeBody::Row(action, _) => *action == Action::Delete,
            // The action is the first member.
            ChangeBody::Encoded(json) => json.get(..24).is_some_and(|start| start.contains("\"DELETE\"")),
        }
    }

    /// Appends the JSON message of this change to `buffer`:
    /// `{"action":"UPDATE","version":42,"product":{"productId":1,…}}`.
    pub fn write_json(&self, buffer: &mut Vec<u8>) {
        match &self.body {
            ChangeBody::Encoded(json) => buffer.extend_from_slice(json.as_bytes()),
            ChangeBody::Row(action, product) => write_json(action.as_str(), self.version, product, buffer),
        }
    }
}

/// Appends the JSON message of a row as it is: `{"action":"SNAPSHOT","version":42,"product":{"productId":1,…}}`.
pub fn write_snapshot_json(version: u64, product: &Product, buffer: &mut Vec<u8>) {
    write_json("SNAPSHOT", version, product, buffer);
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
        buffer.extend_from_slice(b"\"table\":");
        table.write_name(buffer);
        buffer.extend_from_slice(b",\"key\":");
        key.write_json(buffer);
    }
    buffer.push(b'}');
}

fn write_json(action: &str, version: u64, product: &Product, buffer: &mut Vec<u8>) {
    write_head(action, version, buffer);
    buffer.extend_from_slice(b"\"product\":");
    serde_json::to_writer(&mut *buffer, product).expect("a product has string keys, and a Vec takes all");
    buffer.push(b'}');
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

    #[test]
    fn the_json_is_that_of_the_protocol() {
        let product = Product {
            product_id: ProductId::new(1).unwrap(),
            manufacturer: "Apple".into(),
            price_per_unit: "500EUR".into(),
            units_available: 6,
            product_name: "MacBook \"Pro\"\n".into(),
        };
        let (mut json, mut snapshot) = (Vec::new(), Vec::new());
        write_snapshot_json(42, &product, &mut snapshot);
        Change::of_row(Action::Update, 42, product).write_json(&mut json);
        let json = String::from_utf8(json).unwrap();
        assert_eq!(String::from_utf8(snapshot).unwrap(), json.replace("UPDATE", "SNAPSHOT"));
        assert_eq!(
            json,
            r#"{"action":"UPDATE","version":42,"product":{"productId":1,"manufacturer":"Apple","pricePerUnit":"500EUR","unitsAvailable":6,"productName":"MacBook \"Pro\"\n"}}"#
        );
    }
}
