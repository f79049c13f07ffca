//! A table whose rows the server cannot read for a while: its readers know, and nobody else waits.

use serde_json::{Value, json};

use super::Fixture;
use super::served::{ask, brief};
use crate::support::patiently;
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
