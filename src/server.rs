//! The server: its parts, started in the order in which they need each other, and stopped in the reverse.
//!
//! The thread that runs [`Server::run`] is the control core: the acceptor, and what talks to a database. Each fan-out core
//! is a thread of its own; the first of them runs ingest as well, since what wakes it to cast a change wakes it to answer
//! the request that made the change.

mod cores;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle as TaskHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use self::cores::Closed;
use crate::auth::CurrentKeys;
use crate::config::{Config, DatabaseConfig, StoreConfig, TlsConfig};
use crate::fanout::Hub;
use crate::http::listener::{self, CoreDoor};
use crate::http::{Services, Shared, redirect};
use crate::ingest::Hearing;
use crate::loader;
use crate::metrics::Metrics;
use crate::model::event::SourceEvent;
use crate::model::table::{Tables, TooManyTables};
use crate::session::heartbeat::CLOSE_SECONDS_MAX;
use crate::shutdown::{Hangups, Shutdown};
use crate::source::notify::{self, Listener, Vigilance};
use crate::source::{Health, Source};
use crate::store::Store;
use crate::store::embedded::{EmbeddedStore, EmbeddedWriter, OpenError};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::tables::prepare::{PrepareError, Prepared, find_prepared, prepare};
use crate::supervisor::{Failure, Fault, Supervisor};
use crate::transport::admission::Admission;
use crate::transport::tls::{Tls, TlsError};

/// The time that requests in flight have after the WebSockets have been told to close.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a stop leaves behind what hangs, from the same moment: the requests' time, that of a close
/// ([`CLOSE_SECONDS_MAX`]), and one second for what is committed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5 + CLOSE_SECONDS_MAX as u64 + 1);
/// The time that the cores have to close their WebSockets when a part of the server has failed.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason for which the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded store.
    #[error(transparent)]
    Embedded(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Database(#[from] PrepareError),
    /// There is no place for all tables.
    #[error(transparent)]
    Tables(#[from] TooManyTables),
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error("listen on {address}: {error}; choose another with {option}")]
    Listen {
        /// The option that named it.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's words.
        error: io::Error,
    },
    /// A thread.
    #[error("start a thread: {0}")]
    Thread(io::Error),
    /// The signal that has the certificate and the keys read again.
    #[error("catch SIGHUP: {0}")]
    Signal(io::Error),
}

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    doors: Vec<CoreDoor>,
    running: Running,
    supervisor: Supervisor,
    tls: Option<(Arc<Tls>, Hangups)>,
    keys: Option<(Arc<CurrentKeys>, Hangups)>,
    redirect: Option<TcpListener>,
}

/// The parts that run until the server stops.
#[derive(Debug)]
struct Running {
    services: Services,
    /// The time over which the WebSockets are closed.
    drain: Duration,
    feeder: Feeder,
    /// Closes when ingest has ended.
    ingest: oneshot::Receiver<()>,
    cores: Vec<JoinHandle<Closed>>,
}

/// The outcome of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// WebSockets that were open when the stop began.
    pub connections: usize,
    /// WebSockets that did not end their side of the close in time.
    pub connections_cut: usize,
    /// True if requests were still in flight at the deadline.
    pub requests_cut: bool,
}

