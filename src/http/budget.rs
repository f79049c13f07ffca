//! Bytes that bodies and answers may hold, counted for the whole process: [`Budget`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One connection may hold this part of a budget, so that no client that opens many streams holds all of it.
const SHARES: usize = 4;
/// The least that one connection may hold: a whole body, or the largest row.
const SHARE_BYTES_MIN: usize = 1024 * 1024;

/// The bounds on the bytes that requests hold.
#[derive(Clone, Debug)]
pub(super) struct Budgets {
    /// Bodies of requests, from their first byte until their request is answered.
    pub(super) bodies: Budget,
    /// Rows that wait until their client takes them.
    pub(super) answers: Budget,
}

impl Budgets {
    pub(super) fn new(bodies_bytes_max: usize, answers_bytes_max: usize) -> Self {
        Self { bodies: Budget::new(bodies_bytes_max), answers: Budget::new(answers_bytes_max) }
    }

    /// Returns the parts of one connection that has many requests at once.
    pub(super) fn share(&self) -> Self {
        Self { bodies: self.bodies.share(), answers: self.answers.share() }
    }
}

/// A number of bytes, of which those that hold some have a [`Lease`]. All clones are one.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    process: Arc<Semaphore>,
    /// The part of the connection, whose bytes `process` counts as well.
    connection: Option<Arc<Semaphore>>,
    bytes_max: u32,
}

/// Bytes of a budget, given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Lease {
    process: Option<OwnedSemaphorePermit>,
    connection: Option<OwnedSemaphorePermit>,
}

impl Budget {
    fn new(bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        Self { process: Arc::new(Semaphore::new(bytes_max as usize)), connection: None, bytes_max }
    }

    fn share(&self) -> Self {
        let share = (self.bytes_max as usize / SHARES).max(SHARE_BYTES_MIN).min(self.bytes_max as usize);
        Self { connection: Some(Arc::new(Semaphore::new(share))), bytes_max: clamped(share, u32::MAX), ..self.clone() }
    }

    /// Takes so many bytes, if they are free.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Lease> {
        let bytes = clamped(bytes, self.bytes_max);
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(bytes).ok();
        let connection = match &self.connection {
            Some(connection) => Some(take(connection)?),
            None => None,
        };
        Some(Lease { process: Some(take(&self.process)?), connection })
    }

    /// Takes so many bytes, once they are free; who comes first is served first. More than the whole budget is the
    /// whole budget.
    pub(super) async fn take(&self, bytes: usize) -> Lease {
        let bytes = clamped(bytes, self.bytes_max);
        let take = async |from: &Arc<Semaphore>| Arc::clone(from).acquire_many_owned(bytes).await.ok();
        let connection = match &self.connection {
            Some(connection) => take(connection).await,
            None => None,
        };
        Lease { process: take(&self.process).await, connection }
    }

    /// Returns the bytes that nobody holds.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.process.available_permits()
    }
}

fn clamped(bytes: usize, max: u32) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(max)
}

impl Lease {
    /// Holds the bytes of another lease of the same budget as well.
    pub(super) fn join(&mut self, other: Self) {
        for (mine, other) in [(&mut self.process, other.process), (&mut self.connection, other.connection)] {
            match (mine.as_mut(), other) {
                (Some(mine), Some(other)) => mine.merge(other),
                (None, other) => *mine = other,
                (Some(_), None) => {}
            }
        }
    }

    /// Gives back all but so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        for permit in [&mut self.process, &mut self.connection].into_iter().flatten() {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn what_is_held_is_given_back() {
        let budget = Budget::new(10);
        let mut lease = budget.try_take(4).unwrap();
        lease.join(budget.try_take(3).unwrap());
        assert!(budget.try_take(4).is_none());
        assert_eq!(budget.free(), 3);
        lease.shrink_to(1);
        assert_eq!(budget.free(), 9);
        lease.shrink_to(5);
        assert_eq!(budget.free(), 9, "it does not grow again");
        drop(lease);
        assert_eq!(budget.free(), 10);
        assert!(budget.try_take(usize::MAX).is_some(), "what could never fit is all there is");
    }

    #[test]
    fn one_connection_holds_no_more_than_its_share() {
        let budget = Budget::new(64 * MIB);
        let connection = budget.share();
        let held: Vec<_> = (0..16).map(|_| connection.try_take(MIB).unwrap()).collect();
        assert!(connection.try_take(1).is_none());
        assert!(budget.share().try_take(MIB).is_some(), "others have theirs");
        assert_eq!(budget.free(), 48 * MIB);
        drop(held);
        assert_eq!(budget.free(), 64 * MIB);
        assert!(connection.try_take(MIB).is_some());
        let small = Budget::new(2 * MIB).share();
        assert!(small.try_take(MIB).is_some(), "a share has room for one body");
    }

    #[test]
    fn what_does_not_fit_in_the_process_does_not_stay_taken_from_the_connection() {
        let budget = Budget::new(2 * MIB);
        let connection = budget.share();
        let others = budget.try_take(2 * MIB).unwrap();
        assert!(connection.try_take(MIB).is_none());
        drop(others);
        assert!(connection.try_take(MIB).is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let budget = Budget::new(10);
        let lease = budget.try_take(8).unwrap();
        let mut waiting = std::pin::pin!(budget.take(5));
        let not_yet = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(not_yet.await);
        drop(lease);
        let lease = waiting.await;
        assert_eq!(budget.free(), 5);
        drop(lease);
    }
}
