//! What is installed, when, and under which locks.

use rowcast::model::key::KeyKind;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;
use rowcast::store::postgres::tables::TableSpec;
use rowcast::store::postgres::tables::install::{Done, install};

use super::{Fixture, change};
use crate::support::postgres::{Cluster, psql};

/// All that a table has of Rowcast, as one text.
const PARTS: &str = "SELECT string_agg(part, '; ' ORDER BY part) FROM ( \
         SELECT format('%s %s %s', tgname, tgenabled, xmin) AS part FROM pg_trigger WHERE tgrelid = 'orders'::regclass \
         UNION ALL SELECT format('%s %s', proname, xmin) FROM pg_proc WHERE proname LIKE 'rowcast\\_%' \
         UNION ALL SELECT format('%s %s', attname, xmin) FROM pg_attribute WHERE attrelid = 'orders'::regclass \
         UNION ALL SELECT format('%s %s', relation, xmin) FROM rowcast_tables \
         UNION ALL SELECT format('%s %s', relname, xmin) FROM pg_class WHERE relname LIKE 'rowcast\\_%') AS parts";

async fn done(fixture: &Fixture, tables: &str) -> Vec<Done> {
    fixture.install(tables).await.unwrap().into_iter().map(|(_, done)| done).collect()
}

#[tokio::test]
async fn a_second_time_changes_nothing() {
    let fixture = Fixture::new("CREATE TABLE orders (id int PRIMARY KEY)").await;
    assert_eq!(done(&fixture, "orders").await, [Done::Installed]);
    let parts: String = fixture.value(PARTS).await;
    assert_eq!(done(&fixture, "orders").await, [Done::Nothing]);
    assert_eq!(fixture.value::<String>(PARTS).await, parts);
}

#[tokio::test]
async fn rows_are_not_rewritten_and_their_version_is_above_all_that_was_drawn() {
    let fixture = Fixture::new(
        "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 1000); \
         SELECT setval('product_versions', 41)",
    )
    .await;
    let file: u32 = fixture.value("SELECT relfilenode FROM pg_class WHERE relname = 'orders'").await;
    fixture.install("orders").await.unwrap();
    assert_eq!(fixture.value::<u32>("SELECT relfilenode FROM pg_class WHERE relname = 'orders'").await, file);
    let versions = "SELECT array_agg(DISTINCT rowcast_version) FROM orders";
    assert_eq!(fixture.value::<Vec<i64>>(versions).await, [42]);
}

