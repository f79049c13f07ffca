//! The tables of the oracle ([`Tables`]): products, and one of each kind of keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rowcast::model::key::{KeyKind, SAFE_INTEGER_MAX};

/// The place of products among the tables.
pub(super) const PRODUCTS: usize = 0;

/// The products that are written: few, so that they meet.
const PRODUCTS_WRITTEN: u64 = 60;
/// The share of a table's keys that every reader watches, in fifths; servers may forget the others, which only those
/// watch who come and go.
const COMMON_FIFTHS: usize = 4;

/// The key of a row, and the place of its table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) table: usize,
    pub(super) key: Arc<str>,
}

impl Id {
    pub(super) fn new(table: usize, key: impl Into<Arc<str>>) -> Self {
        Self { table, key: key.into() }
    }
}

/// Rows: versions and JSON.
pub(super) type Rows = BTreeMap<Id, (u64, String)>;

/// A table that is written.
pub(super) struct Table {
    /// Its name in messages.
    pub(super) name: &'static str,
    /// The column of its key, in Postgres.
    pub(super) column: &'static str,
    pub(super) kind: KeyKind,
    /// The texts of its keys.
    pub(super) keys: Vec<Arc<str>>,
}

/// The tables.
#[derive(Clone)]
pub(super) struct Tables(Arc<[Table]>);

/// The tables beside products, as they are made in a Postgres.
pub(super) const SCHEMA: &str = "\
    CREATE TABLE orders (id bigint PRIMARY KEY, amount int NOT NULL DEFAULT 0, note text, data jsonb); \
    CREATE SCHEMA shop; \
    CREATE TABLE shop.devices (note text, serial uuid NOT NULL UNIQUE, amount int NOT NULL DEFAULT 0, data jsonb); \
    CREATE TABLE notes (amount int NOT NULL DEFAULT 0, data jsonb, note text, name text PRIMARY KEY)";

impl Tables {
    /// In the embedded store every table has keys of all kinds.
    pub(super) fn new(is_embedded: bool) -> Self {
        let table = |name, column, kind, keys: Vec<String>| Table {
            name,
            column,
            kind: if is_embedded { KeyKind::Any } else { kind },
            keys: keys.into_iter().map(Arc::from).collect(),
        };
        let products = (0..PRODUCTS_WRITTEN).map(|id| id.to_string()).collect();
        Self(Arc::new([
            Table { kind: KeyKind::PRODUCT, ..table("products", "product_id", KeyKind::PRODUCT, products) },
            table("orders", "id", KeyKind::Integer(i64::MIN, i64::MAX), integers()),
            table("shop.devices", "serial", KeyKind::Uuid, uuids()),
            table("notes", "name", KeyKind::Text, texts()),
        ]))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Table)> {
        self.0.iter().enumerate()
    }

    pub(super) fn get(&self, table: usize) -> &Table {
        &self.0[table]
    }

    /// Returns the place of the table with this name, which is none for products.
    pub(super) fn place(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return Some(PRODUCTS) };
        self.0.iter().skip(1).position(|table| table.name == name).map(|place| place + 1)
    }

    /// Returns all rows that there may be.
    pub(super) fn all(&self) -> BTreeSet<Id> {
        self.some(|_, _| true)
    }

    /// Returns those that every reader watches.
    pub(super) fn common(&self) -> BTreeSet<Id> {
        self.some(|place, table| place < table.keys.len() * COMMON_FIFTHS / 5)
    }

    fn some(&self, is_wanted: impl Fn(usize, &Table) -> bool) -> BTreeSet<Id> {
        let ids = self.iter().flat_map(|(table, its)| {
            let keys = its.keys.iter().enumerate().filter(|&(place, _)| is_wanted(place, its));
            keys.map(move |(_, key)| Id { table, key: Arc::clone(key) }).collect::<Vec<_>>()
        });
        ids.collect()
    }

    /// Returns the options that name them, for a server.
    pub(super) fn options(&self, is_embedded: bool) -> Vec<String> {
        let tables = self.0.iter().skip(1).flat_map(|table| {
            let is_primary = is_embedded || table.kind != KeyKind::Uuid;
            let key = if is_primary { String::new() } else { format!(":{}", table.column) };
            ["--table".to_owned(), format!("{}{key}", table.name)]
        });
        tables.collect()
    }
}

impl Table {
    /// Returns the key in JSON, as it stands in commands.
    pub(super) fn json(&self, key: &str) -> String {
        let mut json = Vec::new();
        self.kind.of_text(key).expect("a key of the table").write_json(&mut json);
        String::from_utf8(json).unwrap()
    }
}

/// Some that are ids of products too, and some that JavaScript does not hold.
fn integers() -> Vec<String> {
    let far = [SAFE_INTEGER_MAX, SAFE_INTEGER_MAX + 1, SAFE_INTEGER_MAX + 2, -SAFE_INTEGER_MAX - 2, i64::MAX, i64::MIN];
    far.into_iter().chain(-4..16).map(|number| number.to_string()).collect()
}

fn uuids() -> Vec<String> {
    (0..25).map(|number| format!("67e55044-10b1-426f-9247-{number:012x}")).collect()
}

/// Some that are keys of the other tables too, and some that paths, JSON and SQL give a meaning to.
fn texts() -> Vec<String> {
    let odd = [
        "7",
        "07",
        "-1",
        "9007199254740993",
        "",
        " ",
        "a",
        "A",
        "ä",
        "a\u{308}",
        ".",
        "..",
        "a/b",
        "a,b",
        "%41",
        "?key=7",
        "#",
        "*",
        "\"",
        "\\",
        "'",
        "\n\t\u{1}",
        "NULL",
        "\u{1F600}",
    ];
    let known = ["67e55044-10b1-426f-9247-000000000007".to_owned(), "é".repeat(128)];
    known.into_iter().chain(odd.map(str::to_owned)).collect()
}
