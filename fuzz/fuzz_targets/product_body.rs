//! A writer's body: a whole product, or a merge patch, against what `serde_json::Value` and RFC 7396 say.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::model::product::{Product, ProductBody, ProductId, ProductPatch};
use rowcast::model::row::Row;
use rowcast_fuzz::within;
use serde_json::{Map, Value, json};

const FIELDS: [&str; 6] = ["productId", "manufacturer", "pricePerUnit", "unitsAvailable", "productName", "version"];

fuzz_target!(|data: &[u8]| -> Corpus {
    // The HTTP surface takes nothing but an object.
    if data.trim_ascii_start().first() != Some(&b'{') {
        return Corpus::Reject;
    }
    let bytes_max = 1024 + 4 * data.len();
    let body = within(bytes_max, || serde_json::from_slice::<ProductBody>(data));
    let patch = within(bytes_max, || serde_json::from_slice::<ProductPatch>(data));
    let Ok(Value::Object(fields)) = serde_json::from_slice(data) else {
        // `version` is skipped, whatever it holds: numbers out of range, lone surrogates, and any depth.
        assert!(may_skip(data) || (body.is_err() && patch.is_err()), "what is not JSON was taken");
        return Corpus::Keep;
    };
    if let Ok(body) = body {
        check_body(body, &fields);
    } else if FIELDS[1..5].iter().all(|name| fields.contains_key(*name)) {
        assert!(patch.is_err() || is_repeated(data), "a patch that is whole is a body");
    }
    if let Ok(patch) = patch {
        check_patch(patch, &fields);
    }
    Corpus::Keep
});

fn may_skip(data: &[u8]) -> bool {
    data.contains(&b'\\') || occurrences(data, "version") > 0
}

/// Whether a field may be there twice, which is refused, and which `Value` cannot tell.
fn is_repeated(data: &[u8]) -> bool {
    data.contains(&b'\\') || FIELDS.iter().any(|name| occurrences(data, name) > 1)
}

fn occurrences(data: &[u8], name: &str) -> usize {
    data.windows(name.len()).filter(|part| *part == name.as_bytes()).count()
}

fn check_body(body: ProductBody, fields: &Map<String, Value>) {
    assert!(fields.keys().all(|name| FIELDS.contains(&name.as_str())), "an unknown field was taken");
    assert_eq!(body.product_id.map(ProductId::get), fields.get("productId").map(|id| id.as_u64().expect("an id")));
    let product = body.into_product(body_id(fields));
    let _ = product.check();
    let mut expected = Value::Object(fields.clone());
    expected["productId"] = product.product_id.get().into();
    expected.as_object_mut().expect("made above").remove("version");
    let shown = serde_json::to_value(&product).expect("a product is JSON");
    assert_eq!(shown, expected);
    let again: ProductBody = serde_json::from_value(shown).expect("what is shown can be sent back");
    assert_eq!(again.into_product(product.product_id), product);
}

fn body_id(fields: &Map<String, Value>) -> ProductId {
    fields.get("productId").and_then(Value::as_u64).and_then(ProductId::new).unwrap_or(ProductId::MAX)
}

fn check_patch(patch: ProductPatch, fields: &Map<String, Value>) {
    let _ = patch.check();
    let id = patch.product_id.unwrap_or(ProductId::MAX);
    let product = Product {
        product_id: id,
        manufacturer: "m".into(),
        price_per_unit: "1EUR".into(),
        units_available: -1,
        product_name: "n".into(),
    };
    let mut expected = serde_json::to_value(&product).expect("a product is JSON");
    merge(&mut expected, fields);
    let patched = Row::from(&product).merged(&Row::from(&patch));
    assert_eq!(serde_json::from_slice::<Value>(patched.as_bytes()).expect("a row is JSON"), expected);
}

/// RFC 7396, for a flat target: the patch's values replace; a null would remove, and must have been refused.
fn merge(target: &mut Value, patch: &Map<String, Value>) {
    for (name, value) in patch.iter().filter(|(name, _)| *name != "version") {
        assert!(FIELDS.contains(&name.as_str()) && *value != json!(null), "{name}: {value} was taken");
        target[name] = value.clone();
    }
}
