//! A server whose database has tables of somebody: from a commit to the sockets, and over HTTP.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::Socket;

const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
const TABLES: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, state text, lines jsonb); \
    CREATE SCHEMA shop; \
    CREATE TABLE shop.notes (slug text PRIMARY KEY, body text NOT NULL); \
    CREATE TABLE parcels (id uuid PRIMARY KEY, grams integer DEFAULT 100); \
    INSERT INTO orders VALUES (17, 'placed', '{\"a\": 1}'), (9007199254740993, 'old', NULL)";
const OPTIONS: [&str; 6] = ["--cores", "2", "--table", "orders", "--table", "shop.notes,parcels"];

async fn serve() -> (TestServer, Client) {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute(TABLES).await.unwrap();
    let server = TestServer::postgres(database.url(), &OPTIONS).await;
    server.until_ready().await;
    (server, owner)
}

/// Sends a command and returns what comes until its reply.
pub(super) async fn ask(socket: &mut Socket, command: Value) -> Vec<Value> {
    let mut command = command;
    command["id"] = 1.into();
    socket.send(&command.to_string()).await;
    let mut told = Vec::new();
    loop {
        let message = socket.next().await;
        if message["reply"] == 1 {
            assert_eq!(message["ok"], true, "{message}");
            return told;
        }
        told.push(message);
    }
}

/// The action, the table, the key and the row of a message.
pub(super) fn brief(message: &Value) -> Value {
    json!([message["action"], message["table"], message["key"], message["row"]])
}

async fn next(socket: &mut Socket) -> Value {
    brief(&socket.next().await)
}

#[tokio::test]
async fn rows_of_tables_reach_who_subscribed_to_their_keys() {
    let (server, owner) = serve().await;
    let mut socket = Socket::connect(server.address).await;
    let keys = json!([17, "9007199254740993", 18]);
    let told = ask(&mut socket, json!({"command":"subscribe","table":"orders","keys":keys,"snapshot":true})).await;
    assert!(told[0]["epoch"].is_string(), "{told:?}");
    let mut rows: Vec<Value> = told[1..].iter().filter(|it| it["action"].is_string()).map(brief).collect();
    rows.sort_by_key(ToString::to_string);
    let snapshot = |key: Value, row: Value| json!(["SNAPSHOT", "orders", key, row]);
    assert_eq!(
        rows,
        [
            snapshot(json!("9007199254740993"), json!({"id":9_007_199_254_740_993_i64,"state":"old","lines":null})),
            snapshot(json!(17), json!({"id":17,"state":"placed","lines":{"a":1}})),
        ]
    );
    let absent = told.iter().find(|it| it["absent"].is_array()).expect("18 does not exist");
    assert_eq!(*absent, json!({"absent":[18],"versions":[0],"table":"orders"}));
    for (table, key) in [("shop.notes", json!("a \"b\"")), ("parcels", json!(UUID.to_uppercase()))] {
        ask(&mut socket, json!({"command":"subscribe","table":table,"keys":[key]})).await;
    }
    owner.batch_execute("INSERT INTO orders VALUES (18, 'new', '[]'), (19, 'not wanted', NULL)").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["INSERT", "orders", 18, {"id":18,"state":"new","lines":[]}]));
    owner.batch_execute("UPDATE orders SET state = 'paid' WHERE id > 18").await.unwrap();
    let big = json!({"id":9_007_199_254_740_993_i64,"state":"paid","lines":null});
    assert_eq!(next(&mut socket).await, json!(["UPDATE", "orders", "9007199254740993", big]));
    owner.batch_execute(&format!("INSERT INTO parcels VALUES ('{UUID}')")).await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["INSERT", "parcels", UUID, {"id":UUID,"grams":100}]));
    let long = "x".repeat(9_000);
    owner.execute("INSERT INTO shop.notes VALUES ('a \"b\"', $1)", &[&long]).await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["INSERT", "shop.notes", "a \"b\"", {"slug":"a \"b\"","body":long}]));
    owner.batch_execute("DELETE FROM shop.notes").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["DELETE", "shop.notes", "a \"b\"", {"slug":"a \"b\"","body":long}]));
    owner.batch_execute("DELETE FROM orders WHERE id = 17").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["DELETE", "orders", 17, {"id":17,"state":"placed","lines":{"a":1}}]));
}

