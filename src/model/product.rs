//! The row of the table whose schema is built in: [`Product`], its key [`ProductId`], and the bodies that a writer may send.

use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::row::Row;
use super::table::TableId;
use super::topic::{Subject, Topic};

/// The key of a product: an integer from 0 to 2^53 − 1, so that a JavaScript number holds it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProductId(u64);

impl ProductId {
    /// The greatest id, `Number.MAX_SAFE_INTEGER` in JavaScript (ECMA-262, §21.1.2.6).
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Returns the id with this number, or `None` above [`ProductId::MAX`].
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Returns the topic of the product with this id.
    #[must_use]
    pub const fn topic(self) -> Topic {
        // Products have the first place among the tables, and their topics are their ids.
        Topic::of_narrow(self.0)
    }

    /// Returns the product with this id as a subject.
    #[must_use]
    pub const fn subject(self) -> Subject {
        Subject::Narrow(self.0)
    }

    /// Returns the id of the product with this topic; `None` for a row of another table.
    #[must_use]
    pub fn of_topic(topic: Topic) -> Option<Self> {
        topic.narrow().filter(|_| topic.table() == TableId::PRODUCTS).and_then(Self::new)
    }

    /// Returns the id as the key of its row.
    #[must_use]
    pub const fn key(self) -> Key {
        Key::Integer(self.0.cast_signed())
    }

    /// Returns the id that a key is.
    #[must_use]
    pub fn of_key(key: &Key) -> Option<Self> {
        match key {
            Key::Integer(integer) => u64::try_from(*integer).ok().and_then(Self::new),
            Key::Uuid(_) | Key::Text(_) => None,
        }
    }

    /// Returns the id as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ProductId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number)
            .ok_or_else(|| D::Error::custom(format_args!("{number} is above {}, the greatest product id", Self::MAX)))
    }
}

/// A product, without its version: the schema of the rows of its table.
///
/// Its JSON keys, in this order: `productId`, `manufacturer`, `pricePerUnit`, `unitsAvailable`, `productName`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// The key.
    pub product_id: ProductId,
    /// The maker.
    pub manufacturer: String,
    /// The price with its currency, as the writer gave it: `"500EUR"`.
    pub price_per_unit: String,
    /// The number of units that there are.
    pub units_available: i64,
    /// Its name.
    pub product_name: String,
}

impl Product {
    /// The most bytes that a product's JSON may have; the HTTP surface refuses more, and a change of a larger row
    /// (which only SQL can write) is cast with its id alone.
    pub const JSON_BYTES_MAX: usize = 1024 * 1024;

    /// Refuses a product that one of the stores could not hold.
    ///
    /// # Errors
    /// The sentence to tell the writer.
    pub fn check(&self) -> Result<(), String> {
        check_texts([
            ("manufacturer", Some(&self.manufacturer)),
            ("pricePerUnit", Some(&self.price_per_unit)),
            ("productName", Some(&self.product_name)),
        ])
    }
}

/// Refuses a NUL character, which Postgres has no place for
/// (<https://www.postgresql.org/docs/15/datatype-character.html>).
fn check_texts(texts_by_name: [(&str, Option<&String>); 3]) -> Result<(), String> {
    match texts_by_name.iter().find(|(_, text)| text.is_some_and(|text| text.contains('\0'))) {
        Some((name, _)) => Err(format!("{name} contains the character U+0000, which cannot be stored")),
        None => Ok(()),
    }
}

/// A whole product as a writer sends it (POST, PUT): every field but `productId` is required, and `version`, which
/// reads answer with, is accepted and ignored, so that what was read can be sent back.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProductBody {
    /// The key, where the body carries it.
    #[serde(default, deserialize_with = "present")]
    pub product_id: Option<ProductId>,
    manufacturer: String,
    price_per_unit: String,
    units_available: i64,
    product_name: String,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
}

impl ProductBody {
    /// Returns the product that this body describes, under `product_id`.
    #[must_use]
    pub fn into_product(self, product_id: ProductId) -> Product {
        Product {
            product_id,
            manufacturer: self.manufacturer,
            price_per_unit: self.price_per_unit,
            units_available: self.units_available,
            product_name: self.product_name,
        }
    }
}

impl From<&Product> for Row {
    fn from(product: &Product) -> Self {
        Self::encoded(serde_json::to_vec(product).expect("a product has string keys"))
    }
}

