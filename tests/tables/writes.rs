//! Writes of one row, as HTTP asks for them.

use rowcast::model::key::Key;
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::tables::{InstalledTable, RowError, RowWrite, WrittenRow};
use rowcast::store::{Precondition, Refusal, StoreError, Versions};
use serde_json::{Value, json};

use super::{Fixture, session_id};

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text DEFAULT 'none', price numeric(9, 2), \
     CHECK (price >= 0), tags jsonb, raw json, twice numeric GENERATED ALWAYS AS (price * 2) STORED, at timestamptz, \
     name varchar(5) UNIQUE, list int[], required boolean NOT NULL DEFAULT false)";

/// A store of one table.
struct Rows {
    fixture: Fixture,
    store: PostgresStore,
    table: InstalledTable,
}

impl Rows {
    async fn new(statements: &str, table: &str) -> Self {
        let fixture = Fixture::installed(statements, table).await;
        let (store, table) = fixture.store(table).await;
        Self { fixture, store, table }
    }

    async fn write(&self, write: RowWrite<'_>) -> Result<WrittenRow, RowError> {
        self.write_if(write, Precondition::default()).await
    }

    async fn write_if(&self, write: RowWrite<'_>, condition: Precondition) -> Result<WrittenRow, RowError> {
        let written = self.store.write_row(&self.table, write, condition).await;
        if let Ok(written @ WrittenRow { row: Some(row), .. }) = &written {
            // What is answered is what is there.
            let (version, stored) = self.store.get_row(&self.table, &written.key).await.unwrap().unwrap();
            assert_eq!((written.version, row), (version, &stored));
        }
        written
    }

    async fn put(&self, id: i64, row: &Value) -> Result<WrittenRow, RowError> {
        self.write(RowWrite::Put { key: &Key::Integer(id), row: &row.to_string() }).await
    }

    async fn patch(&self, id: i64, patch: &Value) -> Result<WrittenRow, RowError> {
        self.write(RowWrite::Patch { key: &Key::Integer(id), patch: &patch.to_string() }).await
    }
}

fn row(written: &WrittenRow) -> Value {
    let mut row: Value = serde_json::from_str(written.row.as_ref().unwrap()).unwrap();
    assert_eq!(row.as_object_mut().unwrap().remove("rowcast_version"), Some(json!(written.version)));
    row
}

#[tokio::test]
async fn what_is_no_row_of_the_table_is_refused_and_nothing_is_written() {
    let rows = Rows::new(ORDERS, "orders").await;
    assert!(
        matches!(rows.put(1, &json!({"nothing": 1, "other": 2})).await, Err(RowError::NoColumn(name)) if name == "nothing")
    );
    assert!(matches!(rows.put(1, &json!({"ctid": 1})).await, Err(RowError::NoColumn(name)) if name == "ctid"));
    assert!(matches!(rows.patch(1, &json!({"Note": 1})).await, Err(RowError::NoColumn(name)) if name == "Note"));
    assert!(matches!(rows.put(1, &json!({"id": 2})).await, Err(RowError::OtherKey)));
    assert!(matches!(rows.put(1, &json!({"id": null})).await, Err(RowError::OtherKey)));
    assert!(matches!(rows.patch(1, &json!({"note": "x"})).await, Err(RowError::NotFound)));
    let delete = RowWrite::Delete { key: &Key::Integer(1) };
    assert!(matches!(rows.write(delete).await, Err(RowError::NotFound)));
    for (row, refusal) in [
        (json!({"price": -1}), Refusal::Invalid),
        (json!({"price": "dear"}), Refusal::Invalid),
        (json!({"price": 12_345_678.9}), Refusal::Invalid),
        (json!({"name": "too long"}), Refusal::Invalid),
        (json!({"list": {"a": 1}}), Refusal::Invalid),
        (json!({"required": null}), Refusal::Invalid),
        (json!({"note": "a\u{0}b"}), Refusal::Unrepresentable),
    ] {
        match rows.put(1, &row).await {
            Err(RowError::Store(StoreError::Refused { refusal: read, .. })) => assert_eq!(read, refusal, "{row}"),
            other => panic!("{row}: {other:?}"),
        }
    }
    for text in ["[1]", "1", "null", "{", ""] {
        let refused = rows.write(RowWrite::Put { key: &Key::Integer(1), row: text }).await;
        let is_refused = matches!(refused, Err(RowError::Store(StoreError::Refused { refusal: Refusal::Invalid, .. })));
        assert!(is_refused, "{text}: {refused:?}");
    }
    assert_eq!(rows.fixture.value::<i64>("SELECT count(*) FROM orders").await, 0);
}

