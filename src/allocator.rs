//! Memory that was freed goes back to the system: [`give_back_at_rest`].
//!
//! mimalloc unmaps what a thread has freed when that thread allocates or frees again some milliseconds later. A core that
//! rests once its readers have gone does neither, and would keep what they had.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::fanout::idle_time;

/// The interval at which a thread looks at its rest.
const EVERY: Duration = Duration::from_secs(1);

/// Has this thread give its free memory back in each second of which it rests the better half, for ever. A busy thread
/// does so by what it allocates, and would only have to fetch again what it gave.
///
/// Its runtime is to [count how long it rests](crate::fanout::count_idle).
pub async fn give_back_at_rest() {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = (Instant::now(), idle_time());
    loop {
        ticks.tick().await;
        let now = (Instant::now(), idle_time());
        if is_rest(now.1.saturating_sub(before.1), now.0 - before.0) {
            give_back();
        }
        before = now;
    }
}

fn is_rest(rested: Duration, passed: Duration) -> bool {
    rested > passed / 2
}

/// Unmaps what this thread's heap has free, and takes in what other threads have freed of it.
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: it has no argument but "at once", and may be called by any thread at any time; it touches only memory that
    // is free (https://microsoft.github.io/mimalloc/group__extended.html). No crate offers it without `unsafe`.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_rests_if_it_does_so_for_the_better_half() {
        let [half, more, all] = [50, 51, 100].map(Duration::from_millis);
        assert!(!is_rest(half, all));
        assert!(is_rest(more, all));
        assert!(!is_rest(Duration::ZERO, Duration::ZERO));
    }
}
