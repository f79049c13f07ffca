//! The key of a row: [`Key`], and which keys a table has: [`KeyKind`].
//!
//! A key has one text and one form in JSON. An integer that a JavaScript number holds exactly is a number in JSON, any
//! other a string of its digits; a UUID is written in lower case. So whoever reads a key gets the same one whichever way
//! it came.

use std::fmt;

use uuid::Uuid;

/// The greatest integer of which a JavaScript number holds each one up to it, and as many below zero: 2^53 − 1
/// (`Number.MAX_SAFE_INTEGER`; ECMA-262, §21.1.2.6).
pub const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

/// The least integer of the kind.
pub const SAFE_INTEGER_MIN: i64 = -SAFE_INTEGER_MAX;

/// The most bytes of a text that is a key.
pub const KEY_BYTES_MAX: usize = 256;

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An integer.
    Integer(i64),
    /// A UUID (RFC 9562).
    Uuid(Uuid),
    /// A text of at most [`KEY_BYTES_MAX`] bytes, without U+0000.
    Text(Box<str>),
}

/// The keys that a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Integers from the first to the second.
    Integer(i64, i64),
    /// UUIDs.
    Uuid,
    /// Texts.
    Text,
    /// All of them together: integers from 0 to [`SAFE_INTEGER_MAX`], UUIDs as they are written, and all other texts.
    Any,
}

/// The reason for which something is no key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The table's keys are integers from the first to the second.
    #[error("a key of this table is an integer from {0} to {1}")]
    NoInteger(i64, i64),
    /// A number that has lost its last digits in JavaScript, perhaps.
    #[error("an integer beyond 2^53 - 1 is given as a string of its digits")]
    Inexact,
    /// The table's keys are UUIDs.
    #[error("a key of this table is a UUID")]
    NoUuid,
    /// The table's keys are texts.
    #[error("a key of this table is a text")]
    NoText,
    /// The table has keys of every kind, but not such numbers.
    #[error("a key is an integer from 0 to 2^53 - 1, or a text")]
    NoKey,
    /// The text is too long.
    #[error("a key has at most {KEY_BYTES_MAX} bytes")]
    TooLong,
    /// The text cannot be stored.
    #[error("a key contains the character U+0000")]
    Nul,
}

impl KeyKind {
    /// The keys of products.
    pub const PRODUCT: Self = Self::Integer(0, SAFE_INTEGER_MAX);

    /// Returns the least and the greatest integer among its keys, if there are any.
    #[must_use]
    pub const fn integers(self) -> Option<(i64, i64)> {
        match self {
            Self::Integer(first, last) => Some((first, last)),
            Self::Any => Some((0, SAFE_INTEGER_MAX)),
            Self::Uuid | Self::Text => None,
        }
    }

    /// Returns its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Integer(..) => "integer",
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Any => "any",
        }
    }

    /// Returns the reason for which what is neither an integer nor a text is none of its keys.
    #[must_use]
    pub const fn complaint(self) -> BadKey {
        match self {
            Self::Integer(first, last) => BadKey::NoInteger(first, last),
            Self::Uuid => BadKey::NoUuid,
            Self::Text => BadKey::NoText,
            Self::Any => BadKey::NoKey,
        }
    }

    /// Returns the key that an integer in JSON is.
    ///
    /// # Errors
    /// If this is no key of the table.
    pub const fn of_number(self, number: i64) -> Result<Key, BadKey> {
        let is_exact = SAFE_INTEGER_MIN <= number && number <= SAFE_INTEGER_MAX;
        match self {
            Self::Integer(first, last) if number < first || last < number => Err(BadKey::NoInteger(first, last)),
            Self::Integer(..) if !is_exact => Err(BadKey::Inexact),
            Self::Any if number < 0 || !is_exact => Err(BadKey::NoKey),
            Self::Integer(..) | Self::Any => Ok(Key::Integer(number)),
            Self::Uuid => Err(BadKey::NoUuid),
            Self::Text => Err(BadKey::NoText),
        }
    }

    /// Returns the key that a text is: a string in JSON, or a part of a path.
    ///
    /// # Errors
    /// If this is no key of the table.
    pub fn of_text(self, text: &str) -> Result<Key, BadKey> {
        match self {
            Self::Integer(first, last) => integer(text)
                .filter(|number| (first..=last).contains(number))
                .map(Key::Integer)
                .ok_or(BadKey::NoInteger(first, last)),
            Self::Uuid => Uuid::try_parse(text).map(Key::Uuid).map_err(|_| BadKey::NoUuid),
            Self::Text => of_any_text(text),
            Self::Any => match (integer(text), hyphenated(text)) {
                (Some(number @ 0..=SAFE_INTEGER_MAX), _) => Ok(Key::Integer(number)),
                (_, Some(uuid)) => Ok(Key::Uuid(uuid)),
                _ => of_any_text(text),
            },
        }
    }
}

/// Reads an integer without a needless sign or zero: each has one text.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (!digits.starts_with('0') || text == "0");
    if is_plain { text.parse().ok() } else { None }
}

/// Reads a UUID with its four hyphens and nothing around it: 32 digits in a row may be anything.
fn hyphenated(text: &str) -> Option<Uuid> {
    let has_length = text.len() == uuid::fmt::Hyphenated::LENGTH;
    if has_length { Uuid::try_parse(text).ok() } else { None }
}

fn of_any_text(text: &str) -> Result<Key, BadKey> {
    if text.len() > KEY_BYTES_MAX {
        return Err(BadKey::TooLong);
    }
    if text.contains('\0') { Err(BadKey::Nul) } else { Ok(Key::Text(text.into())) }
}

