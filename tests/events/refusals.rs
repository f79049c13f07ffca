//! Requests that are refused before anything is opened, and what a token withholds.

use serde_json::json;

use crate::auth::tokens::{bearer, everything, guarded};
use crate::support::events::EventReader;
use crate::support::http2::Http2;
use crate::support::server::{TestServer, exchange, product_json};

#[tokio::test]
async fn a_bad_query_is_refused_with_the_name_of_its_parameter() {
    let server = TestServer::embedded(&["--cores", "1", "--max-subscriptions", "3"]).await;
    assert_eq!(server.request("PUT", "/tables/orders/17", Some("{}")).await.status, 201);
    let mut http2 = Http2::connect(server.address).await;
    for (query, status, part) in [
        ("", 400, "productIDs=1,2"),
        ("?", 400, "productIDs=1,2"),
        ("?productIDs=", 400, "productIDs is a list"),
        ("?productIDs=1,", 400, "productIDs is a list"),
        ("?productIDs=1,x", 400, "\\\"x\\\""),
        ("?productIDs=+1", 400, "productIDs is a list"),
        ("?productIDs=%2B1", 400, "productIDs is a list"),
        ("?productIDs=-1", 400, "productIDs is a list"),
        ("?productIDs=9007199254740992", 400, "productIDs is a list"),
        ("?productIDs=1,*", 400, "productIDs is a list"),
        ("?productIDs=*&productIDs=*", 400, "productIDs is a list"),
        ("?productIDs=1,2,3,4", 400, "at most 3 rows"),
        ("?productIDs=1&key=1", 400, "give table too"),
        ("?productIDs=1&table=orders&key=1", 400, "either products by productIDs"),
        ("?productIds=1", 400, "not \\\"productIds\\\""),
        ("?productIDs=1&snapshot=false", 400, "not \\\"snapshot\\\""),
        ("?key=1", 400, "give table too"),
        ("?table=orders", 400, "key=*"),
        ("?table=orders&table=orders&key=1", 400, "table is given once"),
        ("?table=orders&key=%FF", 400, "UTF-8"),
        ("?table=orders&key=%00", 400, "U+0000"),
        ("?table=orders&key=1&key=*&key=2&key=3", 400, "at most 3 rows"),
        ("?table=nowhere&key=1", 404, "unknown table"),
    ] {
        let path = format!("/events{query}");
        for method in ["GET", "HEAD"] {
            for reply in [server.request(method, &path, None).await, http2.request(method, &path, None).await] {
                assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
                assert_eq!(reply.header("content-type"), "application/problem+json");
                assert!(method == "HEAD" || reply.text.contains(part), "{path}: {reply:?}");
            }
        }
    }
    assert_eq!(server.request("POST", "/events", Some("{}")).await.status, 405);
    assert_eq!(server.metric("rowcast_connections_opened_total").await, 0);
    // What is repeated counts once.
    let mut reader = EventReader::connect(server.address, "/events?productIDs=1,2,3,3,2,1").await;
    assert_eq!(reader.until_reply().await.1, json!({"reply": "events", "ok": true, "subscribed": 3}));
}

#[tokio::test]
async fn a_table_that_is_served_alone_has_no_products() {
    let database = crate::support::postgres::Cluster::shared().database().await;
    database.connect().await.batch_execute("CREATE TABLE orders (id int PRIMARY KEY)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--cores", "1", "--table", "orders", "--no-products"]).await;
    let reply = server.get("/events?productIDs=1").await;
    assert_eq!(reply.status, 404, "{reply:?}");
    assert!(reply.text.contains("no products"), "{reply:?}");
}

