//! Who may come in, and to which core: counts that all threads share, off the path of a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many sockets a core serves. Cheap to clone; all clones count the same core.
#[derive(Clone, Debug, Default)]
pub struct CoreLoad(Arc<AtomicUsize>);

impl CoreLoad {
    /// How many sockets the core serves now.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, until it is dropped.
    #[must_use]
    pub fn count(&self) -> CountedSocket {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountedSocket(Arc::clone(&self.0))
    }
}

/// One socket in a [`CoreLoad`].
#[derive(Debug)]
pub struct CountedSocket(Arc<AtomicUsize>);

impl Drop for CountedSocket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bound on WebSockets in this process.
#[derive(Clone, Debug)]
pub struct ConnectionsBound {
    free: Arc<Semaphore>,
    max: usize,
}

/// One WebSocket's place within the bound, until it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "dropping it gives the place back")] OwnedSemaphorePermit);

impl ConnectionsBound {
    /// At most `max` WebSockets.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(max)), max }
    }

    /// How many there may be.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// A place, if one is free.
    #[must_use]
    pub fn enter(&self) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let bound = ConnectionsBound::new(1);
        let place = bound.enter();
        assert!(place.is_some() && bound.enter().is_none());
        drop(place);
        assert!(bound.enter().is_some());
    }

    #[test]
    fn sockets_are_counted_while_they_live() {
        let load = CoreLoad::default();
        let counted = (load.count(), load.clone().count());
        assert_eq!(load.sockets(), 2);
        drop(counted);
        assert_eq!(load.sockets(), 0);
    }
}
