//! Reads and writes of a table that is not as it was installed, or is changed while they wait: none is of another table, and
//! none misses the rows.

use rowcast::model::key::Key;
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::tables::{FoundRow, InstalledTable, RowError, RowWrite};
use rowcast::store::{Precondition, StoreError};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::Fixture;
use crate::support::patiently;

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'old')";
/// Another table in the place of it, as users make it for a change without a pause: with the column of the version, and
/// without the triggers.
const SWAP: &str = "ALTER TABLE orders RENAME TO sales; CREATE TABLE orders (LIKE sales INCLUDING ALL); \
    INSERT INTO orders (id, note) VALUES (1, 'other'), (2, 'other')";
/// Likewise, with the triggers of the first.
const TRIGGERS: &str = "DO $$ DECLARE it pg_trigger; BEGIN \
    FOR it IN SELECT * FROM pg_trigger WHERE tgrelid = 'sales'::regclass LOOP \
        EXECUTE replace(pg_get_triggerdef(it.oid), ' ON public.sales ', ' ON orders '); \
        EXECUTE format('ALTER TABLE orders ENABLE ALWAYS TRIGGER %I', it.tgname); \
    END LOOP; END $$";

#[derive(Clone)]
struct Rows {
    store: PostgresStore,
    table: InstalledTable,
}

impl Rows {
    async fn new() -> (Fixture, Self) {
        let fixture = Fixture::installed(ORDERS, "orders").await;
        let (store, table) = fixture.store("orders").await;
        (fixture, Self { store, table })
    }

    /// Returns the outcome of each kind of read.
    async fn reads(&self) -> [Result<(), StoreError>; 4] {
        let Self { store, table } = self;
        [
            store.list_rows(table, None, 10, 1000).await.map(drop),
            store.get_row(table, &Key::Integer(1)).await.map(drop),
            store.load_rows(table, &[Key::Integer(1)], 1).await.map(drop),
            store.row_keys(table, None, 1).await.map(drop),
        ]
    }

    async fn write(&self, write: RowWrite<'_>) -> Result<(), RowError> {
        self.store.write_row(&self.table, write, Precondition::default()).await.map(drop)
    }

