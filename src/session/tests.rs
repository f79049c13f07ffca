//! A session between a socket that takes any part of its bytes, shards that answer at any time, and a peer that sends
//! anything: in every order of events, the bytes that the socket took are such as a reader may be told.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::commands::{COMMANDS_IDS_MAX, COMMANDS_MAX};
use super::queue::SlowConsumerPolicy;
use super::*;
use crate::fanout::Operation;
use crate::session::command::{ReplyId, Why};

const SUBSCRIPTIONS_MAX: usize = 12;
/// The largest frame of a change, and the largest of everything else.
const FRAME_BYTES_MAX: usize = 400;
const ANSWER_BYTES_MAX: usize = 300;

#[derive(Clone, Debug)]
enum Step {
    /// So many changes of one product at once.
    Push {
        product: u64,
        padding: usize,
        frames: usize,
    },
    Flush,
    Command {
        subscribe: bool,
        products: Vec<u64>,
    },
    NoCommand,
    Ping(u8),
    /// The shards tell that they have carried one of the commands out.
    Applied(prop::sample::Index),
    /// The socket has room for so many bytes.
    Room(usize),
    Seconds(u32),
    Released,
    Close(Cause),
    Gone,
}

/// The causes that close a session at once.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Restart,
    Peer,
    Broken,
    Binary,
    TokenExpired,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = prop::collection::vec(0..20_u64, 0..8);
    let closes = prop_oneof![
        Just(Cause::Restart),
        Just(Cause::Peer),
        Just(Cause::Broken),
        Just(Cause::Binary),
        Just(Cause::TokenExpired),
    ];
    let step = prop_oneof![
        30 => (0..5_u64, 0..300_usize, 1..6_usize)
            .prop_map(|(product, padding, frames)| Step::Push { product, padding, frames }),
        15 => Just(Step::Flush),
        20 => (any::<bool>(), ids).prop_map(|(subscribe, products)| Step::Command { subscribe, products }),
        4 => Just(Step::NoCommand),
        6 => any::<u8>().prop_map(Step::Ping),
        20 => any::<prop::sample::Index>().prop_map(Step::Applied),
        20 => (0..900_usize).prop_map(Step::Room),
        3 => (1..40_u32).prop_map(Step::Seconds),
        4 => Just(Step::Released),
        1 => closes.prop_map(Step::Close),
        1 => Just(Step::Gone),
    ];
    prop::collection::vec(step, 1..160)
}

/// A session and what surrounds it, with what is expected of it.
struct World {
    session: Session,
    limits: SessionLimits,
    now: Second,
    look_at: BTreeSet<Second>,
    /// Room in the socket, and what it has taken.
    room: usize,
    taken: Vec<u8>,
    /// The commands that the shards have, each with its number of products: they carry commands out in the order in which
    /// they get them, and tell in any order.
    with_shards: Vec<(u32, usize)>,
    subscribed: BTreeSet<ProductId>,
    /// The answers that are expected, in their order.
    answers: Vec<String>,
    asked: BTreeSet<u64>,
    version: u64,
    skipped: u64,
    /// The bytes that the socket had taken when the session began to close.
    closed_at: Option<usize>,
    ended: Option<CloseReason>,
    /// The seconds in which the peer closed, and in which the session began to.
    peer_closed_at: Option<Second>,
    closed_in: Option<Second>,
    /// True if the socket has failed; true if the session was ended by its deadline.
    is_gone: bool,
    is_cut: bool,
}

impl World {
    fn new(policy: SlowConsumerPolicy, units_per_second_max: u32) -> Self {
        let queue = SendQueueLimits { frames_max: 6, bytes_max: 1000, policy };
        let limits = SessionLimits {
            queue,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            message_bytes_max: 1000,
            units_per_second_max,
            ping_after: 25,
        };
        let mut world = Self {
            session: Session::new(0, None),
            limits,
            now: 0,
            look_at: BTreeSet::new(),
            room: 500,
            taken: Vec::new(),
            with_shards: Vec::new(),
            subscribed: BTreeSet::new(),
            answers: Vec::new(),
            asked: BTreeSet::new(),
            version: 0,
            skipped: 0,
            closed_at: None,
            ended: None,
            peer_closed_at: None,
            closed_in: None,
            is_gone: false,
            is_cut: false,
        };
        world.on(Event::Looked(None));
        world
    }

