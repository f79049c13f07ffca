//! Connections that are told of every topic: what that costs in a turn, and what is kept for them.

use std::sync::atomic::Ordering;

use super::super::super::Operation;
use super::super::*;
use super::CORES;
use super::world::World;
use crate::model::topic::testing::{TABLE, topic};

/// A world of so many rows on one shard, with a connection that is told of all of them.
fn with_rows(rows: u64) -> (World, ConnectionId) {
    with_rows_on(1, rows)
}

fn with_rows_on(shards: usize, rows: u64) -> (World, ConnectionId) {
    let mut world = World::new(shards);
    (0..rows).for_each(|number| world.commit(number));
    world.begin(false);
    // No change is missed from before the connection comes.
    world.turn();
    let connection = with_reader(&mut world);
    (world, connection)
}

/// A connection that is told of all rows.
fn with_reader(world: &mut World) -> ConnectionId {
    let connection = world.open(0);
    world.recorder(connection).lists.insert(0);
    world.recorder(connection).is_everything = true;
    world.command(connection, 0, Operation::SubscribeAll { table: TABLE, lists: true }, &[]);
    connection
}

#[test]
fn a_list_of_every_topic_is_told_page_by_page_and_each_costs_a_part_of_a_slice() {
    const ROWS: u64 = 1000;
    let (mut world, first) = with_rows(ROWS);
    while world.recorder(first).applied.is_empty() {
        world.turn();
        world.read();
        world.hand_over();
    }
    assert_eq!(world.recorder(first).listed, [], "nothing is listed before it is asked for");
    let readers: Vec<ConnectionId> = (0..20).map(|_| world.open(0)).collect();
    for &reader in &readers {
        world.recorder(reader).lists.insert(0);
        world.recorder(reader).is_everything = true;
        world.command(reader, 0, Operation::SubscribeAll { table: TABLE, lists: true }, &[]);
    }
    let listed = |world: &mut World| -> usize { readers.iter().map(|&it| world.recorder(it).listed.len()).sum() };
    let (mut before, mut turns) = (0, 0);
    while before < readers.len() * 1000 {
        world.ask_for_pages();
        world.turn();
        let now = listed(&mut world);
        assert!(now - before <= SLICE_COST, "{} topics are listed in one turn", now - before);
        (before, turns) = (now, turns + 1);
        assert!(turns < 1000, "{now} are listed");
    }
    let mut all: Vec<Topic> = (0..ROWS).map(topic).collect();
    all.sort_unstable();
    for reader in readers {
        assert_eq!(world.recorder(reader).listed, all);
    }
}

#[test]
fn what_is_kept_for_everybody_is_forgotten_slice_by_slice_when_the_last_has_left() {
    let (mut world, connection) = with_rows(1000);
    world.settle();
    let kept = |world: &World| world.hub.rows_kept().load(Ordering::Relaxed);
    assert_eq!(kept(&world), 1000);
    world.core(0).remove(connection.key);
    assert_eq!(kept(&world), 1000, "the end of a connection costs as much as it had");
    world.work(0);
    assert!((1000 - SLICE_COST..1000).contains(&kept(&world)), "{} are kept", kept(&world));
    // Who comes meanwhile finds the rest, and the store lists the others.
    let next = world.open(1);
    world.recorder(next).lists.insert(0);
    world.recorder(next).is_everything = true;
    world.command(next, 0, Operation::SubscribeAll { table: TABLE, lists: true }, &[]);
    world.settle();
    assert_eq!((kept(&world), world.recorder(next).shown.len()), (1000, 1000));
    world.core(1).remove(next.key);
    world.settle();
    world.assert_empty();
}

#[test]
fn nobody_else_is_told_of_every_topic_while_more_rows_are_kept_than_may_be() {
    let (mut world, first) = with_rows(3);
    world.cores.iter_mut().for_each(|core| core.everything.keep(3));
    world.settle();
    assert_eq!(world.recorder(first).applied, [(0, 1)]);
    world.cast(3);
    world.settle();
    let late = world.open(1);
    world.recorder(late).is_everything = true;
    let ask = |world: &mut World, connection: ConnectionId, number: u32| {
        world.recorder(connection).lists.insert(number);
        world.command(connection, number, Operation::SubscribeAll { table: TABLE, lists: true }, &[]);
        world.settle();
    };
    ask(&mut world, late, 0);
    assert_eq!(world.recorder(late).refused, [0]);
    assert_eq!(world.recorder(late).applied, []);
    ask(&mut world, first, 1);
    assert_eq!(world.recorder(first).applied, [(0, 1), (1, 0)], "who has it keeps it, and may list again");
    assert_eq!(world.recorder(first).shown.len(), 4);
    world.cast(4);
    world.settle();
    assert!(world.recorder(first).shown.contains_key(&4) && !world.recorder(late).shown.contains_key(&4));
    (0..2).for_each(|number| world.delete(number));
    world.settle();
    ask(&mut world, late, 1);
    assert_eq!(world.recorder(late).applied, [(1, 1)], "there is room again");
}

