//! The products that a shard keeps for those who are told of every product: [`Kept`], pure data.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::product::ProductId;

/// The products, in their order: whoever lists them comes back to a place, whatever came and went meanwhile.
#[derive(Debug, Default)]
pub(super) struct Kept {
    products: BTreeSet<ProductId>,
    /// The number of those of all shards of the process.
    of_all_shards: Arc<AtomicUsize>,
}

impl Kept {
    /// Returns a set without products that counts those of all shards there.
    pub(super) const fn counting(of_all_shards: Arc<AtomicUsize>) -> Self {
        Self { products: BTreeSet::new(), of_all_shards }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.products.is_empty()
    }

    pub(super) fn insert(&mut self, product: ProductId) {
        if self.products.insert(product) {
            self.of_all_shards.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&mut self, product: ProductId) {
        if self.products.remove(&product) {
            self.of_all_shards.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the first product.
    pub(super) fn pop(&mut self) -> Option<ProductId> {
        let product = self.products.pop_first()?;
        self.of_all_shards.fetch_sub(1, Ordering::Relaxed);
        Some(product)
    }

    /// Returns up to `max` products that follow one, or the first, by rising ids.
    pub(super) fn after(&self, product: Option<ProductId>, max: usize) -> Vec<ProductId> {
        let from = product.map_or(Unbounded, Excluded);
        self.products.range((from, Unbounded)).take(max).copied().collect()
    }
}
