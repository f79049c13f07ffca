//! The reads of rows for the shards.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{Load, OutcomeLabel};
use super::shown;

/// The numbers of the loader.
#[derive(Debug)]
pub struct LoadMetrics {
    loads: Family<OutcomeLabel, Counter>,
    /// Rows that were read for the shards and handed over.
    pub rows: Counter,
}

impl LoadMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let loads: Family<OutcomeLabel, Counter> =
            shown(registry, "loads", "Reads of rows for the shards, by how they ended");
        for outcome in Load::ALL {
            drop(loads.get_or_create(&OutcomeLabel { outcome: outcome.label() }));
        }
        Self {
            loads,
            rows: shown(registry, "products_loaded", "Rows read for the shards, of products and other tables"),
        }
    }

    /// Counts a read.
    pub fn ended(&self, ended: Load) {
        self.loads.get_or_create(&OutcomeLabel { outcome: ended.label() }).inc();
    }
}
