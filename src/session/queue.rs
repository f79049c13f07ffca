//! The frames that wait for one socket, and the treatment of a reader that is too slow: [`SendQueue`], pure data.
//!
//! Two lanes wait behind a frame of which the socket took only a part. Control frames (pongs, close, and replies to those
//! who ask for changes alone) go first. Everything else goes in one order: changes, which are bounded here, in frames
//! and in bytes, and of which the [`SlowConsumerPolicy`] chooses those that give way; and what never gives way, states
//! of topics and words about them. The code that pushes those bounds them: states are pulled as there is room, and a
//! peer that does not take its answers is not read.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use clap::ValueEnum;

use crate::model::table::TableId;
use crate::model::topic::{Subject, Topic, WideRow};
use crate::wire::frame::{Frame, FrameRun};

/// The choice of the frames that give way when a [`SendQueue`] is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlowConsumerPolicy {
    /// All changes that wait give way; of each topic the newest state follows as the socket drains.
    #[value(help = "The newest state of each row comes as the reader drains, older changes are skipped")]
    Conflate,
    /// The oldest frame gives way.
    #[value(help = "The oldest change that waits is dropped")]
    Drop,
    /// Nothing gives way; the connection is to be closed.
    #[value(help = "The connection is closed with code 1013")]
    Disconnect,
}

impl SlowConsumerPolicy {
    /// Returns the value of the label `policy` in `/metrics`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Conflate => "conflate",
            Self::Drop => "drop",
            Self::Disconnect => "disconnect",
        }
    }
}

/// The bounds of a [`SendQueue`], and its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendQueueLimits {
    /// The most frames that wait.
    pub frames_max: usize,
    /// The most bytes that wait; a larger frame is accepted into an empty queue, or it could never be sent.
    pub bytes_max: usize,
    /// The choice of the frames that give way.
    pub policy: SlowConsumerPolicy,
}

/// The result of pushing a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits, and so does everything that waited before.
    Queued,
    /// So many changes gave way; where nothing else can, the new one.
    Skipped(u64),
    /// The queue is full under a policy by which no single change gives way: nothing was changed.
    Full,
}

/// A word that goes in order with the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The answer to a command.
    Answer,
    /// The source is back, and all that was missed has been sent.
    Live,
    /// The same of one table.
    TableLive(TableId),
    /// Rows are absent.
    Absent,
    /// Any other.
    Other,
}

/// The bounded frames waiting for one socket.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// The rest of a frame that was sent in part; nothing may come between.
    partial: Option<Frame>,
    control: VecDeque<Frame>,
    /// What goes in order.
    ordered: VecDeque<Waiting>,
    /// The bytes of it, the changes and states in it, and the answers.
    bytes: usize,
    frames: u32,
    answers: u32,
    skipped: u64,
}

/// Frames that go in order.
#[derive(Debug)]
struct Waiting {
    run: FrameRun,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Changes of one topic.
    Changes(Subject),
    /// The state of a row with a narrow topic, which was asked for. It stands apart from that of a wide one, so that a kind
    /// takes no more room than a subject.
    NarrowState(u64),
    /// Likewise of one with a wide topic.
    WideState(Arc<WideRow>),
    Word(Word),
}

impl Kind {
    fn state(subject: Subject) -> Self {
        match subject {
            Subject::Narrow(low) => Self::NarrowState(low),
            Subject::Wide(row) => Self::WideState(row),
        }
    }

    /// Returns the row that it tells of, if it does of one.
    fn subject(&self) -> Option<Subject> {
        match self {
            Self::Changes(subject) => Some(subject.clone()),
            Self::NarrowState(low) => Some(Subject::Narrow(*low)),
            Self::WideState(row) => Some(Subject::Wide(Arc::clone(row))),
            Self::Word(_) => None,
        }
    }
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Waiting>() <= 64, "what one waiting change takes of a slow reader's memory");

/// A lane that grew beyond this gives its memory back when it is empty.
const CAPACITY_KEPT: usize = 4;

impl SendQueue {
    /// Returns an empty queue; it owns no memory until a frame waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change; under [`SlowConsumerPolicy::Drop`] the oldest give way to it if there is no room.
    pub fn push(&mut self, subject: &Subject, version: u64, frame: Frame, limits: &SendQueueLimits) -> Pushed {
        let run = FrameRun::one(version, frame);
        if self.has_room_for(1, run.len(), limits) {
            self.push_back(Kind::Changes(subject.clone()), run);
            return Pushed::Queued;
        }
        if limits.policy != SlowConsumerPolicy::Drop {
            return Pushed::Full;
        }
        let mut skipped = self.make_room(run.len(), limits);
        if self.has_room_for(1, run.len(), limits) {
            self.push_back(Kind::Changes(subject.clone()), run);
        } else {
            skipped += 1;
        }
        self.skipped += skipped;
        Pushed::Skipped(skipped)
    }

