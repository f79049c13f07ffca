//! The rows of the server's store, read over REST: [`Rows`].

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;

use crate::message::leading_number;
use crate::publish::Http;
use crate::table::Table;

/// The most products of a page.
const PAGE: u32 = 200;

/// A row's version, and the number in its name by which the generator knows its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// 0 if there is no such product.
    pub(crate) version: u64,
    pub(crate) stamp: u64,
}

/// Products 1 to P, as they are in the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    by_product: Vec<Row>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(alias = "products")]
    rows: Vec<Listed>,
    next: Option<Value>,
}

/// A product, or a row of any table.
#[derive(Deserialize)]
struct Listed {
    #[serde(alias = "productId")]
    key: Value,
    version: u64,
    #[serde(alias = "productName")]
    row: Value,
}

impl Listed {
    /// Returns its number, if it is a row that the generator writes.
    fn number(&self) -> Option<usize> {
        match &self.key {
            Value::String(key) => key.strip_prefix('k')?.parse().ok(),
            key => usize::try_from(key.as_u64()?).ok(),
        }
    }

    fn stamp(&self) -> u64 {
        let text = self.row.get("stamp").unwrap_or(&self.row).as_str();
        text.and_then(|text| text.strip_prefix('t')).map_or(0, |rest| leading_number(rest.as_bytes()))
    }
}

impl Rows {
    /// Reads rows 1 to `products` of a table, page by page.
    pub(crate) async fn read(http: &mut Http, table: Table, products: u32) -> anyhow::Result<Self> {
        let mut rows = Self { by_product: vec![Row::default(); products as usize + 1] };
        let list = table.list_path();
        let mut after = String::new();
        loop {
            let authorization = http.token.line();
            let request = format!("GET {list}?limit={PAGE}{after} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
            let answer = http.request(request.as_bytes()).await.context("read the store's rows")?;
            let next = rows.add_page(&answer.body).with_context(|| format!("a page of GET {list}"))?;
            match next {
                Some(Value::Number(id)) if id.as_u64().is_some_and(|id| id >= u64::from(products)) => return Ok(rows),
                Some(Value::String(key)) => after = format!("&after={}", encoded(&key)),
                Some(key) => after = format!("&after={key}"),
                None => return Ok(rows),
            }
        }
    }

    /// Adds the rows of a page; returns the `after` of the next.
    fn add_page(&mut self, json: &[u8]) -> anyhow::Result<Option<Value>> {
        let page: Page = serde_json::from_slice(json)?;
        for listed in page.rows {
            if let Some(row) = listed.number().and_then(|place| self.by_product.get_mut(place)) {
                *row = Row { version: listed.version, stamp: listed.stamp() };
            }
        }
        Ok(page.next)
    }

    /// Returns a product's row.
    #[inline]
    pub(crate) fn get(&self, product: u32) -> Row {
        self.by_product.get(product as usize).copied().unwrap_or_default()
    }

    /// Returns rows that were written by a test.
    #[cfg(test)]
    pub(crate) fn of(rows: &[Row]) -> Self {
        Self { by_product: [&[Row::default()], rows].concat() }
    }
}

/// Returns a key of somebody else as part of a query (RFC 3986, section 2.1).
fn encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").expect("a string takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_versions_and_stamps_and_leads_to_the_next() {
        let mut rows = Rows::of(&[Row::default(); 3]);
        let page =
            br#"{"products":[{"productId":1,"manufacturer":"Load","productName":"t000000000000042~","version":7},
            {"productId":3,"productName":"x","version":9},{"productId":4,"productName":"t1","version":10}],"next":4}"#;
        assert_eq!(rows.add_page(page).unwrap(), Some(4.into()));
        let told = [1, 2, 3, 4].map(|product| (rows.get(product).version, rows.get(product).stamp));
        assert_eq!(told, [(7, 42), (0, 0), (9, 0), (0, 0)]);
        assert_eq!(rows.add_page(br#"{"products":[],"next":null}"#).unwrap(), None);
        assert!(rows.add_page(b"[]").is_err());

        let page = br#"{"rows":[{"key":"k2","version":8,"row":{"id":"k2","stamp":"t0042~"}},
            {"key":"other","version":9,"row":{}}],"next":"other"}"#;
        assert_eq!(rows.add_page(page).unwrap(), Some("other".into()));
        assert_eq!(rows.get(2), Row { version: 8, stamp: 42 });
    }
}
