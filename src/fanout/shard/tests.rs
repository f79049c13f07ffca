//! Two servers over one database, in a model that knows the truth: streams that lag and break, loaders whose answers come
//! late, histories that are replaced, and readers that come, go, ask, and resume with what another server told them.
//!
//! A reader here does what a session and a client do together: it ignores the changes of a topic that it has pulled
//! until the answer comes, and keeps the version at which a topic was gone.

mod reader;
mod world;

use proptest::prelude::*;
use slotmap::KeyData;

use self::world::{Limits, Step, World};
use super::super::{CoreId, SlotKey};
use super::*;
use crate::fanout::Pull;
use crate::fanout::message::{Loaded, LoadedRow};
use crate::model::topic::testing::{number, subject, tables, topic};
use crate::wire::websocket::Opcode;

const TOPICS: u64 = 4;
const SERVERS: usize = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let server = 0..SERVERS;
    let topics = 0..TOPICS;
    let reader = any::<usize>();
    let step = prop_oneof![
        10 => (topics.clone(), any::<bool>(), 0..8u8).prop_map(|(topic, exists, of_eight)| Step::Commit {
            topic,
            exists,
            is_whole: of_eight > 0,
            is_readable: of_eight > 1,
        }),
        14 => (server.clone(), 1..4usize).prop_map(|(server, events)| Step::Hear(server, events)),
        6 => server.clone().prop_map(Step::Read),
        6 => server.clone().prop_map(Step::Notify),
        6 => server.clone().prop_map(Step::HandOver),
        2 => server.clone().prop_map(Step::Lose),
        3 => server.clone().prop_map(Step::Connect),
        3 => server.clone().prop_map(Step::Begin),
        4 => server.clone().prop_map(Step::Heal),
        4 => server.prop_map(Step::Come),
        5 => (reader, topics.clone()).prop_map(|(reader, topic)| Step::Subscribe(reader, topic)),
        4 => (reader, topics.clone()).prop_map(|(reader, topic)| Step::Ask(reader, topic)),
        4 => (reader, topics.clone()).prop_map(|(reader, topic)| Step::Resume(reader, topic)),
        1 => (reader, topics.clone()).prop_map(|(reader, topic)| Step::Forge(reader, topic)),
        2 => (reader, topics).prop_map(|(reader, topic)| Step::Unsubscribe(reader, topic)),
        1 => reader.prop_map(Step::Move),
        4 => reader.prop_map(Step::Reconnect),
        1 => Just(Step::RemoveTombstones),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
        1 => Just(Step::Renew),
    ];
    proptest::collection::vec(step, 0..160)
}

fn limits() -> impl Strategy<Value = Limits> {
    let bytes = prop_oneof![Just(0), Just(400), Just(1 << 20)];
    (bytes, 1..4usize, 1..4usize).prop_map(|(bytes, wishes, rows)| Limits { bytes, wishes, rows })
}

proptest! {
    #[test]
    fn no_reader_is_wrong_for_good(steps in steps(), limits in limits()) {
        let mut world = World::new(limits);
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.settle();
        world.check_truth();
    }
}

fn connection(number: u32) -> ConnectionId {
    let key: SlotKey = KeyData::from_ffi(1 << 32 | u64::from(number)).into();
    ConnectionId { core: CoreId(0), key }
}

fn frame(bytes: &[u8]) -> Frame {
    Frame::new(Opcode::Text, bytes)
}

/// A shard whose source has begun, and on which connection 1 is subscribed to topic 1.
fn shard(bytes_max: usize) -> (Shard, Output) {
    let mut shard = Shard::new(bytes_max, tables());
    shard.begin(true);
    shard.subscribe(connection(1), &subject(1), 0);
    (shard, Output::default())
}

const WHOLE: Newest = Newest { is_whole: true, is_deletion: false };

fn cast(shard: &mut Shard, number: u64, version: u64, bytes: usize, out: &mut Output) {
    let mut frames = smallvec::smallvec![(version, frame(&vec![b'x'; bytes]))];
    shard.cast(&subject(number), &mut frames, WHOLE, out);
}