#[tokio::test]
async fn a_reader_is_told_what_its_token_lets_it_read() {
    let (server, issuer) = guarded(&[]).await;
    let all = bearer(&issuer.granting(everything()));
    for id in 1..4 {
        let path = format!("/products/{id}");
        server.request_with("PUT", &path, &[("authorization", &all)], Some(&product_json(id, 1))).await;
    }
    assert_eq!(server.get("/events?productIDs=1").await.status, 401);
    let some = issuer.granting(json!({"read": [1]}));
    let authorization = [("authorization", &*bearer(&some))];
    for path in
        ["/events?productIDs=2", "/events?productIDs=2,3", "/events?table=orders&key=1", "/events?table=orders&key=*"]
    {
        let reply = server.request_with("GET", path, &authorization, None).await;
        assert_eq!(reply.status, 403, "{path}: {reply:?}");
        assert_eq!(reply.header("www-authenticate"), r#"Bearer error="insufficient_scope""#);
    }
    let nothing = bearer(&issuer.granting(json!({"write": true})));
    let reply = server.request_with("GET", "/events?productIDs=*", &[("authorization", &nothing)], None).await;
    assert_eq!(reply.status, 403, "{reply:?}");

    // EventSource sends no header of the page's choice.
    let path = format!("/events?productIDs=1,2&token={some}");
    let mut reader = EventReader::connect(server.address, &path).await;
    let (messages, reply) = reader.until_reply().await;
    let ids: Vec<_> = messages.iter().filter_map(|message| message["product"]["productId"].as_u64()).collect();
    assert_eq!((ids, &reply["ok"], &reply["code"]), (vec![1], &json!(false), &json!("forbidden")), "{reply}");
    assert_eq!(reply["error"], "the token does not let you read 2; the rest is subscribed to");
    let mut reader = EventReader::connect_with(server.address, "/events?productIDs=*", &authorization).await;
    assert_eq!(reader.states().await.len(), 1);
    for id in [2, 1] {
        let path = format!("/products/{id}");
        server.request_with("PUT", &path, &[("authorization", &all)], Some(&product_json(id, 5))).await;
    }
    assert_eq!(reader.next().await["product"]["productId"], 1, "2 is withheld");
}

#[tokio::test]
async fn a_page_of_another_origin_reads_where_it_is_allowed() {
    let shop = [("origin", "https://shop.example")];
    let closed = TestServer::embedded(&["--cores", "1"]).await;
    let reply = closed.request_with("GET", "/events?productIDs=1", &shop, None).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(reply.text.contains("--allowed-origin"));
    let open = TestServer::embedded(&["--cores", "1", "--allowed-origin", "https://shop.example"]).await;
    let reader = EventReader::connect_with(open.address, "/events?productIDs=1", &shop).await;
    let headers = ["access-control-allow-origin: https://shop.example\r\n", "vary: Origin\r\n"];
    assert!(headers.iter().all(|header| reader.head.contains(header)), "{}", reader.head);
    let reply = open.request_with("GET", "/events?productIDs=x", &shop, None).await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (400, "https://shop.example"));
    let preflight = open.request_with("OPTIONS", "/events", &shop, None).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("allow")), (204, "GET, HEAD, OPTIONS"));
    assert!(preflight.header("access-control-allow-headers").contains("Last-Event-ID"));
}

#[tokio::test]
async fn there_are_as_many_streams_as_there_may_be_websockets() {
    let server = TestServer::embedded(&["--cores", "1", "--max-connections", "2"]).await;
    let first = EventReader::connect(server.address, "/events?productIDs=1").await;
    let _socket = crate::support::socket::Socket::connect(server.address).await;
    for reply in [
        server.get("/events?productIDs=1").await,
        Http2::connect(server.address).await.request("GET", "/events?productIDs=1", None).await,
    ] {
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "2"), "{reply:?}");
    }
    assert_eq!(server.metric("rowcast_refused_total{limit=\"connections\"}").await, 2);
    drop(first);
    server.until_metric("rowcast_connections", 1).await;
    EventReader::connect(server.address, "/events?productIDs=1").await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let ids: Vec<String> = (1_000_000..1_003_000_u64).map(|id| id.to_string()).collect();
    let request = format!("GET /events?productIDs={} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", ids.join(","));
    let answer = exchange(server.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
