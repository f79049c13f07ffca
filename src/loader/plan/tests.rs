use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::listings::ListEnd;
use super::*;
use crate::model::key::{Key, KeyKind};
use crate::model::table::Tables;
use crate::model::topic::testing::{TABLE, number, subject, topic};

fn wish(core: u16, topics: &[(u64, u32)]) -> Wish {
    Wish { core: CoreId(core), topics: topics.iter().map(|&(topic, number)| (subject(topic), number)).collect() }
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn absent(ids: &[Topic]) -> Read {
    let found = ids.iter().map(|&id| (id, Found::Absent { version: 0 })).collect();
    Read { found, left: Vec::new() }
}

impl Order {
    /// The topics of a read that is not for the listing.
    fn ids(&self) -> Vec<Topic> {
        match &self.what {
            Sought::Rows(subjects) => subjects.iter().map(Subject::topic).collect(),
            Sought::KeysAfter(..) => panic!("{self:?}"),
        }
    }
}

impl Plan {
    /// The answers of a read that is not for the listing.
    fn answered(&mut self) -> Option<HashMap<CoreId, Answers>> {
        self.told().map(|told| match told {
            Told::Answers(answers) => answers,
            Told::Listed(_) => panic!("{told:?}"),
        })
    }
}

/// A plan over a source that tells every change.
fn begun() -> (Plan, Instant) {
    let mut plan = Plan::new(2, 25_000);
    plan.heard(SourceHeard::Began(epoch(1)));
    (plan, Instant::now())
}

#[test]
fn wishes_of_all_cores_are_joined_and_each_is_answered() {
    let (mut plan, now) = begun();
    plan.wish(wish(0, &[(1, 10), (2, 11)]));
    plan.wish(wish(1, &[(2, 12), (3, 13)]));
    plan.wish(wish(0, &[(1, 14)]));
    let order = plan.start(now).unwrap();
    assert_eq!(order.ids(), [topic(1), topic(2), topic(3)]);
    plan.wish(wish(0, &[(1, 15)]));
    assert_eq!(plan.start(now), None, "one read at a time");
    plan.read(absent(&order.ids()), now);
    assert!(plan.answered().is_none(), "the barrier is not heard");
    plan.heard(SourceHeard::Barrier(order.barrier + 1));
    assert!(plan.answered().is_none(), "that is another's barrier");
    plan.heard(SourceHeard::Barrier(order.barrier));
    let answers = plan.answered().unwrap();
    let numbers = |core| answers[&CoreId(core)].iter().map(|(topic, of_wish, _)| (number(*topic), *of_wish)).collect();
    let (zero, one): (Vec<_>, Vec<_>) = (numbers(0), numbers(1));
    assert_eq!((zero, one), (vec![(1, 10), (1, 14), (2, 11)], vec![(2, 12), (3, 13)]));
    let next = plan.start(now).unwrap();
    assert_eq!(next.ids(), [topic(1)], "a wish that came after the read had begun is not answered by it");
    assert_ne!(next.barrier, order.barrier);
}

#[test]
fn nothing_is_read_while_changes_may_be_missed_and_a_read_over_a_gap_is_void() {
    let (mut plan, now) = (Plan::new(2, 25_000), Instant::now());
    plan.wish(wish(0, &[(1, 1), (2, 2)]));
    assert_eq!(plan.start(now), None);
    plan.heard(SourceHeard::Began(epoch(1)));
    for (heard, again) in [
        (vec![SourceHeard::Gap, SourceHeard::Began(epoch(1))], "a gap"),
        (vec![SourceHeard::Began(epoch(2))], "another epoch"),
    ] {
        let order = plan.start(now).unwrap();
        plan.read(absent(&order.ids()), now);
        let void: Vec<bool> = heard.into_iter().map(|heard| plan.heard(heard)).collect();
        assert!(void[0], "{again}");
        plan.heard(SourceHeard::Barrier(order.barrier));
        assert!(plan.answered().is_none(), "{again}");
    }
    let order = plan.start(now).unwrap();
    assert_eq!(order.ids(), [topic(1), topic(2)], "in their order");
}

#[test]
fn what_found_no_room_goes_to_the_next_read() {
    let (mut plan, now) = begun();
    plan.wish(wish(0, &[(1, 1), (2, 2), (3, 3)]));
    let order = plan.start(now).unwrap();
    plan.wish(wish(0, &[(4, 4)]));
    plan.heard(SourceHeard::Barrier(order.barrier));
    plan.read(Read { left: vec![topic(2), topic(3)], ..absent(&[topic(1)]) }, now);
    assert_eq!(plan.answered().unwrap()[&CoreId(0)].len(), 1);
    assert_eq!(plan.start(now).unwrap().ids(), [topic(2), topic(3), topic(4)]);
}

#[test]
fn a_read_has_so_many_topics() {
    let (mut plan, now) = begun();
    let topics: Vec<(u64, u32)> = (0..=READ_IDS_MAX as u64).map(|number| (number, 1)).collect();
    plan.wish(wish(0, &topics));
    assert_eq!(plan.start(now).unwrap().ids().len(), READ_IDS_MAX);
}

#[test]
fn a_row_that_spoils_reads_is_found_by_halves() {
    const SPOILT: u64 = 700;
    let (mut plan, now) = begun();
    let topics: Vec<(u64, u32)> = (0..1000).map(|number| (number, 1)).collect();
    plan.wish(wish(0, &topics));
    let (mut answered, mut reads) = (Vec::new(), 0);
    while let Some(order) = plan.start(now) {
        reads += 1;
        plan.heard(SourceHeard::Barrier(order.barrier));
        plan.read(
            match &order.ids()[..] {
                [one] if *one == topic(SPOILT) => {
                    Read { found: vec![(*one, Found::Unreadable { version: 0 })], left: Vec::new() }
                }
                ids if ids.contains(&topic(SPOILT)) => Read { found: Vec::new(), left: ids.to_vec() },
                ids => absent(ids),
            },
            now,
        );
        answered.extend(plan.answered().into_iter().flat_map(|answers| answers[&CoreId(0)].clone()));
    }
    assert_eq!(answered.len(), 1000);
    let spoilt: Vec<_> = answered.iter().filter(|answer| answer.2 == Found::Unreadable { version: 0 }).collect();
    assert_eq!(spoilt, [&(topic(SPOILT), 1, Found::Unreadable { version: 0 })]);
    assert!(reads < 100, "{reads}");
}

#[test]
fn a_failure_is_followed_by_a_wait_that_grows() {
    let (mut plan, mut now) = begun();
    plan.wish(wish(0, &[(1, 1)]));
    let mut waits = Vec::new();
    for _ in 0..12 {
        plan.start(now).unwrap();
        plan.failed(now);
        assert_eq!(plan.start(now), None);
        let until = plan.deadline().unwrap();
        waits.push((until - now).as_millis());
        now = until;
    }
    assert_eq!(waits[..3], [100, 200, 400]);
    assert_eq!(waits[11], BACKOFF.max.as_millis());
    assert_eq!(plan.failing_for(now, Duration::from_secs(10)), Some(TABLE));
    assert_eq!(plan.failing_for(now, Duration::from_secs(10)), None, "told once in that time");
    let order = plan.start(now).unwrap();
    plan.heard(SourceHeard::Barrier(order.barrier));
    plan.read(absent(&order.ids()), now);
    plan.answered().unwrap();
    assert_eq!(plan.failing_for(now + Duration::from_mins(1), Duration::from_secs(10)), None);
}

/// Another table, and a wish for a row of it.
fn orders() -> (TableId, impl Fn(i64) -> Wish, impl Fn(i64) -> Topic) {
    let tables = Tables::with_key([1, 2]);
    assert_eq!(tables.add("notes", KeyKind::Any).unwrap().id, TABLE);
    let orders = tables.add("orders", KeyKind::Any).unwrap().id;
    let of_wish = tables.clone();
    let wish = move |key| Wish { core: CoreId(0), topics: vec![(of_wish.subject(orders, Key::Integer(key)), 9)] };
    (orders, wish, move |key| tables.subject(orders, Key::Integer(key)).topic())
}

#[test]
fn a_table_whose_reads_fail_holds_up_no_other_and_its_failures_are_its_own() {
    const LONG: Duration = Duration::from_secs(5);
    let (orders, wish_of, order) = orders();
    let (mut plan, start) = begun();
    plan.wish(wish_of(1));
    let (mut now, mut of_orders) = (start, 0);
    while now < start + Duration::from_mins(1) {
        plan.wish(wish(0, &[(1, 1)]));
        let read = plan.start(now).expect("one of the two is to be read");
        if read.ids() == [order(1)] {
            of_orders += 1;
            now += LONG;
            plan.failed(now);
            assert_eq!(
                plan.failing_for(now, Duration::from_secs(30)),
                (of_orders == 4).then_some(orders),
                "{of_orders}"
            );
        } else {
            assert_eq!(read.ids(), [topic(1)]);
            plan.read(absent(&read.ids()), now);
            plan.heard(SourceHeard::Barrier(read.barrier));
            assert!(plan.answered().is_some());
            now += Duration::from_millis(500);
            assert_eq!(plan.failing_for(now, Duration::from_secs(30)), None);
        }
    }
    assert_eq!(of_orders, 6, "half of the time");
}

#[test]
fn a_barrier_that_does_not_come_is_overdue_unless_the_source_is_late() {
    let (mut plan, now) = begun();
    plan.wish(wish(0, &[(1, 1)]));
    let order = plan.start(now).unwrap();
    assert!(!plan.is_overdue(now + 2 * BARRIER_TIMEOUT), "the store has its own time");
    plan.read(absent(&order.ids()), now);
    assert_eq!(plan.deadline(), Some(now + BARRIER_TIMEOUT));
    plan.is_late(now + BARRIER_TIMEOUT);
    assert!(!plan.is_overdue(now + BARRIER_TIMEOUT));
    assert!(plan.is_overdue(now + 2 * BARRIER_TIMEOUT));
}

#[derive(Clone, Debug)]
enum Step {
    Wish(u16, Vec<u64>),
    Start,
    Read { left: usize },
    Fail,
    Barrier,
    Gap,
    Began(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u16, prop::collection::vec(0..12_u64, 1..6)).prop_map(|(core, topics)| Step::Wish(core, topics)),
        3 => Just(Step::Start),
        3 => (0..4_usize).prop_map(|left| Step::Read { left }),
        1 => Just(Step::Fail),
        3 => Just(Step::Barrier),
        1 => Just(Step::Gap),
        2 => (1..3_u64).prop_map(Step::Began),
    ]
}

