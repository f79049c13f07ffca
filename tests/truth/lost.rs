//! A source that is late, and one that is lost: what readers are told meanwhile, and in what order they learn the rest.

use std::collections::BTreeMap;

use rowcast_client::Server;
use rowcast_client::message::Message;
use rowcast_client::socket::{self, Socket};
use serde_json::{Value, json};

use super::{Reader, put};
use crate::support::patiently;
use crate::support::postgres::{Cluster, Database};
use crate::support::proxy::{Link, Proxy};
use crate::support::server::{TestServer, product_json};

const STALLED: Link = Link { is_stalled: true, is_cut: false, delay: std::time::Duration::ZERO };
const CUT: Link = Link { is_stalled: false, is_cut: true, delay: std::time::Duration::ZERO };
const WHOLE: Link = Link { is_stalled: false, is_cut: false, delay: std::time::Duration::ZERO };

/// A server that reaches its database through a proxy.
async fn behind_a_proxy() -> (Database, Proxy, TestServer) {
    let database = Cluster::shared().database().await;
    let proxy = Proxy::to(Cluster::shared().port()).await;
    let server = TestServer::postgres(&proxy.url_of(database.url()), &["--cores", "2"]).await;
    server.until_ready().await;
    (database, proxy, server)
}

#[tokio::test]
async fn a_row_waits_for_the_changes_that_its_read_saw() {
    let (database, proxy, server) = behind_a_proxy().await;
    let client = database.connect().await;
    let mut follower = Reader::connect(&server).await;
    follower.send(&json!({"command": "subscribe", "productIDs": [1], "id": 1})).await;
    follower.until_reply().await;
    proxy.set_listener(STALLED);
    client.batch_execute("INSERT INTO products SELECT 1, '', '', 10, ''").await.unwrap();
    let began: String = client.query_one("SELECT clock_timestamp()::text", &[]).await.unwrap().get(0);
    let mut asking = Reader::connect(&server).await;
    asking.send(&json!({"command": "subscribe", "productIDs": [1], "snapshot": true, "id": 7})).await;
    let is_marked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' \
                     AND query = 'SELECT pg_notify(channel, $1) FROM rowcast_stream' AND query_start > $1::text::timestamptz";
    let read = async { while client.query_one(is_marked, &[&began]).await.unwrap().get::<_, i64>(0) == 0 {} };
    patiently(read).await;
    // The row is there, and the change that made it is not heard.
    for _ in 0..50 {
        assert_eq!(server.metric("rowcast_last_values_loaded_total").await, 0, "a row came before its change");
    }
    proxy.set_listener(WHOLE);
    assert_eq!(follower.next().await["product"]["unitsAvailable"], 10, "who asked for changes alone is told of it");
    asking.until_reply().await;
    assert_eq!(asking.units, [(1, 10)].into());
}

/// A reader that also reads what it is told of the source.
struct Open {
    socket: Socket,
    epoch: String,
    /// Of each product its version and units.
    rows: BTreeMap<u64, (u64, i64)>,
    is_live: bool,
}

impl Open {
    async fn connect(server: &TestServer) -> Self {
        let server = Server::parse(&format!("ws://{}", server.address), None).unwrap();
        let socket = patiently(socket::open(&server, None)).await.unwrap_or_else(|error| panic!("{error}"));
        Self { socket, epoch: String::new(), rows: BTreeMap::new(), is_live: true }
    }

    async fn send(&mut self, command: &Value) {
        self.socket.send(&command.to_string()).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        let text = patiently(self.socket.read()).await.unwrap();
        let message = Message::parse(&text).unwrap();
        match &message {
            Message::Epoch { epoch, .. } => self.epoch.clone_from(epoch),
            Message::Live { is_live, .. } => self.is_live = *is_live,
            Message::Change(change) => {
                let row: Value = change.row.as_ref().unwrap().parse().unwrap();
                let id = change.key.to_string().parse().unwrap();
                self.rows.insert(id, (change.version, row["unitsAvailable"].as_i64().unwrap()));
            }
            _ => {}
        }
        message
    }

    async fn until_reply(&mut self) {
        while !matches!(self.next().await, Message::Reply { error: None, .. }) {}
    }