#[tokio::test]
async fn every_key_and_every_name_is_taken() {
    let mut fixture = Fixture::new(
        "CREATE SCHEMA \"Shop\"; CREATE DOMAIN number AS varchar(9); \
         CREATE TABLE \"Shop\".\"Order Lines\" (\"Line No\" smallint PRIMARY KEY, \"select\" int); \
         CREATE TABLE \"select\" (\"from\" int PRIMARY KEY, \"NEW\" int); CREATE TABLE big (id bigint PRIMARY KEY); \
         CREATE TABLE ids (id uuid PRIMARY KEY); CREATE TABLE texts (id text PRIMARY KEY); \
         CREATE TABLE domains (id int, no number NOT NULL UNIQUE, name text); \
         CREATE TABLE head (action text PRIMARY KEY, gone_version int, row_text int, channel int, restamped int)",
    )
    .await;
    let names = "\"Shop\".\"Order Lines\", \"select\", big, ids, texts, domains:NO, head";
    let installed = fixture.install(names).await.unwrap();
    let kinds: Vec<_> = installed.iter().map(|(table, _)| (table.key.as_str(), table.kind)).collect();
    let integer = |bits: u32| KeyKind::Integer(i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    assert_eq!(
        kinds,
        [
            ("Line No", integer(16)),
            ("from", integer(32)),
            ("id", integer(64)),
            ("id", KeyKind::Uuid),
            ("id", KeyKind::Text),
            ("no", KeyKind::Text),
            ("action", KeyKind::Text),
        ]
    );
    let id = "0b3e91a6-0000-4000-8000-00000000000f";
    let told = fixture
        .tells(&format!(
            "INSERT INTO \"Shop\".\"Order Lines\" VALUES (-7, 1); INSERT INTO \"select\" VALUES (1, 2); \
             INSERT INTO big VALUES (9223372036854775807); INSERT INTO ids VALUES ('{}'); \
             INSERT INTO texts VALUES (E'a\"b\\n'); INSERT INTO domains VALUES (1, 'A-1', 'n'); INSERT INTO head VALUES ('x'); \
             UPDATE \"select\" SET \"from\" = 2; UPDATE domains SET no = 'B'; DELETE FROM head; \
             DELETE FROM \"Shop\".\"Order Lines\"; UPDATE texts SET id = ''",
            id.to_uppercase()
        ))
        .await;
    let expected = [
        "I -7",
        "I 1",
        "I 9223372036854775807",
        &format!("I \"{id}\""),
        "I \"a\\\"b\\n\"",
        "I \"A-1\"",
        "I \"x\"",
        "D 1",
        "I 2",
        "D \"A-1\"",
        "I \"B\"",
        "D \"x\"",
        "D -7",
        "D \"a\\\"b\\n\"",
        "I \"\"",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_schema_of_rowcasts_own_is_used_wherever_the_table_is() {
    let empty = Cluster::shared().database().await;
    let owner = empty.connect().await;
    owner.batch_execute("CREATE TABLE orders (id int PRIMARY KEY); CREATE SCHEMA \"RowCast\"").await.unwrap();
    let url = format!("{}?options=-c%20search_path%3D\"RowCast\"%2Cpublic", empty.url());
    let config = PostgresConfig::parse(&url).unwrap();
    migrate(&config).await.unwrap();
    install(&config, &TableSpec::parse_list("orders").unwrap(), &[]).await.unwrap();
    owner.batch_execute("INSERT INTO orders VALUES (1); DELETE FROM orders").await.unwrap();
    let tombstones = owner.query("SELECT key FROM \"RowCast\".rowcast_tombstones", &[]).await.unwrap();
    assert_eq!(tombstones.len(), 1);
}

#[tokio::test]
async fn another_key_and_another_form_are_brought_up_to_date() {
    let mut fixture =
        Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY, no text NOT NULL UNIQUE)", "orders").await;
    assert_eq!(done(&fixture, "orders:no").await, [Done::Updated]);
    assert_eq!(fixture.tells("INSERT INTO orders VALUES (1, 'A-1')").await, ["I \"A-1\""]);
    // Renamed, put elsewhere, and with a key of another name.
    fixture
        .write(
            "CREATE SCHEMA shop; ALTER TABLE orders SET SCHEMA shop; ALTER TABLE shop.orders RENAME TO sales; \
                   ALTER TABLE shop.sales RENAME COLUMN id TO number",
        )
        .await;
    assert_eq!(done(&fixture, "shop.sales").await, [Done::Updated]);
    assert_eq!(fixture.tells("DELETE FROM shop.sales").await, ["D 1"]);
    // A trigger that is off, not ours, or gone; a function that somebody wrote anew; a column that is gone.
    for damage in [
        "ALTER TABLE shop.sales DISABLE TRIGGER zz_rowcast",
        "ALTER TABLE shop.sales ENABLE TRIGGER \"00_rowcast\"",
        "DROP TRIGGER zz_rowcast_truncate ON shop.sales",
        // As it was once.
        "DROP TRIGGER zz_rowcast_truncate ON shop.sales; CREATE TRIGGER zz_rowcast_truncate BEFORE TRUNCATE ON shop.sales \
             EXECUTE FUNCTION rowcast_truncated(); ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER zz_rowcast_truncate",
        "CREATE OR REPLACE FUNCTION rowcast_before_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER TABLE shop.sales DROP COLUMN rowcast_version",
    ] {
        fixture.write(damage).await;
        assert_eq!(done(&fixture, "shop.sales").await, [Done::Updated], "{damage}");
        assert_eq!(done(&fixture, "shop.sales").await, [Done::Nothing], "{damage}");
        let told = fixture.tells("INSERT INTO shop.sales VALUES (1, 'A-1'); TRUNCATE shop.sales").await;
        assert_eq!(told, ["I 1", "gap truncated", "file"], "{damage}");
    }
}

#[tokio::test]
async fn a_copy_with_the_column_is_taken_over() {
    let mut fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY)", "orders").await;
    fixture
        .write(
            "CREATE TABLE fresh (LIKE orders INCLUDING ALL); ALTER TABLE orders RENAME TO old; \
                   ALTER TABLE fresh RENAME TO orders",
        )
        .await;
    assert_eq!(done(&fixture, "orders").await, [Done::Updated]);
    // The old one tells under its own number.
    fixture.write("INSERT INTO orders VALUES (1); INSERT INTO old VALUES (2)").await;
    let told = fixture.told.since(&fixture.owner).await;
    let oids: Vec<u32> = told.iter().map(|payload| change(payload).oid).collect();
    let oid = "SELECT ARRAY['orders'::regclass, 'old'::regclass]::oid[]";
    assert_eq!(oids, fixture.value::<Vec<u32>>(oid).await);
    assert_eq!(done(&fixture, "orders,old").await, [Done::Nothing, Done::Updated]);
    assert_eq!(fixture.tells("DELETE FROM orders; DELETE FROM old").await, ["D 1", "D 2"]);
}

#[tokio::test]
async fn a_column_from_before_it_was_marked_is_known_by_its_default_and_marked_then() {
    const MARK: &str = "SELECT col_description('orders'::regclass, attnum) FROM pg_attribute \
         WHERE attrelid = 'orders'::regclass AND attname = 'rowcast_version'";
    let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY)", "orders").await;
    let mark: String = fixture.value(MARK).await;
    let unmark = "COMMENT ON COLUMN orders.rowcast_version IS NULL";
    let old = format!("{unmark}; UPDATE rowcast_tables SET is_marked = false");
    for default in ["7", "5000000000"] {
        fixture.write(&format!("{old}; ALTER TABLE orders ALTER rowcast_version SET DEFAULT {default}")).await;
        assert_eq!(done(&fixture, "orders").await, [Done::Updated]);
        assert_eq!(fixture.value::<String>(MARK).await, mark);
        assert_eq!(done(&fixture, "orders").await, [Done::Nothing]);
    }
    for (damage, repair) in [
        (unmark.to_owned(), format!("COMMENT ON COLUMN orders.rowcast_version IS '{mark}'")),
        (
            format!("{old}; ALTER TABLE orders ALTER rowcast_version SET DEFAULT 0"),
            "ALTER TABLE orders ALTER rowcast_version SET DEFAULT 7".to_owned(),
        ),
        (
            "ALTER TABLE orders DROP COLUMN rowcast_version, ADD COLUMN rowcast_version bigint NOT NULL DEFAULT 7"
                .to_owned(),
            "ALTER TABLE orders RENAME COLUMN rowcast_version TO mine".to_owned(),
        ),
    ] {
        fixture.write(&damage).await;
        let refusal = fixture.install("orders").await.unwrap_err().to_string();
        assert!(refusal.contains("rename it") && refusal.contains(&mark), "{damage}: {refusal}");
        fixture.write(&repair).await;
        fixture.install("orders").await.unwrap();
    }
}

