//! Answers of many rows, to readers who do not take them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{MIB, forget_peak, peak_bytes, resident_bytes, size};
use crate::lists::long_product;
use crate::process::Running;
use crate::support::http2::{Http2, request, roomy};
use crate::support::patiently;
use crate::support::server::{Http, product_json};
use crate::support::socket::Socket;

const ROW_BYTES: usize = 1_000_000;

/// A server with so many long rows, all of which were read once, so that the store's cache has them.
async fn filled(dir: &std::path::Path, rows: usize) -> Running {
    let mut server = Running::start(dir, &["--cores", "1"]).await;
    server.ignore_log();
    let mut http = Http::connect(server.address).await;
    for id in 0..rows as u64 {
        let row = long_product(id, ROW_BYTES).to_string();
        assert_eq!(http.request("PUT", &format!("/products/{id}"), Some(&row)).await.status, 201);
    }
    let mut stream = patiently(TcpStream::connect(server.address)).await.unwrap();
    stream.write_all(b"GET /products?limit=1000 HTTP/1.0\r\n\r\n").await.unwrap();
    let listed = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    assert!(listed > (ROW_BYTES * rows) as u64, "{listed}");
    server
}

#[tokio::test]
async fn an_answer_holds_one_row_whatever_its_reader_takes() {
    let dir = tempfile::tempdir().unwrap();
    let server = filled(dir.path(), size(60, 1000)).await;
    let before = resident_bytes(&server);
    forget_peak(&server);
    // Four readers on HTTP/1 who take the beginning.
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = patiently(TcpStream::connect(server.address)).await.unwrap();
        patiently(stream.write_all(b"GET /products?limit=1000 HTTP/1.1\r\nhost: a\r\n\r\n")).await.unwrap();
        let mut status = [0; 12];
        patiently(stream.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        slow.push(stream);
    }
    // A hundred on streams without a window, of which as many are answered as one connection may have rows for.
    let mut http2 = Http2::with(server.address, roomy().initial_window_size(0)).await;
    let (mut asked, mut answered) = (Vec::new(), 0);
    for _ in 0..100 {
        asked.push(http2.send(request("GET", "/products?limit=1000"), None).await);
    }
    let mut held = Vec::new();
    for response in asked {
        let response = patiently(response).await.unwrap();
        match response.status().as_u16() {
            200 => answered += 1,
            503 => assert!(response.headers().contains_key("retry-after")),
            other => panic!("{other}"),
        }
        held.push(response);
    }
    assert!((1..=16).contains(&answered), "{answered}");
    // Others are served meanwhile: a write is cast, a list is listed.
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1000]).await;
    let mut http = Http::connect(server.address).await;
    let version = http.request("PUT", "/products/1000", Some(&product_json(1000, 1))).await.version();
    assert_eq!(socket.next().await["version"], version);
    assert_eq!(http.request("GET", "/products?after=58&limit=1", None).await.json()["products"][0]["productId"], 59);
    let cost = peak_bytes(&server).saturating_sub(before);
    // A row for each answer, one that is read, and one on its way from the store; streams, and pieces of answers.
    let most = (4 + answered + 2) * ROW_BYTES + 8 * MIB;
    assert!(cost <= most, "{} of {} MiB", cost / MIB, most / MIB);
}

#[tokio::test]
async fn one_long_row_is_held_once_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let budget = (4 * MIB).to_string();
    let mut server =
        Running::start(dir.path(), &["--cores", "1", "--max-answers-bytes", &budget, "--write-timeout-seconds", "600"])
            .await;
    server.ignore_log();
    let mut http = Http::connect(server.address).await;
    let row = long_product(1, ROW_BYTES).to_string();
    assert_eq!(http.request("PUT", "/products/1", Some(&row)).await.status, 201);
    let mut connections = Vec::new();
    for _ in 0..5 {
        let mut http2 = Http2::with(server.address, roomy().initial_window_size(0)).await;
        let response = http2.send(request("GET", "/products/1"), None).await;
        let response = patiently(response).await.unwrap();
        connections.push((http2, response));
    }
    let statuses: Vec<_> = connections.iter().map(|(_, response)| response.status().as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 503]);
    assert_eq!(http.metric("rowcast_refused_total{limit=\"answers_bytes\"}").await, 1);
    // A reader that leaves gives back what it held.
    connections.remove(0).0.abort();
    let read = async { while http.request("GET", "/products/1", None).await.status == 503 {} };
    patiently(read).await;
}
