//! Products in Postgres: [`PostgresStore`]. Versions and notifications are the triggers' work
//! (`migrations/0001_products.sql`), so that writers with plain SQL get them too. What the server writes is in `products`, and
//! in `tables` the same of others.

pub mod config;
mod error;
mod failure;
mod housekeeping;
mod load;
pub mod migrate;
mod products;
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
use crate::model::product::{Product, ProductId};
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
        self.write_new_product(id, &row, condition).await
    }

    /// Writes a whole row, new or not, and answers which, and the row as it is then.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::Unavailable`].
    pub async fn put(&self, id: RowId, row: ModelRow, condition: Precondition) -> Result<(Put, Written), StoreError> {
        if !self.is_of_products(&id.table) {
            return self.put_served(id, row.text(), condition).await;
        }
        self.write_whole_product(id, &row, condition).await
    }

    /// Replaces the members that the patch names, in one statement, and answers the row as it is then.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn patch(&self, id: RowId, patch: ModelRow, condition: Precondition) -> Result<Written, StoreError> {
        if !self.is_of_products(&id.table) {
            return self.patch_served(id, patch.text(), condition).await;
        }
        self.write_part_of_product(id, &patch, condition).await
    }

    /// Removes a row and answers the version of that change, or 0 where a trigger put it back.
    ///
    /// # Errors
    /// [`StoreError::NoTable`], [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn delete(&self, id: RowId, condition: Precondition) -> Result<u64, StoreError> {
        if !self.is_of_products(&id.table) {
            return self.delete_served(id, condition).await;
        }
        self.remove_product(id, condition).await
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
        let mut tries = 1;
        loop {
            match self.query_once(sql, arguments).await {
                Err(failure) if failure.may_pass() && tries < TRIES_MAX => tries += 1,
                outcome => return self.told(outcome),
            }
        }
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

fn key(id: ProductId) -> i64 {
    id.get().cast_signed()
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

/// Reads a column that is never negative.
fn number(row: &Row, name: &str) -> Result<u64, Failure> {
    column::<i64>(row, name).map(i64::cast_unsigned)
}

/// Reads a column, whose type somebody may have changed since the migration.
fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Failure> {
    Ok(row.try_get(name)?)
}
