//! The text that the generator writes into a product and finds again in the message of its change: pure functions.
//!
//! Every server gets the same text, so that all of them carry the same bytes:
//!
//! ```json
//! {"action":"UPDATE","version":42,"product":{"productId":1,"manufacturer":"Load","pricePerUnit":"1EUR","unitsAvailable":6,"productName":"t000000123456789 ~~~"}}
//! ```
//!
//! `t…` is the time at which the change had to be sent, in nanoseconds of the run; what follows pads the frame.

use memchr::memmem::Finder;

use crate::frames::head_bytes;

/// The content of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) product: u32,
    pub(crate) version: u64,
    /// The time at which it had to be sent, in nanoseconds of the run.
    pub(crate) due_ns: u64,
}

/// Returns the product's JSON, as a writer sends it over REST.
pub(crate) fn product_json(message: &Message, padding: usize) -> String {
    let Message { product, due_ns, .. } = message;
    format!(
        r#"{{"productId":{product},"manufacturer":"Load","pricePerUnit":"1EUR","unitsAvailable":6,"productName":"{}"}}"#,
        product_name(*due_ns, padding)
    )
}

/// Returns the name that carries the time.
pub(crate) fn product_name(due_ns: u64, padding: usize) -> String {
    format!("t{due_ns:015}{}", "~".repeat(padding))
}

/// Returns the whole message, for servers that forward what they are given.
pub(crate) fn change_json(message: &Message, padding: usize) -> String {
    let product = product_json(message, padding);
    format!(r#"{{"action":"UPDATE","version":{},"product":{product}}}"#, message.version)
}

/// Returns the padding that makes a frame of `frame_bytes` of a message that has `bare` bytes without it, if that many are
/// enough.
pub(crate) fn padding(bare: usize, frame_bytes: usize) -> Option<usize> {
    (2..=10).map(|extra| frame_bytes.saturating_sub(extra)).find_map(|payload| {
        let padding = payload.checked_sub(bare)?;
        (payload + head_bytes(payload) <= frame_bytes).then_some(padding)
    })
}

/// Finds messages in text without reading the rest of it.
pub(crate) struct MessageFinder {
    version: Key,
    product: Key,
    due: Key,
}

impl MessageFinder {
    /// Returns the one for changes of products.
    pub(crate) fn new() -> Self {
        Self::of("\"productId\":", "\"productName\":\"t")
    }

    /// Returns one for changes whose row and time follow these texts.
    pub(crate) fn of(row: &'static str, due: &'static str) -> Self {
        Self { version: Key::new("\"version\":"), product: Key::new(row), due: Key::new(due) }
    }

    /// Returns the change that `text` tells, if it tells one. One of another writer has no time, and gets the time 0.
    #[inline]
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<Message> {
        let version = self.version.number(text)?;
        let product = self.product.number(text)?;
        let due_ns = self.due.number(text).unwrap_or(0);
        Some(Message { product: u32::try_from(product).ok()?, version, due_ns })
    }
}

/// A key whose number is looked for where the last message had it, then everywhere.
struct Key {
    text: &'static [u8],
    finder: Finder<'static>,
    place: usize,
}

impl Key {
    fn new(text: &'static str) -> Self {
        Self { text: text.as_bytes(), finder: Finder::new(text), place: 0 }
    }

    #[inline]
    fn number(&mut self, text: &[u8]) -> Option<u64> {
        let expected = text.get(self.place..self.place + self.text.len());
        if expected != Some(self.text) {
            self.place = self.finder.find(text)?;
        }
        Some(leading_number(&text[self.place + self.text.len()..]))
    }
}

/// Returns the number in decimal digits that `text` begins with; 0 if it begins with none.
#[inline]
pub(crate) fn leading_number(text: &[u8]) -> u64 {
    let digits = text.iter().map(|byte| byte.wrapping_sub(b'0')).take_while(|digit| *digit < 10);
    digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit)))
}

/// Returns the number of changes that were skipped as a notice says, if `text` is one.
#[inline]
pub(crate) fn skipped(text: &[u8]) -> Option<u64> {
    text.strip_prefix(br#"{"skipped":"#).map(leading_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found() {
        let mut finder = MessageFinder::new();
        for (product, version) in [(1, 1), (10_000, 7), (3, 123_456_789)] {
            let message = Message { product, version, due_ns: 987_654_321 };
            let text = change_json(&message, 20);
            assert_eq!(finder.find(text.as_bytes()), Some(message));
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            let wrapped = format!(r#"{{"push":{{"channel":"p1","pub":{{"data":{text},"offset":3}}}}}}"#);
            assert_eq!(finder.find(wrapped.as_bytes()), Some(message));
        }
        let strange = br#"{"action":"DELETE","version":9,"product":{"productId":8,"productName":"x"}}"#;
        assert_eq!(finder.find(strange), Some(Message { product: 8, version: 9, due_ns: 0 }));
        assert_eq!(finder.find(br#"{"reply":1,"ok":true,"subscribed":3}"#), None);
        assert_eq!(finder.find(b""), None);
    }

    #[test]
    fn padding_makes_the_frame_as_long_as_it_was_asked_to_be() {
        let message = Message { product: 12, version: 345, due_ns: 1 };
        for wanted in [190, 256, 1000, 70_000] {
            let padding = padding(change_json(&message, 0).len(), wanted).unwrap();
            let payload = change_json(&message, padding).len();
            assert_eq!(payload + head_bytes(payload), wanted);
        }
        assert_eq!(padding(change_json(&message, 0).len(), 100), None);
    }

    #[test]
    fn a_notice_is_a_number() {
        assert_eq!(skipped(br#"{"skipped":12}"#), Some(12));
        assert_eq!(skipped(br#"{"action":"UPDATE"}"#), None);
    }
}
