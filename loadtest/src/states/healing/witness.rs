//! What readers are told while their server loses its source and finds it again: [`Witness`].
//!
//! A reader takes what is newer than what it knows, and passes over the rest, as the protocol has it. One that asked for no
//! states begins with the rows as they were before it subscribed: a change that it is not told leaves it with an old one.

use std::rc::Rc;

use anyhow::{bail, ensure};
use memchr::memmem;
use serde::Serialize;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::faults::Faults;
use crate::frames::head_bytes;
use crate::known::{Compared, Known};
use crate::message::{Message, MessageFinder, skipped};
use crate::rows::Rows;
use crate::states::{Ears, Heard};
use crate::workload::Workload;

/// What came, over all readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    /// Messages.
    pub(super) frames: u64,
    /// The bytes of their frames.
    pub(super) bytes: u64,
    /// Changes, and rows as they are.
    pub(super) rows: u64,
    /// Those of them that were newer than what their reader knew.
    pub(super) newer: u64,
    /// Changes that notices named.
    pub(super) skipped: u64,
}

impl Told {
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            bytes: self.bytes - before.bytes,
            rows: self.rows - before.rows,
            newer: self.newer - before.newer,
            skipped: self.skipped - before.skipped,
        }
    }
}

/// A reader's last loss of the source, in nanoseconds of the run.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    /// When it was first told that it is not live.
    lost_ns: Option<u64>,
    /// When it was last told that it is again.
    live_ns: Option<u64>,
    is_over: bool,
}

/// All readers, and what each of them knows.
pub(super) struct Witness {
    workload: Workload,
    clock: Clock,
    known: Known,
    /// The number in the name of each row that is known.
    stamps: Vec<u64>,
    losses: Vec<Loss>,
    /// By product, the versions that a reader has to know, or newer ones, when it is told that it is live.
    pub(super) due: Vec<u64>,
    /// The commands that were answered.
    pub(super) replies: usize,
    pub(super) told: Told,
    epoch: Option<String>,
    pub(super) faults: Faults,
    finder: MessageFinder,
    /// Why a reader ended.
    pub(super) ended: Option<String>,
    /// Notified of whatever is waited for.
    pub(super) news: Rc<Notify>,
}

impl Witness {
    /// Returns readers that know nothing yet.
    pub(super) fn new(workload: Workload, clock: Clock) -> Self {
        Self {
            known: Known::new(&workload),
            stamps: vec![0; workload.subscriptions()],
            losses: vec![Loss { is_over: true, ..Loss::default() }; workload.connections],
            workload,
            clock,
            due: Vec::new(),
            replies: 0,
            told: Told::default(),
            epoch: None,
            faults: Faults::default(),
            finder: MessageFinder::new(),
            ended: None,
            news: Rc::default(),
        }
    }

    /// Has all readers know these rows, as if they had read them before they subscribed.
    pub(super) fn knowing(mut self, rows: &Rows) -> Self {
        for reader in 0..self.workload.connections {
            for (&product, place) in self.workload.ids(reader).iter().zip(self.workload.places(reader)) {
                let row = rows.get(product);
                self.known.learn(place, row.version);
                self.stamps[place] = row.stamp;
            }
        }
        self
    }

    /// Returns the products of a reader.
    pub(super) fn ids(&self, reader: usize) -> &[u32] {
        self.workload.ids(reader)
    }

    /// Notes that the connection of a reader ended, which none should.
    pub(super) fn end(&mut self, why: String) {
        self.ended.get_or_insert(why);
        self.news.notify_waiters();
    }

    /// Forgets the losses of all readers, which are live.
    pub(super) fn begin(&mut self) {
        self.losses.fill(Loss::default());
    }

    /// Returns whether some reader was told of a loss.
    pub(super) fn is_any_lost(&self) -> bool {
        self.losses.iter().any(|loss| loss.lost_ns.is_some())
    }

    /// Returns whether all readers are live.
    pub(super) fn are_live(&self) -> bool {
        self.losses.iter().all(|loss| loss.is_over)
    }

    /// Returns when the first and the last reader were told of the loss, and when they were told that it is over, once all
    /// of them were told both.
    pub(super) fn moments_ns(&self) -> Option<[(u64, u64); 2]> {
        let span = |of: fn(&Loss) -> Option<u64>| {
            let all: Option<Vec<u64>> = self.losses.iter().map(of).collect();
            all.and_then(|all| Some((*all.iter().min()?, *all.iter().max()?)))
        };
        Some([span(|loss| loss.lost_ns)?, span(|loss| loss.live_ns)?])
    }

