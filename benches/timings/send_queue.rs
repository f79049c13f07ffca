//! A send queue: in and out when the reader is fast, and what its policy costs when the reader is not.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rowcast::session::queue::{SendQueue, SendQueueLimits, SlowConsumerPolicy};
use rowcast::session::stale::StaleSet;

use crate::fixtures::crowd::{LIMITS, full, take_all};
use crate::fixtures::{VERSION, changes, frame, subject};

/// Those by which the queue itself decides.
const POLICIES: [SlowConsumerPolicy; 2] = [SlowConsumerPolicy::Drop, SlowConsumerPolicy::Disconnect];
const PUSHES: u64 = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_fast_reader(criterion);
    bench_full(criterion);
    bench_first_conflation(criterion);
}

/// Frames that are taken before more come: by ones, and as many as one system call takes.
fn bench_fast_reader(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_queue");
    let frame = frame(1);
    for frames in [1, 64] {
        group.throughput(Throughput::Elements(frames));
        let mut queue = SendQueue::new();
        group.bench_function(BenchmarkId::new("push and take", frames), |bencher| {
            bencher.iter(|| {
                for _ in 0..frames {
                    queue.push(&subject(1), VERSION, frame.clone(), &LIMITS);
                }
                take_all(&mut queue)
            });
        });
    }
    group.finish();
}

/// Pushes into a queue that is full and stays so, of one product, of as many as it holds frames, and of twice as many.
fn bench_full(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_queue");
    group.throughput(Throughput::Elements(PUSHES));
    for policy in POLICIES {
        let limits = SendQueueLimits { policy, ..LIMITS };
        for products in [1, 1024, 2048] {
            let changes = changes(products);
            let mut queue = full(&changes, &limits);
            let mut next = changes.iter().cycle();
            let name = format!("push when full, {}", policy.label());
            group.bench_function(BenchmarkId::new(name, products), |bencher| {
                bencher.iter(|| {
                    for (subject, frame) in next.by_ref().take(usize::try_from(PUSHES).expect("few")) {
                        black_box(queue.push(subject, VERSION, frame.clone(), &limits));
                    }
                });
            });
        }
    }
    group.finish();
}

/// A full queue all changes of which give way.
fn bench_first_conflation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_queue");
    for products in [1, 64, 1024] {
        let changes = changes(products);
        group.bench_function(BenchmarkId::new("1,024 changes give way", products), |bencher| {
            bencher.iter_batched(
                || full(&changes, &LIMITS),
                |mut queue| {
                    let mut stale = StaleSet::default();
                    for (subject, run) in queue.take_changes() {
                        stale.gave_way(&subject, run.frames() as u64, VERSION);
                    }
                    (queue, stale)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