impl Key {
    /// Appends the key as JSON.
    pub fn write_json(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Integer(number @ SAFE_INTEGER_MIN..=SAFE_INTEGER_MAX) => {
                buffer.extend_from_slice(number.to_string().as_bytes());
            }
            Self::Integer(_) | Self::Uuid(_) => {
                buffer.extend_from_slice(format!("\"{self}\"").as_bytes());
            }
            Self::Text(text) => {
                serde_json::to_writer(&mut *buffer, text).expect("a text is JSON, and a Vec takes all");
            }
        }
    }
}

/// The text of the key, as [`KeyKind::of_text`] reads it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    const INT: KeyKind = KeyKind::Integer(i32::MIN as i64, i32::MAX as i64);
    const BIGINT: KeyKind = KeyKind::Integer(i64::MIN, i64::MAX);

    fn json(key: &Key) -> String {
        let mut json = Vec::new();
        key.write_json(&mut json);
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn integers_beyond_what_javascript_holds_are_strings() {
        for (number, expected) in [
            (0, "0"),
            (-17, "-17"),
            (SAFE_INTEGER_MAX, "9007199254740991"),
            (-SAFE_INTEGER_MAX, "-9007199254740991"),
            (SAFE_INTEGER_MAX + 1, "\"9007199254740992\""),
            (i64::MIN, "\"-9223372036854775808\""),
        ] {
            assert_eq!(json(&Key::Integer(number)), expected);
            assert_eq!(BIGINT.of_text(&number.to_string()), Ok(Key::Integer(number)));
        }
        assert_eq!(BIGINT.of_number(SAFE_INTEGER_MAX + 1), Err(BadKey::Inexact));
        assert_eq!(BIGINT.of_number(-SAFE_INTEGER_MAX), Ok(Key::Integer(-SAFE_INTEGER_MAX)));
    }

    #[test]
    fn an_integer_has_one_text() {
        for bad in ["", "-", "-0", "+1", "01", "-01", "1.0", "1e3", " 1", "1 ", "0x1", "2147483648", "٣", UUID, "a"] {
            assert_eq!(INT.of_text(bad), Err(BadKey::NoInteger(-2_147_483_648, 2_147_483_647)), "{bad}");
        }
        assert_eq!(INT.of_text("-2147483648"), Ok(Key::Integer(-2_147_483_648)));
        assert_eq!(INT.of_number(2_147_483_648), Err(BadKey::NoInteger(-2_147_483_648, 2_147_483_647)));
        assert_eq!(BIGINT.of_text("9223372036854775808"), Err(BadKey::NoInteger(i64::MIN, i64::MAX)));
    }

    #[test]
    fn a_uuid_is_written_in_lower_case() {
        let key = KeyKind::Uuid.of_text(&UUID.to_uppercase()).unwrap();
        assert_eq!((key.to_string(), json(&key)), (UUID.to_owned(), format!("\"{UUID}\"")));
        assert_eq!(KeyKind::Uuid.of_text("7"), Err(BadKey::NoUuid));
        assert_eq!(KeyKind::Uuid.of_number(7), Err(BadKey::NoUuid));
    }

    #[test]
    fn a_text_is_taken_as_it_is() {
        for text in ["", "17", ".", "..", "a,b", "\"", UUID, &"é".repeat(128)] {
            assert_eq!(KeyKind::Text.of_text(text), Ok(Key::Text(text.into())), "{text}");
        }
        assert_eq!(json(&Key::Text("a\"\n".into())), r#""a\"\n""#);
        assert_eq!(KeyKind::Text.of_text(&"a".repeat(257)), Err(BadKey::TooLong));
        assert_eq!(KeyKind::Text.of_text("a\0"), Err(BadKey::Nul));
        assert_eq!(KeyKind::Text.of_number(1), Err(BadKey::NoText));
    }

    #[test]
    fn a_table_of_all_kinds_tells_them_by_their_text() {
        let any = |text: &str| KeyKind::Any.of_text(text).unwrap();
        assert_eq!(any("17"), Key::Integer(17));
        assert_eq!(any("9007199254740991"), Key::Integer(SAFE_INTEGER_MAX));
        assert!(matches!(any(&UUID.to_uppercase()), Key::Uuid(_)));
        for text in ["017", "-1", "9007199254740992", "a-9", "", &UUID.replace('-', ""), &format!("{{{UUID}}}")] {
            assert_eq!(any(text), Key::Text(text.into()), "{text}");
        }
        assert_eq!(KeyKind::Any.of_number(17), Ok(Key::Integer(17)));
        assert_eq!(KeyKind::Any.of_number(-1), Err(BadKey::NoKey));
        assert_eq!(KeyKind::Any.of_number(SAFE_INTEGER_MAX + 1), Err(BadKey::NoKey));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in ".{0,80}") {
            for kind in [BIGINT, KeyKind::Uuid, KeyKind::Text, KeyKind::Any] {
                let Ok(key) = kind.of_text(&text) else { continue };
                prop_assert_eq!(kind.of_text(&key.to_string()), Ok(key.clone()));
                let read = match serde_json::from_str(&json(&key)).unwrap() {
                    serde_json::Value::Number(number) => kind.of_number(number.as_i64().unwrap()),
                    serde_json::Value::String(text) => kind.of_text(&text),
                    other => panic!("{other}"),
                };
                prop_assert_eq!(read, Ok(key));
            }
        }

        #[test]
        fn integers_are_read_back(number: i64) {
            prop_assert_eq!(BIGINT.of_text(&number.to_string()), Ok(Key::Integer(number)));
        }
    }
}
