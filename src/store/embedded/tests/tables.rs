//! Tables other than products.

use super::*;
use crate::model::key::KeyKind;

fn order(key: &str) -> RowId {
    row_id("orders", key)
}

fn row_id(table: &str, key: &str) -> RowId {
    RowId::new(table, KeyKind::Any.of_text(key).unwrap())
}

fn json(text: &str) -> Row {
    Row::parse(text.as_bytes()).unwrap()
}

/// A store, with its tables.
fn open_with(config: &EmbeddedConfig) -> (EmbeddedStore, EmbeddedWriter, Source, Tables) {
    let (tables, (feed, source)) = (Tables::new(), Source::new());
    let (store, writer) = EmbeddedStore::open(config, &tables, feed, part()).unwrap();
    (store, writer, source, tables)
}

fn names(tables: &Tables) -> Vec<String> {
    tables.all().iter().map(|table| table.name.to_string()).collect()
}

const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

#[tokio::test]
async fn keys_of_every_kind_are_rows_of_one_table_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, mut source, tables) = open_with(&config(dir.path()));
    let long = "k".repeat(256);
    let keys = ["0", "9", "10", "9007199254740991", UUID, "", ".", "007", "9007199254740992", "a/b", "a,b", &long, "é"];
    for (place, key) in keys.iter().enumerate().rev() {
        store.insert(order(key), json(&format!(r#"{{"n":{place}}}"#)), Precondition::default()).await.unwrap();
    }
    store.insert(row_id("order", "1"), json("{}"), Precondition::default()).await.unwrap();
    store.insert(row_id("orders2", "1"), json("{}"), Precondition::default()).await.unwrap();
    store.insert(id(1), product(1, "a"), Precondition::default()).await.unwrap();
    let table = tables.find("orders").unwrap();
    let list = async |after: Option<Key>| store.list(table.id, after, 100, usize::MAX).await.unwrap().rows;
    let mut expected: Vec<Key> = keys.iter().map(|key| order(key).key).collect();
    expected.sort_unstable();
    let listed = list(None).await;
    assert_eq!(listed.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), expected);
    for row in &listed {
        let after = list(Some(row.key.clone())).await;
        assert_eq!(after[..], listed[listed.len() - after.len()..]);
        assert!(after.first().is_none_or(|next| next.key > row.key));
        assert_eq!(store.get(RowId::new("orders", row.key.clone())).await.unwrap(), *row);
    }
    let found = store.keys(table.id, None, 1).await.unwrap();
    let found: Vec<_> = found.keys.iter().map(|(subject, version)| (subject.key(), *version)).collect();
    assert_eq!(found, listed.iter().map(|row| (row.key.clone(), row.version)).collect::<Vec<_>>());
    assert!(matches!(source.next().await, Some(SourceEvent::Began(_))));
    for key in keys.iter().rev() {
        let Some(SourceEvent::Change(change)) = source.next().await else { panic!("a change") };
        assert_eq!(change.subject, tables.subject(table.id, order(key).key));
    }
    stop(store, writer).await;
}

#[tokio::test]
async fn a_load_reads_rows_of_many_tables_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source, tables) = open_with(&config(dir.path()));
    let any = Precondition::default;
    store.insert(order("a"), json(r#"{"n":1}"#), any()).await.unwrap();
    store.insert(row_id("stock", "7"), json(r#"{"n":2}"#), any()).await.unwrap();
    store.insert(id(7), product(7, "a"), any()).await.unwrap();
    let subject = |id: &RowId| tables.subject(tables.find(&id.table).unwrap().id, id.key.clone());
    let wanted = [order("a"), row_id("stock", "7"), id(7), order("7"), row_id("stock", "a")];
    let read = store.load(wanted.iter().map(subject).collect(), 1).await.unwrap();
    assert!(read.left.is_empty());
    for (place, (topic, found)) in read.found.iter().enumerate() {
        assert_eq!(*topic, subject(&wanted[place]).topic());
        match found {
            Found::Present(row) => assert_eq!(*row, store.get(wanted[place].clone()).await.unwrap()),
            Found::Absent { version: 3 } => assert!(place > 2),
            other => panic!("{other:?}"),
        }
    }
    stop(store, writer).await;
}

#[tokio::test]
async fn only_a_first_row_makes_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source, tables) = open_with(&config(dir.path()));
    let any = Precondition::default;
    let there = || Precondition { wanted: Some(crate::store::Versions::Any), ..any() };
    assert!(matches!(store.get(order("1")).await, Err(StoreError::NoTable(name)) if &*name == "orders"));
    let patched = store.patch(order("1"), json("{}"), any()).await;
    assert!(matches!(patched, Err(StoreError::NoTable(_))), "{patched:?}");
    assert!(matches!(store.delete(order("1"), any()).await, Err(StoreError::NoTable(_))));
    assert!(matches!(store.put(order("1"), json("{}"), there()).await, Err(StoreError::PreconditionFailed(_))));
    assert!(matches!(store.insert(order("1"), json("{}"), there()).await, Err(StoreError::PreconditionFailed(_))));
    assert_eq!(names(&tables), ["products"]);
    // In one commit, perhaps.
    let (one, two, three) = tokio::join!(
        store.insert(order("1"), json("{}"), any()),
        store.insert(order("1"), json("{}"), any()),
        store.put(order("2"), json("{}"), any()),
    );
    let (put, three) = three.unwrap();
    assert_eq!((one.unwrap().version, put, three.version), (1, Put::Inserted, 2));
    assert!(matches!(two, Err(StoreError::Exists(id)) if id == order("1")));
    for key in ["1", "2"] {
        store.delete(order(key), any()).await.unwrap();
    }
    assert!(matches!(store.get(order("1")).await, Err(StoreError::NotFound(_))), "it stays");
    assert_eq!(names(&tables), ["products", "orders"]);
    stop(store, writer).await;
}

#[tokio::test]
async fn tables_keep_their_rows_and_places_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let named = EmbeddedConfig { tables: ["b", "products", "b", "a"].map(String::from).to_vec(), ..config(dir.path()) };
    for _ in 0..2 {
        let (store, writer, _source, tables) = open_with(&named);
        assert_eq!(names(&tables), ["products", "b", "a"]);
        assert!(matches!(store.get(row_id("a", "1")).await, Err(StoreError::NotFound(_))));
        stop(store, writer).await;
    }
    let (store, writer, _source, _) = open_with(&config(dir.path()));
    let any = Precondition::default;
    for (table, key) in [("z", "1"), ("a", "x"), ("c", "1")] {
        store.insert(row_id(table, key), json(&format!(r#"{{"t":"{table}"}}"#)), any()).await.unwrap();
    }
    stop(store, writer).await;
    let (store, writer, _source, tables) = open_with(&named);
    assert_eq!(names(&tables), ["products", "b", "a", "z", "c"]);
    for (table, key) in [("z", "1"), ("a", "x"), ("c", "1")] {
        assert_eq!(store.get(row_id(table, key)).await.unwrap().row, json(&format!(r#"{{"t":"{table}"}}"#)));
    }
    stop(store, writer).await;
}

#[tokio::test]
async fn there_are_no_more_tables_than_may_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let few = EmbeddedConfig { tables_max: 3, ..config(dir.path()) };
    let (store, writer, _source, tables) = open_with(&few);
    let any = Precondition::default;
    let insert = |table: &'static str| store.insert(row_id(table, "1"), json("{}"), any());
    let outcomes = tokio::join!(insert("a"), insert("b"), insert("c"), insert("a"));
    assert!(outcomes.0.is_ok() && outcomes.1.is_ok());
    assert!(matches!(outcomes.2, Err(StoreError::TooManyTables(3))), "{:?}", outcomes.2);
    assert!(matches!(outcomes.3, Err(StoreError::Exists(_))));
    assert_eq!(names(&tables), ["products", "a", "b"]);
    store.put(row_id("b", "2"), json("{}"), any()).await.unwrap();
    stop(store, writer).await;
    // Those that are there stay.
    let (store, writer, _source, tables) = open_with(&EmbeddedConfig { tables_max: 1, ..few.clone() });
    assert_eq!(names(&tables), ["products", "a", "b"]);
    store.get(row_id("b", "2")).await.unwrap();
    stop(store, writer).await;
    for (name, sentence) in [("c", "--max-tables"), ("a-b", "a name is"), ("", "a name is")] {
        let (feed, _source) = Source::new();
        let named = EmbeddedConfig { tables: vec![name.to_owned()], ..few.clone() };
        let refusal = EmbeddedStore::open(&named, &Tables::new(), feed, part()).unwrap_err().to_string();
        assert!(refusal.contains(sentence), "{refusal}");
    }
}

#[tokio::test]
async fn every_place_can_be_taken() {
    let dir = tempfile::tempdir().unwrap();
    let all = EmbeddedConfig { tables_max: TableId::MAX.get() + 1, ..config(dir.path()) };
    let (store, writer, _source, tables) = open_with(&all);
    for number in 1..=TableId::MAX.get() {
        store.put(row_id(&format!("t{number}"), "x"), json("{}"), Precondition::default()).await.unwrap();
    }
    let one_more = store.put(row_id("more", "x"), json("{}"), Precondition::default()).await;
    assert!(matches!(one_more, Err(StoreError::TooManyTables(1024))), "{one_more:?}");
    let last = tables.find("t1023").unwrap();
    assert_eq!(store.list(last.id, None, 10, usize::MAX).await.unwrap().rows.len(), 1);
    stop(store, writer).await;
}

#[tokio::test]
async fn a_patch_merges_and_makes_no_row_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let short = EmbeddedConfig { row_bytes_max: 44, ..config(dir.path()) };
    let (store, writer, _source, _) = open_with(&short);
    let any = Precondition::default;
    store.put(order("1"), json(r#"{"price":1.50,"lines":[{"n":null}],"at":{"x":1}}"#), any()).await.unwrap_err();
    store.put(order("1"), json(r#"{"price":1.50,"at":{"x":1,"y":2}}"#), any()).await.unwrap();
    let patched = store.patch(order("1"), json(r#"{"at":{"y":null,"z":[]},"new":"a"}"#), any()).await.unwrap();
    assert_eq!(patched.row, json(r#"{"price":1.50,"at":{"x":1,"z":[]},"new":"a"}"#));
    assert_eq!(patched, store.get(order("1")).await.unwrap());
    let longer = store.patch(order("1"), json(r#"{"name":"x"}"#), any()).await;
    assert!(matches!(longer, Err(StoreError::TooLong(44))), "{longer:?}");
    assert_eq!(patched, store.get(order("1")).await.unwrap(), "nothing changed");
    assert_eq!(store.delete(order("1"), any()).await.unwrap(), 3, "a write that was refused took no version");
    stop(store, writer).await;
}
