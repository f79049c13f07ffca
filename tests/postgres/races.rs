//! Two sessions at one product: whatever the interleaving, versions grow in the order of the commits.
//!
//! The first session holds the row's lock, the second is seen to wait for it, and only then the first goes on.

use rowcast::model::product::Product;
use rowcast::store::{Precondition, Put};
use tokio::time::timeout;
use tokio_postgres::Client;

use super::{
    Fixture, PATIENCE, Products, id, insert_sql, macbook, number_of, session_id, stored_version, until_blocked,
    until_store_is_blocked,
};
use rowcast::model::row::Row;

const UPDATE: &str = "UPDATE products SET units_available = units_available + 1 WHERE product_id = 1";
const DELETE: &str = "DELETE FROM products WHERE product_id = 1";

/// Product 1 is there. The first session begins, updates it, lets the second do `second` until that waits, does `then`
/// and commits. Answers the actions that subscribers saw after the first insert.
async fn race(fixture: &mut Fixture, then: &[&str], second: &str, changes: usize) -> Vec<String> {
    let (holder, waiter) = (fixture.database.connect().await, fixture.database.connect().await);
    holder.batch_execute(&insert_sql(1)).await.unwrap();
    holder.batch_execute(&format!("BEGIN; {UPDATE}")).await.unwrap();
    let waiter_id = session_id(&waiter).await;
    let second = second.to_owned();
    let waiting = tokio::spawn(async move { waiter.batch_execute(&second).await });
    until_blocked(&holder, waiter_id).await;
    for statement in then {
        holder.batch_execute(statement).await.unwrap();
    }
    holder.batch_execute("COMMIT").await.unwrap();
    timeout(PATIENCE, waiting).await.expect("no hang").unwrap().unwrap();
    let seen = fixture.changes.of_one_product(2 + changes).await;
    seen.into_iter().skip(2).map(|(action, _)| action).collect()
}

/// Sets the isolation of the transactions in sessions that begin from here on.
async fn isolate_by_default(client: &Client, level: &str) {
    let name: String = client.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    let alter = format!("ALTER DATABASE {name} SET default_transaction_isolation = '{level}'");
    client.batch_execute(&alter).await.unwrap();
}

#[tokio::test]
async fn an_insert_that_waits_for_a_delete_comes_after_it() {
    let mut fixture = Fixture::new().await;
    assert_eq!(race(&mut fixture, &[DELETE], &insert_sql(1), 2).await, ["DELETE", "INSERT"]);
}

#[tokio::test]
async fn an_insert_that_waits_for_a_product_that_comes_and_goes_comes_after_it() {
    let mut fixture = Fixture::new().await;
    let then = [DELETE, &insert_sql(1), UPDATE, DELETE];
    let seen = race(&mut fixture, &then, &insert_sql(1), 5).await;
    assert_eq!(seen, ["DELETE", "INSERT", "UPDATE", "DELETE", "INSERT"]);
}

#[tokio::test]
async fn an_insert_that_drew_its_version_long_before_the_delete_comes_after_it() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let (deleter, inserter) = (database.connect().await, database.connect().await);
    // Holds the insert between its draw and its unique check.
    deleter
        .batch_execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$; \
             CREATE TRIGGER zzz_after_rowcast BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION pause()",
        )
        .await
        .unwrap();
    deleter.batch_execute(&insert_sql(1)).await.unwrap();
    deleter.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let inserter_id = session_id(&inserter).await;
    let waiting = tokio::spawn(async move { inserter.batch_execute(&insert_sql(1)).await });
    until_blocked(&deleter, inserter_id).await;
    deleter.batch_execute(DELETE).await.unwrap();
    deleter.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    timeout(PATIENCE, waiting).await.expect("no hang").unwrap().unwrap();

    let seen = changes.of_one_product(3).await;
    assert_eq!(seen.last().unwrap(), &("INSERT".to_owned(), stored_version(&deleter, 1).await));
}

#[tokio::test]
async fn an_insert_under_a_stricter_isolation_level_comes_after_the_delete_that_it_cannot_see() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut fixture = Fixture::new().await;
        let insert = format!("BEGIN ISOLATION LEVEL {level}; {}; COMMIT", insert_sql(1));
        assert_eq!(race(&mut fixture, &[DELETE], &insert, 2).await, ["DELETE", "INSERT"], "{level}");
    }
}

#[tokio::test]
async fn a_delete_that_waits_for_an_update_comes_after_it() {
    let mut fixture = Fixture::new().await;
    assert_eq!(race(&mut fixture, &[UPDATE], DELETE, 2).await, ["UPDATE", "DELETE"]);
}

#[tokio::test]
async fn an_update_that_waits_for_a_delete_changes_nothing() {
    let mut fixture = Fixture::new().await;
    assert_eq!(race(&mut fixture, &[DELETE], UPDATE, 1).await, ["DELETE"]);
    let client = fixture.database.connect().await;
    fixture.changes.none_before_now(&client).await;
}