    fn on(&mut self, event: Event<'_>) {
        let given = Given { now: self.now, limits: &self.limits };
        let effects = self.session.on(event, &given);
        self.follow(effects);
    }

    fn follow(&mut self, effects: Effects) {
        self.skipped += effects.skipped;
        self.is_cut |= effects.end == Some(End::Cut);
        self.look_at.extend(effects.look_at);
        if effects.close_begins {
            assert_eq!(self.closed_at, None, "it closes once");
            self.closed_at = Some(self.taken.len());
            self.closed_in = Some(self.now);
            self.on(Event::Writable);
            self.flush();
        }
        while let Some(command) = self.session.next_command(&self.limits) {
            self.carry_out(&command);
        }
    }

    fn carry_out(&mut self, command: &fanout::Command) {
        assert!(self.session.ended().is_none() && !self.session.is_closing(), "an end gives the shards no commands");
        let products = match command.operation {
            Operation::Subscribe => command.products.iter().filter(|id| self.subscribed.insert(**id)).count(),
            Operation::Unsubscribe => command.products.iter().filter(|id| self.subscribed.remove(id)).count(),
            Operation::Count => command.products.iter().filter(|id| self.subscribed.contains(id)).count(),
        };
        assert!(self.subscribed.len() <= SUBSCRIPTIONS_MAX);
        self.with_shards.push((command.number, products));
        assert!(self.with_shards.len() <= COMMANDS_MAX);
    }

