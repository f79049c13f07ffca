//! Another token while states are on their way.

use super::super::*;
use super::tables::Reader;
use crate::fanout::Value;
use crate::model::key::Key;
use crate::wire::websocket::Opcode;

fn grant(keys: &[i64]) -> Arc<Grant> {
    Arc::new(Grant::to_read_rows("orders", keys.iter().copied().map(Key::Integer)))
}

impl Reader {
    /// Brings a token, and has the shards end these rows for it.
    fn authorize(&mut self, keys: &[i64], ended: &[i64]) {
        self.on(Event::Authorize(Some(ReplyId::Unsigned(7)), Ok(Some(grant(keys)))));
        let number = self.next().expect("the shards are to end what it does not read").number;
        let rows: Subjects = ended.iter().map(|key| self.subject("orders", *key)).collect();
        let topics = rows.len();
        self.on(Event::Revoked(rows));
        self.on(Event::Applied { number, topics });
    }

    /// Says what ended, and takes all that waits.
    fn heard(&mut self) -> Vec<String> {
        let mut told = self.told();
        while self.say() {
            told.extend(self.told());
        }
        told
    }
}

#[test]
fn a_state_that_comes_after_the_end_of_its_row_is_not_told() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1,2],"snapshot":true}"#);
    reader.told();
    let pulls = reader.session.next_pulls(&reader.limits);
    assert_eq!(pulls.len(), 2);
    reader.authorize(&[2], &[1]);
    assert_eq!(reader.heard(), [""; 0], "the command before it waits for its states");
    for pull in pulls {
        let frame = Frame::new(Opcode::Text, format!("row {}", pull.subject.key()).as_bytes());
        let value = Value::Present { version: 5, frame };
        reader.on(Event::Pulled(Pulled { subject: pull.subject, number: pull.number, value }));
    }
    let ended = [r#"{"unsubscribed":[1],"table":"orders"}"#, r#"{"reply":7,"ok":true,"subscribed":1}"#];
    assert_eq!(reader.heard(), ["row 2", ended[0], ended[1]]);
}

#[test]
fn what_waits_of_rows_that_the_new_token_does_not_read_is_dropped() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1,2],"snapshot":true}"#);
    reader.told();
    for pull in reader.session.next_pulls(&reader.limits) {
        let value = Value::Absent { version: 5 };
        reader.on(Event::Pulled(Pulled { subject: pull.subject, number: pull.number, value }));
    }
    reader.push("orders", 1, 6);
    reader.push("orders", 2, 7);
    reader.on(Event::Authorize(None, Ok(Some(grant(&[2])))));
    // The absences were words before the first change.
    assert_eq!(reader.told(), [r#"{"absent":[2],"versions":[5],"table":"orders"}"#, "orders 2 at 7"]);
    reader.push("orders", 1, 8);
    assert_eq!(reader.told(), [""; 0], "before the shards have ended it");
}

#[test]
fn a_token_that_reads_the_same_asks_nothing_of_the_shards() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1,2]}"#);
    reader.authorize(&[1, 2], &[]);
    assert_eq!(reader.heard(), [r#"{"reply":7,"ok":true,"subscribed":2}"#]);
    reader.on(Event::Authorize(Some(ReplyId::Unsigned(8)), Ok(Some(grant(&[2, 1])))));
    assert!(reader.next().is_none() && reader.session.reads());
    assert_eq!(reader.heard(), [r#"{"reply":8,"ok":true,"subscribed":2}"#]);
    reader.push("orders", 1, 1);
    assert_eq!(reader.told(), ["orders 1 at 1"]);
}
