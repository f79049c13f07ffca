//! A table whose rows the server cannot read for a while: its readers know, and nobody else waits. And rows that nobody can
//! be shown, of which readers learn that they are others.

use serde_json::{Value, json};

use super::Fixture;
use super::reads::odd_orders;
use super::served::{ask, brief};
use crate::postgres::until;
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::Socket;

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE notes (id int PRIMARY KEY); \
    INSERT INTO orders VALUES (1); INSERT INTO notes VALUES (1), (2)";
const RIGHTS: &str = "DROP ROLE IF EXISTS unreadable_server; CREATE ROLE unreadable_server LOGIN; \
    GRANT SELECT ON rowcast_migrations, rowcast_stream, rowcast_tables, rowcast_served, product_versions, orders, notes, products \
        TO unreadable_server; \
    GRANT SELECT, UPDATE, DELETE ON product_tombstones, oversize_changes, rowcast_tombstones TO unreadable_server; \
    GRANT EXECUTE ON FUNCTION rowcast_renew_epoch, rowcast_note TO unreadable_server";
const FAILED_LOADS: &str = "rowcast_loads_total{outcome=\"failed\"}";
const HELD_UP: &str = "REVOKE SELECT ON orders FROM unreadable_server";
const FREE: &str = "GRANT SELECT ON orders TO unreadable_server";

async fn serve() -> (Fixture, TestServer) {
    let fixture = Fixture::new(TABLES).await;
    fixture.install("orders,notes").await.unwrap();
    fixture.write(RIGHTS).await;
    let url = fixture.database.url_as("unreadable_server");
    let server = TestServer::postgres(&url, &["--cores", "2", "--no-migrate", "--table", "orders,notes"]).await;
    server.until_ready().await;
    (fixture, server)
}

fn subscribe(table: &str, key: u64) -> Value {
    json!({"command":"subscribe","table":table,"keys":[key],"snapshot":true})
}

#[tokio::test]
async fn a_table_whose_rows_cannot_be_read_is_not_live_and_holds_up_no_other() {
    let (fixture, server) = serve().await;
    fixture.write(HELD_UP).await;
    let mut orders = Socket::connect(server.address).await;
    let mut command = subscribe("orders", 1);
    command["id"] = 1.into();
    orders.send(&command.to_string()).await;
    patiently(async { while server.metric(FAILED_LOADS).await == 0 {} }).await;

    let mut notes = Socket::connect(server.address).await;
    let note = |key: u64| json!(["SNAPSHOT", "notes", key, {"id": key}]);
    let told = patiently(ask(&mut notes, subscribe("notes", 1))).await;
    assert_eq!(told.last().map(brief), Some(note(1)), "{told:?}");

    let lost = json!({"live":false,"table":"orders"});
    patiently(async { while orders.next().await != lost {} }).await;
    let readyz = server.get("/readyz").await;
    assert_eq!(readyz.status, 200);
    assert!(readyz.text.contains("not live: table orders: its rows cannot be read; see the log"), "{}", readyz.text);
    let told = patiently(ask(&mut notes, subscribe("notes", 2))).await;
    assert_eq!(told.iter().map(brief).collect::<Vec<_>>(), [note(2)], "the others are live");

    fixture.write(FREE).await;
    let mut told = Vec::new();
    let awaited = [json!({"live":true,"table":"orders"}), json!({"reply":1,"ok":true,"subscribed":1})];
    patiently(async {
        while !awaited.iter().all(|awaited| told.contains(awaited)) {
            told.push(orders.next().await);
        }
    })
    .await;
    assert!(told.iter().map(brief).any(|told| told == json!(["SNAPSHOT", "orders", 1, {"id": 1}])), "{told:?}");
    assert_eq!(server.get("/readyz").await.text.trim(), "ready");
    assert_eq!(server.metric("rowcast_source_gaps_total").await, 0);
}

/// Reads until an order is told, and returns its version and its row.
async fn order(socket: &mut Socket) -> (u64, Value) {
    patiently(async {
        loop {
            let message = socket.next().await;
            if message["key"] == 1 {
                assert_eq!(message["table"], "orders");
                return (message["version"].as_u64().unwrap(), message["row"].clone());
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_row_that_cannot_be_read_any_more_is_told_to_all_who_show_it() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute(&odd_orders("P0001")).await.unwrap();
    owner.batch_execute("INSERT INTO orders VALUES (1, NULL)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--cores", "2", "--table", "orders"]).await;
    server.until_ready().await;
    let mut sockets = Vec::new();
    for command in [
        subscribe("orders", 1),
        json!({"command":"subscribe","table":"orders","keys":[1]}),
        json!({"command":"subscribe","table":"orders","keys":"*","snapshot":true}),
        json!({"command":"subscribe","table":"orders","keys":"*"}),
    ] {
        let mut socket = Socket::connect(server.address).await;
        ask(&mut socket, command).await;
        sockets.push(socket);
    }
    let away = "SELECT coalesce(bool_or(pg_terminate_backend(pid, 60000)), false) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'rowcast listener'";
    for (value, is_heard, is_shown) in [
        ("'a'", true, false),
        ("NULL", true, true),
        ("'a'", false, false),
        ("NULL", false, true),
        ("'b'", false, false),
    ] {
        if !is_heard {
            until(&owner, away).await;
        }
        owner.batch_execute(&format!("UPDATE orders SET value = {value}")).await.unwrap();
        let version: i64 = owner.query_one("SELECT rowcast_version FROM orders", &[]).await.unwrap().get(0);
        let row = if is_shown { json!({"id":1,"value":null}) } else { Value::Null };
        for socket in &mut sockets {
            assert_eq!(order(socket).await, (version.cast_unsigned(), row.clone()), "{value}, {is_heard}");
        }
        server.until_ready().await;
    }
    // Who comes later is told likewise.
    let mut socket = Socket::connect(server.address).await;
    let told = ask(&mut socket, subscribe("orders", 1)).await;
    assert_eq!(told.last().map(brief), Some(json!(["SNAPSHOT", "orders", 1, null])), "{told:?}");
    assert_eq!(server.metric(FAILED_LOADS).await, 0);
}
