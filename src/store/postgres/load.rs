//! Reads for the shards, each with its mark in the stream of notifications.
//!
//! A session hears a notification after it was committed, and what a read saw was committed before the read; so all that
//! it saw is in the queue before the notification that the same session sends after the read
//! (<https://www.postgresql.org/docs/15/sql-notify.html>: notifications are delivered in the order of the commits).

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::failure::Failure;
use super::{ANSWER_TIMEOUT, Arguments, PostgresStore, column, key, number};
use crate::model::key::Key;
use crate::model::product::{Product, ProductId};
use crate::model::table::TableId;
use crate::model::topic::Subject;
use crate::store::{Found, Keys, READ_BYTES_MAX, READ_IDS_MAX, Read, StoreError, Versioned};

/// The rows by their ids, as far as the texts of those before them leave room, and the tombstones. A row that finds no
/// room comes without its texts; a tombstone has no units.
const LOAD: &str = "SELECT product_id, version, is_read, CASE WHEN is_read THEN manufacturer END AS manufacturer, \
         CASE WHEN is_read THEN price_per_unit END AS price_per_unit, units_available, \
         CASE WHEN is_read THEN product_name END AS product_name \
     FROM (SELECT *, row_number() OVER listed = 1 OR sum(octet_length(manufacturer) + octet_length(price_per_unit) \
             + octet_length(product_name)) OVER listed <= $2::bigint AS is_read \
         FROM products WHERE product_id = ANY ($1::bigint[]) WINDOW listed AS (ORDER BY product_id)) AS listed \
     UNION ALL SELECT product_id, version, true, NULL, NULL, NULL, NULL FROM product_tombstones \
         WHERE product_id = ANY ($1::bigint[])";
/// Of one product, which a read of several would spoil: without those of its texts that cannot be sent in UTF-8.
const LOAD_ONE: &str = "SELECT product_id, version, true AS is_read, rowcast_sendable(manufacturer) AS manufacturer, \
         rowcast_sendable(price_per_unit) AS price_per_unit, units_available, \
         rowcast_sendable(product_name) AS product_name FROM products WHERE product_id = ANY ($1::bigint[]) \
     UNION ALL SELECT product_id, version, true, NULL, NULL, NULL, NULL FROM product_tombstones \
         WHERE product_id = ANY ($1::bigint[])";
/// The ids and versions that follow one.
const KEYS: &str = "SELECT product_id, version FROM products WHERE product_id > $1 ORDER BY product_id LIMIT $2";
/// The channel's name is known to the database alone.
const MARK: &str = "SELECT pg_notify(channel, $1) FROM rowcast_stream";