proptest! {
    /// Every number is answered once, by a read that began after its wish and whose barrier came in the session and the
    /// epoch in which it began.
    #[test]
    fn every_wish_is_answered_once_by_a_read_that_counts(steps in prop::collection::vec(step(), 0..80)) {
        let (mut plan, mut now) = (Plan::new(2, 25_000), Instant::now());
        // By core, topic and number: how many reads had begun when it was wished for.
        let mut due: BTreeMap<(u16, u64, u32), u64> = BTreeMap::new();
        let (mut numbers, mut session) = (0, 0);
        // The read under way: its barrier, its topics, the session in which it began.
        let mut reading: Option<(Order, u64)> = None;
        let mut begun = 0;
        let ending = [Step::Began(1), Step::Start, Step::Read { left: 0 }, Step::Barrier];
        let ending = std::iter::repeat_n(ending, 20).flatten();
        for step in steps.into_iter().chain(ending) {
            now += BACKOFF.max;
            match step {
                Step::Wish(core, mut topics) => {
                    topics.dedup();
                    let topics: Vec<(u64, u32)> = topics.into_iter().map(|topic| {
                        numbers += 1;
                        due.insert((core, topic, numbers), begun);
                        (topic, numbers)
                    }).collect();
                    plan.wish(wish(core, &topics));
                }
                Step::Start => if let Some(order) = plan.start(now) {
                    begun = order.barrier;
                    reading = Some((order, session));
                },
                Step::Read { left } => if let Some((order, _)) = reading.as_ref().filter(|(_, of)| *of == session) {
                    let ids = order.ids();
                    let (found, left) = ids.split_at(ids.len() - left.min(ids.len() - 1));
                    plan.read(Read { left: left.to_vec(), ..absent(found) }, now);
                },
                Step::Fail => { plan.failed(now); session += 1; }
                Step::Barrier => if let Some((order, _)) = &reading {
                    plan.heard(SourceHeard::Barrier(order.barrier));
                },
                Step::Gap => { plan.heard(SourceHeard::Gap); session += 1; }
                Step::Began(number) => { plan.heard(SourceHeard::Began(epoch(number))); session += 1; }
            }
            for (core, answers) in plan.answered().into_iter().flatten() {
                let (order, of) = reading.as_ref().expect("there was a read");
                prop_assert_eq!(*of, session, "a void read was handed over");
                for (topic, of_wish, _) in answers {
                    let wished = due.remove(&(core.0, number(topic), of_wish));
                    prop_assert!(wished.is_some_and(|begun| begun < order.barrier), "answered twice, or too early");
                }
            }
        }
        prop_assert!(due.is_empty(), "never answered: {:?}", due);
    }
}

