//! The table of routes as clients and proxies meet it, before any body is read.

use bytes::Bytes;
use h2::Reason;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::auth::tokens::{bearer, guarded};
use crate::process::Running;
use crate::support::http2::{Http2, reply, request};
use crate::support::patiently;
use crate::support::server::{Http, TestServer, exchange};

#[tokio::test]
async fn options_names_the_methods_of_every_path_and_asks_for_no_token() {
    let (server, _) = guarded(&[]).await;
    let mut http2 = Http2::connect(server.address).await;
    for (path, allow) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/products", "GET, HEAD, POST, OPTIONS"),
        ("/products/1", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/websocket", "GET, OPTIONS"),
    ] {
        for reply in [server.request("OPTIONS", path, None).await, http2.request("OPTIONS", path, None).await] {
            assert_eq!((reply.status.as_u16(), reply.header("allow"), &*reply.text), (204, allow, ""), "{path}");
        }
        // As HAProxy checks a server.
        let answer = exchange(server.address, format!("OPTIONS {path} HTTP/1.0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 204 "), "{answer}");
    }
    let all = exchange(server.address, b"OPTIONS * HTTP/1.0\r\n\r\n").await;
    assert!(all.starts_with("HTTP/1.0 204 ") && all.contains("allow: GET, HEAD, POST, PUT, PATCH, DELETE"), "{all}");
    assert_eq!(server.request("OPTIONS", "/nothing", None).await.status, 404);
}

#[tokio::test]
async fn what_is_not_in_the_table_is_not_there_with_a_token_or_without() {
    let (server, issuer) = guarded(&[]).await;
    let token = bearer(&issuer.granting(json!({"read": "*", "write": true})));
    for authorization in [String::new(), format!("authorization: {token}\r\n")] {
        for (method, path, status) in [
            ("GET", "/products/1/2", 404),
            ("GET", "/metrics/x", 404),
            ("GET", "/websocket/", 404),
            ("POST", "/nothing", 404),
            ("PUT", "/products", 405),
            ("POST", "/metrics", 405),
            ("HEAD", "/websocket", 405),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{authorization}\r\n");
            let answer = exchange(server.address, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn http_1_1_names_one_well_formed_host() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let get = async |version: &str, hosts: &str| {
        let request = format!("GET /healthz HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        exchange(server.address, request.as_bytes()).await
    };
    for hosts in ["", "host: a\r\nhost: a\r\n", "host: a b\r\n", "host: a/b\r\n", "host: u@a\r\n", "host: a:x\r\n"] {
        let answer = get("1.1", hosts).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Host header"), "{hosts:?}: {answer}");
    }
    for (version, hosts) in [("1.1", "host: a\r\n"), ("1.1", "host: [::1]:80\r\n"), ("1.1", "host:\r\n"), ("1.0", "")] {
        let answer = get(version, hosts).await;
        assert!(answer.starts_with(&format!("HTTP/{version} 200 ")), "{version} {hosts:?}: {answer}");
    }
    let upgrade = "GET /websocket HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(exchange(server.address, upgrade.as_bytes()).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn an_upgrade_in_http_1_0_says_what_the_proxy_lacks() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    for headers in [
        "",
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let request = format!("GET /websocket HTTP/1.0\r\nhost: a\r\n{headers}\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 426 ") && answer.contains("proxy_http_version 1.1"), "{answer}");
    }
}

/// Requests whose body is not wanted: method, path, and how they are answered.
const UNWANTED: [(&str, &str, u16); 5] = [
    ("POST", "/nothing", 404),
    ("POST", "/readyz", 405),
    ("PUT", "/products", 405),
    ("POST", "/products", 401),
    ("PUT", "/products/1", 401),
];

#[tokio::test]
async fn a_body_that_nobody_asks_for_is_not_waited_for_on_http_1() {
    let (server, _) = guarded(&[]).await;
    for (method, path, status) in UNWANTED {
        let mut stream = BufReader::new(patiently(TcpStream::connect(server.address)).await.unwrap());
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = String::new();
        // Nothing of the body has been sent.
        patiently(stream.read_line(&mut line)).await.unwrap();
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {line}");
    }
    // A body that comes whole does not cost the connection.
    let mut http = Http::connect(server.address).await;
    let body = "x".repeat(300_000);
    for _ in 0..2 {
        assert_eq!(http.request("POST", "/nothing", Some(&body)).await.status, 404);
    }
    // A client that waits to be asked for the body is not asked.
    let head = "POST /products HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n";
    let answer = exchange(server.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("100 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_nobody_asks_for_is_not_waited_for_on_http_2() {
    let (server, _) = guarded(&[]).await;
    let mut http2 = Http2::connect(server.address).await;
    for (method, path, status) in UNWANTED {
        let (response, mut stream) = http2.start(request(method, path), false).await;
        assert_eq!(reply(patiently(response).await.unwrap()).await.status, status, "{method} {path}");
        // The client may stop sending (RFC 9113, §8.1).
        let ended = patiently(std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
        assert_eq!(ended.unwrap(), Reason::NO_ERROR, "{method} {path}");
        // Bytes that it has sent meanwhile are thrown away.
        let _ = stream.send_data(Bytes::from_static(b"late"), false);
    }
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_foreign_origin_that_is_refused_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &[]).await;
    let mut log = BufReader::new(server.child.stderr.take().unwrap());
    let origin = format!("https://evil.example/{}", "x".repeat(5000));
    let reply =
        Http::connect(server.address).await.request_with("POST", "/products", &[("origin", &origin)], Some("{}")).await;
    assert_eq!(reply.status, 403);
    let mut line = String::new();
    while !line.contains("--allowed-origin") {
        line.clear();
        patiently(log.read_line(&mut line)).await.unwrap();
    }
    assert!(line.contains("INFO") && line.contains("https://evil.example/xxx"), "{line}");
    assert!(line.len() < 500, "{line}");
}
