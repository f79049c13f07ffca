//! The rows that are followed: [`Rows`].

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::key::Key;

/// The table of products, whose messages name none.
pub(crate) const PRODUCTS: &str = "products";

/// A row of a table by its key; none: all of them.
pub(crate) type Topic = Option<Key>;

/// Rows of a table, to subscribe to.
///
/// ```
/// use rowcast_client::Rows;
///
/// let some = Rows::of("orders", ["17", "a-9"]);
/// let all = Rows::all("orders");
/// let products = Rows::products([1, 2]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    table: Arc<str>,
    topics: Arc<[Topic]>,
}

impl Rows {
    /// Returns the rows of a table that have these keys, or will have.
    #[must_use]
    pub fn of<K: Into<Key>>(table: &str, keys: impl IntoIterator<Item = K>) -> Self {
        let keys: BTreeSet<Key> = keys.into_iter().map(Into::into).collect();
        Self { table: table.into(), topics: keys.into_iter().map(Some).collect() }
    }

    /// Returns all rows of a table that the token grants, those to come too.
    #[must_use]
    pub fn all(table: &str) -> Self {
        Self { table: table.into(), topics: [None].into() }
    }

    /// Returns products, by their ids.
    #[must_use]
    pub fn products(ids: impl IntoIterator<Item = i64>) -> Self {
        Self::of(PRODUCTS, ids)
    }

    /// Returns all products.
    #[must_use]
    pub fn all_products() -> Self {
        Self::all(PRODUCTS)
    }

    /// Returns the name of their table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Returns whether they are all rows of the table.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.topics.first() == Some(&None)
    }

    pub(crate) fn topics(&self) -> &[Topic] {
        &self.topics
    }

    pub(crate) fn table_shared(&self) -> Arc<str> {
        Arc::clone(&self.table)
    }
}
