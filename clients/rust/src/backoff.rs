//! The wait before the next attempt: [`delay`]. Chance is an argument.

use std::time::Duration;

const STEP_FIRST: Duration = Duration::from_millis(500);
const STEP_MAX: Duration = Duration::from_secs(10);
/// The shortest wait for a server that is started again, and the most that chance adds.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// The code of a server that stops.
pub(crate) const SERVICE_RESTART: u16 = 1012;

/// Returns the wait after so many attempts in a row that came to nothing; half of it is chance, from 0 to 1, so that
/// clients do not all come back at once.
pub(crate) fn delay(attempts: u32, close_code: Option<u16>, chance: f64) -> Duration {
    if close_code == Some(SERVICE_RESTART) && attempts == 0 {
        return RESTART.0 + RESTART.1.mul_f64(chance);
    }
    let step = STEP_FIRST.saturating_mul(1 << attempts.min(16)).min(STEP_MAX);
    step / 2 + (step / 2).mul_f64(chance)
}

/// Returns the rest between reads of what could not be read so many times.
pub(crate) fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5)).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_from_half_a_second_to_ten_half_of_it_chance() {
        for (attempts, most_ms) in [(0, 500), (1, 1_000), (2, 2_000), (4, 8_000), (5, 10_000), (u32::MAX, 10_000)] {
            assert_eq!(delay(attempts, None, 1.0), Duration::from_millis(most_ms));
            assert_eq!(delay(attempts, Some(1008), 0.0), Duration::from_millis(most_ms / 2));
        }
        assert_eq!(delay(0, Some(SERVICE_RESTART), 0.0), RESTART.0);
        assert_eq!(delay(1, Some(SERVICE_RESTART), 1.0), Duration::from_secs(1));
        assert_eq!((pause(0), pause(99)), (Duration::from_secs(1), Duration::from_secs(30)));
    }
}
