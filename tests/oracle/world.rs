//! What the oracle's readers and writers live in: the servers and their store ([`World`]).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio_postgres::Client;

use super::ledger::Ledger;
use super::line::{Http as Version, Place};
use super::random::Random;
use super::table::{Id, PRODUCTS, Rows, SCHEMA, Tables};
use crate::process::{Running, rowcast};
use crate::support::patiently;
use crate::support::postgres::{Cluster, Database, free_port};
use crate::support::proxy::Proxy;
use crate::support::server::{Http, Reply};
use crate::support::tls::Certificate;

/// The version from which a database of the oracle counts: half of it is too far back to be reached again by writing.
const VERSION_FIRST: u64 = 1_000_000;

/// The servers and their store.
pub(super) struct World {
    pub(super) tables: Tables,
    pub(super) servers: Vec<Process>,
    pub(super) store: Store,
}

pub(super) enum Store {
    Embedded(TempDir),
    /// Each server has its own way to the database.
    Postgres {
        cluster: Arc<Cluster>,
        database: Database,
        proxies: Vec<Proxy>,
    },
}

/// A server that can be started again on its port.
pub(super) struct Process {
    address: SocketAddr,
    options: Vec<String>,
    certificate: Option<Certificate>,
    running: Option<Running>,
}

impl Process {
    async fn start(mut options: Vec<String>, is_tls: bool) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let certificate = is_tls.then(Certificate::new);
        options.extend(certificate.iter().flat_map(Certificate::options).map(str::to_owned));
        let mut process = Self { address, options, certificate, running: None };
        process.start_again().await;
        process
    }

    pub(super) async fn start_again(&mut self) {
        let listen = self.address.to_string();
        let mut arguments = vec!["--listen", &listen, "--cores", "2", "--drain-seconds", "0"];
        arguments.extend(self.options.iter().map(String::as_str));
        let mut running = Running::of(&mut rowcast(&arguments)).await;
        running.ignore_log();
        self.running = Some(running);
    }

    pub(super) async fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill(Signal::KILL);
        patiently(running.child.wait()).await.unwrap();
    }

    fn place(&self) -> Place {
        Place { address: self.address, tls: self.certificate.as_ref().map(Certificate::client) }
    }

    async fn http(&self) -> Http {
        Http::over(patiently(self.place().connect(Version::One)).await.expect("the server listens")).await
    }
}

/// Options that make rare things usual: short queues, and at times no room for last values.
fn options(random: &mut Random, bytes: &[&str]) -> Vec<String> {
    let (frames, bytes) = ((4 + random.below(60)).to_string(), *random.pick(bytes));
    ["--send-queue-frames", &frames, "--last-values-bytes", bytes].map(str::to_owned).to_vec()
}

