//! The index beside a set of pairs.

use std::collections::BTreeSet;

use proptest::prelude::*;
use slotmap::KeyData;

use super::*;
use crate::model::topic::testing::{subject, topic};

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u8, u64),
    Unsubscribe(u8, u64),
    /// The end of a connection, so many subscriptions at a time.
    Close(u8, usize),
    /// A message in flight takes the lists of a topic.
    Hold(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let connection = 0u8..12;
    let topic = 0u64..8;
    let step = prop_oneof![
        5 => (connection.clone(), topic.clone()).prop_map(|(c, p)| Step::Subscribe(c, p)),
        3 => (connection.clone(), topic.clone()).prop_map(|(c, p)| Step::Unsubscribe(c, p)),
        1 => (connection, 1..4usize).prop_map(|(c, max)| Step::Close(c, max)),
        1 => topic.prop_map(Step::Hold),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Returns a connection of one of three cores, in one of two generations of its slot.
fn connection(number: u8) -> ConnectionId {
    let key = key(u32::from(number / 6), u32::from(number % 2));
    ConnectionId { core: CoreId(u16::from(number % 6 / 2)), key }
}

/// Returns the key of the slot's connection after so many others.
fn key(slot: u32, others: u32) -> SlotKey {
    KeyData::from_ffi(u64::from(others * 2 + 1) << 32 | u64::from(slot)).into()
}

/// Closes a connection, so many subscriptions at a time; returns the number of them.
fn close(index: &mut SubscriptionIndex, connection: ConnectionId, max: usize) -> usize {
    let (mut closing, mut ended) = (Closing::default(), 0);
    while index.is_subscribed(connection) {
        let more = index.close(connection, &mut closing, max);
        assert!((1..=max).contains(&more), "{more} of at most {max} ended");
        ended += more;
    }
    ended
}

fn named(index: &SubscriptionIndex, number: u64) -> BTreeSet<(CoreId, SlotKey)> {
    let lists = index.subscribers(topic(number)).iter();
    lists.flat_map(|list| list.keys.iter().map(|&key| (list.core, key))).collect()
}

proptest! {
    #[test]
    fn it_does_what_a_set_of_pairs_does(steps in steps()) {
        let mut index = SubscriptionIndex::new();
        let mut model: BTreeSet<(u8, u64)> = BTreeSet::new();
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Subscribe(c, p) => {
                    prop_assert_eq!(index.subscribe(connection(c), &subject(p)), model.insert((c, p)));
                }
                Step::Unsubscribe(c, p) => {
                    prop_assert_eq!(index.unsubscribe(connection(c), topic(p)), model.remove(&(c, p)));
                }
                Step::Close(c, max) => {
                    let before = model.len();
                    model.retain(|&(other, _)| other != c);
                    let mut closing = Closing::default();
                    let first = index.close(connection(c), &mut closing, max);
                    index.check();
                    prop_assert_eq!(first + close(&mut index, connection(c), max), before - model.len());
                }
                Step::Hold(p) => {
                    let lists = index.subscribers(topic(p)).to_vec();
                    let copy: Vec<_> = lists.iter().map(|list| (list.core, list.keys.to_vec())).collect();
                    held.push((lists, copy));
                }
            }
            index.check();
            for p in 0..8 {
                let expected: BTreeSet<_> = model
                    .iter()
                    .filter(|&&(_, other)| other == p)
                    .map(|&(c, _)| connection(c))
                    .map(|c| (c.core, c.key))
                    .collect();
                prop_assert_eq!(named(&index, p), expected);
                if !index.subscribers(topic(p)).is_empty() {
                    prop_assert_eq!(index.subject(topic(p)), subject(p));
                }
            }
        }
        for (lists, copy) in held {
            let kept: Vec<_> = lists.iter().map(|list| (list.core, list.keys.to_vec())).collect();
            prop_assert_eq!(kept, copy, "a list in flight changed");
        }
        for c in 0..12 {
            close(&mut index, connection(c), usize::MAX);
        }
        prop_assert_eq!((index.topics_len(), index.connections_len()), (0, 0));
    }
}

#[test]
fn a_flood_of_subscriptions_leaves_no_room_behind() {
    let mut index = SubscriptionIndex::new();
    let ids = 100..50_000;
    for number in (0..50).chain(ids.clone()) {
        index.subscribe(connection(0), &subject(number));
        index.subscribe(connection(1), &subject(number % 50));
    }
    for number in ids {
        index.unsubscribe(connection(0), topic(number));
    }
    let room = [index.narrow.room().0, index.wide.room().0];
    assert!(room.iter().all(|&topics| topics < 8192), "{room:?}");
    close(&mut index, connection(0), usize::MAX);
    index.check();
    assert_eq!((index.topics_len(), index.connections_len()), (50, 2), "one connection, with topics of both sizes");
    for number in 0..2 {
        for slot in 0..50_000 {
            index.subscribe(ConnectionId { core: CoreId(7), key: key(slot, 0) }, &subject(number));
        }
        for slot in 0..50_000 {
            close(&mut index, ConnectionId { core: CoreId(7), key: key(slot, 0) }, 10);
        }
    }
    let room = [index.narrow.room().1, index.wide.room().1];
    assert!(room.iter().all(|&connections| connections < 8192), "{room:?}");
    index.check();
}

/// Returns an index in which so many connections subscribe to so many topics each: all narrow, or all wide.
fn index_of(connections: u32, topics: u64, is_wide: bool) -> SubscriptionIndex {
    let mut index = SubscriptionIndex::new();
    for slot in 0..connections {
        for number in 0..topics {
            let subject = subject(2 * number + u64::from(is_wide));
            index.subscribe(ConnectionId { core: CoreId(0), key: key(slot, 0) }, &subject);
        }
    }
    index
}

#[test]
fn a_wide_topic_takes_its_row_and_else_what_an_integer_takes() {
    // Shared by all connections; each one's own.
    for (connections, topics) in [(500, 40), (1, 20_000)] {
        let [narrow, wide] = [false, true].map(|is_wide| {
            let index = index_of(connections, topics, is_wide);
            index.narrow.table_bytes() + index.wide.table_bytes()
        });
        assert_eq!(wide, narrow, "{connections} connections, {topics} topics");
    }
}

#[test]
fn a_wide_row_stands_once_however_many_subscribe_to_it() {
    let mut index = SubscriptionIndex::new();
    let subjects: Vec<Subject> = (0..12).map(|_| subject(1)).collect();
    for (number, subject) in (0..).zip(&subjects) {
        index.subscribe(connection(number), subject);
    }
    let holders = |subject: &Subject| Arc::strong_count(subject.wide().unwrap());
    let kept = index.subject(topic(1));
    assert!(Arc::ptr_eq(kept.wide().unwrap(), subjects[0].wide().unwrap()));
    // The entry, each subscription, the list and this one.
    assert_eq!(holders(&kept), 1 + 12 + 2);
    assert!(subjects[1..].iter().all(|subject| holders(subject) == 1));
    for number in 0..12 {
        close(&mut index, connection(number), 1);
    }
    assert_eq!(holders(&kept), 2, "nothing is left of it");
}
