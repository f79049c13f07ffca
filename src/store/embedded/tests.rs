//! The store on its file.

mod layouts;
mod tables;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use redb::Database;

use super::data_file::{LAYOUT, META};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::model::epoch::Epoch;
use crate::model::product::{Product, ProductId};
use crate::model::topic::Subject;
use crate::source::Source;
use crate::store::{Found, Read};
use crate::supervisor::Supervisor;

fn part() -> Part {
    Supervisor::new(CancellationToken::new()).part("the store")
}

fn product_id(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

fn id(number: u64) -> RowId {
    product_id(number).into()
}

fn key(number: u64) -> Key {
    product_id(number).key()
}

fn subject(number: u64) -> Subject {
    product_id(number).subject()
}

fn product(number: u64, name: &str) -> Row {
    Row::from(&Product {
        product_id: product_id(number),
        manufacturer: "m".into(),
        price_per_unit: "1EUR".into(),
        units_available: 1,
        product_name: name.into(),
    })
}

fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig { dir: dir.to_owned(), tables: Vec::new(), tables_max: 256, row_bytes_max: 1024 * 1024 }
}

/// Opens the store in this directory, over a list of tables of its own.
fn try_open(dir: &Path) -> Result<(EmbeddedStore, EmbeddedWriter, Source), OpenError> {
    let (feed, source) = Source::new();
    let (store, writer) = EmbeddedStore::open(&config(dir), &Tables::new(), feed, part())?;
    Ok((store, writer, source))
}

fn open(dir: &Path) -> (EmbeddedStore, EmbeddedWriter, Source) {
    try_open(dir).unwrap()
}

/// Returns the sentence with which the store in this directory is not opened.
fn refusal(dir: &Path) -> String {
    try_open(dir).unwrap_err().to_string()
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
    let first = Versioned { key: key(1), version: 1, row: product(1, "a") };
    assert_eq!(store.insert(id(1), product(1, "a"), Precondition::default()).await.unwrap(), first);
    let second = Versioned { key: key(2), version: 2, row: product(2, "b") };
    assert_eq!(store.put(id(2), product(2, "b"), Precondition::default()).await.unwrap(), (Put::Inserted, second));
    let third = Versioned { key: key(1), version: 3, row: product(1, "c") };
    assert_eq!(store.put(id(1), product(1, "c"), Precondition::default()).await.unwrap(), (Put::Replaced, third));
    assert_eq!(store.delete(id(2), Precondition::default()).await.unwrap(), 4);
    stop(store, writer).await;
    let mut versions = Vec::new();
    assert!(matches!(source.next().await, Some(SourceEvent::Began(_))), "nothing is ever missed");
    while let Some(event) = source.next().await {
        let SourceEvent::Change(change) = event else { panic!("{event:?}") };
        versions.push((change.subject.key(), change.version));
    }
    assert_eq!(
        versions,
        [(1, 1), (2, 2), (1, 3), (2, 4)].map(|(id, version)| (key(id), version)),
        "the source ends with the store, and has all"
    );

    let (store, writer, _source) = open(dir.path());
    assert_eq!(store.get(id(1)).await.unwrap(), Versioned { key: key(1), version: 3, row: product(1, "c") });
    assert!(matches!(store.get(id(2)).await, Err(StoreError::NotFound(_))));
    assert_eq!(
        store.insert(id(2), product(2, "d"), Precondition::default()).await.unwrap().version,
        5,
        "above the version of the delete"
    );
    stop(store, writer).await;
}

