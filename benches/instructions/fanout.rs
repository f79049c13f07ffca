//! From the index to the socket.

use gungraun::{library_benchmark, library_benchmark_group};
use rowcast::fanout::{Closing, SubscriptionIndex};
use rowcast::model::topic::Subject;
use rowcast::session::queue::{SendQueue, SendQueueLimits, SlowConsumerPolicy};
use rowcast::session::stale::StaleSet;
use rowcast::wire::frame::Frame;

use crate::budgets::{self, within};
use crate::fixtures::crowd::{Crowd, LIMITS, full, take_all};
use crate::fixtures::{VERSION, changes, connection, frame, index_of_others, spread, subject};

const OTHERS: u64 = 100_000;
const SUBSCRIPTIONS: u64 = 1000;
const SUBSCRIBERS: u64 = 1000;
const PUSHES: usize = 1000;
const DROP: SendQueueLimits = SendQueueLimits { policy: SlowConsumerPolicy::Drop, ..LIMITS };

/// Without a seed: where the entries of a table lie, and so what moving them takes, is the same in every build.
type Index = SubscriptionIndex<foldhash::fast::FixedState>;

#[library_benchmark(config = within(budgets::INDEX_SUBSCRIBE))]
#[bench::once(index_of_others(OTHERS), spread(SUBSCRIPTIONS, OTHERS))]
fn index_subscribe(mut index: Index, products: Vec<Subject>) -> (Index, Vec<Subject>) {
    for subject in &products {
        index.subscribe(connection(0), subject);
    }
    (index, products)
}

#[library_benchmark(config = within(budgets::INDEX_UNSUBSCRIBE))]
#[bench::once(index_of_all(), spread(SUBSCRIPTIONS, OTHERS))]
fn index_unsubscribe(mut index: Index, products: Vec<Subject>) -> (Index, Vec<Subject>) {
    for subject in &products {
        index.unsubscribe(connection(0), subject.topic());
    }
    (index, products)
}

#[library_benchmark(config = within(budgets::INDEX_CLOSE))]
#[bench::once(index_of_all())]
fn index_close(mut index: Index) -> Index {
    let mut closing = Closing::default();
    while index.is_subscribed(connection(0)) {
        index.close(connection(0), &mut closing, 256);
    }
    index
}

#[library_benchmark(config = within(budgets::BROADCAST_ALONE))]
#[bench::once(crowd(), frame(1))]
fn broadcast_alone(crowd: Crowd, frame: Frame) -> (Crowd, Frame) {
    crowd.cast(&frame, 1);
    (crowd, frame)
}

#[library_benchmark(config = within(budgets::BROADCAST_BURST))]
#[bench::once(crowd(), frame(1))]
fn broadcast_burst(crowd: Crowd, frame: Frame) -> (Crowd, Frame) {
    crowd.cast(&frame, 64);
    (crowd, frame)
}

#[library_benchmark(config = within(budgets::SEND_QUEUE_PUSH_AND_TAKE))]
#[bench::once(frame(1))]
fn send_queue_push_and_take(frame: Frame) -> (SendQueue, Frame) {
    let mut queue = SendQueue::new();
    for _ in 0..64 {
        queue.push(&subject(1), VERSION, frame.clone(), &LIMITS);
    }
    take_all(&mut queue);
    (queue, frame)
}

#[library_benchmark(config = within(budgets::SEND_QUEUE_CONFLATE))]
#[bench::once(full(&changes(512), &LIMITS), changes(512))]
fn send_queue_conflate(mut queue: SendQueue, changes: Vec<(Subject, Frame)>) -> (SendQueue, StaleSet) {
    let mut stale = StaleSet::default();
    for (subject, run) in queue.take_changes() {
        stale.gave_way(&subject, run.frames() as u64, VERSION);
    }
    for (subject, _) in changes.iter().cycle().take(PUSHES) {
        stale.gave_way(subject, 1, VERSION);
    }
    (queue, stale)
}

#[library_benchmark(config = within(budgets::SEND_QUEUE_DROP))]
#[bench::once(full(&changes(512), &DROP), changes(512))]
fn send_queue_drop(queue: SendQueue, changes: Vec<(Subject, Frame)>) -> (SendQueue, Vec<(Subject, Frame)>) {
    (overload(queue, &changes, &DROP), changes)
}

fn overload(mut queue: SendQueue, changes: &[(Subject, Frame)], limits: &SendQueueLimits) -> SendQueue {
    for (subject, frame) in changes.iter().cycle().take(PUSHES) {
        queue.push(subject, VERSION, frame.clone(), limits);
    }
    queue
}

fn index_of_all() -> Index {
    let mut index = index_of_others(OTHERS);
    for subject in spread(SUBSCRIPTIONS, OTHERS) {
        index.subscribe(connection(0), &subject);
    }
    index
}

/// Subscribers that have had a change before, as most have.
fn crowd() -> Crowd {
    let crowd = Crowd::new(SUBSCRIBERS, subject(1));
    crowd.cast(&frame(1), 1);
    crowd
}

library_benchmark_group!(name = index, benchmarks = [index_subscribe, index_unsubscribe, index_close]);
library_benchmark_group!(name = broadcast, benchmarks = [broadcast_alone, broadcast_burst]);
library_benchmark_group!(
    name = send_queue,
    benchmarks = [send_queue_push_and_take, send_queue_conflate, send_queue_drop]
);
