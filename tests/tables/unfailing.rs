//! No trigger fails a write, whatever the owner does to the table or anybody to Rowcast's own.

use super::{Fixture, row};

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text, price numeric)";
/// One write of each kind.
const WRITES: &str = "INSERT INTO orders VALUES (1, 'a'); UPDATE orders SET note = 'b'; UPDATE orders SET id = 2; \
     DELETE FROM orders";

#[tokio::test]
async fn columns_that_come_and_go_and_are_renamed_are_told_as_they_are() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    let writer = fixture.database.connect().await;
    writer.batch_execute(WRITES).await.unwrap();
    for (number, alter) in (10..).zip([
        "ADD COLUMN extra text DEFAULT 'e'",
        "RENAME COLUMN note TO remark",
        "DROP COLUMN price",
        "ALTER COLUMN remark TYPE varchar(9)",
        "ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED",
    ]) {
        fixture.write(&format!("ALTER TABLE orders {alter}")).await;
        fixture.told().await;
        // In a session that has written before, whose plans are kept.
        writer.batch_execute(&format!("INSERT INTO orders (id) VALUES ({number})")).await.unwrap();
        writer
            .batch_execute(&format!("UPDATE orders SET id = -id WHERE id = {number}; DELETE FROM orders WHERE id = 0"))
            .await
            .unwrap();
        let told = fixture.told().await;
        assert_eq!(told, [format!("I {number}"), format!("D {number}"), format!("I -{number}")], "{alter}");
    }
    writer.batch_execute("INSERT INTO orders (id) VALUES (7)").await.unwrap();
    let told = fixture.told.since(&fixture.owner).await;
    let mut names: Vec<_> = row(&told[0]).as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["extra", "id", "remark", "rowcast_version", "twice"]);
}

#[tokio::test]
async fn a_key_of_another_type_is_a_gap_for_sessions_that_wrote_before_until_it_is_installed_anew() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    let writer = fixture.database.connect().await;
    writer.batch_execute(WRITES).await.unwrap();
    fixture.write("ALTER TABLE orders ALTER COLUMN id TYPE bigint").await;
    fixture.told().await;
    writer.batch_execute(WRITES).await.unwrap();
    let told = fixture.told().await;
    assert!(told.iter().all(|told| told == "gap 42804"), "{told:?}");
    fixture.install("orders").await.unwrap();
    writer.batch_execute(WRITES).await.unwrap();
    assert_eq!(fixture.told().await, ["I 1", "U 1", "D 1", "I 2", "D 2"]);
}

