//! The amount that a peer may send: [`Allowance`], a bucket of units that fills evenly, pure data.
//!
//! A unit stands for a bounded piece of work, not for a message: the decoder counts one for each frame, and one for
//! each further 4 KiB of a message. A bucket holds the units of one second. Each reader's bucket fills by itself, so
//! readers that were held go on at different moments.

use std::time::Duration;

/// The least time for which a held reader waits, so that it goes on with several units at once.
const HOLD_MIN: Duration = Duration::from_millis(60);
/// The time for which a full bucket lasts.
const BUCKET: Duration = Duration::from_secs(1);

/// The work that a peer has paid for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// The time, since the core began, at which the bucket is full again if nothing more is taken from it, in
    /// nanoseconds.
    full_at_ns: u64,
}

impl Allowance {
    /// Takes `units` out of a bucket that gets `per_second` of them, which is not zero; returns the time for which its
    /// owner is held if none is left. A bucket may be overdrawn by its last taker.
    pub fn take(&mut self, units: u32, per_second: u32, now: Duration) -> Option<Duration> {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = ns(now);
        let unit_ns = (1_000_000_000 / u64::from(per_second)).max(1);
        self.full_at_ns = self.full_at_ns.max(now).saturating_add(unit_ns.saturating_mul(u64::from(units)));
        let missing = self.full_at_ns - now;
        let is_empty = missing.saturating_add(unit_ns) > ns(BUCKET);
        is_empty.then(|| {
            let overdrawn = missing.saturating_sub(ns(BUCKET));
            Duration::from_nanos(overdrawn.saturating_add(unit_ns.max(ns(HOLD_MIN))))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_the_units_of_one_second_and_then_holds_its_owner() {
        let mut allowance = Allowance::default();
        for _ in 0..2 {
            assert_eq!(allowance.take(1, 3, Duration::ZERO), None);
        }
        let held = allowance.take(1, 3, Duration::ZERO).expect("the last of three");
        assert_eq!(held.as_millis(), 333);
        assert!(allowance.take(1, 3, held).is_some(), "one unit has come since");
    }

    #[test]
    fn what_is_overdrawn_is_waited_for() {
        let held = Allowance::default().take(3_000, 1_000, Duration::ZERO).expect("three times the bucket");
        assert_eq!(held, Duration::from_millis(2_060));
    }

    #[test]
    fn readers_that_began_at_different_moments_go_on_at_different_moments() {
        let ends = [0, 7, 13].map(|ms| {
            let now = Duration::from_millis(ms);
            now + Allowance::default().take(1_000, 1_000, now).expect("the whole bucket")
        });
        assert!(ends[0] < ends[1] && ends[1] < ends[2], "{ends:?}");
    }

    proptest! {
        /// A peer that goes on only when not held gets at most the bucket, its last piece, and the units that fill it
        /// meanwhile.
        #[test]
        fn nobody_gets_more_than_the_rate(
            per_second in 1..5_000_u32,
            pieces in prop::collection::vec((1..100_u32, 0..200_u64), 1..200),
        ) {
            let (mut allowance, mut now, mut given, mut last) = (Allowance::default(), Duration::ZERO, 0_f64, 0);
            for (units, pause_ms) in pieces {
                now += Duration::from_millis(pause_ms);
                let held = allowance.take(units, per_second, now);
                given += f64::from(units);
                last = last.max(units);
                let most = f64::from(per_second) * (1.0 + now.as_secs_f64()) + f64::from(last);
                prop_assert!(given <= most + 1.0, "{given} of {most} at {now:?}");
                now += held.unwrap_or_default();
            }
        }
    }
}
