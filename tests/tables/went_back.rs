//! A sequence of versions that was set back, and lifted again by a table's trigger before anybody looked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Fixture;
use super::served::ask;
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::Socket;

#[tokio::test]
async fn rows_above_the_sequence_begin_one_epoch_and_not_one_each() {
    const ORDERS: i32 = 20;
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE TABLE orders (id int PRIMARY KEY, state text)").await.unwrap();
    TestServer::postgres(database.url(), &["--table", "orders"]).await.until_ready().await;
    for id in 1..=ORDERS {
        let row = format!("SELECT setval('product_versions', {id}000); INSERT INTO orders VALUES ({id}, 'placed')");
        owner.batch_execute(&row).await.unwrap();
    }
    // As after a restore of rows alone, of which no server has heard.
    owner.batch_execute("SELECT setval('product_versions', 1)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "orders"]).await;
    server.until_ready().await;
    let mut reader = Socket::connect(server.address).await;
    ask(&mut reader, json!({"command":"subscribe","table":"orders","keys":"*","snapshot":true})).await;
    let mut epochs = BTreeSet::new();
    for id in 1..=ORDERS {
        let paid = format!("UPDATE orders SET state = 'paid' WHERE id = {id}");
        owner.batch_execute(&paid).await.unwrap();
        let is_told = |message: &Value| message["key"] == id && message["row"]["state"] == "paid";
        patiently(async {
            // The first makes an epoch, which is told before the next row changes.
            while {
                let message = reader.next().await;
                epochs.extend(message["epoch"].as_str().map(str::to_owned));
                !is_told(&message) || epochs.is_empty()
            } {}
        })
        .await;
    }
    assert_eq!(epochs.len(), 1, "{epochs:?}");
}

#[tokio::test]
async fn what_was_drawn_below_is_told_in_another_epoch() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE TABLE orders (id int PRIMARY KEY, state text)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "orders"]).await;
    server.until_ready().await;
    // The order has the greatest version of all.
    let rows = "SELECT setval('product_versions', 1000000); INSERT INTO products VALUES (1, 'm', 'p', 1, 'n'); \
        INSERT INTO orders VALUES (1, 'placed')";
    owner.batch_execute(rows).await.unwrap();
    let mut reader = Socket::connect(server.address).await;
    ask(&mut reader, json!({"command":"subscribe","productIDs":[1],"snapshot":true})).await;
    ask(&mut reader, json!({"command":"subscribe","table":"orders","keys":[1],"snapshot":true})).await;
    let back = "BEGIN; SELECT setval('product_versions', 500000); UPDATE products SET units_available = 999; \
        UPDATE orders SET state = 'paid'; COMMIT";
    owner.batch_execute(back).await.unwrap();
    let (mut epochs, mut is_told) = (0, false);
    patiently(async {
        while epochs == 0 || !is_told {
            let message = reader.next().await;
            epochs += usize::from(message["epoch"].is_string());
            is_told |= message["product"]["unitsAvailable"] == 999;
        }
    })
    .await;
    let version: i64 = owner.query_one("SELECT version FROM products", &[]).await.unwrap().get(0);
    let last: i64 = owner.query_one("SELECT last_value FROM product_versions", &[]).await.unwrap().get(0);
    assert!(version < 1_000_000 && last > 1_000_000, "the sequence was lifted: {version}, {last}");
}

#[tokio::test]
async fn what_lifts_it_is_told_though_it_is_rolled_back() {
    is_told_anew("UPDATE orders SET state = 'paid'; ROLLBACK").await;
}

#[tokio::test]
async fn a_deletion_below_is_told_though_the_sequence_is_above_again() {
    is_told_anew("DELETE FROM orders; SELECT setval('product_versions', 2000000); COMMIT").await;
}

