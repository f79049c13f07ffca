//! One delivery: a change from the hub through the core into a subscriber's queue and out of it, without the socket. One
//! iteration is one delivery, so what is shown is nanoseconds per delivery.
//!
//! "alone" casts a change when the one before it is delivered, "burst" so many at once that a flush carries several.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::fixtures::crowd::Crowd;
use crate::fixtures::{frame, subject};

const SUBSCRIBERS: [u64; 4] = [1, 10, 1000, 100_000];
const BURSTS: [(&str, u64); 2] = [("alone", 1), ("burst of 64", 64)];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for subscribers in SUBSCRIBERS {
        // A burst to 100,000 is 6.4 million deliveries, and a sample is at least one.
        group.sample_size(if subscribers > 1000 { 10 } else { 50 });
        let crowd = Crowd::new(subscribers, subject(1));
        for (name, burst) in BURSTS {
            group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
                bencher.iter_custom(|deliveries| deliver(&crowd, subscribers, burst, deliveries));
            });
        }
    }
    group.finish();
}

/// How long this many deliveries take; as whole bursts are cast, there may be more of them, and this is their share.
fn deliver(crowd: &Crowd, subscribers: u64, burst: u64, deliveries: u64) -> Duration {
    let frame = frame(1);
    let bursts = deliveries.div_ceil(subscribers * burst);
    let start = Instant::now();
    for _ in 0..bursts {
        crowd.cast(&frame, burst);
    }
    share(start.elapsed(), deliveries, bursts * burst * subscribers)
}

/// The part of a time.
pub(crate) fn share(time: Duration, part: u64, whole: u64) -> Duration {
    let nanos = time.as_nanos() * u128::from(part) / u128::from(whole);
    Duration::from_nanos(u64::try_from(nanos).expect("a bench ends within centuries"))
}
