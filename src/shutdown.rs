//! The stop of the server: the signals, and the steps that everybody can wait for.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

/// The steps of a stop, in their order. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// First: not ready, no new sockets, HTTP connections end after the request that they are in, and the WebSockets
    /// close one after the other.
    pub draining: CancellationToken,
    /// Then, when every change that was committed is cast: the WebSockets that are left close.
    pub closing: CancellationToken,
    /// The HTTP connections, which the first step waits for.
    pub http: TaskTracker,
    /// The cores that have WebSockets to close in the first step, which waits for them too.
    pub drains: TaskTracker,
    /// The cores' threads.
    pub cores: TaskTracker,
}

impl Shutdown {
    /// Returns the steps of a server that runs: none is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes once the server drains and its runtime has looked at its sockets since: whoever is polled before this has
    /// read what had come by then. A request among that is in flight.
    pub async fn drains_after_a_look(&self) {
        self.draining.cancelled().await;
        // Wakes a task only after the runtime has looked.
        yield_now().await;
    }

    /// Takes all steps at once, and waits at most this long for the cores to end.
    pub async fn at_once(&self, patience: Duration) {
        self.draining.cancel();
        self.closing.cancel();
        self.cores.close();
        let _ = timeout(patience, self.cores.wait()).await;
    }
}

/// Signals that come within this time are one: GNU `timeout` and some process managers send each of theirs twice.
const ONE_STOP: Duration = Duration::from_secs(1);

/// The signals that stop the server: SIGTERM, and SIGINT from a terminal.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Catches them from here on.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns the name of the next one. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Returns the name of the next one that is more than the echo of one that has just come.
    pub async fn another(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let name = self.next().await;
            if first.elapsed() >= ONE_STOP {
                return name;
            }
        }
    }
}

/// SIGHUP, which would end the process if it were not caught.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Catches it from here on, as long as the process lives.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn catch() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Returns when the next one comes. Cancel-safe.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }

    /// Says of each that it changes nothing, for a server without files that SIGHUP has read again.
    pub async fn ignore(mut self) {
        loop {
            self.next().await;
            info!(
                "SIGHUP is ignored; it has a certificate and the keys of tokens read again, and this server has neither (--tls-cert, --jwt-key)"
            );
        }
    }
}
