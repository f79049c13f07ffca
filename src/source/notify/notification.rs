//! The content of a notification, read from its first bytes: [`parse`]. Pure.

mod table;

pub use self::table::{Action, RowAt, TableChange, TablePayload};
use crate::model::epoch::Epoch;
use crate::model::product::ProductId;

/// What a notification on the stream's channel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A trigger of products tells a change.
    Change(Notification),
    /// A trigger of another table tells something.
    Table(TablePayload<'a>),
    /// A new epoch begins (`rowcast_renew_epoch`).
    Epoch(Epoch),
    /// A table, by the name that servers give it, has another epoch (`rowcast_note`).
    TableBegan(&'a str),
    /// A server's read put its mark here.
    Barrier(Mark),
    /// A server's listener asked for a sign of life.
    Proof(Mark),
}

/// A number of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The server's name.
    pub server: u64,
    /// Its number.
    pub number: u64,
}

/// Reads a payload, or answers `None` where nothing of ours built it.
#[must_use]
pub fn parse(payload: &str) -> Option<Payload<'_>> {
    if payload.starts_with('{') { change(payload) } else { worded(payload) }
}

/// Reads a payload that begins with a word. Apart, so that a product's change does not pay for what these need.
#[inline(never)]
fn worded(payload: &str) -> Option<Payload<'_>> {
    let (kind, rest) = payload.split_once(' ')?;
    match kind {
        "epoch" => Epoch::new(rest.parse::<i64>().ok()?.cast_unsigned()).map(Payload::Epoch),
        "began" => Some(Payload::TableBegan(rest)),
        "barrier" => mark(rest).map(Payload::Barrier),
        "proof" => mark(rest).map(Payload::Proof),
        _ => table::parse(kind, rest).map(Payload::Table),
    }
}

fn mark(text: &str) -> Option<Mark> {
    let (server, number) = text.split_once(' ')?;
    Some(Mark { server: server.parse().ok()?, number: number.parse().ok()? })
}

/// A payload that one of the products' triggers built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The product that changed.
    pub product_id: ProductId,
    /// The version of the change.
    pub version: u64,
    /// The place of the message for subscribers.
    pub message: MessageAt,
}

/// The place of the message of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageAt {
    /// The payload is the message.
    Payload,
    /// Nowhere: it is too long, and the payload names the product's id alone.
    Nowhere,
    /// In the table of the messages that are too long for a payload, under the version.
    Table,
}

/// Reads the payload of a change. The triggers write the keys in a fixed order, so that the numbers stand where they are looked for and nothing of the
/// rest, which may be long, is read:
/// `{"action":"UPDATE","version":42,"product":{"productId":1,…}}`, or
/// `{"action":"UPDATE","version":42,"productId":1}` where the message is in the table.
fn change(payload: &str) -> Option<Payload<'_>> {
    let rest = payload.strip_prefix(r#"{"action":""#)?;
    let rest = ["INSERT", "UPDATE", "DELETE"].iter().find_map(|action| rest.strip_prefix(action))?;
    let (version, rest) = number(rest.strip_prefix(r#"","version":"#)?)?;
    if let Some(rest) = rest.strip_prefix(r#","productId":"#) {
        let (id, rest) = number(rest)?;
        return notification(id, version, MessageAt::Table, rest == "}");
    }
    let (id, rest) = number(rest.strip_prefix(r#","product":{"productId":"#)?)?;
    let message = if rest == "}}" { MessageAt::Nowhere } else { MessageAt::Payload };
    let is_complete = rest == "}}" || rest.starts_with(r#","manufacturer":""#) && rest.ends_with(r#""}}"#);
    notification(id, version, message, is_complete)
}

fn notification(id: u64, version: u64, message: MessageAt, is_complete: bool) -> Option<Payload<'static>> {
    let product_id = ProductId::new(id)?;
    is_complete.then_some(Payload::Change(Notification { product_id, version, message }))
}

/// Splits `text` into the digits that it begins with, as a number that a bigint holds, and the rest.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number: i64 = digits.parse().ok()?;
    Some((number.cast_unsigned(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_ours(product_id: u64, version: u64, message: MessageAt) -> Payload<'static> {
        Payload::Change(Notification { product_id: ProductId::new(product_id).unwrap(), version, message })
    }

    #[test]
    fn epochs_and_marks_are_read() {
        assert_eq!(parse("began shop.\"Order Lines\""), Some(Payload::TableBegan("shop.\"Order Lines\"")));
        assert_eq!(parse("epoch -1"), Some(Payload::Epoch(Epoch::new(u64::MAX).unwrap())));
        let mark = Mark { server: u64::MAX, number: 7 };
        assert_eq!(parse("barrier 18446744073709551615 7"), Some(Payload::Barrier(mark)));
        assert_eq!(parse("proof 18446744073709551615 7"), Some(Payload::Proof(mark)));
        for payload in ["epoch 0", "epoch", "epoch x", "barrier 1", "barrier 1 2 3", "proof -1 2", "other 1 2"] {
            assert_eq!(parse(payload), None, "{payload}");
        }
    }

    #[test]
    fn the_three_forms_of_a_change_are_read() {
        for action in ["INSERT", "UPDATE", "DELETE"] {
            let head = format!(r#"{{"action":"{action}","version":42,"#);
            let whole = format!(
                r#"{head}"product":{{"productId":1,"manufacturer":"","pricePerUnit":"","unitsAvailable":-6,"productName":"}}"}}}}"#
            );
            assert_eq!(parse(&whole), Some(of_ours(1, 42, MessageAt::Payload)));
            let bare = format!(r#"{head}"product":{{"productId":9007199254740991}}}}"#);
            assert_eq!(parse(&bare), Some(of_ours(ProductId::MAX.get(), 42, MessageAt::Nowhere)));
            let short = format!(r#"{head}"productId":0}}"#);
            assert_eq!(parse(&short), Some(of_ours(0, 42, MessageAt::Table)));
        }
    }

    #[test]
    fn what_the_triggers_do_not_write_is_not_ours() {
        for payload in [
            "",
            "hello",
            r#"{"action":"UPSERT","version":1,"productId":1}"#,
            r#"{"action":"UPDATE", "version":1,"productId":1}"#,
            r#"{"action":"UPDATE","version":,"productId":1}"#,
            r#"{"action":"UPDATE","version":-1,"productId":1}"#,
            r#"{"action":"UPDATE","version":9223372036854775808,"productId":1}"#,
            r#"{"action":"UPDATE","version":1,"productId":9007199254740992}"#,
            r#"{"action":"UPDATE","version":1,"productId":1}x"#,
            r#"{"action":"UPDATE","version":1,"productId":1"#,
            r#"{"action":"UPDATE","version":1,"product":{"productId":1,"manufacturer":"a""#,
            r#"{"action":"UPDATE","version":1,"product":{"productId":1"#,
        ] {
            assert_eq!(parse(payload), None, "{payload}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(payload in r#"(\{"action":"(INSERT|UPDATE)","version":)?[0-9]{0,30}(,"product(Id":|":\{"productId":))?.{0,40}"#) {
            let _ = parse(&payload);
        }
    }
}
