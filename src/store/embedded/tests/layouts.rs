//! A file that version 0.1.0 wrote, with the products 0 to 11 but 7, and the last of all.

use std::io;

use redb::{Builder, StorageBackend};

use super::*;

/// The file: a line for each run of equal words of 16 bytes, with its length. An empty word is of zeros.
const FILE: &str = include_str!("0.1.0.txt");
/// The number of changes that it has seen.
const VERSIONS: u64 = 15;

fn file_of_0_1_0() -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in FILE.lines() {
        let (count, digits) = line.split_once(' ').unwrap();
        let mut word = [0; 16];
        for (place, byte) in word.iter_mut().enumerate().take(digits.len() / 2) {
            *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).unwrap();
        }
        bytes.extend(std::iter::repeat_n(word, count.parse().unwrap()).flatten());
    }
    bytes
}

/// What 0.1.0 opens before it looks at the layout.
const PRODUCTS: redb::TableDefinition<'static, u64, (u64, &str, &str, i64, &str)> =
    redb::TableDefinition::new("products");

/// The rows of the file, as they were written over HTTP.
fn expected() -> Vec<Versioned> {
    let plain = (0..12u64).filter(|number| ![5, 7].contains(number)).map(|number| {
        let units = 1 - number.cast_signed();
        let json = format!(
            r#"{{"productId":{number},"manufacturer":"Maker {number}","pricePerUnit":"{number}EUR","unitsAvailable":{units},"productName":"Name {number}"}}"#
        );
        (number, number + 1, json)
    });
    let others = [
        (5, 14, r#"{"productId":5,"manufacturer":"changed","pricePerUnit":"1EUR","unitsAvailable":9223372036854775807,"productName":"<b>"}"#.to_owned()),
        (ProductId::MAX.get(), 13, "{\"productId\":9007199254740991,\"manufacturer\":\"é€😀 \\\"quoted\\\" \\\\ \\u0001\u{2028}\\n\",\"pricePerUnit\":\"\",\"unitsAvailable\":-9223372036854775808,\"productName\":\"the last\"}".to_owned()),
    ];
    let mut rows: Vec<_> = plain
        .chain(others)
        .map(|(number, version, json)| Versioned { key: key(number), version, row: Row::encoded(json) })
        .collect();
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows
}

/// A directory with this file alone.
fn with_file(bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("products.redb"), bytes).unwrap();
    dir
}

async fn rows_of(store: &EmbeddedStore) -> Vec<Versioned> {
    store.list(TableId::PRODUCTS, None, 1000, usize::MAX).await.unwrap().rows
}

#[tokio::test]
async fn a_file_of_0_1_0_is_read_as_it_is_and_goes_on() {
    let dir = with_file(&file_of_0_1_0());
    for round in 0..3 {
        let (store, writer, _source) = open(dir.path());
        assert_eq!(rows_of(&store).await, expected());
        let put = store.put(RowId::new("orders", Key::Integer(7)), Row::encoded("{}"), Precondition::default()).await;
        let (expected, version) =
            if round == 0 { (Put::Inserted, VERSIONS + 1) } else { (Put::Replaced, VERSIONS + 1 + round) };
        let (put, row) = put.unwrap();
        assert_eq!((put, row.version), (expected, version), "no version is given twice");
        stop(store, writer).await;
    }
}

#[tokio::test]
async fn its_epoch_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, _source) = open(dir.path());
    stop(store, writer).await;
    // The directory as its holder left it, with the file in the older layout.
    let path = dir.path().join("products.redb");
    let file = Database::open(&path).unwrap();
    let transaction = file.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(LAYOUT, 1).unwrap();
    transaction.commit().unwrap();
    drop(file);
    let first = epoch(dir.path()).await;
    assert_eq!(epoch(dir.path()).await, first);
}

#[test]
fn a_program_of_the_older_layout_says_that_the_file_is_newer() {
    let (old, new) = (with_file(&file_of_0_1_0()), tempfile::tempdir().unwrap());
    for dir in [old.path(), new.path()] {
        drop(DataFile::open(dir, &DirectoryLock::take(dir).unwrap()).unwrap());
        let file = Database::open(dir.join("products.redb")).unwrap();
        let transaction = file.begin_read().unwrap();
        transaction.open_table(PRODUCTS).unwrap();
        assert_eq!(transaction.open_table(META).unwrap().get(LAYOUT).unwrap().unwrap().value(), 2);
    }
}

/// A disk that does so many operations, and half of the next one; then it is gone.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    operations_left: Arc<Mutex<usize>>,
}

impl Disk {
    fn operation(&self) -> Result<(), io::Error> {
        let mut left = self.operations_left.lock().unwrap();
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the power is cut"))?;
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.operation()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.operation()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let outcome = self.operation();
        let offset = usize::try_from(offset).unwrap();
        let written = if outcome.is_ok() { data.len() } else { data.len() / 2 };
        self.bytes.lock().unwrap()[offset..offset + written].copy_from_slice(&data[..written]);
        outcome
    }
}

#[tokio::test]
async fn a_start_that_is_cut_off_loses_nothing() {
    let (mut cut, mut operations) = (0, 0);
    loop {
        let disk =
            Disk { bytes: Arc::new(Mutex::new(file_of_0_1_0())), operations_left: Arc::new(Mutex::new(operations)) };
        let brought = guard::guarded(|| {
            let database = Builder::new().create_with_backend(disk.clone())?;
            layout_1::bring_forward(&database)
        });
        let dir = with_file(&disk.bytes.lock().unwrap());
        let (store, writer, _source) = open(dir.path());
        assert_eq!(rows_of(&store).await, expected(), "cut off after {operations}");
        stop(store, writer).await;
        if brought.is_ok() {
            break;
        }
        (cut, operations) = (cut + 1, operations + 1);
    }
    assert!(cut > 5, "{cut}");
}
