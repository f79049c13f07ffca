//! Where changes come from: [`Source`], fed by the embedded store or by Postgres' `LISTEN`.

pub mod notify;

use tokio::sync::{mpsc, watch};

use crate::model::change::Change;

/// How many changes may wait between a source and ingest. When it is full the source waits, and what feeds it keeps
/// the rest: the embedded store answers its writers later, Postgres holds its notifications.
pub const CHANGES_WAITING_MAX: usize = 1024;

/// The committed changes, in an order in which the versions of one product only grow.
#[derive(Debug)]
pub struct Source {
    changes: mpsc::Receiver<Change>,
    up: watch::Receiver<bool>,
}

/// The other end of a [`Source`]: what feeds it holds this.
#[derive(Debug)]
pub struct SourceFeed {
    /// Takes the changes in order; closed when the server no longer wants them.
    pub changes: mpsc::Sender<Change>,
    /// Whether changes are arriving now. Starts as `false`.
    pub up: watch::Sender<bool>,
}

impl Source {
    /// A source and its feed.
    #[must_use]
    pub fn new() -> (SourceFeed, Self) {
        let (changes_in, changes) = mpsc::channel(CHANGES_WAITING_MAX);
        let (up_in, up) = watch::channel(false);
        (SourceFeed { changes: changes_in, up: up_in }, Self { changes, up })
    }

    /// The next change, or `None` once the feed has ended and all that it sent was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }

    /// Tells whether changes are arriving.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }
}
