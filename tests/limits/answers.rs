//! The pace at which an answer has to be taken.

use std::time::Duration;

use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::interval;

use super::refused;
use crate::lists::long_product;
use crate::support::http2::{Http2, request, roomy};
use crate::support::patiently;
use crate::support::server::TestServer;

/// A server with a short timeout, and one long row.
async fn with_a_long_row() -> TestServer {
    let server = TestServer::embedded(&["--cores", "1", "--write-timeout-seconds", "1"]).await;
    let row = long_product(1, 1_000_000).to_string();
    assert_eq!(server.request("PUT", "/products/1", Some(&row)).await.status, 201);
    server
}

#[tokio::test]
async fn a_client_that_takes_little_now_and_then_is_cut() {
    let server = with_a_long_row().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = patiently(socket.connect(server.address)).await.unwrap();
    stream.write_all(b"GET /products/1 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut part, mut pauses, mut taken) = ([0; 2048], interval(Duration::from_millis(300)), 0);
    let until_cut = async {
        loop {
            pauses.tick().await;
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => taken += bytes,
            }
        }
    };
    patiently(until_cut).await;
    assert!(taken < 1_000_000, "{taken} bytes");
    assert_eq!(refused(&server, "write_timeout").await, 1);
    assert!(server.get("/products/1").await.text.len() > 1_000_000, "one that takes it has it");
}

#[tokio::test]
async fn so_is_one_that_opens_its_window_by_a_byte() {
    let server = with_a_long_row().await;
    let mut http2 = Http2::with(server.address, roomy().initial_window_size(1)).await;
    let response = patiently(http2.send(request("GET", "/products/1"), None).await).await.unwrap();
    let mut body = response.into_body();
    let mut pauses = interval(Duration::from_millis(100));
    let until_cut = async {
        loop {
            pauses.tick().await;
            match body.data().await.expect("the stream does not just end") {
                Ok(data) => body.flow_control().release_capacity(data.len()).unwrap(),
                Err(error) => return error.reason(),
            }
        }
    };
    assert_eq!(patiently(until_cut).await, Some(Reason::CANCEL));
    assert_eq!(refused(&server, "write_timeout").await, 1);
    assert_eq!(Http2::connect(server.address).await.request("GET", "/products/1", None).await.status, 200);
}
