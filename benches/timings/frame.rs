//! Producing a change's bytes, which is done once per change.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use rowcast::wire::frame::Frame;

use crate::fixtures::{change, encoded_change, tables};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let tables = tables();
    for (name, change) in [("of a row", change(1)), ("of ready JSON", encoded_change(1))] {
        group.throughput(Throughput::Bytes(Frame::of_change(&change, &tables).len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Frame::of_change(black_box(&change), &tables)));
    }
    group.finish();
}