/// A reader that is told of every topic may ask for ids that no row has: they are not kept.
#[test]
fn topics_that_do_not_exist_are_not_kept_since_somebody_pulled_them() {
    let (mut world, connection) = with_rows(2);
    world.settle();
    world.pull(connection, 0, &[7, 8, 9], false);
    world.settle();
    assert_eq!(world.recorder(connection).shown.get(&8), Some(&0));
    assert_eq!(world.hub.rows_kept().load(Ordering::Relaxed), 2);
}

/// A row may have gone, and been forgotten, by the time that a slow reader asks for it.
#[test]
fn topics_that_do_not_exist_are_not_kept_where_nobody_waits_for_their_answers() {
    let (mut world, _) = with_rows(2);
    world.settle();
    let asks = |world: &mut World| {
        let other = with_reader(world);
        world.settle();
        world.pull(other, 0, &[7], false);
        other
    };
    let kept = |world: &World| world.hub.rows_kept().load(Ordering::Relaxed);
    // One leaves before the wish is read, and one after.
    let other = asks(&mut world);
    world.core(0).remove(other.key);
    world.settle();
    assert_eq!(kept(&world), 2);
    let other = asks(&mut world);
    world.read();
    world.core(0).remove(other.key);
    world.settle();
    assert_eq!(kept(&world), 2);
}

#[test]
fn rows_that_went_while_changes_were_missed_or_rows_were_listed_are_not_kept() {
    let (mut world, connection) = with_rows(1000);
    let kept = |world: &World| world.hub.rows_kept().load(Ordering::Relaxed);
    while kept(&world) < 400 {
        world.turn();
        world.read();
        world.hand_over();
    }
    (0..100).for_each(|number| world.delete(number));
    world.settle();
    assert_eq!(kept(&world), 900);
    world.lose();
    (100..500).for_each(|number| world.delete(number));
    world.begin(false);
    world.settle();
    assert_eq!(kept(&world), 500);
    let rows = world.rows.clone();
    assert!(world.recorder(connection).shown.iter().filter(|(_, version)| **version > 0).eq(&rows));
}

/// A reader that is told of all rows without their states, and asked for one by its key before.
fn with_reader_of_one() -> (World, ConnectionId) {
    let mut world = World::new(1);
    (0..3).for_each(|number| world.commit(number));
    world.begin(false);
    world.turn();
    let reader = world.open(0);
    world.resume(reader, 0, &[1]);
    world.settle();
    world.recorder(reader).is_everything = true;
    world.command(reader, 1, Operation::SubscribeAll { table: TABLE, lists: false }, &[]);
    (world, reader)
}

/// The rows that the store has are not listed yet as the subscription ends.
#[test]
fn a_deletion_that_was_missed_is_told_to_who_asked_for_the_row_and_is_told_of_it_as_one_of_all() {
    let (mut world, reader) = with_reader_of_one();
    world.command(reader, 2, Operation::Unsubscribe, &[1]);
    world.lose_table();
    world.delete(1);
    world.begin_table(false);
    world.settle();
    assert_eq!(world.recorder(reader).shown[&1], 0);
    assert_eq!(world.hub.rows_kept().load(Ordering::Relaxed), 2);
}

/// The shard has forgotten the version of the epoch before, and has read none of the new one.
#[test]
fn a_row_that_is_not_in_the_new_epoch_is_told_to_who_asked_for_it_and_is_told_of_it_as_one_of_all() {
    for is_in_time in [false, true] {
        let (mut world, reader) = with_reader_of_one();
        world.lose();
        world.delete(1);
        world.begin(true);
        if is_in_time {
            world.turn();
        } else {
            world.process(0, usize::MAX);
        }
        world.command(reader, 2, Operation::Unsubscribe, &[1]);
        world.settle();
        assert_eq!(world.recorder(reader).old, [].into(), "{is_in_time}");
        assert_eq!(world.recorder(reader).shown[&1], 0);
    }
}

#[test]
fn rows_that_went_while_they_had_subscribers_are_not_kept_once_those_have_gone() {
    for asks in [false, true] {
        let (mut world, _) = with_rows(3);
        let others = [world.open(0), world.open(1)];
        for other in others {
            if asks {
                world.resume(other, 0, &[0, 1]);
            } else {
                world.command(other, 0, Operation::Subscribe, &[0, 1]);
            }
        }
        world.settle();
        let kept = |world: &World| world.hub.rows_kept().load(Ordering::Relaxed);
        world.delete(0);
        world.lose();
        world.delete(1);
        world.begin(false);
        world.settle();
        assert_eq!(kept(&world), 3, "their versions are known while they have subscribers");
        world.command(others[0], 1, Operation::Unsubscribe, &[0, 1]);
        world.core(1).remove(others[1].key);
        world.settle();
        assert_eq!(kept(&world), 1, "{asks}");
    }
}

