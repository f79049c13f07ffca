//! Percentiles of a round, and their medians over rounds: [`Percentiles`]. Pure.

use serde::Serialize;

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "units come last")]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Percentiles {
    /// Computes the percentiles of latencies in nanoseconds; all zero if there are none.
    pub(crate) fn of(mut latencies_ns: Vec<u64>) -> Self {
        latencies_ns.sort_unstable();
        // The nearest rank.
        let at = |share: f64| {
            let rank = (latencies_ns.len() as f64 * share).ceil() as usize;
            latencies_ns.get(rank.saturating_sub(1)).map_or(0.0, |ns| *ns as f64 / 1000.0)
        };
        Self { p50_us: at(0.50), p95_us: at(0.95), p99_us: at(0.99), max_us: at(1.0) }
    }

    /// Returns the median of each over rounds.
    pub(crate) fn medians<'a>(rounds: impl Iterator<Item = &'a Self>) -> Self {
        let rounds: Vec<_> = rounds.collect();
        let of = |field: fn(&Self) -> f64| median(rounds.iter().map(|round| field(round)).collect());
        Self { p50_us: of(|p| p.p50_us), p95_us: of(|p| p.p95_us), p99_us: of(|p| p.p99_us), max_us: of(|p| p.max_us) }
    }
}

/// Returns the middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (_, 0) if values.is_empty() => 0.0,
        (middle, 0) => f64::midpoint(values[middle - 1], values[middle]),
        (middle, _) => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let all = Percentiles::of((1..=200).rev().map(|us| us * 1000).collect());
        assert_eq!(all, Percentiles { p50_us: 100.0, p95_us: 190.0, p99_us: 198.0, max_us: 200.0 });
        let one = Percentiles { p50_us: 7.0, p95_us: 7.0, p99_us: 7.0, max_us: 7.0 };
        assert_eq!(Percentiles::of(vec![7000]), one);
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }

    #[test]
    fn one_bad_round_does_not_move_the_median() {
        let rounds = [1, 2, 900].map(|ms| Percentiles::of(vec![ms * 1_000_000]));
        assert_eq!(Percentiles::medians(rounds.iter()), rounds[1]);
        let medians = [vec![4.0, 1.0], Vec::new()].map(median);
        assert_eq!(medians.map(|median| (median * 10.0) as u64), [25, 0]);
    }
}
