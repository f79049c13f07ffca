//! The migrations of a database when servers start.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::{MIGRATIONS, MigrateError, Migration, apply, migrate};

use rowcast::model::product::Product;
use rowcast::store::postgres::PostgresStore;
use rowcast::store::{Precondition, Versions};

use super::{Changes, Products, id, macbook, until};
use crate::support::postgres::{Cluster, Database};
use rowcast::model::row::Row;

const FIRST: Migration = Migration { version: 1, name: "0001_first.sql", sql: "CREATE TABLE first (a int)" };
const SECOND: Migration = Migration {
    version: 2,
    name: "0002_second.sql",
    sql: "CREATE TABLE second (a int); INSERT INTO second VALUES (1)",
};

async fn database() -> (Database, PostgresConfig) {
    let database = Cluster::shared().database().await;
    let config = PostgresConfig::parse(database.url()).unwrap();
    (database, config)
}

#[test]
fn the_migrations_are_numbered_like_their_files() {
    for (migration, version) in MIGRATIONS.iter().zip(1..) {
        assert_eq!(migration.version, version);
        assert!(migration.name.starts_with(&format!("{version:04}_")), "{}", migration.name);
    }
}

#[tokio::test]
async fn each_is_applied_once() {
    let (_database, config) = database().await;
    assert_eq!(
        migrate(&config).await.unwrap(),
        [
            "0001_products.sql",
            "0002_conditional_writes.sql",
            "0003_streams.sql",
            "0004_tables.sql",
            "0005_table_rows.sql",
            "0006_whole_rows.sql",
            "0007_table_epochs.sql",
            "0008_written_columns.sql",
            "0009_true_rows.sql",
            "0010_changed_tables.sql",
            "0011_oversize_messages.sql",
            "0012_truncated_files.sql",
            "0013_true_products.sql",
            "0014_versions_below.sql",
            "0015_told_columns.sql",
            "0016_untold_changes.sql",
            "0017_true_readers.sql",
            "0018_home.sql"
        ]
    );
    assert!(migrate(&config).await.unwrap().is_empty());
}

/// What the server would have found, had it looked, it finds afterwards.
#[tokio::test]
async fn what_is_noted_anew_of_the_triggers_begins_no_epoch_and_hides_none() {
    for (touch, is_untouched) in [
        ("SELECT", true),
        (
            "ALTER TABLE products DISABLE TRIGGER zz_rowcast; ALTER TABLE products ENABLE ALWAYS TRIGGER zz_rowcast",
            false,
        ),
    ] {
        let (database, config) = database().await;
        apply(&config, &MIGRATIONS[..17]).await.unwrap();
        let owner = database.connect().await;
        owner.batch_execute(touch).await.unwrap();
        migrate(&config).await.unwrap();
        let look = "SELECT triggers = rowcast_triggers(), rowcast_replaced() IS NULL FROM rowcast_stream";
        let row = owner.query_one(look, &[]).await.unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1)), (is_untouched, true), "{touch}");
    }
}