#[tokio::test]
async fn a_put_writes_the_whole_row_and_defaults_where_it_names_no_value() {
    let rows = Rows::new(ORDERS, "orders").await;
    let whole = json!({
        "id": 1, "note": "n", "price": 1.50, "tags": {"a": [1, {"b": null}]}, "raw": {"z": 1, "a": 2}, "twice": 999,
        "at": "2026-01-02T03:04:05+01:00", "name": "x", "list": [1, 2], "required": true, "rowcast_version": 7,
    });
    let written = rows.put(1, &whole).await.unwrap();
    assert!(written.is_new);
    let mut expected = whole.clone();
    expected.as_object_mut().unwrap().remove("rowcast_version");
    expected["twice"] = json!(3.00);
    expected["at"] = json!("2026-01-02T02:04:05+00:00");
    assert_eq!(row(&written), expected);

    let replaced = rows.put(1, &json!({"price": 2})).await.unwrap();
    assert!(!replaced.is_new && replaced.version > written.version);
    let defaults = json!({
        "id": 1, "note": "none", "price": 2.00, "tags": null, "raw": null, "twice": 4.00, "at": null, "name": null,
        "list": null, "required": false,
    });
    assert_eq!(row(&replaced), defaults);
    let null = rows.put(1, &json!({"note": null})).await.unwrap();
    assert_eq!(row(&null)["note"], Value::Null);
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_merges_json() {
    let rows = Rows::new(ORDERS, "orders").await;
    rows.put(1, &json!({"note": "n", "price": 1, "tags": {"a": {"b": 1, "c": 2}, "d": [1]}, "raw": [1]}))
        .await
        .unwrap();
    let patch = json!({"price": 2, "tags": {"a": {"b": null, "e": {"f": null, "g": 1}}, "d": {"h": 1}}, "raw": {"x": {"y": null}}});
    let patched = row(&rows.patch(1, &patch).await.unwrap());
    assert_eq!(patched["tags"], json!({"a": {"c": 2, "e": {"g": 1}}, "d": {"h": 1}}));
    assert_eq!(patched["raw"], json!({"x": {}}));
    assert_eq!((&patched["note"], &patched["price"]), (&json!("n"), &json!(2.00)));
    let patched = row(&rows.patch(1, &json!({"tags": null, "raw": "text", "note": null})).await.unwrap());
    assert_eq!((&patched["tags"], &patched["raw"], &patched["note"]), (&Value::Null, &json!("text"), &Value::Null));
    // Nothing named is a change all the same.
    let before = rows.patch(1, &json!({"price": 3})).await.unwrap();
    let nothing = rows.patch(1, &json!({})).await.unwrap();
    assert!(nothing.version > before.version && row(&nothing) == row(&before));
}

/// RFC 7396, appendix A, each within a column.
#[tokio::test]
async fn the_examples_of_merge_patch_hold() {
    let rows = Rows::new(ORDERS, "orders").await;
    for (target, patch, merged) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        rows.put(1, &json!({"tags": target, "raw": target})).await.unwrap();
        let patched = row(&rows.patch(1, &json!({"tags": patch, "raw": patch})).await.unwrap());
        assert_eq!((&patched["tags"], &patched["raw"]), (&merged, &merged), "{target} {patch}");
    }
}

