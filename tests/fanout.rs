//! Fan-out under concurrent writers, readers that come and go, and readers that are slow.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::patiently;
use crate::support::server::{Http, TestServer};
use crate::support::socket::{Read, Socket};

/// A product whose change is some 2 KiB, so that a few thousand of them are more than the kernel's buffers hold.
fn large_product(id: u64, units: u64) -> String {
    let name = "n".repeat(2000);
    json!({"productId": id, "manufacturer": "", "pricePerUnit": "", "unitsAvailable": units, "productName": name})
        .to_string()
}

/// A product whose change fills a stalled reader's socket after a few.
fn wide_product(units: u64) -> String {
    json!({"manufacturer": "m".repeat(20_000), "pricePerUnit": "", "unitsAvailable": units, "productName": ""})
        .to_string()
}

/// A connection whose kernel buffer is small, for readers that stall.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    patiently(socket.connect(address)).await.unwrap()
}

/// Writes `changes` changes, product by product in turn, from `writers` connections at once.
async fn write(address: SocketAddr, products: u64, writers: u64, changes: u64) {
    let tasks = (0..writers).map(|writer| {
        tokio::spawn(async move {
            let mut http = Http::connect(address).await;
            for change in (0..changes).filter(|change| change % writers == writer) {
                let id = change % products;
                let reply = http.request("PUT", &format!("/products/{id}"), Some(&large_product(id, change))).await;
                assert!(reply.status.is_success(), "{reply:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Asserts that the versions of each product only grow.
#[derive(Default)]
struct Versions(HashMap<u64, u64>);

impl Versions {
    fn see(&mut self, change: &Value) {
        let version = change["version"].as_u64().unwrap_or_else(|| panic!("{change}"));
        let before = self.0.insert(change["product"]["productId"].as_u64().unwrap(), version).unwrap_or(0);
        assert!(before < version, "{before} before {change}");
    }
}

/// Reads until every one of `changes` changes was received or named in a `skipped` notice; how many were skipped.
async fn read_all(socket: &mut Socket, changes: u64) -> u64 {
    let (mut versions, mut received, mut skipped) = (Versions::default(), 0, 0);
    while received + skipped < changes {
        let message = socket.next().await;
        if let Some(frames) = message["skipped"].as_u64() {
            assert!(frames > 0);
            skipped += frames;
        } else {
            versions.see(&message);
            received += 1;
        }
    }
    assert_eq!(received + skipped, changes);
    skipped
}

async fn a_stalled_reader_is_told_exactly_what_it_lost(policy: &str) {
    const PRODUCTS: u64 = 10;
    const CHANGES: u64 = 3000;
    let options = ["--cores", "2", "--slow-consumer", policy, "--send-queue-frames", "16", "--ping-seconds", "120"];
    let server = TestServer::embedded(&options).await;
    let mut stalled = Socket::over(narrow(server.address).await).await;
    stalled.subscribe(0..PRODUCTS).await;
    write(server.address, PRODUCTS, 4, CHANGES).await;
    let skipped = read_all(&mut stalled, CHANGES).await;
    assert!(skipped > 0, "the reader was slow");
    server.until_metric(&format!("rowcast_frames_skipped_total{{policy=\"{policy}\"}}"), skipped).await;
    server.until_metric("rowcast_queue_frames", 0).await;
    write(server.address, PRODUCTS, 1, PRODUCTS).await;
    assert_eq!(read_all(&mut stalled, PRODUCTS).await, 0, "a reader that has caught up loses nothing");
}

#[tokio::test]
async fn a_stalled_reader_is_told_exactly_what_it_lost_when_conflating() {
    a_stalled_reader_is_told_exactly_what_it_lost("conflate").await;
}

#[tokio::test]
async fn a_stalled_reader_is_told_exactly_what_it_lost_when_dropping() {
    a_stalled_reader_is_told_exactly_what_it_lost("drop").await;
}

#[tokio::test]
async fn who_takes_no_answer_is_cut_and_a_stalled_reader_is_not() {
    const CHANGES: u64 = 3000;
    let options =
        ["--cores", "1", "--send-queue-frames", "16", "--write-timeout-seconds", "1", "--ping-seconds", "120"];
    let server = TestServer::embedded(&options).await;
    let mut stalled = Socket::over(narrow(server.address).await).await;
    stalled.subscribe(0..10).await;
    write(server.address, 10, 4, CHANGES).await;
    // More answers than the kernel's buffers hold.
    let mut deaf = narrow(server.address).await;
    let requests = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(5000);
    let _ = patiently(deaf.write_all(requests.as_bytes())).await;
    server.until_metric("rowcast_refused_total{limit=\"write_timeout\"}", 1).await;
    assert!(read_all(&mut stalled, CHANGES).await > 0, "it was stalled for longer, and has lost only what did not fit");
}

#[tokio::test]
async fn conflating_keeps_the_newest_of_every_product() {
    let server = TestServer::embedded(&["--cores", "1", "--send-queue-frames", "16", "--ping-seconds", "120"]).await;
    let mut stalled = Socket::over(narrow(server.address).await).await;
    stalled.subscribe(0..10).await;
    write(server.address, 10, 4, 3000).await;
    let mut newest = HashMap::new();
    for id in 0..10 {
        newest.insert(id, server.get(&format!("/products/{id}")).await.version());
    }
    while !newest.is_empty() {
        let message = stalled.next().await;
        if let Some(id) = message["product"]["productId"].as_u64()
            && newest.get(&id) == message["version"].as_u64().as_ref()
        {
            newest.remove(&id);
        }
    }
}

#[tokio::test]
async fn disconnecting_closes_the_stalled_reader_with_1013_and_nobody_else() {
    let options = ["--cores", "2", "--slow-consumer", "disconnect", "--send-queue-frames", "4"];
    let server = TestServer::embedded(&options).await;
    let mut stalled = Socket::over(narrow(server.address).await).await;
    stalled.subscribe([1]).await;
    let mut fast = Socket::connect(server.address).await;
    fast.subscribe([1]).await;
    let mut http = Http::connect(server.address).await;
    // More than the kernel's buffers hold.
    for change in 0..60 {
        let version = http.request("PUT", "/products/1", Some(&wide_product(change))).await.version();
        assert_eq!(fast.next().await["version"], version);
    }
    let mut versions = Versions::default();
    let code = loop {
        match stalled.read().await {
            Read::Message(change) => versions.see(&change),
            Read::Close(code) => break code,
        }
    };
    assert_eq!(code, 1013);
    drop(stalled);
    server.until_metric("rowcast_connections_closed_total{reason=\"slow_consumer\"}", 1).await;
    assert_eq!(server.metric("rowcast_connections").await, 1);
}

#[tokio::test]
async fn versions_grow_while_subscribers_come_and_go() {
    const PRODUCTS: u64 = 50;
    let server = TestServer::embedded(&["--cores", "2", "--shards", "4"]).await;
    let writing = tokio::spawn(write(server.address, PRODUCTS, 8, 2000));
    let readers = (0..12u64).map(|seed| {
        let address = server.address;
        tokio::spawn(async move {
            for round in 0..6 {
                let mut socket = Socket::connect(address).await;
                let mut versions = Versions::default();
                let first = (seed * 7 + round * 3) % PRODUCTS;
                let products: Vec<u64> = (0..25).map(|step| (first + step) % PRODUCTS).collect();
                socket.send(&json!({"command": "subscribe", "productIDs": products}).to_string()).await;
                for _ in 0..30 {
                    socket.send(&json!({"command": "unsubscribe", "productIDs": [first]}).to_string()).await;
                    socket.send(&json!({"command": "subscribe", "productIDs": [first]}).to_string()).await;
                    for _ in 0..3 {
                        let message = socket.next().await;
                        if message.get("skipped").is_none() {
                            versions.see(&message);
                        }
                    }
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    writing.await.unwrap();
    // Readers whose changes have ended would wait for ever.
    let trickle = async {
        loop {
            write(server.address, PRODUCTS, 1, PRODUCTS).await;
        }
    };
    let all = async {
        for reader in readers {
            reader.await.unwrap();
        }
    };
    tokio::select! {
        () = patiently(all) => {}
        () = trickle => {}
    }
    server.until_metric("rowcast_connections", 0).await;
    server.until_metric("rowcast_subscriptions", 0).await;
}

/// Writes 40 changes, each read by 499 readers before the next is written; returns the versions that each reader got,
/// and true if the 500th lost any.
async fn arrivals(with_a_stalled_reader: bool) -> (Vec<Vec<u64>>, bool) {
    let server = TestServer::embedded(&["--cores", "2", "--send-queue-frames", "16"]).await;
    let mut stalled = Socket::over(narrow(server.address).await).await;
    if with_a_stalled_reader {
        stalled.subscribe([1]).await;
    }
    let mut readers = Vec::new();
    for _ in 0..499 {
        let mut reader = Socket::connect(server.address).await;
        reader.subscribe([1]).await;
        readers.push((reader, Vec::new()));
    }
    let mut http = Http::connect(server.address).await;
    for change in 0..40 {
        assert!(http.request("PUT", "/products/1", Some(&wide_product(change))).await.status.is_success());
        for (reader, units) in &mut readers {
            units.push(reader.next().await["product"]["unitsAvailable"].as_u64().unwrap());
        }
    }
    let lost = server.metric("rowcast_frames_skipped_total").await > 0;
    (readers.into_iter().map(|(_, units)| units).collect(), lost)
}

#[tokio::test]
async fn one_stalled_reader_among_500_delays_nobody() {
    let (without, nothing_lost) = arrivals(false).await;
    let (with, stalled) = arrivals(true).await;
    assert_eq!((nothing_lost, stalled), (false, true));
    assert_eq!(with, without);
    assert!(with.iter().all(|units| *units == (0..40).collect::<Vec<_>>()));
}