#[test]
fn rows_that_came_and_went_untold_are_told_once_it_is_said_that_there_were_some() {
    let (mut world, connection) = with_rows(3);
    world.settle();
    // The first is new, and the second is no more.
    world.miss(&[7, 1]);
    world.settle();
    let rows = world.rows.clone();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [0, 2, 7]);
    assert!(world.recorder(connection).shown.iter().filter(|(_, version)| **version > 0).eq(&rows));
}

/// What is to be healed does not have the row that was subscribed to after the word that changes were missed.
#[test]
fn a_row_that_came_untold_and_has_a_subscriber_by_then_is_told_to_who_is_told_of_all() {
    for lists in [false, true] {
        let mut world = World::new(1);
        world.commit(0);
        world.begin(false);
        world.turn();
        let (reader, other) = (world.open(0), world.open(0));
        world.recorder(reader).is_everything = true;
        if lists {
            world.recorder(reader).lists.insert(0);
        }
        world.command(reader, 0, Operation::SubscribeAll { table: TABLE, lists }, &[]);
        world.settle();
        world.miss(&[7]);
        for core in 0..CORES {
            world.process(core, usize::MAX);
        }
        world.command(other, 0, Operation::Subscribe, &[7]);
        world.read();
        world.hand_over();
        world.process(0, usize::MAX);
        world.settle();
        let version = world.rows[&7];
        assert_eq!(world.recorder(reader).shown.get(&7), Some(&version), "{lists}");
    }
}

/// There may be no such table, and a read that fails holds up those of all others.
#[test]
fn nothing_is_listed_of_a_table_while_it_is_lost() {
    let mut world = World::new(1);
    (0..3).for_each(|number| world.commit(number));
    world.begin(false);
    world.lose_table();
    world.turn();
    let connection = with_reader(&mut world);
    world.settle();
    assert!(!world.is_watched(), "of one that was lost before its reader came");
    world.lose();
    world.begin(false);
    world.settle();
    assert!(!world.is_watched(), "the source is back without it");
    world.begin_table(false);
    world.settle();
    assert!(world.is_watched());
    let rows = world.rows.clone();
    assert!(world.recorder(connection).shown.iter().filter(|(_, version)| **version > 0).eq(&rows));
    world.lose_table();
    world.settle();
    assert!(!world.is_watched(), "of one that is lost again");
}

#[test]
fn a_deletion_below_the_version_that_was_told_or_at_it_is_told_in_the_new_epoch() {
    for is_at in [false, true] {
        let (mut world, connection) = with_rows(10);
        world.settle();
        let version = world.rows[&7];
        world.set_back(if is_at { version - 1 } else { 0 });
        world.delete(7);
        world.settle();
        assert_eq!(world.recorder(connection).shown[&7], version, "it is not above the version that was told");
        world.lose();
        world.begin(true);
        world.settle();
        assert_eq!(world.recorder(connection).shown.get(&7), Some(&0));
    }
}

/// A deletion below the version that was told is found by the read for another reader.
#[test]
fn an_absence_that_a_read_finds_first_is_told_to_all_who_are_told_of_every_topic() {
    let (mut world, connection) = with_rows(10);
    world.core(0).shards[0].remember(0);
    let other = world.open(1);
    world.recorder(other).is_everything = true;
    world.command(other, 0, Operation::SubscribeAll { table: TABLE, lists: false }, &[]);
    world.settle();
    world.set_back(0);
    world.delete(7);
    world.pull(other, 0, &[7], false);
    world.settle();
    assert_eq!(world.recorder(connection).shown[&7], 0);
}

/// The core of the row's shard hears of the new epoch after that of the reader.
#[test]
fn a_deletion_of_the_epoch_before_is_told_to_who_is_in_the_new_one() {
    let (mut world, connection) = with_rows_on(8, 10);
    world.settle();
    let number = (0..10).find(|&number| world.hub.core_of_topic(topic(number)) != connection.core).unwrap();
    world.delete(number);
    world.begin(true);
    world.process(connection.core.0, usize::MAX);
    assert!(world.recorder(connection).old.contains(&number), "it shows the row of the epoch before");
    world.settle();
    assert_eq!(world.recorder(connection).old, [].into());
    assert_eq!(world.recorder(connection).shown[&number], 0);
}

/// The connection pulls again in the new epoch, before the answer of the one before has come.
#[test]
fn a_pull_that_is_repeated_displaces_none_of_the_new_epoch() {
    let (mut world, connection) = with_rows_on(8, 10);
    world.settle();
    let other = CoreId(1);
    let number = (0..10).find(|&number| world.hub.core_of_topic(topic(number)) == other).unwrap();
    let pulled = 1 << 30;
    world.pull(connection, pulled, &[number], true);
    world.work(connection.core.0);
    world.begin(true);
    world.process(connection.core.0, usize::MAX);
    world.pull(connection, pulled + 1, &[number], false);
    world.work(connection.core.0);
    // The first pull alone.
    world.process(other.0, 1);
    world.work(other.0);
    world.process(connection.core.0, usize::MAX);
    world.settle();
    let ended = &world.recorder(connection).ended;
    assert!(!ended.contains(&(pulled + 1)), "{ended:?}");
}