#[tokio::test]
async fn inserts_take_the_rows_key_or_the_databases() {
    let rows =
        Rows::new("CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text)", "orders").await;
    let insert = async |row: &str| rows.write(RowWrite::Insert { key: None, row }).await;
    let drawn = insert(r#"{"note":"a"}"#).await.unwrap();
    assert_eq!((drawn.key.clone(), drawn.is_new), (Key::Integer(1), true));
    assert_eq!(insert("{}").await.unwrap().key, Key::Integer(2));
    assert_eq!(insert(r#"{"id":"17"}"#).await.unwrap().key, Key::Integer(17));
    assert!(matches!(insert(r#"{"id":17}"#).await, Err(RowError::Exists)));
    // An identity is written under the key that it is given, and replaced.
    assert!(rows.put(40, &json!({"id": 40, "note": "b"})).await.unwrap().is_new);
    assert!(!rows.put(40, &json!({"id": 40})).await.unwrap().is_new);
    assert_eq!(row(&rows.patch(40, &json!({"id": 40, "note": "c"})).await.unwrap()), json!({"id": 40, "note": "c"}));

    let rows = Rows::new("CREATE TABLE names (\"Full Name\" text PRIMARY KEY, \"select\" int)", "names").await;
    let written =
        rows.write(RowWrite::Insert { key: None, row: r#"{"Full Name":"a\"b' %s","select":1}"# }).await.unwrap();
    assert_eq!(written.key, Key::Text("a\"b' %s".into()));
    let missing = rows.write(RowWrite::Insert { key: None, row: "{}" }).await;
    assert!(
        matches!(missing, Err(RowError::Store(StoreError::Refused { refusal: Refusal::Invalid, .. }))),
        "{missing:?}"
    );
}

#[tokio::test]
async fn conditions_hold_of_the_row_as_it_is() {
    let rows = Rows::new("CREATE TABLE orders (id int PRIMARY KEY, n int)", "orders").await;
    let key = Key::Integer(1);
    let any = || Some(Versions::Any);
    let put = RowWrite::Put { key: &key, row: r#"{"n":1}"# };
    let if_there = || Precondition { wanted: any(), unwanted: None };
    let if_new = || Precondition { wanted: None, unwanted: any() };
    assert!(matches!(rows.write_if(put, if_there()).await, Err(RowError::PreconditionFailed)));
    let version = rows.write_if(put, if_new()).await.unwrap().version;
    assert!(matches!(rows.write_if(put, if_new()).await, Err(RowError::PreconditionFailed)));
    let exactly = |version| Precondition { wanted: Some(Versions::OneOf(vec![version])), unwanted: None };
    for write in [put, RowWrite::Patch { key: &key, patch: r#"{"n":2}"# }, RowWrite::Delete { key: &key }] {
        assert!(
            matches!(rows.write_if(write, exactly(version + 100)).await, Err(RowError::PreconditionFailed)),
            "{write:?}"
        );
    }
    let version =
        rows.write_if(RowWrite::Patch { key: &key, patch: r#"{"n":2}"# }, exactly(version)).await.unwrap().version;
    let deleted = rows.write_if(RowWrite::Delete { key: &key }, exactly(version)).await.unwrap();
    assert!(deleted.version > version && deleted.row.is_none());
    // A row that is not there is that, whatever is demanded of it.
    assert!(matches!(rows.write_if(RowWrite::Delete { key: &key }, exactly(version)).await, Err(RowError::NotFound)));
}

#[tokio::test]
async fn the_rules_and_the_triggers_of_the_owner_have_their_say() {
    let rows = Rows::new(
        &format!(
            "{ORDERS}; CREATE FUNCTION decide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.note = 'refuse' THEN RAISE EXCEPTION 'not so'; ELSIF NEW.note = 'ignore' THEN RETURN NULL; END IF; \
             NEW.note := NEW.note || '!'; RETURN NEW; END $$; \
             CREATE TRIGGER decide BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION decide(); \
             CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
             CREATE TRIGGER stay BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION stay()"
        ),
        "orders",
    )
    .await;
    let told = |error: RowError| match error {
        RowError::Store(StoreError::Refused { refusal, reason }) => (refusal, reason),
        other => panic!("{other:?}"),
    };
    let refused = told(rows.put(1, &json!({"note": "refuse"})).await.unwrap_err());
    assert_eq!(refused, (Refusal::Invalid, "not so".to_owned()));
    let ignored = told(rows.put(1, &json!({"note": "ignore"})).await.unwrap_err());
    assert_eq!(ignored.0, Refusal::Invalid);
    assert_eq!(row(&rows.put(1, &json!({"note": "a", "name": "x"})).await.unwrap())["note"], "a!");
    let stayed = told(rows.write(RowWrite::Delete { key: &Key::Integer(1) }).await.unwrap_err());
    assert_eq!(stayed.0, Refusal::Invalid);
    // Another unique value than the key.
    let taken = told(rows.put(2, &json!({"name": "x"})).await.unwrap_err());
    assert_eq!(taken.0, Refusal::Conflict);
    assert!(taken.1.contains("orders_name_key"), "{taken:?}");
}

#[tokio::test]
async fn two_that_write_one_new_key_at_once_are_both_answered() {
    let rows = Rows::new("CREATE TABLE orders (id int PRIMARY KEY, n int)", "orders").await;
    for (write, is_written) in [
        (RowWrite::Put { key: &Key::Integer(1), row: r#"{"n":2}"# }, true),
        (RowWrite::Insert { key: None, row: r#"{"id":1,"n":2}"# }, false),
    ] {
        rows.fixture.write("DELETE FROM orders").await;
        let holder = rows.fixture.database.connect().await;
        holder.batch_execute("BEGIN; INSERT INTO orders VALUES (1, 1)").await.unwrap();
        let writing = rows.write(write);
        let releasing = async {
            let waits = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rowcast server' \
                 AND cardinality(pg_blocking_pids(pid)) > 0";
            while rows.fixture.owner.query(waits, &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            holder.batch_execute("COMMIT").await.unwrap();
        };
        let (written, ()) = tokio::join!(writing, releasing);
        match written {
            Ok(written) => assert!(is_written && !written.is_new),
            Err(error) => assert!(!is_written && matches!(error, RowError::Exists), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_write_that_waits_for_a_delete_answers_the_version_that_it_got_in_the_end() {
    let rows =
        Rows::new("CREATE TABLE orders (id int PRIMARY KEY, n int); INSERT INTO orders VALUES (1)", "orders").await;
    let holder = rows.fixture.database.connect().await;
    let id = session_id(&holder).await;
    holder.batch_execute("BEGIN; UPDATE orders SET n = 1").await.unwrap();
    let releasing = async {
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        while !rows.fixture.owner.query_one(waits, &[&id]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
        holder.batch_execute("DELETE FROM orders; COMMIT").await.unwrap();
    };
    let new = json!({"n": 2});
    let (written, ()) = tokio::join!(rows.put(1, &new), releasing);
    let written = written.unwrap();
    assert!(written.is_new);
    let buried: i64 = rows.fixture.value("SELECT version FROM rowcast_tombstones").await;
    assert!(written.version > buried.cast_unsigned());
}

#[tokio::test]
async fn columns_that_are_not_sent_are_not_read() {
    const USERS: &str = "CREATE DOMAIN mail AS text NOT NULL; CREATE DOMAIN document AS jsonb; \
         CREATE TABLE users (id serial PRIMARY KEY, mail mail DEFAULT 'none', other mail, name text, doc document, \
         shouted text GENERATED ALWAYS AS (upper(name)) STORED, words tsvector GENERATED ALWAYS AS \
         (to_tsvector('simple', name)) STORED, length int GENERATED ALWAYS AS (length(name)) STORED)";
    let rows = Rows::new(USERS, "users").await;
    let inserted = rows.write(RowWrite::Insert { key: None, row: r#"{"other":"o"}"# }).await.unwrap();
    let shown = |mail: &str, name: Value, doc: Value| {
        let (shouted, words, length) = match name.as_str() {
            Some(name) => (json!(name.to_uppercase()), json!(format!("'{name}':1")), json!(name.len())),
            None => (Value::Null, Value::Null, Value::Null),
        };
        json!({"id": 1, "mail": mail, "other": "o", "name": name, "doc": doc, "shouted": shouted, "words": words,
            "length": length})
    };
    assert_eq!(row(&inserted), shown("none", Value::Null, Value::Null));
    let patched = rows.patch(1, &json!({"name": "anna", "doc": {"a": 1, "b": 2}})).await.unwrap();
    assert_eq!(row(&patched), shown("none", json!("anna"), json!({"a": 1, "b": 2})));
    let patched = rows.patch(1, &json!({"doc": {"a": null, "c": 3}})).await.unwrap();
    assert_eq!(row(&patched), shown("none", json!("anna"), json!({"b": 2, "c": 3})), "a domain over jsonb is merged");
    // What the database computes is ignored, whatever it is.
    let whole = json!({"id": 1, "mail": "m", "other": "o", "name": "bea", "length": "three", "words": [], "rowcast_version": "x"});
    assert_eq!(row(&rows.put(1, &whole).await.unwrap()), shown("m", json!("bea"), Value::Null));
    assert_eq!(row(&rows.put(1, &json!({"other": "o"})).await.unwrap()), shown("none", Value::Null, Value::Null));
    assert_eq!(row(&rows.patch(1, &json!({})).await.unwrap()), shown("none", Value::Null, Value::Null));
    for missing in [json!({"other": null}), json!({"name": "x"})] {
        rows.put(1, &missing).await.unwrap_err();
    }
}
