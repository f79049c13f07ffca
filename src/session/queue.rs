//! The frames that wait for one socket, and the treatment of a reader that is too slow: [`SendQueue`], pure data.
//!
//! Two lanes wait behind a frame of which the socket took only a part. Control frames (replies, pongs, close) go first
//! and are never dropped; the code that pushes them bounds them, by not reading from a peer that does not read. Changes
//! are bounded here, in frames and in bytes, and the [`SlowConsumerPolicy`] chooses the frames that give way.

use std::collections::VecDeque;
use std::io::IoSlice;

use clap::ValueEnum;
use hashbrown::HashMap;

use crate::model::product::ProductId;
use crate::wire::frame::{Frame, FrameRun};

/// The choice of the frames that give way when a [`SendQueue`] is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlowConsumerPolicy {
    /// The newest frame of a product replaces the one that still waits, from when the queue fills until it has
    /// drained. If that makes no room, because the waiting frames are of distinct products or the newer frame is
    /// larger, the oldest gives way.
    #[value(help = "The newest change of a product replaces the one that waits")]
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
    /// It waits, and this many frames gave way.
    Skipped(u64),
    /// The queue is full under [`SlowConsumerPolicy::Disconnect`]: nothing was changed.
    Overflow,
}

/// The bounded frames waiting for one socket.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// The rest of a frame that was sent in part; nothing may come between.
    partial: Option<Frame>,
    control: VecDeque<Frame>,
    changes: VecDeque<Waiting>,
    changes_frames: usize,
    changes_bytes: usize,
    /// Present while conflating. Boxed because few connections are slow.
    conflating: Option<Box<Conflating>>,
    skipped: u64,
}

/// Frames of one product, with their versions. While conflating, exactly one.
#[derive(Debug)]
struct Waiting {
    product: ProductId,
    run: FrameRun,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Waiting>() <= 56, "what one waiting change takes of a slow reader's memory");

/// The place of each waiting product's frame, while every product has one.
#[derive(Debug)]
struct Conflating {
    numbers_by_product: HashMap<ProductId, u64>,
    /// The number of frames that have left the front of the queue since: the number of the one that is there now.
    front_number: u64,
}

/// A lane of changes that grew beyond this gives its memory back when it is empty.
const CHANGES_CAPACITY_KEPT: usize = 4;

impl SendQueue {
    /// Returns an empty queue; it owns no memory until a frame waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change, and makes room for it by the policy if there is none.
    pub fn push(&mut self, product: ProductId, version: u64, frame: Frame, limits: &SendQueueLimits) -> Pushed {
        if self.conflating.is_none() && self.has_room_for(1, frame.len(), limits) {
            self.push_back(product, 1, FrameRun::one(version, frame));
            return Pushed::Queued;
        }
        let skipped = match limits.policy {
            SlowConsumerPolicy::Disconnect => return Pushed::Overflow,
            SlowConsumerPolicy::Drop => {
                let skipped = self.make_room(frame.len(), limits);
                self.push_back(product, 1, FrameRun::one(version, frame));
                skipped
            }
            SlowConsumerPolicy::Conflate => self.conflate(product, version, frame, limits),
        };
        self.skipped += skipped;
        if skipped == 0 { Pushed::Queued } else { Pushed::Skipped(skipped) }
    }

    /// Adds changes of one product at once, if they have room without the policy; returns whether they had.
    pub fn push_run(&mut self, product: ProductId, run: &FrameRun, limits: &SendQueueLimits) -> bool {
        let frames = run.frames();
        let has_room = self.conflating.is_none() && self.has_room_for(frames, run.len(), limits);
        if has_room {
            self.push_back(product, frames, run.clone());
        }
        has_room
    }

    /// Adds a frame that is never dropped and goes before all changes.
    pub fn push_control(&mut self, frame: Frame) {
        self.control.push_back(frame);
    }

