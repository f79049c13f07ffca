//! The wait before a failed attempt is made again: [`Backoff`].

use std::time::Duration;

/// A wait that is twice as long after each failure in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// The wait after the first failure.
    pub(crate) first: Duration,
    /// The longest.
    pub(crate) max: Duration,
}

impl Backoff {
    /// Returns the wait after so many failures in a row, less a random part of up to a quarter (any number will do for
    /// `random`; 0 takes nothing off), so that those who failed together do not come back together.
    pub(crate) fn after(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let most = (self.first * 2_u32.pow(doublings)).min(self.max);
        let percent = u32::try_from(random % 26).expect("a remainder of 26 is small");
        most * (100 - percent) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound_and_differs_between_those_who_wait() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
        for (failures, most) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (u32::MAX, 10)] {
            let most = Duration::from_secs(most);
            assert_eq!(backoff.after(failures, 0), most);
            for random in [1, 77, u64::MAX] {
                let delay = backoff.after(failures, random);
                assert!(delay < most && delay >= most * 3 / 4, "{delay:?} of {most:?}");
            }
        }
    }
}
