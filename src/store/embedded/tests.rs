use tokio_util::sync::CancellationToken;

use super::*;
use crate::source::Source;
use crate::supervisor::Supervisor;

fn part() -> Part {
    Supervisor::new(CancellationToken::new()).part("the store")
}

fn id(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

fn product(number: u64, name: &str) -> Product {
    Product {
        product_id: id(number),
        manufacturer: "m".into(),
        price_per_unit: "1EUR".into(),
        units_available: 1,
        product_name: name.into(),
    }
}

fn open(dir: &Path) -> (EmbeddedStore, EmbeddedWriter, Source) {
    let (feed, source) = Source::new();
    let (store, writer) = EmbeddedStore::open(dir, feed, part()).unwrap();
    (store, writer, source)
}

async fn stop(store: EmbeddedStore, writer: EmbeddedWriter) {
    store.stop().await;
    drop(store);
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_versions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, mut source) = open(dir.path());
    assert_eq!(store.insert(product(1, "a"), Precondition::default()).await.unwrap(), 1);
    assert_eq!(store.put(product(2, "b"), Precondition::default()).await.unwrap(), (Put::Inserted, 2));
    assert_eq!(store.put(product(1, "c"), Precondition::default()).await.unwrap(), (Put::Replaced, 3));
    assert_eq!(store.delete(id(2), Precondition::default()).await.unwrap(), 4);
    stop(store, writer).await;
    let mut versions = Vec::new();
    assert!(matches!(source.next().await, Some(SourceEvent::Barrier)), "nothing is ever missed");
    while let Some(event) = source.next().await {
        let SourceEvent::Change(change) = event else { panic!("{event:?}") };
        versions.push((change.product_id.get(), change.version));
    }
    assert_eq!(versions, [(1, 1), (2, 2), (1, 3), (2, 4)], "the source ends with the store, and has all");

    let (store, writer, _source) = open(dir.path());
    assert_eq!(store.get(id(1)).await.unwrap(), Versioned { product: product(1, "c"), version: 3 });
    assert!(matches!(store.get(id(2)).await, Err(StoreError::NotFound(_))));
    assert_eq!(
        store.insert(product(2, "d"), Precondition::default()).await.unwrap(),
        5,
        "above the version of the delete"
    );
    stop(store, writer).await;
}

#[tokio::test]
async fn writes_that_cannot_be_done_disturb_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    let (first, second, patched, removed) = tokio::join!(
        store.insert(product(1, "a"), Precondition::default()),
        store.insert(product(1, "b"), Precondition::default()),
        store.patch(id(9), ProductPatch::default(), Precondition::default()),
        store.delete(id(9), Precondition::default()),
    );
    assert_eq!(first.unwrap(), 1);
    assert!(matches!(second, Err(StoreError::Exists(_))));
    assert!(matches!(patched, Err(StoreError::NotFound(_))));
    assert!(matches!(removed, Err(StoreError::NotFound(_))));
    assert_eq!(
        store.insert(product(3, "c"), Precondition::default()).await.unwrap(),
        2,
        "a write that was refused took no version"
    );
    stop(store, writer).await;
}

#[tokio::test]
async fn the_list_is_ordered_and_paged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    for number in [5, 1, ProductId::MAX.get(), 3] {
        store.insert(product(number, "x"), Precondition::default()).await.unwrap();
    }
    let ids = |page: Vec<Versioned>| page.into_iter().map(|row| row.product.product_id.get()).collect::<Vec<_>>();
    assert_eq!(ids(store.list(None, 3).await.unwrap()), [1, 3, 5]);
    assert_eq!(ids(store.list(Some(id(3)), 3).await.unwrap()), [5, ProductId::MAX.get()]);
    assert_eq!(ids(store.list(Some(ProductId::MAX), 3).await.unwrap()), [0u64; 0]);
    stop(store, writer).await;
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    let (feed, _second) = Source::new();
    let refusal = EmbeddedStore::open(dir.path(), feed, part()).unwrap_err().to_string();
    assert!(refusal.contains(&format!("in use by process {}", std::process::id())), "{refusal}");
    stop(store, writer).await;
    let (store, writer, _source) = open(dir.path());
    stop(store, writer).await;
}

#[test]
fn what_is_not_a_data_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("products.redb");
    std::fs::write(&file, "my notes").unwrap();
    let (feed, _source) = Source::new();
    let refusal = EmbeddedStore::open(dir.path(), feed, part()).unwrap_err().to_string();
    assert!(refusal.contains("products.redb"), "{refusal}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "my notes");
}

#[test]
fn a_newer_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(dir.path().join("products.redb")).unwrap();
    prepare(&database).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(LAYOUT, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (feed, _source) = Source::new();
    let refusal = EmbeddedStore::open(dir.path(), feed, part()).unwrap_err().to_string();
    assert!(refusal.contains("newer Rowcast (layout 2)"), "{refusal}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (feed, _source) = Source::new();
    let refusal = EmbeddedStore::open(&file.join("data"), feed, part()).unwrap_err().to_string();
    assert!(refusal.contains("--data-dir"), "{refusal}");
}
