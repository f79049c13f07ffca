use proptest::prelude::*;

use super::*;
use crate::wire::websocket::Opcode;

/// A frame whose payload tells its product and its version.
fn change(product: u64, version: u64, padding: usize) -> (ProductId, Frame) {
    let text = format!("{product}:{version}:{}", "x".repeat(padding));
    (ProductId::new(product).unwrap(), Frame::new(Opcode::Text, text.as_bytes()))
}

/// A queue with the same policy, which looks at everything each time.
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

    /// The version that the text of each waiting frame tells.
    fn versions(&self) -> Vec<u64> {
        let text = |frame: &Frame| String::from_utf8(frame[2..].to_vec()).unwrap();
        self.waiting.iter().map(|(_, frame)| text(frame).split(':').nth(1).unwrap().parse().unwrap()).collect()
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

/// The version of each change that waits whole.
fn versions(queue: &SendQueue) -> Vec<u64> {
    queue.changes.iter().flat_map(|waiting| waiting.run.versions().to_vec()).collect()
}

proptest! {
    #[test]
    fn it_does_what_a_naive_queue_does(limits in limits(), steps in steps()) {
        let mut queue = SendQueue::new();
        let mut model = Model { limits, waiting: Vec::new(), conflating: false, skipped: 0 };
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        // The frames that the model's socket still has to take: one that was begun, then control frames.
        let mut begun: Vec<u8> = Vec::new();
        let mut control: Vec<Frame> = Vec::new();
        let mut told = 0;
        for (step, version) in steps.into_iter().zip(1u64..) {
            match step {
                Step::Push { product, padding, frames } => {
                    let frames: Vec<(u64, Frame)> = (0..frames as u64)
                        .map(|n| version * 10 + n)
                        .map(|version| (version, change(product, version, padding).1))
                        .collect();
                    let product = ProductId::new(product).unwrap();
                    if queue.push_run(product, &FrameRun::join(&frames), &limits) {
                        let before = model.skipped;
                        prop_assert!(!model.conflating || model.waiting.is_empty());
                        prop_assert!(frames.into_iter().all(|(_, frame)| model.push(product, frame)));
                        prop_assert_eq!(model.skipped, before);
                        continue;
                    }
                    for (version, frame) in frames {
                        let before = model.skipped;
                        let pushed = queue.push(product, version, frame.clone(), &limits);
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
            prop_assert_eq!(versions(&queue), model.versions());
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
        .map(|(product, version)| (change(product, version, 0), version))
        .map(|((product, frame), version)| queue.push(product, version, frame, &limits));
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
        queue.push(product, version, frame, &limits);
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
    assert_eq!(queue.push(product, 1, large.clone(), &limits), Pushed::Queued);
    assert_eq!(queue.push(product, 2, large, &limits), Pushed::Skipped(1));
    assert_eq!((queue.len(), queue.take_skipped()), (1, 1));
}
