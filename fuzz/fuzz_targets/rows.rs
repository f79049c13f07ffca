//! Rows of any table and their keys: the first line a key, the second a row, the rest a merge patch, against what
//! `serde_json::Value` and RFC 7396 say.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::model::key::{KEY_BYTES_MAX, Key, KeyKind};
use rowcast::model::row::Row;
use rowcast_fuzz::within;
use serde_json::{Map, Value};

const KINDS: [KeyKind; 6] = [
    KeyKind::PRODUCT,
    KeyKind::Integer(i16::MIN as i64, i16::MAX as i64),
    KeyKind::Integer(i64::MIN, i64::MAX),
    KeyKind::Uuid,
    KeyKind::Text,
    KeyKind::Any,
];

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (Some(key), Some(row), Some(patch)) = (lines.next(), lines.next(), lines.next()) else { return Corpus::Reject };
    if let Ok(key) = std::str::from_utf8(key) {
        KINDS.into_iter().for_each(|kind| check_key(kind, key));
    }
    let rows = [row, patch].map(|text| (within(4096 + 32 * text.len(), || Row::parse(text)), text));
    for (row, text) in &rows {
        let value: Option<Value> = serde_json::from_slice(text).ok();
        match row {
            Ok(row) => check_row(row, text, &value.expect("a row is JSON")),
            Err(error) => {
                let is_object = value.is_some_and(|value| value.is_object());
                assert!(!is_object || error.to_string().contains("there twice"), "{error}");
                assert!(error.to_string().len() < 1000);
            }
        }
    }
    let [(Ok(row), _), (Ok(patch), _)] = rows else { return Corpus::Keep };
    let merged = within(4096 + 64 * data.len(), || row.merged(&patch));
    let [target, patch, result] = [&row, &patch, &merged].map(value);
    assert_eq!(result, merge(target, &patch));
    let again = Row::parse(merged.as_bytes()).expect("a patched row is a row");
    assert_eq!(again, merged, "it is compact");
    Corpus::Keep
});

/// A key is read back from its text and from its JSON, and is what its kind allows.
fn check_key(kind: KeyKind, text: &str) {
    let Ok(key) = within(4096 + 2 * text.len(), || kind.of_text(text)) else { return };
    assert!(key.to_string().len() <= KEY_BYTES_MAX.max(text.len()));
    assert_eq!(kind.of_text(&key.to_string()).as_ref(), Ok(&key));
    let mut json = Vec::new();
    key.write_json(&mut json);
    let read = match serde_json::from_slice(&json).expect("a key is JSON") {
        Value::Number(number) => kind.of_number(number.as_i64().expect("an integer")),
        Value::String(text) => kind.of_text(&text),
        other => panic!("{other}"),
    };
    assert_eq!(read.as_ref(), Ok(&key));
    match (&key, kind.integers()) {
        (Key::Integer(number), Some((first, last))) => assert!((first..=last).contains(number)),
        (Key::Integer(_), None) => panic!("{kind:?} has no integers"),
        (Key::Text(text), _) => assert!(text.len() <= KEY_BYTES_MAX && !text.contains('\0')),
        (Key::Uuid(_), _) => {}
    }
}

fn check_row(row: &Row, text: &[u8], expected: &Value) {
    assert_eq!(value(row), *expected);
    assert!(row.as_bytes().len() <= text.len());
    assert!(Row::stored(row.as_bytes()).is_some_and(|stored| stored == *row));
    assert_eq!(Row::parse(row.as_bytes()).expect("a row is one"), *row);
}

fn value(row: &Row) -> Value {
    serde_json::from_slice(row.as_bytes()).expect("a row is JSON")
}

/// `MergePatch` of RFC 7396, §2.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = if let Value::Object(target) = target { target } else { Map::new() };
    for (name, value) in patch {
        let before = merged.remove(name);
        if !value.is_null() {
            merged.insert(name.clone(), merge(before.unwrap_or(Value::Null), value));
        }
    }
    Value::Object(merged)
}
