//! Requests: the same answers as on HTTP/1, many at once on one connection.

use std::collections::HashSet;

use bytes::Bytes;
use h2::Reason;
use serde_json::json;

use crate::support::http2::{Http2, extended_connect, reply, request, roomy};
use crate::support::patiently;
use crate::support::server::{Reply, TestServer, product_json};

/// The parts of an answer that depend neither on the version of HTTP nor on the time.
fn essence(reply: &Reply) -> (u16, Vec<String>, String) {
    let names = ["content-type", "content-length", "cache-control", "x-content-type-options", "allow", "etag", "link"];
    let headers = names.map(|name| format!("{name}: {}", reply.header(name)));
    (reply.status.as_u16(), headers.to_vec(), reply.text.clone())
}

#[tokio::test]
async fn every_answer_is_that_of_http_1() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    let large = json!({"productId": 3, "manufacturer": "m\n€".repeat(50_000), "pricePerUnit": "1", "unitsAvailable": 1, "productName": "p"});
    server.request("PUT", "/products/3", Some(&large.to_string())).await;
    let mut http2 = Http2::connect(server.address).await;
    for (method, path, body) in [
        ("GET", "/", None),
        ("HEAD", "/", None),
        ("POST", "/", None),
        ("GET", "/assets/app.js", None),
        ("GET", "/assets/none.js", None),
        ("GET", "/nothing", None),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("POST", "/healthz", Some("{}")),
        ("GET", "/products", None),
        ("GET", "/products?limit=0", None),
        ("GET", "/products/1", None),
        ("HEAD", "/products/1", None),
        ("GET", "/products/2", None),
        ("GET", "/products/3", None),
        ("HEAD", "/products/3", None),
        ("GET", "/products/x", None),
        ("PUT", "/products", Some("{}")),
        ("PUT", "/products/1", Some("[]")),
        ("POST", "/products", Some(&product_json(1, 1))),
        ("OPTIONS", "/products/1", None),
        ("TRACE", "/", None),
        ("GET", "/websocket", None),
        ("HEAD", "/websocket", None),
        ("POST", "/websocket", None),
    ] {
        let one = server.request(method, path, body).await;
        let two = http2.request(method, path, body).await;
        assert_eq!(essence(&two), essence(&one), "{method} {path}");
        assert!(!two.header("date").is_empty(), "{method} {path}");
    }
    for route in ["/", "/healthz", "/websocket"] {
        let name = format!("rowcast_http_responses_total{{route=\"{route}\",method=\"POST\",status=\"405\"}}");
        assert_eq!(server.metric(&name).await, 2, "{route}");
    }
}

#[tokio::test]
async fn a_product_lives_from_post_to_delete() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let created = http2.request("POST", "/products", Some(&product_json(7, 1))).await;
    assert_eq!((created.status.as_u16(), created.header("location")), (201, "/products/7"));
    let patched = http2.request("PATCH", "/products/7", Some(r#"{"unitsAvailable":9}"#)).await;
    assert_eq!(patched.json()["unitsAvailable"], 9);
    assert_eq!(http2.request("GET", "/products/7", None).await.json(), patched.json());
    let deleted = http2.request("DELETE", "/products/7", None).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str(), deleted.header("content-length")), (204, "", ""));
    assert_eq!(http2.request("GET", "/products/7", None).await.status, 404);
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let server = TestServer::embedded(&["--cores", "2", "--http2-max-streams", "10"]).await;
    let mut http2 = Http2::connect(server.address).await;
    // Answered after the server's settings, so that the client keeps to them.
    http2.request("GET", "/healthz", None).await;
    let mut responses = Vec::new();
    for id in 0..100 {
        let mut request = request("PUT", &format!("/products/{id}"));
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let response = http2.send(request, Some(product_json(id, 1).into())).await;
        responses.push(tokio::spawn(async { reply(patiently(response).await.unwrap()).await.version() }));
    }
    let mut versions = HashSet::new();
    for response in responses {
        versions.insert(response.await.unwrap());
    }
    assert_eq!(versions.len(), 100);
    assert_eq!(server.metric("rowcast_http2_connections").await, 1);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_or_not_it_says_so() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut told = request("PUT", "/products/1");
    told.headers_mut().insert("content-length", "1048577".parse().unwrap());
    told.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let (response, _stream) = http2.start(told, false).await;
    assert_eq!(patiently(response).await.unwrap().status(), 413);
    let mut untold = request("PUT", "/products/1");
    untold.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let response = http2.send(untold, Some(Bytes::from(vec![b' '; 2 * 1024 * 1024]))).await;
    let refused = reply(patiently(response).await.unwrap()).await;
    assert_eq!((refused.status.as_u16(), refused.header("content-type")), (413, "application/problem+json"));
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_large_body_comes_whole_through_small_windows() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).initial_window_size(1000);
    let mut http2 = Http2::with(server.address, &builder).await;
    let text = "x".repeat(300 * 1024);
    let product =
        json!({"productId": 1, "manufacturer": text, "pricePerUnit": "", "unitsAvailable": 0, "productName": text});
    assert_eq!(http2.request("PUT", "/products/1", Some(&product.to_string())).await.status, 201);
    assert_eq!(http2.request("GET", "/products/1", None).await.json()["productName"], text);
}