/// What is written into a file without a name is gone with the process.
#[tokio::test]
async fn nothing_is_written_into_a_file_that_was_removed_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (data, away) = (dir.path().join("data"), dir.path().join("away"));
    let (store, writer, mut source) = open(&data);
    store.insert(id(1), product(1, "a"), Precondition::default()).await.unwrap();
    let is_refused = async |number| {
        let written = store.insert(id(number), product(number, "b"), Precondition::default()).await;
        matches!(written, Err(StoreError::Unavailable(_))) && store.check().await.is_err()
    };

    fs::rename(&data, &away).unwrap();
    assert!(store.check().await.is_err(), "that is known without a write");
    assert!(is_refused(2).await);
    assert_eq!(store.get(id(1)).await.unwrap().row, product(1, "a"), "it is read all the same");
    fs::create_dir(&data).unwrap();
    fs::copy(away.join("products.redb"), data.join("products.redb")).unwrap();
    assert!(is_refused(3).await, "another file has its name");

    fs::remove_dir_all(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    store.check().await.unwrap();
    let written = store.insert(id(4), product(4, "c"), Precondition::default()).await.unwrap();
    assert_eq!(written.version, 2, "those that were refused took none");
    stop(store, writer).await;
    let mut told = Vec::new();
    while let Some(event) = source.next().await {
        told.push(match event {
            SourceEvent::Began(_) => "began",
            SourceEvent::Change(_) => "change",
            SourceEvent::Gap => "gap",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, ["began", "change", "gap", "began", "change"], "once each");
}

#[tokio::test]
async fn writes_that_cannot_be_done_disturb_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    let (first, second, patched, removed) = tokio::join!(
        store.insert(id(1), product(1, "a"), Precondition::default()),
        store.insert(id(1), product(1, "b"), Precondition::default()),
        store.patch(id(9), Row::encoded("{}"), Precondition::default()),
        store.delete(id(9), Precondition::default()),
    );
    assert_eq!(first.unwrap().version, 1);
    assert!(matches!(second, Err(StoreError::Exists(_))));
    assert!(matches!(patched, Err(StoreError::NotFound(_))));
    assert!(matches!(removed, Err(StoreError::NotFound(_))));
    assert_eq!(
        store.insert(id(3), product(3, "c"), Precondition::default()).await.unwrap().version,
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
        store.insert(id(number), product(number, "x"), Precondition::default()).await.unwrap();
    }
    let keys = |page: Page| page.rows.into_iter().map(|row| row.key).collect::<Vec<_>>();
    let list = async |after, limit| keys(store.list(TableId::PRODUCTS, after, limit, usize::MAX).await.unwrap());
    assert_eq!(list(None, 3).await, [1, 3, 5].map(key));
    assert_eq!(list(Some(key(3)), 3).await, [5, ProductId::MAX.get()].map(key));
    assert_eq!(list(Some(ProductId::MAX.key()), 3).await, []);
    stop(store, writer).await;
}

#[tokio::test]
async fn a_page_of_the_list_has_so_many_bytes_or_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    for number in 1..=4 {
        store.insert(id(number), product(number, &"x".repeat(1000)), Precondition::default()).await.unwrap();
    }
    let bytes = store.get(id(1)).await.unwrap().row.as_bytes().len();
    let list = async |after, limit, bytes_max| {
        let page = store.list(TableId::PRODUCTS, after, limit, bytes_max).await.unwrap();
        (page.rows.len(), page.next.is_some())
    };
    for (after, limit, bytes_max, wanted) in [
        (None, 9, 3 * bytes, (3, true)),
        (None, 9, 3 * bytes - 1, (2, true)),
        (None, 9, 4 * bytes, (4, false)),
        (None, 2, 4 * bytes, (2, true)),
        (None, 4, 4 * bytes, (4, false)),
        (None, 9, 0, (1, true)),
        (Some(key(3)), 9, 0, (1, false)),
        (Some(key(4)), 9, 0, (0, false)),
    ] {
        assert_eq!(list(after.clone(), limit, bytes_max).await, wanted, "{after:?} {limit} {bytes_max}");
    }
    stop(store, writer).await;
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    let refusal = refusal(dir.path());
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
    let refusal = refusal(dir.path());
    assert!(refusal.contains("products.redb"), "{refusal}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "my notes");
}

#[test]
fn a_newer_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    DataFile::open(dir.path(), &DirectoryLock::take(dir.path()).unwrap()).unwrap().close();
    let database = Database::open(dir.path().join("products.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(LAYOUT, 3).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refusal = refusal(dir.path());
    assert!(refusal.contains("newer Rowcast (layout 3)"), "{refusal}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refusal = refusal(&file.join("data"));
    assert!(refusal.contains("--data-dir"), "{refusal}");
}

#[test]
fn an_empty_file_is_not_taken_for_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("products.redb");
    std::fs::write(&file, "").unwrap();
    let refusal = refusal(dir.path());
    assert!(refusal.contains("is empty") && refusal.contains("backup"), "{refusal}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
}

#[tokio::test]
async fn a_start_that_was_cut_off_while_it_made_the_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("products.redb.new"), "half a fi").unwrap();
    let (store, writer, _source) = open(dir.path());
    store.insert(id(1), product(1, "a"), Precondition::default()).await.unwrap();
    stop(store, writer).await;
    assert!(!dir.path().join("products.redb.new").exists());
}

const ROWS: u64 = 40;
/// The time after which a hang is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// A store of some rows, closed; its file's bytes.
async fn written(dir: &Path) -> Vec<u8> {
    let (store, writer, _source) = open(dir);
    for number in 0..ROWS {
        store.insert(id(number), product(number, &format!("Name {number:03}")), Precondition::default()).await.unwrap();
    }
    stop(store, writer).await;
    std::fs::read(dir.join("products.redb")).unwrap()
}

/// Opens a damaged file: it is refused with a sentence, or nothing of it is missing and it can be written.
async fn assert_refused_or_whole(dir: &Path, what: &str) -> bool {
    let (store, writer, _source) = match try_open(dir) {
        Ok(opened) => opened,
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.contains("products.redb") && !sentence.contains('\n'), "{what}: {sentence}");
            return false;
        }
    };
    let page = store.list(TableId::PRODUCTS, None, 1000, usize::MAX).await;
    let rows = page.unwrap_or_else(|error| panic!("{what}: {error}")).rows.into_iter().map(|row| row.row);
    let expected: Vec<_> = (0..ROWS).map(|number| product(number, &format!("Name {number:03}"))).collect();
    assert_eq!(rows.collect::<Vec<_>>(), expected, "{what}");
    store
        .insert(id(ROWS), product(ROWS, "more"), Precondition::default())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    stop(store, writer).await;
    true
}

