//! Writes of one product (`migrations/0013_true_products.sql`). Those with a condition lock the row, look at its version and
//! write, in one call.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::failure::Failure;
use super::{Condition, PostgresStore, TRIES_MAX, column, number, product_id, versioned};
use crate::model::product::{Product, ProductBody, ProductId, ProductPatch};
use crate::model::row::Row as ModelRow;
use crate::store::{Precondition, Put, RowId, StoreError, Written};

const WRITE: &str = "SELECT fault, is_new, (written).* FROM product_write($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The columns of a product beside its id; those that are `None` stay as they are.
#[derive(Default)]
struct Columns {
    manufacturer: Option<String>,
    price_per_unit: Option<String>,
    units_available: Option<i64>,
    product_name: Option<String>,
}

impl PostgresStore {
    /// Adds a product, if its condition holds of none.
    pub(super) async fn write_new_product(
        &self,
        id: RowId,
        row: &ModelRow,
        condition: Precondition,
    ) -> Result<Written, StoreError> {
        let (product, columns) = whole(&id, row)?;
        if !condition.holds(None) {
            return Err(self.not_inserted(id, &condition).await);
        }
        match self.write_product("insert", product, &columns, Precondition::default()).await {
            Err(failure) if failure.is_taken_key() => Err(self.not_inserted(id, &condition).await),
            outcome => self.written_product(id, &self.told(outcome)?).map(|(_, written)| written),
        }
    }

    /// Writes a whole product, new or not.
    pub(super) async fn write_whole_product(
        &self,
        id: RowId,
        row: &ModelRow,
        condition: Precondition,
    ) -> Result<(Put, Written), StoreError> {
        let (product, columns) = whole(&id, row)?;
        let outcome = self.write_product("put", product, &columns, condition).await;
        self.written_product(id, &self.told(outcome)?)
    }

    /// Replaces the members that the patch names.
    pub(super) async fn write_part_of_product(
        &self,
        id: RowId,
        patch: &ModelRow,
        condition: Precondition,
    ) -> Result<Written, StoreError> {
        let patch: ProductPatch = serde_json::from_slice(patch.as_bytes()).map_err(|error| no_product(&error))?;
        let ProductPatch { manufacturer, price_per_unit, units_available, product_name, .. } = patch;
        let columns = Columns { manufacturer, price_per_unit, units_available, product_name };
        let outcome = self.write_product("patch", product_id(&id)?, &columns, condition).await;
        self.written_product(id, &self.told(outcome)?).map(|(_, written)| written)
    }

    /// Removes a product; the version of that, or 0 where a trigger put it back.
    pub(super) async fn remove_product(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        let outcome = self.write_product("delete", product_id(&id)?, &Columns::default(), condition).await;
        self.written_product(id, &self.told(outcome)?).map(|(_, written)| written.version)
    }

    async fn write_product(
        &self,
        action: &str,
        id: ProductId,
        columns: &Columns,
        condition: Precondition,
    ) -> Result<Row, Failure> {
        let Columns { manufacturer, price_per_unit, units_available, product_name } = columns;
        let key = id.get().cast_signed();
        let Condition { presence, wanted, unwanted } = condition.into();
        let arguments: [&(dyn ToSql + Sync); 9] =
            [&action, &key, manufacturer, price_per_unit, units_available, product_name, &presence, &wanted, &unwanted];
        let mut tries = 1;
        loop {
            match self.query_once(WRITE, &arguments).await {
                // Somebody else may have inserted the key meanwhile.
                Err(failure)
                    if tries < TRIES_MAX && (failure.may_pass() || action == "put" && failure.is_taken_key()) =>
                {
                    tries += 1;
                }
                outcome => return outcome.map(|mut rows| rows.remove(0)),
            }
        }
    }

    /// Returns a product as a write left it, or the reason for which it was not written.
    fn written_product(&self, id: RowId, row: &Row) -> Result<(Put, Written), StoreError> {
        match self.told(column::<Option<&str>>(row, "fault"))? {
            None => self.told(written(row)),
            Some("absent") => Err(StoreError::NotFound(id)),
            Some("unmet") => Err(StoreError::PreconditionFailed(id)),
            Some(_) => self.told(Err(Failure::LeftOut)),
        }
    }
}

/// Returns the id and the columns of a whole row.
fn whole(id: &RowId, row: &ModelRow) -> Result<(ProductId, Columns), StoreError> {
    let id = product_id(id)?;
    let body: ProductBody = serde_json::from_slice(row.as_bytes()).map_err(|error| no_product(&error))?;
    let Product { manufacturer, price_per_unit, units_available, product_name, .. } = body.into_product(id);
    let columns = Columns {
        manufacturer: Some(manufacturer),
        price_per_unit: Some(price_per_unit),
        units_available: Some(units_available),
        product_name: Some(product_name),
    };
    Ok((id, columns))
}

fn written(row: &Row) -> Result<(Put, Written), Failure> {
    let put = if column(row, "is_new")? { Put::Inserted } else { Put::Replaced };
    let is_there = column::<Option<&str>>(row, "manufacturer")?.is_some();
    if is_there {
        return Ok((put, versioned(row)?.into()));
    }
    let id = number(row, "product_id")?;
    let key = ProductId::new(id).ok_or(Failure::Key(id))?.key();
    let version = column::<Option<i64>>(row, "version")?.map_or(0, i64::cast_unsigned);
    Ok((put, Written { key, version, row: None }))
}

/// The request's handler has checked it.
fn no_product(error: &serde_json::Error) -> StoreError {
    StoreError::Fault(format!("a row that was to be written is no product: {error}"))
}
