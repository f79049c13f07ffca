//! The rows that bodies describe: products by their schema, those of other tables as they are.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use super::problem::Problem;
use crate::model::key::{Key, KeyKind};
use crate::model::product::{ProductBody, ProductId, ProductPatch};
use crate::model::row::Row;
use crate::store::RowId;

/// A longer body is read beside the core, which delivers meanwhile.
const READ_ON_CORE_BYTES_MAX: usize = 64 * 1024;

/// Reads the whole row with this name.
///
/// # Errors
/// 400.
pub(super) async fn whole(id: &RowId, body: Vec<u8>) -> Result<Row, Problem> {
    match id.product() {
        Some(product) => product_under(Some(product), &body).map(|(_, row)| row),
        None => row(body).await,
    }
}

/// Reads a new row of a table with these keys, which the request does not name: a product, whose key is in it; where every text is a key,
/// `{"key":…,"row":{…}}`; else the row, whose key the table's schema finds in it, or makes.
///
/// # Errors
/// 400.
pub(super) async fn new(keys: KeyKind, is_product: bool, body: Vec<u8>) -> Result<(Option<Key>, Row), Problem> {
    if is_product {
        let (product, row) = product_under(None, &body)?;
        return Ok((Some(product.key()), row));
    }
    if keys != KeyKind::Any {
        return Ok((None, row(body).await?));
    }
    let Element { key, row: json, .. } = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            r#"the body: {error}; POST takes {{"key":…,"row":{{…}}}}, or the row alone where ?key=… names it"#
        ))
    })?;
    let key = match key {
        KeyJson::Number(number) => keys.of_number(number),
        KeyJson::Text(text) => keys.of_text(&text),
    };
    let key = key.map_err(|error| Problem::bad_request(format!("key: {error}")))?;
    Ok((Some(key), row(json.get().as_bytes().to_vec()).await?))
}

/// Reads a merge patch (RFC 7396) of the row with this name.
///
/// # Errors
/// 400.
pub(super) async fn patch(id: &RowId, body: Vec<u8>) -> Result<Row, Problem> {
    let Some(product) = id.product() else { return row(body).await };
    let patch: ProductPatch = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
    same_id(product, patch.product_id)?;
    patch.check().map_err(Problem::bad_request)?;
    Ok(Row::from(&patch))
}

/// Reads a whole product, under the id that the request names or else the body's own.
fn product_under(id: Option<ProductId>, body: &[u8]) -> Result<(ProductId, Row), Problem> {
    let body: ProductBody = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let id = match id {
        Some(id) => same_id(id, body.product_id).map(|()| id)?,
        None => body.product_id.ok_or_else(|| Problem::bad_request("the body has no productId"))?,
    };
    let product = body.into_product(id);
    product.check().map_err(Problem::bad_request)?;
    Ok((id, Row::from(&product)))
}

fn same_id(path: ProductId, body: Option<ProductId>) -> Result<(), Problem> {
    match body {
        Some(body) if body != path => {
            Err(Problem::bad_request(format!("the path names product {path}, the body product {body}")))
        }
        _ => Ok(()),
    }
}

async fn row(body: Vec<u8>) -> Result<Row, Problem> {
    let row = if body.len() <= READ_ON_CORE_BYTES_MAX {
        Row::parse(&body)
    } else {
        let reading = spawn_blocking(move || Row::parse(&body));
        reading.await.map_err(|_| Problem::unavailable("the body was not read; try again soon"))?
    };
    row.map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body: {error}"))
}

/// A row as a list has it. Its version, if it comes with one, is ignored, so that what was listed can be sent back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Element<'a> {
    key: KeyJson,
    #[serde(borrow)]
    row: &'a RawValue,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
}

/// A key as JSON has it.
enum KeyJson {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for KeyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = KeyJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key: an integer or a string")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<KeyJson, E> {
                Ok(KeyJson::Number(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<KeyJson, E> {
                // What is beyond is no key of any table.
                Ok(KeyJson::Number(number.try_into().unwrap_or(i64::MAX)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<KeyJson, E> {
                Ok(KeyJson::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}
