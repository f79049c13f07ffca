//! `/tables`: the tables of either store, and their rows as they are.

use std::path::Path;

use http_body_util::Full;
use hyper::Request;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::auth::tokens::{bearer, everything, guarded};
use crate::process::Running;
use crate::support::http2::Http2;
use crate::support::postgres::Cluster;
use crate::support::server::{Http, Reply, TestServer, product_json};
use crate::support::socket::Socket;

const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

async fn embedded(options: &[&str]) -> TestServer {
    TestServer::embedded(&[&["--cores", "2"], options].concat()).await
}

async fn on_postgres() -> TestServer {
    TestServer::postgres(Cluster::shared().database().await.url(), &["--cores", "2"]).await
}

fn is_problem(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem = reply.json();
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().unwrap().contains(part), "{problem} does not say {part:?}");
}

fn etag(reply: &Reply) -> u64 {
    reply.header("etag").trim_matches('"').parse().unwrap()
}

/// The keys of a list, and its `next`.
async fn keys(server: &TestServer, path: &str) -> (Vec<Value>, Value) {
    let list = server.get(path).await;
    assert_eq!(list.status, 200, "{list:?}");
    let list = list.json();
    let keys = list["rows"].as_array().unwrap().iter().map(|row| row["key"].clone());
    (keys.collect(), list["next"].clone())
}

#[tokio::test]
async fn what_is_no_row_is_refused_and_nothing_changes() {
    let server = embedded(&[]).await;
    for (body, part) in [
        ("", "EOF"),
        ("nonsense", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{", "EOF"),
        ("{\"a\":1}{}", "trailing"),
        ("{\"a\":1,\"a\":2}", "\\\"a\\\" is there twice"),
        ("{\"a\":1e999}", "out of range"),
        ("{\"a\":\"\\ud800\"}", "line 1"),
        (&format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200)), "recursion limit"),
        (&"{\"a\":".repeat(100_000), "recursion limit"),
    ] {
        let part = part.replace("\\\"", "\"");
        for (method, path) in [("PUT", "/tables/orders/1"), ("POST", "/tables/orders?key=1")] {
            is_problem(&server.request(method, path, Some(body)).await, 400, &part);
        }
    }
    let mut http = Http::connect(server.address).await;
    for (method, path) in [("PUT", "/tables/orders/1"), ("PATCH", "/tables/products/1")] {
        let request = Request::builder().method(method).uri(path).header("content-type", "text/plain");
        is_problem(&http.send(request.body(Full::from("{}")).unwrap()).await, 415, "application/json");
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024));
        is_problem(&server.request(method, path, Some(&large)).await, 413, "1048576");
    }
    assert_eq!(server.get("/tables").await.json(), json!({"tables": [{"table": "products", "keys": "integer"}]}));
}

