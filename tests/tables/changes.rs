//! What is told of writes with plain SQL, whoever writes.

use rowcast::source::notify::notification::RowAt;
use serde_json::json;

use super::{Fixture, change, row};
use crate::support::postgres::connect;

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";

#[tokio::test]
async fn each_change_is_told_with_its_row_and_the_version_that_the_row_has() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    fixture.write("INSERT INTO orders VALUES (1, 'a', 7000); UPDATE orders SET note = 'b', rowcast_version = -5").await;
    let told = fixture.told.since(&fixture.owner).await;
    let [inserted, updated] = [&told[0], &told[1]].map(|payload| change(payload));
    let stored: i64 = fixture.value("SELECT rowcast_version FROM orders").await;
    assert_eq!(updated.version, stored.cast_unsigned());
    assert!(0 < inserted.version && inserted.version < updated.version && updated.version < 7000);
    assert_eq!(row(&told[1]), json!({"id": 1, "note": "b", "rowcast_version": stored}));

    fixture.write("DELETE FROM orders").await;
    let told = fixture.told.since(&fixture.owner).await;
    assert_eq!(row(&told[0]), json!({"id": 1, "note": "b", "rowcast_version": stored}));
    let buried: i64 = fixture.value("SELECT version FROM rowcast_tombstones WHERE table_id = 1 AND key = '1'").await;
    assert!(buried > stored && change(&told[0]).version == buried.cast_unsigned());
}

#[tokio::test]
async fn the_changes_of_a_transaction_are_told_in_order_and_those_undone_are_not() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    let told = fixture
        .tells(
            "BEGIN; INSERT INTO orders VALUES (1); SAVEPOINT undone; DELETE FROM orders; INSERT INTO orders VALUES (2); \
             ROLLBACK TO undone; UPDATE orders SET note = 'n'; DELETE FROM orders; INSERT INTO orders VALUES (1); COMMIT; \
             BEGIN; INSERT INTO orders VALUES (3); ROLLBACK",
        )
        .await;
    assert_eq!(told, ["I 1", "U 1", "D 1", "I 1"]);
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_an_insert() {
    let mut fixture = Fixture::installed(&format!("{ORDERS}; INSERT INTO orders VALUES (1), (2)"), "orders").await;
    assert_eq!(fixture.tells("UPDATE orders SET id = 3 WHERE id = 1").await, ["D 1", "I 3"]);
}

#[tokio::test]
async fn keys_that_move_up_one_by_one_end_as_they_are() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    // The greater one first: otherwise its place is taken.
    fixture.write("INSERT INTO orders VALUES (2), (1)").await;
    fixture.told().await;
    fixture.write("UPDATE orders SET id = id + 1").await;
    let told = fixture.told.since(&fixture.owner).await;
    let mut newest = std::collections::HashMap::new();
    for change in told.iter().map(|payload| change(payload)) {
        let (version, is_there) = newest.entry(change.key).or_insert((0, false));
        if change.version > *version {
            (*version, *is_there) = (change.version, change.row != RowAt::Nowhere && !told_gone(&change));
        }
    }
    assert_eq!([newest["1"].1, newest["2"].1, newest["3"].1], [false, true, true], "{told:?}");
}

fn told_gone(change: &rowcast::source::notify::notification::TableChange<'_>) -> bool {
    change.action == rowcast::source::notify::notification::Action::Delete
}

#[tokio::test]
async fn a_row_that_is_replaced_in_one_statement_is_told_as_it_is() {
    let mut fixture = Fixture::installed(&format!("{ORDERS}; INSERT INTO orders VALUES (1, 'a')"), "orders").await;
    fixture.write("WITH old AS (DELETE FROM orders RETURNING *) INSERT INTO orders SELECT id, 'b' FROM old").await;
    let told = fixture.told.since(&fixture.owner).await;
    let last = told.iter().max_by_key(|payload| change(payload).version).unwrap();
    assert_eq!(row(last)["note"], "b");
    assert_eq!(change(last).version, fixture.value::<i64>("SELECT rowcast_version FROM orders").await.cast_unsigned());
}

#[tokio::test]
async fn a_truncate_is_one_gap_and_one_tombstone_of_none() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    fixture.write("INSERT INTO orders SELECT generate_series(1, 1000)").await;
    fixture.told().await;
    assert_eq!(fixture.tells("TRUNCATE orders; INSERT INTO orders VALUES (1)").await, ["gap truncated", "file", "I 1"]);
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM rowcast_tombstones").await, 0);
}

