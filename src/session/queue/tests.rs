use proptest::prelude::*;

use super::*;
use crate::model::topic::testing::subject;
use crate::wire::websocket::Opcode;

/// A frame whose payload tells its topic and its version.
fn change(topic: u64, version: u64, padding: usize) -> (Subject, Frame) {
    let text = format!("{topic}:{version}:{}", "x".repeat(padding));
    (subject(topic), Frame::new(Opcode::Text, text.as_bytes()))
}

/// A queue with the same policy, which looks at everything each time.
struct Model {
    limits: SendQueueLimits,
    waiting: Vec<(Kind, Frame)>,
    skipped: u64,
}

impl Model {
    fn bytes(&self) -> usize {
        self.waiting.iter().map(|(_, frame)| frame.len()).sum()
    }

    fn frames(&self) -> usize {
        self.waiting.iter().filter(|(kind, _)| !matches!(kind, Kind::Word(_))).count()
    }

    fn fits(&self, frame: &Frame) -> bool {
        self.frames() == 0
            || (self.frames() < self.limits.frames_max && self.bytes() + frame.len() <= self.limits.bytes_max)
    }

    /// The frames that wait, changes apart.
    fn kept(&self) -> Vec<Frame> {
        let kept = self.waiting.iter().filter(|(kind, _)| !matches!(kind, Kind::Changes(_)));
        kept.map(|(_, frame)| frame.clone()).collect()
    }

    fn push(&mut self, subject: Subject, frame: Frame) -> bool {
        while !self.fits(&frame) {
            if self.limits.policy != SlowConsumerPolicy::Drop {
                return false;
            }
            let oldest = self.waiting.iter().position(|(kind, _)| matches!(kind, Kind::Changes(_)));
            self.skipped += 1;
            match oldest {
                Some(place) => self.waiting.remove(place),
                None => return true,
            };
        }
        self.waiting.push((Kind::Changes(subject), frame));
        true
    }