    /// Adds changes of one topic at once, if they have room without the policy; returns whether they had.
    pub fn push_run(&mut self, subject: &Subject, run: &FrameRun, limits: &SendQueueLimits) -> bool {
        let has_room = self.has_room_for(run.frames(), run.len(), limits);
        if has_room {
            self.push_back(Kind::Changes(subject.clone()), run.clone());
        }
        has_room
    }

    /// Returns whether there is room for a state of so many bytes.
    #[must_use]
    pub fn has_room_for_state(&self, bytes: usize, limits: &SendQueueLimits) -> bool {
        self.has_room_for(1, bytes, limits)
    }

    /// Adds the state of a row at this version, which never gives way.
    pub fn push_state(&mut self, subject: Subject, version: u64, frame: Frame) {
        self.push_back(Kind::state(subject), FrameRun::one(version, frame));
    }

    /// Takes back what waits whole of rows that are not to be told any more: changes and states, which do not count as skipped.
    /// A word that rows are absent is given to `absent`, whose answer takes its place, if there is one.
    pub fn retain_rows(
        &mut self,
        mut is_told: impl FnMut(&Subject) -> bool,
        absent: impl Fn(&[u8], &mut dyn FnMut(&Subject) -> bool) -> Option<Frame>,
    ) {
        for waiting in std::mem::take(&mut self.ordered) {
            if waiting.kind == Kind::Word(Word::Absent) {
                self.bytes -= waiting.run.len();
                if let Some(frame) = absent(&waiting.run, &mut is_told) {
                    self.push_word(Word::Absent, frame);
                }
            } else if waiting.kind.subject().is_none_or(|subject| is_told(&subject)) {
                self.ordered.push_back(waiting);
            } else {
                self.count_out(&waiting.kind, &waiting.run);
            }
        }
    }

    /// Adds a word that goes in order with the changes and never gives way.
    pub fn push_word(&mut self, word: Word, frame: Frame) {
        self.push_back(Kind::Word(word), FrameRun::one(0, frame));
    }

    /// Takes all changes that wait whole, oldest first, which give way; what is told of them is the caller's.
    pub fn take_changes(&mut self) -> Vec<(Subject, FrameRun)> {
        self.take_changes_if(|_| true)
    }

    /// Takes likewise those of topics that are to be taken.
    pub fn take_changes_if(&mut self, is_taken: impl Fn(Topic) -> bool) -> Vec<(Subject, FrameRun)> {
        let ordered = std::mem::take(&mut self.ordered);
        // Nearly all of them are, where changes give way.
        let mut changes = Vec::with_capacity(ordered.len());
        for Waiting { run, kind } in ordered {
            match kind {
                Kind::Changes(subject) if is_taken(subject.topic()) => {
                    self.bytes -= run.len();
                    self.frames -= frames(&run);
                    changes.push((subject, run));
                }
                kind => self.ordered.push_back(Waiting { run, kind }),
            }
        }
        changes
    }

    /// Takes back [`Word::Live`] if it waits whole; returns whether it did.
    pub fn take_live(&mut self) -> bool {
        self.take_word(Word::Live)
    }

    /// Takes back the first of such words that waits whole; returns whether one did.
    pub fn take_word(&mut self, word: Word) -> bool {
        let is_it = |waiting: &Waiting| waiting.kind == Kind::Word(word);
        let Some(waiting) = self.ordered.iter().position(is_it).and_then(|place| self.ordered.remove(place)) else {
            return false;
        };
        self.bytes -= waiting.run.len();
        true
    }

    /// Adds a frame that goes before all that goes in order.
    pub fn push_control(&mut self, frame: Frame) {
        self.control.push_back(frame);
    }

