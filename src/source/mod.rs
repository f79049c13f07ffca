//! The origin of changes: [`Source`], fed by the embedded store or by Postgres' `LISTEN`, and its [`Health`].

mod health;
pub mod notify;

use tokio::sync::mpsc;

pub use self::health::{Health, Obstacle};
use crate::model::event::SourceEvent;

/// The most events that wait between a source and ingest. When it is full the source waits, and its feeder keeps the
/// rest: the embedded store answers its writers later, Postgres holds its notifications.
pub const EVENTS_WAITING_MAX: usize = 1024;

/// The committed changes, in an order in which the versions of one product only grow, with the source's knowledge of
/// their completeness in the same order. Until the first [`SourceEvent::Began`], nothing is known of it.
#[derive(Debug)]
pub struct Source(mpsc::Receiver<SourceEvent>);

impl Source {
    /// Makes a source and its feed, which is closed when the server wants no more events.
    #[must_use]
    pub fn new() -> (mpsc::Sender<SourceEvent>, Self) {
        let (feed, events) = mpsc::channel(EVENTS_WAITING_MAX);
        (feed, Self(events))
    }

    /// Returns the number of events that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Returns the next event, or `None` once the feed has ended and all that it sent was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<SourceEvent> {
        self.0.recv().await
    }
}
