//! The attacks: the actions of each client ([`run`]), and their number ([`Tally`]).

mod bodies;
mod closing;
mod commands;
mod http2;
mod lists;
mod requests;
mod websocket;

pub(super) use lists::write_rows;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::trials::Kind;
use crate::target::Target;

/// The longest time that an attack may take to prepare.
const PATIENCE: Duration = Duration::from_mins(2);
/// The wait of a client that was cut, before it comes again.
const COME_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The counts of an attack.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: AtomicU64,
    cut: AtomicU64,
}

impl Tally {
    /// Commands, frames or requests, as the trial says.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns the number of times that the server ended a connection or a stream, or refused one.
    pub(super) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// The means of an attack.
#[derive(Clone)]
struct Scene {
    server: Target,
    clients: usize,
    tally: Arc<Tally>,
    begun: Arc<Notify>,
}

impl Scene {
    /// Tells that all is prepared: latencies may be taken. Whatever is done or cut says so too.
    fn begin(&self) {
        self.begun.notify_one();
    }

    fn add(&self, done: u64) {
        self.tally.done.fetch_add(done, Ordering::Relaxed);
        self.begin();
    }

    /// Counts that the server ended or refused something.
    fn cut(&self) {
        self.tally.cut.fetch_add(1, Ordering::Relaxed);
        self.begin();
    }

    /// Makes an attempt after the other. Each ends when the server ends it.
    async fn again<F: Future<Output = anyhow::Result<()>>>(&self, mut attempt: impl FnMut() -> F) {
        loop {
            // The reason does not matter: it was cut, and comes again.
            let _ = attempt().await;
            self.cut();
            sleep(COME_AGAIN_AFTER).await;
        }
    }
}

/// An attack that is going on, on a thread of its own, so that it does not slow down those who are measured.
pub(super) struct Attack {
    pub(super) tally: Arc<Tally>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Attack {
    /// Starts it, and returns once it is prepared.
    pub(super) async fn start(kind: Kind, server: Target, clients: usize) -> anyhow::Result<Self> {
        let (tally, begun) = (Arc::new(Tally::default()), Arc::new(Notify::new()));
        let scene = Scene { server, clients, tally: Arc::clone(&tally), begun: Arc::clone(&begun) };
        let (stop, stopped) = oneshot::channel();
        let (failed, failure) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            // Dropped when it ends, however it ends.
            let _failed = failed;
            let options = tokio::runtime::LocalOptions::default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(options)?;
            runtime.block_on(async {
                tokio::select! {
                    result = run(kind, &scene) => result,
                    _ = stopped => Ok(()),
                }
            })
        });
        let attack = Self { tally, stop, thread };
        let is_begun = tokio::select! {
            begun = timeout(PATIENCE, begun.notified()) => begun.is_ok(),
            _ = failure => false,
        };
        if is_begun {
            return Ok(attack);
        }
        attack.stop()?;
        Err(anyhow!("the attack was not prepared within {PATIENCE:?}"))
    }

    /// Ends it and all its connections.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        // It may have ended by itself, which its result says.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the attack panicked"))?.context("the attack")
    }
}

/// Goes on until it is dropped; an error means that it could not be prepared.
async fn run(kind: Kind, scene: &Scene) -> anyhow::Result<()> {
    match kind {
        Kind::LargeCommands => commands::large(scene, |_| true).await,
        Kind::OneShard => commands::large(scene, commands::falls_into_the_first_of_two_shards).await,
        Kind::PackedCommands => commands::packed(scene).await,
        Kind::Continuations { payload_bytes } => websocket::continuations(scene, payload_bytes).await,
        Kind::NotCommands => websocket::not_commands(scene).await,
        Kind::ListsSlowly => lists::slow_readers(scene).await,
        Kind::ListsWithoutWindow => lists::streams_without_window(scene).await,
        Kind::BodiesOnStreams { path, method } => bodies::on_streams(scene, method, path).await,
        Kind::BodiesInChunks => bodies::in_chunks(scene).await,
        Kind::Requests { path } => requests::loops(scene, path).await,
        Kind::WindowUpdates => http2::window_updates(scene).await,
        Kind::StreamPings => http2::stream_pings(scene).await,
        Kind::CloseMany => closing::of_many_subscriptions(scene).await,
        Kind::CloseUnread => closing::of_readers_that_never_read(scene).await,
    }
}
