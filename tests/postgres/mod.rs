//! Products in a real Postgres: the triggers, the store, the listener.

mod crowd;
mod deaf;
mod epochs;
mod healing;
mod listener;
mod loads;
mod migrations;
mod outages;
mod owners;
mod payloads;
mod pgbouncer;
mod races;
mod refusals;
mod store;
mod tls;
mod writers;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rowcast::metrics::Metrics;
use rowcast::model::change::Change;
use rowcast::model::epoch::Epoch;
use rowcast::model::event::SourceEvent;
use rowcast::model::key::Key;
use rowcast::model::product::{Product, ProductId};
use rowcast::model::row::Row;
use rowcast::model::table::Tables;
use rowcast::model::topic::Subject;
use rowcast::source::notify::{Listener, Vigilance, listen};
use rowcast::source::{EVENTS_WAITING_MAX, Health, Obstacle, Source};
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;
use rowcast::store::{Precondition, Put, RowId, StoreError, Versioned};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::support::postgres::{Cluster, Database};

/// The time after which a hang is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// Vigilant enough for a test to see it.
const VIGILANT: Vigilance = Vigilance {
    proof_interval: Duration::from_millis(100),
    silence_max: Duration::from_secs(3),
    house_interval: Duration::from_millis(100),
    tombstone_age: Duration::ZERO,
};

/// A migrated database with the store and the source of a server.
struct Fixture {
    database: Database,
    config: PostgresConfig,
    store: PostgresStore,
    changes: Changes,
}

impl Fixture {
    /// In a new database of the shared cluster.
    async fn new() -> Self {
        Self::in_cluster(Cluster::shared()).await
    }

    async fn in_cluster(cluster: &Cluster) -> Self {
        let database = cluster.database().await;
        let config = PostgresConfig::parse(database.url()).unwrap();
        migrate(&config).await.unwrap();
        let store = PostgresStore::new(&config);
        let changes = Changes::of(&config).await;
        Self { database, config, store, changes }
    }
}

/// The changes that a listener feeds.
struct Changes {
    source: Source,
    listener: JoinHandle<()>,
    health: Health,
    store: PostgresStore,
}

impl Changes {
    /// Begins to listen, and returns once it does.
    async fn of(config: &PostgresConfig) -> Self {
        Self::with(config, Vigilance::DEFAULT).await
    }

    /// Likewise, with a listener that proves itself alive and keeps house all the time.
    async fn vigilant(config: &PostgresConfig) -> Self {
        Self::with(config, VIGILANT).await
    }

    async fn with(config: &PostgresConfig, vigilance: Vigilance) -> Self {
        let mut changes = Self::deaf(config, vigilance);
        changes.began().await;
        changes
    }

    /// Likewise, with a listener that may not hear yet.
    fn deaf(config: &PostgresConfig, vigilance: Vigilance) -> Self {
        let (feed, source) = Source::new();
        let (health, store) = (Health::new(Arc::new(Metrics::new())), PostgresStore::new(config));
        let listener = Listener {
            config: config.clone(),
            store: store.clone(),
            health: health.clone(),
            vigilance,
            installs: true,
        };
        Self { source, listener: tokio::spawn(listen(listener, feed)), health, store }
    }

    /// Returns once the obstacle is this one.
    async fn until_obstacle(&self, obstacle: Option<Obstacle>) {
        let met = async {
            while self.health.obstacle() != obstacle {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("{:?}, never {obstacle:?}", self.health.obstacle()));
    }

    /// Waits until as many events wait as can.
    async fn until_full(&self) {
        let full = async {
            while self.source.waiting() < EVENTS_WAITING_MAX {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, full).await.expect("events come");
    }

    async fn event(&mut self) -> SourceEvent {
        timeout(PATIENCE, self.source.next()).await.expect("no hang").expect("the listener runs")
    }

    /// The epoch of the next event, which is a beginning.
    async fn began(&mut self) -> Epoch {
        match self.event().await {
            SourceEvent::Began(epoch) => epoch,
            event => panic!("{event:?}"),
        }
    }

    /// The next event, which is a gap.
    async fn gap(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, SourceEvent::Gap), "{event:?}");
    }

    /// The next event, which is a change.
    async fn next(&mut self) -> Change {
        match self.event().await {
            SourceEvent::Change(change) => change,
            event => panic!("{event:?}"),
        }
    }

    /// The next change as subscribers read it.
    async fn next_json(&mut self) -> String {
        json(&self.next().await)
    }

