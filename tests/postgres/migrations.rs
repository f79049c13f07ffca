//! What a database goes through when servers start.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::{MIGRATIONS, MigrateError, Migration, apply, migrate};

use crate::support::postgres::{Cluster, Database};

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
    assert_eq!(migrate(&config).await.unwrap(), ["0001_products.sql", "0002_conditional_writes.sql"]);
    assert!(migrate(&config).await.unwrap().is_empty());
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

#[tokio::test]
async fn a_role_without_the_right_to_create_may_start_once_all_is_applied() {
    let (database, config) = database().await;
    migrate(&config).await.unwrap();
    let owner = database.connect().await;
    let role = "server_without_create";
    owner.batch_execute(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN")).await.unwrap();
    owner.batch_execute(&format!("GRANT SELECT ON rowcast_migrations TO {role}")).await.unwrap();
    let config = PostgresConfig::parse(&database.url_as(role)).unwrap();
    assert!(migrate(&config).await.unwrap().is_empty());
}
