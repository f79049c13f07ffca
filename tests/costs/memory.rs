//! Memory that readers made the server hold goes back to the system when they have gone.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::resident_bytes;
use crate::process::Running;
use crate::support::patiently;
use crate::support::server::Http;
use crate::support::socket::Socket;

/// The products that one command of at most 256 KiB names.
const PRODUCTS_IN_A_COMMAND: u64 = 25_000;

#[tokio::test]
async fn readers_of_as_many_products_as_they_may_leave_nothing_behind() {
    const READERS: u64 = 8;
    const PRODUCTS: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let mut server = Running::start(directory.path(), &["--cores", "2"]).await;
    server.ignore_log();
    // Some memory is mapped with the first reader and stays: code, and the tables that every server has.
    drop(open_readers(&server, 1, 1000).await);
    until_gone(&server).await;
    let before = resident_bytes(&server);

    let readers = open_readers(&server, READERS, PRODUCTS).await;
    assert_eq!(metric(&server, "rowcast_subscriptions").await, READERS * PRODUCTS);
    let open = resident_bytes(&server);
    assert!(open > 2 * before, "{open} bytes with readers, {before} before: there is nothing to give back");
    drop(readers);
    until_gone(&server).await;
    until_resident(&server, before + before / 2).await;
}

#[tokio::test]
async fn nor_do_readers_who_never_read() {
    const READERS: u64 = 200;
    const PRODUCTS: u64 = 1000;
    const ROUNDS: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let mut server = Running::start(directory.path(), &["--cores", "2", "--slow-consumer", "drop"]).await;
    server.ignore_log();
    // The store's own tables, and what a first reader maps.
    write_all(&server, PRODUCTS, 1).await;
    drop(open_readers(&server, 1, PRODUCTS).await);
    until_gone(&server).await;
    let before = resident_bytes(&server);

    let readers = open_readers(&server, READERS, PRODUCTS).await;
    write_all(&server, PRODUCTS, ROUNDS).await;
    let waiting = metric(&server, "rowcast_queue_frames").await;
    assert!(waiting > READERS * 100, "{waiting} changes wait");
    drop(readers);
    until_gone(&server).await;
    until_resident(&server, before + before / 2).await;
}

/// Opens readers, all of the same products.
async fn open_readers(server: &Running, readers: u64, products: u64) -> Vec<Socket> {
    let mut opened = Vec::new();
    for _ in 0..readers {
        let mut socket = Socket::connect(server.address).await;
        for first in (0..products).step_by(PRODUCTS_IN_A_COMMAND.try_into().expect("it fits")) {
            socket.subscribe(first..products.min(first + PRODUCTS_IN_A_COMMAND)).await;
        }
        opened.push(socket);
    }
    opened
}

/// Writes each product so often, many at once.
async fn write_all(server: &Running, products: u64, rounds: u64) {
    const WRITERS: usize = 32;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut http = Http::connect(server.address).await;
        writers.spawn(async move {
            for number in (0..products * rounds).skip(writer).step_by(WRITERS) {
                let (id, name) = (number % products, "n".repeat(1500));
                let body = format!(
                    r#"{{"productId":{id},"manufacturer":"m","pricePerUnit":"1EUR","unitsAvailable":{number},"productName":"{name}"}}"#
                );
                let reply = http.request("PUT", &format!("/products/{id}"), Some(&body)).await;
                assert!(reply.status.is_success(), "{reply:?}");
            }
        });
    }
    writers.join_all().await;
}

/// Waits until the server has no reader and no subscription.
async fn until_gone(server: &Running) {
    for name in ["rowcast_connections", "rowcast_subscriptions"] {
        patiently(async { while metric(server, name).await > 0 {} }).await;
    }
}

/// A metric, asked for on a connection of its own: the one before may have been silent for too long.
async fn metric(server: &Running, name: &str) -> u64 {
    Http::connect(server.address).await.metric(name).await
}

/// Waits until the server has at most so much in memory.
async fn until_resident(server: &Running, bytes_max: usize) {
    let mut looks = interval(Duration::from_millis(50));
    let mut bytes = 0;
    let is_back = async {
        loop {
            looks.tick().await;
            bytes = resident_bytes(server);
            if bytes <= bytes_max {
                return;
            }
        }
    };
    let is_back = timeout(Duration::from_mins(1), is_back).await.is_ok();
    assert!(is_back, "{bytes} bytes in memory a minute after, of at most {bytes_max}");
}
