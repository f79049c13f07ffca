//! Reads of rows: by keys, in pages, and in lists.

use rowcast::model::key::Key;
use rowcast::store::postgres::tables::{FoundRow, TableRead};
use rowcast::store::{Precondition, READ_BYTES_MAX, READ_IDS_MAX};
use serde_json::Value;

use super::{Fixture, change};
use crate::support::postgres::Cluster;

fn int(number: i64) -> Key {
    Key::Integer(number)
}

fn json(found: &FoundRow) -> Value {
    match found {
        FoundRow::Present { row, .. } => serde_json::from_str(row).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rows_tombstones_and_keys_that_never_were_are_found_as_they_are() {
    let mut fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY, note text)", "orders").await;
    let (store, table) = fixture.store("orders").await;
    fixture
        .write(
            "INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, 'c'); DELETE FROM orders WHERE id IN (2, 3); \
             INSERT INTO orders VALUES (2, 'b2'); DELETE FROM orders WHERE id = 2; INSERT INTO orders VALUES (3, 'c3')",
        )
        .await;
    let keys = [int(3), int(9), int(2), int(1), int(i64::from(i32::MIN))];
    let read = store.load_rows(&table, &keys, 1).await.unwrap();
    assert_eq!(read.found.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
    assert!(read.left.is_empty());
    let buried: i64 = fixture.value("SELECT max(version) FROM rowcast_tombstones WHERE key = '2'").await;
    assert_eq!(read.found[1].1, FoundRow::Absent { version: 0 });
    assert_eq!(read.found[2].1, FoundRow::Absent { version: buried.cast_unsigned() });
    assert_eq!(json(&read.found[0].1)["note"], "c3");
    let version: i64 = fixture.value("SELECT rowcast_version FROM orders WHERE id = 3").await;
    assert!(matches!(read.found[0].1, FoundRow::Present { version: read, .. } if read == version.cast_unsigned()));
    assert_eq!(store.get_row(&table, &int(1)).await.unwrap().unwrap().1.as_ref(), json_text(&read, 3));
    assert_eq!(store.get_row(&table, &int(2)).await.unwrap(), None);

    // The mark comes after all that the read saw.
    let payloads = fixture.told.since_any(&fixture.owner).await;
    assert!(
        payloads.last().unwrap().starts_with("barrier ") && payloads.last().unwrap().ends_with(" 1"),
        "{payloads:?}"
    );
}

fn json_text(read: &TableRead, at: usize) -> &str {
    match &read.found[at].1 {
        FoundRow::Present { row, .. } => row,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_row_is_read_as_it_is_told_whatever_the_settings_are() {
    let mut fixture = Fixture::installed(
        "CREATE TABLE orders (id uuid PRIMARY KEY, at timestamptz, days date[], took interval, raw bytea, rate float8, kind regclass, \
             twice text GENERATED ALWAYS AS (id::text || 'x') STORED)",
        "orders",
    )
    .await;
    let name: String = fixture.value("SELECT current_database()::text").await;
    for setting in [
        "timezone = 'Asia/Tokyo'",
        "bytea_output = 'escape'",
        "intervalstyle = 'postgres'",
        "datestyle = 'German'",
        "extra_float_digits = -3",
        "quote_all_identifiers = on",
    ] {
        fixture.write(&format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    let (store, table) = fixture.store("orders").await;
    fixture
        .write(
            "INSERT INTO orders VALUES ('0B3E91A6-0000-4000-8000-00000000000F', '2026-01-02 03:04:05+00', '{2026-01-02}', '1 day', \
             '\\x00ff', 0.1::float8 + 0.2, 'orders')",
        )
        .await;
    let told = fixture.told.since(&fixture.owner).await;
    let key = table.kind.of_text("0b3e91a6-0000-4000-8000-00000000000f").unwrap();
    let read = store.load_rows(&table, std::slice::from_ref(&key), 1).await.unwrap();
    let rowcast::source::notify::notification::RowAt::Payload(row) = change(&told[0]).row else { panic!("{told:?}") };
    assert_eq!(json_text(&read, 0), row);
    let page = store.list_rows(&table, None, 10, 1000).await.unwrap();
    assert_eq!(page.rows, [(key, change(&told[0]).version, row.into())]);
}

#[tokio::test]
async fn a_read_has_bounded_bytes_and_leaves_the_rest_for_another() {
    // JSON, which needs no escaping when a row is read.
    let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY, note json)", "orders").await;
    let (store, table) = fixture.store("orders").await;
    let third = READ_BYTES_MAX / 3;
    fixture
        .write(&format!(
            "INSERT INTO orders SELECT i, to_json(repeat('x', {third})) FROM generate_series(1, 5) i; \
                            DELETE FROM orders WHERE id = 5"
        ))
        .await;
    let mut left: Vec<Key> = (1..=6).map(int).collect();
    let mut found = Vec::new();
    for mark in 0.. {
        let read = store.load_rows(&table, &left, mark).await.unwrap();
        assert!(read.found.iter().filter(|(_, found)| matches!(found, FoundRow::Present { .. })).count() < 3);
        assert!(!read.found.is_empty(), "each read gets on");
        found.extend(read.found);
        left = read.left;
        if left.is_empty() {
            break;
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let are_there: Vec<_> = found.iter().map(|(_, found)| matches!(found, FoundRow::Present { .. })).collect();
    assert_eq!(are_there, [true, true, true, true, false, false]);
    // One row that is larger than the bound is read alone.
    fixture.write(&format!("UPDATE orders SET note = to_json(repeat('x', {})) WHERE id = 1", READ_BYTES_MAX + 1)).await;
    let read = store.load_rows(&table, &[int(1)], 1).await.unwrap();
    assert!(matches!(read.found[..], [(_, FoundRow::Present { .. })]));
}

#[tokio::test]
async fn pages_go_through_all_keys_in_the_tables_order() {
    let fixture = Fixture::installed("CREATE TABLE texts (id text PRIMARY KEY)", "texts").await;
    let (store, table) = fixture.store("texts").await;
    fixture
        .write(
            "INSERT INTO texts SELECT 'k' || i FROM generate_series(1, 20) i; \
                   INSERT INTO texts VALUES (''), ('a,b'), ('ü'), (repeat('l', 300))",
        )
        .await;
    let order: Vec<String> =
        fixture.value("SELECT array_agg(id ORDER BY id) FROM texts WHERE octet_length(id) <= 256").await;
    let keys = store.row_keys(&table, None, 1).await.unwrap();
    assert_eq!(keys.keys.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(), order);
    assert!(keys.keys.iter().all(|(_, version)| *version > 0) && keys.next.is_none());

    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_rows(&table, after.as_deref(), 3, 1000).await.unwrap();
        assert!(page.rows.len() <= 3);
        listed.extend(page.rows.iter().map(|(key, ..)| key.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, order);
    // By bytes: one at a time.
    let page = store.list_rows(&table, Some("k1"), 10, 1).await.unwrap();
    assert_eq!((page.rows.len(), page.next.as_deref()), (1, Some("k10")));
}

#[tokio::test]
async fn a_page_of_keys_is_followed_by_another() {
    let fixture = Fixture::installed("CREATE TABLE orders (id bigint PRIMARY KEY)", "orders").await;
    let (store, table) = fixture.store("orders").await;
    let count = READ_IDS_MAX + 5;
    fixture.write(&format!("INSERT INTO orders SELECT -i FROM generate_series(1, {count}) i")).await;
    let first = store.row_keys(&table, None, 1).await.unwrap();
    assert_eq!(first.keys.len(), READ_IDS_MAX);
    let second = store.row_keys(&table, first.next.as_deref(), 2).await.unwrap();
    assert_eq!(
        second.keys.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        (-5..0).map(int).collect::<Vec<_>>()
    );
    assert_eq!(second.next, None);
}

#[tokio::test]
async fn a_row_that_cannot_be_rendered_spoils_no_other() {
    for code in ["22000", "P0001", "U0001"] {
        let fixture = Fixture::installed(&odd_orders(code), "orders").await;
        let (store, table) = fixture.store("orders").await;
        fixture.write("INSERT INTO orders VALUES (1, 'a'), (2, NULL)").await;
        let read = store.load_rows(&table, &[int(1), int(2)], 1).await.unwrap();
        assert_eq!(read.left, [int(1), int(2)], "{code}");
        let version = version_of(&fixture, 1).await;
        let found = store.load_rows(&table, &[int(1)], 1).await.unwrap().found;
        assert_eq!(found, [(int(1), FoundRow::Unreadable { version })], "{code}");
        assert!(matches!(store.load_rows(&table, &[int(2)], 1).await.unwrap().found[0].1, FoundRow::Present { .. }));
    }
}

/// A table of rows that cannot be shown where they have a value, for which the database raises an error of this code.
pub(super) fn odd_orders(code: &str) -> String {
    format!(
        "CREATE TYPE odd AS ENUM ('a', 'b'); CREATE FUNCTION odd_json(odd) RETURNS json LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$; CREATE CAST (odd AS json) WITH FUNCTION odd_json(odd); \
         CREATE TABLE orders (id int PRIMARY KEY, value odd)"
    )
}

async fn version_of(fixture: &Fixture, id: i32) -> u64 {
    fixture.value::<i64>(&format!("SELECT rowcast_version FROM orders WHERE id = {id}")).await.cast_unsigned()
}

/// The database's trouble is not the row's.
#[tokio::test]
async fn a_row_that_the_database_fails_to_read_is_no_row_that_cannot_be_read() {
    for code in ["42501", "53200", "XX000", "40001", "RC001"] {
        let fixture = Fixture::installed(&odd_orders(code), "orders").await;
        let (store, table) = fixture.store("orders").await;
        fixture.write("INSERT INTO orders VALUES (1, 'a')").await;
        let read = store.load_rows(&table, &[int(1)], 1).await;
        assert!(read.is_err(), "{code}: {read:?}");
    }
}

#[tokio::test]
async fn a_row_that_is_not_text_in_utf_8_has_its_version() {
    let database = Cluster::shared().database_in_sql_ascii().await;
    let fixture = Fixture::of(database, "CREATE TABLE orders (id int PRIMARY KEY, note text)").await;
    let (store, table) = fixture.store("orders").await;
    fixture.write("INSERT INTO orders VALUES (1, E'\\xff'), (2, E'\\xc3\\xa9')").await;
    let read = store.load_rows(&table, &[int(1), int(2)], 1).await.unwrap();
    assert_eq!(read.left, [int(1), int(2)]);
    let version = version_of(&fixture, 1).await;
    let found = store.load_rows(&table, &[int(1)], 1).await.unwrap().found;
    assert_eq!(found, [(int(1), FoundRow::Unreadable { version })]);
    assert!(matches!(store.load_rows(&table, &[int(2)], 1).await.unwrap().found[0].1, FoundRow::Present { .. }));
}

#[tokio::test]
async fn a_role_with_the_rights_that_are_named_reads_and_writes() {
    let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY, note text)", "orders").await;
    fixture
        .write(
            "DROP ROLE IF EXISTS tables_server; CREATE ROLE tables_server LOGIN; \
             GRANT SELECT ON rowcast_tables, rowcast_stream TO tables_server; \
             GRANT SELECT, UPDATE, DELETE ON rowcast_tombstones TO tables_server; GRANT SELECT ON rowcast_served TO tables_server; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO tables_server",
        )
        .await;
    let (_, table) = fixture.store("orders").await;
    let config =
        rowcast::store::postgres::config::PostgresConfig::parse(&fixture.database.url_as("tables_server")).unwrap();
    let specs = rowcast::store::postgres::tables::TableSpec::parse_list("orders").unwrap();
    let installed = rowcast::store::postgres::tables::install::install(&config, &specs, &[]).await.unwrap();
    assert_eq!(installed[0].0, table);
    let store = rowcast::store::postgres::PostgresStore::new(&config);
    let write = rowcast::store::postgres::tables::RowWrite::Put { key: &int(1), row: r#"{"note":"a"}"# };
    store.write_row(&table, write, Precondition::default()).await.unwrap();
    let write = rowcast::store::postgres::tables::RowWrite::Delete { key: &int(1) };
    let deleted = store.write_row(&table, write, Precondition::default()).await.unwrap();
    let read = store.load_rows(&table, &[int(1)], 1).await.unwrap();
    assert_eq!(read.found, [(int(1), FoundRow::Absent { version: deleted.version })]);
    assert!(deleted.version > 0);
    store.look_at_tables(std::slice::from_ref(&table)).await.unwrap();
}
