//! The judge of a storm: what each reader is told beside what it knew and what the store has ([`Ledger`]). Pure.
//!
//! Nothing changes while a storm lasts, so that every state that comes has to be the store's, and newer than what its
//! reader knew. After the last reply every reader knows what the store has.

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use serde::Deserialize;

use super::{Ears, Heard, Judging};
use crate::commands::{States, commands};
use crate::faults::Faults;
use crate::known::Known;
use crate::message::{Message, MessageFinder, skipped};
use crate::peer::Subscribing;
use crate::rows::{Row, Rows};
use crate::workload::Workload;

/// The readers' knowledge, and what was wrong with what came.
pub(super) struct Ledger {
    workload: Workload,
    rows: Rows,
    known: Known,
    /// For each reader the place after the product that came last: states come in the order of the ids.
    next: Vec<usize>,
    epoch: Option<String>,
    /// The number of states that came.
    states: u64,
    pub(super) faults: Faults,
    finder: MessageFinder,
}

#[derive(Deserialize)]
struct Absent {
    absent: Vec<u32>,
}

impl Ledger {
    /// Returns readers that know nothing, beside a store that has these rows.
    pub(super) fn new(workload: Workload, rows: Rows) -> Self {
        let known = Known::new(&workload);
        let next = (0..workload.connections).map(|reader| workload.places(reader).start).collect();
        let (faults, finder) = (Faults::default(), MessageFinder::new());
        Self { workload, rows, known, next, epoch: None, states: 0, faults, finder }
    }

    /// Learns that the store has other rows.
    pub(super) fn renew(&mut self, rows: Rows) {
        self.rows = rows;
    }

    /// Returns the commands of a reader that asks for everything, and forgets what it knew.
    pub(super) fn ask_all(&mut self, reader: usize) -> Subscribing {
        self.known.forget(&self.workload, reader);
        commands("subscribe", self.workload.ids(reader), States::All)
    }

    /// Returns the commands of a reader that comes back with all that it knows.
    pub(super) fn ask_newer(&self, reader: usize) -> anyhow::Result<Subscribing> {
        let epoch = self.epoch.as_deref().context("the server told no epoch; is it a Rowcast that knows snapshots?")?;
        let versions = self.known.of(&self.workload, reader);
        Ok(commands("subscribe", self.workload.ids(reader), States::Since { versions, epoch }))
    }

    #[inline]
    fn state(&mut self, reader: usize, message: Message) {
        let Message { product, version, due_ns: stamp } = message;
        self.states += 1;
        let Some(place) = self.place(reader, product) else {
            return self.faults.add(reader, product, || format!("version {version}, which it did not ask for"));
        };
        let known = self.known.learn(place, version);
        let stored = self.rows.get(product);
        if version < known {
            self.faults.add(reader, product, || format!("version {version} after {known}"));
        } else if version == known {
            self.faults.add(reader, product, || format!("version {version}, which it knew"));
        } else if stored != (Row { version, stamp }) {
            let what = || {
                let Row { version: newest, stamp: newest_stamp } = stored;
                format!("version {version} with t{stamp}, and the store has {newest} with t{newest_stamp}")
            };
            self.faults.add(reader, product, what);
        }
    }

    /// Returns the place of a subscription, which is most often the next.
    #[inline]
    fn place(&mut self, reader: usize, product: u32) -> Option<usize> {
        let (next, places) = (self.next[reader], self.workload.places(reader));
        let is_next = places.contains(&next) && self.workload.ids(reader)[next - places.start] == product;
        let place = if is_next { next } else { self.workload.place(reader, product)? };
        self.next[reader] = if place + 1 == places.end { places.start } else { place + 1 };
        Some(place)
    }

    fn epoch(&mut self, reader: usize, epoch: &str) {
        let told = self.epoch.get_or_insert_with(|| epoch.to_owned());
        if told.as_str() != epoch {
            self.faults.add(reader, 0, || format!("told the epoch {epoch}, and {told} before"));
        }
    }

    fn absent(&mut self, reader: usize, text: &[u8]) -> anyhow::Result<()> {
        let Absent { absent } = serde_json::from_slice(text)
            .with_context(|| format!("a message that is not understood here: {}", String::from_utf8_lossy(text)))?;
        for product in absent {
            let Row { version, .. } = self.rows.get(product);
            if version > 0 {
                self.faults.add(reader, product, || format!("told to be absent, and the store has {version}"));
            }
        }
        Ok(())
    }
}

