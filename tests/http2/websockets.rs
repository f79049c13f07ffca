//! WebSockets on streams (RFC 8441): several on one connection, beside requests, none in the way of another.

use bytes::Bytes;
use h2::Reason;
use serde_json::json;

use crate::support::http2::{Http2, StreamSocket, extended_connect, reply};
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::{Socket, client_frame};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// Reads changes until this version: how many came, and how many the server says were skipped.
async fn account(socket: &mut StreamSocket, last: u64) -> (u64, u64) {
    let (mut received, mut skipped, mut newest) = (0, 0, 0);
    while newest < last {
        let message = socket.next().await;
        if let Some(count) = message["skipped"].as_u64() {
            skipped += count;
            continue;
        }
        let version = message["version"].as_u64().unwrap();
        assert!(version > newest, "versions grow");
        newest = version;
        received += 1;
    }
    (received, skipped)
}

#[tokio::test]
async fn several_sockets_and_requests_share_a_connection() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut sockets = Vec::new();
    for id in 0..20 {
        let mut socket = http2.websocket().await;
        socket.subscribe([id, 100]).await;
        sockets.push(socket);
    }
    let mut on_http1 = Socket::connect(server.address).await;
    on_http1.subscribe([100]).await;
    assert_eq!(server.metric("rowcast_connections").await, 21);
    assert_eq!(server.metric("rowcast_http2_connections").await, 1);
    for id in 0..20 {
        http2.request("PUT", &format!("/products/{id}"), Some(&product_json(id, 1))).await;
    }
    let last = http2.request("PUT", "/products/100", Some(&product_json(100, 5))).await.version();
    for (id, socket) in (0..).zip(&mut sockets) {
        assert_eq!(socket.next().await["product"]["productId"], id);
        let change = socket.next().await;
        assert_eq!((change["version"].as_u64(), &change["product"]["unitsAvailable"]), (Some(last), &json!(5)));
    }
    assert_eq!(on_http1.next().await["version"], last);
}

#[tokio::test]
async fn a_command_may_come_in_any_pieces() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut socket = http2.websocket().await;
    let command = client_frame(TEXT, br#"{"command":"subscribe","productIDs":[1],"id":"x"}"#);
    for byte in command {
        socket.send.send_data(Bytes::copy_from_slice(&[byte]), false).unwrap();
    }
    assert_eq!(socket.next().await, json!({"reply": "x", "ok": true, "subscribed": 1}));
    let ids: Vec<u64> = (0..30_000).collect();
    let large = json!({"command": "subscribe", "productIDs": ids, "id": 2}).to_string();
    socket.write_frame(TEXT, large.as_bytes());
    assert_eq!(socket.next().await, json!({"reply": 2, "ok": true, "subscribed": 30_000}));
}

#[tokio::test]
async fn pings_are_answered_in_their_order_between_changes() {
    const PINGS: u32 = 500;
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut socket = http2.websocket().await;
    socket.subscribe([1]).await;
    let mut other = http2.websocket().await;
    other.subscribe([1]).await;
    for number in 0..PINGS {
        socket.write_frame(PING, &number.to_be_bytes());
    }
    let version = http2.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    assert_eq!(other.next().await["version"], version);
    let (mut pongs, mut changes) = (Vec::new(), 0);
    while pongs.len() < PINGS as usize || changes == 0 {
        match socket.read_frame().await.unwrap() {
            (PONG, number) => pongs.push(u32::from_be_bytes(number.try_into().unwrap())),
            (TEXT, _) => changes += 1,
            (first, _) => panic!("{first:#x}"),
        }
    }
    assert_eq!((pongs, changes), ((0..PINGS).collect(), 1));
}

