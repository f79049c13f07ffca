//! Several cores in one thread, whose messages are delivered in any order that their inboxes allow, against a set of
//! pairs and the rows of a store.

mod every_topic;
mod history;
mod recorder;
mod world;

use proptest::prelude::*;
use slotmap::Key;

use self::history::{live, steps};
use self::world::World;
use super::super::Operation;
use super::*;
use crate::model::topic::testing::topic;

const CORES: u16 = 3;
const TOPICS: u64 = 6;

proptest! {
    #[test]
    fn everybody_gets_the_changes_of_what_they_subscribed_to(
        steps in steps(),
        shards in 1usize..8,
        topics_in_a_slice in 1usize..6,
    ) {
        live(&steps, shards, topics_in_a_slice);
    }
}

/// Each core hears of the beginning, and reads, in its own time.
#[test]
fn readers_are_told_that_the_source_is_back_once_every_core_has_healed() {
    let mut world = World::new(8);
    world.begin(false);
    let connection = world.open(0);
    world.command(connection, 0, Operation::Subscribe, &(0..TOPICS).collect::<Vec<u64>>());
    world.settle();
    for number in 0..TOPICS {
        world.cast(number);
    }
    world.settle();
    world.lose();
    world.settle();
    assert!(!world.recorder(connection).is_live);
    (0..TOPICS).for_each(|number| world.commit(number));
    world.begin(false);
    while world.process(0, usize::MAX) | world.work(0) | world.read() {
        world.hand_over();
    }
    assert!(!world.recorder(connection).is_live, "the other cores have not told what was missed");
    world.settle();
    let rows = world.rows.clone();
    let recorder = world.recorder(connection);
    assert!(recorder.is_live);
    assert_eq!(recorder.shown, rows);
}

#[test]
fn a_message_for_an_earlier_connection_never_reaches_a_later_one() {
    let mut world = World::new(1);
    let first = world.open(1);
    world.command(first, 0, Operation::Subscribe, &[1]);
    world.settle();
    world.cast(1);
    world.process(0, 1);
    world.core(1).remove(first.key);
    let second = world.open(1);
    let slot = |key: SlotKey| key.data().as_ffi() & u64::from(u32::MAX);
    assert_eq!(slot(second.key), slot(first.key));
    world.settle();
    assert!(world.recorder(second).flushed.is_empty());
    world.core(1).remove(second.key);
    world.settle();
    world.assert_empty();
}

#[test]
fn a_burst_is_flushed_once() {
    let mut world = World::new(1);
    let connection = world.open(0);
    world.command(connection, 0, Operation::Subscribe, &[1, 2]);
    let versions = [(1, world.cast(1)), (2, world.cast(2)), (1, world.cast(1))];
    world.process(0, 3);
    world.process(0, 3);
    let [first, second, third] = versions;
    assert_eq!(world.recorder(connection).flushed, [first, third, second], "what is of one topic comes together");
}

/// The messages that bring them come one by one, as those of a loader do.
#[test]
fn rows_that_were_read_go_out_many_with_a_flush() {
    const ROWS: u64 = 2000;
    let mut world = World::new(1);
    world.begin(false);
    let connection = world.open(0);
    world.command(connection, 0, Operation::Subscribe, &(0..ROWS).collect::<Vec<u64>>());
    world.settle();
    world.lose();
    world.settle();
    (0..ROWS).for_each(|number| world.commit(number));
    world.begin(false);
    world.turn();
    while world.core(0).has_work() {
        world.turn();
    }
    world.read();
    world.hand_over();
    (0..world.inboxes[0].messages.len()).for_each(|_| _ = world.process(0, 1));
    let flushes = world.recorder(connection).flushes;
    while world.work(0) {}
    let recorder = world.recorder(connection);
    assert_eq!(recorder.shown.len() as u64, ROWS);
    let flushes = recorder.flushes - flushes;
    assert!((1..8).contains(&flushes), "{flushes} flushes");
}

