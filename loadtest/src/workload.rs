//! The subscriptions of each connection: [`Workload`]. Pure, and the same in every run.

use std::ops::Range;

/// The subscriptions of a run. Products have the ids 1 … `products`.
pub(crate) struct Workload {
    pub(crate) connections: usize,
    pub(crate) ids_per_connection: usize,
    /// Connection after connection, ascending within each.
    ids: Vec<u32>,
    subscribers_by_product: Vec<u32>,
}

impl Workload {
    /// Spreads `connections` × `ids_per_connection` over the products, as evenly as chance does.
    pub(crate) fn new(connections: usize, ids_per_connection: usize, products: u32) -> Self {
        let ids_per_connection = ids_per_connection.min(products as usize);
        let mut ids = Vec::with_capacity(connections * ids_per_connection);
        let mut chance = Chance(0x0005_DEEC_E66D);
        for _ in 0..connections {
            choose(&mut ids, ids_per_connection, products, &mut chance);
        }
        let mut subscribers_by_product = vec![0; products as usize + 1];
        for &id in &ids {
            subscribers_by_product[id as usize] += 1;
        }
        Self { connections, ids_per_connection, ids, subscribers_by_product }
    }

    /// Gives each product to one connection, the first ones first: the last of them have fewer, or none.
    pub(crate) fn each_once(connections: usize, products: u32) -> Self {
        let ids_per_connection = (products as usize).div_ceil(connections.max(1));
        let subscribers_by_product = std::iter::once(0).chain((0..products).map(|_| 1)).collect();
        Self { connections, ids_per_connection, ids: (1..=products).collect(), subscribers_by_product }
    }

    /// Returns the products that this connection subscribes to.
    pub(crate) fn ids(&self, connection: usize) -> &[u32] {
        &self.ids[self.places(connection)]
    }

    /// Returns the places of this connection's subscriptions among all of them.
    #[inline]
    pub(crate) fn places(&self, connection: usize) -> Range<usize> {
        let start = (connection * self.ids_per_connection).min(self.ids.len());
        start..(start + self.ids_per_connection).min(self.ids.len())
    }

    /// Returns the place of a subscription among all of them, if there is one.
    #[inline]
    pub(crate) fn place(&self, connection: usize, product: u32) -> Option<usize> {
        let within = match self.ids(connection) {
            [only] => (*only == product).then_some(0),
            ids => ids.binary_search(&product).ok(),
        };
        within.map(|within| connection * self.ids_per_connection + within)
    }

    /// Returns the number of subscribers to this product.
    pub(crate) fn subscribers(&self, product: u32) -> u32 {
        self.subscribers_by_product[product as usize]
    }

    /// Returns the number of subscriptions.
    pub(crate) fn subscriptions(&self) -> usize {
        self.ids.len()
    }
}

/// Appends `count` different products, ascending.
fn choose(ids: &mut Vec<u32>, count: usize, products: u32, chance: &mut Chance) {
    let start = ids.len();
    if count > products as usize / 2 {
        // Most of them: a run of neighbours, since drawing until all differ would take long.
        let first = chance.below(products);
        ids.extend((0..u32::try_from(count).unwrap_or(products)).map(|step| (first + step) % products + 1));
        ids[start..].sort_unstable();
        return;
    }
    while ids.len() - start < count {
        let missing = count - (ids.len() - start);
        ids.extend((0..missing).map(|_| chance.below(products) + 1));
        ids[start..].sort_unstable();
        let mut chosen = ids.split_off(start);
        chosen.dedup();
        ids.append(&mut chosen);
    }
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns one of 0 … `bound` − 1.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let scaled = (self.next() >> 32) * u64::from(bound);
        u32::try_from(scaled >> 32).expect("less than the bound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_product_is_somebodys_once() {
        for (connections, products) in [(1, 1), (3, 10), (10, 3), (4, 4), (7, 1000)] {
            let workload = Workload::each_once(connections, products);
            let all: Vec<u32> = (0..connections).flat_map(|connection| workload.ids(connection).to_vec()).collect();
            assert_eq!(all, (1..=products).collect::<Vec<u32>>());
            for connection in 0..connections {
                for (&id, place) in workload.ids(connection).iter().zip(workload.places(connection)) {
                    assert_eq!(workload.place(connection, id), Some(place));
                    assert_eq!(workload.subscribers(id), 1);
                }
            }
        }
    }

    #[test]
    fn everybody_has_as_many_different_products_as_asked_for() {
        for (connections, ids, products) in [(1000, 1, 1), (50, 20, 10_000), (7, 900, 1000), (3, 5, 2)] {
            let workload = Workload::new(connections, ids, products);
            for connection in 0..connections {
                let mine = workload.ids(connection);
                assert_eq!(mine.len(), ids.min(products as usize));
                assert!(mine.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(mine.iter().all(|id| (1..=products).contains(id)));
                for &id in mine {
                    let place = workload.place(connection, id).unwrap();
                    assert_eq!(workload.ids[place], id);
                }
            }
            let all: u32 = (1..=products).map(|product| workload.subscribers(product)).sum();
            assert_eq!(all as usize, workload.subscriptions());
        }
    }
}
