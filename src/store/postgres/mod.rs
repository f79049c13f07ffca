//! Products in Postgres: [`PostgresStore`]. Versions and notifications are the triggers' work
//! (`migrations/0001_products.sql`), so that writers with plain SQL get them too. A write with a precondition is one
//! call of a function that locks the row, looks at its version and writes (`migrations/0002_conditional_writes.sql`).

pub mod config;
mod error;
mod failure;
mod housekeeping;
mod load;
pub mod migrate;
pub(crate) mod served;
mod sqlstate;
mod stream;
pub mod tables;
pub(crate) mod tls;
mod url;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Row, SimpleQueryMessage};

use self::config::PostgresConfig;
use self::failure::Failure;
pub(crate) use self::failure::chain;
use self::served::ServedTables;
use self::tables::InstalledTable;
use crate::model::key::Key;
use crate::model::product::{Product, ProductBody, ProductId, ProductPatch};
use crate::model::row::Row as ModelRow;
use crate::model::table::{PRODUCTS, Tables, TooManyTables};
use crate::store::{Page, Precondition, Put, RowId, StoreError, Versioned, Versions, Written};

/// The number of connections that the requests share; those that find none free wait 2 s.
pub const POOL_CONNECTIONS_MAX: usize = 16;
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a connection is given up if no answer comes, not even the one that the statement took too long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
const _: () = assert!(ANSWER_TIMEOUT.as_millis() > STATEMENT_TIMEOUT.as_millis());

/// The most tries of a write that the database rolled back for the sake of another transaction.
const TRIES_MAX: u32 = 5;

/// A page of the list, by the sizes of its texts, which Postgres knows without reading them where they are stored apart
/// (<https://www.postgresql.org/docs/15/storage-toast.html>): only those of rows that are returned are read.
const LIST: &str = "SELECT product_id, manufacturer, price_per_unit, units_available, product_name, version, is_followed \
     FROM (SELECT *, row_number() OVER listed AS number, lead(product_id) OVER listed IS NOT NULL AS is_followed, \
         sum(octet_length(manufacturer) + octet_length(price_per_unit) + octet_length(product_name)) OVER listed AS bytes \
         FROM (SELECT product_id, manufacturer, price_per_unit, units_available, product_name, version FROM products \
             WHERE product_id > $1::bigint ORDER BY product_id LIMIT $2::bigint + 1) AS page \
         WINDOW listed AS (ORDER BY product_id)) AS sized \
     WHERE number <= $2::bigint AND (number = 1 OR bytes <= $3::bigint) ORDER BY product_id";
const GET: &str = "SELECT product_id, manufacturer, price_per_unit, units_available, product_name, version \
     FROM products WHERE product_id = $1";
const INSERT: &str = "SELECT product_insert($1, $2, $3, $4, $5)";
const PUT: &str = "SELECT is_new, new_version FROM product_put($1, $2, $3, $4, $5)";
const PATCH: &str = "UPDATE products SET manufacturer = coalesce($2, manufacturer), \
     price_per_unit = coalesce($3, price_per_unit), units_available = coalesce($4, units_available), \
     product_name = coalesce($5, product_name) WHERE product_id = $1 \
     RETURNING product_id, manufacturer, price_per_unit, units_available, product_name, version";
const DELETE: &str = "SELECT product_delete($1)";
const PUT_IF: &str = "SELECT met, is_new, new_version FROM product_put_if($1, $2, $3, $4, $5, $6, $7, $8)";
const PATCH_IF: &str = "SELECT met, (patched).* FROM product_patch_if($1, $2, $3, $4, $5, $6, $7, $8)";
const DELETE_IF: &str = "SELECT met, new_version FROM product_delete_if($1, $2, $3, $4)";
const CHECK: &str = "SELECT 1";
const OVERSIZE_MESSAGE: &str = "SELECT message FROM oversize_changes WHERE version = $1";

/// The products of one database, through a pool of at most [`POOL_CONNECTIONS_MAX`] connections. Cheap to clone.
///
/// Every call answers within some seconds: [`StoreError::Unavailable`] where the database does not. Any of them may be
/// [`StoreError::Refused`] by what the database's owner made its tables, and a [`StoreError::Fault`].
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: Pool,
    database: String,
    /// The name of this process in the stream of notifications, which other servers hear too.
    server: u64,
    /// Ends the listener's session.
    anew: Arc<Notify>,
    /// Has the listener look at the tables.
    look: Arc<Notify>,
    /// True if the built-in table of products is cast.
    has_products: bool,
    /// The tables beside the products.
    served: ServedTables,
}