    /// Writes as a thin shell does.
    fn flush(&mut self) {
        while !self.session.is_blocked() && self.session.ended().is_none() && self.session.has_output() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = self.session.fill(&mut slices);
            let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            if let Some(only) = self.session.only() {
                assert_eq!(only, bytes);
            }
            let sent = bytes.len().min(self.room);
            self.room -= sent;
            self.taken.extend_from_slice(&bytes[..sent]);
            self.session.taken(sent);
            if sent < bytes.len() {
                self.on(Event::Blocked);
            }
        }
        if !self.session.has_output() {
            self.on(Event::Flushed);
        }
    }

    fn push(&mut self, product: u64, padding: usize, frames: usize) {
        let id = ProductId::new(product).unwrap();
        let frames: Vec<(u64, Frame)> = (0..frames)
            .map(|_| {
                self.version += 1;
                let text = format!(r#"{{"v":{},"p":{product},"x":"{}"}}"#, self.version, "x".repeat(padding));
                (self.version, Frame::new(Opcode::Text, text.as_bytes()))
            })
            .collect();
        let mut rest = Some(FrameRun::join(&frames));
        if self.session.push(id, rest.as_ref().unwrap(), &self.limits) {
            return;
        }
        while let Some(run) = rest {
            let ((version, frame), after) = run.split_first();
            rest = after;
            if self.session.push(id, &FrameRun::one(version, frame.clone()), &self.limits) {
                continue;
            }
            self.flush();
            let given = Given { now: self.now, limits: &self.limits };
            let effects = self.session.push_by_policy(id, version, frame, &given);
            self.follow(effects);
        }
    }

    /// The answer to the reader's command, if commands are carried out one after the other.
    fn expect_answer(&mut self, operation: Operation, products: &[ProductId], number: usize) {
        let wanted: BTreeSet<u64> = self.asked.iter().copied().chain(products.iter().map(|id| id.get())).collect();
        let is_refused = operation == Operation::Subscribe && wanted.len() > SUBSCRIPTIONS_MAX;
        if operation == Operation::Subscribe && !is_refused {
            self.asked = wanted;
        } else if operation == Operation::Unsubscribe {
            self.asked.retain(|&id| !products.iter().any(|product| product.get() == id));
        }
        let subscribed = self.asked.len();
        let answer = if is_refused {
            format!(r#"{{"reply":{number},"ok":false"#)
        } else {
            format!(r#"{{"reply":{number},"ok":true,"subscribed":{subscribed}}}"#)
        };
        self.answers.push(answer);
    }

    fn hear(&mut self) -> bool {
        let reads = self.session.reads();
        if reads {
            self.on(Event::Heard { units: 1, at: Duration::from_secs(self.now.into()) });
        }
        reads
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push { product, padding, frames } => self.push(product, padding, frames),
            Step::Flush => self.flush(),
            Step::Command { subscribe, products } => {
                if self.hear() {
                    let operation = if subscribe { Operation::Subscribe } else { Operation::Unsubscribe };
                    let products: Vec<ProductId> = products.into_iter().filter_map(ProductId::new).collect();
                    let number = self.answers.len();
                    // Input behind a close is ignored.
                    if !self.session.is_closing() {
                        self.expect_answer(operation, &products, number);
                    }
                    let reply = Some(ReplyId::Unsigned(number as u64));
                    self.on(Event::Command(Ok(Command { reply, operation, products })));
                }
            }
            Step::NoCommand => {
                if self.hear() {
                    if !self.session.is_closing() {
                        self.answers.push(r#"{"error":"#.to_owned());
                    }
                    self.on(Event::Command(Err(Refusal { reply: None, why: Why::NotAnObject })));
                }
            }
            Step::Ping(byte) => {
                if self.hear() {
                    self.on(Event::Ping(&[byte]));
                }
            }
            Step::Applied(index) => {
                if !self.with_shards.is_empty() {
                    self.tell_applied(index.index(self.with_shards.len()));
                }
            }
            Step::Room(bytes) => {
                self.room += bytes;
                self.on(Event::Writable);
                self.flush();
            }
            Step::Seconds(seconds) => self.pass(seconds),
            Step::Released => self.on(Event::Released),
            Step::Close(Cause::Restart) => self.on(Event::Restart { after_ms: 100 }),
            Step::Close(Cause::Peer) => {
                self.peer_closed_at.get_or_insert(self.now);
                self.on(Event::PeerClosed(Some(1000)));
            }
            Step::Close(Cause::Broken) => self.on(Event::Broken(CodecError::InvalidUtf8)),
            Step::Close(Cause::Binary) => self.on(Event::Binary),
            Step::Close(Cause::TokenExpired) => self.on(Event::Looked(Some(0))),
            Step::Gone => {
                self.is_gone = true;
                self.on(Event::Gone);
            }
        }
    }

    /// The shards tell that the command at this place is carried out, if there is one.
    fn tell_applied(&mut self, place: usize) {
        if place < self.with_shards.len() {
            let (number, products) = self.with_shards.remove(place);
            self.on(Event::Applied { number, products });
        }
    }

    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now += 1;
            if self.look_at.remove(&self.now) {
                self.on(Event::Looked(None));
                self.flush();
            }
        }
    }

    /// Lets the shards and the socket do what they have not done yet.
    fn settle(&mut self) {
        self.room = usize::MAX;
        self.on(Event::Writable);
        for _ in 0..10 * COMMANDS_MAX {
            self.flush();
            self.tell_applied(0);
        }
        self.flush();
    }

    fn check_step(&mut self) {
        let mut slices = [IoSlice::new(&[]); 100];
        let used = self.session.fill(&mut slices);
        let held: usize = slices[..used].iter().map(|slice| slice.len()).sum();
        let answers_max = ANSWERS_WAITING_MAX + COMMANDS_MAX + 4;
        assert!(used < slices.len());
        let begun_max = 6 * FRAME_BYTES_MAX;
        assert!(held <= 1000 + begun_max + answers_max * ANSWER_BYTES_MAX, "{held} bytes are held");
        let ended = self.session.ended();
        assert!(self.ended.is_none() || ended == self.ended, "it ends once");
        self.ended = ended;
    }
}

/// A frame that the socket took: where it began, its first byte, its text.
struct Taken {
    at: usize,
    first: u8,
    text: String,
}

