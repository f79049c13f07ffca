use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn id(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

fn wish(core: u16, products: &[(u64, u32)]) -> Wish {
    Wish { core: CoreId(core), products: products.iter().map(|&(product, number)| (id(product), number)).collect() }
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn absent(ids: &[ProductId]) -> Read {
    let found = ids.iter().map(|&id| (id, Found::Absent { version: 0 })).collect();
    Read { found, left: Vec::new() }
}

/// A plan over a source that tells every change.
fn begun() -> (Plan, Instant) {
    let mut plan = Plan::default();
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
    assert_eq!(order.ids, [id(1), id(2), id(3)]);
    plan.wish(wish(0, &[(1, 15)]));
    assert_eq!(plan.start(now), None, "one read at a time");
    plan.read(absent(&order.ids), now);
    assert!(plan.answers().is_none(), "the barrier is not heard");
    plan.heard(SourceHeard::Barrier(order.barrier + 1));
    assert!(plan.answers().is_none(), "that is another's barrier");
    plan.heard(SourceHeard::Barrier(order.barrier));
    let answers = plan.answers().unwrap();
    let numbers = |core| answers[&CoreId(core)].iter().map(|(product, number, _)| (product.get(), *number)).collect();
    let (zero, one): (Vec<_>, Vec<_>) = (numbers(0), numbers(1));
    assert_eq!((zero, one), (vec![(1, 10), (1, 14), (2, 11)], vec![(2, 12), (3, 13)]));
    let next = plan.start(now).unwrap();
    assert_eq!(next.ids, [id(1)], "a wish that came after the read had begun is not answered by it");
    assert_ne!(next.barrier, order.barrier);
}

#[test]
fn nothing_is_read_while_changes_may_be_missed_and_a_read_over_a_gap_is_void() {
    let (mut plan, now) = (Plan::default(), Instant::now());
    plan.wish(wish(0, &[(1, 1), (2, 2)]));
    assert_eq!(plan.start(now), None);
    plan.heard(SourceHeard::Began(epoch(1)));
    for (heard, again) in [
        (vec![SourceHeard::Gap, SourceHeard::Began(epoch(1))], "a gap"),
        (vec![SourceHeard::Began(epoch(2))], "another epoch"),
    ] {
        let order = plan.start(now).unwrap();
        plan.read(absent(&order.ids), now);
        let void: Vec<bool> = heard.into_iter().map(|heard| plan.heard(heard)).collect();
        assert!(void[0], "{again}");
        plan.heard(SourceHeard::Barrier(order.barrier));
        assert!(plan.answers().is_none(), "{again}");
    }
    let order = plan.start(now).unwrap();
    assert_eq!(order.ids, [id(1), id(2)], "in their order");
}

#[test]
fn what_found_no_room_goes_to_the_next_read() {
    let (mut plan, now) = begun();
    plan.wish(wish(0, &[(1, 1), (2, 2), (3, 3)]));
    let order = plan.start(now).unwrap();
    plan.wish(wish(0, &[(4, 4)]));
    plan.heard(SourceHeard::Barrier(order.barrier));
    plan.read(Read { left: vec![id(2), id(3)], ..absent(&[id(1)]) }, now);
    assert_eq!(plan.answers().unwrap()[&CoreId(0)].len(), 1);
    assert_eq!(plan.start(now).unwrap().ids, [id(2), id(3), id(4)]);
}

#[test]
fn a_read_has_so_many_products() {
    let (mut plan, now) = begun();
    let products: Vec<(u64, u32)> = (0..=READ_IDS_MAX as u64).map(|number| (number, 1)).collect();
    plan.wish(wish(0, &products));
    assert_eq!(plan.start(now).unwrap().ids.len(), READ_IDS_MAX);
}

#[test]
fn a_row_that_spoils_reads_is_found_by_halves() {
    const SPOILT: u64 = 700;
    let (mut plan, now) = begun();
    let products: Vec<(u64, u32)> = (0..1000).map(|number| (number, 1)).collect();
    plan.wish(wish(0, &products));
    let (mut answered, mut reads) = (Vec::new(), 0);
    while let Some(order) = plan.start(now) {
        reads += 1;
        plan.heard(SourceHeard::Barrier(order.barrier));
        plan.read(
            match &order.ids[..] {
                [one] if one.get() == SPOILT => Read { found: vec![(*one, Found::Unreadable)], left: Vec::new() },
                ids if ids.contains(&id(SPOILT)) => Read { found: Vec::new(), left: ids.to_vec() },
                ids => absent(ids),
            },
            now,
        );
        answered.extend(plan.answers().into_iter().flat_map(|answers| answers[&CoreId(0)].clone()));
    }
    assert_eq!(answered.len(), 1000);
    let spoilt: Vec<_> = answered.iter().filter(|answer| answer.2 == Found::Unreadable).collect();
    assert_eq!(spoilt, [&(id(SPOILT), 1, Found::Unreadable)]);
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
    assert!(plan.failing_for(now, Duration::from_secs(10)));
    assert!(!plan.failing_for(now, Duration::from_secs(10)), "told once in that time");
    let order = plan.start(now).unwrap();
    plan.heard(SourceHeard::Barrier(order.barrier));
    plan.read(absent(&order.ids), now);
    plan.answers().unwrap();
    assert!(!plan.failing_for(now + Duration::from_mins(1), Duration::from_secs(10)));
}

#[test]
fn a_barrier_that_does_not_come_is_overdue_unless_the_source_is_late() {
    let (mut plan, now) = begun();
    plan.wish(wish(0, &[(1, 1)]));
    let order = plan.start(now).unwrap();
    assert!(!plan.is_overdue(now + 2 * BARRIER_TIMEOUT), "the store has its own time");
    plan.read(absent(&order.ids), now);
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
        4 => (0..3_u16, prop::collection::vec(0..12_u64, 1..6)).prop_map(|(core, products)| Step::Wish(core, products)),
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
        let (mut plan, mut now) = (Plan::default(), Instant::now());
        // By core, product and number: how many reads had begun when it was wished for.
        let mut due: BTreeMap<(u16, u64, u32), u64> = BTreeMap::new();
        let (mut numbers, mut session) = (0, 0);
        // The read under way: its barrier, its products, the session in which it began.
        let mut reading: Option<(Order, u64)> = None;
        let mut begun = 0;
        let ending = [Step::Began(1), Step::Start, Step::Read { left: 0 }, Step::Barrier];
        let ending = std::iter::repeat_n(ending, 20).flatten();
        for step in steps.into_iter().chain(ending) {
            now += BACKOFF.max;
            match step {
                Step::Wish(core, mut products) => {
                    products.dedup();
                    let products: Vec<(u64, u32)> = products.into_iter().map(|product| {
                        numbers += 1;
                        due.insert((core, product, numbers), begun);
                        (product, numbers)
                    }).collect();
                    plan.wish(wish(core, &products));
                }
                Step::Start => if let Some(order) = plan.start(now) {
                    begun = order.barrier;
                    reading = Some((order, session));
                },
                Step::Read { left } => if let Some((order, _)) = reading.as_ref().filter(|(_, of)| *of == session) {
                    let (found, left) = order.ids.split_at(order.ids.len() - left.min(order.ids.len() - 1));
                    plan.read(Read { left: left.to_vec(), ..absent(found) }, now);
                },
                Step::Fail => { plan.failed(now); session += 1; }
                Step::Barrier => if let Some((order, _)) = &reading {
                    plan.heard(SourceHeard::Barrier(order.barrier));
                },
                Step::Gap => { plan.heard(SourceHeard::Gap); session += 1; }
                Step::Began(number) => { plan.heard(SourceHeard::Began(epoch(number))); session += 1; }
            }
            for (core, answers) in plan.answers().into_iter().flatten() {
                let (order, of) = reading.as_ref().expect("there was a read");
                prop_assert_eq!(*of, session, "a void read was handed over");
                for (product, number, _) in answers {
                    let wished = due.remove(&(core.0, product.get(), number));
                    prop_assert!(wished.is_some_and(|begun| begun < order.barrier), "answered twice, or too early");
                }
            }
        }
        prop_assert!(due.is_empty(), "never answered: {:?}", due);
    }
}
