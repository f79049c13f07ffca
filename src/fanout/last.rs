//! The last value of one topic, and the rules by which it is loaded: [`LastValue`] and [`Loading`], pure data.
//!
//! The stream of changes is the truth, and a shard remembers what it last said of a topic. A reader that wants to
//! know is answered from that, or waits: for the next change, or for a row that is read after its wish and handed over
//! once all that the read saw has been told.

use smallvec::SmallVec;

use super::ConnectionId;
use super::message::{LoadedRow, Value};
use crate::wire::frame::Frame;

/// The newest version of a topic that was heard or loaded, and its bytes once somebody asked for them.
///
/// The version stays where the bytes are forgotten: it is enough for a reader that knows it.
#[derive(Debug, Default)]
pub(super) struct LastValue {
    /// The version, 0 for none, and four flags above it.
    version: u64,
    /// Boxed, so that a topic of which nothing is remembered costs a pointer.
    held: Option<Box<Held>>,
}

/// Set if the topic does not exist.
const IS_ABSENT: u64 = 1 << 63;
/// Set if the version is that of the deletion; of a topic that does not exist the deletion is a later one otherwise. Alone, it
/// says that the last change was a deletion.
const IS_DELETION: u64 = 1 << 62;
/// Set if the topic is kept though it may have no subscribers, since somebody is told of every topic.
const IS_KEPT: u64 = 1 << 61;
/// Set if the topic existed in an epoch that is over, and nothing is known of it in this one.
const WAS_THERE: u64 = 1 << 60;
/// The greatest version; one above counts as this one. What readers can hold ends at 2^53 − 1.
const VERSION_MAX: u64 = WAS_THERE - 1;

/// The version and the flags of a topic whose entry was forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forgotten(u64);

impl Forgotten {
    /// Returns whether the topic existed when something of it was last known.
    pub(super) const fn existed(self) -> bool {
        self.0 & !IS_KEPT != 0 && self.0 & (IS_ABSENT | IS_DELETION) == 0
    }
}

/// The bytes of a value, and their place in the order in which values are forgotten.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Frame,
    /// The stamp of its place that counts.
    pub(super) stamp: u32,
    /// True if somebody was given it since it was last considered.
    pub(super) is_used: bool,
}

/// The meaning of a loaded row beside what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learnt {
    /// It is what was known.
    Nothing,
    /// It is newer, or the first that is known.
    News,
    /// It is below the version that was known before it was read: the history of the rows was replaced.
    Regress,
}

impl LastValue {
    /// Returns the newest version that is known; 0: none.
    pub(super) const fn version(&self) -> u64 {
        self.version & VERSION_MAX
    }

    pub(super) const fn is_absent(&self) -> bool {
        self.version & IS_ABSENT != 0
    }

    /// Returns whether its deletion was heard, or that it does not exist.
    pub(super) const fn is_gone(&self) -> bool {
        self.version & (IS_ABSENT | IS_DELETION) != 0
    }

    /// Returns whether nothing was ever known of it.
    pub(super) const fn is_unknown(&self) -> bool {
        self.version & !IS_KEPT == 0
    }

    /// Returns what is left of it where nothing is held.
    pub(super) const fn forgotten(&self) -> Forgotten {
        Forgotten(self.version)
    }

    /// Knows again what was forgotten.
    pub(super) const fn recall(&mut self, Forgotten(version): Forgotten) {
        self.version = version;
    }

    /// Returns whether the topic is kept though it may have no subscribers.
    pub(super) const fn is_kept(&self) -> bool {
        self.version & IS_KEPT != 0
    }

    /// Keeps the topic, or does so no more.
    pub(super) const fn keep(&mut self, is_kept: bool) {
        self.version = self.version & !IS_KEPT | if is_kept { IS_KEPT } else { 0 };
    }

    /// Forgets all that is known of this epoch.
    pub(super) fn forget(&mut self) {
        let was_there = if self.forgotten().existed() { WAS_THERE } else { 0 };
        (self.version, self.held) = (self.version & IS_KEPT | was_there, None);
    }

    /// Returns whether the next change is remembered though nobody waits for it.
    pub(super) const fn is_remembered(&self) -> bool {
        self.held.is_some() || self.is_absent()
    }

    pub(super) fn held(&mut self) -> Option<&mut Held> {
        self.held.as_deref_mut()
    }

    pub(super) const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Returns the bytes that are held.
    pub(super) fn held_frame(&self) -> Option<&Frame> {
        self.held.as_ref().map(|held| &held.frame)
    }

