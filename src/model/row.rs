//! A row: [`Row`], the JSON of whoever wrote it. Pure.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::merge::merged;

/// The characters of a member's name that an error shows.
const NAME_SHOWN_MAX: usize = 64;

/// The JSON of a row (RFC 8259): an object, without white space around its values, encoded once by whoever has it. Cheap
/// to clone. Nothing reads its members but a patch; its numbers and texts stay as they were written.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Bytes);

impl Row {
    /// Reads a row that somebody sent. Objects and arrays are within one another at most 127 deep, and an object has no
    /// two members of one name.
    ///
    /// # Errors
    /// If this is no such JSON: the obstacle and its place.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        deserializer.deserialize_map(Checked)?;
        deserializer.end()?;
        Ok(Self(compact(text).into()))
    }

    /// Takes an object that an encoder of this program or of the database wrote.
    #[must_use]
    pub fn encoded(json: impl Into<Bytes>) -> Self {
        let json = json.into();
        debug_assert!(is_braced(&json), "a row is an object");
        Self(json)
    }

    /// Takes a row out of a file; `None` if it was damaged there.
    #[must_use]
    pub fn stored(json: &[u8]) -> Option<Self> {
        let is_whole = is_braced(json) && std::str::from_utf8(json).is_ok();
        is_whole.then(|| Self(Bytes::copy_from_slice(json)))
    }

    /// Returns its JSON.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns its JSON, shared.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Returns the row with this merge patch applied (RFC 7396). Members keep their order, and those that are new follow.
    #[must_use]
    pub fn merged(&self, patch: &Self) -> Self {
        Self(merged(self.text(), patch.text()).into())
    }

    /// Returns its JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("JSON is text")
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

fn is_braced(json: &[u8]) -> bool {
    json.len() >= 2 && json.starts_with(b"{") && json.ends_with(b"}")
}

/// Returns JSON without the white space that is not in a string.
fn compact(text: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len());
    let (mut is_in_string, mut is_escaped) = (false, false);
    for &byte in text {
        if is_in_string {
            is_in_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            is_in_string = byte == b'"';
        }
        json.push(byte);
    }
    json.shrink_to_fit();
    json
}

/// Reads a value without keeping it.
struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(Name(name)) = members.next_key()? {
            members.next_value_seed(Self)?;
            if let Some(Name(name)) = names.replace(Name(name)) {
                let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
                return Err(A::Error::custom(format_args!("the member {shown:?} is there twice")));
            }
        }
        Ok(())
    }
}

/// The name of a member, borrowed where it has no escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        Row::parse(text.as_bytes()).map(|row| format!("{row:?}")).map_err(|error| error.to_string())
    }

    #[test]
    fn white_space_goes_and_all_else_stays() {
        for (text, expected) in [
            ("{}", "{}"),
            (" \t\r\n{ \"a\" : [ 1 , 2.50 , -0 , 1e2 ] }\n", r#"{"a":[1,2.50,-0,1e2]}"#),
            (r#"{"a b":" \" \\","c": "\\\" "}"#, r#"{"a b":" \" \\","c":"\\\" "}"#),
            (
                r#"{"n":12345678901234567890123.0450,"u":"\u00e9 é"}"#,
                r#"{"n":12345678901234567890123.0450,"u":"\u00e9 é"}"#,
            ),
            (r#"{"a":{"b":null},"b":{"b":true}}"#, r#"{"a":{"b":null},"b":{"b":true}}"#),
            ("{\"z\":\"\u{2028}\",\"\":\"\\u0000\"}", "{\"z\":\"\u{2028}\",\"\":\"\\u0000\"}"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, complaint) in [
            ("", "EOF"),
            ("[]", "expected a JSON object"),
            ("7", "expected a JSON object"),
            ("null", "expected a JSON object"),
            ("\"{}\"", "expected a JSON object"),
            ("{", "EOF"),
            ("{}{}", "trailing"),
            (r#"{"a":1,}"#, "trailing comma"),
            (r#"{"a":1 "b":2}"#, "expected"),
            (r#"{"a":01}"#, "invalid number"),
            (r#"{"a":1e400}"#, "out of range"),
            (r#"{"a":NaN}"#, "expected value"),
            ("{a:1}", "key must be a string"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            (r#"{"a":"\ud800\u0041"}"#, "surrogate"),
            ("{\"a\":\"\u{1}\"}", "control character"),
            (r#"{"a":1,"a":2}"#, r#"the member "a" is there twice"#),
            (r#"{"b":{"a":1,"\u0061":2}}"#, r#"the member "a" is there twice"#),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
        assert!(Row::parse(b"{\"a\":\"\xFF\"}").is_err());
        assert!(Row::parse(b"{\"\xFF\":1}").is_err());
        let long = "x".repeat(100_000);
        assert!(parse(&format!(r#"{{"{long}":1,"{long}":1}}"#)).unwrap_err().len() < 200);
    }

    #[test]
    fn depth_has_an_end() {
        let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(126)).is_ok());
        assert!(parse(&nested(127)).unwrap_err().contains("recursion limit"));
        assert!(parse(&nested(128)).unwrap_err().contains("recursion limit"));
        assert!(parse(&nested(1_000_000)).unwrap_err().contains("recursion limit"));
        assert!(parse(&"{\"a\":".repeat(1_000_000)).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn a_damaged_row_is_told_from_a_whole_one() {
        assert!(Row::stored(b"{\"a\":1}").is_some());
        for damaged in [&b""[..], b"{", b"}", b"[]", b"{\"a\":1", b"{\"\xFF\":1}"] {
            assert!(Row::stored(damaged).is_none());
        }
    }
}
