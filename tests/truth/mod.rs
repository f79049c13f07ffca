//! Readers that are never wrong for good: snapshots, resumes, and slow readers, over sockets and on both stores.

mod everything;
mod locked;
mod lost;
mod resume;
mod slow;
mod snapshot;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::http2::StreamSocket;
use crate::support::patiently;
use crate::support::postgres::{Cluster, Database};
use crate::support::server::{TestServer, product_json};
use crate::support::socket::Socket;

/// A server on Postgres, with its database.
async fn on_postgres(options: &[&str]) -> (Database, TestServer) {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), options).await;
    server.until_ready().await;
    (database, server)
}

/// Writes a product; returns its version.
async fn put(server: &TestServer, id: u64, units: i64) -> u64 {
    let reply = server.request("PUT", &format!("/products/{id}"), Some(&product_json(id, units))).await;
    assert!(reply.status.is_success(), "{reply:?}");
    reply.version()
}

async fn delete(server: &TestServer, id: u64) {
    let reply = server.request("DELETE", &format!("/products/{id}"), None).await;
    assert!(reply.status.is_success(), "{reply:?}");
}

/// A connection whose kernel buffer is small, for readers that stall.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    patiently(socket.connect(address)).await.unwrap()
}

/// A WebSocket of either kind.
enum Line {
    Http1(Socket),
    Http2(StreamSocket),
}

/// A reader as the protocol has it: an epoch, and of each product the version and the row.
struct Reader {
    line: Line,
    epoch: Option<String>,
    versions: BTreeMap<u64, u64>,
    /// The units of each product that exists.
    units: BTreeMap<u64, i64>,
    /// Changes and states that came, and changes that never come.
    received: u64,
    skipped: u64,
}

impl Reader {
    fn new(line: Line) -> Self {
        let (versions, units) = (BTreeMap::new(), BTreeMap::new());
        Self { line, epoch: None, versions, units, received: 0, skipped: 0 }
    }

    async fn connect(server: &TestServer) -> Self {
        Self::new(Line::Http1(Socket::connect(server.address).await))
    }

    /// A connection of its own, with the state of this one.
    async fn reconnect(&self, server: &TestServer) -> Self {
        let (epoch, versions, units) = (self.epoch.clone(), self.versions.clone(), self.units.clone());
        Self { epoch, versions, units, ..Self::connect(server).await }
    }

    async fn send(&mut self, command: &Value) {
        match &mut self.line {
            Line::Http1(socket) => socket.send(&command.to_string()).await,
            Line::Http2(socket) => socket.write_frame(0x81, command.to_string().as_bytes()),
        }
    }

    /// Takes the next message, and returns it.
    async fn next(&mut self) -> Value {
        let message = match &mut self.line {
            Line::Http1(socket) => socket.next().await,
            Line::Http2(socket) => socket.next().await,
        };
        self.take(&message);
        message
    }

    fn take(&mut self, message: &Value) {
        if let Some(epoch) = message["epoch"].as_str() {
            if self.epoch.as_deref() != Some(epoch) {
                self.versions.clear();
            }
            self.epoch = Some(epoch.to_owned());
        } else if let Some(action) = message["action"].as_str() {
            self.received += 1;
            let (id, version) =
                (message["product"]["productId"].as_u64().unwrap(), message["version"].as_u64().unwrap());
            let before = self.versions.insert(id, version).unwrap_or(0);
            assert!(version >= before, "{id} goes from {before} back to {version}");
            if action == "DELETE" {
                self.units.remove(&id);
            } else {
                self.units.insert(id, message["product"]["unitsAvailable"].as_i64().unwrap());
            }
        } else if let Some(absent) = message["absent"].as_array() {
            for (id, version) in absent.iter().zip(message["versions"].as_array().unwrap()) {
                self.received += 1;
                self.units.remove(&id.as_u64().unwrap());
                self.versions.insert(id.as_u64().unwrap(), version.as_u64().unwrap());
            }
        } else if let Some(skipped) = message["skipped"].as_u64() {
            self.skipped += skipped;
        }
    }

    /// Takes messages up to the reply; returns those before it, and the reply.
    async fn until_reply(&mut self) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message.get("reply").is_some() {
                return (before, message);
            }
            before.push(message);
        }
    }

    async fn snapshot(&mut self, ids: impl IntoIterator<Item = u64>) -> (Vec<Value>, Value) {
        let ids: Vec<u64> = ids.into_iter().collect();
        self.send(&json!({"command": "subscribe", "productIDs": ids, "snapshot": true, "id": 7})).await;
        self.until_reply().await
    }

    /// Subscribes with the versions that it knows.
    async fn resume(&mut self, ids: impl IntoIterator<Item = u64>) -> (Vec<Value>, Value) {
        let ids: Vec<u64> = ids.into_iter().collect();
        let versions: Vec<u64> = ids.iter().map(|id| self.versions.get(id).copied().unwrap_or(0)).collect();
        let epoch = self.epoch.clone();
        self.send(&json!({"command": "subscribe", "productIDs": ids, "versions": versions, "epoch": epoch, "id": 8}))
            .await;
        self.until_reply().await
    }
}