#[test]
fn it_is_known_how_many_frames_went_out_with_each_flush() {
    let mut world = World::new(1);
    for _ in 0..3 {
        let connection = world.open(0);
        world.command(connection, 0, Operation::Subscribe, &[1, 2]);
    }
    let mut frames_per_flush = |changes: &[u64]| {
        for &number in changes {
            world.cast(number);
        }
        let inbox = &mut world.inboxes[0];
        let mut batch: Vec<Message> = std::iter::from_fn(|| inbox.messages.try_recv().ok()).collect();
        world.cores[0].process(&mut batch)
    };
    assert_eq!(frames_per_flush(&[1]), 1, "one that comes alone is flushed as it is pushed");
    assert_eq!(frames_per_flush(&[1, 2, 1, 1]), 4);
    assert_eq!(frames_per_flush(&[3, 3]), 0, "nobody is subscribed");
}

#[test]
fn a_large_command_and_a_large_close_leave_a_turn_to_others_after_each_slice() {
    let mut world = World::new(1);
    let (large, small) = (world.open(0), world.open(0));
    let topics: Vec<u64> = (0..SLICE_COST as u64 * 10).collect();
    world.command(large, 0, Operation::Subscribe, &topics);
    world.work(0);
    let done = world.cores[0].shards[0].index().topics_len();
    assert!((1..=SLICE_COST).contains(&done), "{done} topics in one slice");
    world.command(small, 0, Operation::Subscribe, &[1]);
    world.command(small, 1, Operation::Subscribe, &[2]);
    assert_eq!(world.recorder(small).applied, [(0, 1), (1, 1)], "little is done at once");
    world.settle();
    assert_eq!(world.recorder(large).applied, [(0, topics.len())]);
    world.core(0).remove(large.key);
    let left = world.cores[0].shards[0].index().topics_len();
    assert!((topics.len() - SLICE_COST..topics.len()).contains(&left), "{left} topics after one slice");
    world.settle();
    assert_eq!(world.cores[0].shards[0].index().topics_len(), 2);
}

#[test]
fn small_commands_beyond_a_turns_budget_wait_for_the_next() {
    let mut world = World::new(1);
    let connection = world.open(0);
    for (number, _) in (0..).zip(0..SLICE_COST) {
        world.command(connection, number, Operation::Count, &[1]);
    }
    let done = world.recorder(connection).applied.len();
    assert!((1..SLICE_COST / commands::JOB_COST).contains(&done), "{done} commands at once");
    world.settle();
    assert_eq!(world.recorder(connection).applied.len(), SLICE_COST);
}

#[test]
fn the_commands_of_one_turn_go_to_another_core_together() {
    let mut world = World::new(1);
    let connection = world.open(1);
    for number in 0..8 {
        world.command(connection, number, Operation::Subscribe, &[u64::from(number)]);
    }
    world.process(1, usize::MAX);
    assert!(matches!(world.inboxes[0].messages.try_recv(), Ok(Message::Orders(orders)) if orders.len() == 8));
    assert!(world.inboxes[0].messages.try_recv().is_err());
}

/// The reader has its version from another server, which is ahead; the core of the row's shard hears of the epoch last.
#[test]
fn a_version_that_is_known_in_a_new_epoch_counts_at_a_core_that_is_yet_to_begin_it() {
    let mut world = World::new(8);
    (0..TOPICS).for_each(|number| world.commit(number));
    world.begin(false);
    world.turn();
    let (connection, other) = (world.open(0), CoreId(1));
    let number = (0..TOPICS).find(|&number| world.hub.core_of_topic(topic(number)) == other).unwrap();
    world.command(connection, 0, Operation::Subscribe, &[number]);
    world.settle();
    world.begin_table(true);
    world.process(connection.core.0, usize::MAX);
    let older = world.cast(number);
    world.commit(number);
    let newest = world.rows[&number];
    assert!(older < newest);
    let inbox = &mut world.inboxes[usize::from(other.0)].messages;
    let held: Vec<Message> = std::iter::from_fn(|| inbox.try_recv().ok()).collect();
    world.recorder(connection).show(number, newest);
    world.pull(connection, 1 << 30, &[number], true);
    world.work(connection.core.0);
    world.process(other.0, usize::MAX);
    world.work(other.0);
    for message in held {
        world.hub.send(other, message);
    }
    world.settle();
    assert_eq!(world.recorder(connection).shown[&number], newest);
    assert!(world.recorder(connection).pulls.is_empty(), "it is answered");
}
