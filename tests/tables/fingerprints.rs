//! What a table's fingerprint tells of it.

use rowcast::store::postgres::tables::{InstalledTable, TableLook, TableState};

use super::Fixture;

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE TABLE lines (id int PRIMARY KEY)";

/// Two tables that are compared again and again.
struct Compared {
    fixture: Fixture,
    store: rowcast::store::postgres::PostgresStore,
    tables: Vec<InstalledTable>,
}

impl Compared {
    async fn new() -> Self {
        let fixture = Fixture::new(ORDERS).await;
        let tables =
            fixture.install("orders,public.lines").await.unwrap().into_iter().map(|(table, _)| table).collect();
        let store = rowcast::store::postgres::PostgresStore::new(&fixture.config);
        Self { fixture, store, tables }
    }

    async fn look(&self) -> Vec<TableLook> {
        self.store.look_at_tables(&self.tables).await.unwrap()
    }

    /// Answers whether the statements change the first table's fingerprint, and how it is then. The other's never changes.
    async fn after(&self, statements: &str) -> (bool, TableState) {
        let before = self.look().await;
        self.fixture.write(statements).await;
        let after = self.look().await;
        assert_eq!(before[1], after[1], "{statements}");
        (before[0] != after[0], after[0].seen.state(&self.tables[0]))
    }
}

#[tokio::test]
async fn what_changes_rows_without_a_trigger_changes_it_and_what_does_not_does_not() {
    let compared = Compared::new().await;
    for statements in [
        "INSERT INTO orders VALUES (1, 'a'); UPDATE orders SET note = 'b'; DELETE FROM orders",
        "CREATE INDEX ON orders (note); ANALYZE orders; ALTER TABLE orders SET (fillfactor = 50)",
        "COMMENT ON TABLE orders IS 'n'; COMMENT ON COLUMN orders.note IS 'n'; GRANT SELECT ON orders TO PUBLIC",
        "CREATE VIEW v AS SELECT * FROM orders; DROP VIEW v",
    ] {
        assert_eq!(compared.after(statements).await, (false, TableState::Live), "{statements}");
    }
    for statements in [
        "ALTER TABLE orders ADD COLUMN extra text DEFAULT 'e'",
        "ALTER TABLE orders RENAME COLUMN extra TO more",
        "ALTER TABLE orders DROP COLUMN more",
        "ALTER TABLE orders ALTER COLUMN note TYPE varchar(9)",
        "ALTER TABLE orders ALTER COLUMN id TYPE bigint",
        "TRUNCATE orders",
        "VACUUM FULL orders",
        "ALTER TABLE orders DISABLE TRIGGER zz_rowcast; ALTER TABLE orders ENABLE ALWAYS TRIGGER zz_rowcast",
        "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('rowcast_before_1'::regproc), 'NEW.rowcast_version :=', \
             '-- ' || chr(10) || 'NEW.rowcast_version :='); END $$",
    ] {
        assert_eq!(compared.after(statements).await, (true, TableState::Live), "{statements}");
    }
}

/// Rows may be told while it is otherwise.
#[tokio::test]
async fn what_is_as_it_was_before_two_changes_differs() {
    let compared = Compared::new().await;
    for statements in [
        ["ALTER TABLE orders ADD COLUMN extra text DEFAULT 'e'", "ALTER TABLE orders DROP COLUMN extra"],
        ["ALTER TABLE orders RENAME COLUMN note TO text", "ALTER TABLE orders RENAME COLUMN text TO note"],
        ["ALTER TABLE orders ALTER note TYPE varchar", "ALTER TABLE orders ALTER note TYPE text"],
        ["ALTER TABLE orders DROP CONSTRAINT orders_pkey", "ALTER TABLE orders ADD PRIMARY KEY (id)"],
    ] {
        let both = statements.join("; ");
        // Each in a transaction of its own, and both in one.
        assert_eq!(compared.after(&both.replace("; ", "; COMMIT; ")).await, (true, TableState::Live), "{both}");
        assert_eq!(compared.after(&both).await, (true, TableState::Live), "{both}");
    }
}

#[tokio::test]
async fn what_changes_the_types_of_values_changes_it() {
    let compared = Compared::new().await;
    let types = "CREATE TYPE state AS ENUM ('placed', 'paid'); CREATE DOMAIN step AS state; CREATE TYPE size AS (a int, b step[]); \
        CREATE TYPE span AS RANGE (subtype = state, multirange_type_name = spans); CREATE DOMAIN other AS text";
    compared.fixture.write(types).await;
    for (column, statements) in [
        ("state", "ALTER TYPE state RENAME VALUE 'placed' TO 'ordered'"),
        ("step[]", "ALTER TYPE state RENAME VALUE 'ordered' TO 'open'"),
        ("spans", "ALTER TYPE state RENAME VALUE 'open' TO 'placed'"),
        ("size", "ALTER TYPE state RENAME VALUE 'placed' TO 'ordered'"),
        ("size", "ALTER TYPE size RENAME ATTRIBUTE a TO c"),
    ] {
        compared.fixture.write(&format!("ALTER TABLE orders ADD COLUMN made {column}")).await;
        assert_eq!(compared.after(statements).await, (true, TableState::Live), "{column}: {statements}");
        assert_eq!(compared.after("ALTER DOMAIN other SET DEFAULT 'x'").await, (false, TableState::Live));
        compared.fixture.write("ALTER TABLE orders DROP COLUMN made").await;
    }
    assert_eq!(compared.after("ALTER TYPE state RENAME VALUE 'paid' TO 'done'").await, (false, TableState::Live));
}

