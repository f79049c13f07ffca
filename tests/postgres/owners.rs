//! What the owner of the database has put on products, and what a write over HTTP is answered then: what is there.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::auth::tokens::{Issuer, bearer, key_file};
use crate::support::postgres::Cluster;
use crate::support::server::{Reply, TestServer, product_json};

/// A server, and the owner of its products.
async fn serve(options: &[&str]) -> (TestServer, Client) {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &[&["--cores", "1"], options].concat()).await;
    server.until_ready().await;
    (server, database.connect().await)
}

/// Puts a trigger on products, in the place of the one before, that is called so and does this.
async fn put_trigger(owner: &Client, called: &str, body: &str) {
    let statements = format!(
        "DROP FUNCTION IF EXISTS own CASCADE; CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; \
         CREATE TRIGGER own {called} ON products FOR EACH ROW EXECUTE FUNCTION own()"
    );
    owner.batch_execute(&statements).await.unwrap();
}

/// A kind of write: its method, its condition if it has one, and whether the row is there before.
type Kind = (&'static str, Option<(&'static str, &'static str)>, bool);

/// Every kind of write of a product.
const WRITES: [Kind; 8] = [
    ("POST", None, false),
    ("PUT", None, false),
    ("PUT", Some(("if-none-match", "*")), false),
    ("PUT", None, true),
    ("PUT", Some(("if-match", "*")), true),
    ("PATCH", None, true),
    ("PATCH", Some(("if-match", "*")), true),
    ("DELETE", None, true),
];

/// Writes product 1 with so many units, after it was put or removed.
async fn write(server: &TestServer, owner: &Client, (method, condition, is_there): Kind, units: i64) -> Reply {
    owner.batch_execute("ALTER TABLE products DISABLE TRIGGER own; DELETE FROM products").await.unwrap();
    if is_there {
        assert_eq!(server.request("PUT", "/products/1", Some(&product_json(1, 1))).await.status, 201);
    }
    owner.batch_execute("ALTER TABLE products ENABLE TRIGGER own").await.unwrap();
    let path = if method == "POST" { "/products" } else { "/products/1" };
    let (part, whole) = (json!({"unitsAvailable": units}).to_string(), product_json(1, units));
    let body = match method {
        "DELETE" => None,
        "PATCH" => Some(&*part),
        _ => Some(&*whole),
    };
    let headers: Vec<(&str, &str)> = condition.into_iter().collect();
    server.request_with(method, path, &headers, body).await
}

#[tokio::test]
async fn a_product_that_a_trigger_removes_again_is_done_and_not_shown() {
    let (server, owner) = serve(&[]).await;
    put_trigger(
        &owner,
        "AFTER INSERT OR UPDATE",
        "DELETE FROM products WHERE product_id = NEW.product_id; RETURN NULL;",
    )
    .await;
    for kind in WRITES.into_iter().filter(|(method, ..)| *method != "DELETE") {
        let done = write(&server, &owner, kind, 2).await;
        assert_eq!((done.status.as_u16(), &*done.text, done.header("location")), (204, "", ""), "{kind:?}: {done:?}");
        let removal = owner.query_one("SELECT max(version) FROM product_tombstones", &[]).await.unwrap();
        assert_eq!(done.header("etag"), format!("\"{}\"", removal.get::<_, i64>(0)), "{kind:?}");
        assert_eq!(server.get("/products/1").await.status, 404);
    }
}

#[tokio::test]
async fn a_product_that_a_trigger_changes_is_shown_as_it_is() {
    let (server, owner) = serve(&[]).await;
    for (called, body) in [
        ("BEFORE INSERT OR UPDATE", "NEW.units_available := 7; RETURN NEW;"),
        (
            "AFTER INSERT OR UPDATE",
            "UPDATE products SET units_available = 7 WHERE product_id = NEW.product_id AND units_available <> 7; RETURN NULL;",
        ),
    ] {
        put_trigger(&owner, called, body).await;
        for kind in WRITES.into_iter().filter(|(method, ..)| *method != "DELETE") {
            let written = write(&server, &owner, kind, 2).await;
            let status = if kind.2 { 200 } else { 201 };
            assert_eq!((written.status.as_u16(), &written.json()["unitsAvailable"]), (status, &json!(7)), "{kind:?}");
            let found = server.get("/products/1").await;
            assert_eq!(
                (written.json(), written.header("etag")),
                (found.json(), found.header("etag")),
                "{called} {kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_product_that_a_trigger_leaves_as_it_is_was_not_written() {
    let (server, owner) = serve(&[]).await;
    put_trigger(&owner, "BEFORE INSERT OR UPDATE OR DELETE", "RETURN NULL;").await;
    for kind in WRITES {
        let refused = write(&server, &owner, kind, 2).await;
        assert_eq!(refused.status, 422, "{kind:?}: {refused:?}");
        assert!(refused.text.contains("a trigger left the write out"), "{refused:?}");
    }
    for method in ["PATCH", "DELETE"] {
        let absent = write(&server, &owner, (method, None, false), 2).await;
        assert_eq!(absent.status, 404, "{method}: {absent:?}");
    }
}

#[tokio::test]
async fn a_product_that_a_trigger_gives_another_id_or_puts_back_is_found_where_it_is() {
    let (server, owner) = serve(&[]).await;
    put_trigger(&owner, "BEFORE INSERT", "NEW.product_id := NEW.product_id + 1000; RETURN NEW;").await;
    for kind in &WRITES[..3] {
        let written = write(&server, &owner, *kind, 2).await;
        let found = server.get("/products/1001").await;
        assert_eq!((written.status.as_u16(), written.header("location")), (201, "/products/1001"), "{kind:?}");
        assert_eq!((written.json(), written.header("etag")), (found.json(), found.header("etag")));
    }
    put_trigger(&owner, "AFTER DELETE", "INSERT INTO products SELECT OLD.*; RETURN NULL;").await;
    let deleted = write(&server, &owner, ("DELETE", None, true), 2).await;
    assert_eq!((deleted.status.as_u16(), deleted.header("etag")), (204, ""), "{deleted:?}");
    assert_eq!(server.get("/products/1").await.status, 200);
}

#[tokio::test]
async fn what_a_trigger_puts_into_a_product_is_for_readers() {
    let (server, owner) = serve(&["--jwt-key", &key_file("ed25519.pem")]).await;
    let issuer = Issuer::private("EdDSA");
    let token = |grant: Value| bearer(&issuer.granting(grant));
    let (writer, both) = (token(json!({"write": true})), token(json!({"read": [1], "write": true})));
    let put = async |token: &str| {
        server.request_with("PUT", "/products/1", &[("authorization", token)], Some(&product_json(1, 2))).await
    };
    let told = put(&writer).await;
    assert_eq!((told.status.as_u16(), &told.json()["unitsAvailable"]), (201, &json!(2)), "it has sent all of it");
    put_trigger(&owner, "BEFORE UPDATE", "NEW.manufacturer := 'secret'; RETURN NEW;").await;
    let told = put(&writer).await;
    assert_eq!((told.status.as_u16(), &*told.text), (204, ""), "{told:?}");
    assert!(told.header("etag").starts_with('"'));
    assert_eq!(put(&both).await.json()["manufacturer"], "secret");
}
