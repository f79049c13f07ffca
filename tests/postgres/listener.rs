//! The listener: it keeps listening, keeps order under backpressure, and keeps house.

use rowcast::model::event::SourceEvent;
use rowcast::source::notify::Vigilance;
use rowcast::source::{EVENTS_WAITING_MAX, Source};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::{Changes, Fixture, PATIENCE, VIGILANT, insert_sql, number_of, signal, until};
use crate::support::postgres::Cluster;

/// Ends the connection of every listener of this database, once there is one.
async fn terminate_listeners(client: &Client) {
    let terminate = "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'rowcast listener'";
    until(client, terminate).await;
}

#[tokio::test]
async fn a_lost_connection_is_opened_again() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    terminate_listeners(&client).await;
    changes.gap().await;
    changes.began().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
}

#[tokio::test]
async fn a_gap_keeps_its_place_behind_the_changes_that_wait() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let count = 2 * EVENTS_WAITING_MAX as u64;
    let insert = format!("INSERT INTO products SELECT n, 'Apple', '', 6, '' FROM generate_series(1, {count}) n");
    client.batch_execute(&insert).await.unwrap();
    // What is still on the way to the listener is lost with its connection.
    changes.until_full().await;
    terminate_listeners(&client).await;
    let mut heard = 0;
    loop {
        match changes.event().await {
            SourceEvent::Change(change) => heard += u64::from(number_of(&change) == heard + 1),
            SourceEvent::Gap => break,
            event => panic!("{event:?} before the gap"),
        }
    }
    assert!(heard >= EVENTS_WAITING_MAX as u64, "what waited is told before the gap: {heard}");
    changes.began().await;
    client.batch_execute(&insert_sql(0)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 0);
}

#[tokio::test]
async fn more_changes_than_may_wait_arrive_all_and_in_order() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let count = 4 * EVENTS_WAITING_MAX;
    let insert = format!(
        "INSERT INTO products SELECT n, repeat('m', 1000), '500EUR', 6, 'MacBook Pro' FROM generate_series(1, {count}) n"
    );
    client.batch_execute(&insert).await.unwrap();
    for number in 1..=count {
        assert_eq!(number_of(&changes.next().await), number as u64);
    }
}

#[tokio::test]
async fn a_connection_that_hangs_is_given_up_and_opened_again() {
    let cluster = Cluster::start();
    let Fixture { database, config, changes, .. } = Fixture::in_cluster(&cluster).await;
    drop(changes);
    let client = database.connect().await;
    until(&client, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'rowcast listener'").await;
    let mut changes = Changes::vigilant(&config).await;
    let backend =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rowcast listener'";
    let backend: i32 = client.query_one(backend, &[]).await.unwrap().get(0);
    signal(backend, "STOP");
    changes.gap().await;
    changes.began().await;
    signal(backend, "CONT");
    client.batch_execute(&insert_sql(1)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
}

#[tokio::test]
async fn a_server_that_is_behind_is_not_taken_for_a_dead_connection() {
    let Fixture { database, config, .. } = Fixture::new().await;
    let mut changes = Changes::vigilant(&config).await;
    let client = database.connect().await;
    let count = 8 * EVENTS_WAITING_MAX;
    let insert =
        format!("INSERT INTO products SELECT n, repeat('m', 5000), '', 6, '' FROM generate_series(1, {count}) n");
    client.batch_execute(&insert).await.unwrap();
    // Nothing is to happen while this passes: no gap comes between the changes.
    sleep(VIGILANT.silence_max * 2).await;
    for number in 1..=count {
        assert_eq!(number_of(&changes.next().await), number as u64);
    }
}

#[tokio::test]
async fn it_ends_when_nobody_takes_changes() {
    let Fixture { mut changes, .. } = Fixture::new().await;
    let listener = std::mem::replace(&mut changes.listener, tokio::spawn(async {}));
    changes.source = Source::new().1;
    timeout(PATIENCE, listener).await.expect("no hang").unwrap();
}

#[tokio::test]
async fn several_servers_read_the_same_large_change() {
    let Fixture { database, config, mut changes, .. } = Fixture::new().await;
    let mut others = Changes::of(&config).await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1).replace("'Apple'", "repeat('m', 9000)")).await.unwrap();
    let json = changes.next_json().await;
    assert!(json.len() > 9000);
    assert_eq!(others.next_json().await, json);
}

#[tokio::test]
async fn old_messages_are_removed_and_recent_ones_are_not() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "INSERT INTO oversize_changes VALUES (7001, 'old', now() - interval '11 minutes'), \
             (7002, 'recent', now() - interval '9 minutes')",
        )
        .await
        .unwrap();
    terminate_listeners(&client).await;
    until(&client, "SELECT count(*) = 1 FROM oversize_changes").await;
    until(&client, "SELECT message = 'recent' FROM oversize_changes").await;
    changes.gap().await;
    changes.began().await;
}

/// On a cluster of its own, because any transaction of the cluster keeps tombstones.
#[tokio::test]
async fn a_tombstone_stays_while_an_insert_may_need_it_and_no_longer() {
    let cluster = Cluster::start();
    let Fixture { database, config, changes, .. } = Fixture::in_cluster(&cluster).await;
    drop(changes);
    let at_once = Vigilance { tombstone_age: Duration::ZERO, ..Vigilance::DEFAULT };
    let _changes = Changes::with(&config, at_once).await;
    let (client, inserter) = (database.connect().await, database.connect().await);
    inserter.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    client.batch_execute(&format!("{}; DELETE FROM products", insert_sql(1))).await.unwrap();

    terminate_listeners(&client).await;
    until(&client, "SELECT horizon IS NOT NULL FROM product_tombstones WHERE product_id = 1").await;
    // The mark of the second call tells that it has been there.
    client.batch_execute(&format!("{}; DELETE FROM products", insert_sql(2))).await.unwrap();
    terminate_listeners(&client).await;
    until(&client, "SELECT horizon IS NOT NULL FROM product_tombstones WHERE product_id = 2").await;
    until(&client, "SELECT count(*) = 2 FROM product_tombstones").await;

    inserter.batch_execute("COMMIT").await.unwrap();
    terminate_listeners(&client).await;
    until(&client, "SELECT count(*) = 0 FROM product_tombstones").await;
}

#[tokio::test]
async fn a_tombstone_that_no_insert_needs_stays_for_its_age() {
    let Fixture { database, config, changes, .. } = Fixture::new().await;
    drop(changes);
    let _changes = Changes::with(&config, Vigilance { tombstone_age: Duration::from_hours(1), ..VIGILANT }).await;
    let client = database.connect().await;
    for number in 1..=3 {
        client.batch_execute(&format!("{}; DELETE FROM products", insert_sql(number))).await.unwrap();
        // Each is marked by a later round than the one before.
        let marked = format!("SELECT horizon IS NOT NULL FROM product_tombstones WHERE product_id = {number}");
        until(&client, &marked).await;
    }
    until(&client, "SELECT bool_and(horizon <= pg_snapshot_xmin(pg_current_snapshot())) FROM product_tombstones").await;
    // Another round begins after that.
    client
        .batch_execute("INSERT INTO oversize_changes VALUES (7001, '', now() - interval '11 minutes')")
        .await
        .unwrap();
    until(&client, "SELECT count(*) = 0 FROM oversize_changes").await;
    client
        .batch_execute("INSERT INTO oversize_changes VALUES (7002, '', now() - interval '11 minutes')")
        .await
        .unwrap();
    until(&client, "SELECT count(*) = 0 FROM oversize_changes").await;
    until(&client, "SELECT count(*) = 3 FROM product_tombstones").await;
}
