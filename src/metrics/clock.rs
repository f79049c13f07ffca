//! Numbers that grow by themselves, and are taken when they are shown: [`Age`] and [`Lag`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// A gauge of the seconds since a moment, and of 0 while there is none. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Age(Arc<Moment>);

#[derive(Debug)]
struct Moment {
    origin: Instant,
    /// Nanoseconds from the origin; 0: there is none.
    nanos: AtomicU64,
}

impl Default for Age {
    fn default() -> Self {
        Self(Arc::new(Moment { origin: Instant::now(), nanos: AtomicU64::new(0) }))
    }
}

impl Age {
    /// Counts from this moment on.
    pub fn begin(&self, at: Instant) {
        self.0.nanos.store(self.nanos(at), Ordering::Relaxed);
    }

    /// Counts from this moment on, unless it counts from an earlier one.
    pub fn begin_if_none(&self, at: Instant) {
        let _ = self.0.nanos.compare_exchange(0, self.nanos(at), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Counts no more.
    pub fn end(&self) {
        self.0.nanos.store(0, Ordering::Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.origin).as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn seconds(&self) -> f64 {
        match self.0.nanos.load(Ordering::Relaxed) {
            0 => 0.0,
            nanos => self.0.origin.elapsed().saturating_sub(Duration::from_nanos(nanos)).as_secs_f64(),
        }
    }
}

/// A gauge of how late something came that comes again and again, or of how long it is due if that is longer. Cheap to
/// clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    due: Age,
    last_nanos: Arc<AtomicU64>,
}

impl Lag {
    /// Learns that it is due since this moment, if it was not already.
    pub fn due(&self, since: Instant) {
        self.due.begin_if_none(since);
    }

    /// Learns that it came, so late.
    pub fn came(&self, late: Duration) {
        self.last_nanos.store(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.due.end();
    }

    fn seconds(&self) -> f64 {
        Duration::from_nanos(self.last_nanos.load(Ordering::Relaxed)).as_secs_f64().max(self.due.seconds())
    }
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.seconds())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl EncodeMetric for Lag {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.seconds())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// The moment so many minutes ago.
    fn ago(minutes: u32) -> Instant {
        Instant::now().checked_sub(minutes * MINUTE).expect("the clock goes below zero")
    }

    /// An age that can count from ten minutes ago on.
    fn age() -> Age {
        Age(Arc::new(Moment { origin: ago(10), nanos: AtomicU64::new(0) }))
    }

    #[test]
    fn an_age_counts_from_its_moment_until_it_ends() {
        let age = age();
        assert!(age.seconds().abs() < f64::EPSILON);
        age.begin(ago(2));
        assert!((120.0..180.0).contains(&age.seconds()), "{age:?}");
        age.begin_if_none(ago(1));
        assert!(age.seconds() >= 120.0, "the earlier moment stays");
        age.begin(ago(1));
        assert!((60.0..120.0).contains(&age.seconds()), "{age:?}");
        age.end();
        assert!(age.seconds().abs() < f64::EPSILON);
        age.begin_if_none(ago(1));
        assert!((60.0..120.0).contains(&age.seconds()), "{age:?}");
        age.begin(ago(100));
        assert!(age.seconds() > 0.0, "what is older than the age itself is not none");
    }

    #[test]
    fn a_lag_is_what_it_was_last_or_what_it_is_by_now() {
        let lag = Lag { due: age(), ..Lag::default() };
        lag.came(Duration::from_millis(250));
        assert!((lag.seconds() - 0.25).abs() < 1e-9);
        lag.due(ago(2));
        lag.due(ago(1));
        assert!((120.0..180.0).contains(&lag.seconds()), "{lag:?}");
        lag.came(Duration::ZERO);
        assert!(lag.seconds().abs() < f64::EPSILON);
        // Until it has been due for longer than it was late, it is as late as it was.
        lag.came(2 * MINUTE);
        lag.due(ago(1));
        assert!((lag.seconds() - 120.0).abs() < 1e-9);
    }
}