#[tokio::test]
async fn servers_that_start_at_once_all_come_up() {
    let (database, config) = database().await;
    let servers: Vec<_> = (0..8)
        .map(|_| {
            let config = config.clone();
            tokio::spawn(async move { apply(&config, &[FIRST, SECOND]).await })
        })
        .collect();
    let mut applied = Vec::new();
    for server in servers {
        applied.extend(server.await.unwrap().unwrap());
    }
    assert_eq!(applied, [FIRST.name, SECOND.name]);
    let count = database.connect().await.query_one("SELECT count(*) FROM second", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_file_that_was_changed_after_it_was_applied_is_refused_by_name() {
    let (_database, config) = database().await;
    apply(&config, &[FIRST]).await.unwrap();
    let changed = Migration { sql: "CREATE TABLE first (a bigint)", ..FIRST };
    let error = apply(&config, &[changed, SECOND]).await.unwrap_err();
    assert!(matches!(error, MigrateError::Changed { .. }));
    assert!(error.to_string().starts_with("0001_first.sql was changed"), "{error}");
    assert_eq!(apply(&config, &[FIRST, SECOND]).await.unwrap(), [SECOND.name]);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (_database, config) = database().await;
    apply(&config, &[FIRST, SECOND]).await.unwrap();
    let error = apply(&config, &[FIRST]).await.unwrap_err();
    assert!(matches!(error, MigrateError::Newer { .. }));
    assert!(error.to_string().contains("newer Rowcast (0002_second.sql"), "{error}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_of_itself() {
    let (_database, config) = database().await;
    let broken = Migration { sql: "CREATE TABLE second (a int); SELECT 1/0", ..SECOND };
    let error = apply(&config, &[FIRST, broken]).await.unwrap_err();
    assert!(error.to_string().contains("0002_second.sql"), "{error}");
    assert_eq!(apply(&config, &[FIRST, SECOND]).await.unwrap(), [SECOND.name]);
}

/// A role that has no rights in a migrated database, and the refusal that a server gets with it.
async fn refused_role(database: &Database, role: &str) -> (PostgresConfig, String) {
    let owner = database.connect().await;
    owner.batch_execute(&format!("DROP ROLE IF EXISTS \"{role}\"; CREATE ROLE \"{role}\" LOGIN")).await.unwrap();
    let config = PostgresConfig::parse(&database.url_as(role)).unwrap();
    let refusal = migrate(&config).await.unwrap_err();
    assert!(matches!(refusal, MigrateError::NotAllowed { .. }), "{refusal:?}");
    (config, refusal.to_string())
}

#[tokio::test]
async fn a_role_that_may_not_create_is_told_who_may() {
    let (database, _) = database().await;
    let (_, refusal) = refused_role(&database, "No-Creator").await;
    for part in ["permission denied for schema public", "rowcast migrate", "TO \"No-Creator\""] {
        assert!(refusal.contains(part), "{refusal}");
    }
}

#[tokio::test]
async fn the_rights_that_a_refusal_names_are_all_that_a_server_needs() {
    let (database, config) = database().await;
    migrate(&config).await.unwrap();
    let (config, refusal) = refused_role(&database, "server_without_create").await;
    assert!(refusal.contains("permission denied for table rowcast_migrations"), "{refusal}");
    let owner = database.connect().await;
    owner.batch_execute(&refusal[refusal.find("GRANT").unwrap()..]).await.unwrap();
    assert!(migrate(&config).await.unwrap().is_empty());

    let old = "INSERT INTO oversize_changes VALUES (7001, 'old', now() - interval '11 minutes')";
    owner.batch_execute(old).await.unwrap();
    let store = PostgresStore::new(&config);
    let mut changes = Changes::of(&config).await;
    let large = Product { manufacturer: "m".repeat(9000), ..macbook(1) };
    let any = Precondition::default;
    let is_there = || Precondition { wanted: Some(Versions::Any), unwanted: None };
    store.insert_product(large.clone(), any()).await.unwrap();
    assert!(changes.next_json().await.len() > 9000, "the message is read from its table");
    store.put_product(macbook(1), any()).await.unwrap();
    store.put_product(macbook(1), is_there()).await.unwrap();
    store.patch(id(1), Row::encoded("{}"), any()).await.unwrap();
    store.patch(id(1), Row::encoded("{}"), is_there()).await.unwrap();
    store.delete(id(1), is_there()).await.unwrap();
    store.insert_product(macbook(1), any()).await.unwrap();
    store.delete(id(1), any()).await.unwrap();
    assert_eq!(changes.of_one_product(7).await.len(), 7);
    // The house is kept with the same rights.
    let _vigilant = Changes::vigilant(&config).await;
    until(&owner, "SELECT count(*) = 0 FROM oversize_changes WHERE message = 'old'").await;
    until(&owner, "SELECT count(*) = 0 FROM product_tombstones WHERE horizon IS NULL").await;
}

#[tokio::test]
async fn a_table_of_somebody_else_is_named_with_what_to_do() {
    let (database, config) = database().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE TABLE products (sku text)").await.unwrap();
    let refusal = migrate(&config).await.unwrap_err().to_string();
    for part in ["there is a table products", "--table products", "rename", "search_path%3Drowcast"] {
        assert!(refusal.contains(part), "{refusal}");
    }
    owner.batch_execute("CREATE SCHEMA rowcast").await.unwrap();
    let url = format!("{}?options=-c%20search_path%3Drowcast", database.url());
    let config = PostgresConfig::parse(&url).unwrap();
    migrate(&config).await.unwrap();
    PostgresStore::new(&config).insert_product(macbook(1), Precondition::default()).await.unwrap();
    assert!(owner.query("SELECT sku FROM products", &[]).await.unwrap().is_empty(), "theirs is untouched");
}