#[tokio::test]
async fn servers_that_start_at_once_install_once() {
    let fixture =
        Fixture::new("CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE lines (id int PRIMARY KEY)").await;
    let servers: Vec<_> = (0..6)
        .map(|number| {
            let config = fixture.config.clone();
            let names = if number % 2 == 0 { "orders,lines" } else { "lines,orders" };
            tokio::spawn(async move { install(&config, &TableSpec::parse_list(names).unwrap(), &[]).await })
        })
        .collect();
    let mut count = 0;
    for server in servers {
        count += server.await.unwrap().unwrap().iter().filter(|(_, done)| *done == Done::Installed).count();
    }
    assert_eq!(count, 2);
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM pg_class WHERE relname LIKE 'rowcast\\_deletes%'").await, 2);
}

#[tokio::test]
async fn a_table_that_others_hold_is_tried_again_and_does_not_block_them_for_long() {
    let mut fixture = Fixture::new("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let holder = fixture.database.connect().await;
    holder.batch_execute("BEGIN; INSERT INTO orders VALUES (1)").await.unwrap();
    let config = fixture.config.clone();
    let installing =
        tokio::spawn(async move { install(&config, &TableSpec::parse_list("orders").unwrap(), &[]).await });
    // A writer that comes meanwhile gets on as soon as a try is over, while the holder goes on.
    let blocked = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'orders'::regclass AND NOT granted";
    while !fixture.value::<bool>(blocked).await {
        tokio::task::yield_now().await;
    }
    let reader = fixture.database.connect().await;
    reader.batch_execute("SELECT FROM orders").await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(installing.await.unwrap().unwrap()[0].1, Done::Installed);
    assert_eq!(fixture.tells("UPDATE orders SET id = 2").await, ["D 1", "I 2"]);
}

#[tokio::test]
async fn nobody_writes_between_the_column_and_the_triggers() {
    let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY)", "orders").await;
    // One transaction made them all.
    let transactions = "SELECT count(DISTINCT made) FROM ( \
         SELECT xmin::text AS made FROM pg_trigger WHERE tgrelid = 'orders'::regclass UNION ALL SELECT xmin::text \
         FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'rowcast_version') AS parts";
    assert_eq!(fixture.value::<i64>(transactions).await, 1);
}

#[tokio::test]
async fn a_dump_that_is_restored_elsewhere_is_whole() {
    let fixture = Fixture::installed(
        "CREATE TABLE filler (id int); CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)",
        "orders",
    )
    .await;
    let copy = Cluster::shared().database().await;
    let programs = psql();
    let programs = programs.parent().unwrap();
    let dump = std::process::Command::new(programs.join("pg_dump"))
        .arg("--inserts")
        .arg(fixture.database.url())
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let owner = copy.connect().await;
    // The numbers of all tables are others there.
    owner.batch_execute("CREATE TABLE a (id int); CREATE TABLE b (id int)").await.unwrap();
    // Without the lines that are for psql alone.
    let dump = String::from_utf8(dump.stdout).unwrap();
    let statements: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
    owner.batch_execute(&statements.join("\n")).await.unwrap();
    owner.batch_execute("RESET search_path; DELETE FROM orders").await.unwrap();
    let config = PostgresConfig::parse(copy.url()).unwrap();
    let installed = install(&config, &TableSpec::parse_list("orders").unwrap(), &[]).await.unwrap();
    assert_eq!(installed[0].1, Done::Nothing);
    let row = owner.query_one("SELECT 'orders'::regclass::oid", &[]).await.unwrap();
    assert_eq!(installed[0].0.oid, row.get::<_, u32>(0));
}