impl PostgresStore {
    /// Makes a store that connects when it is first used.
    #[must_use]
    pub fn new(config: &PostgresConfig) -> Self {
        let (pg_config, connector) = config.for_pool();
        let settings: Arc<str> = config.settings(STATEMENT_TIMEOUT).into();
        let prepare = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let settings = Arc::clone(&settings);
            Box::pin(async move {
                let told = timeout(CREATE_TIMEOUT, client.batch_execute(&settings)).await;
                told.map_err(|_| HookError::message("a new connection does not answer"))?.map_err(HookError::Backend)
            })
        });
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(pg_config, connector, manager_config))
            .max_size(POOL_CONNECTIONS_MAX)
            .post_create(prepare)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(WAIT_TIMEOUT), create: Some(CREATE_TIMEOUT), recycle: Some(WAIT_TIMEOUT) })
            .build()
            .expect("timeouts have their runtime");
        let server = RandomState::new().hash_one(config.to_string());
        Self {
            pool,
            database: config.to_string(),
            server,
            anew: Arc::default(),
            look: Arc::default(),
            has_products: true,
            served: ServedTables::default(),
        }
    }

    /// Returns the store of a database whose products, if it has any, are not cast; none stay among the tables of the
    /// process.
    #[must_use]
    pub fn without_products(self, all: &Tables) -> Self {
        all.leave_out_products();
        Self { has_products: false, ..self }
    }

    /// Returns the store with these tables beside the products, which are added to those of the process.
    ///
    /// # Errors
    /// If there are too many.
    pub fn with_tables(self, all: &Tables, installed: Vec<InstalledTable>) -> Result<Self, TooManyTables> {
        Ok(Self { served: ServedTables::add(all, installed)?, ..self })
    }

    /// Returns true if this is the name of the built-in table, and that is cast.
    fn is_of_products(&self, table: &str) -> bool {
        self.has_products && table == PRODUCTS
    }

    /// Returns true if the built-in table of products is cast.
    pub(crate) const fn has_products(&self) -> bool {
        self.has_products
    }

    /// Returns at most `limit` rows of a table by key, from the first one after `after`: as many as have `bytes_max` bytes of
    /// text together, but at least one.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::Unavailable`].
    pub async fn list(
        &self,
        table: &str,
        after: Option<Key>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, StoreError> {
        if !self.is_of_products(table) {
            return self.list_served(table, after, limit, bytes_max).await;
        }
        let after = after.map_or(Ok(-1), |after| product_id(&RowId::new(table, after)).map(key))?;
        // One more is looked at.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(i64::MAX - 1);
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let rows = self.query(LIST, &[&after, &limit, &bytes_max]).await?;
        let is_followed = rows.last().is_some_and(|row| row.get("is_followed"));
        let rows: Vec<Versioned> = self.told(rows.iter().map(versioned).collect())?;
        let next = rows.last().filter(|_| is_followed).map(|row| row.key.clone());
        Ok(Page { rows, next })
    }

    /// Returns the row with this key.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn get(&self, id: RowId) -> Result<Versioned, StoreError> {
        if !self.is_of_products(&id.table) {
            return self.get_served(id).await;
        }
        let rows = self.query(GET, &[&key(product_id(&id)?)]).await?;
        self.told(rows.first().map(versioned).transpose())?.ok_or(StoreError::NotFound(id))
    }

    /// Adds a row and answers it as it is then.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::Exists`], [`StoreError::Unavailable`].
    pub async fn insert(
        &self,
        table: &str,
        key: Option<Key>,
        row: ModelRow,
        condition: Precondition,
    ) -> Result<Written, StoreError> {
        if !self.is_of_products(table) {
            return self.insert_served(table, key, row.text(), condition).await;
        }
        let id = RowId::new(table, key.expect("whoever reads a product knows its id"));
        let product = product(&id, &row)?;
        if !condition.holds(None) {
            return Err(self.not_inserted(id, &condition).await);
        }
        match self.query_retried(INSERT, &columns(&self::key(product.product_id), &product)).await {
            Err(failure) if failure.is_taken_key() => Err(self.not_inserted(id, &condition).await),
            outcome => {
                let version = outcome.and_then(|rows| written::<i64>(&rows[0], "product_insert"));
                Ok(Written { key: id.key, version: self.told(version)?.cast_unsigned(), row: Some(row) })
            }
        }
    }

    /// Writes a whole row, new or not, and answers which, and the row as it is then.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::Unavailable`].
    pub async fn put(&self, id: RowId, row: ModelRow, condition: Precondition) -> Result<(Put, Written), StoreError> {
        if !self.is_of_products(&id.table) {
            return self.put_served(id, row.text(), condition).await;
        }
        let product = product(&id, &row)?;
        let key = key(product.product_id);
        let rows = if condition.is_none() {
            self.query(PUT, &columns(&key, &product)).await?
        } else {
            let Condition { presence, wanted, unwanted } = &condition.into();
            let [one, two, three, four, five] = columns(&key, &product);
            let rows = self.query(PUT_IF, &[one, two, three, four, five, presence, wanted, unwanted]).await?;
            self.met(&rows[0], &id)?;
            rows
        };
        let put = if self.told(written(&rows[0], "is_new"))? { Put::Inserted } else { Put::Replaced };
        let version = self.told(written::<i64>(&rows[0], "new_version"))?.cast_unsigned();
        Ok((put, Written { key: id.key, version, row: Some(row) }))
    }

    /// Replaces the members that the patch names, in one statement, and answers the row as it is then.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn patch(&self, id: RowId, patch: ModelRow, condition: Precondition) -> Result<Written, StoreError> {
        if !self.is_of_products(&id.table) {
            return self.patch_served(id, patch.text(), condition).await;
        }
        let key = key(product_id(&id)?);
        let patch: ProductPatch = serde_json::from_slice(patch.as_bytes()).map_err(|error| no_product(&error))?;
        let ProductPatch { manufacturer, price_per_unit, units_available, product_name, .. } = &patch;
        let fields: Arguments<'_> = &[&key, manufacturer, price_per_unit, units_available, product_name];
        let rows = if condition.is_none() {
            self.query(PATCH, fields).await?
        } else {
            let Condition { presence, wanted, unwanted } = &condition.into();
            let rows = self.query(PATCH_IF, &[fields, &[presence, wanted, unwanted]].concat()).await?;
            self.met(&rows[0], &id)?;
            rows
        };
        let patched = self.told(rows.first().map(versioned).transpose())?;
        patched.map(Written::from).ok_or(StoreError::NotFound(id))
    }

    /// Removes a row and answers the version of that change, or 0 where a trigger put it back.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn delete(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        if !self.is_of_products(&id.table) {
            return self.delete_served(id, condition).await;
        }
        let key = key(product_id(&id)?);
        if !condition.is_none() {
            let Condition { presence, wanted, unwanted } = &condition.into();
            let rows = self.query(DELETE_IF, &[&key, presence, wanted, unwanted]).await?;
            self.met(&rows[0], &id)?;
            return self.told(written::<i64>(&rows[0], "new_version")).map(i64::cast_unsigned);
        }
        let rows = self.query(DELETE, &[&key]).await?;
        let version: Option<i64> = self.told(column(&rows[0], "product_delete"))?;
        version.map(i64::cast_unsigned).ok_or(StoreError::NotFound(id))
    }

    /// Makes one round trip.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn check(&self) -> Result<(), StoreError> {
        self.query(CHECK, &[]).await.map(|_| ())
    }

    /// Returns the message of a change that was too long for its notification, unless it was removed since.
    pub(crate) async fn oversize_message(&self, version: u64) -> Result<Option<String>, StoreError> {
        let rows = self.query(OVERSIZE_MESSAGE, &[&version.cast_signed()]).await?;
        self.told(rows.first().map(|row| column(row, "message")).transpose())
    }

    /// Returns the reason for which a row is not inserted under its condition. Nothing is written, so that it may be
    /// looked at afterwards.
    async fn not_inserted(&self, id: RowId, condition: &Precondition) -> StoreError {
        if condition.is_none() {
            return StoreError::Exists(id);
        }
        let version = match self.get(id.clone()).await {
            Ok(found) => Some(found.version),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return error,
        };
        if condition.holds(version) { StoreError::Exists(id) } else { StoreError::PreconditionFailed(id) }
    }

    /// Checks that the row that a conditional write locked was there and met the condition.
    fn met(&self, row: &Row, id: &RowId) -> Result<(), StoreError> {
        match self.told(column(row, "met"))? {
            Some(true) => Ok(()),
            Some(false) => Err(StoreError::PreconditionFailed(id.clone())),
            None => Err(StoreError::NotFound(id.clone())),
        }
    }

    /// Does what the statement says, without preparing it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, StoreError> {
        let asked = async {
            let client = self.pool.get().await?;
            let Ok(answer) = timeout(ANSWER_TIMEOUT, client.simple_query(sql)).await else {
                drop(Object::take(client));
                return Err(Failure::Silence);
            };
            Ok(answer?)
        };
        self.told(asked.await)
    }

    async fn query(&self, sql: &str, arguments: Arguments<'_>) -> Result<Vec<Row>, StoreError> {
        let outcome = self.query_retried(sql, arguments).await;
        self.told(outcome)
    }

    async fn query_retried(&self, sql: &str, arguments: Arguments<'_>) -> Result<Vec<Row>, Failure> {
        for _ in 1..TRIES_MAX {
            match self.query_once(sql, arguments).await {
                Err(failure) if failure.may_pass() || sql == PUT_IF && failure.is_taken_key() => {}
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
        let Ok(answer) = answer.await else {
            // Whoever got this connection next would wait for the same answer.
            drop(Object::take(client));
            return Err(Failure::Silence);
        };
        answer.map_err(Failure::from).inspect_err(|failure| {
            if failure.is_stale_statement() {
                // The other connections have prepared it too.
                drop(Object::take(client));
                self.pool.retain(|_, _| false);
            }
        })
    }

    fn told<T>(&self, outcome: Result<T, Failure>) -> Result<T, StoreError> {
        outcome.map_err(|failure| failure.into_store_error(&self.database))
    }
}

/// The values that a statement takes in place of `$1` and so on.
type Arguments<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A precondition as the functions take it (`migrations/0002_conditional_writes.sql`).
struct Condition {
    presence: Option<bool>,
    wanted: Option<Vec<i64>>,
    unwanted: Option<Vec<i64>>,
}

impl From<Precondition> for Condition {
    fn from(condition: Precondition) -> Self {
        let Precondition { wanted, unwanted } = condition;
        let presence = match (&wanted, &unwanted) {
            (_, Some(Versions::Any)) => Some(false),
            (Some(_), _) => Some(true),
            (None, _) => None,
        };
        // A row that must be there and must not: no version is one of none.
        let is_never = (&wanted, &unwanted) == (&Some(Versions::Any), &Some(Versions::Any));
        let wanted = if is_never { Some(Versions::OneOf(Vec::new())) } else { wanted };
        Self { presence, wanted: numbers(wanted), unwanted: numbers(unwanted) }
    }
}

/// Returns the versions of a list that a row can have at all.
fn numbers(versions: Option<Versions>) -> Option<Vec<i64>> {
    match versions {
        None | Some(Versions::Any) => None,
        Some(Versions::OneOf(versions)) => {
            Some(versions.into_iter().filter_map(|version| version.try_into().ok()).collect())
        }
    }
}

fn product_id(id: &RowId) -> Result<ProductId, StoreError> {
    id.product().ok_or_else(|| StoreError::NotFound(id.clone()))
}

/// Returns the product that a row of their table is.
fn product(id: &RowId, row: &ModelRow) -> Result<Product, StoreError> {
    let body: ProductBody = serde_json::from_slice(row.as_bytes()).map_err(|error| no_product(&error))?;
    Ok(body.into_product(product_id(id)?))
}

/// The request's handler has checked it.
fn no_product(error: &serde_json::Error) -> StoreError {
    StoreError::Fault(format!("a row that was to be written is no product: {error}"))
}

fn key(id: ProductId) -> i64 {
    id.get().cast_signed()
}

fn columns<'a>(key: &'a i64, product: &'a Product) -> [&'a (dyn ToSql + Sync); 5] {
    let Product { manufacturer, price_per_unit, units_available, product_name, .. } = product;
    [key, manufacturer, price_per_unit, units_available, product_name]
}

fn versioned(row: &Row) -> Result<Versioned, Failure> {
    let id = number(row, "product_id")?;
    let product = Product {
        product_id: ProductId::new(id).ok_or(Failure::Key(id))?,
        manufacturer: column(row, "manufacturer")?,
        price_per_unit: column(row, "price_per_unit")?,
        units_available: column(row, "units_available")?,
        product_name: column(row, "product_name")?,
    };
    Ok(Versioned { key: product.product_id.key(), version: number(row, "version")?, row: ModelRow::from(&product) })
}

/// Reads a column of the written row.
fn written<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Failure> {
    column::<Option<T>>(row, name)?.ok_or(Failure::LeftOut)
}

/// Reads a column that is never negative.
fn number(row: &Row, name: &str) -> Result<u64, Failure> {
    column::<i64>(row, name).map(i64::cast_unsigned)
}

/// Reads a column, whose type somebody may have changed since the migration.
fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Failure> {
    Ok(row.try_get(name)?)
}
