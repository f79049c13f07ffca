//! The turns of a core's answers: one makes its next piece at a time, and none before the core has looked at its
//! sockets.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// The turns of one core. All clones are one.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Does a small piece of work when it is its turn, first come, first served. Whoever comes next waits until the
    /// core has polled its sockets and run what they woke (`yield_now` wakes a task only after that), so that many
    /// answers at once delay a change by one piece, not by one of each.
    pub(super) async fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let turn = self.0.acquire().await;
        let done = work();
        yield_now().await;
        drop(turn);
        done
    }
}