#[tokio::test]
async fn a_byte_that_was_flipped_is_told_at_the_start_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = written(dir.path()).await;
    let file = dir.path().join("products.redb");
    let texts = whole.windows(5).enumerate().filter(|(_, window)| window == b"Name ").map(|(at, _)| at);
    let header = 0..320;
    let offsets: Vec<usize> = header.chain(texts).chain((320..whole.len()).step_by(4999)).collect();
    let mut refused = 0;
    for offset in offsets {
        let mut damaged = whole.clone();
        damaged[offset] ^= 0xFF;
        std::fs::write(&file, &damaged).unwrap();
        let what = format!("byte {offset} flipped");
        let outcome = timeout(PATIENCE, assert_refused_or_whole(dir.path(), &what)).await;
        refused += usize::from(!outcome.unwrap_or_else(|_| panic!("{what}: it hangs")));
    }
    assert!(refused > 20, "checksums tell of {refused}");
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_told_at_the_start_or_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = written(dir.path()).await;
    let file = dir.path().join("products.redb");
    let lengths = (1..400).step_by(7).chain((400..whole.len()).step_by(9973)).chain([whole.len() - 1]);
    for length in lengths {
        std::fs::write(&file, &whole[..length]).unwrap();
        let what = format!("cut off at {length} of {}", whole.len());
        timeout(PATIENCE, assert_refused_or_whole(dir.path(), &what))
            .await
            .unwrap_or_else(|_| panic!("{what}: it hangs"));
    }
}