/// A JSON merge patch of a product (RFC 7396): the fields that it names replace the product's. A `null`, which would
/// remove a field, is refused, since every field of a product is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProductPatch {
    /// The key, where the patch carries it; it cannot change.
    #[serde(default, deserialize_with = "present", skip_serializing)]
    pub product_id: Option<ProductId>,
    /// The new manufacturer.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// The new price.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub price_per_unit: Option<String>,
    /// The new number of units.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub units_available: Option<i64>,
    /// The new name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    #[serde(default, rename = "version", skip_serializing)]
    _version: Ignored,
}

impl ProductPatch {
    /// Refuses a patch that [`Product::check`] would refuse.
    ///
    /// # Errors
    /// The sentence to tell the writer.
    pub fn check(&self) -> Result<(), String> {
        check_texts([
            ("manufacturer", self.manufacturer.as_ref()),
            ("pricePerUnit", self.price_per_unit.as_ref()),
            ("productName", self.product_name.as_ref()),
        ])
    }
}

/// The fields that it names, but for the key.
impl From<&ProductPatch> for Row {
    fn from(patch: &ProductPatch) -> Self {
        Self::encoded(serde_json::to_vec(patch).expect("a patch has string keys"))
    }
}

/// `IgnoredAny` that compares equal to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Reads a field that may be absent but not `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macbook() -> Product {
        Product {
            product_id: ProductId::new(1).unwrap(),
            manufacturer: "Apple".into(),
            price_per_unit: "500EUR".into(),
            units_available: 6,
            product_name: "MacBook \"Pro\"".into(),
        }
    }

    #[test]
    fn an_id_is_an_integer_that_javascript_can_hold() {
        for good in ["0", "1", "9007199254740991"] {
            let id: ProductId = serde_json::from_str(good).unwrap();
            assert_eq!(id.to_string(), good);
        }
        for bad in ["-1", "9007199254740992", "1.0", "1e3", "\"1\"", "null", "true", "18446744073709551616"] {
            assert!(serde_json::from_str::<ProductId>(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_product_is_sent_back_as_it_was_read() {
        let mut json = serde_json::to_value(macbook()).unwrap();
        json["version"] = 42.into();
        let body: ProductBody = serde_json::from_value(json).unwrap();
        assert_eq!(body.product_id, ProductId::new(1));
        assert_eq!(body.into_product(ProductId::new(1).unwrap()), macbook());
    }

    #[test]
    fn a_whole_product_needs_every_field_and_no_other() {
        for (json, complaint) in [
            (r#"{"manufacturer":"a","pricePerUnit":"1","unitsAvailable":1}"#, "missing field `productName`"),
            (
                r#"{"manufacturer":"a","pricePerUnit":"1","unitsAvailable":1,"productName":"n","colour":1}"#,
                "unknown field `colour`",
            ),
            (
                r#"{"productId":null,"manufacturer":"a","pricePerUnit":"1","unitsAvailable":1,"productName":"n"}"#,
                "null",
            ),
        ] {
            let error = serde_json::from_str::<ProductBody>(json).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_patch_replaces_what_it_names_and_cannot_remove() {
        let patch: ProductPatch =
            serde_json::from_str(r#"{"version":3,"unitsAvailable":7,"productId":2,"manufacturer":"\u0041"}"#).unwrap();
        assert_eq!(Row::from(&patch), Row::encoded(&br#"{"manufacturer":"A","unitsAvailable":7}"#[..]));
        let patched = Product { units_available: 7, manufacturer: "A".into(), ..macbook() };
        assert_eq!(Row::from(&macbook()).merged(&Row::from(&patch)), Row::from(&patched));
        assert_eq!(Row::from(&macbook()).merged(&Row::from(&ProductPatch::default())), Row::from(&macbook()));
        assert!(serde_json::from_str::<ProductPatch>(r#"{"productName":null}"#).is_err());
        assert!(serde_json::from_str::<ProductPatch>(r#"{"name":"x"}"#).is_err());
    }

    #[test]
    fn a_text_with_nul_is_refused_by_name() {
        let product = Product { product_name: "a\0b".into(), ..macbook() };
        assert!(product.check().unwrap_err().contains("productName"));
        assert_eq!(macbook().check(), Ok(()));
        let patch = ProductPatch { manufacturer: Some("\0".into()), ..ProductPatch::default() };
        assert!(patch.check().unwrap_err().contains("manufacturer"));
    }
}
