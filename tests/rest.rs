//! The REST resource: the same tests on both stores.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};

use crate::support::server::{Http, Reply, TestServer, product_json};
use crate::support::socket::Socket;

/// Runs each test on the embedded store and on Postgres.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $name() {
                super::$name(crate::support::server::TestServer::embedded(&["--cores", "2"]).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() {
                let database = crate::support::postgres::Cluster::shared().database().await;
                super::$name(crate::support::server::TestServer::postgres(database.url(), &["--cores", "2"]).await).await;
            })*
        }
    };
}

on_both_stores!(
    a_product_lives_from_post_to_delete,
    what_exists_is_not_created_again,
    put_replaces_or_creates,
    patch_changes_what_it_names,
    every_write_is_cast_with_the_version_that_it_answered,
    the_list_is_ordered_and_paged,
    a_body_that_is_no_product_is_refused_and_nothing_changes,
    what_is_asked_wrongly_is_told_what_is_right,
    large_and_strange_texts_come_back_as_they_went,
    many_writers_of_one_product_get_versions_of_their_own,
    a_write_whose_precondition_fails_writes_nothing,
    a_precondition_of_a_product_that_is_not_there,
    a_precondition_that_cannot_be_read_is_refused_and_nothing_changes,
    what_a_reader_has_already_is_not_sent_again,
    no_update_is_lost_among_writers_that_compare,
    one_of_many_that_create_wins,
);

fn stored(id: u64, units: i64, version: u64) -> Value {
    let mut product: Value = serde_json::from_str(&product_json(id, units)).unwrap();
    product["version"] = version.into();
    product
}

fn is_problem(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem = reply.json();
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().unwrap().contains(part), "{problem} does not say {part:?}");
}

async fn a_product_lives_from_post_to_delete(server: TestServer) {
    is_problem(&server.get("/products/7").await, 404, "no product 7");
    let created = server.request("POST", "/products", Some(&product_json(7, 1))).await;
    assert_eq!((created.status.as_u16(), created.header("location")), (201, "/products/7"));
    let version = created.version();
    assert_eq!(created.json(), stored(7, 1, version));
    assert_eq!(created.header("etag"), format!("\"{version}\""));
    let read = server.get("/products/7").await;
    assert_eq!((read.status.as_u16(), read.json()), (200, stored(7, 1, version)));
    assert_eq!(read.header("etag"), created.header("etag"));
    let head = server.request("HEAD", "/products/7", None).await;
    assert_eq!((head.status.as_u16(), head.text.as_str(), head.header("etag")), (200, "", read.header("etag")));
    let deleted = server.request("DELETE", "/products/7", None).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    let delete_version: u64 = deleted.header("etag").trim_matches('"').parse().unwrap();
    assert!(delete_version > version);
    is_problem(&server.get("/products/7").await, 404, "no product 7");
    is_problem(&server.request("DELETE", "/products/7", None).await, 404, "no product 7");
    let again = server.request("POST", "/products", Some(&product_json(7, 2))).await;
    assert!(again.version() > delete_version);
}

async fn what_exists_is_not_created_again(server: TestServer) {
    server.request("POST", "/products", Some(&product_json(1, 1))).await;
    is_problem(&server.request("POST", "/products", Some(&product_json(1, 2))).await, 409, "PUT /products/1");
    assert_eq!(server.get("/products/1").await.json()["unitsAvailable"], 1);
}

async fn put_replaces_or_creates(server: TestServer) {
    let created = server.request("PUT", "/products/3", Some(&product_json(3, 1))).await;
    assert_eq!(created.status, 201);
    let replaced = server.request("PUT", "/products/3", Some(&product_json(3, -2))).await;
    assert_eq!((replaced.status.as_u16(), replaced.json()), (200, stored(3, -2, replaced.version())));
    assert!(replaced.version() > created.version());
    let with_version = server.get("/products/3").await.text;
    assert_eq!(server.request("PUT", "/products/3", Some(&with_version)).await.status, 200, "what was read can be put");
    let without_id = r#"{"manufacturer":"a","pricePerUnit":"b","unitsAvailable":0,"productName":"c"}"#;
    assert_eq!(server.request("PUT", "/products/0", Some(without_id)).await.json()["productId"], 0);
    is_problem(&server.request("PUT", "/products/4", Some(&product_json(3, 1))).await, 400, "the body product 3");
    assert_eq!(server.get("/products/4").await.status, 404);
}

