//! `GET /products` where its rows are many and long: one document, made as its reader takes it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::auth::tokens::{bearer, guarded};
use crate::support::http2::{Http2, request};
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::{Http, TestServer, product_json};

/// A product with a name of so many bytes.
pub(crate) fn long_product(id: u64, bytes: usize) -> Value {
    json!({"productId": id, "manufacturer": "m\"\u{1}€", "pricePerUnit": "", "unitsAvailable": 0, "productName": "x".repeat(bytes)})
}

async fn fill(server: &TestServer, ids: std::ops::Range<u64>, bytes: usize) {
    let mut http = server.http().await;
    for id in ids {
        let put = http.request("PUT", &format!("/products/{id}"), Some(&long_product(id, bytes).to_string())).await;
        assert_eq!(put.status, 201);
    }
}

async fn a_long_list_comes_whole_and_in_order(server: TestServer) {
    fill(&server, 0..30, 40_000).await;
    fill(&server, 30..200, 10).await;
    fill(&server, 200..202, 300_000).await;
    let mut http2 = Http2::connect(server.address).await;
    for (limit, listed, next) in
        [(1000, 202, Value::Null), (202, 202, Value::Null), (201, 201, json!(200)), (29, 29, json!(28))]
    {
        let path = format!("/products?limit={limit}");
        for reply in [server.get(&path).await, http2.request("GET", &path, None).await] {
            let page = reply.json();
            assert_eq!(page["next"], next, "{limit}");
            let products = page["products"].as_array().unwrap();
            assert_eq!(products.len(), listed);
            for (id, product) in products.iter().enumerate() {
                let bytes = if id < 30 {
                    40_000
                } else if id < 200 {
                    10
                } else {
                    300_000
                };
                let mut wanted = long_product(id as u64, bytes);
                wanted["version"] = product["version"].clone();
                assert!(*product == wanted, "product {id}");
            }
        }
        let head = http2.request("HEAD", &path, None).await;
        assert_eq!((head.status.as_u16(), &*head.text), (200, ""));
        let mut http = server.http().await;
        for _ in 0..2 {
            let head = http.request("HEAD", &path, None).await;
            assert_eq!((head.status.as_u16(), &*head.text), (200, ""), "and the connection goes on");
        }
    }
}

mod embedded {
    #[tokio::test]
    async fn a_long_list_comes_whole_and_in_order() {
        super::a_long_list_comes_whole_and_in_order(super::TestServer::embedded(&["--cores", "1"]).await).await;
    }
}

mod postgres {
    #[tokio::test]
    async fn a_long_list_comes_whole_and_in_order() {
        let database = super::Cluster::shared().database().await;
        let server = super::TestServer::postgres(database.url(), &["--cores", "1"]).await;
        super::a_long_list_comes_whole_and_in_order(server).await;
    }
}

#[tokio::test]
async fn a_list_passes_over_what_may_not_be_read_and_over_nothing_else() {
    let (server, issuer) = guarded(&[]).await;
    let writer = bearer(&issuer.granting(json!({"write": true})));
    for id in [5, 6, 10, 12] {
        let headers = [("authorization", &*writer)];
        let put = server.request_with("PUT", &format!("/products/{id}"), &headers, Some(&product_json(id, 1))).await;
        assert!(put.status.is_success(), "{put:?}");
    }
    let list = async |read: Value, query: &str| {
        let reader = bearer(&issuer.granting(json!({"read": read})));
        let headers = [("authorization", &*reader)];
        let page = server.request_with("GET", &format!("/products{query}"), &headers, None).await.json();
        let ids = page["products"].as_array().unwrap().iter().map(|product| product["productId"].as_u64().unwrap());
        (ids.collect::<Vec<_>>(), page["next"].clone())
    };
    // Nothing is in the first range, and as much as was asked for of it begins the second.
    assert_eq!(list(json!(["1-2", "5-9"]), "").await, (vec![5, 6], Value::Null));
    assert_eq!(list(json!([1, 2, 3, 6, 12]), "").await, (vec![6, 12], Value::Null));
    assert_eq!(list(json!([1, 2, 3, 6, 12]), "?limit=1").await, (vec![6], json!(6)));
    assert_eq!(list(json!([5, "11-20"]), "?limit=2").await, (vec![5, 12], Value::Null));
    assert_eq!(list(json!(["13-20"]), "").await, (vec![], Value::Null));
    // Nothing is in the first range, and all that there is behind it was read with it.
    assert_eq!(list(json!(["7-9", 12]), "").await, (vec![12], Value::Null));
}

#[tokio::test]
async fn a_list_that_breaks_off_does_not_look_whole() {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "1"]).await;
    // More than the kernel keeps for a reader that does not read.
    fill(&server, 0..40, 900_000).await;
    let client = database.connect().await;

    let stream = patiently(TcpStream::connect(server.address)).await.unwrap();
    let (mut sender, connection) = handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let asking = Request::get("/products?limit=1000").header("host", "localhost").body(Full::default()).unwrap();
    let one = patiently(sender.send_request(asking)).await.unwrap();
    let mut http2 = Http2::connect(server.address).await;
    let response = http2.send(request("GET", "/products?limit=1000"), None).await;
    let two = patiently(response).await.unwrap();
    assert_eq!((one.status(), two.status()), (hyper::StatusCode::OK, hyper::StatusCode::OK));

    client.batch_execute("ALTER TABLE products RENAME TO gone").await.unwrap();
    assert!(patiently(one.into_body().collect()).await.is_err(), "no last chunk");
    let mut body = two.into_body();
    let reason = loop {
        match patiently(body.data()).await.expect("the stream does not just end") {
            Ok(data) => body.flow_control().release_capacity(data.len()).unwrap(),
            Err(error) => break error.reason(),
        }
    };
    assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR));
    client.batch_execute("ALTER TABLE gone RENAME TO products").await.unwrap();
    assert_eq!(Http::connect(server.address).await.request("GET", "/products/1", None).await.status, 200);
}