impl World {
    /// One server, which speaks TLS or not.
    pub(super) async fn embedded(random: &mut Random) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tables = Tables::new(true);
        let mut options = options(random, &["0", "20000", "268435456"]);
        options.extend(tables.options(true));
        options.extend(["--data-dir".to_owned(), directory.path().to_str().unwrap().to_owned()]);
        let server = Process::start(options, random.one_in(2)).await;
        Self { tables, servers: vec![server], store: Store::Embedded(directory) }
    }

    /// Two servers, the second of which speaks TLS, and one of which remembers next to nothing.
    pub(super) async fn postgres(random: &mut Random) -> Self {
        let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
        let database = cluster.database().await;
        database.connect().await.batch_execute(SCHEMA).await.unwrap();
        let tables = Tables::new(false);
        let forgetful = random.below(2);
        let (mut servers, mut proxies) = (Vec::new(), Vec::new());
        for number in 0..2 {
            let proxy = Proxy::to(cluster.port()).await;
            let bytes: &[&str] = if number == forgetful { &["0", "2000"] } else { &["20000", "268435456"] };
            let mut options = options(random, bytes);
            options.extend(tables.options(false));
            options.extend(["--database-url".to_owned(), proxy.url_of(database.url())]);
            servers.push(Process::start(options, number == 1).await);
            proxies.push(proxy);
        }
        let begin = format!("SELECT setval('product_versions', {VERSION_FIRST})");
        database.connect().await.batch_execute(&begin).await.unwrap();
        Self { tables, servers, store: Store::Postgres { cluster, database, proxies } }
    }

    pub(super) fn places(&self) -> Arc<[Place]> {
        self.servers.iter().map(Process::place).collect()
    }

    pub(super) fn database_url(&self) -> Option<String> {
        match &self.store {
            Store::Embedded(_) => None,
            Store::Postgres { database, .. } => Some(database.url().to_owned()),
        }
    }

    /// Begins to count a Postgres' changes of these rows.
    pub(super) async fn ledger(&self, rows: &BTreeSet<Id>) -> Option<Ledger> {
        match &self.store {
            Store::Embedded(_) => None,
            Store::Postgres { database, .. } => Some(Ledger::open(database.url(), &self.tables, rows.clone()).await),
        }
    }

    /// Waits until nothing is under way in the store and all servers are ready.
    pub(super) async fn until_ready(&self) {
        let ready = async {
            if let Store::Postgres { database, .. } = &self.store {
                let client = database.connect().await;
                let at_work = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                               AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL";
                while client.query_one(at_work, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
            }
            for server in &self.servers {
                while server.http().await.request("GET", "/readyz", None).await.status != 200 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        patiently(ready).await;
    }

    /// Waits until a server has noted each table as it is. What was changed back is noticed by the next look alone, and its
    /// epoch is told then.
    pub(super) async fn until_noted(&self) {
        const ARE_NOTED: &str = "SELECT bool_and(strpos(fingerprint, columns) > 0 AND strpos(fingerprint, format('Some(%s)', file)) > 0) \
            FROM rowcast_fingerprints($1::text[], array_fill(0, ARRAY[cardinality($1::text[])])) \
            JOIN rowcast_served ON name = ($1)[place] HAVING count(*) = cardinality($1)";
        let Store::Postgres { database, .. } = &self.store else { return };
        let client = database.connect().await;
        let names: Vec<&str> = self.tables.iter().skip(1).map(|(_, table)| table.name).collect();
        let noted = async {
            while client.query_opt(ARE_NOTED, &[&names]).await.unwrap().is_none_or(|row| !row.get::<_, bool>(0)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        patiently(noted).await;
    }

    /// Returns all rows: of each its version, and its JSON as changes have it.
    pub(super) async fn rows(&self) -> Rows {
        let mut http = self.servers[0].http().await;
        let list = listed(&mut http, "/products").await.json();
        let mut rows: Rows = list["products"].as_array().unwrap().iter().map(product).collect();
        for (table, its) in self.tables.iter().skip(1) {
            let list = listed(&mut http, &format!("/tables/{}", its.name)).await;
            let list: List<'_> = serde_json::from_str(&list.text).unwrap_or_else(|error| panic!("{error}: {list:?}"));
            rows.extend(list.rows.into_iter().map(|row| row.of(table)));
        }
        if let Store::Postgres { database, .. } = &self.store {
            self.compare(&rows, &database.connect().await).await;
        }
        rows
    }

    /// Compares rows that a server told with what the database says itself.
    async fn compare(&self, rows: &Rows, client: &Client) {
        for (table, its) in self.tables.iter().skip(1) {
            let query = format!(
                "SELECT {}::text, rowcast_version, row_to_json(its)::text FROM {} AS its",
                its.column, its.name
            );
            let stored = client.query(&query, &[]).await.unwrap();
            let of_table = rows.iter().filter(|(id, _)| id.table == table);
            assert_eq!(of_table.count(), stored.len(), "{}", its.name);
            for row in stored {
                let id = Id::new(table, row.get::<_, String>(0));
                let (version, told) = rows.get(&id).unwrap_or_else(|| panic!("{id:?} was not told"));
                let (told, mut stored): (Value, Value) =
                    (serde_json::from_str(told).unwrap(), serde_json::from_str(row.get(2)).unwrap());
                stored.as_object_mut().unwrap().remove("rowcast_version");
                assert_eq!((*version, told), (row.get::<_, i64>(1).cast_unsigned(), stored), "{id:?}");
            }
        }
    }
}

/// Returns a whole list, once its table is live.
async fn listed(http: &mut Http, path: &str) -> Reply {
    let live = async {
        loop {
            let reply = http.request("GET", &format!("{path}?limit=1000"), None).await;
            if reply.status == 200 {
                return reply;
            }
            assert!(reply.status == 503 && reply.text.contains("is not live yet"), "{reply:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(live).await
}

/// A list of rows as HTTP answers it.
#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    rows: Vec<Listed<'a>>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    key: Value,
    version: u64,
    #[serde(borrow)]
    row: &'a RawValue,
}

impl Listed<'_> {
    fn of(self, table: usize) -> (Id, (u64, String)) {
        let key = self.key.as_str().map_or_else(|| self.key.to_string(), str::to_owned);
        (Id::new(table, key), (self.version, self.row.get().to_owned()))
    }
}

/// Returns a product of a list as changes have it.
fn product(row: &Value) -> (Id, (u64, String)) {
    let text = |name: &str| serde_json::to_string(&row[name]).unwrap();
    let json = format!(
        r#"{{"productId":{},"manufacturer":{},"pricePerUnit":{},"unitsAvailable":{},"productName":{}}}"#,
        text("productId"),
        text("manufacturer"),
        text("pricePerUnit"),
        text("unitsAvailable"),
        text("productName")
    );
    (Id::new(PRODUCTS, text("productId")), (row["version"].as_u64().unwrap(), json))
}

impl Store {
    /// Keeps a copy of the stopped store's files.
    pub(super) async fn save(&self) {
        match self {
            Self::Embedded(directory) => drop(std::fs::copy(file(directory), saved(directory)).unwrap()),
            Self::Postgres { cluster, .. } => {
                on_cluster(cluster, |cluster| {
                    cluster.stop();
                    cluster.save();
                    cluster.start_again();
                })
                .await;
            }
        }
    }

    /// Puts the copy back.
    pub(super) async fn put_back(&self) {
        match self {
            Self::Embedded(directory) => std::fs::rename(saved(directory), file(directory)).unwrap(),
            Self::Postgres { cluster, .. } => {
                on_cluster(cluster, |cluster| {
                    cluster.crash();
                    cluster.put_back();
                    cluster.start_again();
                })
                .await;
            }
        }
    }
}

/// Does something with a cluster that takes long, while readers and writers go on.
pub(super) async fn on_cluster(cluster: &Arc<Cluster>, work: impl FnOnce(&Cluster) + Send + 'static) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || work(&cluster)).await.unwrap();
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("products.redb")
}

fn saved(directory: &TempDir) -> PathBuf {
    directory.path().join("saved.redb")
}