impl Ears for Ledger {
    fn take(&mut self, reader: usize, text: &[u8]) -> anyhow::Result<Heard> {
        if let Some(message) = self.finder.find(text) {
            self.state(reader, message);
            return Ok(Heard::default());
        }
        if text.starts_with(br#"{"reply":"#) && memmem::find(text, br#""ok":true"#).is_some() {
            return Ok(Heard { replies: 1, answer: None });
        }
        ensure!(memmem::find(text, br#""error":"#).is_none(), "the server refused: {}", String::from_utf8_lossy(text));
        if let Some(rest) = text.strip_prefix(br#"{"epoch":""#) {
            self.epoch(reader, &String::from_utf8_lossy(rest.strip_suffix(br#""}"#).unwrap_or(rest)));
        } else if text.starts_with(br#"{"absent":"#) {
            self.absent(reader, text)?;
        } else if let Some(changes) = skipped(text) {
            self.faults.add(reader, 0, || format!("told of {changes} skipped changes, and nothing changed"));
        } else if !text.starts_with(br#"{"live":"#) {
            bail!("a message that is not understood here: {}", String::from_utf8_lossy(text));
        }
        Ok(Heard::default())
    }
}

impl Judging for Ledger {
    fn workload(&self) -> &Workload {
        &self.workload
    }

    fn states(&self) -> u64 {
        self.states
    }

    fn settle(&mut self) {
        self.known.compare(&self.workload, &self.rows, |_| true, &mut self.faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::change_json;

    /// Two readers of products 1 and 2, which have the versions 7 and 8.
    fn ledger() -> Ledger {
        Ledger::new(Workload::new(2, 2, 2), rows(&[7, 8]))
    }

    fn rows(versions: &[u64]) -> Rows {
        Rows::of(&versions.iter().map(|&version| Row { version, stamp: version * 10 }).collect::<Vec<_>>())
    }

    fn state(product: u32, version: u64) -> String {
        change_json(&Message { product, version, due_ns: version * 10 }, 3).replace("UPDATE", "SNAPSHOT")
    }

    /// Tells a reader these states, and returns the faults that are found at the end.
    fn faults(ledger: &mut Ledger, told: &[(usize, String)]) -> Vec<String> {
        for (reader, text) in told {
            assert_eq!(ledger.take(*reader, text.as_bytes()).unwrap().replies, 0, "{text} is no reply");
        }
        ledger.settle();
        ledger.faults.texts()
    }

    fn all() -> Vec<(usize, String)> {
        [(0, 1, 7), (0, 2, 8), (1, 2, 8), (1, 1, 7)].map(|(reader, id, version)| (reader, state(id, version))).to_vec()
    }

    #[test]
    fn a_snapshot_and_a_resume_as_they_should_be() {
        let mut ledger = ledger();
        assert!(ledger.ask_newer(0).is_err(), "no epoch is known");
        ledger.ask_all(0);
        assert_eq!(faults(&mut ledger, &[&[(0, r#"{"epoch":"k3x"}"#.to_owned())], &all()[..]].concat()), [""; 0]);
        assert_eq!(ledger.take(0, br#"{"reply":1,"ok":true,"subscribed":2}"#).unwrap().replies, 1);
        assert_eq!(ledger.states, 4);

        let again = ledger.ask_newer(1).unwrap().messages.concat();
        assert_eq!(again, r#"{"command":"subscribe","productIDs":[1,2],"versions":[7,8],"epoch":"k3x","id":1}"#);
        ledger.renew(rows(&[7, 9]));
        let came = [0, 1].map(|reader| (reader, state(2, 9)));
        assert_eq!(faults(&mut ledger, &came), [""; 0]);
    }

    #[test]
    fn what_does_not_come_is_named() {
        let mut ledger = ledger();
        let told = [&all()[..3], &[(1, r#"{"absent":[1,5],"versions":[0,0]}"#.to_owned())]].concat();
        assert_eq!(
            faults(&mut ledger, &told),
            [
                "socket 1, product 1: told to be absent, and the store has 7",
                "socket 1, product 1: knows version 0, and the store has 7",
            ]
        );
    }

    #[test]
    fn what_should_not_come_is_named() {
        let mut ledger = ledger();
        faults(&mut ledger, &all());
        let told = [state(1, 7), state(2, 5), state(3, 9), r#"{"skipped":2}"#.to_owned()].map(|text| (1, text));
        assert_eq!(
            faults(&mut ledger, &told),
            [
                "socket 1, product 1: version 7, which it knew",
                "socket 1, product 2: version 5 after 8",
                "socket 1, product 3: version 9, which it did not ask for",
                "socket 1, product 0: told of 2 skipped changes, and nothing changed",
            ]
        );
    }

    #[test]
    fn what_the_store_does_not_have_is_named() {
        let mut ledger = ledger();
        let other_content = state(1, 7).replace("t0000000000000", "t0000000000009");
        let told = [&[(0, state(2, 6)), (0, other_content)], &all()[1..]].concat();
        assert_eq!(
            faults(&mut ledger, &told),
            [
                "socket 0, product 2: version 6 with t60, and the store has 8 with t80",
                "socket 0, product 1: version 7 with t970, and the store has 7 with t70",
            ]
        );
    }

    #[test]
    fn another_epoch_is_named_and_a_refusal_ends_the_run() {
        let mut ledger = ledger();
        let told = ["k3x", "k3x", "other"].map(|epoch| (0, format!(r#"{{"epoch":"{epoch}"}}"#)));
        assert_eq!(faults(&mut ledger, &told)[0], "socket 0, product 0: told the epoch other, and k3x before");
        assert_eq!(ledger.take(0, br#"{"live":true}"#).unwrap(), Heard::default());
        for refusal in
            [&br#"{"reply":1,"ok":false,"error":"no","code":"bad_versions"}"#[..], br#"{"error":"no"}"#, b"?"]
        {
            assert!(ledger.take(0, refusal).is_err());
        }
    }
}
