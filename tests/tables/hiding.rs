//! Columns that never leave the server.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::tables::prepare::{WantedTables, prepare};
use rowcast::store::postgres::tables::{HiddenColumn, TableSpec};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::served::{ask, brief};
use crate::support::postgres::{Cluster, Database};
use crate::support::server::{Reply, TestServer};
use crate::support::socket::Socket;

const TABLES: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, password_hash text DEFAULT 'unset', \"Pin \"\"1\"\"\" int); \
    CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO users VALUES (1, 'a', 'secret-1', 11)";
const OPTIONS: [&str; 8] = [
    "--cores",
    "2",
    "--table",
    "users,orders",
    "--hide",
    "users.password_hash",
    "--hide",
    "public.users.\"Pin \"\"1\"\"\"",
];

async fn serve() -> (Database, TestServer, Client) {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute(TABLES).await.unwrap();
    let server = TestServer::postgres(database.url(), &OPTIONS).await;
    (database, server, owner)
}

/// Checks an answer, in which nothing hidden stands anywhere.
fn is_safe(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    for hidden in ["secret", "password_hash", "Pin"] {
        assert!(!reply.text.contains(hidden), "{reply:?}");
    }
}

#[tokio::test]
async fn a_hidden_column_leaves_the_server_by_no_change_no_read_and_no_answer() {
    let (_database, server, owner) = serve().await;
    let mut socket = Socket::connect(server.address).await;
    let told = ask(&mut socket, json!({"command":"subscribe","table":"users","keys":"*","snapshot":true})).await;
    let rows: Vec<Value> = told.iter().filter(|it| it["action"].is_string()).map(brief).collect();
    assert_eq!(rows, [json!(["SNAPSHOT", "users", 1, {"id":1,"name":"a"}])]);
    let next = async |socket: &mut Socket| brief(&socket.next().await);

    owner.batch_execute("UPDATE users SET password_hash = 'secret-2'").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["UPDATE", "users", 1, {"id":1,"name":"a"}]));
    // Longer than a notification.
    let long = format!("secret-{}", "x".repeat(9_000));
    owner.execute("INSERT INTO users VALUES (2, 'b', $1)", &[&long]).await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["INSERT", "users", 2, {"id":2,"name":"b"}]));
    owner.batch_execute("DELETE FROM users WHERE id = 2").await.unwrap();
    assert_eq!(next(&mut socket).await, json!(["DELETE", "users", 2, {"id":2,"name":"b"}]));

    for path in ["/tables/users", "/tables/users?key=1", "/tables/users/1"] {
        is_safe(&server.get(path).await, 200);
    }
    let whole = r#"{"name":"c","password_hash":"secret-3","Pin \"1\"":3}"#;
    is_safe(&server.request("PUT", "/tables/users/3", Some(whole)).await, 201);
    is_safe(&server.request("PUT", "/tables/users/3", Some(whole)).await, 200);
    is_safe(&server.request("PATCH", "/tables/users/3", Some(r#"{"password_hash":"secret-4"}"#)).await, 200);
    is_safe(&server.request("POST", "/tables/users", Some(r#"{"id":4,"password_hash":"secret-5"}"#)).await, 201);
    let hashes = "SELECT string_agg(password_hash, ' ' ORDER BY id) FROM users";
    let hashes: String = owner.query_one(hashes, &[]).await.unwrap().get(0);
    assert_eq!(hashes, "secret-2 secret-4 secret-5");
}

#[tokio::test]
async fn a_put_that_would_set_a_hidden_column_back_is_refused() {
    let (_database, server, owner) = serve().await;
    let read = server.get("/tables/users/1").await;
    let put = server.request("PUT", "/tables/users/1", Some(&read.text)).await;
    assert_eq!(put.status, 400, "{put:?}");
    assert!(put.text.contains("hidden") && put.text.contains("PATCH"), "{put:?}");
    let new = server.request_with("PUT", "/tables/users/2", &[("if-none-match", "*")], Some("{}")).await;
    is_safe(&new, 201);
    is_safe(&server.request("PATCH", "/tables/users/1", Some(&read.text)).await, 200);
    // Where nothing is hidden a PUT names what it likes.
    assert_eq!(server.request("PUT", "/tables/orders/1", Some("{}")).await.status, 201);
    let hashes = "SELECT string_agg(password_hash, ' ' ORDER BY id) FROM users";
    assert_eq!(owner.query_one(hashes, &[]).await.unwrap().get::<_, String>(0), "secret-1 unset");
}

#[tokio::test]
async fn a_hidden_column_that_is_renamed_is_shown_under_no_other_name() {
    let (_database, server, owner) = serve().await;
    let mut socket = Socket::connect(server.address).await;
    ask(&mut socket, json!({"command":"subscribe","table":"users","keys":[1]})).await;
    owner
        .batch_execute("ALTER TABLE users RENAME COLUMN password_hash TO hash; UPDATE users SET name = 'b'")
        .await
        .unwrap();
    // The change names its row alone, and whoever asks for that is told that something is wrong.
    let change = loop {
        let message = socket.next().await;
        assert!(!message.to_string().contains("secret"), "{message}");
        if message["action"].is_string() {
            break message;
        }
    };
    assert_eq!((&change["action"], &change["key"]), (&json!("UPDATE"), &json!(1)));
    assert!(change.get("row").is_none(), "{change}");
    is_safe(&server.get("/tables/users/1").await, 500);
}

#[tokio::test]
async fn what_cannot_be_hidden_stops_the_start_with_a_sentence() {
    let database = Cluster::shared().database().await;
    database.connect().await.batch_execute(TABLES).await.unwrap();
    let config = PostgresConfig::parse(database.url()).unwrap();
    for (hidden, sentence) in [
        ("users.id", "table users: its column id is its key"),
        ("users.pin", "table users: it has no column pin"),
        ("users.PASSWORD_HASH,orders.none", "table orders: it has no column none"),
        ("users.rowcast_versions", "table users: it has no column rowcast_versions"),
        ("nothing.id", "table nothing: there is no such table"),
        ("pg_class.relname", "table pg_class: a column of it is to be hidden, and it is not cast"),
    ] {
        let wanted = WantedTables {
            specs: TableSpec::parse_list("users,orders").unwrap(),
            hidden: HiddenColumn::parse_list(hidden).unwrap(),
            without_products: false,
        };
        let refusal = prepare(&config, &wanted).await.unwrap_err().to_string();
        assert!(refusal.starts_with(sentence), "{hidden}: {refusal}");
    }
}
