//! A hot product over several cores: what a second core adds where who reads the sockets is not the limit. A socket is
//! `/dev/null`, so that a delivery has the system call that it always has. One iteration is one delivery, as in the benches
//! of one core; cast in bursts of 64, from a thread of its own.

mod fleet;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use self::fleet::Fleet;
use crate::fanout::share;
use crate::fixtures::{frame, subject};

const SUBSCRIBERS: u64 = 60_000;
const BURST: u64 = 64;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cores");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat).sample_size(20);
    for cores in [1, 2] {
        let fleet = Fleet::new(cores, SUBSCRIBERS, &subject(1));
        group.bench_function(BenchmarkId::new("hot product", cores), |bencher| {
            bencher.iter_custom(|deliveries| deliver(&fleet, deliveries));
        });
    }
    group.finish();
}

/// How long this many deliveries take, as their share of the whole bursts that were cast.
fn deliver(fleet: &Fleet, deliveries: u64) -> Duration {
    let frame = frame(1);
    let changes = deliveries.div_ceil(SUBSCRIBERS * BURST) * BURST;
    let start = Instant::now();
    fleet.cast(&frame, changes);
    share(start.elapsed(), deliveries, changes * SUBSCRIBERS)
}
