//! Servers that change nothing in their database.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::tables::TableSpec;
use rowcast::store::postgres::tables::install::Done;
use rowcast::store::postgres::tables::prepare::{WantedTables, find_prepared, prepare};

use crate::support::postgres::{Cluster, Database};

const TABLES: &str =
    "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE \"Order Lines\" (id int PRIMARY KEY, no int)";
const EVERYTHING: &str = "SELECT concat_ws('; ', (SELECT string_agg(concat(oid, relname, relnatts, xmin), ' ' ORDER BY oid) \
        FROM pg_class WHERE relnamespace = 'public'::regnamespace), \
    (SELECT string_agg(concat(oid, xmin), ' ' ORDER BY oid) FROM pg_trigger), \
    (SELECT string_agg(concat(oid, xmin), ' ' ORDER BY oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace))";

fn wanted(tables: &str, without_products: bool) -> WantedTables {
    let specs = if tables.is_empty() { Vec::new() } else { TableSpec::parse_list(tables).unwrap() };
    WantedTables { specs, without_products, ..WantedTables::default() }
}

/// Checks that the database is refused with this sentence, and stays as it is.
async fn is_refused(database: &Database, wanted: &WantedTables, lacking: &str, command: &str) {
    let (config, owner) = (PostgresConfig::parse(database.url()).unwrap(), database.connect().await);
    let before: String = owner.query_one(EVERYTHING, &[]).await.unwrap().get(0);
    let refusal = find_prepared(&config, wanted).await.unwrap_err().to_string();
    assert!(refusal.contains(lacking), "{refusal}");
    assert!(refusal.contains(&format!("`{command} --database-url …`")), "{refusal}");
    assert_eq!(owner.query_one(EVERYTHING, &[]).await.unwrap().get::<_, String>(0), before);
}

#[tokio::test]
async fn each_thing_that_is_missing_is_named_with_the_command_that_makes_it() {
    let database = Cluster::shared().database().await;
    database.connect().await.batch_execute(TABLES).await.unwrap();
    let config = PostgresConfig::parse(database.url()).unwrap();
    let both = wanted("orders,\"Order Lines\"", false);
    let command = r#"rowcast migrate --table orders --table '"Order Lines"'"#;
    is_refused(&database, &both, "0001_products.sql, ", command).await;
    is_refused(
        &database,
        &wanted("", true),
        "0000_without_products.sql, 0004_tables.sql",
        "rowcast migrate --no-products",
    )
    .await;

    prepare(&config, &wanted("orders", false)).await.unwrap();
    let lines = r#"rowcast migrate --table '"Order Lines"'"#;
    is_refused(&database, &both, "what tells the changes of \"Order Lines\" is missing", lines).await;
    prepare(&config, &both).await.unwrap();
    let found = find_prepared(&config, &both).await.unwrap();
    assert!(found.applied.is_empty() && found.has_products && found.tables.len() == 2);
    assert!(found.tables.iter().all(|(_, done)| *done == Done::Nothing));
    assert_eq!(found.tables, prepare(&config, &both).await.unwrap().tables);

    // Another form is as good as none.
    let owner = database.connect().await;
    owner.batch_execute("ALTER TABLE orders DISABLE TRIGGER zz_rowcast").await.unwrap();
    is_refused(&database, &both, "changes of orders is", "rowcast migrate --table orders").await;
    prepare(&config, &both).await.unwrap();
    owner.batch_execute("DELETE FROM rowcast_migrations WHERE version = 5").await.unwrap();
    is_refused(&database, &both, "lacks 0005_table_rows.sql", command).await;
}

#[tokio::test]
async fn a_table_that_is_unfit_is_refused_as_by_a_server_that_installs() {
    let database = Cluster::shared().database().await;
    database.connect().await.batch_execute("CREATE VIEW orders AS SELECT 1 AS id").await.unwrap();
    let config = PostgresConfig::parse(database.url()).unwrap();
    prepare(&config, &wanted("", false)).await.unwrap();
    let refusal = find_prepared(&config, &wanted("orders", false)).await.unwrap_err().to_string();
    assert!(refusal.starts_with("table orders: it is a view"), "{refusal}");
}
