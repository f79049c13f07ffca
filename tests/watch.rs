//! `rowcast watch`: shows what is and what comes, goes on when its server was away, and says what it needs.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::process::{Running, ended, rowcast};
use crate::support::patiently;
use crate::support::postgres::free_port;
use crate::support::server::{TestServer, product_json};
use crate::support::tls::{Certificate, text};

/// A watcher that writes lines of JSON.
struct Watcher {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Watcher {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        Self { lines: BufReader::new(child.stdout.take().unwrap()).lines(), _child: child }
    }

    async fn next(&mut self) -> Value {
        let line = patiently(self.lines.next_line()).await.unwrap().expect("it goes on");
        serde_json::from_str(&line).unwrap()
    }

    /// Reads until it says that it shows the present state; returns the products that it named until then.
    async fn until_live(&mut self) -> Vec<u64> {
        let mut named = Vec::new();
        loop {
            let line = self.next().await;
            if line["live"] == true {
                return named;
            }
            named.extend(line["product"]["productId"].as_u64());
        }
    }

    /// Reads until it says that it shows the present state; returns what it said until then.
    async fn said_until_live(&mut self) -> Vec<Value> {
        let mut said = Vec::new();
        loop {
            let line = self.next().await;
            if line["live"] == true {
                return said;
            }
            said.push(line);
        }
    }
}

