//! The frames that wait for one socket, and what happens when the reader is too slow: [`SendQueue`], pure data.
//!
//! Two lanes wait behind a frame of which the socket took only a part. Control frames (replies, pongs, close) go first
//! and are never dropped; whoever pushes them bounds them, by not reading from a peer that does not read. Changes are
//! bounded here, in frames and in bytes, and the [`SlowConsumerPolicy`] says what gives way.

use std::collections::VecDeque;
use std::io::IoSlice;

use hashbrown::HashMap;

use crate::frame::Frame;
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
    changes_bytes: usize,
    /// How many frames have left the front of `changes`: the number of the frame that is there now.
    front_number: u64,
    /// While conflating: the number of the frame of each waiting product. Boxed because few connections are slow.
    numbers_by_product: Option<Box<HashMap<ProductId, u64>>>,
    skipped: u64,
}

#[derive(Debug)]
struct Waiting {
    product: ProductId,
    frame: Frame,
}

/// A lane that grew beyond this gives its memory back when it is empty.
const LANE_CAPACITY_KEPT: usize = 4;

impl SendQueue {
    /// An empty queue; it owns no memory until a frame waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change, and makes room for it by the policy where there is none.
    pub fn push(&mut self, product: ProductId, frame: Frame, limits: &SendQueueLimits) -> Pushed {
        let skipped = match limits.policy {
            _ if self.numbers_by_product.is_none() && self.has_room(frame.len(), limits) => {
                self.push_back(product, frame);
                return Pushed::Queued;
            }
            SlowConsumerPolicy::Disconnect => return Pushed::Overflow,
            SlowConsumerPolicy::Drop => {
                let skipped = self.make_room(frame.len(), limits);
                self.push_back(product, frame);
                skipped
            }
            SlowConsumerPolicy::Conflate => self.conflate(product, frame, limits),
        };
        self.skipped += skipped;
        if skipped == 0 { Pushed::Queued } else { Pushed::Skipped(skipped) }
    }

    /// Adds a frame that is never dropped and goes before all changes.
    pub fn push_control(&mut self, frame: Frame) {
        self.control.push_back(frame);
    }

    /// Whether a change of this many bytes fits without the policy.
    #[must_use]
    pub fn has_room(&self, frame_bytes: usize, limits: &SendQueueLimits) -> bool {
        self.changes.is_empty()
            || (self.changes.len() < limits.frames_max && self.changes_bytes + frame_bytes <= limits.bytes_max)
    }

    /// Fills `slices` with what is to be sent, in order, and returns how many it used.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let waiting = self.partial.iter().chain(&self.control).chain(self.changes.iter().map(|waiting| &waiting.frame));
        let mut used = 0;
        for (slice, frame) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(frame);
            used += 1;
        }
        used
    }

    /// Removes the first `sent` bytes, which the socket took, and returns how many changes left the queue (the last of them
    /// perhaps in part).
    ///
    /// # Panics
    /// If more was sent than waited.
    pub fn advance(&mut self, mut sent: usize) -> u64 {
        let front_before = self.front_number;
        while sent > 0 {
            let frame = (self.partial.take())
                .or_else(|| self.control.pop_front())
                .or_else(|| self.pop_front())
                .expect("no more is sent than waits");
            if sent < frame.len() {
                self.partial = Some(frame.rest(sent));
                break;
            }
            sent -= frame.len();
        }
        if self.control.is_empty() && self.control.capacity() > LANE_CAPACITY_KEPT {
            self.control = VecDeque::new();
        }
        if self.changes.is_empty() {
            self.numbers_by_product = None;
            if self.changes.capacity() > LANE_CAPACITY_KEPT {
                self.changes = VecDeque::new();
            }
        }
        self.front_number - front_before
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
        self.changes.len()
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
        self.changes_bytes = 0;
        self.numbers_by_product = None;
        self.skipped = 0;
    }

    fn conflate(&mut self, product: ProductId, frame: Frame, limits: &SendQueueLimits) -> u64 {
        let mut skipped = self.start_conflating();
        let number = self.numbers_by_product.as_ref().and_then(|numbers| numbers.get(&product).copied());
        if let Some(number) = number {
            let index = usize::try_from(number - self.front_number).expect("the queue fits in memory");
            self.changes_bytes = self.changes_bytes - self.changes[index].frame.len() + frame.len();
            self.changes[index].frame = frame;
            skipped += 1;
            while self.changes_bytes > limits.bytes_max && self.changes.len() > 1 {
                self.pop_front();
                skipped += 1;
            }
            return skipped;
        }
        skipped += self.make_room(frame.len(), limits);
        let number = self.front_number + self.changes.len() as u64;
        if let Some(numbers) = &mut self.numbers_by_product {
            numbers.insert(product, number);
        }
        self.push_back(product, frame);
        skipped
    }

    /// Leaves of each product the newest frame, where the oldest stood; how many gave way.
    fn start_conflating(&mut self) -> u64 {
        if self.numbers_by_product.is_some() {
            return 0;
        }
        let before = self.changes.len();
        let mut numbers: HashMap<ProductId, u64> = HashMap::with_capacity(before);
        let mut kept: VecDeque<Waiting> = VecDeque::with_capacity(before);
        for waiting in self.changes.drain(..) {
            let next = kept.len();
            let place = usize::try_from(*numbers.entry(waiting.product).or_insert(next as u64));
            match kept.get_mut(place.expect("the queue fits in memory")) {
                Some(older) => {
                    self.changes_bytes -= older.frame.len();
                    *older = waiting;
                }
                None => kept.push_back(waiting),
            }
        }
        self.front_number = 0;
        self.changes = kept;
        self.numbers_by_product = Some(Box::new(numbers));
        (before - self.changes.len()) as u64
    }

    fn make_room(&mut self, frame_bytes: usize, limits: &SendQueueLimits) -> u64 {
        let mut skipped = 0;
        while !self.has_room(frame_bytes, limits) {
            self.pop_front();
            skipped += 1;
        }
        skipped
    }

    fn push_back(&mut self, product: ProductId, frame: Frame) {
        self.changes_bytes += frame.len();
        self.changes.push_back(Waiting { product, frame });
    }

    fn pop_front(&mut self) -> Option<Frame> {
        let waiting = self.changes.pop_front()?;
        self.changes_bytes -= waiting.frame.len();
        if let Some(numbers) = &mut self.numbers_by_product {
            numbers.remove(&waiting.product);
        }
        self.front_number += 1;
        Some(waiting.frame)
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
        Push {
            product: u64,
            padding: usize,
        },
        Control,
        /// The socket takes this many bytes, or all where fewer wait.
        Send(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0u64..6, 0usize..40).prop_map(|(product, padding)| Step::Push { product, padding }),
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
                    Step::Push { product, padding } => {
                        let (product, frame) = change(product, version, padding);
                        let before = model.skipped;
                        let pushed = queue.push(product, frame.clone(), &limits);
                        let expected_push = match (model.push(product, frame), model.skipped - before) {
                            (false, _) => Pushed::Overflow,
                            (true, 0) => Pushed::Queued,
                            (true, skipped) => Pushed::Skipped(skipped),
                        };
                        prop_assert_eq!(pushed, expected_push);
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
        assert!(queue.is_empty() && queue.numbers_by_product.is_none());
        assert!(queue.changes.capacity() <= LANE_CAPACITY_KEPT);
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
