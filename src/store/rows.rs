//! The names of rows, and rows with their versions: [`RowId`], [`Versioned`], [`Written`] and [`Page`].

use std::fmt;

use crate::model::key::Key;
use crate::model::product::ProductId;
use crate::model::row::Row;
use crate::model::table::{PRODUCTS, Table, TableId};

/// The name of a row: that of its table, which need not be there, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowId {
    /// The table's name.
    pub table: Box<str>,
    /// The row's key.
    pub key: Key,
    /// True in the built-in table of products.
    is_product: bool,
}

impl RowId {
    /// Names a row of the table that has this name where products are built in.
    #[must_use]
    pub fn new(table: &str, key: Key) -> Self {
        Self { table: table.into(), key, is_product: table == PRODUCTS }
    }

    /// Names a row of a table.
    #[must_use]
    pub fn of(table: &Table, key: Key) -> Self {
        Self { table: table.name.clone(), key, is_product: table.id == TableId::PRODUCTS }
    }

    /// Returns the product that it names, if it is one.
    #[must_use]
    pub fn product(&self) -> Option<ProductId> {
        ProductId::of_key(&self.key).filter(|_| self.is_product)
    }
}

impl From<ProductId> for RowId {
    fn from(id: ProductId) -> Self {
        Self::new(PRODUCTS, id.key())
    }
}

/// The row as a sentence names it: `product 7`, `row 17 of orders`.
impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.table, &self.key) {
            (_, key) if self.is_product => write!(f, "product {key}"),
            (table, Key::Text(text)) => write!(f, "row {text:?} of {table}"),
            (table, key) => write!(f, "row {key} of {table}"),
        }
    }
}

/// A row with its key and the version of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The key in its table.
    pub key: Key,
    /// The version that its last change got.
    pub version: u64,
    /// The row.
    pub row: Row,
}

/// A row as a write left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key in its table.
    pub key: Key,
    /// The version that the change got; without a row that of its removal, or 0 where that is not known.
    pub version: u64,
    /// The row; none where a trigger of its table has removed it again.
    pub row: Option<Row>,
}

impl From<Versioned> for Written {
    fn from(Versioned { key, version, row }: Versioned) -> Self {
        Self { key, version, row: Some(row) }
    }
}

/// Rows of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub rows: Vec<Versioned>,
    /// The key after which the next ones follow, if there are any: that of the last of these, or of a row after it that
    /// cannot be listed.
    pub next: Option<Key>,
}