/// It goes back to the version before the order's, which a new order is given then.
#[tokio::test]
async fn a_new_row_with_the_version_of_another_is_told_anew() {
    is_told_anew(
        "SELECT setval('product_versions', 1000000); INSERT INTO orders VALUES (2, 'placed'), (3, 'placed'); COMMIT",
    )
    .await;
}

/// A trigger that comes after the stamp puts another version into the row.
#[tokio::test]
async fn a_version_that_another_trigger_sets_is_told_anew() {
    for version in ["OLD.rowcast_version", "1", "NULL"] {
        let trigger = format!(
            "ALTER TABLE orders ALTER rowcast_version DROP NOT NULL; \
             CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.rowcast_version := {version}; RETURN NEW; END $$; \
             CREATE TRIGGER zzz_back BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION back()"
        );
        let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY, state text)", "orders").await;
        fixture.write(&format!("{trigger}; INSERT INTO orders VALUES (1, 'placed'), (2, 'placed')")).await;
        assert!(!fixture.has_version_below().await, "{version}");
        fixture.write("UPDATE orders SET state = 'paid' WHERE id = 1").await;
        assert!(fixture.has_version_below().await, "{version}");
    }
}

/// With a cache a later change of another session has a lower version.
#[tokio::test]
async fn a_cache_of_the_sequence_is_taken_away_and_what_was_told_out_of_order_is_told_anew() {
    let database = Cluster::shared().database().await;
    let (owner, other) = (database.connect().await, database.connect().await);
    owner.batch_execute("CREATE TABLE orders (id int PRIMARY KEY, state text)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "orders"]).await;
    server.until_ready().await;
    let mut reader = Socket::connect(server.address).await;
    ask(&mut reader, json!({"command":"subscribe","table":"orders","keys":[1],"snapshot":true})).await;
    // One transaction each: no look comes between the cache and the row that is below its deletion.
    for (session, statements) in [
        (&owner, "BEGIN; ALTER SEQUENCE product_versions CACHE 20; COMMIT; INSERT INTO orders VALUES (2, 'placed')"),
        (&other, "INSERT INTO orders VALUES (1, 'placed'); DELETE FROM orders WHERE id = 1"),
        (&owner, "INSERT INTO orders VALUES (1, 'again')"),
    ] {
        session.batch_execute(statements).await.unwrap();
    }
    let is_again = |message: &Value| message["key"] == 1 && message["row"]["state"] == "again";
    patiently(async {
        let mut epoch = false;
        while {
            let message = reader.next().await;
            epoch |= message["epoch"].is_string();
            !(epoch && is_again(&message))
        } {}
    })
    .await;
    let cache = "SELECT seqcache FROM pg_sequence WHERE seqrelid = 'product_versions'::regclass";
    assert_eq!(owner.query_one(cache, &[]).await.unwrap().get::<_, i64>(0), 1);
    // What sessions had drawn ahead is forgotten.
    for session in [&owner, &other] {
        let change = "UPDATE orders SET state = state; SELECT 1";
        session.batch_execute(change).await.unwrap();
    }
    let is_below = "SELECT rowcast_replaced() IS NULL";
    assert!(owner.query_one(is_below, &[]).await.unwrap().get::<_, bool>(0));
}

/// The sequence is set back below the row of an order, and this is done.
async fn is_told_anew(done: &str) {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE TABLE orders (id int PRIMARY KEY, state text)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "orders"]).await;
    server.until_ready().await;
    let rows = "SELECT setval('product_versions', 1000000); INSERT INTO orders VALUES (1, 'placed')";
    owner.batch_execute(rows).await.unwrap();
    let mut reader = Socket::connect(server.address).await;
    ask(&mut reader, json!({"command":"subscribe","table":"orders","keys":[1],"snapshot":true})).await;
    owner.batch_execute(&format!("BEGIN; SELECT setval('product_versions', 500000); {done}")).await.unwrap();
    patiently(async { while !reader.next().await["epoch"].is_string() {} }).await;
}
