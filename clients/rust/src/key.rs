//! The key of a row: [`Key`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// The integers that are numbers in JSON: those that JavaScript holds exactly.
const SAFE_INTEGERS: std::ops::RangeInclusive<i64> = -(1 << 53) + 1..=(1 << 53) - 1;

/// The key of a row. It is made by `from`: a text that is the digits of an integer is that integer, since in no table
/// they are the keys of two rows. A UUID is a text, in lower case as the server writes it.
///
/// ```
/// use rowcast_client::Key;
///
/// assert_eq!(Key::from("17"), Key::from(17));
/// assert_ne!(Key::from("017"), Key::from(17));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "Told")]
pub enum Key {
    /// An integer.
    Integer(i64),
    /// Any other text.
    Text(Arc<str>),
}

/// A key as a message has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Number(i64),
    Text(String),
}

impl From<Told> for Key {
    fn from(told: Told) -> Self {
        match told {
            Told::Number(number) => Self::Integer(number),
            Told::Text(text) => text.into(),
        }
    }
}

impl From<i64> for Key {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        integer(text).map_or_else(|| Self::Text(text.into()), Self::Integer)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// Reads an integer without a needless sign or zero: each has one text.
fn integer(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    let is_plain = !text.starts_with(['+', '0']) && !text.starts_with("-0");
    (is_plain || text == "0").then_some(number)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// As messages have it: a number, if JavaScript holds that exactly, or a string.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) if SAFE_INTEGERS.contains(number) => serializer.serialize_i64(*number),
            _ => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_however_it_is_written() {
        for (json, key, again) in [
            ("17", Key::Integer(17), "17"),
            ("\"17\"", Key::Integer(17), "17"),
            ("\"-9223372036854775808\"", Key::Integer(i64::MIN), "\"-9223372036854775808\""),
            ("\"9007199254740993\"", Key::Integer(9_007_199_254_740_993), "\"9007199254740993\""),
            ("\"a\\\"9\"", Key::Text("a\"9".into()), "\"a\\\"9\""),
        ] {
            assert_eq!(serde_json::from_str::<Key>(json).unwrap(), key, "{json}");
            assert_eq!(serde_json::to_string(&key).unwrap(), again, "{json}");
            assert_eq!(Key::from(key.to_string()), key, "{json}");
        }
        for bad in ["1.5", "null", "{}", "9223372036854775808"] {
            assert!(serde_json::from_str::<Key>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_integer_has_one_text() {
        for text in ["", "-", "-0", "+1", "01", "-01", "1.0", " 1", "9223372036854775808", "٣"] {
            assert_eq!(Key::from(text), Key::Text(text.into()), "{text}");
        }
        assert_eq!((Key::from("0"), Key::from("-7")), (Key::Integer(0), Key::Integer(-7)));
    }
}