/// The whole frames at the front of `bytes`, and how many bytes follow them.
fn frames(bytes: &[u8]) -> (Vec<Taken>, usize) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(&[first, second]) = bytes[at..].first_chunk() {
        let (length, head) = match second {
            126 if bytes.len() >= at + 4 => (usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])), 4),
            126 => break,
            short => (usize::from(short), 2),
        };
        let Some(payload) = bytes.get(at + head..at + head + length) else { break };
        frames.push(Taken { at, first, text: String::from_utf8_lossy(payload).into_owned() });
        at += head + length;
    }
    let rest = bytes.len() - at;
    (frames, rest)
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.strip_prefix(&format!(r#"{{"{name}":"#))?.split([',', '}']).next()?.parse().ok()
}

fn policies() -> impl Strategy<Value = SlowConsumerPolicy> {
    prop_oneof![
        Just(SlowConsumerPolicy::Conflate),
        Just(SlowConsumerPolicy::Drop),
        Just(SlowConsumerPolicy::Disconnect)
    ]
}

/// Checks everything that a reader was told.
fn check_taken(world: &World) {
    let (frames, rest) = frames(&world.taken);
    assert!(rest == 0 || world.is_gone || world.is_cut, "a frame was left unfinished");

    let closes: Vec<&Taken> = frames.iter().filter(|frame| frame.first == 0x88).collect();
    assert!(closes.len() <= 1);
    if let Some(close) = closes.first() {
        assert!(close.at == frames.last().unwrap().at && rest == 0, "nothing follows a close");
        assert!(world.closed_at.is_some());
    }
    if let Some(closed_at) = world.closed_at {
        let late = frames.iter().filter(|frame| frame.at >= closed_at && number(&frame.text, "v").is_some()).count();
        assert_eq!(late, 0, "changes begin after the close did");
    }

    let answers: Vec<&str> = frames
        .iter()
        .map(|frame| &*frame.text)
        .filter(|text| text.starts_with(r#"{"reply""#) || text.starts_with(r#"{"error""#))
        .collect();
    for (answer, expected) in answers.iter().zip(&world.answers) {
        assert!(answer.starts_with(&**expected), "{answer} instead of {expected}");
    }
    assert!(answers.len() <= world.answers.len());

    let versions: Vec<u64> = frames.iter().filter_map(|frame| number(&frame.text, "v")).collect();
    let told: u64 = frames.iter().filter_map(|frame| number(&frame.text, "skipped")).sum();
    let has_ended = world.session.ended();
    let is_answered = world.peer_closed_at.is_some_and(|second| world.closed_in == Some(second));
    if matches!(has_ended, Some(CloseReason::Peer(_))) && is_answered && !world.is_gone && !world.is_cut {
        assert_eq!(answers.len(), world.answers.len(), "every command before the peer's close is answered");
    }
    if world.closed_at.is_none() && has_ended.is_none() {
        assert_eq!(answers.len(), world.answers.len(), "every command is answered");
        assert_eq!(told, world.skipped);
        assert_eq!(versions.len() as u64 + told, world.version, "received and skipped are all that was pushed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_a_reader_is_told_what_it_may_be_told(
        policy in policies(),
        units in prop_oneof![Just(0_u32), Just(5_u32)],
        steps in steps(),
    ) {
        let mut world = World::new(policy, units);
        for step in steps {
            world.step(step);
            world.check_step();
        }
        world.settle();
        world.check_step();
        check_taken(&world);
        // Every session that closes ends, at the deadline if not before.
        if world.closed_at.is_some() {
            world.pass(CLOSE_SECONDS_MAX + 1);
            prop_assert!(world.session.ended().is_some());
        }
    }
}

#[test]
fn memory_of_commands_is_bounded_by_their_ids() {
    let mut world = World::new(SlowConsumerPolicy::Drop, 0);
    let products: Vec<ProductId> = (0..COMMANDS_IDS_MAX as u64).filter_map(ProductId::new).collect();
    let command = Command { reply: None, operation: Operation::Unsubscribe, products };
    world.on(Event::Command(Ok(command)));
    assert!(!world.session.reads());
    world.tell_applied(0);
    assert!(world.session.reads());
}

#[test]
fn a_second_close_of_the_peer_takes_no_answer_away() {
    let mut world = World::new(SlowConsumerPolicy::Drop, 0);
    let products = ProductId::new(1).into_iter().collect();
    let command = Command { reply: Some(ReplyId::Unsigned(7)), operation: Operation::Unsubscribe, products };
    world.on(Event::Command(Ok(command)));
    world.on(Event::PeerClosed(None));
    world.on(Event::PeerClosed(None));
    world.settle();
    let (frames, rest) = frames(&world.taken);
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.first).collect();
    assert_eq!((kinds, rest), (vec![0x81, 0x88], 0), "the answer and the close");
}

#[test]
fn a_burst_that_overflows_a_queue_closes_it_and_nothing_of_it_follows() {
    let mut world = World::new(SlowConsumerPolicy::Disconnect, 0);
    world.room = 10;
    for _ in 0..3 {
        world.push(1, 50, 20);
    }
    assert!(world.session.is_closing());
    world.settle();
    let (frames, rest) = frames(&world.taken);
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.first).collect();
    assert_eq!((kinds, rest), (vec![0x81, 0x88], 0), "the change that was begun, and the close");
}
