//! The versions that readers know of their products, and how they compare with the store: [`Known`]. Pure.

use serde::Serialize;

use crate::faults::Faults;
use crate::rows::Rows;
use crate::workload::Workload;

/// For each subscription the newest version that came; 0 if none did.
#[derive(Debug)]
pub(crate) struct Known {
    versions: Vec<u64>,
}

/// A comparison with the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Compared {
    /// The subscriptions of all readers that were open.
    pub(crate) subscriptions: u64,
    /// Those of them whose version was another than the store's.
    pub(crate) different: u64,
}

impl Known {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self { versions: vec![0; workload.subscriptions()] }
    }

    /// Learns a version; returns the one that was known before.
    #[inline]
    pub(crate) fn learn(&mut self, place: usize, version: u64) -> u64 {
        let before = self.versions[place];
        self.versions[place] = before.max(version);
        before
    }

    /// Returns the versions of a reader's products, in their order.
    pub(crate) fn of(&self, workload: &Workload, reader: usize) -> &[u64] {
        &self.versions[workload.places(reader)]
    }

    /// Forgets everything that a reader knows.
    pub(crate) fn forget(&mut self, workload: &Workload, reader: usize) {
        self.versions[workload.places(reader)].fill(0);
    }

    /// Compares what every open reader knows with the store; each difference is a fault.
    pub(crate) fn compare(
        &self,
        workload: &Workload,
        rows: &Rows,
        is_open: impl Fn(usize) -> bool,
        faults: &mut Faults,
    ) -> Compared {
        let mut compared = Compared::default();
        for reader in (0..workload.connections).filter(|reader| is_open(*reader)) {
            compared.subscriptions += workload.ids(reader).len() as u64;
            compared.different += self.compare_one(workload, rows, reader, faults);
        }
        compared
    }

    /// Compares what one reader knows with the store; returns the number of differences, each of which is a fault.
    pub(crate) fn compare_one(&self, workload: &Workload, rows: &Rows, reader: usize, faults: &mut Faults) -> u64 {
        let mut different = 0;
        for (&product, &version) in workload.ids(reader).iter().zip(self.of(workload, reader)) {
            let stored = rows.get(product).version;
            if version != stored {
                different += 1;
                faults.add(reader, product, || format!("knows version {version}, and the store has {stored}"));
            }
        }
        different
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Row;

    #[test]
    fn every_difference_from_the_store_is_counted_and_named() {
        let workload = Workload::new(3, 2, 2);
        let rows = Rows::of(&[7, 0].map(|version| Row { version, stamp: 1 }));
        let mut known = Known::new(&workload);
        let place = |reader, product| workload.place(reader, product).unwrap();
        // The first has both as they are, the second an old version and a product that is gone; the third has left.
        assert_eq!((known.learn(place(0, 1), 6), known.learn(place(0, 1), 7), known.learn(place(0, 1), 5)), (0, 6, 7));
        known.learn(place(1, 1), 6);
        known.learn(place(1, 2), 3);
        let mut faults = Faults::default();
        let compared = known.compare(&workload, &rows, |reader| reader != 2, &mut faults);
        assert_eq!(compared, Compared { subscriptions: 4, different: 2 });
        assert_eq!(faults.count, 2);
        let told =
            ["product 1: knows version 6, and the store has 7", "product 2: knows version 3, and the store has 0"];
        assert_eq!(faults.texts(), told.map(|what| format!("socket 1, {what}")));

        known.forget(&workload, 1);
        assert_eq!((known.of(&workload, 0), known.of(&workload, 1)), (&[7, 0][..], &[0, 0][..]));
    }
}
