//! A table whose rows cannot be read for a time: whoever waits for them is told of others all the same.

use serde_json::json;

use super::put;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::Socket;

/// More than a reader may pull at once.
const ORDERS: usize = 1000;

#[tokio::test]
async fn rows_that_do_not_come_keep_no_others_back() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner
        .batch_execute(&format!(
            "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, {ORDERS})"
        ))
        .await
        .unwrap();
    let server = TestServer::postgres(database.url(), &["--cores", "1", "--table", "orders"]).await;
    server.until_ready().await;
    put(&server, 1, 10).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1]).await;
    owner.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let keys: Vec<usize> = (1..=ORDERS).collect();
    let command = json!({"command": "subscribe", "table": "orders", "keys": keys, "snapshot": true, "id": 7});
    socket.send(&command.to_string()).await;
    for units in [20, 30] {
        put(&server, 1, units).await;
        while socket.next().await["product"]["unitsAvailable"] != units {}
    }

    owner.batch_execute("COMMIT").await.unwrap();
    let mut rows = 0;
    loop {
        let message = socket.next().await;
        rows += usize::from(message["table"] == "orders" && message["row"].is_object());
        if message["reply"] == 7 {
            break;
        }
    }
    assert_eq!(rows, ORDERS, "they come once they can be read");
}