#[tokio::test]
async fn one_that_is_not_read_is_skipped_and_holds_up_no_other() {
    let server = TestServer::embedded(&["--cores", "1", "--send-queue-frames", "8"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut stalled = http2.websocket().await;
    stalled.subscribe([1, 2]).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = http2.websocket().await;
        socket.subscribe([1]).await;
        sockets.push(socket);
    }
    let text = "x".repeat(8 * 1024);
    let mut last = 0;
    for units in 0..60 {
        let product = json!({"manufacturer": text, "pricePerUnit": "", "unitsAvailable": units, "productName": ""});
        last = http2.request("PUT", "/products/1", Some(&product.to_string())).await.version();
        for socket in &mut sockets {
            assert_eq!(socket.next().await["version"], last, "every change comes at once");
        }
    }
    let end = http2.request("PUT", "/products/2", Some(&product_json(2, 0))).await.version();
    assert_eq!(end, last + 1);
    assert!(server.metric("rowcast_frames_skipped_total").await > 0, "480 KiB are beyond a window and a queue");
    let (received, skipped) = account(&mut stalled, end).await;
    assert!(skipped > 0);
    assert_eq!(received + skipped, end, "all are accounted for");
}

#[tokio::test]
async fn one_that_is_not_read_is_closed_where_that_is_the_policy() {
    let options = ["--cores", "1", "--send-queue-frames", "8", "--slow-consumer", "disconnect"];
    let server = TestServer::embedded(&options).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut stalled = http2.websocket().await;
    stalled.subscribe([1]).await;
    let mut socket = http2.websocket().await;
    socket.subscribe([1]).await;
    let text = "x".repeat(16 * 1024);
    for units in 0..20 {
        let product = json!({"manufacturer": text, "pricePerUnit": "", "unitsAvailable": units, "productName": ""});
        let version = http2.request("PUT", "/products/1", Some(&product.to_string())).await.version();
        assert_eq!(socket.next().await["version"], version);
    }
    assert_eq!(stalled.closed().await, 1013);
    stalled.close(1013);
    server.until_metric("rowcast_connections", 1).await;
    assert_eq!(server.metric("rowcast_connections_closed_total{reason=\"slow_consumer\"}").await, 1);
}

#[tokio::test]
async fn each_side_ends_the_stream_and_the_connection_goes_on() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut other = http2.websocket().await;
    other.subscribe([1]).await;

    let mut closing = http2.websocket().await;
    closing.write_frame(CLOSE, &1000u16.to_be_bytes());
    assert_eq!(closing.closed().await, 1000);
    assert_eq!(closing.read_frame().await, None, "the stream ends");
    server.until_metric("rowcast_connections", 1).await;

    let mut binary = http2.websocket().await;
    binary.write_frame(0x82, b"x");
    assert_eq!(binary.closed().await, 1003);
    assert_eq!(binary.read_frame().await, None, "the stream ends");
    binary.close(1003);
    server.until_metric("rowcast_connections", 1).await;

    let mut reset = http2.websocket().await;
    reset.send.send_reset(Reason::CANCEL);
    server.until_metric("rowcast_connections", 1).await;

    let mut ending = http2.websocket().await;
    ending.send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(ending.read_frame().await, None, "the stream ends");
    server.until_metric("rowcast_connections", 1).await;

    http2.request("PUT", "/products/1", Some(&product_json(1, 3))).await;
    assert_eq!(other.next().await["product"]["unitsAvailable"], 3);
    assert_eq!(server.metric("rowcast_connections_closed_total{reason=\"vanished\"}").await, 2);
}

#[tokio::test]
async fn a_connection_that_vanishes_takes_its_sockets_with_it() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = http2.websocket().await;
        socket.subscribe([1]).await;
        sockets.push(socket);
    }
    server.until_metric("rowcast_subscriptions", 10).await;
    http2.abort();
    server.until_metric("rowcast_connections", 0).await;
    server.until_metric("rowcast_subscriptions", 0).await;
    server.until_metric("rowcast_http2_connections", 0).await;
}

#[tokio::test]
async fn what_is_refused_on_http_1_is_refused_on_a_stream() {
    let server = TestServer::embedded(&["--cores", "1", "--max-connections", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut old = extended_connect("/websocket", "websocket");
    old.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let (response, _send) = http2.connect_stream(old).await;
    let refused = reply(response).await;
    assert_eq!((refused.status.as_u16(), refused.header("sec-websocket-version")), (426, "13"));

    let mut socket = http2.websocket().await;
    let (response, _send) = http2.connect_stream(extended_connect("/websocket", "websocket")).await;
    let refused = reply(response).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "2"));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    socket.subscribe([1]).await;
    let opened = "rowcast_http_responses_total{route=\"/websocket\",method=\"CONNECT\",status=\"200\"}";
    assert_eq!(server.metric(opened).await, 1);
}

#[tokio::test]
async fn one_that_is_never_read_again_does_not_keep_its_place() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut stalled = http2.websocket().await;
    stalled.subscribe([1]).await;
    let text = "x".repeat(100 * 1024);
    let product = json!({"manufacturer": text, "pricePerUnit": "", "unitsAvailable": 0, "productName": ""});
    http2.request("PUT", "/products/1", Some(&product.to_string())).await;
    server.until_metric("rowcast_queue_frames", 0).await;
    // Beyond its window, the rest waits; the close cannot be answered, and the reset comes at the deadline.
    stalled.write_frame(CLOSE, &1000u16.to_be_bytes());
    server.until_metric("rowcast_connections", 0).await;
    let error = loop {
        match patiently(stalled.receive.data()).await.expect("the stream is reset rather than ended") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200);
}
