//! The server: its parts, started in the order in which they need each other, and stopped in the reverse.
//!
//! The thread that runs [`Server::run`] is the control core: the acceptor, and what talks to a database. Each fan-out core
//! is a thread of its own; the first of them runs ingest as well, since what wakes it to cast a change wakes it to answer
//! the request that made the change.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle as TaskHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{Config, StoreConfig, TlsConfig};
use crate::connection::admission::ConnectionsBound;
use crate::connection::close::CloseReason;
use crate::connection::{ConnectionLimits, Connections};
use crate::fanout::{self, Core, Hub, Inbox};
use crate::http::listener::{self, AcceptedSocket, CoreDoor, CoreHttp};
use crate::http::{Services, redirect};
use crate::ingest;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::source::{Source, SourceFeed, notify};
use crate::store::Store;
use crate::store::embedded::{EmbeddedStore, EmbeddedWriter, OpenError};
use crate::store::migrate::{MigrateError, migrate};
use crate::store::postgres::PostgresStore;
use crate::store::postgres_config::PostgresConfig;
use crate::tls::{Tls, TlsError};

/// How long requests in flight have when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long HTTP/2 connections have to end once nothing is served on them.
const CARRIERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded store.
    #[error(transparent)]
    Embedded(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Database(#[from] MigrateError),
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error("listen on {address}: {error}; choose another with {option}")]
    Listen {
        /// Which option named it.
        option: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// A thread.
    #[error("start a thread: {0}")]
    Thread(io::Error),
}

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    doors: Vec<CoreDoor>,
    cores: Vec<JoinHandle<Closed>>,
    /// Closes when ingest has ended.
    ingest: oneshot::Receiver<()>,
    services: Services,
    feeder: Feeder,
    tls: Option<Arc<Tls>>,
    redirect: Option<TcpListener>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// WebSockets that were open when the stop began.
    pub connections: usize,
    /// Those of them that did not end their side of the close in time.
    pub connections_cut: usize,
    /// Whether requests were still in flight at the deadline.
    pub requests_cut: bool,
}

/// What became of one core's WebSockets.
#[derive(Clone, Copy, Debug, Default)]
struct Closed {
    connections: usize,
    cut: usize,
}

