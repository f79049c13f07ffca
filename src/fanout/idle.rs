//! The time for which this thread has had nothing to do: its runtime counts it when it parks, and anything on the
//! thread reads the count.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

thread_local! {
    static PARKED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    static IDLE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Makes a runtime of one thread count its time of rest.
pub fn count_idle(runtime: &mut Builder) -> &mut Builder {
    runtime.on_thread_park(|| PARKED_AT.set(Some(Instant::now()))).on_thread_unpark(|| {
        if let Some(parked_at) = PARKED_AT.take() {
            IDLE.set(IDLE.get() + parked_at.elapsed());
        }
    })
}

/// Returns the time that this thread has rested since it started; zero on a thread whose runtime does not count it.
#[must_use]
pub fn idle_time() -> Duration {
    IDLE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_rests_while_it_waits_for_a_timer_and_where_nothing_counts_it_is_said_to_be_busy() {
        const WAIT: Duration = Duration::from_millis(2);
        let idled_on_one_of = |count: fn(&mut Builder) -> &mut Builder| {
            let mut builder = Builder::new_current_thread();
            let runtime = count(builder.enable_time()).build().expect("a timer is there");
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    runtime.block_on(async { tokio::time::sleep(WAIT).await });
                    idle_time()
                });
                thread.join().expect("it only waits")
            })
        };
        assert!(idled_on_one_of(count_idle) > Duration::ZERO);
        assert_eq!(idled_on_one_of(|builder| builder), Duration::ZERO);
    }
}