/// Damage that comes while the file is open, which nothing checks.
#[tokio::test]
async fn text_that_is_damaged_while_the_store_runs_fails_its_reads_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = written(dir.path()).await;
    for at in 0..bytes.len() - 8 {
        if &bytes[at..at + 8] == b"Name 007" {
            bytes[at] = 0xFF;
        }
        // Text all the same, but no JSON.
        if &bytes[at..at + 8] == b"Name 009" {
            bytes[at + 8] = b'x';
        }
    }
    let path = dir.path().join("products.redb");
    std::fs::write(&path, bytes).unwrap();
    // Without the check of an opening.
    let lock = DirectoryLock::take(dir.path()).unwrap();
    let file = DataFile::of(path.clone(), Database::open(path).unwrap(), lock.marks()).unwrap();
    let (feed, _source) = Source::new();
    let (store, writer) = EmbeddedStore::of(file, lock, &config(dir.path()), &Tables::new(), feed, part()).unwrap();
    let any = Precondition::default;
    for _ in 0..3 * readers::THREADS {
        assert!(matches!(store.get(id(7)).await, Err(StoreError::Fault(_))));
        let listed = store.list(TableId::PRODUCTS, None, 1000, usize::MAX).await;
        assert!(matches!(listed, Err(StoreError::Fault(_))), "never an empty list: {listed:?}");
        let (damaged, other) =
            tokio::join!(store.patch(id(7), Row::encoded("{}"), any()), store.put(id(8), product(8, "b"), any()));
        assert!(matches!(damaged, Err(StoreError::Fault(_))), "{damaged:?}");
        let (damaged, third) =
            tokio::join!(store.patch(id(9), Row::encoded("{}"), any()), store.put(id(10), product(10, "c"), any()));
        assert!(matches!(damaged, Err(StoreError::Fault(_))), "{damaged:?}");
        third.unwrap();
        other.unwrap();
        assert_eq!(store.get(id(8)).await.unwrap().row, product(8, "b"));
    }
    store.check().await.unwrap();
    stop(store, writer).await;
}

#[tokio::test]
async fn reads_share_a_few_threads_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let reads: Vec<_> = (0..600)
        .map(|number| {
            let (store, threads) = (store.clone(), Arc::clone(&threads));
            tokio::spawn(async move {
                let read = move |_: &Database| {
                    threads.lock().unwrap().insert(std::thread::current().id());
                    Ok(number)
                };
                store.readers.read(read).await
            })
        })
        .collect();
    for (number, read) in reads.into_iter().enumerate() {
        assert_eq!(read.await.unwrap().unwrap(), number);
    }
    assert!(threads.lock().unwrap().len() <= readers::THREADS);
    stop(store, writer).await;
}

/// Holds one of the reading threads until nobody can send to `released` any more.
async fn hold_a_thread(store: &EmbeddedStore, released: &Arc<Mutex<std::sync::mpsc::Receiver<()>>>) {
    loop {
        let (holds, is_held) = oneshot::channel();
        let released = Arc::clone(released);
        let reading = store.readers.read(move |_: &Database| {
            let _ = holds.send(());
            let _ = released.lock().unwrap().recv();
            Ok(())
        });
        tokio::select! {
            held = is_held => if held.is_ok() { return },
            // A machine that is slow enough refuses it.
            refused = reading => assert!(refused.is_err()),
        }
    }
}

#[tokio::test]
async fn a_read_that_finds_no_thread_is_refused_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    for _ in 0..readers::THREADS {
        hold_a_thread(&store, &released).await;
    }
    // All of them are held, so the clock stands still but for the reads that wait.
    tokio::time::pause();
    let refused = store.get(id(1)).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("waited too long")), "{refused:?}");
    tokio::time::resume();
    drop(release);
    let found = loop {
        match store.get(id(1)).await {
            Err(StoreError::Unavailable(_)) => {}
            found => break found,
        }
    };
    assert!(matches!(found, Err(StoreError::NotFound(_))), "{found:?}");
    stop(store, writer).await;
}

#[tokio::test]
async fn the_end_of_the_writing_thread_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    assert!(timeout(Duration::ZERO, store.ended()).await.is_err());
    store.stop().await;
    timeout(PATIENCE, store.ended()).await.expect("no hang");
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
    assert!(matches!(store.get(id(1)).await, Err(StoreError::Unavailable(_))), "the file is closed");
    store.insert(id(1), product(1, "a"), Precondition::default()).await.unwrap_err();
}

