//! Tables that are not cast, and the sentence for each.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::tables::install::install;
use rowcast::store::postgres::tables::prepare::{WantedTables, find_prepared, prepare};
use rowcast::store::postgres::tables::{HiddenColumn, TableSpec};

use super::Fixture;
use crate::support::postgres::connect;

#[tokio::test]
async fn what_is_no_table_is_refused_by_its_name() {
    let fixture = Fixture::new(
        "CREATE VIEW a_view AS SELECT 1 AS id; CREATE MATERIALIZED VIEW a_copy AS SELECT 1 AS id; \
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9); \
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); \
         CREATE TYPE pair AS (id int, name text); CREATE TABLE typed OF pair (PRIMARY KEY (id)); \
         CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY); CREATE SEQUENCE counter; \
         CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; \
         CREATE FOREIGN TABLE elsewhere (id int) SERVER files OPTIONS (filename '/dev/null'); \
         CREATE TABLE taken (id int PRIMARY KEY, rowcast_version text); \
         CREATE TABLE counted (id int PRIMARY KEY, rowcast_version bigint GENERATED ALWAYS AS IDENTITY); \
         CREATE TABLE computed (id int PRIMARY KEY, rowcast_version bigint NOT NULL GENERATED ALWAYS AS (id) STORED); \
         CREATE TABLE own (id int PRIMARY KEY, rowcast_version bigint NOT NULL); \
         CREATE TABLE own_default (id int PRIMARY KEY, rowcast_version bigint NOT NULL DEFAULT 7); \
         DO $$ BEGIN EXECUTE (SELECT format('CREATE TABLE wide (id int PRIMARY KEY, %s)', string_agg(format('c%s bool', n), ', ')) \
             FROM generate_series(2, 1600) AS n); END $$",
    )
    .await;
    for (name, reason) in [
        ("nothing", "there is no such table"),
        ("Orders", "there is no such table"),
        ("nowhere.orders", "there is no such table"),
        ("no such name", "no table's name"),
        ("a.b.c.d", "no table's name"),
        ("other_database.public.orders", "no table's name"),
        ("a_view", "a view"),
        ("a_copy", "a materialized view"),
        ("parts", "a partitioned table"),
        ("part", "a partition"),
        ("parent", "others inherit from"),
        ("child", "inherits from one"),
        ("typed", "a typed table"),
        ("volatile", "SET LOGGED"),
        ("counter", "no table"),
        ("elsewhere", "a foreign table"),
        ("pg_class", "the database's own"),
        ("information_schema.sql_features", "the database's own"),
        ("products", "without being named"),
        ("product_tombstones", "Rowcast's own"),
        ("rowcast_tables", "Rowcast's own"),
        ("taken", "has a column rowcast_version"),
        ("counted", "has a column rowcast_version"),
        ("computed", "has a column rowcast_version"),
        ("own", "has a column rowcast_version that is not known to be Rowcast's; rename it"),
        ("own_default", "has a column rowcast_version that is not known to be Rowcast's; rename it"),
        ("wide", "has no room for the column rowcast_version: a table may have 1,600"),
    ] {
        let refusal = fixture.install(name).await.unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("table {name}: ")) && refusal.contains(reason), "{refusal}");
    }
}

#[tokio::test]
async fn a_trigger_of_somebody_that_has_a_name_of_ours_is_not_replaced() {
    let fixture = Fixture::new(
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE SCHEMA other; \
         CREATE FUNCTION other.rowcast_truncated() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    )
    .await;
    for (number, (trigger, function)) in [
        ("00_rowcast", "audit()"),
        ("zz_rowcast", "audit()"),
        ("zz_rowcast_truncate", "audit()"),
        ("zz_rowcast_truncate", "other.rowcast_truncated()"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        let of_table =
            "SELECT coalesce(string_agg(tgname, ' ' ORDER BY tgname), '') FROM pg_trigger WHERE tgrelid = '{table}'::regclass"
                .replace("{table}", &table);
        let event = if trigger.ends_with("truncate") { "TRUNCATE" } else { "INSERT" };
        fixture
            .write(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY); \
                 CREATE TRIGGER \"{trigger}\" AFTER {event} ON {table} EXECUTE FUNCTION {function}"
            ))
            .await;
        let refusal = fixture.install(&table).await.unwrap_err().to_string();
        let says = format!("table {table}: its trigger {trigger} calls {function}, which is not Rowcast's");
        assert!(refusal.starts_with(&says) && refusal.contains("RENAME TO"), "{refusal}");
        assert_eq!(fixture.value::<String>(&of_table).await, trigger);
        fixture.write(&format!("ALTER TRIGGER \"{trigger}\" ON {table} RENAME TO mine")).await;
        fixture.install(&table).await.unwrap();
        assert_eq!(fixture.value::<String>(&of_table).await, "00_rowcast mine zz_rowcast zz_rowcast_truncate");
    }
}

