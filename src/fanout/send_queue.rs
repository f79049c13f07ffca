//! The frames that wait for one socket, and what happens when the reader is too slow: [`SendQueue`], pure data.
//!
//! Two lanes wait behind a frame of which the socket took only a part. Control frames (replies, pongs, close) go first
//! and are never dropped; whoever pushes them bounds them, by not reading from a peer that does not read. Changes are
//! bounded here, in frames and in bytes, and the [`SlowConsumerPolicy`] says what gives way.

use std::collections::VecDeque;
use std::io::IoSlice;

use hashbrown::HashMap;

use crate::frame::{Frame, FrameRun};
use crate::product::ProductId;

/// What gives way when a [`SendQueue`] is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// The newest frame of a product replaces the one that still waits, from when the queue fills until it has
    /// drained. Where that makes no room, because what waits is of distinct products or the newer frame is larger, the
    /// oldest gives way.
    Conflate,
    /// The oldest frame gives way.
    Drop,
    /// Nothing gives way; the connection is to be closed.
    Disconnect,
}

impl SlowConsumerPolicy {
    /// The value of the label `policy` in `/metrics`.
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
    /// What gives way.
    pub policy: SlowConsumerPolicy,
}

/// What became of a pushed frame.
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
    /// What is left of a frame that was sent in part; nothing may come between.
    partial: Option<Frame>,
    control: VecDeque<Frame>,
    changes: VecDeque<Waiting>,
    changes_frames: usize,
    changes_bytes: usize,
    /// While conflating. Boxed because few connections are slow.
    conflating: Option<Box<Conflating>>,
    skipped: u64,
}

/// Frames of one product. While conflating, exactly one.
#[derive(Debug)]
struct Waiting {
    product: ProductId,
    run: FrameRun,
}

/// Where the frame of each waiting product stands, while every product has one.
#[derive(Debug)]
struct Conflating {
    numbers_by_product: HashMap<ProductId, u64>,
    /// How many frames have left the front of the queue since: the number of the one that is there now.
    front_number: u64,
}

/// A lane of changes that grew beyond this gives its memory back when it is empty.
const CHANGES_CAPACITY_KEPT: usize = 4;

impl SendQueue {
    /// An empty queue; it owns no memory until a frame waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change, and makes room for it by the policy where there is none.
    pub fn push(&mut self, product: ProductId, frame: Frame, limits: &SendQueueLimits) -> Pushed {
        let skipped = match limits.policy {
            _ if self.conflating.is_none() && self.has_room_for(1, frame.len(), limits) => {
                self.push_back(product, frame.into());
                return Pushed::Queued;
            }
            SlowConsumerPolicy::Disconnect => return Pushed::Overflow,
            SlowConsumerPolicy::Drop => {
                let skipped = self.make_room(frame.len(), limits);
                self.push_back(product, frame.into());
                skipped
            }
            SlowConsumerPolicy::Conflate => self.conflate(product, frame, limits),
        };
        self.skipped += skipped;
        if skipped == 0 { Pushed::Queued } else { Pushed::Skipped(skipped) }
    }

    /// Adds changes of one product at once, if they have room without the policy; whether they had.
    pub fn push_run(&mut self, product: ProductId, run: &FrameRun, limits: &SendQueueLimits) -> bool {
        let has_room = self.conflating.is_none() && self.has_room_for(run.frames(), run.len(), limits);
        if has_room {
            self.push_back(product, run.clone());
        }
        has_room
    }

    /// Adds a frame that is never dropped and goes before all changes.
    pub fn push_control(&mut self, frame: Frame) {
        self.control.push_back(frame);
    }

