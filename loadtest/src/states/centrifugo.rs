//! Readers of Centrifugo's channels that keep their last publication (its "cache recovery mode"): [`Positions`]. Pure.
//! <https://centrifugal.dev/docs/server/cache_recovery>
//!
//! A subscription that asks to recover is answered with the channel's position and, unless the reader names that
//! position, with its last publication.

use std::fmt::Write;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{Ears, Heard, Judging};
use crate::faults::Faults;
use crate::peer::Subscribing;
use crate::workload::Workload;

/// The `id` of the first command that subscribes; 1 is that of the one that begins the connection.
const FIRST_ID: usize = 2;

/// A channel's position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Position {
    epoch: String,
    offset: u64,
}

/// The channels' positions, which are the same for all readers since nothing is published meanwhile.
pub(super) struct Positions {
    workload: Workload,
    by_product: Vec<Position>,
    /// True once the readers name positions.
    is_back: bool,
    /// The number of publications that came.
    states: u64,
    /// True at the places of the subscriptions that were answered in this round.
    answered: Vec<bool>,
    pub(super) faults: Faults,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    id: usize,
    subscribe: Option<Subscribed>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Subscribed {
    #[serde(default)]
    recovered: bool,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    publications: Vec<Publication>,
}

#[derive(Deserialize)]
struct Publication {
    #[serde(default)]
    offset: u64,
}

impl Positions {
    pub(super) fn new(workload: Workload) -> Self {
        let products = (0..workload.connections).flat_map(|reader| workload.ids(reader)).max().copied().unwrap_or(0);
        let by_product = vec![Position::default(); products as usize + 1];
        let answered = vec![false; workload.subscriptions()];
        Self { workload, by_product, is_back: false, states: 0, answered, faults: Faults::default() }
    }

    /// Begins the round in which the readers name what they know.
    pub(super) fn come_back(&mut self) {
        self.is_back = true;
        self.answered.fill(false);
    }

    /// Returns the commands of a reader that asks for the last publication of each of its channels.
    pub(super) fn ask_all(&self, reader: usize) -> Subscribing {
        self.commands(reader, |_, _| Ok(())).expect("nothing is looked up")
    }

