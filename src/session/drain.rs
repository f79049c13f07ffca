//! The schedule by which a server that stops sends its readers away: neither do they all go at once, nor do they all
//! come back at once. Pure functions of time and chance.

use std::time::Duration;

/// The interval at which a core looks for the connections that are to be closed.
pub const TICK: Duration = Duration::from_millis(50);
/// The least time before a reader comes back: the server that takes this one's place may have to be found first.
const RECONNECT_AFTER_MS_MIN: u64 = 100;
/// The time over which they come back if all are closed at once.
const RECONNECT_SPREAD_MS: u64 = 2_000;

/// Returns the number of connections, of `total`, that are to be closed `elapsed` after the stop began, if they are
/// spread evenly over a time that is not zero.
#[must_use]
pub fn due(total: usize, elapsed: Duration, over: Duration) -> usize {
    let due = (total as u128 * elapsed.as_nanos()).div_ceil(over.as_nanos());
    usize::try_from(due).map_or(total, |due| due.min(total))
}

/// Returns the milliseconds after which a reader is asked to come back; any number will do for `chance`.
#[must_use]
pub const fn reconnect_after_ms(chance: u64) -> u64 {
    RECONNECT_AFTER_MS_MIN + chance % RECONNECT_SPREAD_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of connections that are closed at each tick.
    fn closed_by_tick(total: usize, over: Duration) -> Vec<usize> {
        let mut closed = vec![0];
        while *closed.last().unwrap() < total {
            let elapsed = TICK * u32::try_from(closed.len()).unwrap();
            closed.push(due(total, elapsed, over));
        }
        closed.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn closes_are_spread_evenly_and_end_in_time() {
        for (total, seconds) in [(1, 10), (7, 1), (200, 10), (99_999, 10), (100_000, 60)] {
            let over = Duration::from_secs(seconds);
            let closed = closed_by_tick(total, over);
            let ticks = usize::try_from(over.as_millis() / TICK.as_millis()).unwrap();
            assert!(closed.len() <= ticks, "{total} in {seconds} s take {} ticks of {ticks}", closed.len());
            let most = total.div_ceil(ticks) + 1;
            assert!(closed.iter().all(|&closed| closed <= most), "{total} in {seconds} s: {closed:?}");
            assert_eq!(closed.iter().sum::<usize>(), total);
        }
    }

    #[test]
    fn nobody_is_left_when_the_time_is_over_and_nobody_is_due_before_it_began() {
        for total in [0, 1, 12_345, usize::MAX] {
            assert_eq!(due(total, Duration::ZERO, Duration::from_secs(1)), 0);
            assert_eq!(due(total, Duration::from_secs(3), Duration::from_secs(1)), total);
        }
    }

    #[test]
    fn readers_come_back_at_different_times() {
        let seconds: Vec<u64> = (0..4).map(|quarter| reconnect_after_ms(u64::MAX / 4 * quarter)).collect();
        assert!(seconds.iter().all(|ms| (100..2_100).contains(ms)), "{seconds:?}");
        assert_eq!((reconnect_after_ms(0), reconnect_after_ms(1_999), reconnect_after_ms(2_000)), (100, 2_099, 100));
    }
}