#[tokio::test]
async fn it_shows_the_products_as_they_are_and_ends() {
    let server = TestServer::embedded(&[]).await;
    for id in [1, 2] {
        server.request("PUT", &format!("/products/{id}"), Some(&product_json(id, 5))).await;
    }
    let url = format!("http://{}/", server.address);
    let (code, out, error) = ended(&mut rowcast(&["watch", "2", "1", "7", "--once", "--url", &url])).await;
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut ids: Vec<_> = lines.iter().filter_map(|line| line["product"]["productId"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!((code, &ids[..], lines.last().unwrap()["live"].as_bool()), (0, &[1, 2][..], Some(true)), "{out}{error}");

    let (code, out, error) =
        ended(&mut rowcast(&["watch", "1", "2", "--once", "--format", "table", "--url", &url])).await;
    assert!(
        code == 0 && out.contains(": 2 products, live") && out.contains("productId   manufacturer"),
        "{out}{error}"
    );
}

#[tokio::test]
async fn it_goes_on_with_what_it_missed_when_its_server_was_away() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let put = async |server: &Running, id: u64, units: i64| {
        let mut http = crate::support::server::Http::connect(server.address).await;
        http.request("PUT", &format!("/products/{id}"), Some(&product_json(id, units))).await;
    };
    let mut server = Running::serving(&directory, &address).await;
    put(&server, 1, 1).await;
    put(&server, 2, 1).await;
    let url = format!("ws://{address}");
    let mut watcher = Watcher::start(&mut rowcast(&["watch", "1", "2", "3", "--url", &url]));
    let mut named = watcher.until_live().await;
    named.sort_unstable();
    assert_eq!(named, [1, 2]);
    put(&server, 3, 1).await;
    let change = watcher.next().await;
    assert_eq!((&change["action"], &change["product"]["productId"]), (&"INSERT".into(), &3.into()));

    server.child.kill().await.unwrap();
    assert_eq!(watcher.next().await["live"], false);
    // What is written while it is away it gets, and nothing else: it told what it knew.
    server = Running::serving(&directory, &address).await;
    put(&server, 2, 9).await;
    assert_eq!(watcher.until_live().await, [2]);
}

#[tokio::test]
async fn of_everything_it_shows_what_came_and_says_what_went_while_its_server_was_away() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let write = async |server: &Running, method: &str, id: u64| {
        let mut http = crate::support::server::Http::connect(server.address).await;
        let body = product_json(id, 1);
        let reply = http.request(method, &format!("/products/{id}"), (method == "PUT").then_some(&*body)).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    let mut server = Running::serving(&directory, &address).await;
    write(&server, "PUT", 1).await;
    write(&server, "PUT", 2).await;
    let mut watcher = Watcher::start(&mut rowcast(&["watch", "*", "--url", &format!("ws://{address}")]));
    let mut named = watcher.until_live().await;
    named.sort_unstable();
    assert_eq!(named, [1, 2]);
    write(&server, "PUT", 1000).await;
    assert_eq!(watcher.next().await["product"]["productId"], 1000);

    server.child.kill().await.unwrap();
    assert_eq!(watcher.next().await["live"], false);
    // It is away for as long as this takes: another address.
    let mut elsewhere = Running::serving(&directory, "127.0.0.1:0").await;
    write(&elsewhere, "DELETE", 2).await;
    write(&elsewhere, "PUT", 3).await;
    elsewhere.child.kill().await.unwrap();
    server = Running::serving(&directory, &address).await;
    assert_eq!(watcher.next().await["product"]["productId"], 3);
    assert_eq!(watcher.next().await, serde_json::json!({"absent": [2], "versions": [0]}));
    assert_eq!(watcher.next().await["live"], true);
    write(&server, "DELETE", 1).await;
    assert_eq!(watcher.next().await["action"], "DELETE");
}

#[tokio::test]
async fn rows_of_any_table_are_shown_and_what_is_missed_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let write = async |server: &Running, method: &str, key: &str, body: Option<&str>| {
        let mut http = crate::support::server::Http::connect(server.address).await;
        let reply = http.request(method, &format!("/tables/orders/{key}"), body).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    let mut server = Running::serving(&directory, &address).await;
    write(&server, "PUT", "17", Some(r#"{"state":"new","lines":[1,2]}"#)).await;
    write(&server, "PUT", "a-9", Some(r#"{"state":"paid"}"#)).await;
    write(&server, "PUT", "18", Some("{}")).await;
    let url = format!("ws://{address}");
    let mut some = Watcher::start(&mut rowcast(&["watch", "--table", "orders", "17", "a-9", "none", "--url", &url]));
    let mut all = Watcher::start(&mut rowcast(&["watch", "--table", "orders", "*", "--url", &url]));
    let (told, all_told) = (some.said_until_live().await, all.said_until_live().await);
    assert_eq!((told.len(), all_told.len()), (2, 3), "{told:?} {all_told:?}");
    let order = told.iter().find(|row| row["key"] == 17).expect("it is told");
    assert_eq!((&order["table"], &order["row"]), (&"orders".into(), &serde_json::json!({"state":"new","lines":[1,2]})));

    write(&server, "PATCH", "a-9", Some(r#"{"state":"sent"}"#)).await;
    for watcher in [&mut some, &mut all] {
        let change = watcher.next().await;
        assert_eq!((&change["action"], &change["key"]), (&"UPDATE".into(), &"a-9".into()), "{change}");
    }

    server.child.kill().await.unwrap();
    for watcher in [&mut some, &mut all] {
        assert_eq!(watcher.next().await["live"], false);
    }
    let mut elsewhere = Running::serving(&directory, "127.0.0.1:0").await;
    write(&elsewhere, "DELETE", "17", None).await;
    write(&elsewhere, "PUT", "none", Some("{}")).await;
    elsewhere.child.kill().await.unwrap();
    server = Running::serving(&directory, &address).await;
    // It told what it knew: what did not change is not told again.
    let keys = |said: &[Value]| said.iter().map(|line| line["key"].clone()).collect::<Vec<_>>();
    let said = some.said_until_live().await;
    assert!(said.len() == 2 && keys(&said).contains(&"none".into()), "{said:?}");
    assert!(said.iter().any(|line| line["absent"][0] == 17 || line["action"] == "DELETE"), "{said:?}");
    let said = all.said_until_live().await;
    assert_eq!(said.last().unwrap(), &serde_json::json!({"absent": [17], "versions": [0], "table": "orders"}));
    assert_eq!(keys(&said)[0], "none");
    write(&server, "DELETE", "18", None).await;
    assert_eq!(all.next().await["action"], "DELETE");

    let (code, out, error) =
        ended(&mut rowcast(&["watch", "--table", "orders", "*", "--once", "--format", "table", "--url", &url])).await;
    assert!(
        code == 0 && out.contains(": orders: 2 rows, live") && out.contains("key    state   version"),
        "{out}{error}"
    );
}

#[tokio::test]
async fn it_says_what_it_needs() {
    let nowhere = format!("ws://127.0.0.1:{}", free_port());
    let server = TestServer::https(&Certificate::new(), &[]).await;
    let tls = format!("wss://localhost:{}", server.address.port());
    let plain = format!("ws://{}/nothing", server.address);
    let small = TestServer::embedded(&["--wildcard-rows", "0"]).await;
    small.request("PUT", "/products/1", Some(&product_json(1, 5))).await;
    let few = format!("ws://{}", small.address);
    for (arguments, code, part) in [
        (&["watch"][..], 2, "<ID>"),
        (&["watch", "x"], 64, "not a product id"),
        (&["watch", "*", "1"], 64, "not a product id"),
        (&["watch", "*", "--url", &few], 1, "more products than this server"),
        (&["watch", "--table", "none", "*", "--url", &few], 1, "there is no table none"),
        (&["watch", "--table", "none", "17", "--url", &few], 1, "there is no table none"),
        (&["watch", "--table", "orders", "*", "17"], 64, "stands alone"),
        (&["watch", "1", "--url", "shop"], 64, "--url"),
        (&["watch", "1", "--url", "wss://localhost", "--ca", "/nowhere.pem"], 64, "/nowhere.pem"),
        (&["watch", "1", "--url", &nowhere], 1, "is the server running"),
        (&["watch", "1", "--url", &tls], 1, "--ca"),
        (&["watch", "1", "--url", &plain], 1, "127.0.0.1"),
    ] {
        let (found, _, error) = ended(&mut rowcast(arguments)).await;
        assert!(found == code && error.contains(part), "{arguments:?}: {found}, {error}");
    }
}

#[tokio::test]
async fn it_trusts_the_certificate_that_it_is_given() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &[]).await;
    server.request("PUT", "/products/1", Some(&product_json(1, 5))).await;
    let url = format!("wss://localhost:{}", server.address.port());
    let file: &Path = &certificate.files.certificate;
    for trust in [&["--ca", text(file)][..], &["--insecure"]] {
        let arguments = [&["watch", "1", "--once", "--url", &url], trust].concat();
        let (code, out, error) = ended(&mut rowcast(&arguments)).await;
        assert!(code == 0 && out.contains(r#""productId":1"#), "{out}{error}");
    }
}