impl PostgresStore {
    /// Reads these rows and marks the stream: `barrier`, this server's name, and the number. Rows that the database
    /// cannot send spoil the whole read: then all is left, for smaller reads.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load(&self, rows: &[Subject], barrier: u64) -> Result<Read, StoreError> {
        // A read is of one table.
        if let Some(table) = rows.first().map(|row| row.topic().table()).filter(|table| *table != TableId::PRODUCTS) {
            return self.load_served(rows, table, barrier).await;
        }
        match self.read_and_mark(rows, barrier).await {
            Err(failure) if failure.is_of_data() => Ok(match rows {
                [row] => Read { found: vec![(row.topic(), Found::Unreadable { version: 0 })], left: Vec::new() },
                _ => Read { found: Vec::new(), left: rows.iter().map(Subject::topic).collect() },
            }),
            outcome => self.told(outcome),
        }
    }

    /// Reads the keys and versions of the rows of a table that follow `after`, at most [`READ_IDS_MAX`] of them, and marks the stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn keys(&self, table: TableId, after: Option<Key>, barrier: u64) -> Result<Keys, StoreError> {
        if table != TableId::PRODUCTS {
            return self.keys_served(table, after.as_ref(), barrier).await;
        }
        let after = after.as_ref().and_then(ProductId::of_key).map_or(-1, key);
        let limit = i64::try_from(READ_IDS_MAX).unwrap_or(i64::MAX);
        let outcome = self.query_and_mark(KEYS, &[&after, &limit], barrier).await;
        self.told(outcome.and_then(|rows| {
            let keys = rows.iter().map(|row| {
                let id = number(row, "product_id")?;
                let id = ProductId::new(id).ok_or(Failure::Key(id))?;
                Ok((id.subject(), number(row, "version")?))
            });
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            let next = keys.last().filter(|_| keys.len() == READ_IDS_MAX).map(|(last, _)| last.key());
            Ok(Keys { keys, next })
        }))
    }

    async fn read_and_mark(&self, rows: &[Subject], barrier: u64) -> Result<Read, Failure> {
        let id = |row: &Subject| ProductId::of_topic(row.topic()).expect("only products are read");
        let ids: Vec<ProductId> = rows.iter().map(id).collect();
        let keys: Vec<i64> = ids.iter().copied().map(key).collect();
        let bytes_max = i64::try_from(READ_BYTES_MAX).unwrap_or(i64::MAX);
        let rows = match keys[..] {
            [_] => self.query_and_mark(LOAD_ONE, &[&keys], barrier).await?,
            _ => self.query_and_mark(LOAD, &[&keys, &bytes_max], barrier).await?,
        };
        read(&ids, &rows)
    }

    /// Sends both statements at once. The second is a transaction of its own, which follows the first.
    pub(super) async fn query_and_mark(
        &self,
        query: &str,
        wanted: Arguments<'_>,
        barrier: u64,
    ) -> Result<Vec<Row>, Failure> {
        let mark = format!("barrier {} {barrier}", self.server);
        let client = self.pool.get().await?;
        let answer = timeout(ANSWER_TIMEOUT, async {
            let statements = (client.prepare_cached(query).await?, client.prepare_cached(MARK).await?);
            let mark: Arguments<'_> = &[&mark];
            let (rows, marked) = tokio::join!(client.query(&statements.0, wanted), client.query(&statements.1, mark));
            marked?;
            rows
        });
        let Ok(answer) = answer.await else {
            drop(Object::take(client));
            return Err(Failure::Silence);
        };
        match answer.map_err(Failure::from) {
            Ok(rows) => Ok(rows),
            Err(failure) => {
                if failure.is_stale_statement() {
                    drop(Object::take(client));
                    self.pool.retain(|_, _| false);
                }
                Err(failure)
            }
        }
    }
}

/// Returns each product as the rows have it.
fn read(ids: &[ProductId], rows: &[Row]) -> Result<Read, Failure> {
    let mut rows_by_id = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let is_tombstone = column::<Option<i64>>(row, "units_available")?.is_none();
        let place = rows_by_id.entry(number(row, "product_id")?).or_insert((is_tombstone, row));
        if !is_tombstone {
            *place = (false, row);
        }
    }
    let mut read = Read::default();
    for &id in ids {
        match rows_by_id.get(&id.get()) {
            None => read.found.push((id.topic(), Found::Absent { version: 0 })),
            Some((true, row)) => read.found.push((id.topic(), Found::Absent { version: number(row, "version")? })),
            Some((false, row)) if column(row, "is_read")? => read.found.push((id.topic(), found(id, row)?)),
            Some((false, _)) => read.left.push(id.topic()),
        }
    }
    Ok(read)
}

fn found(id: ProductId, row: &Row) -> Result<Found, Failure> {
    let text = |name| {
        let bytes = column::<Option<Bytes<'_>>>(row, name)?;
        Ok::<_, Failure>(bytes.and_then(|Bytes(bytes)| str::from_utf8(bytes).ok()))
    };
    let texts = [text("manufacturer")?, text("price_per_unit")?, text("product_name")?];
    let [Some(manufacturer), Some(price_per_unit), Some(product_name)] = texts else {
        tracing::warn!(product = %id, "a row is not text in UTF-8, and readers are not sent it");
        return Ok(Found::Unreadable { version: number(row, "version")? });
    };
    let product = Product {
        product_id: id,
        manufacturer: manufacturer.to_owned(),
        price_per_unit: price_per_unit.to_owned(),
        units_available: column(row, "units_available")?,
        product_name: product_name.to_owned(),
    };
    Ok(Found::Present(Versioned { key: id.key(), version: number(row, "version")?, row: (&product).into() }))
}

/// The bytes of a text, which a database in `SQL_ASCII` does not look at.
struct Bytes<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(kind)
    }
}
