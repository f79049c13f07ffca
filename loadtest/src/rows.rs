//! The rows of the server's store, read over REST: [`Rows`].

use anyhow::Context;
use serde::Deserialize;

use crate::message::leading_number;
use crate::publish::Http;

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
    products: Vec<Listed>,
    next: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    product_id: u64,
    product_name: String,
    version: u64,
}

impl Rows {
    /// Reads products 1 to `products`, page by page.
    pub(crate) async fn read(http: &mut Http, products: u32) -> anyhow::Result<Self> {
        let mut rows = Self { by_product: vec![Row::default(); products as usize + 1] };
        let mut after = Some(0);
        while let Some(id) = after.filter(|id| *id < u64::from(products)) {
            let authorization = http.token.line();
            let request =
                format!("GET /products?after={id}&limit={PAGE} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
            let answer = http.request(request.as_bytes()).await.context("read the store's rows")?;
            after = rows.add_page(&answer.body).context("a page of GET /products")?;
        }
        Ok(rows)
    }

    /// Adds the rows of a page; returns the `after` of the next.
    fn add_page(&mut self, json: &[u8]) -> anyhow::Result<Option<u64>> {
        let page: Page = serde_json::from_slice(json)?;
        for Listed { product_id, product_name, version } in page.products {
            let place = usize::try_from(product_id).unwrap_or(usize::MAX);
            if let Some(row) = self.by_product.get_mut(place) {
                let stamp = product_name.strip_prefix('t').map_or(0, |rest| leading_number(rest.as_bytes()));
                *row = Row { version, stamp };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_versions_and_stamps_and_leads_to_the_next() {
        let mut rows = Rows::of(&[Row::default(); 3]);
        let page =
            br#"{"products":[{"productId":1,"manufacturer":"Load","productName":"t000000000000042~","version":7},
            {"productId":3,"productName":"x","version":9},{"productId":4,"productName":"t1","version":10}],"next":4}"#;
        assert_eq!(rows.add_page(page).unwrap(), Some(4));
        let told = [1, 2, 3, 4].map(|product| (rows.get(product).version, rows.get(product).stamp));
        assert_eq!(told, [(7, 42), (0, 0), (9, 0), (0, 0)]);
        assert_eq!(rows.add_page(br#"{"products":[],"next":null}"#).unwrap(), None);
        assert!(rows.add_page(b"[]").is_err());
    }
}
