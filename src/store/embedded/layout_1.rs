//! The layout of version 0.1.0, in which a file held products alone, field by field: [`bring_forward`].

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use super::data_file::{self, META, ROWS, TABLES};
use super::keys;
use crate::model::product::{Product, ProductId};
use crate::model::row::Row;
use crate::model::table::TableId;

/// Its number.
pub(super) const LAYOUT: u64 = 1;

/// Version, manufacturer, price per unit, units available, product name.
type Fields = (u64, &'static str, &'static str, i64, &'static str);

const PRODUCTS: TableDefinition<'static, u64, Fields> = TableDefinition::new("products");

/// Rewrites the products as rows, with their versions, and returns their number. It is one transaction: a start that is
/// cut off leaves the file as it was.
pub(super) fn bring_forward(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let mut count = 0;
    {
        let (products, mut rows) = (transaction.open_table(PRODUCTS)?, transaction.open_table(ROWS)?);
        for entry in products.iter()? {
            let (id, fields) = entry?;
            let product_id = ProductId::new(id.value()).ok_or_else(no_product)?;
            let (version, row) = row(product_id, fields.value());
            rows.insert(&keys::encode(TableId::PRODUCTS, &product_id.key())[..], (version, row.as_bytes()))?;
            count += 1;
        }
        transaction.open_table(META)?.insert(data_file::LAYOUT, 2)?;
    }
    transaction.open_table(TABLES)?;
    transaction.delete_table(PRODUCTS)?;
    leave_for_0_1_0(&transaction)?;
    transaction.commit()?;
    Ok(count)
}

/// Leaves an empty table of products, without which version 0.1.0 would not say that a newer one wrote the file.
pub(super) fn leave_for_0_1_0(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(PRODUCTS)?;
    Ok(())
}

fn row(product_id: ProductId, fields: (u64, &str, &str, i64, &str)) -> (u64, Row) {
    let (version, manufacturer, price_per_unit, units_available, product_name) = fields;
    let product = Product {
        product_id,
        manufacturer: manufacturer.to_owned(),
        price_per_unit: price_per_unit.to_owned(),
        units_available,
        product_name: product_name.to_owned(),
    };
    (version, Row::from(&product))
}

fn no_product() -> redb::Error {
    redb::Error::Corrupted("a key is no product's".to_owned())
}