    /// Compares what the readers know with the store, content included; each difference is a fault. Returns it with the
    /// number of readers that know something else.
    pub(super) fn compare(&mut self, rows: &Rows) -> (Compared, u64) {
        let (mut compared, mut wrong) = (Compared::default(), 0);
        for reader in 0..self.workload.connections {
            let ids = self.workload.ids(reader);
            let mut different = self.known.compare_one(&self.workload, rows, reader, &mut self.faults);
            let known = self.known.of(&self.workload, reader).iter().zip(&self.stamps[self.workload.places(reader)]);
            for (&product, (&version, &stamp)) in ids.iter().zip(known) {
                let row = rows.get(product);
                if version == row.version && stamp != row.stamp {
                    different += 1;
                    let what = || format!("knows version {version} with t{stamp}, and the store has t{}", row.stamp);
                    self.faults.add(reader, product, what);
                }
            }
            compared.subscriptions += ids.len() as u64;
            compared.different += different;
            wrong += u64::from(different > 0);
        }
        (compared, wrong)
    }

    fn row(&mut self, reader: usize, message: Message) {
        let Message { product, version, due_ns: stamp } = message;
        self.told.rows += 1;
        let Some(place) = self.workload.place(reader, product) else {
            return self.faults.add(reader, product, || format!("version {version}, which it did not ask for"));
        };
        let known = self.known.learn(place, version);
        if version > known {
            self.told.newer += 1;
            self.stamps[place] = stamp;
        } else if version == known && stamp != self.stamps[place] {
            let before = self.stamps[place];
            self.faults.add(reader, product, || format!("version {version} with t{stamp}, which had t{before}"));
        }
    }

    fn live(&mut self, reader: usize, is_live: bool) {
        let now_ns = self.clock.now_ns();
        let loss = &mut self.losses[reader];
        if is_live {
            loss.live_ns = Some(now_ns);
        } else {
            loss.lost_ns.get_or_insert(now_ns);
            loss.live_ns = None;
        }
        loss.is_over = is_live;
        if is_live {
            self.check_due(reader);
        }
        self.news.notify_waiters();
    }

    /// A reader that is live knows all that was missed.
    fn check_due(&mut self, reader: usize) {
        for (&product, &known) in self.workload.ids(reader).iter().zip(self.known.of(&self.workload, reader)) {
            let due = self.due.get(product as usize).copied().unwrap_or(0);
            if known < due {
                self.faults
                    .add(reader, product, || format!("is live and knows version {known}, and {due} was committed"));
            }
        }
    }

    fn epoch(&mut self, reader: usize, epoch: &str) {
        let told = self.epoch.get_or_insert_with(|| epoch.to_owned());
        if told.as_str() != epoch {
            self.faults.add(reader, 0, || format!("told the epoch {epoch}, and {told} before"));
        }
    }
}