    /// Returns the commands of a reader that comes back with its positions.
    pub(super) fn ask_newer(&self, reader: usize) -> anyhow::Result<Subscribing> {
        self.commands(reader, |text, product| {
            let Position { epoch, offset } = &self.by_product[product as usize];
            let epoch = serde_json::to_string(epoch).context("an epoch")?;
            write!(text, r#","epoch":{epoch},"offset":{offset}"#).context("a command")
        })
    }

    /// One line for each channel, in one message.
    fn commands(
        &self,
        reader: usize,
        position: impl Fn(&mut String, u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<Subscribing> {
        let ids = self.workload.ids(reader);
        let mut text = String::new();
        for (place, product) in ids.iter().enumerate() {
            let (line_break, id) = (if place == 0 { "" } else { "\n" }, place + FIRST_ID);
            let _ = write!(text, r#"{line_break}{{"id":{id},"subscribe":{{"channel":"{product}","recover":true"#);
            position(&mut text, *product)?;
            text.push_str("}}");
        }
        let messages = if ids.is_empty() { Vec::new() } else { vec![text] };
        Ok(Subscribing { messages, answer: r#""subscribe":{"#, answers: ids.len() })
    }

    fn subscribed(&mut self, reader: usize, id: usize, told: Subscribed) -> anyhow::Result<()> {
        let place = id.checked_sub(FIRST_ID).context("an answer to no subscription")?;
        let product = *self.workload.ids(reader).get(place).context("an answer to no subscription")?;
        let Subscribed { recovered, epoch, offset, publications } = told;
        if std::mem::replace(&mut self.answered[self.workload.places(reader).start + place], true) {
            self.faults.add(reader, product, || "answered again".to_owned());
        }
        self.states += publications.len() as u64;
        if publications.len() != usize::from(!self.is_back) {
            self.faults.add(reader, product, || format!("{} publications", publications.len()));
        }
        let known = &mut self.by_product[product as usize];
        // A subscription that recovers is answered with the offset that it named; its publications have theirs.
        let told = Position { epoch, offset: publications.last().map_or(offset, |publication| publication.offset) };
        if !recovered {
            self.faults.add(reader, product, || "not recovered".to_owned());
        } else if *known == Position::default() {
            *known = told;
        } else if *known != told {
            self.faults.add(reader, product, || format!("at {told:?}, which was at {known:?}"));
        }
        Ok(())
    }
}

impl Ears for Positions {
    fn take(&mut self, reader: usize, text: &[u8]) -> anyhow::Result<Heard> {
        let mut heard = Heard::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if line == b"{}" {
                // A ping, answered alike.
                heard.answer = Some(b"{}");
                continue;
            }
            let reply: Reply = serde_json::from_slice(line)
                .with_context(|| format!("a message that is not understood here: {}", String::from_utf8_lossy(line)))?;
            match reply {
                Reply { error: Some(error), .. } => bail!("the server refused: {error}"),
                Reply { id, subscribe: Some(told), .. } => self.subscribed(reader, id, told)?,
                Reply { .. } => bail!("a message that is not understood here: {}", String::from_utf8_lossy(line)),
            }
            heard.replies += 1;
        }
        Ok(heard)
    }
}

impl Judging for Positions {
    fn workload(&self) -> &Workload {
        &self.workload
    }

    fn states(&self) -> u64 {
        self.states
    }

    fn settle(&mut self) {
        for reader in 0..self.workload.connections {
            for (product, place) in self.workload.ids(reader).iter().zip(self.workload.places(reader)) {
                if !self.answered[place] {
                    self.faults.add(reader, *product, || "not answered".to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(positions: &mut Positions, text: &str) -> Vec<String> {
        let replies = positions.take(0, text.as_bytes()).unwrap().replies;
        assert_eq!(replies, text.lines().filter(|line| line.contains("subscribe")).count());
        positions.settle();
        positions.faults.texts()
    }

    const FIRST: &str = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"aZ","publications":[{"data":{"a":"}\n"},"offset":1}],"recovered":true,"was_recovering":true}}
{"id":3,"subscribe":{"recoverable":true,"epoch":"bY","publications":[{"data":{},"offset":2}],"recovered":true}}"#;

    #[test]
    fn a_reader_that_comes_back_names_its_positions() {
        let mut positions = Positions::new(Workload::new(1, 2, 2));
        let first = positions.ask_all(0);
        let asked = r#"{"id":2,"subscribe":{"channel":"1","recover":true}}"#;
        assert_eq!((first.messages[0].lines().next(), first.answers), (Some(asked), 2));
        assert_eq!(told(&mut positions, FIRST), [""; 0]);
        positions.come_back();
        let again = positions.ask_newer(0).unwrap();
        let asked = r#"{"id":3,"subscribe":{"channel":"2","recover":true,"epoch":"bY","offset":2}}"#;
        assert_eq!(again.messages[0].lines().nth(1), Some(asked));
        let same = r#"{"id":3,"subscribe":{"epoch":"bY","recovered":true,"offset":2}}
{"id":2,"subscribe":{"epoch":"aZ","recovered":true,"offset":1}}"#;
        assert_eq!((told(&mut positions, same), positions.states()), (Vec::new(), 2));
        assert_eq!(positions.take(0, b"{}").unwrap(), Heard { replies: 0, answer: Some(b"{}") });
    }

    #[test]
    fn what_is_not_as_it_was_is_named() {
        let mut positions = Positions::new(Workload::new(1, 2, 2));
        told(&mut positions, FIRST);
        positions.come_back();
        let faults = told(
            &mut positions,
            r#"{"id":2,"subscribe":{"epoch":"aZ","publications":[{"offset":1}],"recovered":true}}
{"id":3,"subscribe":{"epoch":"bY","offset":2}}"#,
        );
        assert_eq!(faults, ["socket 0, product 1: 1 publications", "socket 0, product 2: not recovered"]);
        let twice = r#"{"id":2,"subscribe":{"epoch":"aZ","recovered":true,"offset":1}}
{"id":2,"subscribe":{"epoch":"aZ","recovered":true,"offset":1}}"#;
        positions.come_back();
        let faults = told(&mut positions, twice);
        assert_eq!(faults[2..], ["socket 0, product 1: answered again", "socket 0, product 2: not answered"]);
        for refusal in
            [r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#, "?", r#"{"id":9,"subscribe":{}}"#]
        {
            assert!(positions.take(0, refusal.as_bytes()).is_err(), "{refusal}");
        }
    }
}