fn pull(known: u64, number: u32) -> Pull {
    Pull { subject: subject(1), known, number }
}

#[test]
fn a_value_of_which_changes_may_have_been_missed_does_not_outlive_its_last_subscriber() {
    let (mut shard, mut out) = shard(1 << 20);
    shard.pull(connection(1), pull(0, 1), false, &mut out);
    let (_, number) = out.wishes.pop().unwrap();
    let row = LoadedRow::Present { version: 5, frame: frame(b"old") };
    shard.loaded(Loaded { topic: topic(1), number, row }, &mut out);
    assert!(matches!(out.answers.pop(), Some((_, Pulled { value: Value::Present { version: 5, .. }, .. }))));
    shard.lose();
    shard.begin(false);
    shard.heal(10, &mut out);
    assert!(shard.unsubscribe(connection(1), topic(1), &mut out));
    shard.subscribe(connection(2), &subject(1), 0);
    shard.pull(connection(2), pull(0, 2), false, &mut out);
    assert_eq!(out.answers, []);
    for (_, number) in std::mem::take(&mut out.wishes) {
        let row = LoadedRow::Absent { version: 9 };
        shard.loaded(Loaded { topic: topic(1), number, row }, &mut out);
    }
    // The wish of before the subscription is not enough, if the loader had it.
    for (_, number) in std::mem::take(&mut out.wishes) {
        let row = LoadedRow::Absent { version: 9 };
        shard.loaded(Loaded { topic: topic(1), number, row }, &mut out);
    }
    assert!(matches!(out.answers[..], [(_, Pulled { number: 2, value: Value::Absent { version: 9 }, .. })]), "{out:?}");
}

#[test]
fn a_subscription_that_asks_for_nothing_has_nothing_remembered() {
    let (mut shard, mut out) = shard(1 << 20);
    cast(&mut shard, 1, 5, 100, &mut out);
    assert!(out.is_empty());
    assert_eq!(shard.held_bytes(), 0);
    shard.pull(connection(1), pull(5, 1), false, &mut out);
    assert_eq!(out.answers.pop().unwrap().1.value, Value::Same, "its version is enough for who knows it");
    assert!(out.is_empty(), "and nothing is read");
}

