//! A notification's payload: what the triggers write is read, and of anything else no more than its first bytes say.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::model::change::{Action, Change};
use rowcast::model::product::{Product, ProductId};
use rowcast::model::table::Tables;
use rowcast::source::notify::notification::{MessageAt, Notification, Payload, parse};
use rowcast_fuzz::within;
use serde_json::Value;

#[derive(Arbitrary, Debug)]
struct Row<'a> {
    action: u8,
    version: u64,
    product_id: u64,
    units_available: i64,
    texts: [&'a str; 3],
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((mode, rest)) = data.split_first() else { return Corpus::Reject };
    if mode & 1 == 0 {
        let Ok(payload) = std::str::from_utf8(rest) else { return Corpus::Reject };
        check_any(payload);
    } else {
        let Ok(row) = Row::arbitrary(&mut Unstructured::new(rest)) else { return Corpus::Reject };
        check_of_ours(&row);
    }
    Corpus::Keep
});

/// The numbers that are read stand in the payload, as JSON says where it is JSON.
fn check_any(payload: &str) {
    let Some(Payload::Change(read)) = within(0, || parse(payload)) else { return };
    assert!(read.product_id <= ProductId::MAX && i64::try_from(read.version).is_ok());
    let Ok(json) = serde_json::from_str::<Value>(payload) else { return };
    let id = match read.message {
        MessageAt::Payload | MessageAt::Nowhere => &json["product"]["productId"],
        MessageAt::Table => &json["productId"],
    };
    // Of a repeated key the last counts in JSON; the triggers repeat none.
    let is_plain = |key: &str| payload.matches(key).count() == 1;
    if is_plain("\"version\"") && is_plain("\"productId\"") && is_plain("\"product\"") && !payload.contains('\\') {
        assert_eq!((json["version"].as_u64(), id.as_u64()), (Some(read.version), Some(read.product_id.get())));
    }
}

/// Whatever is in a row, its notification is read.
fn check_of_ours(row: &Row<'_>) {
    let product_id = ProductId::new(row.product_id & ProductId::MAX.get()).expect("53 bits");
    let version = row.version >> 1;
    let (action, name) = match row.action % 3 {
        0 => (Action::Insert, "INSERT"),
        1 => (Action::Update, "UPDATE"),
        _ => (Action::Delete, "DELETE"),
    };
    let [manufacturer, price_per_unit, product_name] = row.texts.map(str::to_owned);
    let product =
        Product { product_id, manufacturer, price_per_unit, units_available: row.units_available, product_name };
    let mut json = Vec::new();
    Change::of_row(action, product_id.subject(), version, rowcast::model::row::Row::from(&product))
        .write_json(&Tables::new(), &mut json);
    let whole = String::from_utf8(json).expect("JSON is UTF-8");
    let head = format!(r#"{{"action":"{name}","version":{version},"#);
    for (payload, message) in [
        (whole, MessageAt::Payload),
        (format!(r#"{head}"product":{{"productId":{product_id}}}}}"#), MessageAt::Nowhere),
        (format!(r#"{head}"productId":{product_id}}}"#), MessageAt::Table),
    ] {
        let read = within(0, || parse(&payload));
        assert_eq!(read, Some(Payload::Change(Notification { product_id, version, message })), "{payload}");
    }
}
