//! What a reader shows becomes what the table has, whatever the server missed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::{PATIENCE, until};
use crate::support::postgres::{Cluster, Database, psql};
use crate::support::server::TestServer;
use crate::support::socket::Socket;

const PRODUCTS: i64 = 50;

/// The units of each product.
type Units = BTreeMap<u64, i64>;

/// A reader that only ever subscribed, and what it shows.
struct Reader {
    socket: Socket,
    shown: Units,
}

impl Reader {
    async fn of(server: &TestServer) -> Self {
        let mut socket = Socket::connect(server.address).await;
        socket.subscribe(1..=PRODUCTS.cast_unsigned()).await;
        Self { socket, shown: Units::new() }
    }

    fn take(&mut self, message: &Value) {
        for absent in message["absent"].as_array().into_iter().flatten() {
            self.shown.remove(&absent.as_u64().expect("an id"));
        }
        let Some(id) = message["product"]["productId"].as_u64() else { return };
        match message["action"].as_str() {
            Some("DELETE") => self.shown.remove(&id),
            _ => self.shown.insert(id, message["product"]["unitsAvailable"].as_i64().expect("units")),
        };
    }

    /// Reads until it shows what the table has.
    async fn until_true(&mut self, client: &Client) {
        let rows = client.query("SELECT product_id, units_available FROM products", &[]).await.unwrap();
        let table: Units = rows.iter().map(|row| (row.get::<_, i64>(0).cast_unsigned(), row.get(1))).collect();
        let read = async {
            while self.shown != table {
                let message = self.socket.next().await;
                self.take(&message);
            }
        };
        let is_true = timeout(PATIENCE, read).await.is_ok();
        assert!(is_true, "it shows {:?}, and the table has {table:?}", self.shown);
    }
}

/// A server over a table of products, and a reader that shows them.
async fn shown() -> (Database, Client, TestServer, Reader) {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let mut reader = Reader::of(&server).await;
    let client = database.connect().await;
    let insert = format!("INSERT INTO products SELECT n, 'm', '1EUR', 0, 'n' FROM generate_series(1, {PRODUCTS}) n");
    client.batch_execute(&insert).await.unwrap();
    reader.until_true(&client).await;
    (database, client, server, reader)
}

/// Writes a dump of the database, and answers it.
fn dump(database: &Database, options: &[&str]) -> Vec<u8> {
    let output = Command::new(psql().with_file_name("pg_dump")).args(options).arg(database.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Restores a dump, as an operator would under a running server.
async fn restore(database: &Database, dump: Vec<u8>) {
    let mut command = tokio::process::Command::new(psql());
    command.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", database.url()]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, &dump).await.unwrap();
    drop(stdin);
    assert!(timeout(PATIENCE, child.wait()).await.expect("no hang").unwrap().success());
}

#[tokio::test]
async fn changes_that_commit_while_nobody_listens_reach_readers() {
    let (_database, client, server, mut reader) = shown().await;
    for round in 1..=3 {
        let session = "SELECT coalesce(bool_or(pg_terminate_backend(pid, 60000)), false) FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name = 'rowcast listener'";
        // The session has ended when this returns, and the next begins a while later.
        until(&client, session).await;
        let write =
            format!("UPDATE products SET units_available = {round}; DELETE FROM products WHERE product_id = {round}");
        client.batch_execute(&write).await.unwrap();
        reader.until_true(&client).await;
    }
    server.until_ready().await;
}

#[tokio::test]
async fn an_older_dump_that_is_restored_under_a_running_server_reaches_readers() {
    let (database, client, server, mut reader) = shown().await;
    let older = dump(&database, &["--clean", "--if-exists"]);
    client
        .batch_execute("UPDATE products SET units_available = 7; DELETE FROM products WHERE product_id = 5")
        .await
        .unwrap();
    reader.until_true(&client).await;
    restore(&database, older).await;
    reader.until_true(&client).await;
    server.until_ready().await;
    client.batch_execute("UPDATE products SET units_available = 9").await.unwrap();
    reader.until_true(&client).await;
}

#[tokio::test]
async fn rows_that_are_restored_past_the_triggers_reach_readers() {
    let (database, client, server, mut reader) = shown().await;
    let older = dump(&database, &["--data-only", "--disable-triggers", "--table=products", "--table=product_versions"]);
    client.batch_execute("UPDATE products SET units_available = 7").await.unwrap();
    reader.until_true(&client).await;
    let emptied = b"ALTER TABLE products DISABLE TRIGGER ALL; DELETE FROM products;\n".to_vec();
    restore(&database, [emptied, older].concat()).await;
    reader.until_true(&client).await;
    server.until_ready().await;
    client.batch_execute("UPDATE products SET units_available = 9").await.unwrap();
    reader.until_true(&client).await;
}

#[tokio::test]
async fn rows_whose_columns_are_made_others_reach_readers() {
    let (_database, client, server, mut reader) = shown().await;
    for statements in [
        "ALTER TABLE products ALTER units_available TYPE bigint USING units_available + product_id",
        "ALTER TABLE products ADD COLUMN spare bigint NOT NULL DEFAULT 3",
        "ALTER TABLE products RENAME units_available TO passing; ALTER TABLE products RENAME spare TO units_available; \
         ALTER TABLE products RENAME passing TO spare",
        "ALTER TABLE products DROP COLUMN units_available; ALTER TABLE products RENAME spare TO units_available",
    ] {
        client.batch_execute(statements).await.unwrap();
        reader.until_true(&client).await;
        client.batch_execute("UPDATE products SET units_available = 70 WHERE product_id = 7").await.unwrap();
        reader.until_true(&client).await;
    }
    server.until_ready().await;
}

/// In one transaction, so that nobody finds the function as it was meanwhile.
#[tokio::test]
async fn rows_that_change_while_a_function_of_a_trigger_does_nothing_reach_readers() {
    let (_database, client, server, mut reader) = shown().await;
    for (function, head) in [
        ("product_after()", "product_after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"),
        ("product_before()", "product_before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"),
        (
            "product_notify(text, bigint, products)",
            "product_notify(action text, version bigint, product products) RETURNS void LANGUAGE plpgsql \
             AS $$ BEGIN END $$",
        ),
    ] {
        let whole = format!("SELECT pg_get_functiondef('{function}'::regprocedure)");
        let whole: String = client.query_one(&whole, &[]).await.unwrap().get(0);
        let write = format!(
            "BEGIN; CREATE OR REPLACE FUNCTION {head}; UPDATE products SET units_available = units_available + 1; \
             {whole}; COMMIT"
        );
        client.batch_execute(&write).await.unwrap();
        reader.until_true(&client).await;
    }
    server.until_ready().await;
}

#[tokio::test]
async fn a_trigger_that_is_off_is_named_by_readyz_and_metrics_until_it_is_on() {
    let (_database, client, server, mut reader) = shown().await;
    let off = "rowcast_source_obstacle{obstacle=\"triggers\"}";
    assert_eq!(server.metric(off).await, 0);
    client.batch_execute("ALTER TABLE products DISABLE TRIGGER USER").await.unwrap();
    server.until_metric(off, 1).await;
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("a trigger of Rowcast on products is missing or off"), "{}", answer.text);
    client.batch_execute("UPDATE products SET units_available = 3").await.unwrap();
    client.batch_execute("ALTER TABLE products ENABLE TRIGGER USER").await.unwrap();
    reader.until_true(&client).await;
    server.until_ready().await;
    assert_eq!(server.metric(off).await, 0);
}