#[tokio::test]
async fn an_answer_that_is_not_read_holds_up_no_other() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let text = "x".repeat(300 * 1024);
    let product =
        json!({"productId": 1, "manufacturer": text, "pricePerUnit": "", "unitsAvailable": 0, "productName": text});
    let mut http2 = Http2::connect(server.address).await;
    http2.request("PUT", "/products/1", Some(&product.to_string())).await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        let response = http2.send(request("GET", "/products/1"), None).await;
        unread.push(patiently(response).await.unwrap());
    }
    assert_eq!(http2.request("GET", "/products/1", None).await.json(), {
        let mut stored = product.clone();
        stored["version"] = 1.into();
        stored
    });
    for response in unread {
        assert_eq!(reply(response).await.json()["manufacturer"], text);
    }
}

#[tokio::test]
async fn an_answer_that_is_never_taken_is_given_up_and_an_idle_connection_ended() {
    let server =
        TestServer::embedded(&["--cores", "1", "--write-timeout-seconds", "1", "--header-timeout-seconds", "1"]).await;
    let mut http2 = Http2::with(server.address, roomy().initial_window_size(0)).await;
    let response = patiently(http2.send(request("GET", "/"), None).await).await.expect("the head needs no window");
    let mut body = response.into_body();
    let error = patiently(body.data()).await.expect("the stream does not just end").expect_err("there is no window");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(server.metric("rowcast_refused_total{limit=\"write_timeout\"}").await, 1);
    drop(body);
    // A client that could still ask does not end the connection itself.
    let sender = http2.sender.clone();
    http2.ended().await.expect("the server says goodbye");
    drop(sender);
    assert_eq!(server.metric("rowcast_refused_total{limit=\"header_timeout\"}").await, 0, "it had its time");
}

#[tokio::test]
async fn a_body_that_does_not_come_holds_up_no_other() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut put = request("PUT", "/products/1");
    put.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let (response, mut stream) = http2.start(put, false).await;
    stream.send_data(Bytes::from_static(b"{"), false).unwrap();
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200);
    stream.send_reset(h2::Reason::CANCEL);
    assert!(patiently(response).await.is_err());
    assert_eq!(http2.request("GET", "/products/1", None).await.status, 404);
}

#[tokio::test]
async fn a_plain_connect_and_unknown_protocols_are_refused() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let (response, _send) = http2.connect_stream(extended_connect("/websocket", "connect-udp")).await;
    assert_eq!(reply(response).await.status, 501);
    let (response, _send) = http2.connect_stream(extended_connect("/products", "websocket")).await;
    assert_eq!(reply(response).await.status, 404);
    let tunnel = hyper::Request::builder().method("CONNECT").uri("localhost:80").body(()).unwrap();
    let response = http2.send(tunnel, None).await;
    assert_eq!(patiently(response).await.unwrap().status(), 404);
}
