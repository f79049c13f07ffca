//! Readers that are too slow, under each policy.

use std::collections::HashMap;

use serde_json::Value;
use tokio::net::TcpSocket;

use crate::lists::long_product;
use crate::support::events::EventReader;
use crate::support::http2::Http2;
use crate::support::patiently;
use crate::support::server::TestServer;

const PRODUCTS: u64 = 5;
const CHANGES: u64 = 300;
const PATH: &str = "/events?productIDs=0,1,2,3,4";

/// A reader over each version of HTTP, whose socket takes little while it does not read.
async fn narrow(server: &TestServer) -> [EventReader; 2] {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = patiently(socket.connect(server.address)).await.unwrap();
    let mut http2 = Http2::connect(server.address).await;
    let mut readers = [EventReader::over(stream, PATH, &[]).await, EventReader::on(&mut http2, PATH, &[]).await];
    for reader in &mut readers {
        reader.until_reply().await;
    }
    readers
}

/// Writes so many changes of 20 KB, in turn; the version of each product.
async fn write(server: &TestServer, changes: u64) -> HashMap<u64, u64> {
    let mut http = server.http().await;
    let mut versions = HashMap::new();
    for change in 0..changes {
        let id = change % PRODUCTS;
        let reply = http.request("PUT", &format!("/products/{id}"), Some(&long_product(id, 20_000).to_string())).await;
        versions.insert(id, reply.version());
    }
    versions
}

fn row(message: &Value) -> Option<(u64, u64)> {
    Some((message["product"]["productId"].as_u64()?, message["version"].as_u64()?))
}

async fn loses_exactly_what_it_is_told(policy: &str) {
    let options = ["--cores", "1", "--slow-consumer", policy, "--send-queue-frames", "8", "--ping-seconds", "120"];
    let server = TestServer::embedded(&options).await;
    let readers = narrow(&server).await;
    let newest = write(&server, CHANGES).await;
    for mut reader in readers {
        let (mut received, mut skipped, mut versions) = (0, 0, HashMap::new());
        while received + skipped < CHANGES {
            let message = reader.next().await;
            if let Some(count) = message["skipped"].as_u64() {
                skipped += count;
                continue;
            }
            let (id, version) = row(&message).unwrap_or_else(|| panic!("{message}"));
            assert!(versions.insert(id, version).is_none_or(|before| before < version), "versions grow");
            received += 1;
        }
        assert!(skipped > 0, "the reader was slow");
        assert_eq!((received + skipped, &versions), (CHANGES, &newest), "{policy}");
    }
}

#[tokio::test]
async fn conflating_brings_the_newest_of_every_row() {
    loses_exactly_what_it_is_told("conflate").await;
}

#[tokio::test]
async fn dropping_leaves_the_newest_changes() {
    loses_exactly_what_it_is_told("drop").await;
}

#[tokio::test]
async fn disconnecting_ends_the_stream() {
    let options = ["--cores", "1", "--slow-consumer", "disconnect", "--send-queue-frames", "8"];
    let server = TestServer::embedded(&options).await;
    let [mut http1, mut http2] = narrow(&server).await;
    // More than a window and a queue hold, and than the kernel's buffers do. What is closed has 5 seconds to be read.
    write(&server, 25).await;
    assert_eq!(http2.closed().await, 1013);
    write(&server, 60).await;
    assert_eq!(http1.closed().await, 1013);
    server.until_metric("rowcast_connections_closed_total{reason=\"slow_consumer\"}", 2).await;
}
