//! The bounds on sockets and WebSockets, in all, from one address and in one second.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::refused;
use crate::support::patiently;
use crate::support::server::{Http, Reply, TestServer};
use crate::support::socket::Socket;

/// A TCP connection from this address, which is of this machine.
async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.into(), 0)).unwrap();
    patiently(socket.connect(to)).await.unwrap()
}

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Asks for a WebSocket.
async fn upgrade(server: &TestServer) -> Reply {
    let request = hyper::Request::get("/websocket")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    Http::connect(server.address).await.send(request.body(http_body_util::Full::default()).unwrap()).await
}

fn assert_unavailable(reply: &Reply, detail: &str) {
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (503, "application/problem+json"));
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{reply:?}");
}

#[tokio::test]
async fn a_full_server_answers_503_before_the_upgrade() {
    let server = TestServer::embedded(&["--cores", "1", "--max-connections", "2"]).await;
    let (first, _second) = (Socket::connect(server.address).await, Socket::connect(server.address).await);
    assert_unavailable(&upgrade(&server).await, "the 2 WebSockets");
    assert_eq!(refused(&server, "connections").await, 1);
    assert_eq!(server.get("/healthz").await.status, 200, "requests are still answered");
    drop(first);
    server.until_metric("rowcast_connections", 1).await;
    Socket::connect(server.address).await;
}

#[tokio::test]
async fn one_address_does_not_take_the_websockets_of_others() {
    let server = TestServer::embedded(&["--cores", "1", "--max-connections-per-address", "2"]).await;
    let (first, mut second) = (Socket::connect(server.address).await, Socket::connect(server.address).await);
    assert_unavailable(&upgrade(&server).await, "your address has the 2 WebSockets");
    let mut other = Socket::over(connect_from(OTHER, server.address).await).await;
    other.subscribe([1]).await;
    second.subscribe([1]).await;
    assert_eq!(refused(&server, "connections_per_address").await, 1);
    drop(first);
    server.until_metric("rowcast_connections", 2).await;
    Socket::connect(server.address).await;
}

/// The answer to a socket that is closed before it asks.
async fn turned_away(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    patiently(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    for header in ["retry-after: 2", "connection: close", "content-type: application/problem+json"] {
        assert!(head.lines().any(|line| line == header), "{head}");
    }
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    serde_json::from_str::<serde_json::Value>(body).unwrap()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sockets_beyond_the_bound_are_told_so_and_closed() {
    let server = TestServer::embedded(&["--cores", "2", "--max-http-sockets", "2"]).await;
    let mut websocket = Socket::connect(server.address).await;
    // A WebSocket is not one of them, once it is open.
    websocket.subscribe([1]).await;
    let (mut first, mut second) = (Http::connect(server.address).await, Http::connect(server.address).await);
    assert_eq!(first.request("GET", "/healthz", None).await.status, 200);
    assert_eq!(second.request("GET", "/healthz", None).await.status, 200);
    let detail = turned_away(TcpStream::connect(server.address).await.unwrap()).await;
    assert!(detail.contains("the 2 sockets"), "{detail}");
    let metrics = first.request("GET", "/metrics", None).await.text;
    assert!(metrics.contains("rowcast_refused_total{limit=\"http_sockets\"} 1\n"), "{metrics}");
    assert_eq!(websocket.command("subscribe", [2]).await["subscribed"], 2, "who is in is not disturbed");
    drop(second);
    let free_again = async {
        loop {
            let mut probe = TcpStream::connect(server.address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut probe, b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            if probe.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.0 200") {
                return;
            }
        }
    };
    patiently(free_again).await;
}

#[tokio::test]
async fn one_address_does_not_take_the_sockets_of_others() {
    let server = TestServer::embedded(&["--cores", "1", "--max-http-sockets-per-address", "1"]).await;
    let mut first = Http::connect(server.address).await;
    assert_eq!(first.request("GET", "/healthz", None).await.status, 200);
    let detail = turned_away(TcpStream::connect(server.address).await.unwrap()).await;
    assert!(detail.contains("your address has the 1 sockets"), "{detail}");
    let mut other = Socket::over(connect_from(OTHER, server.address).await).await;
    other.subscribe([1]).await;
    let metrics = first.request("GET", "/metrics", None).await.text;
    assert!(metrics.contains("rowcast_refused_total{limit=\"http_sockets_per_address\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn handshakes_beyond_the_rate_are_told_when_to_come_back() {
    let server = TestServer::embedded(&["--cores", "2", "--handshakes-per-second", "1"]).await;
    let mut socket = Socket::connect(server.address).await;
    // A slow machine may need a second for one; then it is accepted, and the next one is asked for.
    let refusal = loop {
        let reply = upgrade(&server).await;
        if reply.status != 101 {
            break reply;
        }
    };
    assert_unavailable(&refusal, "too many WebSockets open");
    assert_eq!(refusal.header("retry-after"), "1");
    assert_eq!(refused(&server, "handshakes").await, 1);
    socket.subscribe([1]).await;
    assert_eq!(server.get("/healthz").await.status, 200);
}
