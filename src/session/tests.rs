//! A session between a socket that takes any part of its bytes, shards that answer at any time, and a peer that sends
//! anything: in every order of events, the bytes that the socket took are such as a reader may be told.

mod authorize;
mod reader;
mod simulation;
mod tables;
mod world;

use proptest::prelude::*;

use self::reader::{check_taken, frames};
use self::world::{Cause, Claim, TOPICS, World};
use super::commands::COMMANDS_IDS_MAX;
use super::heartbeat::CLOSE_SECONDS_MAX;
use super::queue::SlowConsumerPolicy;
use super::*;
use crate::fanout::Operation;
use crate::model::topic::testing::subject;
use crate::session::command::{Command, ReplyId};

const SUBSCRIPTIONS_MAX: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    /// So many changes of one topic at once.
    Change {
        topic: u64,
        padding: usize,
        frames: usize,
        is_gone: bool,
    },
    Flush,
    Command {
        subscribe: bool,
        topics: Vec<u64>,
    },
    /// A subscription that asks for states.
    Ask {
        topics: Vec<(u64, Claim)>,
        is_snapshot: bool,
        is_right_epoch: bool,
    },
    /// A subscription to everything, perhaps with a list of it.
    AskForAll {
        lists: bool,
        newest: Claim,
    },
    EndAll,
    /// Another token, which reads these rows.
    Authorize(Vec<u64>),
    /// One that is refused.
    BadToken,
    NoCommand,
    Ping(u8),
    /// The shards tell that they have carried one of the commands out.
    Applied(prop::sample::Index),
    /// A shard answers a pull, and tells the version of a deletion, if it knows that.
    Answer(prop::sample::Index, bool),
    /// A shard answers the question for a page of the list of all topics.
    Page(prop::sample::Index),
    /// The shards do not look at what they are given, or do so again.
    Late(bool),
    /// Another epoch begins; pulls that were made before are answered, or not.
    Epoch(bool),
    Live(bool),
    /// The socket has room for so many bytes.
    Room(usize),
    Seconds(u32),
    Released,
    Close(Cause),
    Gone,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = prop::collection::vec(0..20_u64, 0..8);
    let claim = prop_oneof![
        4 => Just(Claim::None),
        6 => Just(Claim::Newest),
        4 => Just(Claim::Older),
        1 => Just(Claim::Unreached),
    ];
    let newest = claim.clone();
    let claims = prop::collection::vec((0..TOPICS + 3, claim), 0..6);
    let readable = prop_oneof![
        2 => Just((0..20).collect::<Vec<u64>>()),
        2 => Just(vec![0, 1, 3, 6, 9]),
        4 => prop::collection::vec(0..12_u64, 0..12),
    ];
    let closes = prop_oneof![
        Just(Cause::Restart),
        Just(Cause::Peer),
        Just(Cause::Broken),
        Just(Cause::Binary),
        Just(Cause::TokenExpired),
    ];
    let change = (0..TOPICS, 0..300_usize, 1..6_usize, prop::bool::weighted(0.2));
    let step = prop_oneof![
        30 => change.prop_map(|(topic, padding, frames, is_gone)| Step::Change { topic, padding, frames, is_gone }),
        15 => Just(Step::Flush),
        12 => (any::<bool>(), ids).prop_map(|(subscribe, topics)| Step::Command { subscribe, topics }),
        10 => (claims, any::<bool>(), prop::bool::weighted(0.9)).prop_map(|(topics, is_snapshot, is_right_epoch)| {
            Step::Ask { topics, is_snapshot, is_right_epoch }
        }),
        3 => (any::<bool>(), newest).prop_map(|(lists, newest)| Step::AskForAll { lists, newest }),
        2 => Just(Step::EndAll),
        3 => readable.prop_map(Step::Authorize),
        1 => Just(Step::BadToken),
        4 => Just(Step::NoCommand),
        6 => any::<u8>().prop_map(Step::Ping),
        20 => any::<prop::sample::Index>().prop_map(Step::Applied),
        25 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(pull, knows)| Step::Answer(pull, knows)),
        8 => any::<prop::sample::Index>().prop_map(Step::Page),
        5 => any::<bool>().prop_map(Step::Late),
        1 => any::<bool>().prop_map(Step::Epoch),
        4 => any::<bool>().prop_map(Step::Live),
        25 => (0..900_usize).prop_map(Step::Room),
        3 => (1..40_u32).prop_map(Step::Seconds),
        4 => Just(Step::Released),
        1 => closes.prop_map(Step::Close),
        1 => Just(Step::Gone),
    ];
    prop::collection::vec(step, 1..160)
}