    async fn until_live(&mut self, wanted: bool) {
        while !matches!(self.next().await, Message::Live { is_live, .. } if is_live == wanted) {}
    }

    /// Reads all that was said so far, and until the last word on the source is that it is lost.
    async fn until_lost(&mut self) {
        loop {
            self.send(&json!({"command": "subscribe", "productIDs": [1], "id": 3})).await;
            self.until_reply().await;
            if !self.is_live {
                return;
            }
            self.until_live(false).await;
        }
    }
}

#[tokio::test]
async fn while_the_source_is_lost_readers_know_and_nobody_is_answered_from_memory() {
    let (database, proxy, server) = behind_a_proxy().await;
    put(&server, 1, 10).await;
    let mut open = Open::connect(&server).await;
    open.send(&json!({"command": "subscribe", "productIDs": [1], "snapshot": true, "id": 1})).await;
    open.until_reply().await;
    proxy.set_listener(CUT);
    open.until_live(false).await;
    database.connect().await.batch_execute("UPDATE products SET units_available = 20").await.unwrap();

    let mut back = Open::connect(&server).await;
    back.rows.clone_from(&open.rows);
    let versions = [open.rows[&1].0];
    let command =
        json!({"command": "subscribe", "productIDs": [1], "versions": versions, "epoch": open.epoch, "id": 2});
    back.send(&command).await;
    back.until_live(false).await;
    proxy.set_listener(WHOLE);
    back.until_reply().await;
    assert_eq!(back.rows[&1].1, 20, "the reply comes after what was missed");
    open.until_live(true).await;
    assert_eq!(open.rows[&1].1, 20);
}

#[tokio::test]
async fn readers_know_that_the_data_file_is_gone_until_it_is_back() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    put(&server, 1, 10).await;
    let mut open = Open::connect(&server).await;
    let snapshot = |id: u64| json!({"command": "subscribe", "productIDs": [1], "snapshot": true, "id": id});
    open.send(&snapshot(1)).await;
    open.until_reply().await;
    let (data, away) = (server.data_dir(), tempfile::tempdir().unwrap());
    let away = away.path().join("away");
    std::fs::rename(data, &away).unwrap();
    // Nobody writes, and nobody asks whether it is ready.
    open.until_live(false).await;
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.request("PUT", "/products/1", Some(&product_json(1, 20))).await.status, 503);

    let mut asking = Open::connect(&server).await;
    asking.send(&snapshot(2)).await;
    asking.until_live(false).await;
    assert!(asking.rows.is_empty(), "what is shown is not known to be so");
    std::fs::rename(&away, data).unwrap();
    open.until_live(true).await;
    asking.until_reply().await;
    assert_eq!(asking.rows, open.rows);
    assert_eq!((open.rows[&1].1, &asking.epoch), (10, &open.epoch), "it is the same file");
    put(&server, 1, 30).await;
    while open.rows[&1].1 != 30 {
        open.next().await;
    }
}

#[tokio::test]
async fn readers_are_told_that_the_source_is_back_after_all_that_they_missed_on_every_core() {
    const PRODUCTS: u64 = 3000;
    const READERS: usize = 6;
    let (database, proxy, server) = behind_a_proxy().await;
    let client = database.connect().await;
    let insert = format!("INSERT INTO products SELECT n, '', '', 1, '' FROM generate_series(1, {PRODUCTS}) n");
    client.batch_execute(&insert).await.unwrap();
    let ids: Vec<u64> = (1..=PRODUCTS).collect();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Open::connect(&server).await;
        reader.send(&json!({"command": "subscribe", "productIDs": ids, "snapshot": true, "id": 1})).await;
        reader.until_reply().await;
        readers.push(reader);
    }
    for round in 2..5 {
        proxy.set_listener(CUT);
        server.until_metric("rowcast_source_obstacle{obstacle=\"connection\"}", 1).await;
        for reader in &mut readers {
            reader.until_lost().await;
        }
        client.batch_execute(&format!("UPDATE products SET units_available = {round}")).await.unwrap();
        proxy.set_listener(WHOLE);
        for reader in &mut readers {
            reader.until_live(true).await;
            let old = reader.rows.values().filter(|(_, units)| *units != round).count();
            assert_eq!(old, 0, "rows that are old when it is told that the source is back");
        }
    }
}