    /// Returns the waiting bytes, if exactly one run waits: one change or several of one product in a row, and nothing
    /// else.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        let is_only = self.partial.is_none() && self.control.is_empty() && self.changes.len() == 1;
        if is_only { self.changes.front().map(|waiting| &*waiting.run) } else { None }
    }

    /// Fills `slices` with the bytes to send, in order, and returns the number of slices that it used.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let room = slices.len();
        let mut free = slices.iter_mut();
        // Two loops rather than one over a chain: it is a third of the instructions where one change waits.
        for (frame, slice) in self.partial.iter().chain(&self.control).zip(free.by_ref()) {
            *slice = IoSlice::new(frame);
        }
        for waiting in &self.changes {
            let Some(slice) = free.next() else { break };
            *slice = IoSlice::new(&waiting.run);
        }
        room - free.len()
    }

    /// Removes the first `sent` bytes, which the socket took, and returns the number of changes that left the queue
    /// (the last of them perhaps in part).
    ///
    /// # Panics
    /// If more was sent than waited.
    pub fn advance(&mut self, mut sent: usize) -> u64 {
        let frames_before = self.changes_frames;
        while sent > 0 {
            if self.partial.is_none()
                && self.control.is_empty()
                && let Some(front) = self.changes.front()
                && front.run.len() <= sent
            {
                sent -= front.run.len();
                drop(self.pop_front());
                continue;
            }
            let frame = (self.partial.take())
                .or_else(|| self.control.pop_front())
                .or_else(|| self.pop_front_frame())
                .expect("no more is sent than waits");
            if sent < frame.len() {
                self.partial = Some(frame.after(sent));
                break;
            }
            sent -= frame.len();
        }
        self.give_memory_back();
        (frames_before - self.changes_frames) as u64
    }

    /// Returns whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partial.is_none() && self.control.is_empty() && self.changes.is_empty()
    }

    /// Returns the number of control frames that wait whole.
    #[must_use]
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Returns the number of changes that wait whole.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes_frames
    }

    /// Returns the number of bytes of changes that wait in whole frames.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.changes_bytes
    }

    /// Returns the number of frames that gave way since this was last asked; the caller tells the reader.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Forgets all changes that wait whole, because the connection is closing.
    pub fn discard_changes(&mut self) {
        self.changes = VecDeque::new();
        self.changes_frames = 0;
        self.changes_bytes = 0;
        self.conflating = None;
        self.skipped = 0;
    }

    fn has_room_for(&self, frames: usize, bytes: usize, limits: &SendQueueLimits) -> bool {
        let is_let_in_alone = self.changes.is_empty() && frames == 1;
        let fits = self.changes_frames + frames <= limits.frames_max && self.changes_bytes + bytes <= limits.bytes_max;
        is_let_in_alone || fits
    }

    fn conflate(&mut self, product: ProductId, version: u64, frame: Frame, limits: &SendQueueLimits) -> u64 {
        let mut skipped = self.start_conflating();
        let conflating = self.conflating.as_ref().expect("it was started");
        if let Some(&number) = conflating.numbers_by_product.get(&product) {
            let index = usize::try_from(number - conflating.front_number).expect("the queue fits in memory");
            let waiting = &mut self.changes[index];
            self.changes_bytes = self.changes_bytes - waiting.run.len() + frame.len();
            waiting.run = FrameRun::one(version, frame);
            skipped += 1;
            while self.changes_bytes > limits.bytes_max && self.changes.len() > 1 {
                self.pop_front();
                skipped += 1;
            }
            return skipped;
        }
        skipped += self.make_room(frame.len(), limits);
        let place = self.changes.len() as u64;
        if let Some(conflating) = &mut self.conflating {
            conflating.numbers_by_product.insert(product, conflating.front_number + place);
        }
        self.push_back(product, 1, FrameRun::one(version, frame));
        skipped
    }

    /// Leaves of each product the newest frame, at the place of the oldest; returns the number that gave way.
    fn start_conflating(&mut self) -> u64 {
        if self.conflating.is_some() {
            return 0;
        }
        let frames_before = self.changes_frames;
        let mut numbers_by_product: HashMap<ProductId, u64> = HashMap::with_capacity(self.changes.len());
        let mut kept: VecDeque<Waiting> = VecDeque::with_capacity(self.changes.len());
        for Waiting { product, run } in self.changes.drain(..) {
            let newest = Waiting { product, run: run.into_last() };
            let next = kept.len() as u64;
            let place = usize::try_from(*numbers_by_product.entry(product).or_insert(next));
            match kept.get_mut(place.expect("the queue fits in memory")) {
                Some(older) => *older = newest,
                None => kept.push_back(newest),
            }
        }
        self.changes = kept;
        self.changes_frames = self.changes.len();
        self.changes_bytes = self.changes.iter().map(|waiting| waiting.run.len()).sum();
        self.conflating = Some(Box::new(Conflating { numbers_by_product, front_number: 0 }));
        (frames_before - self.changes_frames) as u64
    }

    fn make_room(&mut self, frame_bytes: usize, limits: &SendQueueLimits) -> u64 {
        let mut skipped = 0;
        while !self.has_room_for(1, frame_bytes, limits) {
            self.pop_front_frame();
            skipped += 1;
        }
        skipped
    }

    fn push_back(&mut self, product: ProductId, frames: usize, run: FrameRun) {
        self.changes_frames += frames;
        self.changes_bytes += run.len();
        self.changes.push_back(Waiting { product, run });
    }

    /// Takes the oldest frame, which may be the first of several.
    fn pop_front_frame(&mut self) -> Option<Frame> {
        let Waiting { product, run } = self.pop_front()?;
        let ((_, frame), rest) = run.split_first();
        if let Some(run) = rest {
            self.changes_frames += run.frames();
            self.changes_bytes += run.len();
            self.changes.push_front(Waiting { product, run });
        }
        Some(frame)
    }

    #[inline]
    fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.changes.pop_front()?;
        self.changes_frames -= waiting.run.frames();
        self.changes_bytes -= waiting.run.len();
        if let Some(conflating) = &mut self.conflating {
            conflating.numbers_by_product.remove(&waiting.product);
            conflating.front_number += 1;
        }
        Some(waiting)
    }

    fn give_memory_back(&mut self) {
        // Control frames are rare.
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
        if self.changes.is_empty() {
            self.conflating = None;
            if self.changes.capacity() > CHANGES_CAPACITY_KEPT {
                self.changes = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests;