/// Steps of a reader that stays, and asks for nothing but changes.
fn steps_of_changes() -> impl Strategy<Value = Vec<Step>> {
    let is_of_changes = |step: &Step| {
        let asks = matches!(step, Step::Ask { .. } | Step::AskForAll { lists: true, .. } | Step::Epoch(_));
        !asks && !matches!(step, Step::Close(_) | Step::Gone | Step::Seconds(_))
    };
    steps().prop_map(move |steps| steps.into_iter().filter(is_of_changes).collect())
}

fn policies() -> impl Strategy<Value = SlowConsumerPolicy> {
    prop_oneof![
        2 => Just(SlowConsumerPolicy::Conflate),
        1 => Just(SlowConsumerPolicy::Drop),
        1 => Just(SlowConsumerPolicy::Disconnect),
    ]
}

fn live(world: World, steps: Vec<Step>) -> World {
    let mut world = world;
    for step in steps {
        world.step(step);
        world.check_step();
    }
    world.settle();
    world.check_step();
    check_taken(&world);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_a_reader_is_told_what_it_may_be_told(
        policy in policies(),
        units in prop_oneof![Just(0_u32), Just(5_u32)],
        steps in steps(),
    ) {
        let mut world = live(World::new(policy, units), steps);
        // Whatever closes ends, at the deadline if not before.
        if world.closed_at.is_some() {
            world.pass(CLOSE_SECONDS_MAX + 1);
            prop_assert!(world.session.ended().is_some());
        }
    }

    #[test]
    fn whatever_happens_a_reader_of_an_event_stream_is_told_the_same(
        policy in policies(),
        units in prop_oneof![Just(0_u32), Just(5_u32)],
        steps in steps(),
    ) {
        let mut world = live(World::of_event_stream(policy, units), steps);
        if world.closed_at.is_some() {
            world.pass(CLOSE_SECONDS_MAX + 1);
            prop_assert!(world.session.ended().is_some());
        }
    }

    #[test]
    fn whoever_asks_for_changes_gets_or_is_told_to_have_missed_each(policy in policies(), steps in steps_of_changes()) {
        live(World::new(policy, 0), steps);
    }
}

#[test]
fn memory_of_commands_is_bounded_by_their_ids() {
    let mut world = World::new(SlowConsumerPolicy::Drop, 0);
    let topics = (0..COMMANDS_IDS_MAX as u64).map(subject).collect();
    let command = Command { reply: None, operation: Operation::Unsubscribe, topics, states: None };
    world.on(Event::Command(Ok(command)));
    assert!(!world.session.reads());
    world.tell_applied(0);
    assert!(world.session.reads());
}

#[test]
fn a_second_close_of_the_peer_takes_no_answer_away() {
    let mut world = World::new(SlowConsumerPolicy::Drop, 0);
    let topics = [subject(1)].into_iter().collect();
    let command =
        Command { reply: Some(ReplyId::Unsigned(7)), operation: Operation::Unsubscribe, topics, states: None };
    world.on(Event::Command(Ok(command)));
    world.on(Event::PeerClosed(None));
    world.on(Event::PeerClosed(None));
    world.settle();
    let (frames, rest) = frames(&world.taken);
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.first).collect();
    assert_eq!((kinds, rest), (vec![0x81, 0x81, 0x88], 0), "the first answer, this one and the close");
}

#[test]
fn a_burst_that_overflows_a_queue_closes_it_and_nothing_of_it_follows() {
    let mut world = World::new(SlowConsumerPolicy::Disconnect, 0);
    world.room = 10;
    for _ in 0..3 {
        world.step(Step::Change { topic: 1, padding: 50, frames: 20, is_gone: false });
    }
    assert!(world.session.is_closing());
    world.settle();
    let (frames, rest) = frames(&world.taken);
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.first).collect();
    assert_eq!(
        (kinds, rest),
        (vec![0x81, 0x81, 0x88], 0),
        "the first answer, the change that was begun, and the close"
    );
}
