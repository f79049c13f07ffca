//! What the subscription index costs: subscribing, unsubscribing, closing, whatever others subscribe to.
//!
//! The products of the connection that is measured lie either spread over those of the others, where every step touches
//! memory that no step before it touched, or among the first of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use rowcast::fanout::{Closing, SubscriptionIndex};
use rowcast::model::topic::Subject;

use crate::fixtures::{connection, index_of_others, spread};

/// What the connection subscribes to.
const SUBSCRIPTIONS: u64 = 1024;
/// How many products others subscribe to.
const OTHERS: [u64; 3] = [1000, 100_000, 1_000_000];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(SUBSCRIPTIONS));
    for others in OTHERS {
        let mut index: SubscriptionIndex = index_of_others(others);
        let places = [("spread", spread(SUBSCRIPTIONS, others)), ("first", spread(SUBSCRIPTIONS, SUBSCRIPTIONS))];
        // Where there are no more products than the connection has, the two are one.
        for (place, products) in places.into_iter().take(if others > SUBSCRIPTIONS { 2 } else { 1 }) {
            for (step, measure) in STEPS {
                bench_step(&mut group, BenchmarkId::new(format!("{step}, {place}"), others), &mut |iterations| {
                    (0..iterations).map(|_| measure(&mut index, &products)).sum()
                });
            }
        }
    }
    group.finish();
}

fn bench_step(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, measure: &mut dyn FnMut(u64) -> Duration) {
    group.bench_function(id, |bencher| bencher.iter_custom(&mut *measure));
}

/// Takes the time of one step, and leaves the index as it was.
type Measure = fn(&mut SubscriptionIndex, &[Subject]) -> Duration;

const STEPS: [(&str, Measure); 3] = [
    ("subscribe", |index, products| {
        let time = timed(|| subscribe_all(index, products));
        close(index);
        time
    }),
    ("unsubscribe", |index, products| {
        subscribe_all(index, products);
        timed(|| unsubscribe_all(index, products))
    }),
    ("close", |index, products| {
        subscribe_all(index, products);
        timed(|| close(index))
    }),
];

/// Closes the measured connection as a core does, a slice at a time.
fn close(index: &mut SubscriptionIndex) {
    let mut closing = Closing::default();
    while index.is_subscribed(connection(0)) {
        black_box(index.close(connection(0), &mut closing, 256));
    }
}

fn timed(step: impl FnOnce()) -> Duration {
    let start = Instant::now();
    step();
    start.elapsed()
}

fn subscribe_all(index: &mut SubscriptionIndex, products: &[Subject]) {
    for subject in products {
        index.subscribe(connection(0), subject);
    }
}

fn unsubscribe_all(index: &mut SubscriptionIndex, products: &[Subject]) {
    for subject in products {
        index.unsubscribe(connection(0), subject.topic());
    }
}
