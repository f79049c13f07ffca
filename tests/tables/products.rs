//! Tables where there are no products, or others.

use rowcast::model::event::SourceEvent;
use rowcast::model::table::Tables;
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::MIGRATIONS;
use rowcast::store::postgres::tables::TableSpec;
use rowcast::store::postgres::tables::prepare::{Prepared, WantedTables, prepare};
use serde_json::{Value, json};

use super::served::{ask, brief};
use super::{Told, listen_and_keep_house};
use crate::support::postgres::{Cluster, Database};
use crate::support::server::TestServer;
use crate::support::socket::Socket;

async fn prepared(database: &Database, tables: &str, wants_products: bool) -> Result<Prepared, String> {
    let config = PostgresConfig::parse(database.url()).unwrap();
    let specs = if tables.is_empty() { Vec::new() } else { TableSpec::parse_list(tables).unwrap() };
    let wanted = WantedTables { specs, without_products: !wants_products, ..WantedTables::default() };
    prepare(&config, &wanted).await.map_err(|error| error.to_string())
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
    let others = MIGRATIONS[3..].iter().map(|migration| migration.name);
    let applied: Vec<&str> = std::iter::once("0000_without_products.sql").chain(others).collect();
    assert_eq!(done.applied, applied);
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

/// Sends a command, and returns the answer that refuses it.
async fn refused(socket: &mut Socket, command: Value) -> Value {
    socket.send(&command.to_string()).await;
    loop {
        let message = socket.next().await;
        if message["error"].is_string() {
            return message;
        }
    }
}

#[tokio::test]
async fn products_of_somebody_else_are_a_table_like_any_other() {
    let database = database("CREATE TABLE products (sku text PRIMARY KEY, label text, secret text DEFAULT 's')").await;
    let options = ["--cores", "2", "--table", "products", "--hide", "products.secret"];
    let server = TestServer::postgres(database.url(), &options).await;
    let owner = database.connect().await;
    for (method, path, body) in [
        ("GET", "/products", None),
        ("GET", "/products/1", None),
        ("PUT", "/products/1", Some("{}")),
        ("POST", "/products", Some("{}")),
        ("PATCH", "/products/1", Some("{}")),
        ("DELETE", "/products/1", None),
    ] {
        let reply = server.request(method, path, body).await;
        assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
        assert!(reply.text.contains("/tables/products"), "{method} {path}: {reply:?}");
    }
    let mut socket = Socket::connect(server.address).await;
    for listed in [json!([1]), json!("*")] {
        let refusal = refused(&mut socket, json!({"command":"subscribe","productIDs":listed})).await;
        assert_eq!(refusal["code"], "unknown_table");
        assert!(refusal["error"].as_str().unwrap().contains("\"table\":\"products\""), "{refusal}");
    }
    ask(&mut socket, json!({"command":"subscribe","table":"products","keys":["a b"]})).await;
    assert_eq!(server.get("/tables").await.json(), json!({"tables":[{"table":"products","keys":"text"}]}));
    let put = server.request("PUT", "/tables/products/a%20b", Some(r#"{"label":"L","secret":"x"}"#)).await;
    assert_eq!((put.status.as_u16(), put.json()), (201, json!({"sku":"a b","label":"L"})), "{put:?}");
    let row = json!({"sku":"a b","label":"L"});
    assert_eq!(brief(&socket.next().await), json!(["INSERT", "products", "a b", row]));
    let posted = server.request("POST", "/tables/products", Some(r#"{"sku":"a b"}"#)).await;
    assert_eq!(posted.status, 409, "{posted:?}");
    assert!(posted.text.contains("row \\\"a b\\\" of products exists; PUT replaces it"), "{posted:?}");
    assert!(server.get("/tables/products/c").await.text.contains("row \\\"c\\\" of products"));
    owner.batch_execute("DELETE FROM products").await.unwrap();
    assert_eq!(brief(&socket.next().await), json!(["DELETE", "products", "a b", row]));
}

#[tokio::test]
async fn a_server_without_products_serves_the_others_alone() {
    // Once where there are none, and once where another server casts them.
    for wants_products in [false, true] {
        let database = database("CREATE TABLE orders (id int PRIMARY KEY)").await;
        prepared(&database, "orders", wants_products).await.unwrap();
        let server =
            TestServer::postgres(database.url(), &["--cores", "2", "--no-products", "--table", "orders"]).await;
        let owner = database.connect().await;
        let reply = server.get("/products").await;
        assert_eq!(reply.status, 404, "{reply:?}");
        assert!(reply.text.contains("no products"), "{reply:?}");
        assert_eq!(server.get("/tables/products").await.status, 404);
        assert_eq!(server.get("/tables").await.json(), json!({"tables":[{"table":"orders","keys":"integer"}]}));
        let mut socket = Socket::connect(server.address).await;
        for command in [
            json!({"command":"subscribe","productIDs":[1]}),
            json!({"command":"subscribe","table":"products","keys":[1]}),
        ] {
            assert_eq!(refused(&mut socket, command).await["code"], "unknown_table");
        }
        ask(&mut socket, json!({"command":"subscribe","table":"orders","keys":"*"})).await;
        if wants_products {
            owner.batch_execute("INSERT INTO products VALUES (1, 'm', 'p', 2, 'n')").await.unwrap();
        }
        owner.batch_execute("INSERT INTO orders VALUES (7)").await.unwrap();
        assert_eq!(brief(&socket.next().await), json!(["INSERT", "orders", 7, {"id":7}]));
    }
}

#[tokio::test]
async fn the_house_is_kept_where_there_are_no_products() {
    let database = database("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let done = prepared(&database, "orders", false).await.unwrap();
    let (config, tables) = (PostgresConfig::parse(database.url()).unwrap(), Tables::new());
    let store = PostgresStore::new(&config).without_products(&tables);
    let store = store.with_tables(&tables, vec![done.tables[0].0.clone()]).unwrap();
    let owner = database.connect().await;
    owner.batch_execute("INSERT INTO orders VALUES (1); DELETE FROM orders").await.unwrap();
    let (mut source, listening) = listen_and_keep_house(config, store);
    assert!(matches!(source.next().await, Some(SourceEvent::Began(_))));
    let left = "SELECT count(*) FROM rowcast_tombstones";
    while owner.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::yield_now().await;
    }
    listening.abort();
    // A table of somebody else is not looked at for what it is called.
    let look =
        "SELECT triggers = rowcast_triggers() AND rowcast_replaced() IS NULL AND home IS NOT NULL FROM rowcast_stream";
    owner.batch_execute("CREATE TABLE products (product_id int PRIMARY KEY, version int)").await.unwrap();
    assert!(owner.query_one(look, &[]).await.unwrap().get::<_, bool>(0));
}