impl Ears for Witness {
    fn take(&mut self, reader: usize, text: &[u8]) -> anyhow::Result<Heard> {
        self.told.frames += 1;
        self.told.bytes += (text.len() + head_bytes(text.len())) as u64;
        if let Some(message) = self.finder.find(text) {
            self.row(reader, message);
            return Ok(Heard::default());
        }
        let said = String::from_utf8_lossy(text);
        ensure!(memmem::find(text, br#""error":"#).is_none(), "the server refused: {said}");
        if said == r#"{"live":true}"# || said == r#"{"live":false}"# {
            self.live(reader, said == r#"{"live":true}"#);
        } else if text.starts_with(br#"{"reply":"#) {
            self.replies += 1;
            self.news.notify_waiters();
        } else if let Some(epoch) = said.strip_prefix(r#"{"epoch":""#) {
            self.epoch(reader, epoch.strip_suffix(r#""}"#).unwrap_or(epoch));
        } else if said.starts_with(r#"{"absent":"#) {
            self.faults.add(reader, 0, || format!("told {said}, and nothing was deleted"));
        } else if let Some(changes) = skipped(text) {
            self.told.skipped += changes;
        } else {
            bail!("a message that is not understood here: {said}");
        }
        Ok(Heard::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::change_json;
    use crate::rows::Row;

    fn rows(versions: &[u64]) -> Rows {
        Rows::of(&versions.iter().map(|&version| Row { version, stamp: version * 10 }).collect::<Vec<_>>())
    }

    /// Two readers of products 1 and 2, which had the versions 7 and 8 before they subscribed.
    fn witness() -> Witness {
        Witness::new(Workload::new(2, 2, 2), Clock::start()).knowing(&rows(&[7, 8]))
    }

    fn tell(witness: &mut Witness, reader: usize, texts: &[String]) {
        for text in texts {
            assert_eq!(witness.take(reader, text.as_bytes()).unwrap(), Heard::default());
        }
    }

    fn row(product: u32, version: u64) -> String {
        change_json(&Message { product, version, due_ns: version * 10 }, 3)
    }

    fn compared(witness: &mut Witness, versions: &[u64]) -> ((u64, u64), Vec<String>) {
        let (compared, wrong) = witness.compare(&rows(versions));
        assert_eq!(compared.subscriptions, 4);
        ((compared.different, wrong), witness.faults.texts())
    }

    #[test]
    fn what_was_not_changed_may_be_untold_and_what_was_told_again_is_passed_over() {
        let mut witness = witness();
        for reader in [0, 1] {
            tell(&mut witness, reader, &[row(2, 9), row(2, 11), row(2, 9), row(1, 7)]);
        }
        assert_eq!(compared(&mut witness, &[7, 11]), ((0, 0), vec![]));
        let Told { frames, rows, newer, .. } = witness.told;
        assert_eq!((frames, rows, newer, witness.told.bytes > 8 * 100), (8, 8, 4, true));
    }

    #[test]
    fn a_change_that_was_not_told_is_found_whether_others_of_its_product_were() {
        let mut witness = witness();
        tell(&mut witness, 0, &[row(1, 9), row(2, 10)]);
        tell(&mut witness, 1, &[row(2, 10)]);
        let what = [
            "socket 0, product 2: knows version 10, and the store has 11",
            "socket 1, product 1: knows version 7, and the store has 9",
            "socket 1, product 2: knows version 10, and the store has 11",
        ];
        assert_eq!(compared(&mut witness, &[9, 11]), ((3, 2), what.map(str::to_owned).to_vec()));
    }

    #[test]
    fn another_content_is_found_also_where_the_version_is_the_stores() {
        let mut witness = witness();
        tell(&mut witness, 0, &[row(1, 9).replace("t000000000000090", "t000000000000070")]);
        tell(&mut witness, 1, &[row(1, 9), row(1, 9).replace("t000000000000090", "t000000000000080")]);
        let what = [
            "socket 1, product 1: version 9 with t80, which had t90",
            "socket 0, product 1: knows version 9 with t70, and the store has t90",
        ];
        assert_eq!(compared(&mut witness, &[9, 8]), ((1, 1), what.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_loss_is_over_once_every_reader_was_told_of_it_and_of_its_end() {
        let mut witness = witness();
        let [lost, live] = [false, true].map(|is_live| vec![format!(r#"{{"live":{is_live}}}"#)]);
        assert!(witness.are_live() && !witness.is_any_lost());
        witness.begin();
        assert!(!witness.are_live(), "nobody was told yet");
        tell(&mut witness, 0, &lost);
        assert!(witness.is_any_lost());
        tell(&mut witness, 0, &live);
        assert!(!witness.are_live() && witness.moments_ns().is_none(), "the other was told nothing");
        tell(&mut witness, 1, &[&lost[..], &live, &lost].concat());
        assert!(!witness.are_live() && witness.moments_ns().is_none(), "it was lost again");
        tell(&mut witness, 1, &live);
        let [(lost_first, lost_last), (live_first, live_last)] = witness.moments_ns().unwrap();
        assert!(witness.are_live() && lost_first < live_first && live_first < lost_last && lost_last < live_last);
    }

    #[test]
    fn who_is_live_knows_what_was_committed_before() {
        let mut witness = witness();
        let live = ["false", "true"].map(|is_live| format!(r#"{{"live":{is_live}}}"#));
        witness.due = vec![0, 9, 0];
        tell(&mut witness, 0, &[vec![row(1, 10)], live.to_vec()].concat());
        assert_eq!(witness.faults.count, 0, "it knows a newer one");
        tell(&mut witness, 1, &[live.to_vec(), vec![row(1, 9)]].concat());
        let what = "socket 1, product 1: is live and knows version 7, and 9 was committed";
        assert_eq!(witness.faults.texts(), [what]);
        assert_eq!(compared(&mut witness, &[10, 8]).0, (1, 1), "that it knows an old one is another fault");
    }

    #[test]
    fn what_should_not_come_is_named_and_a_refusal_ends_the_reader() {
        let mut witness = witness();
        let told = [r#"{"epoch":"k3x"}"#, r#"{"epoch":"k4"}"#, r#"{"absent":[1],"versions":[0]}"#, r#"{"skipped":5}"#];
        tell(&mut witness, 0, &told.map(str::to_owned));
        tell(&mut witness, 0, &[row(3, 9)]);
        assert_eq!(
            witness.faults.texts(),
            [
                "socket 0, product 0: told the epoch k4, and k3x before",
                r#"socket 0, product 0: told {"absent":[1],"versions":[0]}, and nothing was deleted"#,
                "socket 0, product 3: version 9, which it did not ask for",
            ]
        );
        assert_eq!(witness.told.skipped, 5);
        for refusal in [&br#"{"reply":1,"ok":false,"error":"no","code":"bad_versions"}"#[..], b"?"] {
            assert!(witness.take(0, refusal).is_err());
        }
    }
}
