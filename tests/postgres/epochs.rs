//! A history of versions that was replaced is found, and named anew.

use rowcast::model::event::SourceEvent;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Changes, Fixture, insert_sql, number_of, stored_version};

/// Returns the epoch of the next beginning, before which there may be changes but no gap.
pub(super) async fn renewed(changes: &mut Changes) -> rowcast::model::epoch::Epoch {
    loop {
        match changes.event().await {
            SourceEvent::Change(_) => {}
            SourceEvent::Began(epoch) => return epoch,
            event => panic!("{event:?}"),
        }
    }
}

async fn last_version(client: &Client) -> i64 {
    client.query_one("SELECT last_value FROM product_versions", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_sequence_that_was_set_back_begins_an_epoch_for_every_server_and_gives_no_version_twice() {
    let Fixture { database, config, changes, .. } = Fixture::new().await;
    drop(changes);
    let client = database.connect().await;
    client.batch_execute("SELECT setval('product_versions', 500)").await.unwrap();
    let mut servers = [Changes::vigilant(&config).await, Changes::vigilant(&config).await];
    client.batch_execute(&insert_sql(1)).await.unwrap();
    client.batch_execute("SELECT setval('product_versions', 10)").await.unwrap();
    let mut epochs = Vec::new();
    for server in &mut servers {
        epochs.push(renewed(server).await);
    }
    assert_eq!(epochs[0], epochs[1], "one of them begins it, and all hear it");
    client.batch_execute("UPDATE products SET units_available = 7").await.unwrap();
    assert!(stored_version(&client, 1).await > 501);
    for server in &mut servers {
        assert_eq!(server.next().await.version, stored_version(&client, 1).await);
    }
}

/// As many changes have it go past what was heard, before anybody looks.
#[tokio::test]
async fn a_sequence_that_is_above_again_begins_an_epoch_all_the_same() {
    let insert = insert_sql(2);
    for change in [
        "UPDATE products SET units_available = 7",
        "UPDATE products SET product_id = 4",
        "DELETE FROM products WHERE product_id = 1",
        &insert,
    ] {
        let Fixture { database, config, changes, .. } = Fixture::new().await;
        drop(changes);
        let client = database.connect().await;
        let rows = format!("{}; {insert}; DELETE FROM products WHERE product_id = 2", insert_sql(1));
        client.batch_execute(&format!("SELECT setval('product_versions', 500); {rows}")).await.unwrap();
        let mut server = Changes::vigilant(&config).await;
        let past = format!("SELECT setval('product_versions', 10); {change}; SELECT setval('product_versions', 600)");
        client.batch_execute(&past).await.unwrap();
        renewed(&mut server).await;
        client.batch_execute(&insert_sql(3)).await.unwrap();
        loop {
            if number_of(&server.next().await) == 3 {
                break;
            }
        }
    }
}

/// Nothing but new rows: none of them had a version that the new one could be compared with.
#[tokio::test]
async fn a_sequence_that_gives_new_rows_versions_of_others_begins_an_epoch_though_it_is_above_again() {
    let Fixture { database, config, changes, .. } = Fixture::new().await;
    drop(changes);
    let client = database.connect().await;
    client.batch_execute("SELECT setval('product_versions', 500)").await.unwrap();
    let mut server = Changes::vigilant(&config).await;
    let rows = |ids: std::ops::Range<u64>| ids.map(insert_sql).collect::<Vec<String>>().join("; ");
    client.batch_execute(&rows(1..5)).await.unwrap();
    let set_back =
        format!("SELECT setval('product_versions', 502); {}; SELECT last_value FROM product_versions", rows(5..9));
    let answers = client.simple_query(&set_back).await.unwrap();
    let last = answers.iter().rev().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(last, Some("506"), "in the same transaction: the server finds it soon");
    renewed(&mut server).await;
    client.batch_execute(&insert_sql(9)).await.unwrap();
    assert!(stored_version(&client, 9).await > 506);
}

#[tokio::test]
async fn a_sequence_below_the_rows_is_found_when_a_server_starts() {
    let Fixture { database, config, changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    client
        .batch_execute(&format!("{}; {}; DELETE FROM products WHERE product_id = 3", insert_sql(2), insert_sql(3)))
        .await
        .unwrap();
    drop(changes);
    let greatest = last_version(&client).await;
    let before: i64 = client.query_one("SELECT epoch FROM rowcast_stream", &[]).await.unwrap().get(0);
    client.batch_execute("SELECT setval('product_versions', 1)").await.unwrap();
    let mut changes = Changes::deaf(&config, super::VIGILANT);
    let epoch = changes.began().await;
    assert_ne!(epoch.get().cast_signed(), before);
    assert!(last_version(&client).await >= greatest);
}

#[tokio::test]
async fn a_restart_of_the_server_is_no_new_epoch() {
    let Fixture { config, changes, .. } = Fixture::new().await;
    drop(changes);
    let (mut first, mut second) = (Changes::deaf(&config, super::VIGILANT), Changes::deaf(&config, super::VIGILANT));
    assert_eq!(first.began().await, second.began().await);
}

#[tokio::test]
async fn rows_that_changed_while_the_triggers_were_off_begin_an_epoch() {
    let Fixture { database, config, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    for (off, on) in
        [("DISABLE TRIGGER ALL", "ENABLE TRIGGER ALL"), ("DISABLE TRIGGER USER", "ENABLE ALWAYS TRIGGER zz_rowcast")]
    {
        let mut changes = Changes::vigilant(&config).await;
        // In one transaction, so that no look at the triggers finds them off.
        let on = if on.contains("ALWAYS") {
            ["00_rowcast", "zz_rowcast", "zz_rowcast_truncate"]
                .map(|name| format!("ALTER TABLE products ENABLE ALWAYS TRIGGER \"{name}\""))
                .join("; ")
        } else {
            format!("ALTER TABLE products {on}")
        };
        let write = format!("BEGIN; ALTER TABLE products {off}; UPDATE products SET units_available = 8; {on}; COMMIT");
        client.batch_execute(&write).await.unwrap();
        renewed(&mut changes).await;
        let always = "SELECT bool_and(tgenabled = 'A') FROM pg_trigger WHERE tgname LIKE '%rowcast%' AND tgrelid = 'products'::regclass";
        assert!(client.query_one(always, &[]).await.unwrap().get::<_, bool>(0), "after {off}");
    }
}

#[tokio::test]
async fn a_renewal_waits_for_writers_and_a_second_one_of_the_same_epoch_does_nothing() {
    let Fixture { database, store, mut changes, .. } = Fixture::new().await;
    let (client, writer) = (database.connect().await, database.connect().await);
    let number: i64 = client.query_one("SELECT epoch FROM rowcast_stream", &[]).await.unwrap().get(0);
    let before = rowcast::model::epoch::Epoch::new(number.cast_unsigned()).unwrap();
    writer.batch_execute(&format!("BEGIN; {}", insert_sql(1))).await.unwrap();
    store.renew_epoch(before, 0).await.expect_err("a writer has drawn a version and not committed");
    writer.batch_execute("COMMIT").await.unwrap();
    let epoch = store.renew_epoch(before, 9000).await.unwrap();
    assert_ne!(epoch, before);
    assert_eq!(store.renew_epoch(before, 0).await.unwrap(), epoch);
    assert_eq!(number_of(&changes.next().await), 1);
    assert_eq!(changes.began().await, epoch);
    assert!(last_version(&client).await >= 9000);
}