#[tokio::test]
async fn everything_of_a_table_is_told_and_a_truncate_makes_it_absent() {
    let (server, owner) = serve().await;
    owner
        .batch_execute("INSERT INTO shop.notes SELECT 'note ' || n, 'b' FROM generate_series(1, 300) n")
        .await
        .unwrap();
    let mut socket = Socket::connect(server.address).await;
    let told = ask(&mut socket, json!({"command":"subscribe","table":"shop.notes","keys":"*","snapshot":true})).await;
    // A row whose insert was heard before its page came is told twice.
    let is_row = |it: &&Value| it["table"] == "shop.notes" && it["action"].is_string();
    let named: BTreeSet<&str> = told.iter().filter(is_row).filter_map(|it| it["key"].as_str()).collect();
    assert_eq!(named.len(), 300);
    owner.batch_execute("INSERT INTO orders VALUES (1); INSERT INTO shop.notes VALUES ('one more', '')").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["INSERT", "shop.notes", "one more", {"slug":"one more","body":""}]));
    owner.batch_execute("TRUNCATE shop.notes").await.unwrap();
    let mut absent = 0;
    let gone = async {
        while absent < 301 {
            absent += socket.next().await["absent"].as_array().map_or(0, Vec::len);
        }
    };
    patiently(gone).await;
    owner.batch_execute("INSERT INTO shop.notes VALUES ('note 7', 'again')").await.unwrap();
    loop {
        let message = socket.next().await;
        if message["action"].is_string() {
            assert_eq!(brief(&message), json!(["INSERT", "shop.notes", "note 7", {"slug":"note 7","body":"again"}]));
            break;
        }
    }
}

