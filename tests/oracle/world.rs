//! What the oracle's readers and writers live in: the servers, their store, and the faults ([`World`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rowcast::transport::tls::Trust;
use rowcast::watch::socket::Server;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::proxy::Proxy;
use super::random::Random;
use crate::process::{Running, rowcast};
use crate::support::patiently;
use crate::support::postgres::{Cluster, Database, free_port};
use crate::support::server::Http;

/// The servers and their store.
pub(super) struct World {
    servers: Vec<Process>,
    store: Store,
}

enum Store {
    Embedded(#[expect(dead_code, reason = "it is removed with it")] TempDir),
    Postgres { cluster: Box<Cluster>, database: Database, proxy: Proxy },
}

/// A server that can be started again on its port.
struct Process {
    address: SocketAddr,
    options: Vec<String>,
    running: Option<Running>,
}

impl Process {
    async fn start(options: Vec<String>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut process = Self { address, options, running: None };
        process.start_again().await;
        process
    }

    async fn start_again(&mut self) {
        let listen = self.address.to_string();
        let mut arguments = vec!["--listen", &listen, "--cores", "2", "--drain-seconds", "0"];
        arguments.extend(self.options.iter().map(String::as_str));
        let mut running = Running::of(&mut rowcast(&arguments)).await;
        running.ignore_log();
        self.running = Some(running);
    }

    async fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill(Signal::KILL);
        patiently(running.child.wait()).await.unwrap();
    }
}

/// Options that make rare things usual: short queues, and at times no room for last values.
fn options(random: &mut Random) -> Vec<String> {
    let frames = (4 + random.below(60)).to_string();
    let bytes = *random.pick(&["0", "20000", "268435456"]);
    ["--send-queue-frames", &frames, "--last-values-bytes", bytes].map(str::to_owned).to_vec()
}

impl World {
    pub(super) async fn embedded(random: &mut Random) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(random);
        options.extend(["--data-dir".to_owned(), directory.path().to_str().unwrap().to_owned()]);
        Self { servers: vec![Process::start(options).await], store: Store::Embedded(directory) }
    }

    /// Two servers, the second behind a proxy.
    pub(super) async fn postgres(random: &mut Random) -> Self {
        let cluster = Box::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
        let database = cluster.database().await;
        let proxy = Proxy::to(cluster.port()).await;
        let behind = database.url().replace(&cluster.port().to_string(), &proxy.address.port().to_string());
        let mut servers = Vec::new();
        for url in [database.url(), &behind] {
            let mut options = options(random);
            options.extend(["--database-url".to_owned(), url.to_owned()]);
            servers.push(Process::start(options).await);
        }
        Self { servers, store: Store::Postgres { cluster, database, proxy } }
    }

    pub(super) fn addresses(&self) -> Arc<[SocketAddr]> {
        self.servers.iter().map(|server| server.address).collect()
    }

    pub(super) fn websockets(&self) -> Arc<[Server]> {
        let server = |server: &Process| Server::parse(&format!("ws://{}", server.address), Trust::All, None).unwrap();
        self.servers.iter().map(server).collect()
    }

    pub(super) fn database_url(&self) -> Option<String> {
        match &self.store {
            Store::Embedded(_) => None,
            Store::Postgres { database, .. } => Some(database.url().to_owned()),
        }
    }

    /// Does something to the servers or their store, or nothing.
    pub(super) async fn fault(&mut self, random: &mut Random) {
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
        let server = usize::try_from(random.below(self.servers.len() as u64)).unwrap();
        match (&self.store, random.below(8)) {
            (_, 0 | 1) | (Store::Embedded(_), 2..5) => {
                self.servers[server].kill().await;
                self.servers[server].start_again().await;
            }
            (Store::Postgres { database, .. }, 2 | 3) => {
                let client = database.connect().await;
                for _ in 0..=random.below(3) {
                    // The listeners of both servers.
                    let _ = client
                        .execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                             WHERE datname = current_database() AND application_name = 'rowcast listener'",
                            &[],
                        )
                        .await;
                    tokio::time::sleep(Duration::from_millis(random.below(400))).await;
                }
            }
            (Store::Postgres { proxy, .. }, 4) => {
                proxy.stall(true);
                tokio::time::sleep(Duration::from_millis(random.below(15_000))).await;
                proxy.stall(false);
            }
            (Store::Postgres { proxy, .. }, 5) => proxy.delay(Duration::from_millis(random.below(500))),
            (Store::Postgres { cluster, .. }, 6) => {
                cluster.crash();
                cluster.start_again();
            }
            _ => {}
        }
    }

    /// Ends a fault that lasts, and waits until all servers are ready.
    pub(super) async fn mend(&mut self) {
        if let Store::Postgres { proxy, .. } = &self.store {
            proxy.stall(false);
            proxy.delay(Duration::ZERO);
        }
        let ready = async {
            for server in &self.servers {
                while Http::connect(server.address).await.request("GET", "/readyz", None).await.status != 200 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        patiently(ready).await;
    }

    /// Returns the table: of each product its version and its JSON as changes have it.
    pub(super) async fn table(&self) -> BTreeMap<u64, (u64, String)> {
        let mut http = Http::connect(self.servers[0].address).await;
        let list = patiently(http.request("GET", "/products?limit=1000", None)).await.json();
        let row = |row: &Value| {
            let text = |name: &str| serde_json::to_string(&row[name]).unwrap();
            let json = format!(
                r#"{{"productId":{},"manufacturer":{},"pricePerUnit":{},"unitsAvailable":{},"productName":{}}}"#,
                text("productId"),
                text("manufacturer"),
                text("pricePerUnit"),
                text("unitsAvailable"),
                text("productName")
            );
            (row["productId"].as_u64().unwrap(), (row["version"].as_u64().unwrap(), json))
        };
        list["products"].as_array().unwrap().iter().map(row).collect()
    }
}
