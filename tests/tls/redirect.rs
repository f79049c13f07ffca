//! The plain listener that sends everybody on to https.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::patiently;
use crate::support::server::TestServer;
use crate::support::tls::Certificate;

/// Everything that is answered to these bytes.
async fn answered(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.redirect.expect("it listens")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    patiently(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn every_request_is_sent_to_https_with_its_method() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--redirect-listen", "127.0.0.1:0"]).await;
    let port = server.address.port();
    for (method, path) in [("GET", "/products?limit=5"), ("POST", "/products"), ("GET", "/websocket")] {
        let answer = answered(&server, &format!("{method} {path} HTTP/1.1\r\nHost: localhost:80\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
        assert!(answer.contains(&format!("\r\nlocation: https://localhost:{port}{path}\r\n")), "{answer}");
    }
    // The answer is at the address to which it leads.
    assert_eq!(server.get("/products?limit=5").await.status, 200);
}

#[tokio::test]
async fn a_host_that_is_none_is_answered_400() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--redirect-listen", "127.0.0.1:0"]).await;
    for host in ["Host: a/b\r\n", "Host: user@a\r\n", "Host: \r\n", "", "Host: a\r\nHost: b\r\n", "Host: a:x\r\n"] {
        let answer = answered(&server, &format!("GET / HTTP/1.1\r\n{host}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host:?}: {answer}");
        assert!(!answer.contains("location"), "{answer}");
    }
    let garbage = answered(&server, "\x16\x03\x01 what is this\r\n\r\n").await;
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
}
