//! `unmigrate`: a table is as it was.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::{MIGRATIONS, apply};
use rowcast::store::postgres::tables::remove::remove;

use super::Fixture;
use crate::support::postgres::Cluster;

const SHAPE: &str = "SELECT coalesce(string_agg(part, '; ' ORDER BY part), '') FROM ( \
         SELECT attname::text AS part FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped \
         UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND NOT tgisinternal \
         UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'rowcast\\_%\\_1' \
         UNION ALL SELECT relname FROM pg_class WHERE relname LIKE 'rowcast\\_deletes\\_%') AS parts";
const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";

async fn remove_all(fixture: &Fixture, names: &[&str]) -> Result<(), String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    remove(&fixture.config, &names).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_has_nothing_of_rowcast_is_refused() {
    let fixture = Fixture::new(ORDERS).await;
    for (name, reason) in [
        ("orders", "not installed on it"),
        ("products", "not installed on it"),
        ("nothing", "no such table"),
        ("no such name", "no table's name"),
    ] {
        let refusal = remove_all(&fixture, &[name]).await.unwrap_err();
        assert!(refusal.starts_with(&format!("table {name}: ")) && refusal.contains(reason), "{refusal}");
    }
}

#[tokio::test]
async fn all_that_was_installed_is_gone_and_may_come_again() {
    let mut fixture = Fixture::new(ORDERS).await;
    let shape: String = fixture.value(SHAPE).await;
    fixture.install("orders").await.unwrap();
    fixture.write("INSERT INTO orders VALUES (1), (2); DELETE FROM orders WHERE id = 1").await;
    assert_ne!(fixture.value::<String>(SHAPE).await, shape);
    remove_all(&fixture, &["public.orders"]).await.unwrap();
    assert_eq!(fixture.value::<String>(SHAPE).await, shape);
    let left = "SELECT (SELECT count(*) FROM rowcast_tables) + (SELECT count(*) FROM rowcast_tombstones)";
    assert_eq!(fixture.value::<i64>(left).await, 0);
    fixture.told().await;
    assert!(fixture.tells("INSERT INTO orders VALUES (1)").await.is_empty());
    fixture.install("orders").await.unwrap();
    assert_eq!(fixture.tells("DELETE FROM orders WHERE id = 2").await, ["D 2"]);
}

#[tokio::test]
async fn a_column_that_rowcast_did_not_make_stays() {
    const COLUMN: &str = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND NOT attisdropped \
         AND attname = 'rowcast_version'";
    let old = "COMMENT ON COLUMN orders.rowcast_version IS NULL; UPDATE rowcast_tables SET is_marked = false";
    let replaced =
        "ALTER TABLE orders DROP COLUMN rowcast_version, ADD COLUMN rowcast_version bigint NOT NULL DEFAULT 7";
    let taken_over = format!("{old}; ALTER TABLE orders ALTER COLUMN rowcast_version DROP DEFAULT");
    let changed = "ALTER TABLE orders ALTER COLUMN rowcast_version DROP NOT NULL";
    for (since, stays) in [("", 0), (old, 0), (changed, 0), (replaced, 1), (&taken_over, 1)] {
        let fixture = Fixture::installed(ORDERS, "orders").await;
        fixture.write(since).await;
        remove_all(&fixture, &["orders"]).await.unwrap();
        assert_eq!(fixture.value::<i64>(COLUMN).await, stays, "{since}");
        assert_eq!(fixture.value::<i64>("SELECT count(*) FROM rowcast_tables").await, 0, "{since}");
    }
}

#[tokio::test]
async fn a_trigger_of_somebody_that_has_a_name_of_ours_stays() {
    let fixture = Fixture::installed(ORDERS, "orders").await;
    fixture
        .write(
            "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             DROP TRIGGER \"00_rowcast\" ON orders; \
             CREATE TRIGGER \"00_rowcast\" AFTER INSERT ON orders EXECUTE FUNCTION audit()",
        )
        .await;
    remove_all(&fixture, &["orders"]).await.unwrap();
    assert_eq!(fixture.value::<String>(SHAPE).await, "00_rowcast; id; note");
}

