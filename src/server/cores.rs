//! The cores: one thread each, with its fan-out, its connections and its requests; the first runs ingest too.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::StartError;
use crate::allocator;
use crate::config::Config;
use crate::connection::Connections;
use crate::fanout::{self, Core, Hub, Inbox};
use crate::http::Services;
use crate::http::core::CoreHttp;
use crate::http::listener::{self, AcceptedSocket, CoreDoor};
use crate::ingest;
use crate::loader::{Loader, Wishes};
use crate::session::SessionLimits;
use crate::source::Source;
use crate::supervisor::{Part, Supervisor};
use crate::transport::tls::Tls;

/// The time that HTTP/2 connections have to end once nothing is served on them.
const CARRIERS_TIMEOUT: Duration = Duration::from_millis(500);

/// The number of a core's WebSockets that did not end their side of the close in time.
pub(super) type Closed = usize;

/// The doors of the cores, their threads, and what closes when ingest has ended.
pub(super) type StartedCores = (Vec<CoreDoor>, Vec<JoinHandle<Closed>>, oneshot::Receiver<()>);

/// Starts a thread for each core.
///
/// # Errors
/// If the operating system has no thread left.
pub(super) fn start(
    config: &Config,
    services: &Services,
    supervisor: &Supervisor,
    tls: Option<&Arc<Tls>>,
    source: Source,
    loader: &Loader,
    inboxes: Vec<Inbox>,
) -> Result<StartedCores, StartError> {
    let (ingesting, ingest) = oneshot::channel();
    let mut source = Some((source, loader.clone(), ingesting));
    let (mut doors, mut cores) = (Vec::new(), Vec::new());
    for inbox in inboxes {
        let (door, accepted) = CoreDoor::new();
        let start = CoreStart {
            inbox,
            hub: services.hub.clone(),
            limits: config.limits,
            gather_max: config.gather_max,
            last_values_bytes_max: config.last_values_bytes_max,
            wildcard_rows_max: config.wildcard_rows_max,
            drain: config.drain,
            draining: services.shutdown.drains.token(),
            services: services.clone(),
            tls: tls.cloned(),
            accepted,
            source: source.take(),
            wishes: loader.wishes(),
            supervisor: supervisor.clone(),
        };
        doors.push(door);
        cores.push(start.spawn().map_err(StartError::Thread)?);
    }
    Ok((doors, cores, ingest))
}

/// All that a core's thread is started with.
struct CoreStart {
    inbox: Inbox,
    hub: Hub,
    limits: SessionLimits,
    gather_max: Duration,
    last_values_bytes_max: usize,
    wildcard_rows_max: usize,
    /// The time over which the WebSockets are closed, and the token that the server waits for meanwhile.
    drain: Duration,
    draining: TaskTrackerToken,
    services: Services,
    tls: Option<Arc<Tls>>,
    accepted: mpsc::Receiver<AcceptedSocket>,
    /// On the first core: the source that it ingests, the loader that hears of it, and the sender that it drops when ingest has ended.
    source: Option<(Source, Loader, oneshot::Sender<()>)>,
    /// The way to the loader.
    wishes: Wishes,
    supervisor: Supervisor,
}

impl CoreStart {
    /// A part of the server that runs on this core.
    fn part(&self, what: &str) -> Part {
        self.supervisor.part(format!("{what} core {}", self.inbox.core.0))
    }

    fn spawn(self) -> io::Result<JoinHandle<Closed>> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let name = format!("core {}", self.inbox.core.0);
        let (part, closing) = (self.part("the thread of"), self.services.shutdown.cores.token());
        thread::Builder::new().name(name).spawn(move || {
            let _closing = closing;
            let mut runtime = runtime;
            let runtime = fanout::count_idle(runtime.enable_all()).build_local(tokio::runtime::LocalOptions::default());
            runtime.expect("epoll and a timer are there").block_on(part.run(self.run()))
        })
    }

    async fn run(self) -> Closed {
        let (fanning_out, beating, serving) =
            (self.part("the fan-out of"), self.part("the heartbeats of"), self.part("the requests of"));
        let giving_back = self.part("the memory of");
        let Self {
            inbox,
            hub,
            limits,
            gather_max,
            last_values_bytes_max,
            wildcard_rows_max,
            drain,
            draining,
            services,
            tls,
            accepted,
            source,
            wishes,
            supervisor,
        } = self;
        if let Some((source, loader, ingesting)) = source {
            let (hearing, metrics) = (services.hearing.clone(), Arc::clone(&services.metrics));
            let ingest = ingest::run(source, hub.clone(), loader, hearing, metrics);
            let ingest = supervisor.part("ingest").run(ingest);
            tokio::task::spawn_local(async move {
                ingest.await;
                drop(ingesting);
            });
        }
        let metrics = services.metrics.core(inbox.core.0, limits.queue.policy.label());
        let core = Core::new(inbox.core, hub, metrics.clone()).with_loader(wishes);
        let core =
            Rc::new(RefCell::new(core.with_last_values(last_values_bytes_max).with_rows_kept(wildcard_rows_max)));
        let (process_metrics, keys) = (Arc::clone(&services.metrics), services.keys.clone());
        let connections = Connections::new(Rc::clone(&core), limits, metrics, process_metrics, keys);
        let shutdown = services.shutdown.clone();
        tokio::task::spawn_local(fanning_out.run(fanout::run(core, inbox, gather_max)));
        tokio::task::spawn_local(beating.run(Rc::clone(&connections).run()));
        tokio::task::spawn_local(giving_back.run(allocator::give_back_at_rest()));
        let carriers = TaskTracker::new();
        let services = Services { shared: services.shared.for_core(), ..services };
        let http = CoreHttp { services, tls, connections: Rc::clone(&connections), carriers: carriers.clone() };
        tokio::task::spawn_local(serving.run(listener::serve(http, accepted)));
        shutdown.draining.cancelled().await;
        connections.drain(drain).await;
        drop(draining);
        shutdown.closing.cancelled().await;
        connections.close_all().await;
        carriers.close();
        // Connections that carried WebSockets have last words to send; a client that does not take them is left.
        let _ = timeout(CARRIERS_TIMEOUT, carriers.wait()).await;
        connections.cut()
    }
}

/// Waits for the threads. A core that panicked has said so, and has no connections left.
pub(super) fn join(cores: Vec<JoinHandle<Closed>>) -> Closed {
    cores.into_iter().map(|core| core.join().unwrap_or_default()).sum()
}
