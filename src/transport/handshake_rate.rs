//! The bound on the WebSockets that open in a second: a token bucket that all cores share, as one number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The contents of the full bucket, in time: the handshakes of one second.
const BURST_NS: u64 = 1_000_000_000;

/// A token bucket for handshakes. It keeps the moment at which it will be full again (the "theoretical arrival time" of
/// the generic cell rate algorithm); each handshake moves that moment on.
#[derive(Debug)]
pub struct HandshakeRate {
    began: Instant,
    interval_ns: u64,
    full_at_ns: AtomicU64,
}

impl HandshakeRate {
    /// Returns a full bucket that fills by this many a second, at least 1; the handshakes of one second may come at
    /// once.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { began: now, interval_ns: BURST_NS / u64::from(per_second), full_at_ns: AtomicU64::new(0) }
    }

    /// Takes one handshake out.
    ///
    /// # Errors
    /// The time until there is one, if there is none.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let now_ns = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let after_one = |full_at_ns: u64| full_at_ns.max(now_ns).saturating_add(self.interval_ns);
        let taken = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
            let full_at_ns = after_one(full_at_ns);
            (full_at_ns - now_ns <= BURST_NS).then_some(full_at_ns)
        });
        taken.map(|_| ()).map_err(|full_at_ns| Duration::from_nanos(after_one(full_at_ns) - now_ns - BURST_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_may_come_at_once_and_then_one_per_interval() {
        let began = Instant::now();
        let rate = HandshakeRate::new(4, began);
        let at_ms = |ms| rate.take(began + Duration::from_millis(ms));
        assert_eq!([at_ms(0), at_ms(0), at_ms(0), at_ms(0)], [Ok(()); 4]);
        assert_eq!(at_ms(0), Err(Duration::from_millis(250)));
        assert_eq!(at_ms(100), Err(Duration::from_millis(150)), "who is refused takes nothing");
        assert_eq!((at_ms(250), at_ms(250)), (Ok(()), Err(Duration::from_millis(250))));
        assert_eq!([at_ms(750), at_ms(750)], [Ok(()); 2]);
        assert_eq!(at_ms(750), Err(Duration::from_millis(250)));
        let an_hour = 3_600_000;
        assert_eq!([at_ms(an_hour), at_ms(an_hour), at_ms(an_hour), at_ms(an_hour)], [Ok(()); 4]);
        assert!(at_ms(an_hour).is_err(), "an idle bucket does not overflow");
    }

    #[test]
    fn over_any_time_no_more_than_the_rate_and_one_burst() {
        let began = Instant::now();
        for per_second in [1, 7, 1000, 3_000_000_000] {
            let rate = HandshakeRate::new(per_second, began);
            let taken = (0..10_000).filter(|ms| rate.take(began + Duration::from_millis(*ms)).is_ok()).count();
            assert!(taken as u64 <= u64::from(per_second) * 11, "{taken} at {per_second} a second");
            assert!(taken >= 10_000.min(per_second as usize * 10), "{taken} at {per_second} a second");
        }
    }
}
