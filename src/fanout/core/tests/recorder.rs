//! What a connection was told: [`Recorder`], which checks what it must never be told.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::{Page, Place, Value};
use super::super::everything::PAGE_MAX;
use super::super::*;
use crate::model::topic::testing::{TABLE, number, tables};
use crate::wire::frame::Frame;

/// The bytes of a frame that are its version; the first one is its epoch.
pub(super) const VERSION: u64 = DELETION - 1;
/// Set where the version is that of a deletion.
pub(super) const DELETION: u64 = 1 << 55;

/// Remembers what it was given.
// Each says one thing, and they do not exclude each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) waiting: Vec<(u64, u64)>,
    pub(super) flushed: Vec<(u64, u64)>,
    pub(super) flushes: usize,
    pub(super) applied: Vec<(u32, usize)>,
    pub(super) refused: Vec<u32>,
    /// True if it was told something that it is to be flushed for.
    pub(super) is_told: bool,
    /// The epoch of all, and that which was told of the table since.
    pub(super) epoch: Option<Epoch>,
    pub(super) table_epoch: Option<Epoch>,
    pub(super) is_live: bool,
    pub(super) is_table_lost: bool,
    /// The newest version of each topic that it was told in this epoch; 0: that it does not exist.
    pub(super) shown: BTreeMap<u64, u64>,
    /// The topics that it shows from the epoch before, and of which it was told nothing in this one.
    pub(super) old: BTreeSet<u64>,
    /// The pulls without an answer, by number.
    pub(super) pulls: BTreeMap<u32, u64>,
    /// The numbers of the pulls that were answered by the end of a subscription.
    pub(super) ended: Vec<u32>,
    /// The commands that list all topics.
    pub(super) lists: BTreeSet<u32>,
    /// The pages that are to be asked for, and the number of the one that was.
    pub(super) pages: Vec<Place>,
    pub(super) page: Option<u32>,
    pub(super) asked_pages: u32,
    /// The topics that the shards listed and that are to be pulled.
    pub(super) listed: Vec<Topic>,
    pub(super) listed_pulls: u32,
    /// True if it asked to be told of every topic.
    pub(super) is_everything: bool,
    /// The topics that were revoked, each as often as it was told.
    pub(super) revoked: Vec<u64>,
    /// The commands that revoke, with the topics that they end and that were not asked for again; and those of which
    /// nothing is to be told, since such a command is applied.
    pub(super) revokes: BTreeMap<u32, BTreeSet<u64>>,
    pub(super) gone: BTreeSet<u64>,
}

impl Recorder {
    /// Learns that the connection asks for topics again.
    pub(super) fn ask(&mut self, topics: &[u64]) {
        for gone in self.revokes.values_mut().chain([&mut self.gone]) {
            gone.retain(|topic| !topics.contains(topic));
        }
    }
}

impl Recorder {
    /// Takes a version, which is to be of the epoch that it was told.
    fn take(&mut self, topic: u64, content: [u8; 8]) {
        let (epoch, version) = (content[0], u64::from_be_bytes(content) & VERSION);
        let told = self.table_epoch.or(self.epoch);
        assert_eq!(u64::from(epoch), told.map_or(0, Epoch::get), "a version of another epoch");
        let is_deletion = u64::from_be_bytes(content) & DELETION != 0;
        let before = self.show(topic, if is_deletion { 0 } else { version });
        assert!(before.is_none_or(|before| before <= version), "{version} after {before:?}");
    }
}

impl Recorder {
    /// Shows a version, 0 for none; returns the one before in this epoch.
    pub(super) fn show(&mut self, topic: u64, version: u64) -> Option<u64> {
        self.old.remove(&topic);
        self.shown.insert(topic, version)
    }

    fn begin_anew(&mut self) {
        self.is_told = true;
        let shown = std::mem::take(&mut self.shown);
        self.old.extend(shown.into_iter().filter(|(_, version)| *version > 0).map(|(topic, _)| topic));
        self.waiting.clear();
        self.flushed.clear();
    }
}

/// The frame that says that a row does not exist.
fn of_absence(subject: &Subject) -> Frame {
    Frame::of_absence(&tables().get(subject.topic().table()), &subject.key(), 0)
}

