//! The time for which a core that is busy all the time lets changes gather before it delivers them: [`Pace`], pure
//! data.

use std::time::{Duration, Instant};

/// Deliveries shorter than this are not worth waiting for: a timer is no finer than a millisecond.
const TOOK_MIN: Duration = Duration::from_millis(2);

/// The number of frames in a write that cost as much as the write itself.
const FRAMES_LIKE_A_WRITE: u32 = 160;

/// The last delivery of a core, from which the wait before the next one follows.
///
/// A core that has no time left waits as long as the writes took, without the frames in them: its changes come in fewer
/// and larger writes, and where these are large already it waits little. A core that was idle in between delivers at
/// once.
#[derive(Debug)]
pub(super) struct Pace {
    ended: Instant,
    took: Duration,
    /// The part of it that the writes took.
    writes_took: Duration,
    gather_max: Duration,
}

impl Pace {
    pub(super) const fn new(gather_max: Duration, now: Instant) -> Self {
        Self { ended: now, took: Duration::ZERO, writes_took: Duration::ZERO, gather_max }
    }

    /// Returns the longest time to let changes gather, when the first of them is there at `now`.
    pub(super) fn gather(&self, now: Instant) -> Duration {
        let is_busy = self.took >= TOOK_MIN && now.saturating_duration_since(self.ended) < self.took;
        if is_busy { self.writes_took.min(self.gather_max) } else { Duration::ZERO }
    }

    /// Learns that a batch was delivered, with so many frames in a write.
    pub(super) fn delivered(&mut self, started: Instant, ended: Instant, frames_per_write: usize) {
        self.ended = ended;
        self.took = ended.saturating_duration_since(started);
        let frames = u32::try_from(frames_per_write).unwrap_or(u32::MAX);
        self.writes_took = self.took * FRAMES_LIKE_A_WRITE / FRAMES_LIKE_A_WRITE.saturating_add(frames);
    }
}

/// Returns the time to gather before a look at whether it is of use.
pub(super) fn gather_step(longest: Duration) -> Duration {
    (longest / 4).max(Duration::from_millis(1))
}

/// Returns whether a core has rested so much while changes gathered that it should rather deliver them: it is not busy
/// all the time, it has only caught up. Some rest is normal: the writers wait for each other.
pub(super) fn is_waste(rested: Duration, gathered: Duration) -> bool {
    rested > gathered / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the milliseconds that a core may wait if it delivered for `took_ms` and got its next change `idle_ms`
    /// later.
    fn gather_ms(took_ms: u64, frames_per_write: usize, idle_ms: u64) -> u128 {
        let started = Instant::now();
        let ended = started + Duration::from_millis(took_ms);
        let mut pace = Pace::new(Duration::from_millis(50), started);
        pace.delivered(started, ended, frames_per_write);
        pace.gather(ended + Duration::from_millis(idle_ms)).as_millis()
    }

    #[test]
    fn a_core_without_rest_waits_as_long_as_its_writes_took() {
        assert_eq!(gather_ms(12, 0, 0), 12);
        assert_eq!(gather_ms(12, 0, 11), 12);
        assert_eq!(gather_ms(12, 160, 0), 6, "half of it went into the frames");
        assert_eq!(gather_ms(12, 160 * 5, 0), 2);
        assert_eq!(gather_ms(500, 0, 0), 50, "and not longer than its bound");
        assert_eq!(gather_ms(500, usize::MAX, 0), 0);
    }

    #[test]
    fn a_core_that_had_rest_or_little_to_do_delivers_at_once() {
        assert_eq!(gather_ms(12, 0, 12), 0);
        assert_eq!(gather_ms(1, 0, 0), 0);
        let fresh = Pace::new(Duration::from_millis(50), Instant::now());
        assert_eq!(fresh.gather(Instant::now()), Duration::ZERO, "it has delivered nothing yet");
    }

    #[test]
    fn gathering_ends_where_the_core_rests_for_more_than_a_quarter_of_it() {
        let [little, much, all] = [4, 5, 16].map(Duration::from_millis);
        assert!(!is_waste(little, all));
        assert!(is_waste(much, all));
        assert_eq!(gather_step(all), little, "it looks four times");
        assert_eq!(gather_step(Duration::from_millis(2)), Duration::from_millis(1), "and no finer than a timer is");
    }
}
