//! The bytes that subscribers get, of rows of any size.

use rowcast::model::change::{Action, Change};
use rowcast::model::product::{Product, ProductId};
use rowcast::model::row::Row;
use rowcast::store::Precondition;
use tokio_postgres::Client;

use super::{Fixture, Products, id, insert_sql, json, macbook};

const KIB: usize = 1024;

/// The message that [`rowcast`] itself would encode.
fn expected(action: Action, version: u64, product: impl Into<Row>) -> String {
    json(&Change::of_row(action, ProductId::new(1).unwrap().subject(), version, product.into()))
}

fn named(length: usize) -> Product {
    Product { product_name: "n".repeat(length), ..macbook(1) }
}

async fn oversize_rows(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM oversize_changes", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_message_is_the_protocols_byte_for_byte() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    let controls: String = (1..=0x20).map(|code| char::from_u32(code).unwrap()).collect();
    for text in ["", "\"", "\\", "\\u0041", "/<>&'%s%", "ä€😀\u{2028}\u{7f}\u{feff}\u{10ffff}", &controls] {
        let product = Product {
            manufacturer: text.into(),
            price_per_unit: text.into(),
            product_name: text.into(),
            units_available: i64::MIN,
            ..macbook(1)
        };
        let (_, version) = store.put_product(product.clone(), Precondition::default()).await.unwrap();
        let action = if text.is_empty() { Action::Insert } else { Action::Update };
        assert_eq!(changes.next_json().await, expected(action, version, &product));
    }
}

#[tokio::test]
async fn a_message_of_7999_bytes_is_notified_and_a_longer_one_is_read() {
    let Fixture { store, database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    store.put_product(named(0), Precondition::default()).await.unwrap();
    let empty = changes.next_json().await.len();
    // One more byte in the version would move the boundary.
    client.batch_execute("SELECT setval('product_versions', 1000)").await.unwrap();
    store.put_product(named(0), Precondition::default()).await.unwrap();
    assert_eq!(changes.next_json().await.len(), empty + 3);

    for (bytes, stored) in [(7999, 0), (8000, 1), (8001, 2)] {
        let product = named(bytes - empty - 3);
        let (_, version) = store.put_product(product.clone(), Precondition::default()).await.unwrap();
        let json = changes.next_json().await;
        assert_eq!(json.len(), bytes);
        assert_eq!(json, expected(Action::Update, version, &product));
        assert_eq!(oversize_rows(&client).await, stored);
    }
}

#[tokio::test]
async fn a_large_row_is_told_whole_in_every_change() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    let product = Product { manufacturer: "\u{1}€".repeat(20 * KIB), ..named(40 * KIB) };
    let inserted = store.insert_product(product.clone(), Precondition::default()).await.unwrap();
    let patch = Row::encoded(r#"{"unitsAvailable":7}"#);
    let patched = store.patch(id(1), patch, Precondition::default()).await.unwrap();
    let deleted = store.delete(id(1), Precondition::default()).await.unwrap();
    assert_eq!(changes.next_json().await, expected(Action::Insert, inserted, &product));
    assert_eq!(changes.next_json().await, expected(Action::Update, patched.version, patched.row.clone().unwrap()));
    assert_eq!(changes.next_json().await, expected(Action::Delete, deleted, patched.row.unwrap()));
}

#[tokio::test]
async fn a_large_row_that_is_overwritten_and_deleted_at_once_loses_no_change() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let rename = |letter| format!("UPDATE products SET product_name = repeat('{letter}', {})", 100 * KIB);
    let transaction =
        ["BEGIN", &insert_sql(1), &rename('a'), &rename('b'), "DELETE FROM products", "COMMIT"].join("; ");
    client.batch_execute(&transaction).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        let change = changes.next().await;
        told.push((change.version, json(&change)));
    }
    assert!(told.is_sorted_by(|(before, _), (after, _)| before < after));
    let large = |letter: &str| Product { product_name: letter.repeat(100 * KIB), ..macbook(1) };
    assert_eq!(told[1].1, expected(Action::Update, told[1].0, &large("a")));
    assert_eq!(told[2].1, expected(Action::Update, told[2].0, &large("b")));
    assert_eq!(told[3].1, expected(Action::Delete, told[3].0, &large("b")));
}

#[tokio::test]
async fn changes_keep_their_order_when_one_of_them_has_to_be_read() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let large = format!("UPDATE products SET product_name = repeat('n', {})", 500 * KIB);
    let small = "UPDATE products SET product_name = 'n'";
    client.batch_execute(&[&insert_sql(1), &large, small, &large, small].join("; ")).await.unwrap();
    changes.of_one_product(5).await;
}

#[tokio::test]
async fn a_row_above_a_mebibyte_is_told_by_its_id_and_fails_nobody() {
    let Fixture { store, database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let product = named(2 * KIB * KIB);
    let inserted = store.insert_product(product.clone(), Precondition::default()).await.unwrap();
    let (_, replaced) = store.put_product(product, Precondition::default()).await.unwrap();
    let deleted = store.delete(id(1), Precondition::default()).await.unwrap();
    for (action, version) in [("INSERT", inserted), ("UPDATE", replaced), ("DELETE", deleted)] {
        let json = format!(r#"{{"action":"{action}","version":{version},"product":{{"productId":1}}}}"#);
        assert_eq!(changes.next_json().await, json);
    }
    assert_eq!(oversize_rows(&client).await, 0);
}

#[tokio::test]
async fn a_message_of_a_mebibyte_is_the_longest_that_is_stored() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    store.put_product(named(0), Precondition::default()).await.unwrap();
    let empty = changes.next_json().await.len();
    store.put_product(named(KIB * KIB - empty), Precondition::default()).await.unwrap();
    assert_eq!(changes.next_json().await.len(), KIB * KIB);
    store.put_product(named(KIB * KIB - empty + 1), Precondition::default()).await.unwrap();
    assert!(changes.next_json().await.ends_with(r#""product":{"productId":1}}"#));
}

#[tokio::test]
async fn a_message_that_is_gone_is_a_gap() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let short = r#"{"action":"UPDATE","version":99,"productId":1}"#;
    client.execute("SELECT pg_notify(channel, $1) FROM rowcast_stream", &[&short]).await.unwrap();
    changes.gap().await;
    changes.began().await;
}

#[tokio::test]
async fn what_is_not_ours_is_skipped() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    for payload in ["", "hello", "{}", r#"{"action":"UPDATE","version":1}"#, "epoch 0", "proof", &"€".repeat(2000)] {
        client.execute("SELECT pg_notify(channel, $1) FROM rowcast_stream", &[&payload]).await.unwrap();
    }
    changes.none_before_now(&client).await;
}