#[tokio::test]
async fn what_the_first_releases_with_tables_installed_is_gone() {
    // As the migrations up to the eighth and the code that came with them left a table: no mark on the column, and none
    // of the tables is known to have one.
    const INSTALLED: &str = "INSERT INTO rowcast_tables (relation, key) VALUES ('orders', 'id'); \
        CREATE SEQUENCE rowcast_deletes_1 CACHE 1; \
        CREATE FUNCTION rowcast_before_1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
            $$ BEGIN NEW.rowcast_version := nextval('product_versions'); RETURN NEW; END $$; \
        CREATE FUNCTION rowcast_after_1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN NULL; END $$; \
        ALTER TABLE orders ADD COLUMN rowcast_version bigint NOT NULL DEFAULT 7; \
        CREATE TRIGGER \"00_rowcast\" AFTER INSERT OR UPDATE OR DELETE ON orders \
            FOR EACH ROW EXECUTE FUNCTION rowcast_after_1(); \
        CREATE TRIGGER zz_rowcast BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION rowcast_before_1(); \
        CREATE TRIGGER zz_rowcast_truncate BEFORE TRUNCATE ON orders EXECUTE FUNCTION rowcast_truncated(); \
        INSERT INTO orders VALUES (1, 'a'); INSERT INTO rowcast_tombstones VALUES (1, '2', 3)";
    // Also where the migrations since are not applied.
    for count in [8, MIGRATIONS.len()] {
        let database = Cluster::shared().database().await;
        let (owner, config) = (database.connect().await, PostgresConfig::parse(database.url()).unwrap());
        apply(&config, &MIGRATIONS[..8]).await.unwrap();
        owner.batch_execute(ORDERS).await.unwrap();
        let shape = async || owner.query_one(SHAPE, &[]).await.unwrap().get::<_, String>(0);
        let before = shape().await;
        owner.batch_execute(INSTALLED).await.unwrap();
        assert_ne!(shape().await, before);
        apply(&config, &MIGRATIONS[..count]).await.unwrap();
        remove(&config, &["orders".to_owned()]).await.unwrap();
        assert_eq!(shape().await, before, "{count}");
        let left = "SELECT (SELECT count(*) FROM rowcast_tables) + (SELECT count(*) FROM rowcast_tombstones)";
        assert_eq!(owner.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
        let note = owner.query_one("SELECT note FROM orders", &[]).await.unwrap();
        assert_eq!(note.get::<_, &str>(0), "a");
    }
}

#[tokio::test]
async fn a_view_in_the_way_is_named_and_nothing_is_touched() {
    let mut fixture = Fixture::installed(&format!("{ORDERS}; CREATE SCHEMA reports"), "orders").await;
    fixture.write("CREATE VIEW reports.all_orders AS SELECT * FROM orders").await;
    let refusal = remove_all(&fixture, &["orders"]).await.unwrap_err();
    assert!(refusal.contains("reports.all_orders") && refusal.contains("drop or change that first"), "{refusal}");
    assert_eq!(fixture.tells("INSERT INTO orders VALUES (1)").await, ["I 1"]);
    fixture.write("DROP VIEW reports.all_orders").await;
    remove_all(&fixture, &["orders"]).await.unwrap();
}

#[tokio::test]
async fn a_table_that_others_hold_is_tried_again() {
    let fixture = Fixture::installed(ORDERS, "orders").await;
    let holder = fixture.database.connect().await;
    holder.batch_execute("BEGIN; INSERT INTO orders VALUES (1)").await.unwrap();
    let config = fixture.config.clone();
    let removing = tokio::spawn(async move { remove(&config, &["orders".to_owned()]).await });
    let blocked = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'orders'::regclass AND NOT granted";
    while !fixture.value::<bool>(blocked).await {
        tokio::task::yield_now().await;
    }
    holder.batch_execute("COMMIT").await.unwrap();
    removing.await.unwrap().unwrap();
    assert_eq!(fixture.value::<String>(SHAPE).await, "id; note");
}

#[tokio::test]
async fn all_names_are_looked_for_before_the_first_table_is_touched() {
    let fixture =
        Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE plain (id int)", "orders").await;
    for (other, reason) in [("nothing", "there is no such table"), ("plain", "Rowcast is not installed on it")] {
        let refusal = remove(&fixture.config, &["orders".to_owned(), other.to_owned()]).await.unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("table {other}: {reason}")), "{refusal}");
        assert_eq!(fixture.value::<i64>("SELECT count(*) FROM rowcast_tables").await, 1);
    }
    let empty = Cluster::shared().database().await;
    empty.connect().await.batch_execute("CREATE TABLE orders (id int PRIMARY KEY)").await.unwrap();
    let config = PostgresConfig::parse(empty.url()).unwrap();
    let refusal = remove(&config, &["orders".to_owned()]).await.unwrap_err().to_string();
    assert_eq!(refusal, "table orders: Rowcast is not installed on it");
}

#[tokio::test]
async fn what_a_dropped_table_has_left_goes_with_another() {
    let fixture = Fixture::installed(&format!("{ORDERS}; CREATE TABLE lines (id int PRIMARY KEY)"), "lines").await;
    fixture.install("orders").await.unwrap();
    fixture.write("INSERT INTO lines VALUES (1); DELETE FROM lines; DROP TABLE lines").await;
    let refusal = remove_all(&fixture, &["lines"]).await.unwrap_err();
    assert!(refusal.contains("no such table"), "{refusal}");
    let left = "SELECT (SELECT count(*) FROM rowcast_tombstones) + (SELECT count(*) FROM rowcast_tables) \
         + (SELECT count(*) FROM pg_class WHERE relname LIKE 'rowcast\\_deletes\\_%') \
         + (SELECT count(*) FROM pg_proc WHERE proname ~ '^rowcast_(before|after)_[0-9]+$')";
    // Those of the other one.
    assert_eq!(fixture.value::<i64>(left).await, 4);
    remove_all(&fixture, &["orders"]).await.unwrap();
    assert_eq!(fixture.value::<i64>(left).await, 0);
}
