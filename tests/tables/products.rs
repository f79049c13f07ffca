//! Tables where there are no products, or others.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::tables::TableSpec;
use rowcast::store::postgres::tables::prepare::{Prepared, prepare};

use super::Told;
use crate::support::postgres::{Cluster, Database};

async fn prepared(database: &Database, tables: &str, wants_products: bool) -> Result<Prepared, String> {
    let config = PostgresConfig::parse(database.url()).unwrap();
    let specs = if tables.is_empty() { Vec::new() } else { TableSpec::parse_list(tables).unwrap() };
    prepare(&config, &specs, &[], wants_products).await.map_err(|error| error.to_string())
}

async fn database(statements: &str) -> Database {
    let database = Cluster::shared().database().await;
    database.connect().await.batch_execute(statements).await.unwrap();
    database
}

#[tokio::test]
async fn products_of_somebody_else_are_left_alone_until_they_are_named() {
    let database =
        database("CREATE TABLE products (sku text PRIMARY KEY, label text); INSERT INTO products VALUES ('a', 'A')")
            .await;
    let refusal = prepared(&database, "", true).await.unwrap_err();
    assert!(refusal.contains("--table products") && refusal.contains("--no-products"), "{refusal}");

    let done = prepared(&database, "products", true).await.unwrap();
    assert!(!done.has_products && done.applied[0] == "0000_without_products.sql", "{done:?}");
    assert_eq!(done.tables[0].0.key, "sku");
    let (owner, mut told) = (database.connect().await, Told::of(&database).await);
    owner.batch_execute("UPDATE products SET label = 'B'; DELETE FROM products").await.unwrap();
    let told: Vec<String> = told.since(&owner).await.iter().map(|payload| super::brief(payload)).collect();
    assert_eq!(told, ["U \"a\"", "D \"a\""]);

    // A second time nothing is done, and products cannot be had any more.
    assert!(prepared(&database, "products", true).await.unwrap().applied.is_empty());
    assert!(prepared(&database, "public.products", false).await.unwrap().applied.is_empty());
    let refusal = prepared(&database, "", true).await.unwrap_err();
    assert!(refusal.contains("set up without products"), "{refusal}");
}

#[tokio::test]
async fn without_products_none_are_made_and_an_epoch_can_begin() {
    let database = database("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let done = prepared(&database, "orders", false).await.unwrap();
    assert_eq!(
        done.applied,
        ["0000_without_products.sql", "0004_tables.sql", "0005_table_rows.sql", "0006_whole_rows.sql"]
    );
    let owner = database.connect().await;
    let count = "SELECT count(*) FROM pg_class WHERE relname LIKE 'product%' AND relkind = 'r'";
    assert_eq!(owner.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
    let mut told = Told::of(&database).await;
    let epoch: i64 = owner.query_one("SELECT epoch FROM rowcast_stream", &[]).await.unwrap().get(0);
    owner
        .batch_execute("INSERT INTO orders VALUES (1); DELETE FROM orders; SELECT setval('product_versions', 1)")
        .await
        .unwrap();
    let renewed = owner.query_one("SELECT rowcast_renew_epoch($1, 7)", &[&epoch]).await.unwrap();
    assert_ne!(renewed.get::<_, i64>(0), epoch);
    owner.batch_execute("INSERT INTO orders VALUES (2)").await.unwrap();
    let payloads = told.since_any(&owner).await;
    assert_eq!(payloads[2], format!("epoch {}", renewed.get::<_, i64>(0)));
    assert!(super::change(&payloads[3]).version > 7, "{payloads:?}");
}

#[tokio::test]
async fn products_that_are_there_stay_where_they_are_not_wanted() {
    let database = database("CREATE TABLE orders (id int PRIMARY KEY)").await;
    prepared(&database, "", true).await.unwrap();
    let done = prepared(&database, "orders", false).await.unwrap();
    assert!(done.applied.is_empty());
    let refusal = prepared(&database, "products", false).await.unwrap_err();
    assert!(refusal.contains("Rowcast's own table of products"), "{refusal}");
}
