//! Rows that are added over HTTP to tables of a database, and their answers: the rows as the schema completed them.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::auth::tokens::{Issuer, bearer, key_file};
use crate::support::postgres::Cluster;
use crate::support::server::{Reply, TestServer};

const TABLES: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text DEFAULT 'new', \
        lines integer NOT NULL DEFAULT 0, twice integer GENERATED ALWAYS AS (lines * 2) STORED); \
    CREATE TABLE notes (slug text COLLATE \"C\" PRIMARY KEY, body text)";

async fn serve(options: &[&str]) -> (TestServer, Client) {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute(TABLES).await.unwrap();
    let options = [&["--cores", "2", "--table", "orders,notes"], options].concat();
    (TestServer::postgres(database.url(), &options).await, owner)
}

async fn post(server: &TestServer, path: &str, row: Value) -> Reply {
    server.request("POST", path, Some(&row.to_string())).await
}

#[tokio::test]
async fn a_post_answers_the_key_that_was_drawn_and_the_columns_that_were_filled() {
    let (server, _owner) = serve(&[]).await;
    let posted = post(&server, "/tables/orders", json!({"lines": 3})).await;
    let row = json!({"id": 1, "state": "new", "lines": 3, "twice": 6});
    assert_eq!((posted.status.as_u16(), posted.header("location")), (201, "/tables/orders/1"), "{posted:?}");
    assert_eq!(posted.json(), row);
    let got = server.get("/tables/orders/1").await;
    assert_eq!((got.json(), got.header("etag")), (row, posted.header("etag")));
    // A key in the row, as a number or a text, and one in the query.
    for (path, row, key) in [
        ("/tables/orders", json!({"id": 40}), 40),
        ("/tables/orders", json!({"id": "41", "state": null}), 41),
        ("/tables/orders", json!({"id": null}), 2),
        ("/tables/orders?key=42", json!({"lines": 1}), 42),
    ] {
        let posted = post(&server, path, row).await;
        assert_eq!((posted.status.as_u16(), &posted.json()["id"]), (201, &json!(key)), "{posted:?}");
    }
    let posted = server.request("POST", "/tables/notes", Some(r#"{"slug":1.50}"#)).await;
    assert_eq!((posted.status.as_u16(), &posted.json()["slug"]), (201, &json!("1.50")), "{posted:?}");
    let put = server.request("PUT", "/tables/orders/41", Some(r#"{"lines":2}"#)).await;
    assert_eq!((put.status.as_u16(), put.json()), (200, json!({"id": 41, "state": "new", "lines": 2, "twice": 4})));
}

#[tokio::test]
async fn a_post_of_a_row_that_is_there_or_is_none_is_refused() {
    let (server, owner) = serve(&[]).await;
    owner.batch_execute("INSERT INTO notes VALUES ('a')").await.unwrap();
    let long = "x".repeat(257);
    for (path, row, status, part) in [
        ("/tables/notes", json!({"slug": "a"}), 409, "row \"a\" of notes exists"),
        ("/tables/notes?key=a", json!({}), 409, "row \"a\" of notes exists"),
        ("/tables/notes?key=b", json!({"slug": "c"}), 400, "another key"),
        ("/tables/notes", json!({"slug": long}), 400, "slug: a key has at most 256 bytes"),
        ("/tables/notes", json!({"slug": "b", "boby": 1}), 400, "no column boby"),
        ("/tables/notes", json!({"body": "b"}), 422, "null value"),
        ("/tables/orders", json!({"id": 1.5}), 400, "id: a key of this table is an integer"),
        ("/tables/orders", json!({"id": "one"}), 400, "id: a key of this table is an integer"),
    ] {
        let refused = post(&server, path, row.clone()).await;
        assert_eq!(refused.status, status, "{path} {row}: {refused:?}");
        assert!(refused.text.contains(&part.replace('"', "\\\"")), "{path} {row}: {refused:?}");
    }
    let unmet = server.request_with("POST", "/tables/notes", &[("if-none-match", "*")], Some(r#"{"slug":"a"}"#)).await;
    assert_eq!(unmet.status, 412, "{unmet:?}");
    assert_eq!(owner.query_one("SELECT count(*) FROM notes", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_list_passes_over_keys_that_are_too_long_and_goes_on_behind_them() {
    let (server, owner) = serve(&[]).await;
    owner
        .batch_execute(
            "INSERT INTO notes SELECT 'b' || lpad(n::text, 3, '0') || repeat('x', 300) FROM generate_series(1, 40) n; \
             INSERT INTO notes VALUES ('a'), ('c')",
        )
        .await
        .unwrap();
    let (mut keys, mut path) = (Vec::new(), "/tables/notes?limit=1".to_owned());
    loop {
        let page = server.get(&path).await.json();
        keys.extend(page["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/tables/notes?limit=1&after={next}"),
            None => break,
        }
    }
    assert_eq!(keys, ["a", "c"]);
}

#[tokio::test]
async fn columns_that_a_writer_did_not_send_are_shown_to_readers_alone() {
    let (server, _owner) = serve(&["--jwt-key", &key_file("ed25519.pem")]).await;
    let issuer = Issuer::private("EdDSA");
    let token = |rights: Value| bearer(&issuer.granting(json!({"tables": {"orders": rights}})));
    let writer = token(json!({"write": true}));
    let both = token(json!({"read": [1], "write": true}));
    let send = async |token: &str, method: &str, path: &str| {
        server.request_with(method, path, &[("authorization", token)], Some(r#"{"lines":3}"#)).await
    };
    let posted = send(&both, "POST", "/tables/orders").await;
    assert_eq!((posted.status.as_u16(), &posted.json()["state"]), (201, &json!("new")));
    let posted = send(&writer, "POST", "/tables/orders").await;
    assert_eq!((posted.status.as_u16(), posted.header("location"), &*posted.text), (201, "/tables/orders/2", ""));
    assert!(posted.header("etag").starts_with('"'), "{posted:?}");
    for (path, status) in [("/tables/orders/2", 204), ("/tables/orders/3", 201)] {
        let put = send(&writer, "PUT", path).await;
        assert_eq!((put.status.as_u16(), &*put.text), (status, ""), "{put:?}");
        assert_eq!(send(&both, "PUT", path).await.text, "");
    }
    assert_eq!(send(&both, "PUT", "/tables/orders/1").await.json()["twice"], 6);
}