    /// The changes that give way, all of them.
    fn take_changes(&mut self) -> Vec<(Subject, Frame)> {
        let mut taken = Vec::new();
        self.waiting.retain(|(kind, frame)| {
            let Kind::Changes(subject) = kind else { return true };
            taken.push((subject.clone(), frame.clone()));
            false
        });
        taken
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many changes of one topic at once.
    Push {
        topic: u64,
        padding: usize,
        frames: usize,
    },
    State(usize),
    Word(Word),
    Control,
    TakeChanges,
    /// Rows with these numbers are not to be told any more.
    Withhold(Vec<u64>),
    TakeLive,
    /// The socket takes this many bytes, or all where fewer wait.
    Send(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let words = prop_oneof![Just(Word::Answer), Just(Word::Live), Just(Word::Absent), Just(Word::Other)];
    let step = prop_oneof![
        12 => (0u64..6, 0usize..40).prop_map(|(topic, padding)| Step::Push { topic, padding, frames: 1 }),
        6 => (0u64..6, 0usize..40, 2usize..6)
            .prop_map(|(topic, padding, frames)| Step::Push { topic, padding, frames }),
        3 => (0usize..40).prop_map(Step::State),
        2 => words.prop_map(Step::Word),
        2 => Just(Step::Control),
        1 => Just(Step::TakeChanges),
        1 => proptest::collection::vec(0u64..6, 0..4).prop_map(Step::Withhold),
        1 => Just(Step::TakeLive),
        4 => (0usize..200).prop_map(Step::Send),
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

/// The frames of a run.
fn frames(run: FrameRun) -> Vec<Frame> {
    let (mut frames, mut rest) = (Vec::new(), Some(run));
    while let Some(run) = rest {
        let ((_, frame), after) = run.split_first();
        frames.push(frame);
        rest = after;
    }
    frames
}

/// A queue and its model, which take the same steps.
struct Pair {
    queue: SendQueue,
    model: Model,
    sent: Vec<u8>,
    expected: Vec<u8>,
    /// The frames that the model's socket still has to take: one that was begun, then control frames.
    begun: Vec<u8>,
    control: Vec<Frame>,
    told: u64,
}

impl Pair {
    fn step(&mut self, step: &Step, number: u64) {
        let limits = self.model.limits;
        match *step {
            Step::Push { topic, padding, frames } => {
                let frames: Vec<(u64, Frame)> = (0..frames as u64)
                    .map(|n| number * 10 + n)
                    .map(|version| (version, change(topic, version, padding).1))
                    .collect();
                self.push(&subject(topic), frames);
            }
            Step::State(padding) => {
                let frame = change(9, number, padding).1;
                let fits = self.model.fits(&frame);
                assert_eq!(self.queue.has_room_for_state(frame.len(), &limits), fits);
                if fits {
                    let row = subject(number % 6);
                    self.queue.push_state(row.clone(), number, frame.clone());
                    self.model.waiting.push((Kind::state(row), frame));
                }
            }
            Step::Word(word) => {
                let frame = Frame::new(Opcode::Text, format!("word {number}").as_bytes());
                self.queue.push_word(word, frame.clone());
                self.model.waiting.push((Kind::Word(word), frame));
            }
            Step::Control => {
                let frame = Frame::new(Opcode::Pong, &number.to_be_bytes());
                self.queue.push_control(frame.clone());
                self.control.push(frame);
            }
            Step::TakeChanges => {
                let kept = self.model.kept();
                let apart = |(subject, run): (Subject, FrameRun)| {
                    frames(run).into_iter().map(move |one| (subject.clone(), one))
                };
                let taken: Vec<_> = self.queue.take_changes().into_iter().flat_map(apart).collect();
                assert_eq!(taken, self.model.take_changes());
                assert_eq!(self.model.kept(), kept);
            }
            Step::Withhold(ref numbers) => {
                let is_told = |row: &Subject| !numbers.iter().any(|number| subject(*number) == *row);
                // Of every other word something is left.
                let absent = |word: &[u8]| word.len().is_multiple_of(2).then(|| Frame::new(Opcode::Text, &word[2..]));
                self.queue.retain_rows(is_told, |word, _| absent(word));
                let retained = std::mem::take(&mut self.model.waiting).into_iter().filter_map(|(kind, frame)| {
                    let left = if kind == Kind::Word(Word::Absent) { absent(&frame) } else { Some(frame) };
                    left.filter(|_| kind.subject().is_none_or(|row| is_told(&row))).map(|frame| (kind, frame))
                });
                self.model.waiting = retained.collect();
            }
            Step::TakeLive => {
                let place = self.model.waiting.iter().position(|(kind, _)| *kind == Kind::Word(Word::Live));
                assert_eq!(self.queue.take_live(), place.is_some());
                place.map(|place| self.model.waiting.remove(place));
            }
            Step::Send(bytes) => {
                self.sent.extend(send(&mut self.queue, bytes));
                self.send_of_model(bytes);
            }
        }
    }

    fn push(&mut self, subject: &Subject, frames: Vec<(u64, Frame)>) {
        let limits = self.model.limits;
        if self.queue.push_run(subject, &FrameRun::join(&frames), &limits) {
            let before = self.model.skipped;
            assert!(frames.into_iter().all(|(_, frame)| self.model.push(subject.clone(), frame)));
            assert_eq!(self.model.skipped, before);
            return;
        }
        for (version, frame) in frames {
            let before = self.model.skipped;
            let pushed = self.queue.push(subject, version, frame.clone(), &limits);
            let expected = match (self.model.push(subject.clone(), frame), self.model.skipped - before) {
                (false, _) => Pushed::Full,
                (true, 0) => Pushed::Queued,
                (true, skipped) => Pushed::Skipped(skipped),
            };
            assert_eq!(pushed, expected);
        }
    }

    fn send_of_model(&mut self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            if self.begun.is_empty() {
                if !self.control.is_empty() {
                    self.begun = self.control.remove(0).to_vec();
                } else if !self.model.waiting.is_empty() {
                    self.begun = self.model.waiting.remove(0).1.to_vec();
                } else {
                    break;
                }
            }
            let taken = left.min(self.begun.len());
            self.expected.extend(self.begun.drain(..taken));
            left -= taken;
        }
    }

    fn check(&mut self) {
        let Self { queue, model, .. } = self;
        assert_eq!(self.sent, self.expected);
        let waiting: Vec<Frame> = queue.ordered.iter().flat_map(|waiting| frames(waiting.run.clone())).collect();
        assert_eq!(waiting, model.waiting.iter().map(|(_, frame)| frame.clone()).collect::<Vec<_>>());
        assert_eq!((queue.len(), queue.bytes()), (model.frames(), model.bytes()));
        let answers = model.waiting.iter().filter(|(kind, _)| *kind == Kind::Word(Word::Answer)).count();
        assert_eq!(queue.answers_len(), answers + self.control.len());
        assert!(queue.len() <= model.limits.frames_max);
        self.told += queue.take_skipped();
        assert_eq!(self.told, model.skipped);
    }
}

proptest! {
    #[test]
    fn it_does_what_a_naive_queue_does(limits in limits(), steps in steps()) {
        let mut pair = Pair {
            queue: SendQueue::new(),
            model: Model { limits, waiting: Vec::new(), skipped: 0 },
            sent: Vec::new(),
            expected: Vec::new(),
            begun: Vec::new(),
            control: Vec::new(),
            told: 0,
        };
        for (step, number) in steps.into_iter().zip(1u64..) {
            pair.step(&step, number);
            pair.check();
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
        .map(|(topic, version)| (change(topic, version, 0), version))
        .map(|((subject, frame), version)| queue.push(&subject, version, frame, &limits));
    (queue, pushed.to_vec())
}

#[test]
fn dropping_gives_up_the_oldest() {
    let (mut queue, _) = filled(SlowConsumerPolicy::Drop);
    assert_eq!(waiting(&mut queue), ["3:4:", "1:5:", "4:6:"]);
    assert_eq!(queue.take_skipped(), 3);
}

#[test]
fn a_full_queue_of_which_nothing_single_gives_way_is_not_changed() {
    for policy in [SlowConsumerPolicy::Disconnect, SlowConsumerPolicy::Conflate] {
        let (mut queue, pushed) = filled(policy);
        assert_eq!(pushed[3..], [Pushed::Full; 3]);
        assert_eq!(waiting(&mut queue), ["1:1:", "2:2:", "1:3:"]);
        assert_eq!(queue.take_skipped(), 0);
    }
}

#[test]
fn words_and_states_stay_where_they_are_when_changes_give_way() {
    let limits = SendQueueLimits { frames_max: 4, bytes_max: 1000, policy: SlowConsumerPolicy::Drop };
    let mut queue = SendQueue::new();
    let word = |text: &str| Frame::new(Opcode::Text, text.as_bytes());
    queue.push(&change(1, 1, 0).0, 1, change(1, 1, 0).1, &limits);
    queue.push_word(Word::Answer, word("answer"));
    queue.push_state(subject(2), 2, change(2, 2, 0).1);
    for version in 3..6 {
        queue.push(&change(3, version, 0).0, version, change(3, version, 0).1, &limits);
    }
    queue.push_word(Word::Live, word("live"));
    assert_eq!(waiting(&mut queue), ["answer", "2:2:", "3:3:", "3:4:", "3:5:", "live"]);
    assert_eq!(queue.take_skipped(), 1);
}

#[test]
fn a_change_gives_way_itself_where_nothing_else_can() {
    let limits = SendQueueLimits { frames_max: 1, bytes_max: 1000, policy: SlowConsumerPolicy::Drop };
    let mut queue = SendQueue::new();
    queue.push_state(subject(1), 1, change(1, 1, 0).1);
    assert_eq!(queue.push(&change(2, 2, 0).0, 2, change(2, 2, 0).1, &limits), Pushed::Skipped(1));
    assert_eq!(waiting(&mut queue), ["1:1:"]);
}

#[test]
fn a_drained_queue_holds_no_memory_of_its_burst() {
    let limits = SendQueueLimits { frames_max: 100, bytes_max: 10_000, policy: SlowConsumerPolicy::Drop };
    let mut queue = SendQueue::new();
    for version in 0..200 {
        let (subject, frame) = change(version % 150, version, 0);
        queue.push(&subject, version, frame, &limits);
    }
    send(&mut queue, usize::MAX);
    assert!(queue.is_empty() && queue.ordered.capacity() <= CAPACITY_KEPT);
}

#[test]
fn a_frame_above_the_byte_bound_is_sent_alone() {
    let limits = SendQueueLimits { frames_max: 10, bytes_max: 50, policy: SlowConsumerPolicy::Drop };
    let mut queue = SendQueue::new();
    let (subject, large) = change(1, 1, 60);
    assert_eq!(queue.push(&subject, 1, large.clone(), &limits), Pushed::Queued);
    assert_eq!(queue.push(&subject, 2, large, &limits), Pushed::Skipped(1));
    assert_eq!((queue.len(), queue.take_skipped()), (1, 1));
}
