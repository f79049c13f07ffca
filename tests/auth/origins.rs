//! Which pages of browsers may use the server.

use super::tokens::{bearer, everything, guarded};
use crate::support::server::{Reply, TestServer, product_json};
use crate::support::socket::Socket;

const SHOP: &str = "https://shop.example";

async fn write(server: &TestServer, headers: &[(&str, &str)]) -> Reply {
    server.request_with("PUT", "/products/1", headers, Some(&product_json(1, 1))).await
}

#[tokio::test]
async fn a_page_of_another_origin_neither_writes_nor_opens_a_socket() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    for origin in [SHOP, "null", "http://localhost:81", "http://localhost.evil.example", "localhost", ""] {
        let headers = [("origin", origin), ("host", "localhost")];
        for reply in [write(&server, &headers).await, server.refused_handshake("/websocket", &headers[..1]).await] {
            assert_eq!(reply.status, 403, "{origin}: {reply:?}");
            assert!(reply.text.contains("--allowed-origin"));
            assert!(!reply.headers.contains_key("access-control-allow-origin"));
        }
        for method in ["POST", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            assert_eq!(server.request_with(method, "/products/1", &headers, None).await.status, 403, "{method}");
        }
        let read = server.request_with("GET", "/products", &headers, None).await;
        assert_eq!((read.status.as_u16(), read.header("vary")), (200, "Origin"));
        assert!(!read.headers.contains_key("access-control-allow-origin"), "its browser keeps it from the page");
    }
    assert_eq!(server.get("/products/1").await.status, 404, "nothing was written");
}

#[tokio::test]
async fn the_servers_own_page_and_what_is_no_page_may() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    for (origin, host) in [
        ("http://localhost", "localhost"),
        ("https://localhost", "localhost"),
        ("https://localhost", "localhost:443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
    ] {
        let headers = [("origin", origin), ("host", host)];
        assert!(write(&server, &headers).await.status.is_success(), "{origin} {host}");
    }
    Socket::connect_with(server.address, "/websocket", &[("origin", "http://localhost")]).await;
    Socket::connect(server.address).await;
    assert!(write(&server, &[]).await.status.is_success());
}

#[tokio::test]
async fn an_allowed_page_writes_reads_and_opens_sockets() {
    let listed =
        TestServer::embedded(&["--cores", "1", "--allowed-origin", "http://a.example", "--allowed-origin", SHOP]).await;
    let any = TestServer::embedded(&["--cores", "1", "--allowed-origin", "*"]).await;
    for server in [&listed, &any] {
        let headers = [("origin", SHOP)];
        let read = server.request_with("GET", "/products/1", &headers, None).await;
        for (reply, status) in [(write(server, &headers).await, 201), (read, 404)] {
            assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (status, SHOP));
            assert_eq!(reply.header("vary"), "Origin");
            let exposed = reply.header("access-control-expose-headers");
            assert!(exposed.contains("ETag") && exposed.contains("Location"), "{exposed}");
        }
        Socket::connect_with(server.address, "/websocket", &headers).await;
        let own = [("origin", "http://localhost")];
        assert!(write(server, &own).await.status.is_success(), "the server's own page still may");
    }
    assert_eq!(write(&listed, &[("origin", "http://b.example")]).await.status, 403);
    assert_eq!(write(&any, &[("origin", "http://b.example")]).await.status, 200);
}

#[tokio::test]
async fn a_page_without_a_host_may_use_the_server_where_its_origin_is_named() {
    for (named, other) in [("null", "file://"), ("file://", "null")] {
        let server = TestServer::embedded(&["--cores", "1", "--allowed-origin", named]).await;
        let reply = write(&server, &[("origin", named)]).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (201, named));
        Socket::connect_with(server.address, "/websocket", &[("origin", named)]).await;
        assert_eq!(write(&server, &[("origin", other)]).await.status, 403);
    }
}

#[tokio::test]
async fn the_client_may_be_imported_by_every_page_and_nothing_else() {
    let (server, _) = guarded(&[]).await;
    for (path, told) in [("client.js", Some("*")), ("table.js", Some("*")), ("app.js", None), ("none.js", None)] {
        let reply = server.request_with("GET", &format!("/assets/{path}"), &[("origin", SHOP)], None).await;
        assert_eq!(reply.headers.get("access-control-allow-origin").map(|it| it.to_str().unwrap()), told, "{path}");
        assert!(!reply.headers.contains_key("access-control-allow-credentials"), "{path}");
    }
    assert_eq!(server.refused_handshake("/websocket", &[("origin", SHOP)]).await.status, 403);
}

#[tokio::test]
async fn a_browser_that_asks_first_is_told_what_may_be_sent() {
    let (server, _) = guarded(&["--allowed-origin", SHOP]).await;
    let asked = [
        ("origin", SHOP),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    for path in ["/products", "/products/1"] {
        let reply = server.request_with("OPTIONS", path, &asked, None).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("access-control-allow-origin")),
            (204, SHOP),
            "without a token"
        );
        assert_eq!(
            reply.header("access-control-allow-headers"),
            "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID"
        );
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(reply.header("access-control-allow-methods").contains(method), "{method}");
        }
        assert!(reply.header("access-control-max-age").parse::<u32>().unwrap() > 0);
        assert_eq!(reply.header("vary"), "Origin");
    }
    let other = [("origin", "https://evil.example"), asked[1], asked[2]];
    let reply = server.request_with("OPTIONS", "/products", &other, None).await;
    assert_eq!(reply.status, 403);
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
    let reply = server.request_with("OPTIONS", "/metrics", &asked, None).await;
    assert!(!reply.headers.contains_key("access-control-allow-methods"), "only products are shared");
}

#[tokio::test]
async fn an_allowed_page_still_needs_a_token_and_reads_why() {
    let (server, issuer) = guarded(&["--allowed-origin", SHOP]).await;
    let refused = write(&server, &[("origin", SHOP)]).await;
    assert_eq!((refused.status.as_u16(), refused.header("access-control-allow-origin")), (401, SHOP));
    let token = bearer(&issuer.granting(everything()));
    let created = write(&server, &[("origin", SHOP), ("authorization", &token)]).await;
    assert_eq!((created.status.as_u16(), created.header("access-control-allow-origin")), (201, SHOP));
    let stranger = write(&server, &[("origin", "https://evil.example"), ("authorization", &token)]).await;
    assert_eq!(stranger.status, 403, "a token does not make up for the origin");
}