#[tokio::test]
async fn a_temporary_table_is_there_for_its_session_alone() {
    let fixture = Fixture::new("CREATE TEMPORARY TABLE mine (id int PRIMARY KEY)").await;
    let schema: String =
        fixture.value("SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'mine'").await;
    let refusal = fixture.install(&format!("{schema}.mine")).await.unwrap_err().to_string();
    assert!(refusal.contains("it is temporary") || refusal.contains("the database's own"), "{refusal}");
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_by_its_column() {
    let fixture = Fixture::new(
        "CREATE TABLE keyless (id int); \
         CREATE TABLE composite (a int, \"B\" int, PRIMARY KEY (a, \"B\")); \
         CREATE TABLE odd (id numeric PRIMARY KEY, at timestamptz NOT NULL UNIQUE, tag char(3) NOT NULL UNIQUE); \
         CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE loose (name text COLLATE any_case PRIMARY KEY, plain text NOT NULL); \
         CREATE UNIQUE INDEX ON loose (plain COLLATE any_case); \
         CREATE TABLE half (id int, maybe int UNIQUE, none int NOT NULL, part int NOT NULL, late int NOT NULL, \
             wide int NOT NULL, low text NOT NULL, twice int GENERATED ALWAYS AS (none * 2) STORED NOT NULL UNIQUE, \
             UNIQUE (late) DEFERRABLE, UNIQUE (wide, none)); \
         CREATE UNIQUE INDEX ON half (part) WHERE none > 0; CREATE UNIQUE INDEX ON half (lower(low)); \
         CREATE INDEX ON half (none)",
    )
    .await;
    for (name, reason) in [
        ("keyless", "has no primary key"),
        ("composite", "several columns (a, B)"),
        ("odd", "column id is of the type numeric"),
        ("odd:at", "column at is of the type timestamp with time zone"),
        ("odd:tag", "column tag is of the type character(3)"),
        ("loose", "column name has a collation that is not deterministic"),
        ("loose:plain", "column plain has no unique index"),
        ("half:nothing", "has no column nothing"),
        ("half:ID", "column id may be NULL"),
        ("half:\"ID\"", "has no column ID"),
        ("half:a.b", "has no column a.b"),
        ("half:a b", "no table's name"),
        ("half:ctid", "has no column ctid"),
        ("half:maybe", "column maybe may be NULL"),
        ("half:none", "column none has no unique index"),
        ("half:part", "column part has no unique index"),
        ("half:late", "column late has no unique index"),
        ("half:wide", "column wide has no unique index"),
        ("half:low", "column low has no unique index"),
        ("half:twice", "column twice is generated"),
    ] {
        let refusal = fixture.install(name).await.unwrap_err().to_string();
        let table = name.split(':').next().unwrap();
        assert!(refusal.starts_with(&format!("table {table}: ")) && refusal.contains(reason), "{name}: {refusal}");
    }
}

#[tokio::test]
async fn a_table_that_is_named_twice_is_refused_before_anything_is_done() {
    let fixture = Fixture::new("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let refusal = fixture.install("orders,public.\"orders\"").await.unwrap_err().to_string();
    assert!(refusal.contains("table public.\"orders\": it is the same table as orders"), "{refusal}");
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM rowcast_tables").await, 0);
    let refusal = fixture.install("orders,nothing").await.unwrap_err().to_string();
    assert!(refusal.contains("table nothing"), "{refusal}");
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM rowcast_tables").await, 0);
}

#[tokio::test]
async fn a_hidden_column_that_is_none_is_refused_so_that_a_slip_shows_nothing() {
    let fixture = Fixture::new(
        "CREATE TABLE users (id int PRIMARY KEY, \"Password\" text); CREATE TABLE others (id int PRIMARY KEY, secret text)",
    )
    .await;
    let specs = TableSpec::parse_list("users").unwrap();
    let hide = async |text: &str| install(&fixture.config, &specs, &HiddenColumn::parse_list(text).unwrap()).await;
    for (text, reason) in [
        ("users.password", "table users: it has no column password"),
        ("users.Password", "table users: it has no column password"),
        ("users.ctid", "table users: it has no column ctid"),
        ("users.id", "column id is its key"),
        ("others.secret", "table others: a column of it is to be hidden, and it is not cast"),
        ("nothing.secret", "table nothing: there is no such table"),
        ("users.\"Password\",users.a b", "no table's name"),
    ] {
        let refusal = hide(text).await.unwrap_err().to_string();
        assert!(refusal.contains(reason), "{text}: {refusal}");
    }
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM rowcast_tables").await, 0);
    let installed = hide("public.users.\"Password\"").await.unwrap();
    let mut shown = Vec::new();
    assert!(installed[0].0.hidden.strip(r#"{"id":1,"Password":"p","rowcast_version":7}"#, &mut shown));
    assert_eq!(String::from_utf8(shown).unwrap(), r#"{"id":1}"#);
}

#[tokio::test]
async fn a_role_that_does_not_own_what_it_needs_is_told_who_does() {
    let fixture = Fixture::new(
        "CREATE TABLE orders (id int PRIMARY KEY); DROP ROLE IF EXISTS table_owner; CREATE ROLE table_owner LOGIN; \
         GRANT CREATE ON SCHEMA public TO table_owner; GRANT SELECT ON rowcast_tables TO table_owner; \
         CREATE TABLE theirs (id int PRIMARY KEY); ALTER TABLE theirs OWNER TO table_owner",
    )
    .await;
    let url = fixture.database.url_as("table_owner");
    let config = PostgresConfig::parse(&url).unwrap();
    let specs = TableSpec::parse_list("theirs").unwrap();
    let refusal = install(&config, &specs, &[]).await.unwrap_err().to_string();
    assert!(refusal.contains("belong to the role postgres"), "{refusal}");
    // One who may use Rowcast's tables and does not own this one.
    fixture
        .write(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO table_owner; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO table_owner; ALTER TABLE rowcast_tables OWNER TO table_owner",
        )
        .await;
    let specs = TableSpec::parse_list("orders").unwrap();
    let refusal = install(&config, &specs, &[]).await.unwrap_err().to_string();
    assert!(refusal.contains("must be owner of table orders") && refusal.contains("rowcast migrate"), "{refusal}");
    let theirs = connect(&url).await;
    theirs.batch_execute("INSERT INTO theirs VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn a_role_that_may_not_read_a_table_is_told_what_to_grant() {
    let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY)", "orders").await;
    fixture
        .write("DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN; GRANT SELECT ON rowcast_migrations, rowcast_tables TO blind")
        .await;
    let config = PostgresConfig::parse(&fixture.database.url_as("blind")).unwrap();
    let wanted = WantedTables { specs: TableSpec::parse_list("orders").unwrap(), ..WantedTables::default() };
    let refusal = find_prepared(&config, &wanted).await.unwrap_err().to_string();
    assert!(refusal.starts_with("table orders: the role blind may not read it"), "{refusal}");
    assert!(refusal.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON … TO blind"), "{refusal}");
    fixture.write("GRANT SELECT ON orders TO blind").await;
    assert_eq!(find_prepared(&config, &wanted).await.unwrap().tables.len(), 1);
}

#[tokio::test]
async fn values_that_are_shown_by_the_names_of_other_things_are_refused_unless_they_are_hidden() {
    let fixture = Fixture::new(
        "CREATE DOMAIN place AS regclass; CREATE TYPE pair AS (a int, b place[]); CREATE DOMAIN named AS text; \
         CREATE TABLE plain (id int PRIMARY KEY, note named, parts int[], span int4range, name name)",
    )
    .await;
    let wanted = |hidden: &str| WantedTables {
        specs: TableSpec::parse_list("orders").unwrap(),
        hidden: if hidden.is_empty() { Vec::new() } else { HiddenColumn::parse_list(hidden).unwrap() },
        without_products: false,
    };
    for kind in ["regclass", "regrole[]", "place", "pair", "pair[]", "aclitem"] {
        fixture.write(&format!("CREATE TABLE orders (id int PRIMARY KEY, note text, what {kind})")).await;
        for refusal in [
            prepare(&fixture.config, &wanted("")).await.unwrap_err().to_string(),
            find_prepared(&fixture.config, &wanted("")).await.unwrap_err().to_string(),
        ] {
            let sentence =
                format!("table orders: its column what is of the type {kind}, whose values are shown by the names");
            assert!(refusal.starts_with(&sentence) && refusal.contains("--hide"), "{refusal}");
        }
        prepare(&fixture.config, &wanted("orders.what")).await.unwrap();
        // One that is installed goes on.
        prepare(&fixture.config, &wanted("")).await.unwrap();
        find_prepared(&fixture.config, &wanted("")).await.unwrap();
        fixture.write("DROP TABLE orders").await;
    }
    let wanted = WantedTables { specs: TableSpec::parse_list("plain").unwrap(), ..WantedTables::default() };
    prepare(&fixture.config, &wanted).await.unwrap();
}