async fn patch_changes_what_it_names(server: TestServer) {
    is_problem(&server.request("PATCH", "/products/1", Some("{}")).await, 404, "no product 1");
    server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    let patched = server.request("PATCH", "/products/1", Some(r#"{"unitsAvailable":-9223372036854775808}"#)).await;
    assert_eq!((patched.status.as_u16(), patched.json()), (200, stored(1, i64::MIN, patched.version())));
    let patched = server.request("PATCH", "/products/1", Some(r#"{"productName":"n","pricePerUnit":""}"#)).await;
    let product = patched.json();
    assert_eq!((&product["productName"], &product["pricePerUnit"]), (&json!("n"), &json!("")));
    assert_eq!(server.get("/products/1").await.json(), product);
    for (body, part) in [
        (r#"{"productName":null}"#, "null"),
        (r#"{"name":"x"}"#, "unknown field"),
        (r#"{"productId":2}"#, "the body product 2"),
        (r#"{"unitsAvailable":1.5}"#, "1.5"),
        (r#"{"unitsAvailable":9223372036854775808}"#, "9223372036854775808"),
        (r#"{"manufacturer":"\u0000"}"#, "U+0000"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("null", "not a JSON object"),
    ] {
        is_problem(&server.request("PATCH", "/products/1", Some(body)).await, 400, part);
    }
    assert_eq!(server.get("/products/1").await.json(), product, "nothing changed");
    let merge_patch =
        Request::patch("/products/1").header("content-type", "application/merge-patch+json; charset=utf-8");
    let request = merge_patch.body(Full::from(r#"{"productId":1}"#)).unwrap();
    assert_eq!(Http::connect(server.address).await.send(request).await.status, 200);
}

async fn every_write_is_cast_with_the_version_that_it_answered(server: TestServer) {
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([5]).await;
    let posted = server.request("POST", "/products", Some(&product_json(5, 1))).await.version();
    let put = server.request("PUT", "/products/5", Some(&product_json(5, 2))).await.version();
    let patched = server.request("PATCH", "/products/5", Some(r#"{"unitsAvailable":3}"#)).await.version();
    let deleted = server.request("DELETE", "/products/5", None).await;
    let deleted: u64 = deleted.header("etag").trim_matches('"').parse().unwrap();
    let created = server.request("PUT", "/products/5", Some(&product_json(5, 4))).await.version();
    let expected = [
        ("INSERT", posted, 1),
        ("UPDATE", put, 2),
        ("UPDATE", patched, 3),
        ("DELETE", deleted, 3),
        ("INSERT", created, 4),
    ];
    for (action, version, units) in expected {
        let product: Value = serde_json::from_str(&product_json(5, units)).unwrap();
        assert_eq!(socket.next().await, json!({"action": action, "version": version, "product": product}));
    }
    assert!(posted < put && put < patched && patched < deleted && deleted < created);
}

async fn the_list_is_ordered_and_paged(server: TestServer) {
    assert_eq!(server.get("/products").await.json(), json!({"products": [], "next": null}));
    for id in [9_007_199_254_740_991, 4, 2, 8] {
        assert_eq!(server.request("POST", "/products", Some(&product_json(id, 0))).await.status, 201);
    }
    let page = async |path: &str| {
        let page = server.get(path).await.json();
        let ids = page["products"].as_array().unwrap().iter().map(|product| product["productId"].as_u64().unwrap());
        (ids.collect::<Vec<_>>(), page["next"].as_u64())
    };
    assert_eq!(page("/products?limit=2").await, (vec![2, 4], Some(4)));
    assert_eq!(page("/products?limit=2&after=4").await, (vec![8, 9_007_199_254_740_991], None));
    assert_eq!(page("/products?after=9007199254740991").await, (vec![], None));
    assert_eq!(page("/products").await.0.len(), 4);
    for path in ["/products?limit=0", "/products?limit=1001", "/products?after=x", "/products?offset=1"] {
        is_problem(&server.get(path).await, 400, "");
    }
}

async fn a_body_that_is_no_product_is_refused_and_nothing_changes(server: TestServer) {
    let whole = product_json(1, 1);
    for (body, part) in [
        (String::new(), "EOF"),
        ("nonsense".into(), "not a JSON object"),
        ("{nonsense".into(), "line 1"),
        (whole.replace("\"unitsAvailable\":1,", ""), "missing field `unitsAvailable`"),
        (whole.replace("\"unitsAvailable\":1", "\"unitsAvailable\":\"1\""), "invalid type"),
        (whole.replace("\"unitsAvailable\":1", "\"unitsAvailable\":1e3"), "invalid type"),
        (whole.replace("\"productId\":1", "\"productId\":9007199254740992"), "greatest product id"),
        (whole.replace("\"productId\":1", "\"productId\":-1"), "-1"),
        (whole.replace("\"productId\":1,", ""), "no productId"),
        (whole.replace('}', ",\"colour\":\"red\"}"), "unknown field `colour`"),
        (whole.replace("Name 1", "\\u0000"), "U+0000"),
        (whole.replace("Name 1", "\\ud800"), "surrogate"),
        (format!("{whole}{whole}"), "trailing"),
        (format!("[{whole}]"), "not a JSON object"),
        (r#"[1,"a","b",1,"c"]"#.into(), "not a JSON object"),
    ] {
        let reply = server.request("POST", "/products", Some(&body)).await;
        is_problem(&reply, 400, if part == "surrogate" { "" } else { part });
    }
    let mut broken = whole.clone().into_bytes();
    let name = whole.find("Name").unwrap();
    broken[name] = 0xFF;
    let request =
        Request::post("/products").header("content-type", "application/json").body(Full::from(broken)).unwrap();
    is_problem(&Http::connect(server.address).await.send(request).await, 400, "");
    assert_eq!(server.get("/products").await.json()["products"], json!([]));
}

async fn what_is_asked_wrongly_is_told_what_is_right(server: TestServer) {
    for (method, path, status, part) in [
        ("GET", "/nothing", 404, "/products"),
        ("GET", "/products/", 400, "a product id is"),
        ("GET", "/products/x", 400, "a product id is"),
        ("GET", "/products/-1", 400, "a product id is"),
        ("GET", "/products/9007199254740992", 400, "9007199254740991"),
        ("GET", "/products/1/2", 404, "nothing at"),
        ("PUT", "/products", 405, "GET, HEAD, POST, OPTIONS"),
        ("POST", "/products/1", 405, "PATCH"),
        ("POST", "/healthz", 405, "GET"),
        ("DELETE", "/", 405, "GET"),
        ("GET", "/assets/secret", 404, "nothing at"),
        ("GET", "/assets/../Cargo.toml", 404, "nothing at"),
    ] {
        is_problem(&server.request(method, path, None).await, status, part);
    }
    assert_eq!(server.request("PUT", "/products", None).await.header("allow"), "GET, HEAD, POST, OPTIONS");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::post("/products").header("content-type", content_type);
        let request = request.body(Full::from(product_json(1, 1))).unwrap();
        is_problem(&Http::connect(server.address).await.send(request).await, 415, "application/json");
    }
    let large = Bytes::from(vec![b' '; 1024 * 1024 + 1]);
    let request = Request::post("/products").header("content-type", "application/json").body(Full::new(large)).unwrap();
    is_problem(&Http::connect(server.address).await.send(request).await, 413, "1048576");
    assert_eq!(server.get("/products/1").await.status, 404);
}

async fn large_and_strange_texts_come_back_as_they_went(server: TestServer) {
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1]).await;
    let strange = "\"\\/\u{1}\u{8}\t\n\r\u{1f}\u{7f}\u{2028}é€😀'%s$1{}";
    for text in [String::new(), strange.to_owned(), "x".repeat(100 * 1024), strange.repeat(3000)] {
        let product =
            json!({"productId": 1, "manufacturer": text, "pricePerUnit": "", "unitsAvailable": 0, "productName": text});
        let put = server.request("PUT", "/products/1", Some(&product.to_string())).await;
        assert!(put.status.is_success(), "{}", put.status);
        let read = server.get("/products/1").await;
        assert_eq!(read.json()["manufacturer"], text);
        for whole in [&put, &read] {
            assert_eq!(whole.header("content-length"), whole.text.len().to_string(), "of {} bytes", text.len());
        }
        let change = socket.next().await;
        assert_eq!((&change["product"], change["version"].as_u64()), (&product, Some(put.version())));
    }
}

async fn many_writers_of_one_product_get_versions_of_their_own(server: TestServer) {
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1]).await;
    let writers = (0..8).map(|writer| {
        let address = server.address;
        tokio::spawn(async move {
            let mut http = Http::connect(address).await;
            let mut versions = Vec::new();
            for _ in 0..20 {
                versions.push(http.request("PUT", "/products/1", Some(&product_json(1, writer))).await.version());
            }
            versions
        })
    });
    let mut answered = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        answered.extend(writer.await.unwrap());
    }
    answered.sort_unstable();
    let mut cast = Vec::new();
    for _ in 0..answered.len() {
        let change = socket.next().await;
        cast.push(change["version"].as_u64().unwrap_or_else(|| panic!("{change} after {cast:?} of {answered:?}")));
    }
    assert_eq!(cast, answered, "every change once, versions growing");
}

/// Sends a write of product 1 with one header more.
async fn write_if(server: &TestServer, method: &str, name: &str, value: &str) -> Reply {
    let (path, body) = match method {
        "POST" => ("/products", product_json(1, 9)),
        "PATCH" => ("/products/1", r#"{"unitsAvailable":9}"#.to_owned()),
        _ => ("/products/1", product_json(1, 9)),
    };
    let body = (method != "DELETE").then_some(body);
    server.request_with(method, path, &[(name, value)], body.as_deref()).await
}

const WRITES: [&str; 4] = ["PUT", "PATCH", "POST", "DELETE"];

async fn a_write_whose_precondition_fails_writes_nothing(server: TestServer) {
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1]).await;
    let older = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    let newest = server.request("PUT", "/products/1", Some(&product_json(1, 2))).await;
    let (old, new) = (older.header("etag"), newest.header("etag"));
    for written in [&older, &newest] {
        assert_eq!(socket.next().await["version"], written.version());
    }
    let (both, weak) = (format!("{old}, {new}"), format!("W/{new}"));
    for method in WRITES {
        for (name, value) in [
            ("if-match", old),
            ("if-match", &weak),
            ("if-match", "\"0\", \"abc\", \"18446744073709551615\""),
            ("if-none-match", "*"),
            ("if-none-match", new),
            ("if-none-match", &weak),
            ("if-none-match", &both),
        ] {
            is_problem(&write_if(&server, method, name, value).await, 412, "product 1");
        }
    }
    let never = [("if-match", "*"), ("if-none-match", "*")];
    is_problem(&server.request_with("PUT", "/products/1", &never, Some(&product_json(1, 9))).await, 412, "product 1");
    assert_eq!(server.get("/products/1").await.json(), stored(1, 2, newest.version()));
    for (name, value) in [("if-match", &*both), ("if-match", "*"), ("if-none-match", old)] {
        is_problem(&write_if(&server, "POST", name, value).await, 409, "product 1 exists");
    }

    let mut etag = both;
    for (method, name, value) in [
        ("PUT", "if-match", None),
        ("PATCH", "if-match", None),
        ("PUT", "if-match", Some("*")),
        ("PATCH", "if-none-match", Some(old)),
        ("PUT", "if-none-match", Some(old)),
        ("DELETE", "if-match", None),
    ] {
        let written = write_if(&server, method, name, value.unwrap_or(&etag)).await;
        assert_eq!(written.status, if method == "DELETE" { 204 } else { 200 }, "{method} {name}");
        etag = written.header("etag").to_owned();
        let change = socket.next().await;
        assert_eq!(format!("\"{}\"", change["version"]), etag, "nothing else is cast");
    }
}

async fn a_precondition_of_a_product_that_is_not_there(server: TestServer) {
    for method in WRITES {
        for value in ["*", "\"1\""] {
            let reply = write_if(&server, method, "if-match", value).await;
            // A product that is not there is 404 with a precondition as without.
            let status = if matches!(method, "PUT" | "POST") { 412 } else { 404 };
            is_problem(&reply, status, "product 1");
        }
    }
    assert_eq!(server.get("/products").await.json()["products"], json!([]));
    for method in ["PUT", "POST"] {
        for value in ["*", "\"1\", W/\"2\""] {
            assert_eq!(write_if(&server, method, "if-none-match", value).await.status, 201, "{method}: {value}");
            assert_eq!(server.request("DELETE", "/products/1", None).await.status, 204);
        }
    }
}

async fn a_precondition_that_cannot_be_read_is_refused_and_nothing_changes(server: TestServer) {
    let version = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    for name in ["if-match", "if-none-match"] {
        for value in ["1", "", "\"1", "*, \"1\"", "\"1\" \"2\""] {
            for method in ["PUT", "PATCH", "POST", "DELETE", "GET"] {
                let path = if method == "POST" { "/products" } else { "/products/1" };
                let body = (!matches!(method, "DELETE" | "GET")).then_some(if method == "PATCH" {
                    "{}".to_owned()
                } else {
                    product_json(1, 9)
                });
                let reply = server.request_with(method, path, &[(name, value)], body.as_deref()).await;
                is_problem(&reply, 400, name);
            }
        }
    }
    assert_eq!(server.get("/products/1").await.json(), stored(1, 1, version));
}

async fn what_a_reader_has_already_is_not_sent_again(server: TestServer) {
    let older = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    let newest = server.request("PUT", "/products/1", Some(&product_json(1, 2))).await;
    let (old, new) = (older.header("etag"), newest.header("etag"));
    let weak = format!("{old}, W/{new}");
    for method in ["GET", "HEAD"] {
        for (name, value, status) in [
            ("if-none-match", new, 304),
            ("if-none-match", &weak, 304),
            ("if-none-match", "*", 304),
            ("if-none-match", old, 200),
            ("if-match", new, 200),
            ("if-match", "*", 200),
            ("if-match", old, 412),
        ] {
            let reply = server.request_with(method, "/products/1", &[(name, value)], None).await;
            assert_eq!(reply.status, status, "{method} {name}: {value}");
            if status == 304 {
                assert_eq!((reply.text.as_str(), reply.header("etag")), ("", new));
            }
            assert_eq!(server.request_with(method, "/products/2", &[(name, value)], None).await.status, 404);
        }
        let both = [("if-match", old), ("if-none-match", new)];
        assert_eq!(server.request_with(method, "/products/1", &both, None).await.status, 412, "If-Match comes first");
    }
}

async fn no_update_is_lost_among_writers_that_compare(server: TestServer) {
    const WRITERS: i64 = 6;
    const UNITS: i64 = 15;
    server.request("PUT", "/products/1", Some(&product_json(1, 0))).await;
    let writers = (0..WRITERS).map(|writer| {
        let address = server.address;
        tokio::spawn(async move {
            let mut http = Http::connect(address).await;
            for _ in 0..UNITS {
                loop {
                    let read = http.request("GET", "/products/1", None).await;
                    let units = read.json()["unitsAvailable"].as_i64().unwrap() + 1;
                    let (method, body) = match writer % 2 {
                        0 => ("PUT", product_json(1, units)),
                        _ => ("PATCH", format!(r#"{{"unitsAvailable":{units}}}"#)),
                    };
                    let condition = [("if-match", read.header("etag"))];
                    let reply = http.request_with(method, "/products/1", &condition, Some(&body)).await;
                    match reply.status.as_u16() {
                        200 => break,
                        412 => {}
                        _ => panic!("{reply:?}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(server.get("/products/1").await.json()["unitsAvailable"], WRITERS * UNITS);
}

async fn one_of_many_that_create_wins(server: TestServer) {
    for round in 0..10 {
        let (method, path, condition) = match round % 2 {
            0 => ("PUT", format!("/products/{round}"), "*"),
            _ => ("POST", "/products".to_owned(), "\"1\""),
        };
        let writers = (0..8).map(|writer| {
            let (address, path) = (server.address, path.clone());
            tokio::spawn(async move {
                let mut http = Http::connect(address).await;
                let body = product_json(round, writer);
                let reply = http.request_with(method, &path, &[("if-none-match", condition)], Some(&body)).await;
                (reply.status.as_u16(), writer)
            })
        });
        let mut created = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                (201, writer) => created.push(writer),
                (status, _) => assert_eq!(status, if method == "PUT" { 412 } else { 409 }),
            }
        }
        assert_eq!(created.len(), 1, "round {round}");
        assert_eq!(server.get(&format!("/products/{round}")).await.json()["unitsAvailable"], created[0]);
    }
}