    /// Returns the waiting bytes, if exactly one run waits: one frame, or several changes of one topic in a row, and
    /// nothing else.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        let is_only = self.partial.is_none() && self.control.is_empty() && self.ordered.len() == 1;
        if is_only { self.ordered.front().map(|waiting| &*waiting.run) } else { None }
    }

    /// Fills `slices` with the bytes to send, in order, and returns the number of slices that it used.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let room = slices.len();
        let mut free = slices.iter_mut();
        // Two loops rather than one over a chain: it is a third of the instructions where one change waits.
        for (frame, slice) in self.partial.iter().chain(&self.control).zip(free.by_ref()) {
            *slice = IoSlice::new(frame);
        }
        for waiting in &self.ordered {
            let Some(slice) = free.next() else { break };
            *slice = IoSlice::new(&waiting.run);
        }
        room - free.len()
    }

    /// Removes the first `sent` bytes, which the socket took, and returns the number of changes and states that left the
    /// queue (the last of them perhaps in part).
    ///
    /// # Panics
    /// If more was sent than waited.
    pub fn advance(&mut self, mut sent: usize) -> u64 {
        let frames_before = self.frames;
        while sent > 0 {
            if self.partial.is_none()
                && self.control.is_empty()
                && let Some(front) = self.ordered.front()
                && front.run.len() <= sent
            {
                sent -= front.run.len();
                self.pop_front();
                continue;
            }
            let frame = (self.partial.take())
                .or_else(|| self.control.pop_front())
                .or_else(|| self.remove_frame(0))
                .expect("no more is sent than waits");
            if sent < frame.len() {
                self.partial = Some(frame.after(sent));
                break;
            }
            sent -= frame.len();
        }
        self.give_memory_back();
        u64::from(frames_before - self.frames)
    }

    /// Returns whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partial.is_none() && self.control.is_empty() && self.ordered.is_empty()
    }

    /// Returns the number of control frames that wait whole.
    #[must_use]
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Returns the number of answers and other control frames that wait whole.
    #[must_use]
    pub fn answers_len(&self) -> usize {
        self.control.len() + self.answers as usize
    }

    /// Returns the number of changes and states that wait whole.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames as usize
    }

    /// Returns the number of bytes that wait in whole frames and go in order.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that so many changes never come.
    pub fn skip(&mut self, changes: u64) {
        self.skipped += changes;
    }

    /// Returns the number of changes that never come, since this was last asked; the caller tells the reader.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Forgets all that goes in order and waits whole, because the connection is closing.
    pub fn discard_ordered(&mut self) {
        self.ordered = VecDeque::new();
        (self.frames, self.bytes, self.answers) = (0, 0, 0);
        self.skipped = 0;
    }

    fn has_room_for(&self, frames: usize, bytes: usize, limits: &SendQueueLimits) -> bool {
        let is_let_in_alone = self.frames == 0 && frames == 1;
        let fits = self.frames as usize + frames <= limits.frames_max && self.bytes + bytes <= limits.bytes_max;
        is_let_in_alone || fits
    }

    /// Lets the oldest changes give way until a frame of this length has room, or no change is left.
    fn make_room(&mut self, frame_bytes: usize, limits: &SendQueueLimits) -> u64 {
        let (mut skipped, mut place) = (0, 0);
        while !self.has_room_for(1, frame_bytes, limits) {
            let is_change = |waiting: &Waiting| matches!(waiting.kind, Kind::Changes(_));
            let Some(further) = self.ordered.range(place..).position(is_change) else { break };
            place += further;
            self.remove_frame(place);
            skipped += 1;
        }
        skipped
    }

    fn push_back(&mut self, kind: Kind, run: FrameRun) {
        self.count_in(&kind, &run);
        self.ordered.push_back(Waiting { run, kind });
    }

    /// Takes the frame at this place, which may be the first of several.
    fn remove_frame(&mut self, place: usize) -> Option<Frame> {
        let Waiting { run, kind } = self.ordered.remove(place)?;
        self.count_out(&kind, &run);
        let ((_, frame), rest) = run.split_first();
        if let Some(run) = rest {
            self.count_in(&kind, &run);
            self.ordered.insert(place, Waiting { run, kind });
        }
        Some(frame)
    }

    fn pop_front(&mut self) {
        if let Some(Waiting { run, kind }) = self.ordered.pop_front() {
            self.count_out(&kind, &run);
        }
    }

    fn count_in(&mut self, kind: &Kind, run: &FrameRun) {
        self.bytes += run.len();
        let (frames, answers) = counts(kind, run);
        self.frames += frames;
        self.answers += answers;
    }

    fn count_out(&mut self, kind: &Kind, run: &FrameRun) {
        self.bytes -= run.len();
        let (frames, answers) = counts(kind, run);
        self.frames -= frames;
        self.answers -= answers;
    }

    fn give_memory_back(&mut self) {
        // Control frames are rare.
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
        if self.ordered.is_empty() && self.ordered.capacity() > CAPACITY_KEPT {
            self.ordered = VecDeque::new();
        }
    }
}

/// Returns the number of changes and states in a run, and of answers.
fn counts(kind: &Kind, run: &FrameRun) -> (u32, u32) {
    match kind {
        Kind::Changes(_) | Kind::NarrowState(_) | Kind::WideState(_) => (frames(run), 0),
        Kind::Word(word) => (0, u32::from(*word == Word::Answer)),
    }
}

fn frames(run: &FrameRun) -> u32 {
    u32::try_from(run.frames()).expect("a run has fewer than 2^32 frames")
}

#[cfg(test)]
mod tests;
