//! `/products`: the table of products, in the form that is its own.

use std::sync::Arc;

use hyper::StatusCode;

use super::Answer;
use super::form::Form;
use super::problem::Problem;
use super::resource::{self, Query, WrittenTable};
use super::routes::Call;
use crate::model::product::ProductId;
use crate::model::table::{PRODUCTS, Table};
use crate::store::RowId;

/// Answers `GET /products`.
pub(super) async fn list(call: Call<'_>) -> Result<Answer, Problem> {
    let table = table(&call)?;
    let query = query(call.head.uri().query().unwrap_or(""))?;
    resource::list(call, Form::Product, table, query).await
}

/// Answers `POST /products`.
pub(super) async fn create(call: Call<'_>) -> Result<Answer, Problem> {
    let table = WrittenTable::There(table(&call)?);
    resource::create(call, Form::Product, table, None, path).await
}

/// Answers `GET /products/{id}`.
pub(super) async fn read(call: Call<'_>) -> Result<Answer, Problem> {
    let table = table(&call)?;
    let key = parse_id(call.segments[0])?.key();
    resource::read(call, Form::Product, &table, key).await
}

/// Answers `PUT /products/{id}`.
pub(super) async fn put(call: Call<'_>) -> Result<Answer, Problem> {
    let table = WrittenTable::There(table(&call)?);
    let key = parse_id(call.segments[0])?.key();
    resource::put(call, Form::Product, table, key, path).await
}

/// Answers `PATCH /products/{id}`.
pub(super) async fn patch(call: Call<'_>) -> Result<Answer, Problem> {
    let table = table(&call)?;
    let key = parse_id(call.segments[0])?.key();
    resource::patch(call, Form::Product, &table, key).await
}

/// Answers `DELETE /products/{id}`.
pub(super) async fn delete(call: Call<'_>) -> Result<Answer, Problem> {
    table(&call)?;
    let id = parse_id(call.segments[0])?;
    resource::delete(call, id.into()).await
}

/// Returns the path of a product.
fn path(id: &RowId) -> String {
    format!("/products/{}", id.key)
}

/// Returns the built-in table.
fn table(call: &Call<'_>) -> Result<Arc<Table>, Problem> {
    let tables = call.services.hub.tables();
    tables.products().ok_or_else(|| {
        let detail = if tables.find(PRODUCTS).is_some() {
            "products is a table like any other here; its rows are under /tables/products"
        } else {
            "this server has no products; GET /tables lists the tables that it has"
        };
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// Reads `after` and `limit` from a query string.
fn query(query: &str) -> Result<Query, Problem> {
    let mut found = Query::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" => {
                let id = value.parse().ok().and_then(ProductId::new);
                let id = id.ok_or_else(|| {
                    Problem::bad_request(format!("after is a product id, an integer from 0 to {}", ProductId::MAX))
                })?;
                found.after = Some(id.key());
            }
            "limit" => found.limit = Some(resource::limit(&value).map_err(Problem::bad_request)?),
            // `access` has read it, and its holder.
            "token" => {}
            name => {
                return Err(Problem::bad_request(format!("the list knows after and limit, not {name:?}")));
            }
        }
    }
    Ok(found)
}

fn parse_id(text: &str) -> Result<ProductId, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = if digits { text.parse().ok().and_then(ProductId::new) } else { None };
    id.ok_or_else(|| Problem::bad_request(format!("a product id is an integer from 0 to {}", ProductId::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_chosen_by_after_and_limit() {
        assert_eq!(query("").unwrap(), Query::default());
        let after = ProductId::new(7).map(ProductId::key);
        assert_eq!(query("limit=5&after=7").unwrap(), Query { after, limit: Some(5), keys: Vec::new() });
        for bad in ["limit=0", "limit=1001", "limit=x", "after=-1", "after=", "offset=3", "limit", "key=1"] {
            assert!(query(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_in_a_path_is_digits_in_range() {
        assert_eq!(parse_id("9007199254740991").unwrap(), ProductId::MAX);
        for bad in ["", "-1", "+1", "1.0", "9007199254740992", "99999999999999999999", "a"] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }
}
