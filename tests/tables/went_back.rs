//! A sequence of versions that was set back, and lifted again by a table's trigger before anybody looked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

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