#[tokio::test]
async fn a_key_that_is_too_long_is_written_and_not_told() {
    let mut fixture = Fixture::installed("CREATE TABLE texts (id text PRIMARY KEY, n int)", "texts").await;
    let told = fixture
        .tells(
            "INSERT INTO texts VALUES (repeat('k', 256)), (repeat('k', 257)), (repeat('ü', 129)); UPDATE texts SET n = 1; \
             UPDATE texts SET id = 'short' WHERE id = repeat('k', 257); UPDATE texts SET id = repeat('l', 300) \
             WHERE id = 'short'; DELETE FROM texts WHERE id = repeat('l', 300)",
        )
        .await;
    let longest = "k".repeat(256);
    let (inserted, updated) = (format!("I \"{longest}\""), format!("U \"{longest}\""));
    let keyless = "keyless";
    let expected = [
        &inserted,
        keyless,
        keyless,
        &updated,
        keyless,
        keyless,
        keyless,
        "I \"short\"",
        "D \"short\"",
        keyless,
        keyless,
    ];
    assert_eq!(told, expected);
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM texts").await, 2);
}

#[tokio::test]
async fn rows_of_every_size_are_written_and_told_as_far_as_they_can_be() {
    let mut fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY, note text)", "orders").await;
    let empty = fixture.tells("INSERT INTO orders VALUES (1, '')").await;
    assert_eq!(empty, ["I 1"]);
    // Up to the byte.
    fixture.write("UPDATE orders SET note = 'x'").await;
    let told = fixture.told.since(&fixture.owner).await;
    let room = 7999 - told[0].len() + 1;
    assert_eq!(fixture.tells(&format!("UPDATE orders SET note = repeat('x', {room})")).await, ["U 1"]);
    assert_eq!(fixture.tells(&format!("UPDATE orders SET note = repeat('x', {room} + 1)")).await, ["U 1 +"]);
    fixture.write("UPDATE orders SET note = repeat('é\"', 100000)").await;
    let told = fixture.told.since(&fixture.owner).await;
    let version = change(&told[0]).version.cast_signed();
    let stored = fixture.owner.query_one("SELECT message FROM oversize_changes WHERE version = $1", &[&version]).await;
    let stored: String = stored.unwrap().get(0);
    let RowAt::Payload(stored) = change(&stored).row else { panic!("{stored}") };
    let stored: serde_json::Value = serde_json::from_str(stored).unwrap();
    assert_eq!(stored, json!({"id": 1, "note": "é\"".repeat(100_000), "rowcast_version": version}));
    assert_eq!(fixture.tells("UPDATE orders SET note = repeat('x', 1100000)").await, ["U 1 -"]);
    assert_eq!(fixture.tells("DELETE FROM orders").await, ["D 1 -"]);
}

#[tokio::test]
async fn a_row_has_one_rendering_whatever_the_writers_settings_are() {
    let mut fixture = Fixture::installed(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz, day date, took interval, raw bytea, rate float8, \
             spans tstzrange, days date[], kind regclass)",
        "orders",
    )
    .await;
    let insert = |id| {
        format!(
            "INSERT INTO orders VALUES ({id}, '2026-01-02 03:04:05+00', '2026-01-02', '1 day 2 hours', '\\x00ff', 0.1::float8 + 0.2, \
                 '[2026-01-02 03:04:05+00,)', '{{2026-01-02}}', 'orders')"
        )
    };
    fixture.write(&insert(1)).await;
    fixture
        .write(&format!(
            "SET timezone = 'Asia/Tokyo'; SET bytea_output = 'escape'; SET intervalstyle = 'postgres_verbose'; \
             SET datestyle = 'German'; SET extra_float_digits = -3; SET quote_all_identifiers = on; SET session_replication_role = 'replica'; {}; RESET ALL",
            insert(2).replace("'2026-01-02'", "DATE '2026-01-02'")
        ))
        .await;
    let told = fixture.told.since(&fixture.owner).await;
    let rows: Vec<_> = told
        .iter()
        .map(|payload| {
            let mut row = row(payload);
            for name in ["id", "rowcast_version"] {
                row.as_object_mut().unwrap().remove(name);
            }
            row
        })
        .collect();
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0]["at"], "2026-01-02T03:04:05+00:00");
    assert_eq!(rows[0]["took"], "P1DT2H");
    assert_eq!(rows[0]["raw"], "\\x00ff");
    assert_eq!(rows[0]["rate"], json!(0.300_000_000_000_000_04));
    assert_eq!(rows[0]["spans"], "[\"2026-01-02 03:04:05+00\",)");
    assert_eq!(rows[0]["kind"], "public.orders");
}

