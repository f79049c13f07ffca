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

/// Why the next look begins an epoch, if it does.
async fn reason(client: &Client) -> Option<String> {
    let look = "SELECT CASE WHEN triggers <> rowcast_triggers() THEN 'triggers' ELSE rowcast_replaced() END FROM rowcast_stream";
    client.query_one(look, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_may_change_products_untold_begins_an_epoch_and_what_does_not_does_not() {
    let Fixture { database, changes, .. } = Fixture::new().await;
    drop(changes);
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    for statement in [
        "UPDATE products SET units_available = 7",
        "ANALYZE",
        "VACUUM",
        "VACUUM FREEZE products, pg_attribute, pg_proc, pg_trigger",
        "VACUUM FULL products, pg_attribute, pg_proc, pg_trigger",
        "CLUSTER products USING products_pkey",
        "CREATE INDEX ON products (manufacturer)",
        "REINDEX TABLE products",
        "COMMENT ON COLUMN products.manufacturer IS 'who made it'",
        "GRANT SELECT ON products TO PUBLIC",
        "ALTER TABLE products ADD COLUMN own int DEFAULT 4",
        "ALTER TABLE products ADD CHECK (units_available >= 0)",
        "ALTER TABLE products ALTER own TYPE text USING own || 'x'",
        "ALTER TABLE products DROP COLUMN own",
        "CREATE TRIGGER own AFTER INSERT ON products EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CHECKPOINT",
        "TRUNCATE products",
    ] {
        client.batch_execute(statement).await.unwrap();
        assert_eq!(reason(&client).await, None, "{statement}");
    }
    // Writes fail while it has another name.
    for (name, to, is_off) in [("products", "goods", true), ("goods", "products", false)] {
        client.batch_execute(&format!("ALTER TABLE {name} RENAME TO {to}")).await.unwrap();
        assert_eq!(reason(&client).await.is_some(), is_off);
        let off = client.query_one("SELECT rowcast_triggers_off() IS NOT NULL", &[]).await.unwrap();
        assert_eq!(off.get::<_, bool>(0), is_off);
    }
    for (statement, because) in [
        ("ALTER TABLE products ALTER product_name TYPE text USING 'X' || product_name", "triggers"),
        (
            "ALTER TABLE products RENAME manufacturer TO maker; ALTER TABLE products RENAME maker TO manufacturer",
            "triggers",
        ),
        ("ALTER FUNCTION product_before_truncate() RESET search_path", "triggers"),
        // Of the cluster that this one was restored from.
        ("UPDATE rowcast_stream SET home = regexp_replace(home, '^[0-9]+', '1')", "home"),
        ("UPDATE rowcast_stream SET home = regexp_replace(home, '[0-9]+$', '1')", "home"),
    ] {
        client.batch_execute(statement).await.unwrap();
        assert_eq!(reason(&client).await.as_deref(), Some(because), "{statement}");
        client.batch_execute("SELECT rowcast_renew_epoch(epoch, 0) FROM rowcast_stream").await.unwrap();
        assert_eq!(reason(&client).await, None, "{statement}");
    }
}

/// A server whose role has few rights asks by functions of the owner, who may have few too.
#[tokio::test]
async fn a_home_that_may_not_be_known_begins_no_epoch() {
    let Fixture { database, config, changes, .. } = Fixture::new().await;
    drop(changes);
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS homeless; CREATE ROLE homeless; GRANT SELECT ON rowcast_stream TO homeless; \
             GRANT SELECT ON rowcast_versions_below, product_versions TO homeless; \
             REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; \
             ALTER FUNCTION rowcast_replaced() OWNER TO homeless",
        )
        .await
        .unwrap();
    assert_eq!(reason(&owner).await, None);
    let before: i64 = owner.query_one("SELECT epoch FROM rowcast_stream", &[]).await.unwrap().get(0);
    assert_eq!(Changes::deaf(&config, super::VIGILANT).began().await.get().cast_signed(), before);
    owner.batch_execute("UPDATE rowcast_stream SET home = NULL").await.unwrap();
    assert_eq!(reason(&owner).await, None);
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
