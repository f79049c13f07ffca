//! Tables whose schema changes while they are served: what their readers are told, and that those of others are told
//! nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::served::ask;
use crate::support::patiently;
use crate::support::postgres::{Cluster, Database};
use crate::support::server::TestServer;
use crate::support::socket::Socket;

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, state text); \
    CREATE TABLE notes (slug text PRIMARY KEY, body text); \
    INSERT INTO orders VALUES (1, 'placed'), (2, 'paid')";
const LISTENER: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name = 'rowcast listener'";
const NOTED: &str = "SELECT fingerprint, epoch FROM rowcast_served WHERE name = 'orders'";
const OPTIONS: [&str; 4] = ["--cores", "2", "--table", "orders,notes"];

/// A server, the owner of its tables, and a reader of each of them.
struct Fixture {
    server: TestServer,
    database: Database,
    owner: Client,
    orders: Socket,
    notes: Socket,
}

impl Fixture {
    async fn new() -> Self {
        let database = Cluster::shared().database().await;
        let owner = database.connect().await;
        owner.batch_execute(TABLES).await.unwrap();
        let server = serve(&database).await;
        let (mut orders, mut notes) = (Socket::connect(server.address).await, Socket::connect(server.address).await);
        ask(&mut orders, json!({"command":"subscribe","table":"orders","keys":"*","snapshot":true})).await;
        ask(&mut notes, json!({"command":"subscribe","table":"notes","keys":["a"],"snapshot":true})).await;
        Self { server, database, owner, orders, notes }
    }