    /// Returns the bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.frame.len())
    }

    /// Forgets the bytes, and keeps the version.
    pub(super) fn let_go(&mut self) {
        self.held = None;
    }

    /// Takes a change whose version is above the last; without a frame, its bytes are not remembered.
    pub(super) fn cast(&mut self, version: u64, is_deletion: bool, frame: Option<Frame>) {
        self.version = self.version & IS_KEPT | version.min(VERSION_MAX) | if is_deletion { IS_DELETION } else { 0 };
        match frame {
            Some(frame) => self.hold(frame),
            None => self.held = None,
        }
    }

    /// Returns whether the version that a reader knows is the newest; 0: it knows none.
    pub(super) const fn is_same(&self, known: u64) -> bool {
        let is_absence_without_version = self.version & (IS_ABSENT | IS_DELETION) == IS_ABSENT;
        known > 0 && known == self.version() && !is_absence_without_version
    }

    /// Returns the answer to a reader that knows this version (0: none), if what is remembered has it.
    pub(super) fn answer(&mut self, known: u64) -> Option<Value> {
        let version = self.version();
        let is_deletion = self.is_absent() && self.version & IS_DELETION != 0;
        if known > version {
            return None;
        }
        if self.is_absent() && !is_deletion {
            return Some(Value::Absent { version: 0 });
        }
        if self.is_same(known) {
            return Some(Value::Same);
        }
        if is_deletion {
            return Some(Value::Absent { version });
        }
        let held = self.held.as_deref_mut()?;
        held.is_used = true;
        Some(Value::Present { version, frame: held.frame.clone() })
    }

    /// Takes a row that was wished for when the version was `wished_at`; its bytes only if they are to be kept.
    pub(super) fn load(&mut self, row: &LoadedRow, wished_at: u64, keeps: bool) -> Learnt {
        match *row {
            // Below the version that was known, or it was gone after that one.
            LoadedRow::Present { version, .. } | LoadedRow::Unreadable { version: version @ 1.. }
                if version < wished_at || self.is_absent() && version <= self.version() =>
            {
                Learnt::Regress
            }
            LoadedRow::Absent { version } if 0 < version && version < wished_at => Learnt::Regress,
            LoadedRow::Present { version, ref frame } => self.load_row(version, keeps.then_some(frame)),
            LoadedRow::Absent { version } => self.load_absence(version, wished_at),
            // Its bytes are not those of this version, and there are no others.
            LoadedRow::Unreadable { version } => self.load_row(version, None),
        }
    }

    fn load_row(&mut self, version: u64, frame: Option<&Frame>) -> Learnt {
        if version > self.version() {
            self.cast(version, false, frame.cloned());
            return Learnt::News;
        }
        if version == self.version()
            && !self.is_held()
            && let Some(frame) = frame
        {
            self.hold(frame.clone());
        }
        Learnt::Nothing
    }

    fn load_absence(&mut self, version: u64, wished_at: u64) -> Learnt {
        let was_absent = self.is_absent();
        let is_deletion = version > self.version() || version > 0 && version == self.version() && !self.is_held();
        if is_deletion {
            // Its deletion was heard where nothing is remembered of this version.
            let was_heard = version == self.version();
            self.cast(version, true, None);
            self.version |= IS_ABSENT;
            return if was_absent || was_heard { Learnt::Nothing } else { Learnt::News };
        }
        // A change that came after the wish is at least as new as what a read saw that says no version.
        if version == 0 && self.version() == wished_at && !was_absent {
            self.held = None;
            self.version |= IS_ABSENT;
            return Learnt::News;
        }
        Learnt::Nothing
    }

    fn hold(&mut self, frame: Frame) {
        match &mut self.held {
            Some(held) => held.frame = frame,
            None => self.held = Some(Box::new(Held { frame, stamp: 0, is_used: false })),
        }
    }
}

/// A topic whose row is to be read: for those who wait, or since changes of it may have been missed.
///
/// The numbers of its wishes grow, and the read for a wish begins after the wish.
#[derive(Debug)]
pub(super) struct Loading {
    /// The first number whose answer counts for it.
    pub(super) since: u32,
    /// The wish that the loader has. There is one at most.
    pub(super) sent: Option<Sent>,
    /// True if it stands in the line of those that are to be wished for.
    pub(super) is_queued: bool,
    /// True if changes of the topic may have been missed.
    pub(super) heals: bool,
    /// Those who pulled, one for each connection.
    pub(super) waiters: SmallVec<[Waiter; 1]>,
}

/// A wish that the loader has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) number: u32,
    /// The topic's version when it was sent.
    pub(super) version: u64,
}

/// A connection that waits for a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) connection: ConnectionId,
    /// The number of its pull.
    pub(super) number: u32,
    /// The version that it knows; 0: none.
    pub(super) known: u64,
    /// The first number whose answer counts for it.
    pub(super) needs: u32,
}

impl Loading {
    pub(super) fn new(since: u32) -> Self {
        Self { since, sent: None, is_queued: false, heals: false, waiters: SmallVec::new() }
    }

    /// Returns whether anybody needs its answer.
    pub(super) fn is_wanted(&self) -> bool {
        self.heals || !self.waiters.is_empty()
    }
}

impl Waiter {
    /// Returns the answer to a waiter, if the last value is one: a change at or above the version that it knows.
    pub(super) fn told(&self, last: &mut LastValue) -> Option<Value> {
        last.answer(self.known)
    }

    /// Returns the answer to a waiter after the read with this number, if that read began after its wish.
    pub(super) fn read(&self, number: u32, last: &mut LastValue) -> Option<Value> {
        if is_before(number, self.needs) {
            return None;
        }
        last.answer(self.known).or_else(|| {
            let is_claim = self.known > last.version();
            is_claim.then_some(if last.is_absent() && last.version & IS_DELETION == 0 {
                Value::Absent { version: 0 }
            } else {
                Value::Unreached
            })
        })
    }

    /// Returns likewise the answer after a read that found a row of this version, 0 if it is not known, which cannot be
    /// read; `frame` makes the frame that says so of a version.
    pub(super) fn read_in_vain(
        &self,
        number: u32,
        version: u64,
        last: &mut LastValue,
        frame: impl FnOnce(u64) -> Frame,
    ) -> Option<Value> {
        let newest = last.version();
        if version == 0 {
            return Some(Value::Present { version: newest, frame: frame(newest) });
        }
        self.read(number, last).or_else(|| {
            let is_it = version == newest && !is_before(number, self.needs);
            is_it.then(|| Value::Present { version, frame: frame(version) })
        })
    }
}

/// Returns whether a wish's number is before another, of numbers that begin again after the greatest.
pub(super) const fn is_before(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) > u32::MAX / 2
}
