//! Slow readers: the newest state of everything comes to those who go on reading, and a large snapshot is not queued.

use serde_json::json;

use super::{Line, Reader, narrow, on_postgres};
use crate::support::server::{Http, TestServer};
use crate::support::socket::{RawSocket, Socket};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A product whose change fills a stalled reader's socket after some hundred.
fn large(units: u64) -> String {
    json!({"manufacturer": "m".repeat(2000), "pricePerUnit": "", "unitsAvailable": units, "productName": ""})
        .to_string()
}

/// Writes each product once with this many units, from several connections at once.
async fn write(server: &TestServer, products: u64, units: u64) {
    const WRITERS: u64 = 8;
    let address = server.address;
    let tasks = (0..WRITERS).map(|writer| {
        tokio::spawn(async move {
            let mut http = Http::connect(address).await;
            for id in (0..products).filter(|id| id % WRITERS == writer) {
                let reply = http.request("PUT", &format!("/products/{id}"), Some(&large(units))).await;
                assert!(reply.status.is_success(), "{reply:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Far more products change than its queue has room for, and each changes twice.
async fn the_newest_of_every_product_comes(server: &TestServer) {
    const PRODUCTS: u64 = 2000;
    let mut reader = Reader::new(Line::Http1(Socket::over(narrow(server.address).await).await));
    reader.send(&json!({"command": "subscribe", "productIDs": (0..PRODUCTS).collect::<Vec<u64>>(), "id": 1})).await;
    reader.until_reply().await;
    write(server, PRODUCTS, 1).await;
    write(server, PRODUCTS, 2).await;
    while reader.units.len() < usize::try_from(PRODUCTS).unwrap() || reader.units.values().any(|&units| units < 2) {
        reader.next().await;
    }
    // The last notice may follow the last state.
    while reader.received + reader.skipped < 2 * PRODUCTS {
        reader.next().await;
    }
    assert!(reader.skipped > 0, "the reader was slow");
    assert_eq!(reader.received + reader.skipped, 2 * PRODUCTS);
}

#[tokio::test]
async fn the_newest_of_every_product_comes_embedded() {
    let server = TestServer::embedded(&["--cores", "2", "--send-queue-frames", "64", "--ping-seconds", "120"]).await;
    the_newest_of_every_product_comes(&server).await;
}

#[tokio::test]
async fn the_newest_of_every_product_comes_postgres() {
    let (_database, server) =
        on_postgres(&["--cores", "2", "--send-queue-frames", "64", "--ping-seconds", "120"]).await;
    the_newest_of_every_product_comes(&server).await;
}

#[tokio::test]
async fn a_large_snapshot_is_pulled_as_its_reader_reads_and_pings_are_answered_meanwhile() {
    const PRODUCTS: u64 = 20_000;
    let (database, server) =
        on_postgres(&["--cores", "2", "--send-queue-frames", "256", "--ping-seconds", "120"]).await;
    let insert = format!(
        "INSERT INTO products SELECT n, repeat('m', 300), '', 1, '' FROM generate_series(0, {}) n",
        PRODUCTS - 1
    );
    database.connect().await.batch_execute(&insert).await.unwrap();
    server.until_metric("rowcast_changes_total", PRODUCTS).await;

    let mut reader = RawSocket::over(narrow(server.address).await, &[]).await;
    let command =
        json!({"command": "subscribe", "productIDs": (0..PRODUCTS).collect::<Vec<u64>>(), "snapshot": true, "id": 7});
    reader.write_frame(TEXT, command.to_string().as_bytes()).await;
    let (mut states, mut is_ponged) = (0, false);
    loop {
        let (first, payload) = reader.read_frame().await.expect("the socket stays open");
        if first == PONG {
            is_ponged = true;
            continue;
        }
        assert_eq!(first, TEXT);
        let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if message.get("reply").is_some() {
            break;
        }
        states += u64::from(message.get("action").is_some());
        if states == 100 {
            reader.write_frame(PING, b"?").await;
        }
        if states % 1000 == 0 {
            let waiting = server.metric("rowcast_queue_frames").await;
            assert!(waiting <= 128, "{waiting} frames of a snapshot wait");
        }
    }
    assert_eq!((states, is_ponged), (PRODUCTS, true), "the pong comes before the reply");
}