#[tokio::test]
async fn rows_are_read_and_written_over_http() {
    let (server, owner) = serve().await;
    let mut socket = Socket::connect(server.address).await;
    ask(&mut socket, json!({"command":"subscribe","table":"parcels","keys":[UUID]})).await;
    let path = format!("/tables/parcels/{UUID}");
    let put = server.request("PUT", &path, Some(r#"{"grams":5}"#)).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(next(&mut socket).await, json!(["INSERT", "parcels", UUID, {"id":UUID,"grams":5}]));
    let got = server.get(&path).await;
    assert_eq!((got.json(), got.header("etag")), (json!({"id":UUID,"grams":5}), put.header("etag")));
    let patched = server.request("PATCH", &path, Some(r#"{"grams":6}"#)).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(next(&mut socket).await, json!(["UPDATE", "parcels", UUID, {"id":UUID,"grams":6}]));
    assert_eq!(server.request("PUT", &path, Some(r#"{"weight":1}"#)).await.status, 400);
    let stale = server.request_with("PUT", &path, &[("if-match", put.header("etag"))], Some("{}")).await;
    assert_eq!(stale.status, 412, "{stale:?}");
    let list = server.get("/tables/orders?limit=1").await.json();
    assert_eq!(list["rows"][0]["key"], 17);
    let next_page = server.get(&format!("/tables/orders?after={}", list["next"])).await.json();
    assert_eq!(next_page["rows"][0]["key"], "9007199254740993");
    assert_eq!(server.get("/tables/customers").await.status, 404);
    assert_eq!(server.request("DELETE", &path, None).await.status, 204);
    assert_eq!(next(&mut socket).await[0], "DELETE");
    assert_eq!(server.get(&path).await.status, 404);
    let left: i64 = owner.query_one("SELECT count(*) FROM parcels", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn columns_may_have_any_names() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    // Those that the statements of the server and of the triggers use, and some that must be quoted.
    let columns = [
        "found",
        "target",
        "given",
        "stone",
        "installed",
        "whole",
        "version",
        "row_text",
        "table_id",
        "NEW",
        "new",
        "old",
        "action",
        "head",
        "restamped",
        "wanted",
        "named",
        "name",
        "select",
        "a \"b\"",
        "it's",
        "{key}",
        "%s",
        "$1",
        "odd",
    ];
    let quoted: Vec<_> = columns.iter().map(|name| format!("\"{}\" text", name.replace('"', "\"\""))).collect();
    owner.batch_execute(&format!("CREATE TABLE odd (key int PRIMARY KEY, {})", quoted.join(", "))).await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "odd"]).await;
    let mut socket = Socket::connect(server.address).await;
    ask(&mut socket, json!({"command":"subscribe","table":"odd","keys":"*"})).await;
    let mut row: Value = columns.iter().map(|name| (*name, json!(format!("{name} 1")))).collect();
    row["key"] = 1.into();
    let put = server.request("PUT", "/tables/odd/1", Some(&row.to_string())).await;
    assert_eq!((put.status.as_u16(), put.json()), (201, row.clone()));
    assert_eq!(next(&mut socket).await, json!(["INSERT", "odd", 1, row]));
    assert_eq!(server.get("/tables/odd/1").await.json(), row);
    assert_eq!(server.get("/tables/odd").await.json()["rows"][0]["row"], row);
    row["found"] = Value::Null;
    let patched = server.request("PATCH", "/tables/odd/1", Some(r#"{"found":null}"#)).await;
    assert_eq!((patched.status.as_u16(), patched.json()), (200, row.clone()));
    assert_eq!(next(&mut socket).await, json!(["UPDATE", "odd", 1, row]));
    let mut reader = Socket::connect(server.address).await;
    let told = ask(&mut reader, json!({"command":"subscribe","table":"odd","keys":[1],"snapshot":true})).await;
    let snapshot = told.iter().find(|it| it["action"] == "SNAPSHOT").map(brief);
    assert_eq!(snapshot, Some(json!(["SNAPSHOT", "odd", 1, row])));
    owner.batch_execute("DELETE FROM odd").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["DELETE", "odd", 1, row]));
}

#[tokio::test]
async fn rows_whose_keys_are_too_long_are_counted_and_passed_over() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    // More of them in a row than a page of keys has.
    owner
        .batch_execute(
            "CREATE TABLE notes (slug text COLLATE \"C\" PRIMARY KEY); INSERT INTO notes VALUES ('a'), ('c'); \
             INSERT INTO notes SELECT 'b' || n || repeat('x', 256) FROM generate_series(1, 20001) n",
        )
        .await
        .unwrap();
    let server = TestServer::postgres(database.url(), &["--cores", "2", "--table", "notes"]).await;
    let mut socket = Socket::connect(server.address).await;
    let told = ask(&mut socket, json!({"command":"subscribe","table":"notes","keys":"*","snapshot":true})).await;
    let mut keys: Vec<&str> = told.iter().filter_map(|it| it["key"].as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "c"]);
    owner.batch_execute("DELETE FROM notes WHERE slug < 'b2'; INSERT INTO notes VALUES ('d')").await.unwrap();
    loop {
        let message = socket.next().await;
        assert!(message["key"].as_str().is_none_or(|key| key.len() == 1), "{message}");
        if message["action"] == "INSERT" {
            assert_eq!(message["key"], "d");
            break;
        }
    }
    let gone: i64 = owner.query_one("SELECT 20001 + 3 - count(*) FROM notes", &[]).await.unwrap().get(0);
    server.until_metric("rowcast_keys_too_long_total", gone.cast_unsigned() - 1).await;
}

#[tokio::test]
async fn refusals_speak_of_the_rows_that_were_asked_for() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute(TABLES).await.unwrap();
    let options = ["--cores", "2", "--table", "orders", "--max-subscriptions", "2", "--wildcard-rows", "1"];
    let server = TestServer::postgres(database.url(), &options).await;
    owner.batch_execute("INSERT INTO products SELECT n, 'm', 'p', n, 'n' FROM generate_series(1, 2) n").await.unwrap();
    for (rows, refusal) in [
        (
            json!({"table":"orders","keys":[1, 2, 3]}),
            "a connection subscribes to at most 2 rows; nothing was subscribed",
        ),
        (json!({"productIDs":[1, 2, 3]}), "a connection subscribes to at most 2 products; nothing was subscribed"),
        (
            json!({"table":"orders","keys":"*","snapshot":true}),
            "there are more rows of this table than this server lets anybody subscribe to at once; name them",
        ),
        (
            json!({"productIDs":"*","snapshot":true}),
            "there are more products than this server lets anybody subscribe to at once; name them",
        ),
    ] {
        let mut socket = Socket::connect(server.address).await;
        let mut command = rows;
        command["command"] = "subscribe".into();
        socket.send(&command.to_string()).await;
        loop {
            let message = socket.next().await;
            if let Some(error) = message["error"].as_str() {
                assert_eq!(error, refusal, "{command}");
                break;
            }
        }
    }
}
