//! What the subscription index costs: subscribing, unsubscribing, closing, whatever others subscribe to.
//!
//! `cargo bench --bench index`

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rowcast::fanout::{ConnectionId, CoreId, SlotKey, SubscriptionIndex};
use rowcast::product::ProductId;

/// What one connection subscribes to.
const SUBSCRIPTIONS: u64 = 1024;
/// How many products others subscribe to.
const OTHERS: [u64; 3] = [1000, 100_000, 1_000_000];

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { core: CoreId(0), key: SlotKey { slot, generation: 0 } }
}

fn product(number: u64) -> ProductId {
    ProductId::new(number).expect("a small number")
}

/// An index in which other connections subscribe to `products` products, 1,000 each.
fn index_with(products: u64) -> SubscriptionIndex {
    let mut index = SubscriptionIndex::new();
    for number in 0..products {
        index.subscribe(connection(1 + u32::try_from(number / 1000).expect("few connections")), product(number));
    }
    index
}

/// The products of the connection that is measured: spread over those of others, as many of them as there are.
fn products(others: u64) -> Vec<ProductId> {
    let step = (others / SUBSCRIPTIONS).max(1);
    (0..SUBSCRIPTIONS).map(|number| product(number * step)).collect()
}

fn subscribe_all(index: &mut SubscriptionIndex, products: &[ProductId]) {
    for &product in products {
        index.subscribe(connection(0), product);
    }
}

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(SUBSCRIPTIONS));
    for others in OTHERS {
        let products = products(others);
        let mut index = index_with(others);
        group.bench_function(BenchmarkId::new("close", others), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    subscribe_all(&mut index, &products);
                    let start = Instant::now();
                    black_box(index.close(connection(0)));
                    total += start.elapsed();
                }
                total
            });
        });
        group.bench_function(BenchmarkId::new("subscribe and unsubscribe", others), |bencher| {
            bencher.iter(|| {
                subscribe_all(&mut index, &products);
                for &product in &products {
                    index.unsubscribe(connection(0), product);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, index);
criterion_main!(benches);