#[tokio::test]
async fn an_upsert_that_waits_for_a_delete_comes_after_it() {
    let mut fixture = Fixture::new().await;
    let upsert = insert_sql(1) + " ON CONFLICT (product_id) DO UPDATE SET units_available = 9";
    assert_eq!(race(&mut fixture, &[DELETE], &upsert, 2).await, ["DELETE", "INSERT"]);
}

#[tokio::test]
async fn an_upsert_that_waits_for_an_update_comes_after_it() {
    let mut fixture = Fixture::new().await;
    let upsert = insert_sql(1) + " ON CONFLICT (product_id) DO UPDATE SET units_available = 9";
    assert_eq!(race(&mut fixture, &[UPDATE], &upsert, 2).await, ["UPDATE", "UPDATE"]);
}

#[tokio::test]
async fn an_insert_that_waits_for_a_change_of_the_key_comes_after_it() {
    let mut fixture = Fixture::new().await;
    let client = fixture.database.connect().await;
    let rename = "UPDATE products SET product_id = 2 WHERE product_id = 1";
    // The insert of product 2, told between the delete and the insert of product 1, grows from the same numbers.
    assert_eq!(race(&mut fixture, &[rename], &insert_sql(1), 3).await, ["DELETE", "INSERT", "INSERT"]);
    assert!(stored_version(&client, 1).await > stored_version(&client, 2).await);
}

#[tokio::test]
async fn a_change_of_the_key_that_waits_for_a_delete_comes_after_it() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let (holder, waiter) = (database.connect().await, database.connect().await);
    holder.batch_execute(&insert_sql(1)).await.unwrap();
    holder.batch_execute(&insert_sql(2)).await.unwrap();
    holder.batch_execute(&format!("BEGIN; {UPDATE}")).await.unwrap();
    let waiter_id = session_id(&waiter).await;
    let rename = "UPDATE products SET product_id = 1 WHERE product_id = 2";
    let waiting = tokio::spawn(async move { waiter.batch_execute(rename).await });
    until_blocked(&holder, waiter_id).await;
    holder.batch_execute(&format!("{DELETE}; COMMIT")).await.unwrap();
    timeout(PATIENCE, waiting).await.expect("no hang").unwrap().unwrap();

    let mut seen = Vec::new();
    for _ in 0..6 {
        let change = changes.next().await;
        seen.push((number_of(&change), change.version));
    }
    assert_eq!(seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 1, 1, 2, 1]);
    assert!(seen[5].1 > seen[3].1, "{seen:?}");
    assert_eq!(seen[5].1, stored_version(&holder, 1).await);
}

#[tokio::test]
async fn the_store_answers_the_version_that_an_insert_got_in_the_end() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let Fixture { database, store, mut changes, .. } = Fixture::new().await;
        let holder = database.connect().await;
        isolate_by_default(&holder, level).await;
        store.insert_product(macbook(1), Precondition::default()).await.unwrap();
        holder.batch_execute(&format!("BEGIN; {UPDATE}")).await.unwrap();
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.insert_product(macbook(1), Precondition::default()).await }
        });
        until_store_is_blocked(&database, 1).await;
        holder.batch_execute(&format!("{DELETE}; COMMIT")).await.unwrap();
        let answered = timeout(PATIENCE, waiting).await.expect("no hang").unwrap().unwrap();
        assert_eq!(changes.of_one_product(4).await[3], ("INSERT".to_owned(), answered), "{level}");
        assert_eq!(store.get(id(1)).await.unwrap().version, answered);
    }
}

#[tokio::test]
async fn the_store_answers_what_a_put_did_in_the_end() {
    let Fixture { database, store, mut changes, .. } = Fixture::new().await;
    let holder = database.connect().await;
    store.insert_product(macbook(1), Precondition::default()).await.unwrap();
    holder.batch_execute(&format!("BEGIN; {UPDATE}")).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.put_product(macbook(1), Precondition::default()).await }
    });
    until_store_is_blocked(&database, 1).await;
    holder.batch_execute(&format!("{DELETE}; COMMIT")).await.unwrap();
    let (put, answered) = timeout(PATIENCE, waiting).await.expect("no hang").unwrap().unwrap();
    assert_eq!(put, Put::Inserted);
    assert_eq!(changes.of_one_product(4).await[3], ("INSERT".to_owned(), answered));
}

#[tokio::test]
async fn a_write_that_was_rolled_back_for_another_is_tried_again() {
    let Fixture { database, store, .. } = Fixture::new().await;
    let client = database.connect().await;
    isolate_by_default(&client, "repeatable read").await;
    store.insert_product(macbook(1), Precondition::default()).await.unwrap();
    client.batch_execute(&format!("BEGIN; {UPDATE}")).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.patch(id(1), Row::encoded(r#"{"productName":"Air"}"#), Precondition::default()).await }
    });
    until_store_is_blocked(&database, 1).await;
    client.batch_execute("COMMIT").await.unwrap();
    let patched = timeout(PATIENCE, waiting).await.expect("no hang").unwrap().unwrap();
    let air = Product { units_available: 7, product_name: "Air".into(), ..macbook(1) };
    assert_eq!(patched.row, Some(Row::from(&air)));
}