    /// The actions and versions of so many changes, which are those of one product: their versions grow.
    async fn of_one_product(&mut self, count: usize) -> Vec<(String, u64)> {
        let mut seen: Vec<(String, u64)> = Vec::new();
        for _ in 0..count {
            let change = self.next().await;
            let json = json(&change);
            let action = json.split('"').nth(3).unwrap().to_owned();
            assert!(seen.last().is_none_or(|(_, version)| *version < change.version), "{json} after {seen:?}");
            assert!(json.contains(&format!("\"version\":{},", change.version)), "{json}");
            seen.push((action, change.version));
        }
        seen
    }

    /// Asserts that there is no change before one that `client` makes now.
    async fn none_before_now(&mut self, client: &Client) {
        client.batch_execute(&insert_sql(987_654)).await.unwrap();
        let change = self.next().await;
        assert_eq!(number_of(&change), 987_654, "{}", json(&change));
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn json(change: &Change) -> String {
    let mut json = Vec::new();
    change.write_json(&Tables::new(), &mut json);
    String::from_utf8(json).unwrap()
}

fn id(number: u64) -> RowId {
    ProductId::new(number).unwrap().into()
}

fn subject(number: u64) -> Subject {
    ProductId::new(number).unwrap().subject()
}

fn key(number: u64) -> Key {
    id(number).key
}

/// The number of the product that a change is of.
fn number_of(change: &Change) -> u64 {
    ProductId::of_topic(change.subject.topic()).unwrap().get()
}

fn versioned(product: &Product, version: u64) -> Versioned {
    Versioned { key: product.product_id.key(), version, row: product.into() }
}

/// Writes of products to the store of rows.
trait Products {
    async fn insert_product(&self, product: Product, condition: Precondition) -> Result<u64, StoreError>;
    async fn put_product(&self, product: Product, condition: Precondition) -> Result<(Put, u64), StoreError>;
}

impl Products for PostgresStore {
    async fn insert_product(&self, product: Product, condition: Precondition) -> Result<u64, StoreError> {
        let key = Some(product.product_id.key());
        self.insert("products", key, Row::from(&product), condition).await.map(|row| row.version)
    }

    async fn put_product(&self, product: Product, condition: Precondition) -> Result<(Put, u64), StoreError> {
        let (put, row) = self.put(product.product_id.into(), Row::from(&product), condition).await?;
        assert_eq!((row.key, row.row), (product.product_id.key(), Some(Row::from(&product))));
        Ok((put, row.version))
    }
}

fn macbook(number: u64) -> Product {
    Product {
        product_id: ProductId::new(number).unwrap(),
        manufacturer: "Apple".into(),
        price_per_unit: "500EUR".into(),
        units_available: 6,
        product_name: "MacBook Pro".into(),
    }
}

/// [`macbook`] as somebody with plain SQL adds it.
fn insert_sql(number: u64) -> String {
    format!(
        "INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name) \
         VALUES ({number}, 'Apple', '500EUR', 6, 'MacBook Pro')"
    )
}

/// The version that the row has.
async fn stored_version(client: &Client, number: i64) -> u64 {
    let row = client.query_one("SELECT version FROM products WHERE product_id = $1", &[&number]).await.unwrap();
    row.get::<_, i64>(0).cast_unsigned()
}

/// The process id of a session.
async fn session_id(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Sends a signal to the process of a session.
fn signal(session_id: i32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &session_id.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Returns once the query answers true.
pub(crate) async fn until(client: &Client, query: &str) {
    let holds = async { while !client.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {} };
    timeout(PATIENCE, holds).await.unwrap_or_else(|_| panic!("never: {query}"));
}

/// Returns once another session makes this one wait.
async fn until_blocked(observer: &Client, session_id: i32) {
    let blocked = async {
        let is_blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0";
        while !observer.query_one(is_blocked, &[&session_id]).await.unwrap().get::<_, bool>(0) {}
    };
    timeout(PATIENCE, blocked).await.expect("no hang");
}

/// Returns once so many connections of the store wait for a lock.
async fn until_store_is_blocked(database: &Database, connections: i64) {
    // A session of its own: one that is in a transaction sees the activity as it was when it first looked.
    let observer = database.connect().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'rowcast server' AND wait_event_type = 'Lock'";
    let blocked = async { while observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < connections {} };
    timeout(PATIENCE, blocked).await.expect("no hang");
}