    /// Returns the outcome of each kind of write.
    async fn writes(&self) -> [Result<(), RowError>; 4] {
        let (one, three) = (&Key::Integer(1), &Key::Integer(3));
        [
            self.write(RowWrite::Insert { key: Some(three), row: r#"{"note":"written"}"# }).await,
            self.write(RowWrite::Put { key: one, row: r#"{"note":"written"}"# }).await,
            self.write(RowWrite::Patch { key: one, patch: r#"{"note":"written"}"# }).await,
            self.write(RowWrite::Delete { key: one }).await,
        ]
    }
}

fn is_changed(outcome: &Result<(), StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Changed(_)))
}

fn is_not_written(outcome: &Result<(), RowError>) -> bool {
    matches!(outcome, Err(RowError::Store(StoreError::Changed(_))))
}

#[tokio::test]
async fn a_table_that_is_not_the_one_that_was_installed_is_neither_read_nor_written() {
    for statements in [
        SWAP.to_owned(),
        format!("{SWAP}; {TRIGGERS}"),
        format!("{SWAP}; DROP TABLE sales"),
        "ALTER TABLE orders RENAME TO sales; CREATE TABLE orders (id int PRIMARY KEY)".to_owned(),
        "ALTER TABLE orders RENAME TO sales; CREATE VIEW orders AS SELECT * FROM sales".to_owned(),
        "ALTER TABLE orders RENAME TO sales".to_owned(),
        "CREATE SCHEMA attic; ALTER TABLE orders SET SCHEMA attic".to_owned(),
        "DROP TABLE orders".to_owned(),
        "ALTER TABLE orders RENAME COLUMN id TO number".to_owned(),
        "ALTER TABLE orders DROP COLUMN rowcast_version".to_owned(),
        "DELETE FROM rowcast_tables".to_owned(),
    ] {
        let (fixture, rows) = Rows::new().await;
        fixture.write(&statements).await;
        let (reads, writes) = (rows.reads().await, rows.writes().await);
        assert!(reads.iter().all(is_changed), "{statements}: {reads:?}");
        assert!(writes.iter().all(is_not_written), "{statements}: {writes:?}");
    }
}

#[tokio::test]
async fn a_table_whose_triggers_are_off_is_read_and_not_written() {
    for statements in [
        "ALTER TABLE orders DISABLE TRIGGER zz_rowcast",
        "ALTER TABLE orders ENABLE TRIGGER \"00_rowcast\"",
        "DROP TRIGGER \"00_rowcast\" ON orders",
    ] {
        let (fixture, rows) = Rows::new().await;
        fixture.write(statements).await;
        let (reads, writes) = (rows.reads().await, rows.writes().await);
        assert!(reads.iter().all(Result::is_ok), "{statements}: {reads:?}");
        assert!(writes.iter().all(is_not_written), "{statements}: {writes:?}");
        assert_eq!(fixture.value::<String>("SELECT string_agg(note, ' ') FROM orders").await, "old");
    }
}

/// Something that is asked of the database while the owner changes the table, and does not say so before it is done.
struct Waiting<T> {
    fixture: Fixture,
    holder: Client,
    outcome: JoinHandle<T>,
}

impl<T: Send + 'static> Waiting<T> {
    /// Begins once these statements are done and not committed, and returns when it waits for them.
    async fn until_blocked<F: Future<Output = T> + Send + 'static>(
        statements: &str,
        ask: impl FnOnce(Rows) -> F,
    ) -> Self {
        const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND cardinality(pg_blocking_pids(pid)) > 0";
        let (fixture, rows) = Rows::new().await;
        let holder = fixture.database.connect().await;
        holder.batch_execute(&format!("BEGIN; {statements}")).await.unwrap();
        let outcome = tokio::spawn(ask(rows));
        patiently(async {
            while fixture.value::<i64>(BLOCKED).await == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        Self { fixture, holder, outcome }
    }

    async fn committed(self) -> (Fixture, T) {
        self.holder.batch_execute("COMMIT").await.unwrap();
        (self.fixture, self.outcome.await.unwrap())
    }
}

#[tokio::test]
async fn a_read_that_waits_for_another_table_to_take_the_place_is_not_of_that() {
    for statements in [SWAP, "ALTER TABLE orders RENAME TO sales", "DROP TABLE orders"] {
        let list = async |Rows { store, table }: Rows| store.list_rows(&table, None, 10, 1000).await;
        let (_, listed) = Waiting::until_blocked(statements, list).await.committed().await;
        assert!(matches!(listed, Err(StoreError::Changed(_))), "{statements}: {listed:?}");
        let load = async |Rows { store, table }: Rows| store.load_rows(&table, &[Key::Integer(1)], 1).await;
        let (_, loaded) = Waiting::until_blocked(statements, load).await.committed().await;
        assert!(matches!(loaded, Err(StoreError::Changed(_))), "{statements}: {loaded:?}");
    }
}

#[tokio::test]
async fn a_write_that_waits_for_another_table_to_take_the_place_writes_neither() {
    for statements in [SWAP.to_owned(), format!("{SWAP}; {TRIGGERS}")] {
        let put =
            async |rows: Rows| rows.write(RowWrite::Put { key: &Key::Integer(1), row: r#"{"note":"written"}"# }).await;
        let (fixture, written) = Waiting::until_blocked(&statements, put).await.committed().await;
        assert!(is_not_written(&written), "{statements}: {written:?}");
        let notes = "SELECT string_agg(note, ' ') FROM (SELECT note FROM orders UNION SELECT note FROM sales) AS notes";
        assert_eq!(fixture.value::<String>(notes).await, "old other");
    }
}

/// The file is another one then, in which an older snapshot sees no row.
#[tokio::test]
async fn a_read_that_waits_for_a_table_to_be_rewritten_finds_its_rows() {
    const REWRITE: &str = "ALTER TABLE orders ALTER note TYPE varchar(9) USING 'new'";
    let list = async |Rows { store, table }: Rows| store.list_rows(&table, None, 10, 1000).await;
    let (_, listed) = Waiting::until_blocked(REWRITE, list).await.committed().await;
    let listed = listed.unwrap().rows;
    assert!(matches!(&listed[..], [(Key::Integer(1), _, row)] if row.contains("new")), "{listed:?}");
    let get = async |Rows { store, table }: Rows| store.get_row(&table, &Key::Integer(1)).await;
    let (_, got) = Waiting::until_blocked(REWRITE, get).await.committed().await;
    assert!(got.unwrap().is_some_and(|(_, row)| row.contains("new")));
    // Whoever loads reads again.
    let load = async |Rows { store, table }: Rows| store.load_rows(&table, &[Key::Integer(1)], 1).await;
    let (_, loaded) = Waiting::until_blocked(REWRITE, load).await.committed().await;
    match loaded {
        Ok(read) => assert!(matches!(read.found[..], [(_, FoundRow::Present { .. })]), "{read:?}"),
        Err(error) => assert!(matches!(error, StoreError::Changed(_)), "{error:?}"),
    }
}
