//! Products in Postgres: [`PostgresStore`]. Versions and notifications are the triggers' work
//! (`migrations/0001_products.sql`), so that writers with plain SQL get them too.

pub mod config;
pub mod migrate;
pub(crate) mod tls;
mod url;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use self::config::PostgresConfig;
use crate::model::product::{Product, ProductId, ProductPatch};
use crate::store::{Put, StoreError, Versioned};

/// How many connections the requests share; those that find none free wait 2 s.
pub const POOL_CONNECTIONS_MAX: usize = 16;
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// When no answer comes, not even the one that the statement took too long, the connection is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
const _: () = assert!(ANSWER_TIMEOUT.as_millis() > STATEMENT_TIMEOUT.as_millis());

/// How often a write is tried that the database rolled back for the sake of another transaction.
const TRIES_MAX: u32 = 5;

const LIST: &str = "SELECT product_id, manufacturer, price_per_unit, units_available, product_name, version \
     FROM products ORDER BY product_id LIMIT $1";
const LIST_AFTER: &str = "SELECT product_id, manufacturer, price_per_unit, units_available, product_name, version \
     FROM products WHERE product_id > $2 ORDER BY product_id LIMIT $1";
const GET: &str = "SELECT product_id, manufacturer, price_per_unit, units_available, product_name, version \
     FROM products WHERE product_id = $1";
const INSERT: &str = "SELECT product_insert($1, $2, $3, $4, $5)";
const PUT: &str = "SELECT is_new, new_version FROM product_put($1, $2, $3, $4, $5)";
const PATCH: &str = "UPDATE products SET manufacturer = coalesce($2, manufacturer), \
     price_per_unit = coalesce($3, price_per_unit), units_available = coalesce($4, units_available), \
     product_name = coalesce($5, product_name) WHERE product_id = $1 \
     RETURNING product_id, manufacturer, price_per_unit, units_available, product_name, version";
const DELETE: &str = "SELECT product_delete($1)";
const CHECK: &str = "SELECT 1";
const OVERSIZE_MESSAGE: &str = "SELECT message FROM oversize_changes WHERE version = $1";

/// The products of one database, through a pool of at most [`POOL_CONNECTIONS_MAX`] connections. Cheap to clone.
///
/// Every call answers within some seconds: [`StoreError::Unavailable`] where the database does not.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: Pool,
    database: String,
}

