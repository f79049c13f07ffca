//! The bounds on the size and the pace of a request.

use super::refused;
use crate::support::server::{TestServer, exchange, product_json};

/// A request whose first line and headers have this many bytes.
fn request_with_head(bytes: usize) -> String {
    let around = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: \r\n".len();
    let value = "v".repeat(bytes - around);
    format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {value}\r\n\r\n")
}

#[tokio::test]
async fn a_head_above_the_limit_is_answered_431() {
    let server = TestServer::embedded(&["--cores", "1", "--max-header-bytes", "8192"]).await;
    assert!(exchange(server.address, request_with_head(8191).as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let answer = exchange(server.address, request_with_head(8193).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("have at most 8192 bytes"), "{answer}");
    // hyper does not read further than twice the limit, and has no words for it.
    let answer = exchange(server.address, &request_with_head(40_000).as_bytes()[..39_000]).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(refused(&server, "header_bytes").await, 2);
    let many = "a: b\r\n".repeat(200);
    let answer = exchange(server.address, format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(refused(&server, "header_bytes").await, 3);
}

#[tokio::test]
async fn a_websocket_with_a_head_above_the_limit_is_refused_as_well() {
    let server = TestServer::embedded(&["--cores", "1", "--max-header-bytes", "1024"]).await;
    let request = request_with_head(1500).replace("/healthz", "/websocket");
    assert!(exchange(server.address, request.as_bytes()).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_body_above_the_limit_is_answered_413() {
    let server = TestServer::embedded(&["--cores", "1", "--max-body-bytes", "1024"]).await;
    let padded = |bytes: usize| format!("{:bytes$}", product_json(1, 1));
    assert_eq!(server.request("PUT", "/products/1", Some(&padded(1024))).await.status, 201);
    let reply = server.request("PUT", "/products/1", Some(&padded(1025))).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (413, "application/problem+json"));
    assert!(reply.text.contains("at most 1024 bytes"), "{reply:?}");
    let chunked = "PUT /products/1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = format!("400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", " ".repeat(1024));
    let answer = exchange(server.address, [chunked, &chunks].concat().as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(refused(&server, "body_bytes").await, 2);
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_socket() {
    let server = TestServer::embedded(&["--cores", "1", "--header-timeout-seconds", "1"]).await;
    assert_eq!(exchange(server.address, b"GET / HTTP/1.1\r\nHost: loc").await, "");
    assert_eq!(exchange(server.address, b"").await, "");
    server.until_metric("rowcast_refused_total{limit=\"header_timeout\"}", 2).await;
    let idle = exchange(server.address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(idle.ends_with("alive\n"), "{idle}");
    assert_eq!(refused(&server, "header_timeout").await, 2, "a quiet socket that was served is not refused");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let server = TestServer::embedded(&["--cores", "1", "--body-timeout-seconds", "1"]).await;
    let head =
        "PUT /products/1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{";
    let answer = exchange(server.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"), "{answer}");
    assert_eq!(refused(&server, "body_timeout").await, 1);
}