#[tokio::test]
async fn a_writer_needs_no_right_but_those_on_the_table() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    fixture
        .write(
            "DROP ROLE IF EXISTS order_writer; CREATE ROLE order_writer LOGIN; \
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON orders TO order_writer",
        )
        .await;
    let writer = connect(&fixture.database.url_as("order_writer")).await;
    // The functions of the triggers cannot be replaced by a writer's own.
    writer
        .batch_execute(
            "CREATE TEMPORARY TABLE rowcast_tombstones (table_id int, key text, version bigint); \
             CREATE TEMPORARY TABLE rowcast_stream (channel text); CREATE TEMPORARY TABLE orders (id int, note text); \
             CREATE FUNCTION pg_temp.concat(VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$; \
             SET search_path = pg_temp, pg_catalog, public",
        )
        .await
        .unwrap();
    for statement in [
        "INSERT INTO public.orders VALUES (1, 'a')",
        "UPDATE public.orders SET note = repeat('x', 9000)",
        "UPDATE public.orders SET id = 2",
        "DELETE FROM public.orders",
        "TRUNCATE public.orders",
    ] {
        writer.batch_execute(statement).await.unwrap();
    }
    assert_eq!(fixture.told().await, ["I 1", "U 1 +", "D 1 +", "I 2 +", "D 2 +", "gap truncated", "file"]);
    for statement in [
        "SELECT public.rowcast_gap(1, 'x')",
        "SELECT public.rowcast_tell('c', 1, 'row 1 I 2 3', 2, '{}')",
        "SELECT public.rowcast_bury('c', 1, 'row 1 D 2 3', 2, '{}', 1, '3')",
        "CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION public.rowcast_before_1()",
        "CREATE TRIGGER t BEFORE TRUNCATE ON orders EXECUTE FUNCTION public.rowcast_truncated()",
        "SELECT nextval('public.rowcast_deletes_1')",
        "SELECT FROM public.rowcast_stream",
        "SELECT FROM public.rowcast_tombstones",
    ] {
        let error = writer.batch_execute(statement).await.unwrap_err();
        assert!(error.as_db_error().unwrap().message().starts_with("permission denied"), "{statement}: {error:?}");
    }
}

#[tokio::test]
async fn what_the_triggers_of_others_write_is_told() {
    let mut fixture = Fixture::installed(
        &format!(
            "{ORDERS}; CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN NEW.note := upper(NEW.note); RETURN NEW; END $$; \
             CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION shout(); \
             CREATE FUNCTION double() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF pg_trigger_depth() < 2 THEN UPDATE orders SET note = note || note WHERE id = NEW.id; END IF; RETURN NULL; END $$; \
             CREATE TRIGGER double AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION double(); \
             CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF OLD.id = 1 THEN INSERT INTO orders VALUES (2, 'kept'); END IF; RETURN NULL; END $$; \
             CREATE TRIGGER \" keep\" AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION keep()"
        ),
        "orders",
    )
    .await;
    fixture.write("INSERT INTO orders VALUES (1, 'a'), (2, 'b')").await;
    let told = fixture.told.since(&fixture.owner).await;
    let notes: Vec<_> = told.iter().map(|payload| row(payload)["note"].as_str().unwrap().to_owned()).collect();
    assert_eq!(notes, ["A", "AA", "B", "BB"]);

    // The trigger, whose name comes first, puts 2 in again before its delete is told.
    fixture.write("DELETE FROM orders").await;
    let told = fixture.told.since(&fixture.owner).await;
    let newest = |key| {
        told.iter()
            .map(|payload| change(payload))
            .filter(|change| change.key == key)
            .max_by_key(|change| change.version)
    };
    assert_eq!(format!("{:?}", newest("1").unwrap().action), "Delete");
    assert_eq!(format!("{:?}", newest("2").unwrap().action), "Insert");
}

#[tokio::test]
async fn a_sequence_that_was_set_back_draws_above_the_row_again() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    fixture.write("SELECT setval('product_versions', 500); INSERT INTO orders VALUES (1, repeat('x', 9000))").await;
    fixture.write("SELECT setval('product_versions', 10); UPDATE orders SET note = repeat('y', 9000)").await;
    let mut told = fixture.told.since(&fixture.owner).await;
    let gap = told.remove(1);
    assert!(gap.starts_with("gap ") && gap.ends_with(" replaced"), "{gap}");
    let versions: Vec<u64> = told.iter().map(|payload| change(payload).version).collect();
    assert!(versions.len() == 2 && versions[0] == 501 && versions[1] > 501, "{versions:?}");
    // A message of the same version may be there already.
    fixture.write("SELECT setval('product_versions', 500); INSERT INTO orders VALUES (2, repeat('z', 9000))").await;
    let message: String = fixture.value("SELECT message FROM oversize_changes WHERE version = 501").await;
    assert!(message.contains("zzz"), "{message}");
}

#[tokio::test]
async fn products_tell_as_ever_beside_tables() {
    let fixture = Fixture::installed(ORDERS, "orders").await;
    let mut told = fixture.told;
    let insert = "INSERT INTO products VALUES (1, 'm', 'p', 2, 'n'); INSERT INTO orders VALUES (1, 'a')";
    fixture.owner.batch_execute(insert).await.unwrap();
    let payloads = told.since(&fixture.owner).await;
    assert!(payloads[0].starts_with(r#"{"action":"INSERT","version":"#), "{payloads:?}");
    let version = |at: usize| -> u64 {
        match rowcast::source::notify::notification::parse(&payloads[at]).unwrap() {
            rowcast::source::notify::notification::Payload::Change(change) => change.version,
            _ => change(&payloads[at]).version,
        }
    };
    assert!(version(0) < version(1), "one sequence gives them all");
}
