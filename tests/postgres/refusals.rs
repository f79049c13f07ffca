//! The rules of the database's owner, as a writer is told them.

use crate::support::postgres::{Cluster, Database};
use crate::support::server::{Reply, TestServer, product_json};

async fn server() -> (Database, TestServer) {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "1"]).await;
    (database, server)
}

fn assert_told(reply: &Reply, status: u16, parts: &[&str]) {
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(reply.status, status, "{detail}");
    assert_eq!(reply.headers.contains_key("retry-after"), status == 503, "{detail}");
    assert!(parts.iter().all(|part| detail.contains(part)), "{detail} does not say {parts:?}");
    for secret in ["127.0.0.1", "already exists", "SELECT", "INSERT", "PL/pgSQL", "test_"] {
        assert!(!detail.contains(secret), "{detail}");
    }
}

/// A function that is called for each row before it is written.
fn trigger(body: &str) -> String {
    format!(
        "CREATE FUNCTION rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$; \
         CREATE TRIGGER rule BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION rule()"
    )
}

/// The rules of an owner: what makes each, what unmakes it, and the status and the words that a writer gets.
fn rules() -> Vec<(String, &'static str, u16, &'static [&'static str])> {
    let constraint = "ALTER TABLE products DROP CONSTRAINT rule";
    let function = "DROP FUNCTION rule CASCADE";
    vec![
        (
            "ALTER TABLE products ADD CONSTRAINT rule CHECK (units_available < 100)".into(),
            constraint,
            422,
            &["violates check constraint \"rule\""],
        ),
        ("ALTER TABLE products ADD CONSTRAINT rule UNIQUE (units_available)".into(), constraint, 409, &["\"rule\""]),
        (
            "ALTER TABLE products ADD CONSTRAINT rule EXCLUDE (units_available WITH =)".into(),
            constraint,
            409,
            &["exclusion constraint \"rule\""],
        ),
        (
            "CREATE TABLE makers (name text PRIMARY KEY); INSERT INTO makers VALUES ('Maker 1'); \
             ALTER TABLE products ADD CONSTRAINT rule FOREIGN KEY (manufacturer) REFERENCES makers"
                .into(),
            "ALTER TABLE products DROP CONSTRAINT rule; DROP TABLE makers",
            409,
            &["foreign key constraint \"rule\""],
        ),
        (
            "ALTER TABLE products ALTER product_name TYPE varchar(6)".into(),
            "ALTER TABLE products ALTER product_name TYPE text",
            422,
            &["too long", "varying(6)"],
        ),
        (trigger("NEW.manufacturer := NULL"), function, 422, &["null value", "\"manufacturer\""]),
        (trigger("RAISE EXCEPTION 'no Mondays'"), function, 422, &["no Mondays"]),
        (
            trigger("RAISE EXCEPTION 'taken' USING ERRCODE = 'unique_violation', COLUMN = 'c'"),
            function,
            409,
            &["taken (column \"c\")"],
        ),
        (trigger("RAISE EXCEPTION 'no more' USING ERRCODE = 'U0001'"), function, 422, &["no more"]),
        (trigger("RAISE EXCEPTION 'none' USING ERRCODE = 'no_data_found'"), function, 422, &["none"]),
        (trigger("RAISE EXCEPTION 'ill' USING ERRCODE = 'system_error'"), function, 500, &["the server's log"]),
        (trigger("NEW.units_available := NEW.units_available / 0"), function, 422, &["division by zero"]),
        (trigger("NEW := NULL"), function, 422, &["left the write out"]),
        (trigger("PERFORM * FROM nowhere"), function, 500, &["the server's log"]),
        (trigger("RAISE EXCEPTION 'slow' USING ERRCODE = 'query_canceled'"), function, 503, &["try again"]),
        (trigger("RAISE EXCEPTION 'locked' USING ERRCODE = 'lock_not_available'"), function, 503, &["try again"]),
        (trigger("RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'"), function, 503, &["try again"]),
        (trigger("RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'"), function, 503, &["try again"]),
        (trigger("RAISE EXCEPTION 'x%', repeat('y', 5000)"), function, 422, &["xyyyyyy"]),
    ]
}

#[tokio::test]
async fn a_rule_of_the_owner_is_told_as_such_and_writing_goes_on_without_it() {
    let (database, server) = server().await;
    let owner = database.connect().await;
    let (one, two) = (product_json(1, 100), product_json(200, 100));
    for (make, unmake, status, parts) in rules() {
        assert!(server.request("PUT", "/products/1", Some(&one.replace(":100", ":99"))).await.status.is_success());
        owner.batch_execute(&make).await.unwrap();
        if status == 409 {
            server.request("PATCH", "/products/1", Some(r#"{"unitsAvailable":100}"#)).await;
        }
        for (method, path) in [("PUT", "/products/200"), ("POST", "/products")] {
            assert_told(&server.request(method, path, Some(&two)).await, status, parts);
        }
        owner.batch_execute(unmake).await.unwrap();
        assert_eq!(server.request("PUT", "/products/200", Some(&two)).await.status, 201, "after {make}");
        assert_eq!(server.request("DELETE", "/products/200", None).await.status, 204);
    }
}

#[tokio::test]
async fn a_key_that_is_taken_is_told_as_before_beside_another_unique_index() {
    let (database, server) = server().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE UNIQUE INDEX one_name ON products (product_name)").await.unwrap();
    assert_eq!(server.request("POST", "/products", Some(&product_json(1, 1))).await.status, 201);
    let taken = server.request("POST", "/products", Some(&product_json(1, 1))).await;
    assert_told(&taken, 409, &["product 1 exists"]);
    let named = product_json(2, 1).replace("Name 2", "Name 1");
    assert_told(&server.request("POST", "/products", Some(&named)).await, 409, &["\"one_name\""]);
    assert_eq!(server.request("PUT", "/products/2", Some(&product_json(2, 1))).await.status, 201);
    let patch = server.request("PATCH", "/products/2", Some(r#"{"productName":"Name 1"}"#)).await;
    assert_told(&patch, 409, &["\"one_name\""]);
}

#[tokio::test]
async fn characters_that_the_database_cannot_hold_are_a_bad_request() {
    let owner = Cluster::shared().database().await.connect().await;
    owner.batch_execute("DROP DATABASE IF EXISTS latin").await.unwrap();
    let create = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    owner.batch_execute(create).await.unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{}/latin", Cluster::shared().port());
    let server = TestServer::postgres(&url, &["--cores", "1"]).await;
    let euro = server.request("PUT", "/products/1", Some(&product_json(1, 1).replace("EUR", "€"))).await;
    assert_told(&euro, 400, &["0xe2 0x82 0xac"]);
    assert_eq!(server.request("PUT", "/products/1", Some(&product_json(1, 1).replace("EUR", "é"))).await.status, 201);
}

#[tokio::test]
async fn what_the_role_of_the_server_may_not_do_is_forbidden() {
    let (database, _server) = server().await;
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS only_reads; CREATE ROLE only_reads LOGIN; \
             GRANT SELECT ON products, rowcast_migrations, rowcast_stream, product_versions TO only_reads",
        )
        .await
        .unwrap();
    let server = TestServer::postgres(&database.url_as("only_reads"), &["--cores", "1"]).await;
    let refused = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    assert_told(&refused, 403, &["permission denied for table products"]);
    assert_eq!(server.get("/products/1").await.status, 404);
}

#[tokio::test]
async fn statements_prepared_before_the_tables_changed_are_prepared_again() {
    let (database, server) = server().await;
    let owner = database.connect().await;
    server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    assert_eq!(server.get("/products").await.status, 200);
    assert_eq!(server.get("/products/1").await.status, 200);
    owner.batch_execute("ALTER TABLE products ALTER product_name TYPE varchar(50)").await.unwrap();
    assert_eq!(server.get("/products").await.status, 200);
    assert_eq!(server.get("/products/1").await.status, 200);
    owner.batch_execute("ALTER TABLE products ALTER units_available TYPE int").await.unwrap();
    let unreadable = server.get("/products/1").await;
    assert_told(&unreadable, 500, &["the server's log"]);
    assert_eq!(server.get("/readyz").await.status, 200);
}
