//! All that is served over TCP, over both versions of TLS, with new and with resumed sessions.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::support::server::{Http, TestServer, product_json};
use crate::support::socket::{RawSocket, Socket, client_frame};
use crate::support::tls::Certificate;

#[tokio::test]
async fn requests_and_websockets_work_in_both_versions() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    for (number, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let id = number as u64;
        let client = certificate.client_of(&[version]);
        let stream = client.connect(server.address).await;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut socket = Socket::over(stream).await;
        socket.subscribe([id]).await;
        let mut http = Http::over(client.connect(server.address).await).await;
        for units in 0..20 {
            let path = format!("/products/{id}");
            let reply = http.request("PUT", &path, Some(&product_json(id, units))).await;
            assert!(reply.status.is_success(), "{reply:?}");
            let change = socket.next().await;
            assert_eq!(
                (&change["version"], &change["product"]["unitsAvailable"]),
                (&json!(reply.version()), &json!(units))
            );
            assert_eq!(http.request("GET", &path, None).await.json()["unitsAvailable"], units);
        }
        let page = http.request("GET", "/", None).await;
        assert!(page.text.contains("<h1>Rowcast</h1>"));
    }
}

#[tokio::test]
async fn a_client_that_offers_no_protocol_gets_http_1() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &[]).await;
    let mut client = certificate.client();
    std::sync::Arc::make_mut(&mut client.0).alpn_protocols.clear();
    let stream = client.connect(server.address).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    assert_eq!(Http::over(stream).await.request("GET", "/healthz", None).await.status, 200);
}

#[tokio::test]
async fn sessions_are_resumed_in_both_versions() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let mut resumed = 0;
    for version in [&TLS12, &TLS13] {
        let client = certificate.client_of(&[version]);
        for connection in 0..4 {
            let stream = client.connect(server.address).await;
            let kind = stream.get_ref().1.handshake_kind();
            let wanted = if connection == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(kind, Some(wanted), "{version:?}");
            resumed += u64::from(connection > 0);
            // The answer of the server comes after its tickets.
            assert_eq!(Http::over(stream).await.request("GET", "/healthz", None).await.status, 200);
        }
    }
    server.until_metric("rowcast_tls_handshakes_total{outcome=\"resumed\"}", resumed).await;
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_not_lost() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    for version in [&TLS12, &TLS13] {
        let stream = certificate.client_of(&[version]).connect(server.address).await;
        let mut socket = RawSocket::over(stream, &early_commands(200)).await;
        for id in 0..200 {
            let (_, reply) = socket.read_frame().await.expect("every command is answered");
            let wanted = format!(r#"{{"reply":{id},"ok":true,"subscribed":{}}}"#, id + 1);
            assert_eq!(String::from_utf8(reply).unwrap(), wanted);
        }
    }
}

/// Commands that are sent together with the request for the upgrade.
fn early_commands(count: u64) -> Vec<u8> {
    let command = |id: u64| {
        let text = json!({"command": "subscribe", "productIDs": [id], "id": id}).to_string();
        client_frame(0x81, text.as_bytes())
    };
    (0..count).flat_map(command).collect()
}

#[tokio::test]
async fn a_server_that_stops_closes_its_sockets_and_says_so() {
    let certificate = Certificate::new();
    let mut server = TestServer::https(&certificate, &[]).await;
    let mut socket = Socket::over(certificate.client().connect(server.address).await).await;
    socket.subscribe([1]).await;
    server.begin_stop();
    let (closed, ended) = tokio::join!(async move { socket.until_closed().await.1 }, server.ended());
    assert_eq!(closed, 1012);
    assert_eq!((ended.connections, ended.connections_cut), (1, 0));
}
