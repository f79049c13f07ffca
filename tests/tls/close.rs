//! The end of connections.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::patiently;
use crate::support::server::TestServer;
use crate::support::socket::RawSocket;
use crate::support::tls::Certificate;

#[tokio::test]
async fn a_close_is_answered_and_both_layers_end() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let stream = certificate.client().connect(server.address).await;
    let mut socket = RawSocket::over(stream, b"").await;
    socket.write_frame(0x88, &1000u16.to_be_bytes()).await;
    assert_eq!(socket.read_frame().await, Some((0x88, 1000u16.to_be_bytes().to_vec())));
    // Without close_notify this is an error: the client could not tell the end from an attack.
    assert_eq!(patiently(socket.stream.read(&mut [0])).await.unwrap(), 0);
    server.until_metric("rowcast_connections_closed_total{reason=\"peer\"}", 1).await;
}

#[tokio::test]
async fn an_answer_that_ends_the_connection_ends_tls_too() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let mut stream = certificate.client().connect(server.address).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    patiently(stream.read_to_string(&mut answer)).await.expect("close_notify came");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn an_end_of_the_peer_is_an_end_whether_it_says_so_or_not() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    for (number, says_so) in [true, false].into_iter().enumerate() {
        let mut socket = RawSocket::over(certificate.client().connect(server.address).await, b"").await;
        socket.write_frame(0x81, br#"{"command":"subscribe","productIDs":[1],"id":1}"#).await;
        assert!(socket.read_frame().await.is_some());
        if says_so {
            patiently(socket.stream.shutdown()).await.unwrap();
        } else {
            patiently(socket.stream.get_mut().0.shutdown()).await.unwrap();
        }
        let wanted = number as u64 + 1;
        server.until_metric("rowcast_connections_closed_total{reason=\"vanished\"}", wanted).await;
        server.until_metric("rowcast_subscriptions", 0).await;
    }
}
