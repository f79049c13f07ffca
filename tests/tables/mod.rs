//! Tables of anybody in a real Postgres: what is installed on them, and what their triggers tell.

mod adding;
mod changed;
mod changes;
mod fingerprints;
mod hiding;
mod house;
mod installing;
mod oversize;
mod owners;
mod pagila;
mod products;
mod races;
mod reads;
mod refusals;
mod removing;
mod rendering;
mod schema;
mod served;
mod unfailing;
mod unprepared;
mod unreadable;
mod went_back;
mod writes;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rowcast::metrics::Metrics;
use rowcast::source::notify::notification::{Action, Payload, RowAt, TableChange, TablePayload, parse};
use rowcast::source::notify::{Listener, Vigilance, listen};
use rowcast::source::{Health, Source};
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;
use rowcast::store::postgres::tables::install::{Done, install};
use rowcast::store::postgres::tables::{InstalledTable, TableError, TableSpec};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::postgres::{Cluster, Database};

/// A migrated database, its owner, and what is told in it.
struct Fixture {
    database: Database,
    config: PostgresConfig,
    owner: Client,
    told: Told,
}

impl Fixture {
    /// With these tables made by the statements.
    async fn new(statements: &str) -> Self {
        Self::of(Cluster::shared().database().await, statements).await
    }

    /// Likewise, in this database.
    async fn of(database: Database, statements: &str) -> Self {
        let config = PostgresConfig::parse(database.url()).unwrap();
        migrate(&config).await.unwrap();
        let owner = database.connect().await;
        owner.batch_execute(statements).await.unwrap();
        let told = Told::of(&database).await;
        Self { database, config, owner, told }
    }

    /// Likewise, and with Rowcast on the table.
    async fn installed(statements: &str, table: &str) -> Self {
        let fixture = Self::new(statements).await;
        fixture.install(table).await.unwrap();
        fixture
    }

    async fn install(&self, tables: &str) -> Result<Vec<(InstalledTable, Done)>, TableError> {
        install(&self.config, &TableSpec::parse_list(tables).unwrap(), &[]).await
    }

    async fn write(&self, statements: &str) {
        self.owner.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// What was told since the last call.
    async fn told(&mut self) -> Vec<String> {
        self.told.since(&self.owner).await.iter().map(|payload| brief(payload)).collect()
    }

    /// Writes, and answers what is told of it.
    async fn tells(&mut self, statements: &str) -> Vec<String> {
        self.write(statements).await;
        self.told().await
    }

    /// The table, installed, and a store of its rows.
    async fn store(&self, table: &str) -> (PostgresStore, InstalledTable) {
        let (table, _) = self.install(table).await.unwrap().remove(0);
        (PostgresStore::new(&self.config), table)
    }

    /// Answers the first value of the first row.
    async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, query: &str) -> T {
        self.owner.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Returns whether the next look finds that an epoch of all is to begin, by the database's own count.
    async fn has_version_below(&self) -> bool {
        self.value("SELECT rowcast_has_version_below()").await
    }
}

/// The notifications of the stream, as they come.
struct Told {
    payloads: mpsc::Receiver<String>,
    channel: String,
    marks: u32,
    _listener: Client,
}

impl Told {
    async fn of(database: &Database) -> Self {
        let (client, mut connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        let (heard, payloads) = mpsc::channel(10_000);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = heard.send(notification.payload().to_owned()).await;
                }
            }
        });
        let channel: String = client.query_one("SELECT channel FROM rowcast_stream", &[]).await.unwrap().get(0);
        client.batch_execute(&format!("LISTEN \"{channel}\"")).await.unwrap();
        Self { payloads, channel, marks: 0, _listener: client }
    }

    /// The payloads of tables that were committed before now and were not answered yet.
    async fn since(&mut self, client: &Client) -> Vec<String> {
        let mut payloads = self.since_any(client).await;
        payloads.retain(|payload| !payload.starts_with("barrier "));
        payloads
    }

    /// Likewise, with the marks of reads. A mark that is notified now comes after them.
    async fn since_any(&mut self, client: &Client) -> Vec<String> {
        self.marks += 1;
        let mark = format!("proof 0 {}", self.marks);
        client.execute("SELECT pg_notify($1, $2)", &[&self.channel, &mark]).await.unwrap();
        let mut told = Vec::new();
        loop {
            match self.payloads.recv().await.expect("the listener is connected") {
                payload if payload == mark => return told,
                payload => told.push(payload),
            }
        }
    }
}

/// Listens to a database, and keeps house in it all the time.
fn listen_and_keep_house(config: PostgresConfig, store: PostgresStore) -> (Source, JoinHandle<()>) {
    let (feed, source) = Source::new();
    let vigilance = Vigilance {
        proof_interval: Duration::from_millis(50),
        house_interval: Duration::from_millis(50),
        tombstone_age: Duration::ZERO,
        ..Vigilance::DEFAULT
    };
    let health = Health::new(Arc::new(Metrics::new()));
    let listener = Listener { config, store, health, vigilance, installs: true };
    (source, tokio::spawn(listen(listener, feed)))
}

/// Reads a payload as the server does.
fn read(payload: &str) -> TablePayload<'_> {
    match parse(payload) {
        Some(Payload::Table(payload)) => payload,
        other => panic!("{payload}: {other:?}"),
    }
}

fn change(payload: &str) -> TableChange<'_> {
    match read(payload) {
        TablePayload::Change(change) => change,
        other => panic!("{other:?}"),
    }
}

/// The row of a payload.
fn row(payload: &str) -> Value {
    match change(payload).row {
        RowAt::Payload(row) => serde_json::from_str(row).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A payload without its table and versions.
fn brief(payload: &str) -> String {
    match read(payload) {
        TablePayload::Change(TableChange { action, key, row, .. }) => {
            let letter = match action {
                Action::Insert => 'I',
                Action::Update => 'U',
                Action::Delete => 'D',
            };
            let place = match row {
                RowAt::Payload(_) => "",
                RowAt::Table => " +",
                RowAt::Nowhere => " -",
            };
            format!("{letter} {key}{place}")
        }
        TablePayload::Keyless { .. } => "keyless".to_owned(),
        TablePayload::Gap { reason, .. } => format!("gap {reason}"),
        TablePayload::File { .. } => "file".to_owned(),
    }
}

/// The number of a session.
async fn session_id(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Returns once the session waits for a lock.
async fn until_blocked(client: &Client, session: i32) {
    let blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    while !client.query_one(blocked, &[&session]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
}
