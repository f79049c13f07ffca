//! How the server stops: the signals, and the steps that everybody can wait for.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The steps of a stop, in their order. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// First: not ready, no new sockets, HTTP connections end after the request that they are in, and the WebSockets close
    /// one after the other.
    pub draining: CancellationToken,
    /// Then, when every change that was committed is cast: the WebSockets that are left close.
    pub closing: CancellationToken,
    /// The HTTP connections, which the first step waits for.
    pub http: TaskTracker,
    /// The cores that have WebSockets to close in the first step, which waits for them too.
    pub drains: TaskTracker,
}

impl Shutdown {
    /// A server that runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The signals that stop the server: SIGTERM, and SIGINT from a terminal.
#[derive(Debug)]
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Catches them from here on.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