impl Server {
    /// Reads the certificate, opens the store, then the ports, and starts the cores.
    ///
    /// # Errors
    /// A sentence that says what is in the way; nothing is left running then.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let load = |tls: &TlsConfig| Tls::load(tls.files.clone(), tls.handshake_timeout, Arc::clone(&metrics));
        let tls = config.tls.as_ref().map(load).transpose()?.map(Arc::new);
        let (feed, source) = Source::new();
        let source_up = source.up();
        let (store, feeder) = open_store(&config.store, feed).await?;
        let (listener, address) = listen("--listen", config.listen).await?;
        let redirect = match config.tls.as_ref().and_then(|tls| tls.redirect_listen) {
            Some(address) => Some(listen("--redirect-listen", address).await?.0),
            None => None,
        };
        let services = Services {
            store,
            source_up,
            metrics,
            connections_bound: ConnectionsBound::new(config.connections_max),
            http2_streams_max: config.http2_streams_max,
            shutdown: Shutdown::new(),
        };
        let (hub, inboxes) = Hub::new(config.cores, config.shards);
        let (ingesting, ingest) = oneshot::channel();
        let mut source = Some((source, ingesting));
        let (mut doors, mut cores) = (Vec::new(), Vec::new());
        for inbox in inboxes {
            let (door, accepted) = CoreDoor::new();
            let start = CoreStart {
                inbox,
                hub: hub.clone(),
                limits: config.limits,
                services: services.clone(),
                tls: tls.clone(),
                accepted,
                source: source.take(),
            };
            doors.push(door);
            cores.push(start.spawn().map_err(StartError::Thread)?);
        }
        Ok(Self { listener, address, doors, cores, ingest, services, feeder, tls, redirect })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens only to send everybody on to https.
    #[must_use]
    pub fn redirect_address(&self) -> Option<SocketAddr> {
        self.redirect.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` completes, then stops: not ready, no new sockets; the requests in flight are answered; every
    /// committed change is cast; the WebSockets close; the cores end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Ended {
        let shutdown = self.services.shutdown.clone();
        let acceptor = tokio::spawn(listener::accept(self.listener, self.doors, shutdown.draining.clone()));
        if let Some(listener) = self.redirect {
            tokio::spawn(redirect::redirect(listener, self.address.port(), shutdown.draining.clone()));
        }
        if let Some(tls) = self.tls {
            tokio::spawn(tls.keep_fresh(shutdown.draining.clone()));
        }
        stop.await;

        shutdown.draining.cancel();
        // The acceptor ends by itself, and its doors with it, so no core is handed another socket.
        let _ = acceptor.await;
        shutdown.http.close();
        let requests_cut = timeout(DRAIN_TIMEOUT, shutdown.http.wait()).await.is_err();
        if requests_cut {
            warn!(seconds = DRAIN_TIMEOUT.as_secs(), "requests were still in flight at the deadline");
        }

        self.feeder.stop().await;
        // Ingest ends with the source, when all that the source had is cast.
        let _ = self.ingest.await;

        shutdown.closing.cancel();
        let closed = tokio::task::spawn_blocking(move || join(self.cores)).await.unwrap_or_default();
        Ended { connections: closed.connections, connections_cut: closed.cut, requests_cut }
    }
}

/// What feeds the source.
#[derive(Debug)]
enum Feeder {
    /// The embedded store's own thread.
    Embedded(EmbeddedStore, EmbeddedWriter),
    /// The task that listens to the database.
    Postgres(TaskHandle<()>),
}

impl Feeder {
    /// Ends the source: after everything that is committed where this process commits it, at once where others do.
    async fn stop(self) {
        match self {
            Self::Embedded(store, writer) => {
                store.stop().await;
                let _ = tokio::task::spawn_blocking(move || writer.join()).await;
            }
            Self::Postgres(listening) => listening.abort(),
        }
    }
}

async fn listen(option: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { option, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn open_store(config: &StoreConfig, feed: SourceFeed) -> Result<(Store, Feeder), StartError> {
    match config {
        StoreConfig::Embedded(dir) => {
            let (store, writer) = EmbeddedStore::open(dir, feed)?;
            Ok((Store::Embedded(store.clone()), Feeder::Embedded(store, writer)))
        }
        StoreConfig::Postgres(database) => {
            for name in migrate(database).await? {
                info!(name, "migrated the database");
            }
            let store = PostgresStore::new(database);
            let listening = tokio::spawn(notify::listen(PostgresConfig::clone(database), store.clone(), feed));
            Ok((Store::Postgres(store, Handle::current()), Feeder::Postgres(listening)))
        }
    }
}

/// Waits for the threads. A core that panicked has said so, and has no connections left.
fn join(cores: Vec<JoinHandle<Closed>>) -> Closed {
    let mut all = Closed::default();
    for core in cores {
        let closed = core.join().unwrap_or_default();
        all.connections += closed.connections;
        all.cut += closed.cut;
    }
    all
}

/// What a core's thread is started with.
struct CoreStart {
    inbox: Inbox,
    hub: Hub,
    limits: ConnectionLimits,
    services: Services,
    tls: Option<Arc<Tls>>,
    accepted: mpsc::Receiver<AcceptedSocket>,
    /// On the first core: what it ingests, and what it drops when that has ended.
    source: Option<(Source, oneshot::Sender<()>)>,
}

impl CoreStart {
    fn spawn(self) -> io::Result<JoinHandle<Closed>> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let name = format!("core {}", self.inbox.core.0);
        thread::Builder::new().name(name).spawn(move || {
            let mut runtime = runtime;
            let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default());
            runtime.expect("epoll and a timer are there").block_on(self.run())
        })
    }

    async fn run(self) -> Closed {
        let Self { inbox, hub, limits, services, tls, accepted, source } = self;
        if let Some((source, ingesting)) = source {
            let ingest = ingest::run(source, hub.clone(), Arc::clone(&services.metrics));
            tokio::task::spawn_local(async move {
                ingest.await;
                drop(ingesting);
            });
        }
        let metrics = services.metrics.core(inbox.core.0, limits.queue.policy.label());
        let core = Rc::new(RefCell::new(Core::new(inbox.core, hub, metrics.clone())));
        let connections = Connections::new(Rc::clone(&core), limits, metrics, Arc::clone(&services.metrics));
        let closing = services.shutdown.closing.clone();
        tokio::task::spawn_local(fanout::run(core, inbox));
        tokio::task::spawn_local(Rc::clone(&connections).beat());
        let carriers = TaskTracker::new();
        let http = CoreHttp { services, tls, connections: Rc::clone(&connections), carriers: carriers.clone() };
        tokio::task::spawn_local(listener::serve(http, accepted));
        closing.cancelled().await;
        let open = connections.len();
        connections.close_all(CloseReason::Restart).await;
        carriers.close();
        // What carried WebSockets has its last words to send; a client that does not take them is left.
        let _ = timeout(CARRIERS_TIMEOUT, carriers.wait()).await;
        Closed { connections: open, cut: connections.cut() }
    }
}
