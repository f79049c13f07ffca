//! The casts of one batch, joined by topic: [`CastRuns`].
//!
//! Changes of a hot topic pile up while a core delivers the ones before. Joined into one buffer they cost each
//! subscriber one push and one piece of a write, however many they are.

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::message::{Cast, CastPermit, CastRun, Delivery, History};
use crate::model::topic::{Subject, Topic};
use crate::wire::frame::{Frame, FrameRun};

/// The most frames, and about the most bytes, of one run: a reader that takes a part of a run keeps the rest of its
/// buffer.
const RUN_FRAMES_MAX: usize = 256;
const RUN_BYTES_MAX: usize = 64 * 1024;

/// The changes of a batch, by topic, in the order in which each topic came first.
#[derive(Debug, Default)]
pub(super) struct CastRuns {
    open: Vec<OpenRun>,
    /// The place of the run of each topic, if that run takes more.
    places_by_topic: HashMap<Topic, usize>,
}

/// The changes of one topic, oldest first, with their permits.
#[derive(Debug)]
pub(super) struct OpenRun {
    pub(super) subject: Subject,
    pub(super) frames: SmallVec<[(u64, Frame); 1]>,
    /// False if the newest version's frame has the topic's id alone.
    pub(super) is_whole: bool,
    /// True if the newest version is that of a deletion.
    pub(super) is_deletion: bool,
    pub(super) newest: u64,
    bytes: usize,
    permits: SmallVec<[CastPermit; 1]>,
}

impl CastRuns {
    pub(super) fn add(&mut self, cast: Cast, permit: CastPermit) {
        let Cast { subject, version, frame, is_whole, is_deletion, .. } = cast;
        let bytes = frame.len();
        if let Some(&place) = self.places_by_topic.get(&subject.topic()) {
            let run = &mut self.open[place];
            if run.frames.len() < RUN_FRAMES_MAX && run.bytes + bytes <= RUN_BYTES_MAX {
                run.bytes += bytes;
                run.frames.push((version, frame));
                run.permits.push(permit);
                if version > run.newest {
                    (run.newest, run.is_whole, run.is_deletion) = (version, is_whole, is_deletion);
                }
                return;
            }
        }
        self.places_by_topic.insert(subject.topic(), self.open.len());
        let (frames, permits) = (smallvec![(version, frame)], smallvec![permit]);
        self.open.push(OpenRun { subject, frames, is_whole, is_deletion, newest: version, bytes, permits });
    }

    /// Takes out all runs; none is left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = OpenRun> {
        self.places_by_topic.clear();
        self.open.drain(..)
    }
}

impl OpenRun {
    /// Joins the changes, of which there is at least one; their versions are of this history.
    pub(super) fn join(self, history: History) -> Delivery {
        let run = CastRun::new(self.subject, FrameRun::join(&self.frames));
        Delivery { run, history, is_gone: self.is_deletion, permits: self.permits }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;

    use super::super::Hub;
    use super::super::message::Message;
    use super::*;
    use crate::model::topic::testing::{self, number};
    use crate::wire::websocket::Opcode;

    /// Returns the hub's casts of these topics and payloads, with versions from 1.
    fn casts(changes: &[(u64, &[u8])]) -> Vec<(Cast, CastPermit)> {
        let (hub, mut inboxes) = Hub::new(1, 1, testing::tables());
        let cast = |(&(topic, payload), version): (&(u64, &[u8]), u64)| {
            let (subject, frame) = (testing::subject(topic), Frame::new(Opcode::Text, payload));
            let (is_whole, is_deletion, committed_at) = (true, false, Instant::now());
            hub.cast(Cast { subject, version, frame, is_whole, is_deletion, committed_at }).now_or_never().unwrap();
            match inboxes[0].messages.try_recv() {
                Ok(Message::Cast(cast, permit)) => (cast, permit),
                other => panic!("{other:?}"),
            }
        };
        changes.iter().zip(1..).map(cast).collect()
    }

    fn runs(changes: &[(u64, &[u8])]) -> Vec<(u64, Vec<u64>)> {
        let mut runs = CastRuns::default();
        for (cast, permit) in casts(changes) {
            runs.add(cast, permit);
        }
        let drained: Vec<Delivery> = runs.drain().map(|run| run.join(History::default())).collect();
        assert!(drained.iter().all(|delivery| delivery.run.frames.frames() == delivery.permits.len()));
        assert_eq!(runs.drain().count(), 0);
        drained.into_iter().map(|Delivery { run, .. }| (number(run.subject.topic()), run.versions().to_vec())).collect()
    }

    #[test]
    fn the_changes_of_each_topic_are_joined_in_their_order() {
        let changes: [(u64, &[u8]); 5] = [(1, b"a"), (2, b"b"), (1, b"c"), (3, b"d"), (1, b"e")];
        assert_eq!(runs(&changes), [(1, vec![1, 3, 5]), (2, vec![2]), (3, vec![4])]);
        let mut joined = CastRuns::default();
        for (cast, permit) in casts(&changes) {
            joined.add(cast, permit);
        }
        let first = joined.drain().next().unwrap().join(History::default());
        assert_eq!(*first.run.frames, *b"\x81\x01a\x81\x01c\x81\x01e");
    }

    #[test]
    fn a_run_ends_at_its_bounds() {
        let lengths = |changes: &[(u64, &[u8])]| -> Vec<(u64, usize)> {
            runs(changes).into_iter().map(|(topic, versions)| (topic, versions.len())).collect()
        };
        let small: Vec<(u64, &[u8])> = vec![(1, b"x"); RUN_FRAMES_MAX * 2 + 1];
        assert_eq!(lengths(&small), [(1, RUN_FRAMES_MAX), (1, RUN_FRAMES_MAX), (1, 1)]);
        let large = vec![b'x'; RUN_BYTES_MAX / 2];
        assert_eq!(lengths(&[(1, &large), (1, &large), (1, b"x"), (1, b"y")]), [(1, 1), (1, 3)]);
    }
}
