//! Changes that are too long for a notification and have the same version, since the sequence was set back between them.

use serde_json::json;

use super::served::ask;
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::Socket;

const PRODUCT: &str = "UPDATE products SET manufacturer = repeat('m', 9000) WHERE product_id = 1";
const ORDER: &str = "UPDATE orders SET note = repeat('n', 9000) WHERE id = 1";
const OTHER: &str = "UPDATE other SET note = repeat('o', 9000) WHERE id = 1";

/// Has two long changes drawn one version in one transaction; checks that readers of each table are told of it alone, and in
/// the end what it is.
async fn try_both(first: &str, second: &str) {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    let tables = "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE TABLE other (LIKE orders INCLUDING ALL)";
    owner.batch_execute(tables).await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "orders,other"]).await;
    server.until_ready().await;
    let put = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    assert!(put.status.is_success(), "{put:?}");
    owner.batch_execute("INSERT INTO orders VALUES (1); INSERT INTO other VALUES (1)").await.unwrap();
    let mut reader = Socket::connect(server.address).await;
    ask(&mut reader, json!({"command":"subscribe","productIDs":"*","snapshot":true})).await;
    for table in ["orders", "other"] {
        ask(&mut reader, json!({"command":"subscribe","table":table,"keys":"*","snapshot":true})).await;
    }
    let back = "SELECT setval('product_versions', (SELECT last_value - 1 FROM product_versions))";
    owner.batch_execute(&format!("BEGIN; {first}; {back}; {second}; COMMIT")).await.unwrap();
    let mut wanted: Vec<(&str, String)> = Vec::new();
    for statement in [first, second] {
        wanted.push(match statement {
            PRODUCT => ("/product/manufacturer", "m".repeat(9000)),
            ORDER => ("/row/note", "n".repeat(9000)),
            _ => ("/row/note", "o".repeat(9000)),
        });
    }
    patiently(async {
        while !wanted.is_empty() {
            let message = reader.next().await;
            let is_known =
                ["action", "absent", "epoch", "live", "skipped"].iter().any(|name| message.get(name).is_some());
            assert!(is_known, "{message}");
            let letter = match message["table"].as_str() {
                Some("orders") => "n",
                Some("other") => "o",
                _ => "m",
            };
            for text in
                ["/product/manufacturer", "/row/note"].iter().filter_map(|place| message.pointer(place)?.as_str())
            {
                assert!(text.len() < 9000 || text.starts_with(letter), "another row's text: {message}");
            }
            wanted.retain(|(place, text)| message.pointer(place).and_then(|told| told.as_str()) != Some(text));
        }
    })
    .await;
}

#[tokio::test]
async fn a_product_and_a_row_of_one_version_are_not_mixed_up() {
    try_both(PRODUCT, ORDER).await;
    try_both(ORDER, PRODUCT).await;
}

#[tokio::test]
async fn rows_of_two_tables_of_one_version_are_not_mixed_up() {
    try_both(ORDER, OTHER).await;
}