    async fn write(&self, statements: &str) {
        self.owner.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Returns what the reader of orders is told until the table is live.
    async fn until_live(&mut self) -> Told {
        let mut told = Told::default();
        patiently(async { while !told.take(&self.orders.next().await) {} }).await;
        told
    }

    /// Likewise, where all is told anew in another epoch.
    async fn told_anew(&mut self) -> Told {
        let told = self.until_live().await;
        assert!(told.was_lost && told.epochs.len() == 1, "{told:?}");
        told
    }

    /// Returns once the reader of orders is told that they are lost.
    async fn until_lost(&mut self) {
        patiently(async { while self.orders.next().await != json!({"live":false,"table":"orders"}) {} }).await;
    }

    /// Returns what is said of orders to operators, once anything is.
    async fn reason(&self) -> String {
        let mut reason = None;
        patiently(async {
            while reason.is_none() {
                let reply = self.server.get("/readyz").await;
                assert_eq!(reply.status, 200, "{reply:?}");
                let line = reply.text.lines().find_map(|line| line.strip_prefix("not live: table orders: "));
                reason = line.filter(|line| !line.starts_with("it ")).map(str::to_owned);
            }
        })
        .await;
        reason.unwrap()
    }

    /// Checks that the reader of notes was told nothing, and that writes of orders are told.
    async fn goes_on(mut self) {
        self.write("INSERT INTO notes VALUES ('a', 'b')").await;
        let told = self.notes.next().await;
        assert_eq!(told["action"], "INSERT", "{told}");
        self.write("UPDATE orders SET state = 'last' WHERE id = 1").await;
        patiently(async { while self.orders.next().await["row"]["state"] != "last" {} }).await;
        assert_eq!(self.server.get("/readyz").await.text, "ready\n");
    }
}

async fn serve(database: &Database) -> TestServer {
    let server = TestServer::postgres(database.url(), &OPTIONS).await;
    server.until_ready().await;
    server
}

/// What a reader was told.
#[derive(Debug, Default)]
struct Told {
    was_lost: bool,
    epochs: Vec<String>,
    /// The rows that were told since the last epoch, or since the beginning; null: absent.
    rows: BTreeMap<String, Value>,
}

impl Told {
    /// Takes a message; answers whether it says that orders are live.
    fn take(&mut self, message: &Value) -> bool {
        assert!(message["table"] == "orders" || message["skipped"].is_u64(), "{message}");
        self.was_lost |= message["live"] == false;
        if let Some(epoch) = message["epoch"].as_str() {
            self.epochs.push(epoch.to_owned());
            self.rows.clear();
        }
        if message["key"] != Value::Null {
            self.rows.insert(message["key"].to_string(), message["row"].clone());
        }
        for key in message["absent"].as_array().into_iter().flatten() {
            self.rows.insert(key.to_string(), Value::Null);
        }
        message["live"] == true
    }
}

#[tokio::test]
async fn what_changes_rows_without_a_trigger_is_told_anew_in_an_epoch_of_the_table() {
    let mut fixture = Fixture::new().await;
    for (statements, row) in [
        ("ALTER TABLE orders ADD COLUMN extra text DEFAULT 'e'", json!({"id":1,"state":"placed","extra":"e"})),
        ("ALTER TABLE orders RENAME COLUMN extra TO more", json!({"id":1,"state":"placed","more":"e"})),
        ("ALTER TABLE orders DROP COLUMN more", json!({"id":1,"state":"placed"})),
        ("ALTER TABLE orders ALTER state TYPE varchar(9) USING upper(state)", json!({"id":1,"state":"PLACED"})),
        ("ALTER TABLE orders ALTER state TYPE varchar(9) USING lower(state)", json!({"id":1,"state":"placed"})),
        (
            "ALTER TABLE orders ADD COLUMN extra int; UPDATE orders SET state = 'seen'; COMMIT; ALTER TABLE orders DROP extra",
            json!({"id":1,"state":"seen"}),
        ),
        (
            "ALTER TABLE orders DISABLE TRIGGER USER; UPDATE orders SET state = 'silent'; \
             ALTER TABLE orders ENABLE ALWAYS TRIGGER \"00_rowcast\", ENABLE ALWAYS TRIGGER zz_rowcast, \
             ENABLE ALWAYS TRIGGER zz_rowcast_truncate",
            json!({"id":1,"state":"silent"}),
        ),
    ] {
        fixture.write(statements).await;
        let told = fixture.told_anew().await;
        assert_eq!((told.rows.len(), &told.rows["1"]), (2, &row), "{statements}");
    }
    fixture.goes_on().await;
}

#[tokio::test]
async fn a_key_that_gets_another_type_or_name_is_followed() {
    let mut fixture = Fixture::new().await;
    fixture.write("ALTER TABLE orders ALTER id TYPE bigint").await;
    fixture.told_anew().await;
    fixture.write("INSERT INTO orders VALUES (9007199254740993, 'big')").await;
    assert_eq!(fixture.orders.next().await["key"], "9007199254740993");
    let keys = json!(["9007199254740993"]);
    ask(&mut fixture.orders, json!({"command":"subscribe","table":"orders","keys":keys})).await;
    fixture.write("ALTER TABLE orders RENAME COLUMN id TO number").await;
    let told = fixture.told_anew().await;
    assert_eq!(told.rows["1"], json!({"number":1,"state":"placed"}));
    fixture.write("UPDATE orders SET state = 'last' WHERE number = 1").await;
    assert_eq!(fixture.orders.next().await["row"], json!({"number":1,"state":"last"}));
}

#[tokio::test]
async fn a_truncate_is_a_gap_and_no_epoch() {
    let mut fixture = Fixture::new().await;
    fixture
        .write(
            "CREATE TABLE kinds (id int PRIMARY KEY); INSERT INTO kinds VALUES (1), (2), (3); \
             ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES kinds",
        )
        .await;
    for truncate in [
        "TRUNCATE orders",
        // The database tells one of two gaps.
        "TRUNCATE orders; INSERT INTO orders VALUES (2, 'between'); TRUNCATE orders",
        "TRUNCATE orders; INSERT INTO orders VALUES (3, 'between'); TRUNCATE orders",
        "TRUNCATE orders; SAVEPOINT s; TRUNCATE orders; ROLLBACK TO s; TRUNCATE orders",
        "SAVEPOINT s; TRUNCATE orders; ROLLBACK TO s; TRUNCATE orders",
        "TRUNCATE kinds CASCADE; INSERT INTO kinds VALUES (1), (2), (3)",
        // Whatever was done to the rows before it.
        "UPDATE orders SET state = 'more'; TRUNCATE orders",
    ] {
        fixture.write("INSERT INTO orders VALUES (2, 'two') ON CONFLICT (id) DO NOTHING").await;
        let before: String = fixture.owner.query_one(NOTED, &[]).await.unwrap().get(0);
        fixture.write(&format!("BEGIN; {truncate}; INSERT INTO orders VALUES (1, 'again'); COMMIT")).await;
        patiently(async {
            while fixture.owner.query_one(NOTED, &[]).await.unwrap().get::<_, String>(0) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let epoch = fixture.owner.query_one(NOTED, &[]).await.unwrap().get::<_, Option<i64>>(1);
        assert_eq!(epoch, None, "{truncate}");
        let told = fixture.until_live().await;
        assert!(told.was_lost && told.epochs.is_empty(), "{truncate}: {told:?}");
        let there = told.rows.iter().filter(|(_, row)| !row.is_null()).map(|(key, row)| (&**key, &row["state"]));
        assert_eq!(there.collect::<Vec<_>>(), [("1", &json!("again"))], "{truncate}");
    }
    fixture.goes_on().await;
}

/// A rewrite gives a table another file, as a TRUNCATE does.
#[tokio::test]
async fn a_rewrite_right_after_a_truncate_is_told() {
    const REWRITE: &str = "ALTER TABLE orders ALTER state TYPE text USING upper(state)";
    const TRUNCATE: &str = "TRUNCATE orders; INSERT INTO orders VALUES (1, 'again')";
    let mut fixture = Fixture::new().await;
    for statements in [&*format!("BEGIN; {TRUNCATE}; {REWRITE}; COMMIT"), &format!("{TRUNCATE}; COMMIT; {REWRITE}")] {
        fixture.write(statements).await;
        patiently(async { while fixture.orders.next().await["row"]["state"] != "AGAIN" {} }).await;
        fixture.until_live().await;
        fixture.write("UPDATE orders SET state = 'more' WHERE id = 1").await;
        patiently(async { while fixture.orders.next().await["row"]["state"] != "more" {} }).await;
    }
    fixture.goes_on().await;
}

/// A rewrite looks like a TRUNCATE from outside, also to who was not connected all the time.
#[tokio::test]
async fn a_truncate_before_the_listener_is_lost_hides_no_rewrite_after_it() {
    let mut fixture = Fixture::new().await;
    // Looks have been made before.
    fixture.write("ALTER TABLE orders ADD COLUMN extra text").await;
    fixture.told_anew().await;
    let before: String = fixture.owner.query_one(NOTED, &[]).await.unwrap().get(0);
    fixture.write("TRUNCATE orders; INSERT INTO orders VALUES (1, 'again')").await;
    fixture.until_lost().await;
    let ended: i32 = fixture.owner.query_one(LISTENER, &[]).await.unwrap().get(0);
    fixture.owner.execute("SELECT pg_terminate_backend($1)", &[&ended]).await.unwrap();
    patiently(async {
        while fixture.owner.query_opt(LISTENER, &[]).await.unwrap().is_none_or(|row| row.get::<_, i32>(0) == ended) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    patiently(async {
        while fixture.owner.query_one(NOTED, &[]).await.unwrap().get::<_, String>(0) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What is told of another table was found by a look after that.
    fixture.write("ALTER TABLE notes ADD COLUMN extra text").await;
    patiently(async { while fixture.notes.next().await != json!({"live":true,"table":"notes"}) {} }).await;
    fixture.write("ALTER TABLE orders ALTER state TYPE text USING upper(state)").await;
    patiently(async { while fixture.orders.next().await["row"]["state"] != "AGAIN" {} }).await;
}

#[tokio::test]
async fn a_table_that_takes_the_place_of_another_is_installed_on_and_told_anew() {
    let mut fixture = Fixture::new().await;
    let swap = |old: &str, new: &str| {
        format!("BEGIN; ALTER TABLE orders RENAME TO {old}; ALTER TABLE {new} RENAME TO orders; COMMIT")
    };
    fixture
        .write("CREATE TABLE fresh (id int PRIMARY KEY, total numeric); INSERT INTO fresh VALUES (2, 1.50), (3, 2)")
        .await;
    fixture.write(&swap("old", "fresh")).await;
    let told = fixture.told_anew().await;
    assert_eq!(told.rows["2"], json!({"id":2,"total":1.5}));
    assert_eq!(told.rows["3"], json!({"id":3,"total":2}));
    assert!(told.rows.get("1").is_none_or(Value::is_null), "{told:?}");
    fixture.write("UPDATE old SET state = 'elsewhere'; UPDATE orders SET total = 9 WHERE id = 3").await;
    assert_eq!(fixture.orders.next().await["row"]["total"], 9);
    fixture.write(&swap("fresh", "old")).await;
    let back = fixture.told_anew().await;
    assert_ne!(back.epochs, told.epochs);
    assert_eq!(back.rows["1"], json!({"id":1,"state":"elsewhere"}));
    fixture.goes_on().await;
}

/// Until it is looked at, there is no table to read and none to write: what is answered is of the new one, or nothing is.
#[tokio::test]
async fn over_http_a_table_that_takes_the_place_of_another_is_not_there_until_it_is_live() {
    const SWAP: &str = "BEGIN; ALTER TABLE orders RENAME TO old; CREATE TABLE orders (LIKE old INCLUDING ALL); \
        INSERT INTO orders VALUES (3, 'fresh'); COMMIT";
    let mut fixture = Fixture::new().await;
    for statements in [SWAP, "DROP TABLE orders; CREATE TABLE orders (id int PRIMARY KEY, state text)"] {
        fixture.write(statements).await;
        let mut answered = 0;
        while answered < 2 {
            answered = 0;
            for (method, path, body) in
                [("PUT", "/tables/orders/7", Some(r#"{"state":"put"}"#)), ("GET", "/tables/orders", None)]
            {
                let reply = fixture.server.request(method, path, body).await;
                match reply.status.as_u16() {
                    503 => assert_eq!(reply.header("retry-after"), "2", "{reply:?}"),
                    _ => answered += 1,
                }
                assert!([200, 201, 503].contains(&reply.status.as_u16()), "{reply:?}");
                if method == "PUT" && reply.status != 503 {
                    let stored = fixture.owner.query_one("SELECT state FROM orders WHERE id = 7", &[]).await;
                    assert_eq!(stored.unwrap().get::<_, &str>(0), "put", "what is acknowledged is in the table");
                }
            }
        }
        let told = fixture.until_live().await;
        assert!(told.was_lost && !told.epochs.is_empty(), "{told:?}");
        fixture.write("DROP TABLE IF EXISTS old; INSERT INTO orders VALUES (1, 'more') ON CONFLICT DO NOTHING").await;
    }
    fixture.goes_on().await;
}

#[tokio::test]
async fn a_table_without_its_key_is_not_live_until_it_has_it() {
    let mut fixture = Fixture::new().await;
    fixture.write("ALTER TABLE orders DROP CONSTRAINT orders_pkey").await;
    fixture.until_lost().await;
    patiently(async { while !fixture.server.get("/readyz").await.text.contains("it has no primary key") {} }).await;
    let mut late = Socket::connect(fixture.server.address).await;
    let command = json!({"command":"subscribe","table":"orders","keys":[1],"snapshot":true,"id":1});
    late.send(&command.to_string()).await;
    assert_eq!(late.next().await, json!({"live":false,"table":"orders"}));
    fixture.write("UPDATE orders SET state = 'keyless'; ALTER TABLE orders ADD PRIMARY KEY (id)").await;
    let told = fixture.until_live().await;
    // Two rows may have had one key meanwhile.
    assert_eq!(told.epochs.len(), 1, "{told:?}");
    patiently(async { while late.next().await["reply"] != 1 {} }).await;
    fixture.goes_on().await;
}

#[tokio::test]
async fn a_table_that_is_dropped_is_not_live_until_it_is_made_again() {
    let mut fixture = Fixture::new().await;
    fixture.write("DROP TABLE orders").await;
    fixture.until_lost().await;
    assert!(fixture.reason().await.starts_with("there is no such table"));
    fixture.write("INSERT INTO notes VALUES ('a', 'meanwhile'); DELETE FROM notes").await;
    for action in ["INSERT", "DELETE"] {
        assert_eq!(fixture.notes.next().await["action"], action);
    }
    ask(&mut fixture.notes, json!({"command":"subscribe","table":"notes","keys":["a","b"],"snapshot":true})).await;
    fixture.write("CREATE TABLE orders (id int PRIMARY KEY, state text); INSERT INTO orders VALUES (1, 'anew')").await;
    let told = fixture.until_live().await;
    assert_eq!((told.epochs.len(), &told.rows["1"]), (1, &json!({"id":1,"state":"anew"})));
    fixture.goes_on().await;
}

#[tokio::test]
async fn a_trigger_that_is_off_is_named_and_begins_an_epoch_once_it_is_on() {
    let mut fixture = Fixture::new().await;
    fixture.write("ALTER TABLE orders DISABLE TRIGGER \"00_rowcast\"").await;
    fixture.until_lost().await;
    patiently(async { while !fixture.server.get("/readyz").await.text.contains("00_rowcast is off; enable it") {} })
        .await;
    fixture.write("UPDATE orders SET state = 'silent'").await;
    fixture.write("ALTER TABLE orders ENABLE ALWAYS TRIGGER \"00_rowcast\"").await;
    let told = fixture.until_live().await;
    assert_eq!((told.epochs.len(), &told.rows["2"]["state"]), (1, &json!("silent")));
    fixture.write("DROP TRIGGER \"00_rowcast\" ON orders; UPDATE orders SET state = 'untold'").await;
    let told = fixture.told_anew().await;
    assert_eq!(told.rows["2"]["state"], "untold", "it was installed again");
    fixture.goes_on().await;
}

#[tokio::test]
async fn settings_of_a_triggers_function_that_somebody_changes_are_put_right_or_begin_an_epoch() {
    const SETTINGS: &str = "SELECT string_agg(format('%s %s', proname, proconfig), '; ' ORDER BY proname) FROM pg_proc \
         WHERE proname IN ('rowcast_before_1', 'rowcast_after_1')";
    let mut fixture = Fixture::new().await;
    let before: String = fixture.owner.query_one(SETTINGS, &[]).await.unwrap().get(0);
    for changed in [
        "rowcast_after_1() SET search_path = nowhere",
        "rowcast_after_1() SET timezone = 'Asia/Tokyo'",
        "rowcast_after_1() RESET ALL",
        "rowcast_before_1() SET search_path = nowhere",
    ] {
        fixture
            .write(&format!("ALTER FUNCTION {changed}; UPDATE orders SET state = '{}'", changed.replace('\'', "")))
            .await;
        let told = fixture.told_anew().await;
        assert_eq!(told.rows["1"]["state"], changed.replace('\'', ""));
        assert_eq!(fixture.owner.query_one(SETTINGS, &[]).await.unwrap().get::<_, String>(0), before, "{changed}");
    }
    // That function is of all tables, and nobody puts it right; a TRUNCATE of which it does not tell is found.
    fixture.write("ALTER FUNCTION rowcast_truncated() SET search_path = nowhere").await;
    fixture.told_anew().await;
    fixture.write("TRUNCATE orders; INSERT INTO orders VALUES (1, 'again')").await;
    let told = fixture.told_anew().await;
    assert_eq!((&told.rows["1"]["state"], &told.rows["2"]), (&json!("again"), &Value::Null), "{told:?}");
    fixture.write("UPDATE orders SET state = 'last'").await;
    patiently(async { while fixture.orders.next().await["row"]["state"] != "last" {} }).await;
}

#[tokio::test]
async fn two_servers_tell_the_same_epoch_and_readers_move_between_them() {
    let mut fixture = Fixture::new().await;
    let other = serve(&fixture.database).await;
    let mut reader = Socket::connect(other.address).await;
    ask(&mut reader, json!({"command":"subscribe","table":"orders","keys":[1],"snapshot":true})).await;
    fixture.write("ALTER TABLE orders ADD COLUMN extra text DEFAULT 'e'").await;
    let told = fixture.told_anew().await;
    let (mut elsewhere, mut version) = (Told::default(), 0);
    patiently(async {
        loop {
            let message = reader.next().await;
            version = message["version"].as_u64().unwrap_or(version);
            if elsewhere.take(&message) {
                break;
            }
        }
    })
    .await;
    assert_eq!(elsewhere.epochs, told.epochs, "one of them begins it, and both tell it");
    assert_eq!(elsewhere.rows["1"]["extra"], "e");
    let mut mover = Socket::connect(fixture.server.address).await;
    let known = json!({"command":"subscribe","table":"orders","keys":[1],"versions":[version],"epoch":told.epochs[0]});
    let again = ask(&mut mover, known).await;
    assert!(again.len() == 2 && again.iter().all(|message| message["epoch"].is_string()), "{again:?}");
}

#[tokio::test]
async fn a_table_that_changed_while_no_server_ran_is_told_anew_and_one_that_did_not_is_not() {
    let Fixture { mut server, database, owner, .. } = Fixture::new().await;
    let ask_one = |versions: Value, epoch: Value| json!({"command":"subscribe","table":"orders","keys":[1],"versions":versions,"epoch":epoch});
    let (mut epoch, mut version, mut columns) = (json!("none"), json!(0), 2);
    for statements in ["", "ALTER TABLE orders ADD COLUMN extra text DEFAULT 'e'", "", "DROP VIEW IF EXISTS v"] {
        server.begin_stop();
        server.ended().await;
        owner.batch_execute(statements).await.unwrap();
        server = serve(&database).await;
        let mut socket = Socket::connect(server.address).await;
        let told = ask(&mut socket, ask_one(json!([version]), epoch.clone())).await;
        let is_new = statements.contains("ADD COLUMN") || version == 0;
        let row = told.iter().find(|message| message["key"] == 1);
        assert_eq!(row.is_some(), is_new, "{statements}: {told:?}");
        let last = told.iter().rfind(|message| message["epoch"].is_string()).unwrap();
        // Who claims another epoch is told that of the table by its name.
        assert_eq!(last["table"] == "orders", is_new || columns == 3, "{told:?}");
        epoch = last["epoch"].clone();
        if let Some(row) = row {
            columns = row["row"].as_object().unwrap().len();
            version = row["version"].clone();
        }
    }
    assert_eq!(columns, 3);
}