const fn watch(number: u32, may_refuse: bool) -> Watch {
    Watch { number, may_refuse }
}

fn keys(ids: std::ops::Range<u64>, is_last: bool) -> Keys {
    let next = (!is_last).then(|| subject(ids.end - 1).key());
    Keys { keys: ids.map(|number| (subject(number), number + 1)).collect(), next }
}

/// Has the next read, which is to be of the listing, come and its barrier heard.
fn list(plan: &mut Plan, after: Option<u64>, keys: Keys, now: Instant) -> Option<ListEnd> {
    let order = plan.start(now).unwrap();
    assert_eq!(order.what, Sought::KeysAfter(TABLE, after.map(|number| subject(number).key())));
    plan.read_keys(keys.clone(), now);
    assert_eq!(plan.told(), None, "its barrier is not heard");
    plan.heard(SourceHeard::Barrier(order.barrier));
    match plan.told() {
        Some(Told::Listed(Listed { table: TABLE, keys: told, end, watches })) => {
            assert_eq!((told, watches.len()), (keys.keys, 2));
            end
        }
        told => panic!("{told:?}"),
    }
}

#[test]
fn rows_are_listed_page_by_page_once_all_cores_watch_and_anew_after_a_gap() {
    let (mut plan, now) = begun();
    assert!(!plan.watch(CoreId(0), TABLE, Some(watch(1, true))));
    assert_eq!(plan.start(now), None, "the other core would not take them");
    assert!(!plan.watch(CoreId(1), TABLE, Some(watch(1, true))));
    assert_eq!(list(&mut plan, None, keys(0..10_000, false), now), None);
    let order = plan.start(now).unwrap();
    assert_eq!(order.what, Sought::KeysAfter(TABLE, Some(subject(9_999).key())));
    assert!(plan.heard(SourceHeard::Gap), "the page is void");
    assert_eq!(plan.start(now), None);
    plan.heard(SourceHeard::Began(epoch(1)));
    assert_eq!(list(&mut plan, None, keys(0..10_000, false), now), None);
    assert_eq!(list(&mut plan, Some(9_999), keys(10_000..10_001, true), now), Some(ListEnd::Whole));
    assert_eq!(plan.start(now), None, "it has ended");
    plan.watch(CoreId(0), TABLE, None);
    assert!(!plan.watch(CoreId(0), TABLE, Some(watch(2, false))));
    assert_eq!(list(&mut plan, None, keys(0..0, true), now), Some(ListEnd::Whole), "a core that came back lists anew");
}