#[test]
fn who_knows_a_version_is_answered_by_a_read_that_began_after_its_pull() {
    let (mut shard, mut out) = shard(1 << 20);
    shard.subscribe(connection(2), &subject(1), 0);
    shard.pull(connection(1), pull(0, 1), false, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    // Heard on another server, perhaps after the read that is under way began.
    shard.pull(connection(2), pull(9, 2), false, &mut out);
    assert!(out.is_empty(), "one wish of a topic at a time");
    let row = |version| LoadedRow::Present { version, frame: frame(b"row") };
    shard.loaded(Loaded { topic: subject.topic(), number, row: row(5) }, &mut out);
    let value = Value::Present { version: 5, frame: frame(b"row") };
    assert_eq!(out.answers.drain(..).collect::<Vec<_>>(), [(connection(1), Pulled { subject, number: 1, value })]);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.loaded(Loaded { topic: subject.topic(), number, row: row(9) }, &mut out);
    assert_eq!(out.answers, [(connection(2), Pulled { subject, number: 2, value: Value::Same })]);
    assert!(shard.loadings.is_empty() && out.wishes.is_empty());
}

#[test]
fn nothing_is_answered_from_memory_before_it_is_healed() {
    let (mut shard, mut out) = shard(1 << 20);
    cast(&mut shard, 1, 5, 100, &mut out);
    shard.lose();
    assert!(!shard.subscribe(connection(3), &subject(1), 5).is_same, "changes are being missed");
    shard.begin(false);
    shard.pull(connection(1), pull(5, 1), false, &mut out);
    assert!(out.answers.is_empty(), "a change of it may have been missed");
    assert!(!shard.subscribe(connection(3), &subject(1), 5).is_same, "a change of it may have been missed");
    shard.heal(1, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    assert!(!shard.subscribe(connection(2), &subject, 5).is_same, "its row is on the way");
    shard.pull(connection(2), pull(5, 2), false, &mut out);
    assert!(out.answers.is_empty() && !shard.is_healed(), "its row is on the way");
    shard.loaded(
        Loaded { topic: subject.topic(), number, row: LoadedRow::Present { version: 7, frame: frame(b"row") } },
        &mut out,
    );
    let read = Read { subject: subject.clone(), version: 7, frame: frame(b"row"), is_absence: false };
    assert_eq!(out.casts, [read]);
    let value = Value::Present { version: 7, frame: frame(b"row") };
    assert_eq!(out.answers, [(connection(1), Pulled { subject: subject.clone(), number: 1, value })]);
    assert!(shard.is_healed());
    assert!(
        shard.subscribe(connection(2), &subject, 7).is_same && !shard.subscribe(connection(2), &subject, 1).is_same
    );
}

#[test]
fn a_change_that_is_not_newer_reaches_nobody() {
    let (mut shard, mut out) = shard(1 << 20);
    for (versions, newer) in [(&[5, 6][..], &[5, 6][..]), (&[6], &[]), (&[4, 5], &[]), (&[6, 7, 7, 3], &[7])] {
        let mut frames = versions.iter().map(|&version| (version, frame(b"x"))).collect();
        shard.cast(&subject(1), &mut frames, WHOLE, &mut out);
        let told: Vec<u64> = frames.iter().map(|(version, _)| *version).collect();
        assert_eq!(told, newer, "{versions:?}");
    }
}

/// Its delete was told, and a load that somebody else wished for says no more.
#[test]
fn the_absence_of_what_was_told_to_be_deleted_is_told_only_to_who_asked() {
    let (mut shard, mut out) = shard(1 << 20);
    shard.subscribe(connection(2), &subject(1), 0);
    // A store may know that it is absent up to a later version, or know no version.
    for (deleted, version) in [(6, 9), (20, 0)] {
        cast(&mut shard, 1, deleted, 100, &mut out);
        shard.remember(0);
        shard.make_room(&mut out);
        shard.pull(connection(2), pull(0, 7), false, &mut out);
        let (subject, number) = out.wishes.pop().unwrap();
        shard.loaded(Loaded { topic: subject.topic(), number, row: LoadedRow::Absent { version } }, &mut out);
        let pulled = Pulled { subject, number: 7, value: Value::Absent { version } };
        assert_eq!(out.answers.drain(..).collect::<Vec<_>>(), [(connection(2), pulled)]);
        assert!(out.casts.is_empty(), "{:?}", out.casts);
    }
}

#[test]
fn a_row_that_was_wished_for_before_a_subscription_means_nothing_to_it() {
    let (mut shard, mut out) = shard(1 << 20);
    shard.pull(connection(1), pull(0, 1), false, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.unsubscribe(connection(1), subject.topic(), &mut out);
    out.answers.clear();
    // Nobody is told of this change, and nothing is remembered of it.
    cast(&mut shard, 1, 6, 10, &mut out);
    shard.subscribe(connection(2), &subject, 0);
    shard.subscribe(connection(3), &subject, 0);
    shard.pull(connection(3), pull(0, 2), false, &mut out);
    let row = |version| LoadedRow::Present { version, frame: frame(b"row") };
    shard.loaded(Loaded { topic: subject.topic(), number, row: row(5) }, &mut out);
    assert!(out.answers.is_empty() && out.casts.is_empty());
    let (subject, number) = out.wishes.pop().unwrap();
    shard.loaded(Loaded { topic: subject.topic(), number, row: row(6) }, &mut out);
    let value = Value::Present { version: 6, frame: frame(b"row") };
    assert_eq!(out.answers, [(connection(3), Pulled { subject, number: 2, value })]);
    assert!(out.casts.is_empty(), "connection 2 asked for changes alone, and there was none since it came");
}

#[test]
fn a_row_that_cannot_be_read_is_told_by_its_id_and_holds_nobody_up() {
    let (mut shard, mut out) = shard(1 << 20);
    shard.pull(connection(1), pull(0, 7), false, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.loaded(Loaded { topic: subject.topic(), number, row: LoadedRow::Unreadable { version: 0 } }, &mut out);
    let value = Value::Present { version: 0, frame: unreadable(&subject, 0) };
    assert_eq!(out.answers, [(connection(1), Pulled { subject, number: 7, value })]);
    assert!(shard.loadings.is_empty());
}

fn unreadable(subject: &Subject, version: u64) -> Frame {
    Frame::of_unreadable(&tables().get(subject.topic().table()), &subject.key(), version)
}

#[test]
fn a_row_that_cannot_be_read_is_told_once_a_version_to_who_may_have_missed_it() {
    let (mut shard, mut out) = shard(1 << 20);
    cast(&mut shard, 1, 5, 100, &mut out);
    for (version, is_told) in [(5, false), (7, true), (7, false)] {
        shard.lose();
        shard.begin(false);
        shard.heal(10, &mut out);
        let (subject, number) = out.wishes.pop().unwrap();
        shard.loaded(Loaded { topic: subject.topic(), number, row: LoadedRow::Unreadable { version } }, &mut out);
        let frame = unreadable(&subject, version);
        let told = is_told.then_some(Read { subject, version, frame, is_absence: false });
        assert_eq!(out.casts.drain(..).collect::<Vec<_>>(), told.into_iter().collect::<Vec<_>>());
        assert!(shard.is_healed());
    }
    // Who pulls it is told what it does not know.
    for (known, number) in [(0, 1), (5, 2), (7, 3)] {
        shard.pull(connection(1), pull(known, number), false, &mut out);
        if known == 7 {
            assert_eq!(out.answers.pop().unwrap().1.value, Value::Same);
            continue;
        }
        let (subject, wish) = out.wishes.pop().unwrap();
        let row = LoadedRow::Unreadable { version: 7 };
        shard.loaded(Loaded { topic: subject.topic(), number: wish, row }, &mut out);
        let value = Value::Present { version: 7, frame: unreadable(&subject, 7) };
        assert_eq!(out.answers.pop(), Some((connection(1), Pulled { subject, number, value })));
        assert!(out.is_empty() && shard.loadings.is_empty());
    }
}

#[test]
fn who_knows_a_version_is_told_of_a_row_that_cannot_be_read_by_a_read_that_began_after_its_pull() {
    let (mut shard, mut out) = shard(1 << 20);
    shard.subscribe(connection(2), &subject(1), 0);
    shard.pull(connection(1), pull(0, 1), false, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.pull(connection(2), pull(9, 2), false, &mut out);
    let loaded = |subject: &Subject, number, version| Loaded {
        topic: subject.topic(),
        number,
        row: LoadedRow::Unreadable { version },
    };
    shard.loaded(loaded(&subject, number, 5), &mut out);
    let value = Value::Present { version: 5, frame: unreadable(&subject, 5) };
    assert_eq!(out.answers.drain(..).collect::<Vec<_>>(), [(connection(1), Pulled { subject, number: 1, value })]);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.loaded(loaded(&subject, number, 9), &mut out);
    assert_eq!(out.answers, [(connection(2), Pulled { subject, number: 2, value: Value::Same })]);
}

#[test]
fn a_row_that_cannot_be_read_and_is_below_what_was_told_says_that_the_history_was_replaced() {
    let (mut shard, mut out) = shard(1 << 20);
    cast(&mut shard, 1, 5, 100, &mut out);
    shard.lose();
    shard.begin(false);
    shard.heal(10, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.loaded(Loaded { topic: subject.topic(), number, row: LoadedRow::Unreadable { version: 4 } }, &mut out);
    assert_eq!(out.regressed, Some(subject.topic().table()));
    assert!(out.casts.is_empty() && !shard.is_healed());
}

#[test]
fn what_nobody_is_subscribed_to_goes_before_what_somebody_is_and_versions_stay() {
    let (mut shard, mut out) = shard(100_000);
    for number in 1..=8 {
        shard.subscribe(connection(1), &subject(number), 0);
        shard.pull(connection(1), Pull { subject: subject(number), known: 0, number: 0 }, false, &mut out);
        cast(&mut shard, number, 5, 10_000, &mut out);
    }
    for number in [3, 5] {
        shard.unsubscribe(connection(1), topic(number), &mut out);
    }
    assert_eq!(out.evicted, 0);
    for (kept, evicted) in [(61_000, 2), (51_000, 1), (0, 5)] {
        out.evicted = 0;
        shard.remember(kept);
        shard.make_room(&mut out);
        assert_eq!(out.evicted, evicted, "of those that are more than {kept} bytes");
        check_memory(&mut shard);
        assert!(shard.held_bytes() <= kept);
        assert!(shard.index.entry_of(topic(3)).is_none() && shard.index.entry_of(topic(5)).is_none());
    }
    assert_eq!(shard.index.entry_of(topic(1)).unwrap().last.version(), 5);
}

#[test]
fn who_comes_and_goes_while_the_store_is_away_leaves_nothing_behind() {
    let (mut shard, mut out) = shard(0);
    shard.wishes_max = 10;
    for number in 0..100_000 {
        shard.subscribe(connection(2), &subject(number), 0);
        shard.pull(connection(2), Pull { subject: subject(number), known: 0, number: 0 }, false, &mut out);
        shard.unsubscribe(connection(2), topic(number), &mut out);
        out.answers.clear();
    }
    assert_eq!(out.wishes.len(), 10);
    assert_eq!(shard.loadings.len(), 10, "only those that the loader has");
    assert!(shard.to_wish.len() <= 2048, "{}", shard.to_wish.len());
}

#[test]
fn who_is_told_of_all_and_goes_before_its_pulls_are_wished_for_leaves_nothing_behind() {
    let (mut shard, mut out) = shard(0);
    shard.wishes_max = 1;
    let table = topic(1).table();
    shard.watch(table);
    shard.set_listing(table, false);
    for number in 2..10 {
        shard.pull(connection(2), Pull { subject: subject(number), known: 0, number: 0 }, true, &mut out);
    }
    shard.leave_everything(table, connection(2), &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    shard.loaded(Loaded { topic: subject.topic(), number, row: LoadedRow::Absent { version: 0 } }, &mut out);
    assert_eq!((shard.check(), shard.index.topics_len()), (0, 1), "the others wait for its rows");
}

/// Whoever is told of all rows came once every change was told again: there is nothing that it missed.
#[test]
fn a_row_that_is_listed_before_its_subscribers_are_told_what_they_missed_is_read_for_them() {
    let (mut shard, mut out) = shard(0);
    cast(&mut shard, 1, 5, 10, &mut out);
    shard.lose();
    shard.begin(false);
    let table = topic(1).table();
    shard.watch(table);
    shard.listed(&subject(1), 7, false);
    shard.heal(10, &mut out);
    let (subject, number) = out.wishes.pop().unwrap();
    let row = LoadedRow::Present { version: 7, frame: frame(b"row") };
    shard.loaded(Loaded { topic: subject.topic(), number, row }, &mut out);
    assert_eq!(out.casts, [Read { subject, version: 7, frame: frame(b"row"), is_absence: false }]);
}

#[test]
fn a_row_that_is_gone_is_not_listed_while_somebody_is_subscribed_to_it() {
    let (mut shard, mut out) = shard(0);
    let table = topic(1).table();
    shard.watch(table);
    shard.set_listing(table, false);
    for (version, is_deletion) in [(5, false), (6, true), (7, false)] {
        let mut frames = smallvec::smallvec![(version, frame(b"change"))];
        shard.cast(&subject(1), &mut frames, Newest { is_deletion, ..WHOLE }, &mut out);
        assert_eq!(shard.page(table, None, 10).0.len(), usize::from(!is_deletion));
    }
}

/// Panics if the shard's counts are not the sums of what it has.
fn check_memory(shard: &mut Shard) {
    let topics: Vec<Topic> = shard.index.topics().collect();
    let mut values = Vec::new();
    for topic in topics {
        let entry = shard.index.entry_of(topic).expect("it has a subscriber or a value");
        if entry.last.is_held() {
            values.push((entry.last.held_bytes(), entry.subscribers().is_empty()));
        }
    }
    shard.memory.check(values.into_iter());
}
