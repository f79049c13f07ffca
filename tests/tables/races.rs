//! Two sessions at one key: whatever the interleaving and the isolation level, versions grow in the order of the commits.

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use super::{Fixture, change, session_id, until_blocked};

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, n int); INSERT INTO orders VALUES (1, 0)";
const LEVELS: [&str; 4] = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
const DELETE: &str = "DELETE FROM orders WHERE id = 1";

/// Begins to do something in a session of its own, and returns once that waits.
async fn blocked(fixture: &Fixture, statements: String) -> JoinHandle<Result<(), Error>> {
    let client: Client = fixture.database.connect().await;
    let id = session_id(&client).await;
    let waiting = tokio::spawn(async move { client.batch_execute(&statements).await });
    until_blocked(&fixture.owner, id).await;
    waiting
}

/// The actions that were told of key 1, in the order of the commits, whose versions are seen to grow.
async fn grown(fixture: &mut Fixture) -> Vec<String> {
    let told = fixture.told.since(&fixture.owner).await;
    let changes: Vec<_> = told.iter().map(|payload| change(payload)).filter(|change| change.key == "1").collect();
    assert!(changes.is_sorted_by(|one, next| one.version < next.version), "{told:?}");
    let last = changes.last().unwrap().version;
    let stored = fixture.owner.query_opt("SELECT rowcast_version FROM orders WHERE id = 1", &[]).await.unwrap();
    if let Some(row) = stored {
        assert_eq!(row.get::<_, i64>(0).cast_unsigned(), last, "{told:?}");
    }
    changes.iter().map(|change| format!("{:?}", change.action)).collect()
}

#[tokio::test]
async fn an_insert_that_waits_for_a_delete_comes_after_it() {
    for level in LEVELS {
        let mut fixture = Fixture::installed(ORDERS, "orders").await;
        let holder = fixture.database.connect().await;
        holder.batch_execute("BEGIN; UPDATE orders SET n = 1").await.unwrap();
        let insert = format!("BEGIN ISOLATION LEVEL {level}; INSERT INTO orders VALUES (1, 2); COMMIT");
        let waiting = blocked(&fixture, insert).await;
        holder.batch_execute(&format!("{DELETE}; COMMIT")).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(grown(&mut fixture).await, ["Update", "Delete", "Insert"], "{level}");
    }
}

#[tokio::test]
async fn an_insert_that_waits_for_a_row_that_comes_and_goes_comes_after_it() {
    for level in LEVELS {
        let mut fixture = Fixture::installed(ORDERS, "orders").await;
        let holder = fixture.database.connect().await;
        holder.batch_execute("BEGIN; UPDATE orders SET n = 1").await.unwrap();
        let upsert = format!(
            "BEGIN ISOLATION LEVEL {level}; INSERT INTO orders VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = 9; COMMIT"
        );
        let waiting = blocked(&fixture, upsert).await;
        holder.batch_execute(&format!("{DELETE}; INSERT INTO orders VALUES (1); {DELETE}; COMMIT")).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(grown(&mut fixture).await, ["Update", "Delete", "Insert", "Delete", "Insert"], "{level}");
    }
}

