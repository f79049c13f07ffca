//! The text messages that the server sends beside changes, in JSON: pure functions.
//!
//! ```json
//! {"reply":"optional, …","ok":true,"subscribed":3}
//! {"reply":"optional, …","ok":false,"error":"…","code":"…"}
//! {"error":"…","code":"…"}
//! {"skipped":12}
//! {"epoch":"k3x…"}
//! {"absent":[3,9],"versions":[12,0]}
//! {"live":false}
//! {"reconnect":{"afterMs":850}}
//! ```

use serde::Deserialize;
use serde_json::json;

use super::command::ReplyId;
use super::refusal::Refusal;
use crate::model::epoch::Epoch;
use crate::model::key::Key;
use crate::model::table::{Table, TableId, Tables};
use crate::model::topic::{Subject, Subjects};
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

/// Returns the reply to a command that was carried out and has an id.
#[must_use]
pub fn accepted(reply: &ReplyId, subscriptions: usize) -> Frame {
    let reply = reply.to_json();
    text(&format!(r#"{{"reply":{reply},"ok":true,"subscribed":{subscriptions}}}"#))
}

/// Returns the answer to a command that cannot be carried out.
#[must_use]
pub fn refused(refusal: &Refusal) -> Frame {
    let error = json!(refusal.why.to_string());
    let code = refusal.why.code().as_str();
    match &refusal.reply {
        Some(reply) => {
            let reply = reply.to_json();
            text(&format!(r#"{{"reply":{reply},"ok":false,"error":{error},"code":"{code}"}}"#))
        }
        None => text(&format!(r#"{{"error":{error},"code":"{code}"}}"#)),
    }
}

/// Returns the message to a reader that lost this many frames since it was last told.
#[must_use]
pub fn skipped(frames: u64) -> Frame {
    text(&format!(r#"{{"skipped":{frames}}}"#))
}

/// Returns the message that names the epoch of all versions that follow.
#[must_use]
pub fn epoch(epoch: Epoch) -> Frame {
    text(&format!(r#"{{"epoch":"{epoch}"}}"#))
}

/// The beginning of the message that rows do not exist.
const ABSENT: &[u8] = br#"{"absent":["#;

/// Returns the message that these rows, of one table, do not exist, with the version up to which that is known of each; 0
/// if it is not known.
#[must_use]
pub fn absent(rows: &[(Subject, u64)], tables: &Tables) -> Frame {
    let table = rows.first().map_or(TableId::PRODUCTS, |(subject, _)| subject.topic().table());
    let keys: Vec<(Key, u64)> = rows.iter().map(|(subject, version)| (subject.key(), *version)).collect();
    let keys: Vec<(&Key, u64)> = keys.iter().map(|(key, version)| (key, *version)).collect();
    Frame::of_absences(&tables.get(table), &keys)
}

/// Returns what a message of [`absent`] says, which stands in these bytes, in any encoding; `None` where it says nothing of a
/// table that is there. So nothing needs to be kept beside a message for the rare case that a part of it is not to be said.
#[must_use]
pub fn absent_rows(bytes: &[u8], tables: &Tables) -> Option<Vec<(Subject, u64)>> {
    #[derive(Deserialize)]
    struct Message {
        absent: Vec<serde_json::Value>,
        versions: Vec<u64>,
        table: Option<String>,
    }
    let from = bytes.windows(ABSENT.len()).position(|window| window == ABSENT)?;
    let to = bytes.iter().rposition(|byte| *byte == b'}')?;
    let Message { absent, versions, table } = serde_json::from_slice(bytes.get(from..=to)?).ok()?;
    let table = table.map_or_else(|| tables.products(), |name| tables.find(&name))?;
    let key = |json: serde_json::Value| match &json {
        serde_json::Value::String(text) => table.keys.of_text(text).ok(),
        number => table.keys.of_number(number.as_i64()?).ok(),
    };
    let rows = absent.into_iter().zip(versions);
    rows.map(|(json, version)| Some((tables.subject(table.id, key(json)?), version))).collect()
}

/// Returns the message that these rows of a table are not subscribed to any more, since a new grant does not read them.
#[must_use]
pub fn unsubscribed(rows: &Subjects, table: &Table) -> Frame {
    let mut json = br#"{"unsubscribed":["#.to_vec();
    for (place, subject) in rows.iter().enumerate() {
        json.extend_from_slice(if place == 0 { b"" } else { b"," });
        subject.key().write_json(&mut json);
    }
    json.push(b']');
    of_table(json, table)
}

/// Returns the message that every row of a table is not subscribed to as a whole any more.
#[must_use]
pub fn unsubscribed_whole(table: &Table) -> Frame {
    of_table(br#"{"unsubscribed":"*""#.to_vec(), table)
}

/// Ends a message with the name of its table, unless that is products.
fn of_table(mut json: Vec<u8>, table: &Table) -> Frame {
    if table.id != TableId::PRODUCTS {
        json.extend_from_slice(br#","table":"#);
        table.write_name(&mut json);
    }
    json.push(b'}');
    Frame::new(Opcode::Text, &json)
}

/// Returns the message that what the reader shows may be old, or that all that was missed has been sent.
#[must_use]
pub fn live(is_live: bool) -> Frame {
    text(&format!(r#"{{"live":{is_live}}}"#))
}

/// Returns the message that names the epoch of all versions of a table that follow.
#[must_use]
pub fn table_epoch(epoch: Epoch, table: &Table) -> Frame {
    text(&format!(r#"{{"epoch":"{epoch}","table":{}}}"#, json!(table.name)))
}

/// Returns the message that what the reader shows of a table may be old, or that all that was missed of it has been sent.
#[must_use]
pub fn table_live(is_live: bool, table: &Table) -> Frame {
    text(&format!(r#"{{"live":{is_live},"table":{}}}"#, json!(table.name)))
}

/// Returns the message to a reader whose connection is about to be closed and that should come back after that time.
#[must_use]
pub fn reconnect(after_ms: u64) -> Frame {
    text(&format!(r#"{{"reconnect":{{"afterMs":{after_ms}}}}}"#))
}

fn text(json: &str) -> Frame {
    Frame::new(Opcode::Text, json.as_bytes())
}

impl ReplyId {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Unsigned(number) => json!(number),
            Self::Signed(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Text(text) => json!(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::product::ProductId;
    use crate::session::refusal::Why;

    fn json(frame: &Frame) -> String {
        String::from_utf8(frame[if frame[1] == 126 { 4 } else { 2 }..].to_vec()).unwrap()
    }

    #[test]
    fn answers_are_the_json_of_the_protocol() {
        for (id, shown) in [
            (ReplyId::Unsigned(7), "7"),
            (ReplyId::Signed(-7), "-7"),
            (ReplyId::Float(1.5), "1.5"),
            (ReplyId::Text("a\"b".into()), r#""a\"b""#),
        ] {
            assert_eq!(json(&accepted(&id, 3)), format!(r#"{{"reply":{shown},"ok":true,"subscribed":3}}"#));
        }
        let why = Why::TooManySubscriptions { table: TableId::PRODUCTS, limit: 10 };
        let reply = Some(ReplyId::Unsigned(1));
        assert_eq!(
            json(&refused(&Refusal { reply, why: why.clone() })),
            r#"{"reply":1,"ok":false,"error":"a connection subscribes to at most 10 products; nothing was subscribed","code":"too_many_subscriptions"}"#
        );
        assert_eq!(
            json(&refused(&Refusal { reply: None, why: Why::UnknownCommand })),
            r#"{"error":"command is \"subscribe\", \"unsubscribe\" or \"authorize\"","code":"unknown_command"}"#
        );
        assert_eq!(json(&skipped(12)), r#"{"skipped":12}"#);
        assert_eq!(json(&epoch("k3".parse().unwrap())), r#"{"epoch":"k3"}"#);
        let gone = [(ProductId::new(3).unwrap().subject(), 12), (ProductId::MAX.subject(), 0)];
        assert_eq!(json(&absent(&gone, &Tables::new())), r#"{"absent":[3,9007199254740991],"versions":[12,0]}"#);
        assert_eq!(absent_rows(&absent(&gone, &Tables::new()), &Tables::new()).as_deref(), Some(&gone[..]));
        let gone: Subjects = gone.iter().map(|(subject, _)| subject.clone()).collect();
        let (tables, products) = (Tables::new(), Tables::new().get(TableId::PRODUCTS));
        assert_eq!(json(&unsubscribed(&gone, &products)), r#"{"unsubscribed":[3,9007199254740991]}"#);
        assert_eq!(json(&unsubscribed_whole(&products)), r#"{"unsubscribed":"*"}"#);
        let orders = tables.add("orders", crate::model::key::KeyKind::Any).unwrap();
        let key = |text: &str| tables.subject(orders.id, orders.keys.of_text(text).unwrap());
        let rows = vec![(key("7"), 0), (key("a\"9"), 4), (key("{\"absent\":["), 5)];
        let event = crate::wire::event_stream::event(&absent(&rows, &tables));
        assert_eq!(absent_rows(&event, &tables), Some(rows.clone()));
        assert_eq!(absent_rows(&absent(&rows, &tables), &Tables::new()), None, "there is no such table");
        let gone: Subjects = [key("7"), key("a\"9")].into_iter().collect();
        assert_eq!(json(&unsubscribed(&gone, &orders)), r#"{"unsubscribed":[7,"a\"9"],"table":"orders"}"#);
        assert_eq!(json(&unsubscribed_whole(&orders)), r#"{"unsubscribed":"*","table":"orders"}"#);
        assert_eq!(json(&live(false)), r#"{"live":false}"#);
        let named = Tables::new().add("a\"b", crate::model::key::KeyKind::Any).unwrap();
        assert_eq!(json(&table_live(false, &named)), r#"{"live":false,"table":"a\"b"}"#);
        assert_eq!(json(&table_epoch("k3".parse().unwrap(), &named)), r#"{"epoch":"k3","table":"a\"b"}"#);
        assert_eq!(json(&reconnect(850)), r#"{"reconnect":{"afterMs":850}}"#);
    }
}