/// The epoch that the store in `dir` begins with.
async fn epoch(dir: &Path) -> Epoch {
    let (store, writer, mut source) = open(dir);
    let first = source.next().await;
    stop(store, writer).await;
    match first {
        Some(SourceEvent::Began(epoch)) => epoch,
        event => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn an_epoch_lasts_as_long_as_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = epoch(dir.path()).await;
    assert_eq!(epoch(dir.path()).await, first, "a restart is no new history");
    std::fs::remove_file(dir.path().join("products.redb")).unwrap();
    assert_ne!(epoch(dir.path()).await, first, "a new file is");
}

#[tokio::test]
async fn a_file_without_an_epoch_is_given_one() {
    let dir = tempfile::tempdir().unwrap();
    epoch(dir.path()).await;
    let database = Database::open(dir.path().join("products.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.open_table(META).unwrap().remove("epoch").unwrap().is_some());
    transaction.commit().unwrap();
    drop(database);
    let drawn = epoch(dir.path()).await;
    assert_eq!(epoch(dir.path()).await, drawn);
}

#[tokio::test]
async fn an_older_file_and_a_copy_of_the_directory_have_epochs_of_their_own() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy_to = |to: &Path, name: &str| std::fs::copy(dir.path().join(name), to.join(name)).unwrap();
    let first = epoch(dir.path()).await;
    for name in ["products.redb", "rowcast.lock"] {
        copy_to(copy.path(), name);
    }
    assert_ne!(epoch(copy.path()).await, first, "a copy goes on by itself");
    let older = std::fs::read(dir.path().join("products.redb")).unwrap();
    assert_eq!(epoch(dir.path()).await, first);
    std::fs::write(dir.path().join("products.redb"), older).unwrap();
    let second = epoch(dir.path()).await;
    assert_ne!(second, first, "the versions since then may be given again");
    assert_eq!(epoch(dir.path()).await, second);
}

#[tokio::test]
async fn a_load_has_what_was_told_before_its_barrier_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, mut source) = open(dir.path());
    let any = Precondition::default;
    store.insert(id(1), product(1, "a"), any()).await.unwrap();
    store.insert(id(2), product(2, "b"), any()).await.unwrap();
    store.delete(id(2), any()).await.unwrap();
    let read = store.load([2, 1, 9].map(subject).into(), 5).await.unwrap();
    store.put(id(1), product(1, "c"), any()).await.unwrap();
    let row = Versioned { key: key(1), version: 1, row: product(1, "a") };
    let found = [(2, Found::Absent { version: 3 }), (1, Found::Present(row)), (9, Found::Absent { version: 3 })];
    let found = found.map(|(number, found)| (subject(number).topic(), found));
    assert_eq!(read, Read { found: found.into(), left: Vec::new() });
    stop(store, writer).await;
    let mut order = Vec::new();
    while let Some(event) = source.next().await {
        match event {
            SourceEvent::Change(change) => order.push(change.version),
            SourceEvent::Barrier(5) => order.push(0),
            SourceEvent::Began(_) => {}
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(order, [1, 2, 3, 0, 4]);
}

#[tokio::test]
async fn a_load_under_writes_agrees_with_the_order_of_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, mut source) = open(dir.path());
    let (for_writes, for_loads) = (store.clone(), store.clone());
    let writing = tokio::spawn(async move {
        for _ in 0..500 {
            for_writes.put(id(1), product(1, "x"), Precondition::default()).await.unwrap();
        }
    });
    let loading = tokio::spawn(async move {
        let mut versions = Vec::new();
        for barrier in 0..100 {
            let read = for_loads.load(vec![subject(1)], barrier).await.unwrap();
            versions.push(match &read.found[..] {
                [(_, Found::Present(row))] => row.version,
                _ => 0,
            });
        }
        versions
    });
    let (mut told, mut at_barriers) = (0, Vec::new());
    while told < 500 || at_barriers.len() < 100 {
        match source.next().await.unwrap() {
            SourceEvent::Change(change) => told = change.version,
            SourceEvent::Barrier(_) => at_barriers.push(told),
            _ => {}
        }
    }
    writing.await.unwrap();
    assert_eq!(loading.await.unwrap(), at_barriers, "each row is the one that was told last before its barrier");
    stop(store, writer).await;
}
