//! Latencies and throughput over a run: one histogram of all, and one point for each interval.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Nothing takes longer in a run that is worth measuring; what does is counted as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// The percentiles that are reported.
pub(crate) const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// One interval of the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Point {
    /// Its end, in seconds since measuring began.
    pub(crate) at_s: f64,
    /// Deliveries per second in it.
    pub(crate) deliveries_per_s: f64,
    /// Its 99th percentile.
    pub(crate) p99_us: f64,
}

/// Takes latencies while a run is measured.
pub(crate) struct Recorder {
    interval: Histogram<u64>,
    total: Histogram<u64>,
    points: Vec<Point>,
    interval_began_s: f64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
        Self { interval: histogram(), total: histogram(), points: Vec::new(), interval_began_s: 0.0 }
    }

    /// Records one delivery.
    #[inline]
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.interval.saturating_record(latency_ns.max(1));
    }

    /// Ends the interval at this time, in seconds since measuring began.
    pub(crate) fn end_interval(&mut self, at_s: f64) {
        let length_s = at_s - self.interval_began_s;
        if length_s > 1e-3 {
            self.points.push(Point {
                at_s,
                deliveries_per_s: self.interval.len() as f64 / length_s,
                p99_us: us(self.interval.value_at_quantile(0.99)),
            });
        }
        self.total.add(&self.interval).expect("both have the same bounds");
        self.interval.reset();
        self.interval_began_s = at_s;
    }

    /// Returns the recorded latencies, once the last interval has ended.
    pub(crate) fn summary(&self) -> Latencies {
        let at = |percentile: f64| us(self.total.value_at_quantile(percentile / 100.0));
        Latencies {
            count: self.total.len(),
            percentiles_us: PERCENTILES.map(|percentile| (percentile, at(percentile))).to_vec(),
            max_us: us(self.total.max()),
            curve_us: (0..=CURVE_STEPS).map(curve_percentile).map(|p| (p, at(p))).collect(),
            points: self.points.clone(),
        }
    }
}

const CURVE_STEPS: u32 = 50;

/// Returns a percentile from 0 to 99.999 %, each tenth of the rest as long as the one before.
fn curve_percentile(step: u32) -> f64 {
    100.0 * (1.0 - 10f64.powf(-f64::from(step) / 10.0))
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// The recorded latencies.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Latencies {
    /// Deliveries with a latency.
    pub(crate) count: u64,
    /// Percentile and latency.
    pub(crate) percentiles_us: Vec<(f64, f64)>,
    /// The greatest.
    pub(crate) max_us: f64,
    /// The same, finer, for a chart.
    pub(crate) curve_us: Vec<(f64, f64)>,
    /// The run, interval after interval.
    pub(crate) points: Vec<Point>,
}

impl Latencies {
    /// Returns the latency at one of [`PERCENTILES`].
    pub(crate) fn at(&self, percentile: f64) -> f64 {
        self.percentiles_us.iter().find(|(at, _)| (at - percentile).abs() < 1e-9).map_or(0.0, |(_, latency)| *latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut recorder = Recorder::new();
        for us in 1..=10_000u64 {
            recorder.record(us * 1000);
            if us == 5000 {
                recorder.end_interval(0.5);
            }
        }
        recorder.end_interval(1.0);
        let latencies = recorder.summary();
        assert_eq!((latencies.count, latencies.points.len()), (10_000, 2));
        for (percentile, expected) in [(50.0, 5000.0), (99.0, 9900.0), (99.99, 9999.0)] {
            let error = (latencies.at(percentile) - expected).abs() / expected;
            assert!(error < 0.002, "{percentile}: {}", latencies.at(percentile));
        }
        assert!((latencies.points[0].deliveries_per_s - 10_000.0).abs() < 1e-6);
        assert!(latencies.points[0].p99_us < latencies.points[1].p99_us);
        assert!(latencies.curve_us.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    }

    #[test]
    fn nothing_recorded_is_zero() {
        let mut recorder = Recorder::new();
        recorder.end_interval(0.0);
        assert_eq!(recorder.summary().count, 0);
    }
}