    /// What waits, where that is one change or several of one product in a row, and nothing else.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        let is_only = self.partial.is_none() && self.control.is_empty() && self.changes.len() == 1;
        if is_only { self.changes.front().map(|waiting| &*waiting.run) } else { None }
    }

    /// Fills `slices` with what is to be sent, in order, and returns how many it used.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let first = self.partial.iter().chain(&self.control).map(|frame| &**frame);
        let waiting = first.chain(self.changes.iter().map(|waiting| &*waiting.run));
        let mut used = 0;
        for (slice, bytes) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    /// Removes the first `sent` bytes, which the socket took, and returns how many changes left the queue (the last of
    /// them perhaps in part).
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
                self.pop_front();
                continue;
            }
            let frame = (self.partial.take())
                .or_else(|| self.control.pop_front())
                .or_else(|| self.pop_front_frame())
                .expect("no more is sent than waits");
            if sent < frame.len() {
                self.partial = Some(frame.rest(sent));
                break;
            }
            sent -= frame.len();
        }
        self.give_memory_back();
        (frames_before - self.changes_frames) as u64
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partial.is_none() && self.control.is_empty() && self.changes.is_empty()
    }

    /// How many control frames wait whole.
    #[must_use]
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// How many changes wait whole.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes_frames
    }

    /// How many bytes of changes wait in whole frames.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.changes_bytes
    }

    /// How many frames gave way since this was last asked; the caller tells the reader.
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

    fn conflate(&mut self, product: ProductId, frame: Frame, limits: &SendQueueLimits) -> u64 {
        let mut skipped = self.start_conflating();
        let conflating = self.conflating.as_ref().expect("it was started");
        if let Some(&number) = conflating.numbers_by_product.get(&product) {
            let index = usize::try_from(number - conflating.front_number).expect("the queue fits in memory");
            self.changes_bytes = self.changes_bytes - self.changes[index].run.len() + frame.len();
            self.changes[index].run = frame.into();
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
        self.push_back(product, frame.into());
        skipped
    }

    /// Leaves of each product the newest frame, where the oldest stood; how many gave way.
    fn start_conflating(&mut self) -> u64 {
        if self.conflating.is_some() {
            return 0;
        }
        let frames_before = self.changes_frames;
        let mut numbers_by_product: HashMap<ProductId, u64> = HashMap::with_capacity(self.changes.len());
        let mut kept: VecDeque<Waiting> = VecDeque::with_capacity(self.changes.len());
        for Waiting { product, run } in self.changes.drain(..) {
            let newest = Waiting { product, run: run.last().into() };
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

    fn push_back(&mut self, product: ProductId, run: FrameRun) {
        self.changes_frames += run.frames();
        self.changes_bytes += run.len();
        self.changes.push_back(Waiting { product, run });
    }

    /// Takes the oldest frame, which may be the first of several.
    fn pop_front_frame(&mut self) -> Option<Frame> {
        let Waiting { product, run } = self.pop_front()?;
        let (frame, rest) = run.split_first();
        if let Some(run) = rest {
            self.changes_frames += run.frames();
            self.changes_bytes += run.len();
            self.changes.push_front(Waiting { product, run });
        }
        Some(frame)
    }

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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Opcode;

    /// A frame whose payload tells its product and its version.
    fn change(product: u64, version: u64, padding: usize) -> (ProductId, Frame) {
        let text = format!("{product}:{version}:{}", "x".repeat(padding));
        (ProductId::new(product).unwrap(), Frame::new(Opcode::Text, text.as_bytes()))
    }

    /// What a queue with the same policy would hold, found by looking at everything each time.
    struct Model {
        limits: SendQueueLimits,
        waiting: Vec<(ProductId, Frame)>,
        conflating: bool,
        skipped: u64,
    }

    impl Model {
        fn bytes(&self) -> usize {
            self.waiting.iter().map(|(_, frame)| frame.len()).sum()
        }

        fn fits(&self, frame: &Frame) -> bool {
            self.waiting.is_empty()
                || (self.waiting.len() < self.limits.frames_max && self.bytes() + frame.len() <= self.limits.bytes_max)
        }

        fn drop_oldest(&mut self) {
            self.waiting.remove(0);
            self.skipped += 1;
        }

        fn push(&mut self, product: ProductId, frame: Frame) -> bool {
            if self.waiting.is_empty() {
                self.conflating = false;
            }
            if !self.conflating && self.fits(&frame) {
                self.waiting.push((product, frame));
                return true;
            }
            if self.limits.policy == SlowConsumerPolicy::Disconnect {
                return false;
            }
            if self.limits.policy == SlowConsumerPolicy::Conflate {
                if !self.conflating {
                    self.conflating = true;
                    let mut kept: Vec<(ProductId, Frame)> = Vec::new();
                    for (product, frame) in self.waiting.drain(..) {
                        if let Some(older) = kept.iter_mut().find(|(other, _)| *other == product) {
                            older.1 = frame;
                            self.skipped += 1;
                        } else {
                            kept.push((product, frame));
                        }
                    }
                    self.waiting = kept;
                }
                if let Some(place) = self.waiting.iter().position(|(other, _)| *other == product) {
                    self.waiting[place].1 = frame;
                    self.skipped += 1;
                    while self.bytes() > self.limits.bytes_max && self.waiting.len() > 1 {
                        self.drop_oldest();
                    }
                    return true;
                }
            }
            while !self.fits(&frame) {
                self.drop_oldest();
            }
            self.waiting.push((product, frame));
            true
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many changes of one product at once.
        Push {
            product: u64,
            padding: usize,
            frames: usize,
        },
        Control,
        /// The socket takes this many bytes, or all where fewer wait.
        Send(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0u64..6, 0usize..40).prop_map(|(product, padding)| Step::Push { product, padding, frames: 1 }),
            3 => (0u64..6, 0usize..40, 2usize..6)
                .prop_map(|(product, padding, frames)| Step::Push { product, padding, frames }),
            1 => Just(Step::Control),
            2 => (0usize..200).prop_map(Step::Send),
        ];
        proptest::collection::vec(step, 0..120)
    }

    fn limits() -> impl Strategy<Value = SendQueueLimits> {
        use SlowConsumerPolicy::{Conflate, Disconnect, Drop};
        let policy = prop_oneof![Just(Conflate), Just(Drop), Just(Disconnect)];
        (1usize..8, 1usize..150, policy).prop_map(|(frames_max, bytes_max, policy)| SendQueueLimits {
            frames_max,
            bytes_max,
            policy,
        })
    }

    /// Sends up to `bytes` through slices of a few frames at a time, and returns them.
    fn send(queue: &mut SendQueue, bytes: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while sent.len() < bytes && !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = queue.fill(&mut slices);
            let all: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = all.len().min(bytes - sent.len());
            sent.extend_from_slice(&all[..taken]);
            queue.advance(taken);
        }
        sent
    }

    proptest! {
        #[test]
        fn it_does_what_a_naive_queue_does(limits in limits(), steps in steps()) {
            let mut queue = SendQueue::new();
            let mut model = Model { limits, waiting: Vec::new(), conflating: false, skipped: 0 };
            let mut sent = Vec::new();
            let mut expected = Vec::new();
            // What the model's socket still has to take, frame by frame: a frame that was begun, then control frames.
            let mut begun: Vec<u8> = Vec::new();
            let mut control: Vec<Frame> = Vec::new();
            let mut told = 0;
            for (step, version) in steps.into_iter().zip(1u64..) {
                match step {
                    Step::Push { product, padding, frames } => {
                        let frames: Vec<Frame> =
                            (0..frames as u64).map(|n| change(product, version * 10 + n, padding).1).collect();
                        let product = ProductId::new(product).unwrap();
                        if queue.push_run(product, &FrameRun::join(&frames), &limits) {
                            let before = model.skipped;
                            prop_assert!(!model.conflating || model.waiting.is_empty());
                            prop_assert!(frames.into_iter().all(|frame| model.push(product, frame)));
                            prop_assert_eq!(model.skipped, before);
                            continue;
                        }
                        for frame in frames {
                            let before = model.skipped;
                            let pushed = queue.push(product, frame.clone(), &limits);
                            let expected_push = match (model.push(product, frame), model.skipped - before) {
                                (false, _) => Pushed::Overflow,
                                (true, 0) => Pushed::Queued,
                                (true, skipped) => Pushed::Skipped(skipped),
                            };
                            prop_assert_eq!(pushed, expected_push);
                        }
                    }
                    Step::Control => {
                        let frame = Frame::new(Opcode::Pong, &version.to_be_bytes());
                        queue.push_control(frame.clone());
                        control.push(frame);
                    }
                    Step::Send(bytes) => {
                        sent.extend(send(&mut queue, bytes));
                        let mut left = bytes;
                        while left > 0 {
                            if begun.is_empty() {
                                if !control.is_empty() {
                                    begun = control.remove(0).to_vec();
                                } else if !model.waiting.is_empty() {
                                    begun = model.waiting.remove(0).1.to_vec();
                                } else {
                                    break;
                                }
                            }
                            let taken = left.min(begun.len());
                            expected.extend(begun.drain(..taken));
                            left -= taken;
                        }
                        if model.waiting.is_empty() {
                            model.conflating = false;
                        }
                    }
                }
                prop_assert_eq!(&sent, &expected);
                prop_assert_eq!(queue.len(), model.waiting.len());
                prop_assert_eq!(queue.bytes(), model.bytes());
                prop_assert!(queue.len() <= limits.frames_max);
                prop_assert!(queue.bytes() <= limits.bytes_max || queue.len() == 1);
                told += queue.take_skipped();
                prop_assert_eq!(told, model.skipped);
            }
        }
    }

    fn waiting(queue: &mut SendQueue) -> Vec<String> {
        let mut texts = Vec::new();
        let bytes = send(queue, usize::MAX);
        let mut rest = &bytes[..];
        while let [_, length, tail @ ..] = rest {
            let (text, after) = tail.split_at(usize::from(*length));
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            rest = after;
        }
        texts
    }

    fn filled(policy: SlowConsumerPolicy) -> (SendQueue, Vec<Pushed>) {
        let limits = SendQueueLimits { frames_max: 3, bytes_max: 1000, policy };
        let mut queue = SendQueue::new();
        let pushed = [(1, 1), (2, 2), (1, 3), (3, 4), (1, 5), (4, 6)]
            .map(|(product, version)| change(product, version, 0))
            .map(|(product, frame)| queue.push(product, frame, &limits));
        (queue, pushed.to_vec())
    }

    #[test]
    fn conflating_keeps_the_newest_of_each_product() {
        use Pushed::{Queued, Skipped};
        let (mut queue, pushed) = filled(SlowConsumerPolicy::Conflate);
        assert_eq!(pushed, [Queued, Queued, Queued, Skipped(1), Skipped(1), Skipped(1)]);
        assert_eq!(waiting(&mut queue), ["2:2:", "3:4:", "4:6:"]);
        assert_eq!(queue.take_skipped(), 3);
    }

    #[test]
    fn dropping_gives_up_the_oldest() {
        let (mut queue, _) = filled(SlowConsumerPolicy::Drop);
        assert_eq!(waiting(&mut queue), ["3:4:", "1:5:", "4:6:"]);
        assert_eq!(queue.take_skipped(), 3);
    }

    #[test]
    fn disconnecting_changes_nothing() {
        let (mut queue, pushed) = filled(SlowConsumerPolicy::Disconnect);
        assert_eq!(pushed[3..], [Pushed::Overflow; 3]);
        assert_eq!(waiting(&mut queue), ["1:1:", "2:2:", "1:3:"]);
        assert_eq!(queue.take_skipped(), 0);
    }

    #[test]
    fn a_drained_queue_holds_no_memory_of_its_burst() {
        let limits = SendQueueLimits { frames_max: 100, bytes_max: 10_000, policy: SlowConsumerPolicy::Conflate };
        let mut queue = SendQueue::new();
        for version in 0..200 {
            let (product, frame) = change(version % 150, version, 0);
            queue.push(product, frame, &limits);
        }
        send(&mut queue, usize::MAX);
        assert!(queue.is_empty() && queue.conflating.is_none());
        assert!(queue.changes.capacity() <= CHANGES_CAPACITY_KEPT);
    }

    #[test]
    fn a_frame_above_the_byte_bound_is_sent_alone() {
        let limits = SendQueueLimits { frames_max: 10, bytes_max: 50, policy: SlowConsumerPolicy::Drop };
        let mut queue = SendQueue::new();
        let (product, large) = change(1, 1, 60);
        assert_eq!(queue.push(product, large.clone(), &limits), Pushed::Queued);
        assert_eq!(queue.push(product, large, &limits), Pushed::Skipped(1));
        assert_eq!((queue.len(), queue.take_skipped()), (1, 1));
    }
}