#[test]
fn a_page_for_a_core_that_has_asked_anew_is_void() {
    let (mut plan, now) = begun();
    plan.watch(CoreId(0), TABLE, Some(watch(1, true)));
    plan.watch(CoreId(1), TABLE, Some(watch(1, true)));
    let order = plan.start(now).unwrap();
    assert!(plan.watch(CoreId(1), TABLE, Some(watch(2, true))));
    plan.heard(SourceHeard::Barrier(order.barrier));
    assert_eq!(plan.told(), None);
    assert_eq!(list(&mut plan, None, keys(0..3, true), now), Some(ListEnd::Whole));
}

#[test]
fn the_listing_and_the_wishes_take_turns() {
    let (mut plan, now) = begun();
    plan.watch(CoreId(0), TABLE, Some(watch(1, true)));
    plan.watch(CoreId(1), TABLE, Some(watch(1, true)));
    plan.wish(wish(0, &[(1, 1)]));
    let mut wishes_read = 0;
    for _ in 0..2 {
        let order = plan.start(now).unwrap();
        if let Sought::Rows(_) = &order.what {
            wishes_read += 1;
            plan.read(absent(&order.ids()), now);
        } else {
            plan.read_keys(keys(0..2, false), now);
        }
        plan.heard(SourceHeard::Barrier(order.barrier));
        assert!(plan.told().is_some());
    }
    assert_eq!(wishes_read, 1);
}