impl PostgresStore {
    /// A store that connects when it is first used.
    #[must_use]
    pub fn new(config: &PostgresConfig) -> Self {
        let (pg_config, connector) = config.for_pool(STATEMENT_TIMEOUT);
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(pg_config, connector, manager_config))
            .max_size(POOL_CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(WAIT_TIMEOUT), create: Some(CREATE_TIMEOUT), recycle: Some(WAIT_TIMEOUT) })
            .build()
            .expect("timeouts have their runtime");
        Self { pool, database: config.to_string() }
    }

    /// At most `limit` products by id, from the first one after `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&self, after: Option<ProductId>, limit: usize) -> Result<Vec<Versioned>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = match after {
            None => self.query(LIST, &[&limit]).await?,
            Some(after) => self.query(LIST_AFTER, &[&limit, &key(after)]).await?,
        };
        Ok(rows.iter().map(versioned).collect())
    }

    /// The product with this id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn get(&self, id: ProductId) -> Result<Versioned, StoreError> {
        let rows = self.query(GET, &[&key(id)]).await?;
        rows.first().map(versioned).ok_or(StoreError::NotFound(id))
    }

    /// Adds a product and answers its version.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Unavailable`].
    pub async fn insert(&self, product: Product) -> Result<u64, StoreError> {
        match self.query_retried(INSERT, &columns(&key(product.product_id), &product)).await {
            Err(Failure::Database(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Err(StoreError::Exists(product.product_id))
            }
            outcome => Ok(number(&self.available(outcome)?[0], "product_insert")),
        }
    }

    /// Writes a whole product, whether it was there or not, and answers which with its version.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put(&self, product: Product) -> Result<(Put, u64), StoreError> {
        let rows = self.query(PUT, &columns(&key(product.product_id), &product)).await?;
        let put = if rows[0].get("is_new") { Put::Inserted } else { Put::Replaced };
        Ok((put, number(&rows[0], "new_version")))
    }

    /// Replaces the fields that the patch names, in one statement, and answers the product as it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn patch(&self, id: ProductId, patch: ProductPatch) -> Result<Versioned, StoreError> {
        let ProductPatch { manufacturer, price_per_unit, units_available, product_name, .. } = &patch;
        let rows = self.query(PATCH, &[&key(id), manufacturer, price_per_unit, units_available, product_name]).await?;
        rows.first().map(versioned).ok_or(StoreError::NotFound(id))
    }

    /// Removes a product and answers the version of that change.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn delete(&self, id: ProductId) -> Result<u64, StoreError> {
        let rows = self.query(DELETE, &[&key(id)]).await?;
        let version: Option<i64> = rows[0].get(0);
        version.map(i64::cast_unsigned).ok_or(StoreError::NotFound(id))
    }

    /// One round trip.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn check(&self) -> Result<(), StoreError> {
        self.query(CHECK, &[]).await.map(|_| ())
    }

    /// The message of a change that was too long for its notification, unless it was removed since.
    pub(crate) async fn oversize_message(&self, version: u64) -> Result<Option<String>, StoreError> {
        let rows = self.query(OVERSIZE_MESSAGE, &[&version.cast_signed()]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn query(&self, sql: &str, arguments: Arguments<'_>) -> Result<Vec<Row>, StoreError> {
        let outcome = self.query_retried(sql, arguments).await;
        self.available(outcome)
    }

    async fn query_retried(&self, sql: &str, arguments: Arguments<'_>) -> Result<Vec<Row>, Failure> {
        for _ in 1..TRIES_MAX {
            match self.query_once(sql, arguments).await {
                Err(Failure::Database(error)) if is_rolled_back_for_another(&error) => {}
                outcome => return outcome,
            }
        }
        self.query_once(sql, arguments).await
    }

    async fn query_once(&self, sql: &str, arguments: Arguments<'_>) -> Result<Vec<Row>, Failure> {
        let client = self.pool.get().await?;
        let answer = timeout(ANSWER_TIMEOUT, async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, arguments).await
        });
        if let Ok(answer) = answer.await {
            return Ok(answer?);
        }
        // Whoever got this connection next would wait for the same answer.
        drop(Object::take(client));
        Err(Failure::Silence)
    }

    fn available<T>(&self, outcome: Result<T, Failure>) -> Result<T, StoreError> {
        outcome.map_err(|failure| StoreError::Unavailable(format!("{}: {}", self.database, chain(&failure))))
    }
}

/// What a statement takes in place of `$1` and so on.
type Arguments<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Why a statement had no result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no connection")]
    Pool(#[from] PoolError),
    #[error("a statement failed")]
    Database(#[from] Error),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silence,
}

/// Whether the database rolled the statement back only because of what others did at that moment, so that it may
/// well succeed when tried anew (<https://www.postgresql.org/docs/15/mvcc-serialization-failure-handling.html>).
fn is_rolled_back_for_another(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// The error and its causes, in one line. tokio-postgres names the database's own words only as a cause.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

fn key(id: ProductId) -> i64 {
    id.get().cast_signed()
}

fn columns<'a>(key: &'a i64, product: &'a Product) -> [&'a (dyn ToSql + Sync); 5] {
    let Product { manufacturer, price_per_unit, units_available, product_name, .. } = product;
    [key, manufacturer, price_per_unit, units_available, product_name]
}

fn versioned(row: &Row) -> Versioned {
    let id = number(row, "product_id");
    Versioned {
        product: Product {
            product_id: ProductId::new(id).expect("a CHECK keeps the key in range"),
            manufacturer: row.get("manufacturer"),
            price_per_unit: row.get("price_per_unit"),
            units_available: row.get("units_available"),
            product_name: row.get("product_name"),
        },
        version: number(row, "version"),
    }
}

/// A column that is never negative.
fn number(row: &Row, column: &str) -> u64 {
    row.get::<_, i64>(column).cast_unsigned()
}
