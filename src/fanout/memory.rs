//! The bytes of a shard's last values, and the order in which they are forgotten: [`Memory`], pure data.

use std::collections::VecDeque;

use crate::model::topic::Topic;

/// The bytes of a value beside its frame: its box, the frame's count of references, its place in the order.
const HELD_BYTES: usize = 128;
/// The bytes of a topic's entry, which a topic without subscribers has for its value alone.
const ENTRY_BYTES: usize = 64;
/// The most used values that are passed over before one is forgotten all the same.
pub(super) const SPARED_MAX: usize = 16;

/// The count of the bytes that are held, and who is to be forgotten next: topics without subscribers first, then the
/// values that were not used since they were last considered.
#[derive(Debug)]
pub(super) struct Memory {
    bytes: usize,
    bytes_max: usize,
    subscribed: Line,
    /// Topics without subscribers, whose entries go with their values.
    idle: Line,
    next_stamp: u32,
}

/// Topics in the order in which they came, each with a stamp: the place counts while the value has that stamp.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<(Topic, u32)>,
    /// The number of places that count.
    counting: usize,
}

/// The value that is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Considered {
    pub(super) topic: Topic,
    pub(super) stamp: u32,
    /// True if the topic had no subscribers when it got this place.
    pub(super) is_idle: bool,
}

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, subscribed: Line::default(), idle: Line::default(), next_stamp: 0 }
    }

    pub(super) const fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Counts a value of a subscribed topic that is held from here on; returns the stamp of its place.
    pub(super) fn held(&mut self, topic: Topic, frame_bytes: usize) -> u32 {
        self.bytes += HELD_BYTES + frame_bytes;
        let stamp = self.stamp();
        self.subscribed.push(topic, stamp);
        stamp
    }

    /// Counts that a value took the place of another.
    pub(super) fn replaced(&mut self, bytes_before: usize, bytes: usize) {
        self.bytes = self.bytes - bytes_before + bytes;
    }

    /// Counts a value of a subscribed topic that is held no more.
    pub(super) fn let_go(&mut self, frame_bytes: usize) {
        self.bytes -= HELD_BYTES + frame_bytes;
        self.subscribed.counting -= 1;
    }

    /// Counts a value whose topic has lost its last subscriber; returns the stamp of its place.
    pub(super) fn idles(&mut self, topic: Topic) -> u32 {
        self.bytes += ENTRY_BYTES;
        self.subscribed.counting -= 1;
        let stamp = self.stamp();
        self.idle.push(topic, stamp);
        stamp
    }

    /// Counts a value whose topic has a subscriber again; returns the stamp of its place.
    pub(super) fn returns(&mut self, topic: Topic) -> u32 {
        self.bytes -= ENTRY_BYTES;
        self.idle.counting -= 1;
        let stamp = self.stamp();
        self.subscribed.push(topic, stamp);
        stamp
    }

    /// Counts an entry without subscribers that is gone with its value.
    pub(super) fn forgotten(&mut self, frame_bytes: usize) {
        self.bytes -= ENTRY_BYTES + HELD_BYTES + frame_bytes;
        self.idle.counting -= 1;
    }

    /// Returns the place that is to be considered next, if there is one. It counts if the value has its stamp.
    pub(super) fn consider(&mut self) -> Option<Considered> {
        let next = |line: &mut Line, is_idle| {
            let (topic, stamp) = line.places.pop_front()?;
            Some(Considered { topic, stamp, is_idle })
        };
        next(&mut self.idle, true).or_else(|| next(&mut self.subscribed, false))
    }

    /// Puts the place of a value that is spared at the end.
    pub(super) fn spare(&mut self, Considered { topic, stamp, .. }: Considered) {
        self.subscribed.places.push_back((topic, stamp));
    }

    /// Removes the places that do not count, if they are most.
    pub(super) fn tidy(&mut self, mut stamp_of: impl FnMut(Topic) -> Option<u32>) {
        for line in [&mut self.idle, &mut self.subscribed] {
            if line.is_untidy() {
                line.places.retain(|&(topic, stamp)| stamp_of(topic) == Some(stamp));
                line.places.shrink_to(2 * line.places.len());
            }
        }
    }

    pub(super) fn is_untidy(&self) -> bool {
        self.idle.is_untidy() || self.subscribed.is_untidy()
    }

    fn stamp(&mut self) -> u32 {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.next_stamp
    }

    /// Panics if the count is not the sum of these values, each with the bytes of its frame and whether it is idle.
    #[cfg(test)]
    pub(super) fn check(&self, values: impl Iterator<Item = (usize, bool)>) {
        let (mut bytes, mut counting) = (0, [0, 0]);
        for (frame_bytes, is_idle) in values {
            bytes += HELD_BYTES + frame_bytes + if is_idle { ENTRY_BYTES } else { 0 };
            counting[usize::from(is_idle)] += 1;
        }
        assert_eq!((self.bytes, [self.subscribed.counting, self.idle.counting]), (bytes, counting));
        assert!(!self.is_untidy());
    }
}

impl Line {
    fn push(&mut self, topic: Topic, stamp: u32) {
        self.places.push_back((topic, stamp));
        self.counting += 1;
    }

    fn is_untidy(&self) -> bool {
        const KEPT: usize = 64;
        self.places.len() > 2 * self.counting + KEPT
    }
}