#[tokio::test]
async fn an_insert_that_waits_for_a_change_of_the_key_comes_after_it() {
    let mut fixture = Fixture::installed(ORDERS, "orders").await;
    let holder = fixture.database.connect().await;
    holder.batch_execute("BEGIN; UPDATE orders SET n = 1").await.unwrap();
    let waiting = blocked(&fixture, "INSERT INTO orders VALUES (1, 2)".into()).await;
    holder.batch_execute("UPDATE orders SET id = 2; COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(grown(&mut fixture).await, ["Update", "Delete", "Insert"]);
}

#[tokio::test]
async fn a_change_of_the_key_that_waits_for_a_delete_comes_after_it() {
    let mut fixture = Fixture::installed(&format!("{ORDERS}; INSERT INTO orders VALUES (2)"), "orders").await;
    let holder = fixture.database.connect().await;
    holder.batch_execute("BEGIN; UPDATE orders SET n = 1 WHERE id = 1").await.unwrap();
    let waiting = blocked(&fixture, "UPDATE orders SET id = 1 WHERE id = 2".into()).await;
    holder.batch_execute(&format!("{DELETE}; COMMIT")).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(grown(&mut fixture).await, ["Update", "Delete", "Insert"]);
}

/// An insert that is held between its draw and its unique check, by a trigger of somebody else.
async fn held_insert(fixture: &Fixture, level: &str) -> JoinHandle<Result<(), Error>> {
    fixture
        .write(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$; \
             CREATE TRIGGER zzz_after_rowcast BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pause(); \
             SELECT pg_advisory_lock(1)",
        )
        .await;
    blocked(fixture, format!("BEGIN ISOLATION LEVEL {level}; INSERT INTO orders VALUES (1, 2); COMMIT")).await
}

#[tokio::test]
async fn an_insert_that_drew_its_version_long_before_the_delete_comes_after_it() {
    for level in LEVELS {
        let mut fixture = Fixture::installed(ORDERS, "orders").await;
        let waiting = held_insert(&fixture, level).await;
        fixture.write(&format!("{DELETE}; SELECT pg_advisory_unlock(1)")).await;
        waiting.await.unwrap().unwrap();
        assert_eq!(grown(&mut fixture).await, ["Delete", "Insert"], "{level}");
    }
}

#[tokio::test]
async fn an_append_only_table_takes_inserts_at_every_level() {
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'append only'; END $$; \
         CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION refuse()";
    let mut fixture =
        Fixture::installed(&format!("{ORDERS}; CREATE TABLE others (id int PRIMARY KEY)"), "orders,others").await;
    fixture.write(&format!("{refuse}; INSERT INTO others VALUES (1)")).await;
    fixture.told().await;
    for (number, level) in (10..).zip(LEVELS) {
        // Deletes elsewhere do not matter, and neither do those of before.
        let inserter = fixture.database.connect().await;
        inserter.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM orders")).await.unwrap();
        fixture.write("DELETE FROM others; INSERT INTO others VALUES (1)").await;
        inserter.batch_execute(&format!("INSERT INTO orders VALUES ({number}), (-{number}); COMMIT")).await.unwrap();
        let told = fixture.told().await;
        assert_eq!(told[2..], [format!("I {number}"), format!("I -{number}")], "{level}");
    }
    // Where the insert would have to draw again and may not, it is written all the same, and its table has a gap.
    for level in LEVELS {
        let waiting = held_insert(&fixture, level).await;
        fixture.write(&format!("{DELETE}; SELECT pg_advisory_unlock(1)")).await;
        waiting.await.unwrap().unwrap();
        assert_eq!(fixture.told().await, ["D 1", "gap P0001"], "{level}");
        assert_eq!(fixture.value::<i32>("SELECT n FROM orders WHERE id = 1").await, 2, "{level}");
        fixture.write("DROP TRIGGER zzz_after_rowcast ON orders; DROP FUNCTION pause").await;
    }
}

#[tokio::test]
async fn an_insert_whose_second_draw_is_left_out_has_a_gap() {
    let mut fixture = Fixture::installed(
        &format!(
            "{ORDERS}; CREATE FUNCTION ignore() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
             CREATE TRIGGER ignore BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION ignore()"
        ),
        "orders",
    )
    .await;
    let waiting = held_insert(&fixture, "REPEATABLE READ").await;
    fixture.write(&format!("{DELETE}; SELECT pg_advisory_unlock(1)")).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(fixture.told().await, ["D 1", "gap stale"]);
    assert!(fixture.has_version_below().await, "the row is below its deletion");
}

/// An old snapshot shows the row that another session has deleted beside the one that takes its place.
#[tokio::test]
async fn a_row_that_takes_the_place_of_one_that_an_old_snapshot_shows_goes_in_truth() {
    for level in LEVELS {
        for (gone, told) in [
            ("DELETE FROM orders WHERE n = 7", ["Delete", "Insert", "Delete"].as_slice()),
            ("UPDATE orders SET id = 2 WHERE n = 7", &["Delete", "Insert", "Delete"]),
            (
                "UPDATE orders SET id = 2 WHERE n = 7; UPDATE orders SET id = 1 WHERE n = 7",
                &["Delete", "Insert", "Delete", "Insert"],
            ),
        ] {
            let mut fixture = Fixture::installed(ORDERS, "orders").await;
            let old = fixture.database.connect().await;
            old.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM orders")).await.unwrap();
            fixture.write(DELETE).await;
            old.batch_execute(&format!("INSERT INTO orders VALUES (1, 7); {gone}; COMMIT")).await.unwrap();
            assert_eq!(grown(&mut fixture).await, told, "{level}: {gone}");
        }
    }
}

#[tokio::test]
async fn a_trigger_that_suppresses_updates_without_a_change_lets_the_second_draw_pass() {
    let mut fixture = Fixture::installed(
        &format!(
            "{ORDERS}; CREATE TRIGGER z_suppress BEFORE UPDATE ON orders FOR EACH ROW \
             EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        "orders",
    )
    .await;
    // The column is written into a row when that changes.
    fixture.write("UPDATE orders SET n = 1").await;
    fixture.told().await;
    assert!(fixture.tells("UPDATE orders SET n = n").await.is_empty());
    let waiting = held_insert(&fixture, "REPEATABLE READ").await;
    fixture.write(&format!("{DELETE}; SELECT pg_advisory_unlock(1)")).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(grown(&mut fixture).await, ["Delete", "Insert"]);
}

#[tokio::test]
async fn an_insert_draws_once_where_nothing_was_deleted() {
    for level in LEVELS {
        let mut fixture = Fixture::installed(ORDERS, "orders").await;
        fixture.write(&format!("{DELETE}; UPDATE orders SET n = 0")).await;
        fixture.told().await;
        let before: i64 = fixture.value("SELECT last_value FROM product_versions").await;
        let insert = format!("BEGIN ISOLATION LEVEL {level}; INSERT INTO orders VALUES (1), (2), (3); COMMIT");
        assert_eq!(fixture.tells(&insert).await, ["I 1", "I 2", "I 3"], "{level}");
        assert_eq!(fixture.value::<i64>("SELECT last_value FROM product_versions").await, before + 3, "{level}");
    }
}

#[tokio::test]
async fn deletes_of_keys_that_were_deleted_before_fail_for_no_snapshots_age() {
    for level in LEVELS {
        let mut fixture = Fixture::installed(ORDERS, "orders").await;
        // A tombstone that is changed after the snapshot was taken, as the keeping of the house does.
        fixture.write(&format!("{DELETE}; INSERT INTO orders VALUES (1, 1)")).await;
        let deleter = fixture.database.connect().await;
        deleter.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM orders")).await.unwrap();
        fixture.write("UPDATE rowcast_tombstones SET horizon = pg_current_xact_id(), marked_at = now()").await;
        deleter.batch_execute(&format!("{DELETE}; COMMIT")).await.unwrap();
        assert_eq!(fixture.told().await, ["D 1", "I 1", "D 1"], "{level}");
    }
}