#[test]
fn more_rows_than_may_be_listed_are_refused_to_who_was_promised_nothing() {
    for (may_refuse, end) in [(true, Some(ListEnd::TooMany)), (false, None)] {
        let (mut plan, now) = begun();
        plan.watch(CoreId(0), TABLE, Some(watch(1, true)));
        plan.watch(CoreId(1), TABLE, Some(watch(1, may_refuse)));
        assert_eq!(list(&mut plan, None, keys(0..25_000, false), now), None);
        assert_eq!(list(&mut plan, Some(24_999), keys(25_000..25_001, false), now), end);
    }
}

#[test]
fn rows_are_listed_no_faster_than_every_core_takes_them() {
    let (mut plan, now) = begun();
    plan.watch(CoreId(0), TABLE, Some(watch(1, true)));
    plan.watch(CoreId(1), TABLE, Some(watch(1, true)));
    for page in 0..2_u64 {
        list(&mut plan, (page * 10).checked_sub(1), keys(page * 10..page * 10 + 10, false), now);
        plan.listings().handed(CoreId(1), TABLE, 1);
    }
    plan.listings().taken(CoreId(0), TABLE, 1);
    plan.listings().taken(CoreId(1), TABLE, 7);
    assert_eq!((plan.start(now), plan.deadline()), (None, None), "one core has two pages");
    plan.wish(wish(0, &[(1, 1)]));
    let order = plan.start(now).expect("wishes do not wait for that");
    plan.read(absent(&order.ids()), now);
    plan.heard(SourceHeard::Barrier(order.barrier));
    assert!(plan.answered().is_some());
    assert_eq!(plan.start(now), None);
    plan.listings().taken(CoreId(1), TABLE, 1);
    list(&mut plan, Some(19), keys(20..30, false), now);
    plan.listings().handed(CoreId(1), TABLE, 1);
    assert_eq!(plan.start(now), None);
    plan.watch(CoreId(1), TABLE, Some(watch(2, true)));
    plan.listings().taken(CoreId(1), TABLE, 1);
    list(&mut plan, None, keys(0..10, true), now);
}

#[test]
fn a_table_that_is_lost_is_not_read_and_holds_up_no_other() {
    let (orders, wish_of, order) = orders();
    let (mut plan, now) = begun();
    plan.wish(wish_of(1));
    assert_eq!(plan.start(now).unwrap().ids(), [order(1)]);
    plan.wish(wish_of(2));
    assert!(plan.heard(SourceHeard::Table(orders, false)), "the read that is under way is void");
    plan.wish(wish_of(3));
    plan.wish(wish(0, &[(1, 1)]));
    let read = plan.start(now).expect("others are read");
    assert_eq!(read.ids(), [topic(1)]);
    assert!(!plan.heard(SourceHeard::Table(orders, true)), "that of another table is not");
    plan.read(absent(&read.ids()), now);
    plan.heard(SourceHeard::Barrier(read.barrier));
    assert_eq!(plan.answered().unwrap()[&CoreId(0)].len(), 1);
    assert_eq!(plan.start(now), None, "the shards wish anew");
    plan.wish(wish_of(4));
    assert_eq!(plan.start(now).unwrap().ids(), [order(4)]);
}
