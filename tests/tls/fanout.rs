//! Fan-out over TLS: frames larger than a record, bursts, and a reader that stalls.

use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::support::patiently;
use crate::support::server::TestServer;
use crate::support::socket::Socket;
use crate::support::tls::Certificate;

/// A product whose change has at least this many bytes.
fn product(bytes: usize, units: u64) -> String {
    json!({"manufacturer": "m".repeat(bytes), "pricePerUnit": "", "unitsAvailable": units, "productName": ""})
        .to_string()
}

async fn put(server: &TestServer, id: u64, body: &str) {
    let reply = server.request("PUT", &format!("/products/{id}"), Some(body)).await;
    assert!(reply.status.is_success(), "{reply:?}");
}

#[tokio::test]
async fn frames_of_any_length_arrive_whole_and_in_order() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let mut sockets = Vec::new();
    for version in [&TLS12, &TLS13, &TLS12, &TLS13] {
        let mut socket = Socket::over(certificate.client_of(&[version]).connect(server.address).await).await;
        socket.subscribe([1]).await;
        sockets.push(socket);
    }
    // Around a record's 16 KiB, around the header's 64 KiB, and nearly as much as a product may have.
    for (units, bytes) in [0, 16_000, 16_384, 17_000, 32_768, 65_536, 200_000, 1_000_000].into_iter().enumerate() {
        let sent = product(bytes, units as u64);
        let reading = async {
            for socket in &mut sockets {
                let change = socket.next().await;
                assert_eq!(change["product"]["unitsAvailable"], units);
                assert_eq!(change["product"]["manufacturer"].as_str().unwrap().len(), bytes);
            }
        };
        tokio::join!(put(&server, 1, &sent), reading);
    }
}

#[tokio::test]
async fn a_stalled_reader_is_told_exactly_what_it_lost_and_delays_nobody() {
    const CHANGES: u64 = 200;
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1", "--send-queue-frames", "16"]).await;
    let narrow = TcpSocket::new_v4().unwrap();
    narrow.set_recv_buffer_size(4096).unwrap();
    let narrow = patiently(narrow.connect(server.address)).await.unwrap();
    let mut stalled = Socket::over(certificate.client().over(narrow).await.unwrap()).await;
    stalled.subscribe([1]).await;
    let mut fast = Socket::over(certificate.client().connect(server.address).await).await;
    fast.subscribe([1]).await;
    let mut http = server.http().await;
    for units in 0..CHANGES {
        let body = product(20_000, units);
        assert!(http.request("PUT", "/products/1", Some(&body)).await.status.is_success());
        assert_eq!(fast.next().await["product"]["unitsAvailable"], units);
    }
    let (mut received, mut skipped, mut version) = (0, 0, 0);
    while received + skipped < CHANGES {
        let message = stalled.next().await;
        if let Some(frames) = message["skipped"].as_u64() {
            skipped += frames;
        } else {
            let found = message["version"].as_u64().unwrap();
            assert!(version < found, "versions only grow");
            version = found;
            received += 1;
        }
    }
    assert_eq!(received + skipped, CHANGES);
    assert!(skipped > 0, "the reader was slow");
    server.until_metric("rowcast_frames_skipped_total", skipped).await;
    server.until_metric("rowcast_queue_frames", 0).await;
}

#[tokio::test]
async fn many_writers_at_once_reach_every_reader() {
    const CHANGES: u64 = 400;
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut socket = Socket::over(certificate.client().connect(server.address).await).await;
        socket.subscribe(0..4).await;
        readers.push(tokio::spawn(async move {
            let mut versions = [0; 4];
            for _ in 0..CHANGES {
                let change = socket.next().await;
                let id = usize::try_from(change["product"]["productId"].as_u64().unwrap()).unwrap();
                let version = change["version"].as_u64().unwrap();
                assert!(versions[id] < version, "versions only grow");
                versions[id] = version;
            }
        }));
    }
    let mut writers = Vec::new();
    for id in 0..4 {
        let mut http = server.http().await;
        writers.push(tokio::spawn(async move {
            for units in 0..CHANGES / 4 {
                let reply = http.request("PUT", &format!("/products/{id}"), Some(&product(700, units))).await;
                assert!(reply.status.is_success(), "{reply:?}");
            }
        }));
    }
    for task in writers.into_iter().chain(readers) {
        patiently(task).await.unwrap();
    }
}

#[tokio::test]
async fn a_long_command_in_many_records_is_one_command() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let mut socket = Socket::over(certificate.client().connect(server.address).await).await;
    let reply = socket.command("subscribe", 100_000..130_000).await;
    assert_eq!(reply["subscribed"], 30_000);
}
