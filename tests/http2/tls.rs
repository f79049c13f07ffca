//! The same over TLS.

use h2::client::Builder;
use serde_json::json;

use crate::support::http2::{Http2, reply, request, roomy, visit};
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};
use crate::support::tls::Certificate;

#[tokio::test]
async fn requests_and_sockets_share_a_connection_and_none_holds_up_another() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2", "--send-queue-frames", "8"]).await;
    let mut http2 = Http2::with_tls(server.address, &certificate, &roomy()).await;
    let mut stalled = http2.websocket().await;
    stalled.subscribe([1]).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = http2.websocket().await;
        socket.subscribe([1]).await;
        sockets.push(socket);
    }
    let text = "x".repeat(8 * 1024);
    for units in 0..40 {
        let product = json!({"manufacturer": text, "pricePerUnit": "", "unitsAvailable": units, "productName": ""});
        let version = http2.request("PUT", "/products/1", Some(&product.to_string())).await.version();
        for socket in &mut sockets {
            assert_eq!(socket.next().await["version"], version, "every change comes at once");
        }
    }
    assert!(server.metric("rowcast_frames_skipped_total").await > 0);
    assert_eq!(server.metric("rowcast_http2_connections").await, 1);
    assert!(stalled.next().await["version"].is_u64());
}

#[tokio::test]
async fn an_answer_larger_than_all_buffers_comes_whole() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let mut http2 = Http2::with_tls(server.address, &certificate, &roomy()).await;
    let text = "x".repeat(400 * 1024);
    let product = json!({"manufacturer": text, "pricePerUnit": "", "unitsAvailable": 0, "productName": text});
    assert_eq!(http2.request("PUT", "/products/1", Some(&product.to_string())).await.status, 201);
    let mut responses = Vec::new();
    for _ in 0..10 {
        responses.push(http2.send(request("GET", "/products/1"), None).await);
    }
    for response in responses {
        assert_eq!(reply(patiently(response).await.unwrap()).await.json()["productName"], text);
    }
}

#[tokio::test]
async fn the_cookie_of_what_was_pushed_stays_within_tls() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let mut http2 = Http2::with_tls(server.address, &certificate, &Builder::new()).await;
    let (page, pushed) = visit(&mut http2, request("GET", "/")).await;
    assert_eq!(pushed.len(), 2);
    let cookie = "assetspushed=1; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax; Secure";
    assert_eq!(page.header("set-cookie"), cookie);
}

#[tokio::test]
async fn a_server_that_stops_closes_sockets_and_the_connection() {
    let certificate = Certificate::new();
    let mut server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let mut http2 = Http2::with_tls(server.address, &certificate, &roomy()).await;
    let mut socket = http2.websocket().await;
    socket.subscribe([1]).await;
    let version = http2.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    server.begin_stop();
    assert_eq!(socket.next().await["version"], version);
    assert_eq!(socket.closed().await, 1012);
    socket.close(1012);
    assert_eq!(socket.read_frame().await, None);
    drop(socket);
    http2.ended().await.expect("it ends without an error");
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut, ended.requests_cut), (1, 0, false));
}
