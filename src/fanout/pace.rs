//! When a core that is busy all the time lets changes gather before it delivers them: [`Pace`], pure data.

use std::time::{Duration, Instant};

/// Deliveries shorter than this are not worth waiting for: a timer is no finer than a millisecond.
const TOOK_MIN: Duration = Duration::from_millis(2);
/// How long a server's batches wait at most.
pub const GATHER_MAX: Duration = Duration::from_millis(10);

/// The last delivery of a core, from which the wait before the next one follows.
///
/// A write to a socket costs about as much with two hundred frames as with one. So a core that has no time left spends
/// part of what it saves on waiting: its changes come at most half a delivery later, in fewer and larger writes. A core
/// that was idle in between delivers at once.
#[derive(Debug)]
pub(super) struct Pace {
    ended: Instant,
    took: Duration,
    gather_max: Duration,
}

impl Pace {
    pub(super) const fn new(gather_max: Duration, now: Instant) -> Self {
        Self { ended: now, took: Duration::ZERO, gather_max }
    }

    /// How long to let changes gather, when the first of them is there at `now`.
    pub(super) fn gather(&self, now: Instant) -> Duration {
        let share = self.took / 2;
        let is_busy = self.took >= TOOK_MIN && now.saturating_duration_since(self.ended) < share;
        if is_busy { share.min(self.gather_max) } else { Duration::ZERO }
    }

    /// Learns that a batch was delivered.
    pub(super) fn delivered(&mut self, started: Instant, ended: Instant) {
        self.ended = ended;
        self.took = ended.saturating_duration_since(started);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a core waits that delivered for `took` and got its next change `idle` later.
    fn gather_ms(took_ms: u64, idle_ms: u64) -> u128 {
        let started = Instant::now();
        let ended = started + Duration::from_millis(took_ms);
        let mut pace = Pace::new(GATHER_MAX, started);
        pace.delivered(started, ended);
        pace.gather(ended + Duration::from_millis(idle_ms)).as_millis()
    }

    #[test]
    fn a_core_without_rest_waits_half_as_long_as_it_delivered() {
        assert_eq!(gather_ms(2, 0), 1);
        assert_eq!(gather_ms(12, 5), 6);
        assert_eq!(gather_ms(500, 0), 10, "and not longer than its bound");
    }

    #[test]
    fn a_core_that_had_rest_or_little_to_do_delivers_at_once() {
        assert_eq!(gather_ms(12, 6), 0);
        assert_eq!(gather_ms(1, 0), 0);
        assert_eq!(
            Pace::new(GATHER_MAX, Instant::now()).gather(Instant::now()),
            Duration::ZERO,
            "it has delivered nothing yet"
        );
    }
}