impl Server {
    /// Reads the certificate, opens the store, then the ports, and starts the cores.
    ///
    /// # Errors
    /// A sentence that says what is in the way; nothing is left running then.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_with(config, None).await
    }

    /// [`start`](Self::start) for tests, where a part may have a fault.
    #[doc(hidden)]
    pub async fn start_with(config: &Config, fault: Option<Fault>) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let tls = load_tls(config.tls.as_ref(), &metrics)?;
        let keys = match &config.keys {
            Some(keys) => Some((Arc::clone(keys), Hangups::catch().map_err(StartError::Signal)?)),
            None => None,
        };
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.draining.clone()).with_fault(fault);
        let (feed, source) = Source::new();
        let health = Health::new(Arc::clone(&metrics));
        let tables = Tables::new();
        let (store, feeder) = open_store(&config.store, &tables, feed, health.clone(), &supervisor).await?;
        let (listener, address) = listen("--listen", config.listen).await?;
        let redirect = match config.tls.as_ref().and_then(|tls| tls.redirect_listen) {
            Some(address) => Some(listen("--redirect-listen", address).await?.0),
            None => None,
        };
        let (hub, inboxes) = Hub::new(config.cores, config.shards, tables);
        let services = Services {
            shared: Shared::new(&config.http),
            store,
            hub,
            hearing: Hearing::default(),
            health,
            metrics,
            admission: Arc::new(Admission::new(config.admission)),
            limits: config.http,
            shutdown,
            keys: config.keys.clone(),
            allowed_origins: Arc::clone(&config.allowed_origins),
            slow_consumer: config.limits.queue.policy,
        };
        let (loader, demands) = loader::channel();
        let tls_of_cores = tls.as_ref().map(|(tls, _)| tls);
        let (doors, cores, ingest) =
            cores::start(config, &services, &supervisor, tls_of_cores, source, &loader, inboxes)?;
        let (store, hub, metrics) = (services.store.clone(), services.hub.clone(), Arc::clone(&services.metrics));
        let loading = loader::run(demands, store, hub, config.wildcard_rows_max, metrics);
        tokio::spawn(supervisor.part("the loader").run(loading));
        let running = Running { services, drain: config.drain, feeder, ingest, cores };
        Ok(Self { listener, address, doors, running, supervisor, tls, keys, redirect })
    }

    /// Returns true if the built-in table of products is served.
    #[must_use]
    pub fn has_products(&self) -> bool {
        self.running.services.hub.tables().products().is_some()
    }

    /// The store, for tests that end it.
    #[doc(hidden)]
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.running.services.store
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address on which it only sends everybody on to https.
    #[must_use]
    pub fn redirect_address(&self) -> Option<SocketAddr> {
        self.redirect.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` completes, then stops: not ready, no new sockets; the WebSockets are closed one after the other
    /// and have every change until then, while the requests in flight are answered; what is committed by then is cast; what
    /// is left closes; the cores end. What hangs is left behind at the deadline.
    ///
    /// # Errors
    /// If a part of the server has ended before its time. The WebSockets are told to come back then, as far as their cores
    /// live, and the process is to end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Ended, Failure> {
        let Self { listener, address, doors, running, supervisor, tls, keys, redirect } = self;
        let services = running.services.clone();
        let draining = || services.shutdown.draining.clone();
        let accepting = accept(listener, doors, services.clone(), tls.is_some());
        let acceptor = tokio::spawn(supervisor.part("the acceptor").run(accepting));
        if let Some(listener) = redirect {
            let redirecting = redirect::redirect(listener, address.port(), draining());
            tokio::spawn(supervisor.part("the redirect to https").run(redirecting));
        }
        if let Some((tls, hangups)) = tls {
            tokio::spawn(supervisor.part("the watch over the certificate").run(tls.keep_fresh(hangups, draining())));
        }
        if let Some((keys, hangups)) = keys {
            let (metrics, draining) = (Arc::clone(&services.metrics), draining());
            let watching = async move { keys.keep_fresh(hangups, draining, &metrics).await };
            tokio::spawn(supervisor.part("the watch over the keys").run(watching));
        }
        let serving = async {
            stop.await;
            let connections = services.admission.connections.open();
            Ended { connections, ..running.stop_in_time(acceptor).await }
        };
        tokio::select! {
            ended = serving => Ok(ended),
            failure = supervisor.failed() => {
                services.shutdown.at_once(FAILURE_TIMEOUT).await;
                Err(failure)
            }
        }
    }
}

/// Accepts sockets until the server drains: with the embedded store, which misses no change, from when it is live, so
/// that a first reader is not healed of a gap that never was. A database may be away, and the server answers meanwhile.
async fn accept(listener: TcpListener, doors: Vec<CoreDoor>, services: Services, is_tls: bool) {
    if matches!(services.store, Store::Embedded(_)) {
        let _ = services.shutdown.draining.run_until_cancelled(services.hub.until_live()).await;
    }
    listener::accept(listener, doors, services, is_tls).await;
}

impl Running {
    /// [`stop`](Self::stop), or what can be said of it at the deadline.
    async fn stop_in_time(self, acceptor: TaskHandle<()>) -> Ended {
        let deadline = self.drain + STOP_TIMEOUT;
        let admission = Arc::clone(&self.services.admission);
        timeout(deadline, self.stop(acceptor)).await.unwrap_or_else(|_| {
            warn!(seconds = deadline.as_secs(), "what hangs is left behind at the deadline");
            Ended { connections_cut: admission.connections.open(), requests_cut: true, connections: 0 }
        })
    }

    async fn stop(self, acceptor: TaskHandle<()>) -> Ended {
        let shutdown = &self.services.shutdown;
        shutdown.draining.cancel();
        // The acceptor ends by itself, and the listening socket and the doors with it, so no core is handed another socket.
        let _ = acceptor.await;
        shutdown.http.close();
        shutdown.drains.close();
        let requests = timeout(self.drain + REQUESTS_TIMEOUT, shutdown.http.wait());
        let ((), requests) = tokio::join!(shutdown.drains.wait(), requests);
        if requests.is_err() {
            warn!("requests were still in flight at the deadline");
        }

        self.feeder.stop().await;
        // Ingest ends with the source, when all that the source had is cast.
        let _ = self.ingest.await;

        shutdown.closing.cancel();
        let connections_cut = tokio::task::spawn_blocking(move || cores::join(self.cores)).await.unwrap_or_default();
        Ended { connections: 0, connections_cut, requests_cut: requests.is_err() }
    }
}

/// The part that feeds the source.
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

fn load_tls(config: Option<&TlsConfig>, metrics: &Arc<Metrics>) -> Result<Option<(Arc<Tls>, Hangups)>, StartError> {
    let Some(config) = config else { return Ok(None) };
    let tls = Tls::load(config.files.clone(), config.handshake_timeout, Arc::clone(metrics))?;
    Ok(Some((Arc::new(tls), Hangups::catch().map_err(StartError::Signal)?)))
}

async fn open_store(
    config: &StoreConfig,
    tables: &Tables,
    feed: mpsc::Sender<SourceEvent>,
    health: Health,
    supervisor: &Supervisor,
) -> Result<(Store, Feeder), StartError> {
    match config {
        StoreConfig::Embedded(config) => {
            let part = supervisor.part("the thread of the embedded store");
            let (store, writer) = EmbeddedStore::open(config, tables, feed, part)?;
            let watched = store.clone();
            tokio::spawn(async move { watched.watch().await });
            Ok((Store::Embedded(store.clone()), Feeder::Embedded(store, writer)))
        }
        StoreConfig::Postgres(config) => {
            let database = &config.database;
            let store = open_database(config, tables).await?;
            let listener = Listener {
                config: PostgresConfig::clone(database),
                store: store.clone(),
                health,
                vigilance: Vigilance::DEFAULT,
                installs: config.migrates,
            };
            let listening = notify::listen(listener, feed);
            let listening = tokio::spawn(supervisor.part("the listener of the database").run(listening));
            Ok((Store::Postgres(store, Handle::current()), Feeder::Postgres(listening)))
        }
    }
}

/// Prepares a database, or finds it prepared, and returns the store of its tables.
async fn open_database(config: &DatabaseConfig, tables: &Tables) -> Result<PostgresStore, StartError> {
    let DatabaseConfig { database, tables: wanted, migrates } = config;
    let Prepared { applied, tables: installed, has_products } =
        if *migrates { prepare(database, wanted).await? } else { find_prepared(database, wanted).await? };
    for name in applied {
        info!(name, "migrated the database");
    }
    let store = PostgresStore::new(database);
    let store = if has_products { store } else { store.without_products(tables) };
    Ok(store.with_tables(tables, installed.into_iter().map(|(table, _)| table).collect())?)
}