#[tokio::test]
async fn what_shows_values_as_json_changes_it() {
    let compared = Compared::new().await;
    let types = "CREATE TYPE state AS ENUM ('placed', 'paid'); CREATE DOMAIN step AS state; CREATE TYPE size AS (a int, b step[]); \
        CREATE FUNCTION json(state) RETURNS json LANGUAGE sql AS $$ SELECT '1'::json $$; CREATE TYPE other AS ENUM ('x')";
    compared.fixture.write(types).await;
    for column in ["state", "step", "size"] {
        compared.fixture.write(&format!("ALTER TABLE orders ADD COLUMN made {column}")).await;
        for statements in [
            "CREATE CAST (state AS json) WITH FUNCTION json(state)",
            "CREATE OR REPLACE FUNCTION json(state) RETURNS json LANGUAGE sql AS $$ SELECT '2'::json $$",
            "DROP CAST (state AS json)",
        ] {
            assert_eq!(compared.after(statements).await, (true, TableState::Live), "{column}: {statements}");
        }
        let another = "CREATE CAST (other AS json) WITH INOUT; DROP CAST (other AS json)";
        assert_eq!(compared.after(another).await, (false, TableState::Live));
        compared.fixture.write("ALTER TABLE orders DROP COLUMN made").await;
    }
}

/// While it has another name, nothing is found that the triggers name.
#[tokio::test]
async fn a_schema_that_has_its_name_again_changes_every_table_of_it() {
    for schema in ["public", "shop"] {
        let fixture = Fixture::new("CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY)").await;
        let tables: Vec<_> =
            fixture.install("shop.orders").await.unwrap().into_iter().map(|(table, _)| table).collect();
        let store = rowcast::store::postgres::PostgresStore::new(&fixture.config);
        let before = store.look_at_tables(&tables).await.unwrap();
        fixture
            .write(&format!("ALTER SCHEMA {schema} RENAME TO away; COMMIT; ALTER SCHEMA away RENAME TO {schema}"))
            .await;
        let after = store.look_at_tables(&tables).await.unwrap();
        assert_ne!(before, after, "{schema}");
        assert_eq!(after[0].seen.state(&tables[0]), TableState::Live);
    }
}

#[tokio::test]
async fn what_ends_the_telling_is_named() {
    for (statements, state) in [
        ("DROP TABLE orders", TableState::Gone),
        ("ALTER TABLE orders RENAME TO sales", TableState::Gone),
        ("ALTER TABLE orders RENAME TO old; CREATE TABLE orders (LIKE old INCLUDING ALL)", TableState::Swapped),
        ("ALTER TABLE orders RENAME TO old; CREATE VIEW orders AS SELECT * FROM old", TableState::Swapped),
        ("ALTER TABLE orders RENAME COLUMN id TO number", TableState::NoKey),
        ("ALTER TABLE orders DROP COLUMN id", TableState::NoKey),
        ("ALTER TABLE orders DROP CONSTRAINT orders_pkey", TableState::NoKey),
        ("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id) DEFERRABLE", TableState::NoKey),
        ("ALTER TABLE orders DISABLE TRIGGER zz_rowcast_truncate", TableState::TriggersOff),
        ("ALTER TABLE orders ENABLE TRIGGER \"00_rowcast\"", TableState::TriggersOff),
        ("DROP TRIGGER zz_rowcast ON orders", TableState::TriggersOff),
        ("CREATE TABLE child () INHERITS (orders)", TableState::NoKey),
    ] {
        assert_eq!(Compared::new().await.after(statements).await, (true, state), "{statements}");
    }
}

#[tokio::test]
async fn of_two_servers_that_find_a_table_changed_one_begins_its_epoch() {
    let fixture = Fixture::installed("CREATE TABLE orders (id int PRIMARY KEY)", "orders").await;
    let note = async |expected: &str, seen: &str| {
        fixture.write(&format!("SELECT rowcast_note('orders', {expected}, '{seen}', true)")).await;
        fixture.value::<Option<i64>>("SELECT epoch FROM rowcast_served WHERE name = 'orders'").await
    };
    assert_eq!(note("NULL, NULL", "as it was").await, None, "a table that was never noted has the epoch of all");
    let begun = note("'as it was', NULL", "changed").await;
    assert!(begun.is_some());
    // The second saw what the first did, or the same change and not the epoch of the first.
    assert_eq!(note("'as it was', NULL", "changed").await, begun);
    assert_eq!(note("'changed', NULL", "changed").await, begun);
    let next = note(&format!("'changed', {}", begun.unwrap()), "changed").await;
    assert!(next.is_some() && next != begun, "{next:?}");
    // An epoch of all is that of each table.
    fixture.write("SELECT rowcast_renew_epoch((SELECT epoch FROM rowcast_stream), 0)").await;
    let epoch: Option<i64> = fixture.value("SELECT epoch FROM rowcast_served WHERE name = 'orders'").await;
    assert_eq!(epoch, None);
}