/// The frame of a row that cannot be read.
fn of_unreadable(subject: &Subject, version: u64) -> Frame {
    Frame::of_unreadable(&tables().get(subject.topic().table()), &subject.key(), version)
}

impl Subscriber for Recorder {
    fn push(&mut self, run: &CastRun) {
        self.is_told = true;
        let topic = number(run.subject.topic());
        assert!(self.is_everything || !self.gone.contains(&topic), "{topic} was revoked");
        let is_pulling = self.pulls.values().any(|&pulled| pulled == topic);
        if *run.frames == *of_absence(&run.subject) {
            if !is_pulling {
                self.show(topic, 0);
            }
            return;
        }
        if let [version] = *run.versions()
            && *run.frames == *of_unreadable(&run.subject, version)
        {
            self.waiting.push((topic, version));
            if !is_pulling {
                self.show(topic, version);
            }
            return;
        }
        for (frame, &version) in run.frames.chunks_exact(10).zip(run.versions()) {
            let content: [u8; 8] = frame[2..].try_into().unwrap();
            assert_eq!(u64::from_be_bytes(content) & VERSION, version, "each frame comes with its version");
            self.waiting.push((topic, version));
            if !is_pulling {
                self.take(topic, content);
            }
        }
    }

    fn flush(&mut self) {
        assert!(std::mem::take(&mut self.is_told), "only who was given something is flushed");
        self.flushed.append(&mut self.waiting);
        self.flushes += 1;
    }

    fn revoked(&mut self, revoked: Subjects) {
        self.revoked.extend(revoked.topics().iter().copied().map(number));
    }

    fn applied(&mut self, number: u32, topics: usize) {
        self.applied.push((number, topics));
        if let Some(gone) = self.revokes.remove(&number) {
            assert!(gone.iter().all(|topic| self.revoked.contains(topic)), "what ends is told before");
            self.gone.extend(gone);
        }
        if self.lists.contains(&number) && self.is_everything {
            self.pages.push(Place::default());
        }
    }

    fn refused(&mut self, number: u32) {
        self.refused.push(number);
    }

    fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        assert!(self.applied.iter().all(|(applied, _)| *applied != number), "before its command is applied");
        self.listed.extend(topics);
    }

    fn listed(&mut self, listed: Listed) {
        let Listed::Page(Page { number, topics, next }) = listed else { return };
        assert!(topics.len() <= PAGE_MAX && topics.topics().is_sorted());
        if self.page.take_if(|page| *page == number).is_some() {
            self.listed.extend_from_slice(topics.topics());
            self.pages.extend(next);
        }
    }

    fn pulled(&mut self, answer: Pulled) {
        self.is_told = true;
        let topic = number(answer.subject.topic());
        assert_eq!(self.pulls.remove(&answer.number), Some(topic), "one answer for each pull");
        if answer.value == Value::Ended {
            self.ended.push(answer.number);
        }
        if self.pulls.values().any(|&pulled| pulled == topic) {
            return;
        }
        match answer.value {
            Value::Same => assert!(self.shown.contains_key(&topic)),
            Value::Present { version, frame } if frame == of_unreadable(&answer.subject, version) => {
                self.show(topic, version);
            }
            Value::Present { frame, .. } => self.take(topic, frame[2..].try_into().unwrap()),
            Value::Absent { .. } => drop(self.show(topic, 0)),
            Value::Unreached => panic!("nobody claims what never was"),
            // The subscription to this one has ended, and that to all goes on.
            Value::Ended if self.is_everything => self.listed.push(answer.subject.topic()),
            Value::Ended => {}
        }
    }

    fn live(&mut self, is_live: bool) {
        self.is_told = true;
        self.is_live = is_live;
    }

    fn epoch(&mut self, epoch: Epoch) {
        // A table may have been told its own before the first.
        self.table_epoch = self.table_epoch.filter(|_| self.epoch.is_none());
        self.epoch = Some(epoch);
        self.begin_anew();
    }

    fn table_live(&mut self, table: TableId, is_live: bool) {
        assert_eq!(table, TABLE);
        self.is_told = true;
        self.is_table_lost = !is_live;
    }

    fn table_epoch(&mut self, table: TableId, epoch: Epoch) {
        assert_eq!(table, TABLE);
        self.table_epoch = Some(epoch);
        self.begin_anew();
    }
}
