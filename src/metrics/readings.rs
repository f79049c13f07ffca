//! Readings of files that may change while the server runs.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::OutcomeLabel;
use super::shown;

/// The label of a reading whose content can be used, and of one whose content cannot.
const OUTCOMES: [&str; 2] = ["used", "refused"];

/// The further readings of some files, by whether they could be used.
#[derive(Debug)]
pub struct Readings(Family<OutcomeLabel, Counter>);

impl Readings {
    pub(super) fn registered(registry: &mut Registry, name: &str, help: &str) -> Self {
        let readings: Family<OutcomeLabel, Counter> = shown(registry, name, help);
        for outcome in OUTCOMES {
            drop(readings.get_or_create(&OutcomeLabel { outcome }));
        }
        Self(readings)
    }

    /// Counts a further reading.
    pub fn count(&self, is_usable: bool) {
        let [used, refused] = OUTCOMES;
        self.0.get_or_create(&OutcomeLabel { outcome: if is_usable { used } else { refused } }).inc();
    }
}