#[tokio::test]
async fn names_and_keys_that_cannot_be_are_refused() {
    let server = embedded(&[]).await;
    let long = "a".repeat(64);
    for name in ["1a", "a-b", "a%20b", "%C3%A9", "a%2Fb", "%22a%22", "", ".a", &long] {
        for (method, path) in [("PUT", format!("/tables/{name}/1")), ("POST", format!("/tables/{name}?key=1"))] {
            is_problem(&server.request(method, &path, Some("{}")).await, 400, "no table can be named");
        }
        for path in [format!("/tables/{name}"), format!("/tables/{name}/1")] {
            is_problem(&server.get(&path).await, 404, "unknown table");
        }
    }
    is_problem(&server.request("PUT", "/tables/%FF/1", Some("{}")).await, 400, "UTF-8");
    is_problem(&server.request("PUT", "/tables/orders/%FF", Some("{}")).await, 400, "UTF-8");
    for (key, part) in [("a".repeat(257), "256 bytes"), ("%C3%A9".repeat(129), "256 bytes"), ("a%00".into(), "U+0000")]
    {
        is_problem(&server.request("PUT", &format!("/tables/orders/{key}"), Some("{}")).await, 400, part);
        is_problem(&server.request("PUT", &format!("/tables/orders?key={key}"), Some("{}")).await, 400, part);
    }
    for (method, path, body) in [
        ("PUT", "/tables/orders", Some("{}")),
        ("PUT", "/tables/orders/", Some("{}")),
        ("PUT", "/tables/orders?key=1&key=2", Some("{}")),
        ("DELETE", "/tables/products", None),
        ("PATCH", "/tables/products?key=1&key=2", Some("{}")),
    ] {
        is_problem(&server.request(method, path, body).await, 400, "name one row");
    }
    is_problem(&server.request("POST", "/tables/orders?key=1&key=2", Some("{}")).await, 400, "name one key");
    is_problem(
        &server.request("PUT", "/tables/orders?key=1&limit=2", Some("{}")).await,
        400,
        "without after and limit",
    );
    for (body, part) in [
        ("{}", "missing field `key`"),
        (r#"{"key":1}"#, "missing field `row`"),
        (r#"{"key":1,"row":[]}"#, "a JSON object"),
        (r#"{"key":1,"row":{},"more":1}"#, "unknown field `more`"),
        (r#"{"key":null,"row":{}}"#, "an integer or a string"),
        (r#"{"key":1.5,"row":{}}"#, "an integer or a string"),
        (r#"{"key":-1,"row":{}}"#, "an integer from 0"),
        (r#"{"key":9007199254740992,"row":{}}"#, "an integer from 0"),
        (r#"{"key":18446744073709551615,"row":{}}"#, "an integer from 0"),
        (r#"{"key":"\u0000","row":{}}"#, "U+0000"),
        (r#"{"key":1,"row":{"a":1,"a":2}}"#, "twice"),
    ] {
        is_problem(&server.request("POST", "/tables/orders", Some(body)).await, 400, part);
    }
    assert_eq!(server.get("/tables").await.json()["tables"].as_array().unwrap().len(), 1);
    is_problem(&server.request("PUT", "/tables", Some("{}")).await, 405, "GET, HEAD, OPTIONS");
    is_problem(&server.request("POST", "/tables/orders/1", Some("{}")).await, 405, "PATCH");
    is_problem(&server.get("/tables/orders/1/2").await, 404, "nothing at");
}

#[tokio::test]
async fn a_row_lives_from_its_put_to_its_delete_and_is_cast() {
    let server = embedded(&[]).await;
    for (method, body) in [("GET", None), ("PATCH", Some("{}")), ("DELETE", None)] {
        is_problem(&server.request(method, "/tables/orders/17", body).await, 404, "unknown table \"orders\"");
    }
    is_problem(&server.get("/tables/orders").await, 404, "unknown table");
    let created =
        server.request("PUT", "/tables/orders/17", Some("{ \"total\": 12.50 , \"n\": 12345678901234567890 }\n")).await;
    assert_eq!((created.status.as_u16(), &*created.text), (201, r#"{"total":12.50,"n":12345678901234567890}"#));
    assert_eq!(created.header("content-type"), "application/json");
    let mut socket = Socket::connect(server.address).await;
    socket.send(r#"{"command":"subscribe","table":"orders","keys":[17],"id":1}"#).await;
    assert_eq!(socket.next().await["reply"], 1);
    let read = server.get("/tables/orders/17").await;
    assert_eq!((&read.text, read.header("etag")), (&created.text, created.header("etag")));
    assert_eq!(
        server.request("HEAD", "/tables/orders/17", None).await.header("content-length"),
        read.text.len().to_string()
    );
    let patched = server
        .request("PATCH", "/tables/orders/17", Some(r#"{"n":null,"lines":[{"sku":"a"}],"to":{"city":null}}"#))
        .await;
    assert_eq!((patched.status.as_u16(), &*patched.text), (200, r#"{"total":12.50,"lines":[{"sku":"a"}],"to":{}}"#));
    let put = server.request("PUT", "/tables/orders/17", Some("{}")).await;
    assert_eq!((put.status.as_u16(), &*put.text), (200, "{}"));
    is_problem(
        &server.request("POST", "/tables/orders", Some(r#"{"key":"17","row":{}}"#)).await,
        409,
        "row 17 of orders exists",
    );
    let deleted = server.request("DELETE", "/tables/orders/17", None).await;
    assert_eq!((deleted.status.as_u16(), &*deleted.text), (204, ""));
    is_problem(&server.get("/tables/orders/17").await, 404, "no row 17 of orders");
    let versions = [&created, &patched, &put, &deleted].map(etag);
    assert!(versions.is_sorted());
    let message = |action: &str, version: u64, row: Value| json!({"action": action, "version": version, "table": "orders", "key": 17, "row": row});
    assert_eq!(socket.next().await, message("UPDATE", versions[1], patched.json()));
    assert_eq!(socket.next().await, message("UPDATE", versions[2], json!({})));
    assert_eq!(socket.next().await, message("DELETE", versions[3], json!({})), "as it was");
}

#[tokio::test]
async fn every_key_can_be_named() {
    let server = embedded(&[]).await;
    let mut http2 = Http2::connect(server.address).await;
    let long = "k".repeat(256);
    let (upper, upper_uuid) = (UUID.to_uppercase(), json!(UUID));
    for (number, (segment, query, key)) in [
        ("0", "0", json!(0)),
        ("17", "17", json!(17)),
        ("9007199254740991", "9007199254740991", json!(9_007_199_254_740_991u64)),
        ("9007199254740992", "9007199254740992", json!("9007199254740992")),
        ("007", "007", json!("007")),
        ("-1", "-1", json!("-1")),
        (UUID, &upper, upper_uuid),
        ("a%2Fb", "a/b", json!("a/b")),
        ("a,b", "a,b", json!("a,b")),
        ("a+b", "a%2Bb", json!("a+b")),
        ("a%20b", "a+b", json!("a b")),
        ("%22%5C", "%22\\", json!("\"\\")),
        ("%C3%A9", "é", json!("é")),
        ("...", "...", json!("...")),
        (&long, &long, json!(long)),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/tables/all/{segment}");
        let row = format!(r#"{{"n":{number}}}"#);
        assert_eq!(server.request("PUT", &path, Some(&row)).await.status, 201, "{path}");
        let query = query.replace('é', "%C3%A9").replace('\\', "%5C");
        let by_query = server.get(&format!("/tables/all?key={query}")).await.json();
        assert_eq!(by_query["rows"][0]["key"], key, "{query}");
        assert_eq!(by_query["rows"][0]["row"]["n"], number);
        assert_eq!(http2.request("GET", &path, None).await.text, row);
        assert_eq!(server.request("DELETE", &format!("/tables/all?key={query}"), None).await.status, 204, "{query}");
        assert_eq!(server.get(&path).await.status, 404);
        // As it is written in JSON.
        let body = json!({"key": key, "row": {"n": number}}).to_string();
        let posted = server.request("POST", "/tables/all", Some(&body)).await;
        assert_eq!((posted.status.as_u16(), &posted.text), (201, &row));
        assert_eq!(server.get(posted.header("location")).await.text, row, "{}", posted.header("location"));
    }
    // What no path names.
    for (number, key) in ["", ".", ".."].into_iter().enumerate() {
        let path = format!("/tables/all?key={key}");
        let row = format!(r#"{{"n":{number}}}"#);
        let posted = server.request("POST", &path, Some(&row)).await;
        assert_eq!((posted.status.as_u16(), posted.header("location")), (201, &*path));
        assert_eq!(server.request("PUT", &path, Some(&row)).await.status, 200);
        assert_eq!(server.request("PATCH", &path, Some("{}")).await.text, row);
        // Posted, put and patched.
        let listed = json!({"key": key, "version": etag(&posted) + 2, "row": {"n": number}});
        assert_eq!(server.get(&path).await.json()["rows"][0], listed);
    }
    let asked = keys(&server, "/tables/all?key=..&key=nothing&key=17&key=.&key=17").await;
    assert_eq!(asked, (vec![json!(".."), json!(17), json!("."), json!(17)], Value::Null));
}

#[tokio::test]
async fn the_list_is_in_the_order_of_the_keys_and_paged() {
    let server = embedded(&[]).await;
    for key in ["b", "10", UUID, "9", "a"] {
        assert_eq!(server.request("PUT", &format!("/tables/t/{key}"), Some("{\"a\":1}")).await.status, 201);
    }
    let all = [json!(9), json!(10), json!(UUID), json!("a"), json!("b")];
    assert_eq!(keys(&server, "/tables/t").await, (all.to_vec(), Value::Null));
    assert_eq!(keys(&server, "/tables/t?limit=2").await, (all[..2].to_vec(), json!(10)));
    assert_eq!(keys(&server, "/tables/t?limit=2&after=10").await, (all[2..4].to_vec(), json!("a")));
    assert_eq!(keys(&server, "/tables/t?limit=2&after=a").await, (all[4..].to_vec(), Value::Null));
    assert_eq!(keys(&server, "/tables/t?after=zzz").await, (vec![], Value::Null));
    let first = &server.get("/tables/t?limit=1").await.text;
    assert_eq!(first, r#"{"rows":[{"key":9,"version":4,"row":{"a":1}}],"next":9}"#);
    for (query, part) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("offset=1", "key, after and limit"),
        ("key=1&limit=1", "without after and limit"),
        ("after=%00", "U+0000"),
    ] {
        is_problem(&server.get(&format!("/tables/t?{query}")).await, 400, part);
    }
    for key in ["9", "10", UUID, "a", "b"] {
        assert_eq!(server.request("DELETE", &format!("/tables/t/{key}"), None).await.status, 204);
    }
    assert_eq!(server.get("/tables/t").await.text, r#"{"rows":[],"next":null}"#);
}

#[tokio::test]
async fn a_long_list_and_a_long_row_come_whole() {
    let server = embedded(&[]).await;
    let text = |bytes: usize| format!(r#"{{"text":"{}","é":"\u0001"}}"#, "x".repeat(bytes));
    let sizes = [10, 1_000_000, 40_000, 70_000, 10, 16 * 1024, 300_000];
    for (key, bytes) in sizes.into_iter().enumerate() {
        let put = server.request("PUT", &format!("/tables/long/{key}"), Some(&text(bytes))).await;
        assert_eq!((put.status.as_u16(), put.text == text(bytes)), (201, true), "{bytes}");
        let read = server.get(&format!("/tables/long/{key}")).await;
        assert_eq!((read.text == text(bytes), read.header("content-length")), (true, &*text(bytes).len().to_string()));
    }
    for path in ["/tables/long", "/tables/long?key=0&key=1&key=2&key=3&key=4&key=5&key=6"] {
        let list = server.get(path).await.json();
        for (key, bytes) in sizes.into_iter().enumerate() {
            let row = &list["rows"][key];
            assert_eq!(
                (row["key"].as_u64(), row["row"].to_string().len()),
                (Some(key as u64), text(bytes).len()),
                "{path}"
            );
        }
        assert_eq!(list["next"], Value::Null);
    }
}

#[tokio::test]
async fn preconditions_are_those_of_products() {
    let server = embedded(&[]).await;
    let send = async |method, name, value: &str, body| {
        server.request_with(method, "/tables/t/a%22b", &[(name, value)], body).await
    };
    is_problem(&send("PUT", "if-match", "*", Some("{}")).await, 412, r#"row "a\"b" of t is not as"#);
    assert_eq!(server.get("/tables").await.json()["tables"].as_array().unwrap().len(), 1, "no row, no table");
    let first = send("PUT", "if-none-match", "*", Some("{}")).await;
    assert_eq!(first.status, 201);
    is_problem(&send("PUT", "if-none-match", "*", Some("{}")).await, 412, "read it again");
    let second = send("PATCH", "if-match", first.header("etag"), Some(r#"{"n":1}"#)).await;
    assert_eq!(second.status, 200);
    for method in ["PUT", "PATCH", "DELETE"] {
        let body = (method != "DELETE").then_some("{}");
        is_problem(&send(method, "if-match", first.header("etag"), body).await, 412, "read it again");
        is_problem(&send(method, "if-match", "x", body).await, 400, "if-match");
    }
    let unchanged = send("GET", "if-none-match", second.header("etag"), None).await;
    assert_eq!((unchanged.status.as_u16(), &*unchanged.text), (304, ""));
    assert_eq!(send("GET", "if-none-match", first.header("etag"), None).await.text, r#"{"n":1}"#);
    assert_eq!(send("DELETE", "if-match", second.header("etag"), None).await.status, 204);
}

#[tokio::test]
async fn there_are_no_more_tables_than_the_server_may_make() {
    let server = embedded(&["--max-tables", "3"]).await;
    for (name, status) in [("b", 201), ("a", 201), ("c", 409), ("a", 200)] {
        let put = server.request("PUT", &format!("/tables/{name}/1"), Some("{}")).await;
        if status == 409 {
            is_problem(&put, 409, "--max-tables");
        } else {
            assert_eq!(put.status, status, "{name}");
        }
    }
    let names = ["a", "b", "products"]
        .map(|table| json!({"table": table, "keys": if table == "products" { "integer" } else { "any" }}));
    assert_eq!(server.get("/tables").await.json(), json!({"tables": names}));
    is_problem(&server.get("/tables/c").await, 404, "unknown table");
}

#[tokio::test]
async fn a_patch_that_makes_a_row_too_long_is_refused() {
    let server = embedded(&["--max-body-bytes", "1024"]).await;
    let half = |name: &str| format!(r#"{{"{name}":"{}"}}"#, "x".repeat(600));
    assert_eq!(server.request("PUT", "/tables/t/1", Some(&half("a"))).await.status, 201);
    is_problem(&server.request("PATCH", "/tables/t/1", Some(&half("b"))).await, 413, "more than 1024 bytes");
    assert_eq!(server.get("/tables/t/1").await.text, half("a"));
    assert_eq!(server.request("PATCH", "/tables/t/1", Some(&half("a"))).await.status, 200);
}

async fn put_one(address: std::net::SocketAddr, path: &str, body: &str) -> Reply {
    Http::connect(address).await.request("PUT", path, Some(body)).await
}

#[tokio::test]
async fn tables_are_there_before_the_first_socket_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..3 {
        let mut server = Running::start(dir.path(), &["--cores", "1"]).await;
        server.ignore_log();
        if round > 0 {
            let mut http = Http::connect(server.address).await;
            let tables = http.request("GET", "/tables", None).await.json();
            let names: Vec<_> =
                tables["tables"].as_array().unwrap().iter().map(|table| table["table"].clone()).collect();
            assert_eq!(names, [json!("a"), json!("products"), json!("z")]);
            assert_eq!(http.request("GET", "/tables/a/k", None).await.text, format!(r#"{{"round":{}}}"#, round - 1));
            let mut socket = Socket::connect(server.address).await;
            socket.send(r#"{"command":"subscribe","table":"a","keys":["k"],"snapshot":true,"id":1}"#).await;
            let messages = [socket.next().await, socket.next().await, socket.next().await];
            let snapshot = messages.iter().find(|message| message["action"] == "SNAPSHOT").expect("a snapshot");
            let row = json!({"round": round - 1});
            assert_eq!(*snapshot, json!({"action": "SNAPSHOT", "version": last, "table": "a", "key": "k", "row": row}));
        }
        put_one(server.address, "/tables/z/1", "{}").await;
        last = etag(&put_one(server.address, "/tables/a/k", &format!(r#"{{"round":{round}}}"#)).await);
        server.kill(if round == 0 { Signal::KILL } else { Signal::TERM });
        assert_eq!(server.child.wait().await.unwrap().success(), round > 0);
    }
}

/// The data file that version 0.1.0 wrote, as the store's own tests describe it.
fn write_file_of_0_1_0(dir: &Path) {
    let mut bytes = Vec::new();
    for line in include_str!("../src/store/embedded/tests/0.1.0.txt").lines() {
        let (count, digits) = line.split_once(' ').unwrap();
        let mut word = [0; 16];
        for (place, byte) in word.iter_mut().enumerate().take(digits.len() / 2) {
            *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).unwrap();
        }
        bytes.extend(std::iter::repeat_n(word, count.parse().unwrap()).flatten());
    }
    std::fs::write(dir.join("products.redb"), bytes).unwrap();
}

#[tokio::test]
async fn a_file_of_0_1_0_answers_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    write_file_of_0_1_0(dir.path());
    let mut server = Running::start(dir.path(), &["--cores", "1"]).await;
    server.ignore_log();
    let mut http = Http::connect(server.address).await;
    let list = http.request("GET", "/products", None).await;
    assert_eq!(list.text, include_str!("rows/0.1.0.json"), "byte for byte what 0.1.0 listed");
    let put = http.request("PUT", "/products/7", Some(&product_json(7, 1))).await;
    assert_eq!((put.status.as_u16(), put.version()), (201, 16), "after the version of its delete");
}

/// `/tables/products` and `/products` are the same rows.
async fn products_are_a_table_like_any_other(server: TestServer) {
    let bare = |units: i64| product_json(7, units);
    is_problem(&server.get("/tables/products/7").await, 404, "no product 7");
    let posted = server.request("POST", "/tables/products", Some(&bare(1))).await;
    assert_eq!(
        (posted.status.as_u16(), posted.header("location"), &posted.text),
        (201, "/tables/products/7", &bare(1))
    );
    is_problem(&server.request("POST", "/tables/products?key=7", Some(&bare(1))).await, 409, "PUT /products/7");
    let one = server.get("/products/7").await;
    assert_eq!(one.text, bare(1).replace('}', &format!(",\"version\":{}}}", etag(&posted))));
    assert_eq!(server.get("/tables/products/7").await.text, bare(1));
    // What was read in either form can be written.
    let put = server.request("PUT", "/tables/products/7", Some(&one.text)).await;
    assert_eq!((put.status.as_u16(), &put.text), (200, &bare(1)));
    let patched = server.request("PATCH", "/tables/products/7", Some(r#"{"unitsAvailable":2}"#)).await;
    assert_eq!((patched.status.as_u16(), &patched.text), (200, &bare(2)));
    let listed = server.get("/tables/products?key=7&key=8").await;
    assert_eq!(
        listed.text,
        format!(r#"{{"rows":[{{"key":7,"version":{},"row":{}}}],"next":null}}"#, etag(&patched), bare(2))
    );
    assert_eq!(server.get("/tables/products").await.text, listed.text);
    for (method, path, body, part) in [
        ("PUT", "/tables/products/7", "{}", "missing field"),
        ("PUT", "/tables/products/8", &*bare(1), "the body product 7"),
        ("PATCH", "/tables/products/7", r#"{"colour":1}"#, "unknown field"),
        ("PATCH", "/tables/products/7", r#"{"productName":null}"#, "null"),
        ("POST", "/tables/products", "{}", "missing field"),
        ("PUT", "/tables/products/a", "{}", "an integer from 0 to"),
        ("PUT", "/tables/products/-1", "{}", "an integer from 0 to"),
        ("PUT", "/tables/products/9007199254740992", "{}", "an integer from 0 to"),
    ] {
        is_problem(&server.request(method, path, Some(body)).await, 400, part);
    }
    let condition = [("if-match", put.header("etag"))];
    is_problem(&server.request_with("DELETE", "/tables/products/7", &condition, None).await, 412, "product 7");
    assert_eq!(server.request("DELETE", "/tables/products/7", None).await.status, 204);
    assert_eq!(server.get("/products/7").await.status, 404);
    assert_eq!(server.get("/tables").await.json(), json!({"tables": [{"table": "products", "keys": "integer"}]}));
}

mod embedded_store {
    #[tokio::test]
    async fn products_are_a_table_like_any_other() {
        super::products_are_a_table_like_any_other(super::embedded(&[]).await).await;
    }
}

mod postgres {
    #[tokio::test]
    async fn products_are_a_table_like_any_other() {
        super::products_are_a_table_like_any_other(super::on_postgres().await).await;
    }

    #[tokio::test]
    async fn another_table_is_not_made() {
        let server = super::on_postgres().await;
        for (method, path, body) in [
            ("GET", "/tables/orders", None),
            ("GET", "/tables/orders/1", None),
            ("PUT", "/tables/orders/1", Some("{}")),
            ("POST", "/tables/orders", Some("{}")),
            ("PATCH", "/tables/orders/1", Some("{}")),
            ("DELETE", "/tables/orders/1", None),
        ] {
            super::is_problem(&server.request(method, path, body).await, 404, "unknown table \"orders\"");
        }
    }
}

#[tokio::test]
async fn rights_are_by_table() {
    let (server, issuer) = guarded(&[]).await;
    let token = |rights: Value| bearer(&issuer.granting(rights));
    let writer = token(json!({"tables": {"orders": {"write": true}, "notes": {"read": "*", "write": true}}}));
    let ask = async |token: &str, method: &str, path: &str, body: Option<&str>| {
        server.request_with(method, path, &[("authorization", token)], body).await
    };
    for key in ["1", "2", "3", "150", "a-9", "b", UUID] {
        assert_eq!(ask(&writer, "PUT", &format!("/tables/orders/{key}"), Some("{\"a\":1}")).await.status, 201);
    }
    assert_eq!(ask(&writer, "PUT", "/tables/notes/1", Some("{}")).await.status, 201);
    assert_eq!(ask(&writer, "PATCH", "/tables/orders/1", Some("{}")).await.status, 204, "the rest is for readers");
    is_problem(&ask(&writer, "GET", "/tables/orders/1", None).await, 403, "row 1 of orders");
    assert_eq!(ask(&writer, "GET", "/tables/orders", None).await.text, r#"{"rows":[],"next":null}"#);
    for (method, path, body) in [
        ("GET", "/tables/others", None),
        ("GET", "/tables/others/1", None),
        ("PUT", "/tables/others/1", Some("{}")),
        ("DELETE", "/tables/others/1", None),
    ] {
        is_problem(&ask(&writer, method, path, body).await, 403, "\"others\"");
    }
    is_problem(&ask(&writer, "PUT", "/tables/products/1", Some(&product_json(1, 1))).await, 403, "write");
    let listed = |reply: &Reply| {
        reply.json()["rows"].as_array().unwrap().iter().map(|row| row["key"].clone()).collect::<Vec<_>>()
    };
    let reader = token(json!({"read": [1], "tables": {"orders": {"read": [2, "100-199", "a-9", UUID, "c"]}}}));
    let all = [json!(2), json!(150), json!(UUID), json!("a-9")];
    assert_eq!(listed(&ask(&reader, "GET", "/tables/orders", None).await), all);
    for (limit, rows, next) in
        [(1, &all[..1], json!(2)), (2, &all[..2], json!(150)), (3, &all[..3], json!(UUID)), (4, &all[..], Value::Null)]
    {
        let page = ask(&reader, "GET", &format!("/tables/orders?limit={limit}"), None).await;
        assert_eq!(listed(&page), rows, "{limit}");
        if next != Value::Null {
            assert_eq!(page.json()["next"], next);
            let rest =
                ask(&reader, "GET", &format!("/tables/orders?after={}", next.to_string().trim_matches('"')), None)
                    .await;
            assert_eq!(listed(&rest), all[limit..], "{limit}");
        }
    }
    is_problem(&ask(&reader, "GET", "/tables/orders?key=2&key=3", None).await, 403, "row 3 of orders");
    is_problem(&ask(&reader, "PUT", "/tables/orders/2", Some("{}")).await, 403, "write");
    let names = |reply: &Reply| {
        reply.json()["tables"].as_array().unwrap().iter().map(|table| table["table"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&ask(&reader, "GET", "/tables", None).await), [json!("orders"), json!("products")]);
    assert_eq!(names(&ask(&writer, "GET", "/tables", None).await), [json!("notes")]);
    assert_eq!(names(&ask(&token(everything()), "GET", "/tables", None).await), [json!("products")]);
    assert_eq!(server.get("/tables").await.status, 401);
}