#[tokio::test]
async fn what_is_taken_from_under_the_triggers_is_a_gap_and_the_write_is_done() {
    for (damage, gap) in [
        ("ALTER TABLE orders RENAME COLUMN id TO number", "gap 42703"),
        ("ALTER TABLE orders DROP COLUMN rowcast_version", "gap 42703"),
        ("ALTER TABLE orders DROP COLUMN rowcast_version; ALTER TABLE orders ADD rowcast_version date", "gap 42804"),
        ("DROP SEQUENCE rowcast_deletes_1", "gap 42P01"),
        ("ALTER SEQUENCE product_versions MAXVALUE 100000; SELECT setval('product_versions', 100000)", "gap 2200H"),
        ("ALTER SEQUENCE product_versions RENAME TO others", "gap 42P01"),
        ("DROP TABLE rowcast_tombstones", ""),
        ("DROP TABLE oversize_changes", ""),
        ("DROP FUNCTION rowcast_gap", ""),
        ("DROP FUNCTION rowcast_gap; ALTER TABLE orders RENAME COLUMN id TO number", ""),
        ("ALTER TABLE rowcast_stream RENAME TO other_stream", ""),
        ("DELETE FROM rowcast_stream", ""),
        ("ALTER TABLE orders RENAME TO sales; CREATE VIEW orders AS SELECT * FROM sales", ""),
    ] {
        let fixture = Fixture::installed(ORDERS, "orders").await;
        let writer = fixture.database.connect().await;
        writer.batch_execute(WRITES).await.unwrap();
        fixture.write(damage).await;
        // With the plans that were kept, and without.
        for writer in [&writer, &fixture.database.connect().await] {
            let is_renamed = damage.contains("TO number");
            let statements = if is_renamed { WRITES.replace("SET id", "SET number") } else { WRITES.to_owned() };
            writer.batch_execute(&statements).await.unwrap_or_else(|error| panic!("{damage}: {error:?}"));
            let large = "INSERT INTO orders VALUES (3, repeat('x', 9000)); TRUNCATE ";
            let table = if damage.contains("TO sales") { "sales" } else { "orders" };
            writer
                .batch_execute(&format!("{large}{table}"))
                .await
                .unwrap_or_else(|error| panic!("{damage}: {error:?}"));
        }
        if !gap.is_empty() {
            let mut fixture = fixture;
            let told = fixture.told().await;
            assert!(told.iter().any(|told| told == gap), "{damage}: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_rendered_is_a_gap_and_the_write_is_done() {
    let mut fixture = Fixture::installed(
        "CREATE TYPE odd AS ENUM ('a'); CREATE FUNCTION odd_json(odd) RETURNS json LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '22000'; END $$; CREATE CAST (odd AS json) WITH FUNCTION odd_json(odd); \
         CREATE TABLE orders (id int PRIMARY KEY, value odd)",
        "orders",
    )
    .await;
    assert_eq!(fixture.tells("INSERT INTO orders VALUES (1, 'a')").await, ["gap 22000"]);
    assert_eq!(fixture.tells("UPDATE orders SET value = NULL").await, ["U 1"]);
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM orders").await, 1);
}

#[tokio::test]
async fn a_cancelled_write_is_cancelled() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    let error = fixture
        .owner
        .batch_execute("SET statement_timeout = 50; INSERT INTO orders SELECT generate_series(1, 100000000)")
        .await
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    fixture.write("RESET statement_timeout").await;
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn row_level_security_hides_no_change_and_fails_no_write() {
    let mut fixture = Fixture::installed(
        &format!(
            "DROP ROLE IF EXISTS secured; CREATE ROLE secured; GRANT ALL ON SCHEMA public TO secured; {ORDERS}; \
             ALTER TABLE orders OWNER TO secured; ALTER TABLE orders ENABLE ROW LEVEL SECURITY; \
             ALTER TABLE orders FORCE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id < 3) WITH CHECK (true)"
        ),
        "orders",
    )
    .await;
    // Its functions belong to a role that the policies apply to.
    fixture.write("GRANT SELECT ON rowcast_stream TO secured; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO secured; \
                   GRANT ALL ON rowcast_tombstones TO secured; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO secured; \
                   ALTER FUNCTION rowcast_before_1 OWNER TO secured; ALTER FUNCTION rowcast_after_1 OWNER TO secured").await;
    let told = fixture
        .tells(
            "INSERT INTO orders VALUES (1), (9); UPDATE orders SET note = 'n'; SET row_security = off; \
                              DELETE FROM orders; RESET row_security",
        )
        .await;
    assert_eq!(told, ["I 1", "I 9", "U 1", "U 9", "D 1", "D 9"]);
}

/// A row that changes under the version that it had, or a change of which nothing can be told: the next look begins an epoch.
#[tokio::test]
async fn a_row_that_gets_no_version_and_a_gap_that_cannot_be_told_are_counted() {
    for lock in ["ALTER SEQUENCE product_versions CACHE 1", "LOCK TABLE rowcast_stream IN ACCESS EXCLUSIVE MODE"] {
        let fixture = Fixture::installed(
            "CREATE TABLE orders (id int PRIMARY KEY, n int); INSERT INTO orders VALUES (1, 0)",
            "orders",
        )
        .await;
        assert!(!fixture.has_version_below().await);
        let holder = fixture.database.connect().await;
        holder.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
        fixture.write("SET lock_timeout = 50; UPDATE orders SET n = 1; RESET lock_timeout").await;
        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(fixture.value::<i32>("SELECT n FROM orders").await, 1, "{lock}");
        assert!(fixture.has_version_below().await, "{lock}");
    }
}
