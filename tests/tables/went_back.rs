//! A sequence of versions that was set back, and lifted again by a table's trigger before anybody looked.

use serde_json::json;

use super::served::ask;
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::Socket;

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
