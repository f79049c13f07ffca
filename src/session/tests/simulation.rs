//! The whole path in one thread: the cores of two servers over the rows of a store, real sessions, sockets that take any part of
//! their bytes, and readers that keep a map by the rules of the protocol, on one connection after the other. In whatever order
//! all of them go on: once everything is settled, each map is what the store has.

mod client;
mod history;
mod map;
mod servers;
mod shell;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::client::Ask;
use self::servers::{Entry, SERVERS};
use self::world::World;
use super::super::queue::SendQueueLimits;
use super::policies;

/// The cores of each server.
const CORES: u16 = 3;
const TOPICS: u64 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// A reader comes to a core, with a token that reads these rows or without one.
    Open(u16, Option<BTreeSet<u64>>),
    Reader(usize, ReaderStep),
    Commit(Entry),
    /// A server hears up to so many entries of the store's log.
    Hear(usize, usize),
    Lose(usize),
    LoseTable(usize),
    Read(usize),
    HandOver(usize),
    Process(u16, usize),
    Work(u16),
    Settle,
}

#[derive(Clone, Debug)]
enum ReaderStep {
    /// To a core, where it asks for what it asked for before.
    Reconnect(u16, Ask),
    Subscribe(Vec<u64>, Ask),
    SubscribeAll(Ask),
    Unsubscribe(Vec<u64>),
    UnsubscribeAll,
    /// Another token, which reads these rows.
    Authorize(BTreeSet<u64>),
    /// The connection's task reads up to so many messages.
    Serve(usize),
    /// The socket has room for so many bytes more.
    Room(usize),
}

fn reader_steps() -> impl Strategy<Value = ReaderStep> {
    let topics = || proptest::collection::vec(0..TOPICS, 0..6);
    let again = || prop_oneof![3 => Just(Ask::Snapshot), 9 => Just(Ask::Versions), 1 => Just(Ask::Lie)];
    let ask = || prop_oneof![1 => Just(Ask::Nothing), 2 => again()];
    prop_oneof![
        3 => (0..SERVERS * CORES, again()).prop_map(|(core, ask)| ReaderStep::Reconnect(core, ask)),
        6 => (topics(), ask()).prop_map(|(topics, ask)| ReaderStep::Subscribe(topics, ask)),
        3 => ask().prop_map(ReaderStep::SubscribeAll),
        3 => topics().prop_map(ReaderStep::Unsubscribe),
        1 => Just(ReaderStep::UnsubscribeAll),
        1 => readable().prop_map(ReaderStep::Authorize),
        12 => (0..3_usize).prop_map(ReaderStep::Serve),
        12 => (1..500_usize).prop_map(ReaderStep::Room),
    ]
}

fn readable() -> impl Strategy<Value = BTreeSet<u64>> {
    proptest::collection::btree_set(0..TOPICS, 1..=6)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let token = prop_oneof![3 => Just(None), 1 => readable().prop_map(Some)];
    let missed = proptest::collection::vec(0..TOPICS, 1..4);
    let entry = prop_oneof![
        10 => (0..TOPICS).prop_map(Entry::Write),
        4 => (0..TOPICS).prop_map(Entry::Delete),
        3 => (0..4_u8).prop_map(|of_four| Entry::Begin(of_four == 0)),
        2 => any::<bool>().prop_map(Entry::BeginTable),
        2 => missed.prop_map(Entry::Miss),
    ];
    let (server, core) = (|| 0..usize::from(SERVERS), || 0..SERVERS * CORES);
    let step = prop_oneof![
        3 => (core(), token).prop_map(|(core, readable)| Step::Open(core, readable)),
        40 => (any::<usize>(), reader_steps()).prop_map(|(number, step)| Step::Reader(number, step)),
        21 => entry.prop_map(Step::Commit),
        3 => (1..4_usize).prop_map(|entries| Step::Hear(1, entries)),
        1 => server().prop_map(Step::Lose),
        1 => server().prop_map(Step::LoseTable),
        3 => Just(Step::Read(0)),
        1 => Just(Step::Read(1)),
        4 => server().prop_map(Step::HandOver),
        12 => (core(), 1..4_usize).prop_map(|(core, messages)| Step::Process(core, messages)),
        12 => core().prop_map(Step::Work),
        2 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 0..150)
}

fn live(steps: Vec<Step>, shards: usize, slice_cost: usize, queue: SendQueueLimits) {
    let mut world = World::new(shards, slice_cost, queue);
    for step in steps {
        world.step(step);
    }
    world.end();
}

proptest! {
    #[test]
    fn once_all_is_settled_each_reader_shows_what_the_store_has(
        steps in steps(),
        shards in 1..8_usize,
        slice_cost in 5..11_usize,
        frames_max in 1..6_usize,
        policy in policies(),
    ) {
        let queue = SendQueueLimits { frames_max, bytes_max: 600, policy };
        live(steps, shards, slice_cost, queue);
    }
}
