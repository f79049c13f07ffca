//! The server of a storm and its readers: [`Scene`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use futures_util::future::try_join_all;
use rowcast::open_files;
use tokio::task::spawn_local;
use tokio::time::{Duration, sleep, timeout};

use super::exchange::{Exchange, Judge};
use super::outcome::{Opened, Phase};
use super::{Judging, products};
use crate::cli::StormArgs;
use crate::client::{Client, SOCKETS_PER_SOURCE};
use crate::metrics::metric;
use crate::opening::open_idle;
use crate::peer::{Peer, Subscribing};
use crate::percentiles::Percentiles;
use crate::process::Cpu;
use crate::progress::Progress;
use crate::publish::Http;
use crate::rows::Rows;
use crate::server::{self, Launch, Server};
use crate::table::Table;
use crate::target::Target;
use crate::token::Token;

/// A server that takes longer to be ready, or to see that sockets are closed, has hung.
const PATIENCE: Duration = Duration::from_mins(1);
/// A storm that takes longer has hung: the server sends much of it, but not for so long.
const STORM_MAX: Duration = Duration::from_mins(10);
/// The interval at which the server's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A server that uses less processor time than this in this span has nothing to do.
const IDLE: Duration = Duration::from_millis(200);
const IDLE_CPU_US: f64 = 2000.0;

/// A server with its products.
pub(super) struct Scene<'a> {
    args: &'a StormArgs,
    peer: Peer,
    /// `None` if it runs already.
    server: Option<Server>,
    target: Target,
    pids: Vec<u32>,
    /// The number of times that all readers were opened.
    lives: usize,
}

impl<'a> Scene<'a> {
    /// Starts the server.
    pub(super) async fn start(args: &'a StormArgs) -> anyhow::Result<Self> {
        args.check()?;
        let _ = open_files::raise();
        let binary = server::binary(args.server.as_deref())?;
        let (options, processor) = (args.server_options(), args.server_processor);
        let server = Launch { binary, parent: args.own.directory(), options, processor }.start().await?;
        Self::with(args, server, 0).await
    }

    /// Takes a server that runs already.
    pub(super) fn running(args: &'a StormArgs, peer: Peer, target: Target, pids: &[u32]) -> Self {
        let _ = open_files::raise();
        Self { args, peer, server: None, target, pids: pids.to_vec(), lives: 0 }
    }

    /// Starts the server again, which remembers nothing but what is in its store.
    pub(super) async fn restart(self) -> anyhow::Result<Self> {
        let server = self.server.context("a server that runs already is not started again")?;
        Self::with(self.args, server.restart().await?, self.lives).await
    }

    async fn with(args: &'a StormArgs, server: Server, lives: usize) -> anyhow::Result<Self> {
        let target = Target::plain(server.address, Token::default());
        let is_ready = async {
            let readyz = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
            while Http::connect(&target).await?.request(readyz).await.is_err() {
                sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, is_ready).await.context("the server was not ready for a minute")??;
        let pids = vec![server.pid()];
        Ok(Self { args, peer: Peer::Rowcast, server: Some(server), target, pids, lives })
    }

    /// Writes these products, with numbers in their names that are `stamp` above their ids.
    pub(super) async fn write(&self, products: &[u32], stamp: u32) -> anyhow::Result<()> {
        let (database_url, frame_bytes) = (self.args.own.database_url.as_deref(), self.args.payload_bytes as usize);
        let way = products::Way { peer: self.peer, server: &self.target, database_url, frame_bytes };
        products::write(&way, products, stamp).await
    }

    /// Returns what the store has.
    pub(super) async fn rows(&self) -> anyhow::Result<Rows> {
        Rows::read(&mut Http::connect(&self.target).await?, Table::Products, self.args.products).await
    }

    /// Opens all readers, which ask for nothing yet.
    pub(super) async fn open(&mut self) -> anyhow::Result<(Vec<Client>, Opened)> {
        let connections = self.args.connections as usize;
        // Each life has ports of its own: those of the one before are not free again yet.
        let first = self.lives * connections.next_multiple_of(SOCKETS_PER_SOURCE);
        self.lives += 1;
        let (began, cpu) = (Instant::now(), self.cpu()?);
        let clients = open_idle(self.peer, &self.target, self.args.http2, first..first + connections).await?;
        let server_cpu_us_per_connection = self.cpu()?.since(&cpu).total_us / connections as f64;
        Ok((clients, Opened { connections, seconds: began.elapsed().as_secs_f64(), server_cpu_us_per_connection }))
    }

    /// Closes all readers, and waits until the server knows it.
    pub(super) async fn close(&self, clients: Vec<Client>) -> anyhow::Result<()> {
        drop(clients);
        if self.peer != Peer::Rowcast {
            return timeout(PATIENCE, self.until_idle())
                .await
                .context("the server is busy a minute after the close")?;
        }
        let mut http = Http::connect(&self.target).await?;
        let are_gone = async {
            while metric(&mut http, "rowcast_subscriptions").await? > 0 {
                sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, are_gone).await.context("the server still holds subscriptions a minute after the close")?
    }

    /// Has all readers send their commands at once, waits for the last reply, and compares what they know with the store.
    pub(super) async fn storm<L: Judging + 'static>(
        &mut self,
        name: &'static str,
        judge: &Rc<RefCell<Judge<L>>>,
        clients: Vec<Client>,
        commands: impl Fn(&mut L, usize) -> anyhow::Result<Subscribing>,
    ) -> anyhow::Result<(Phase, Vec<Client>)> {
        // Their frames are ready before the round begins.
        let exchanges = {
            let ledger = &mut judge.borrow_mut().ledger;
            let exchange = |(reader, client)| anyhow::Ok(Exchange::new(reader, client, &commands(ledger, reader)?));
            clients.into_iter().enumerate().map(exchange).collect::<anyhow::Result<Vec<_>>>()?
        };
        let (rows_read, states) = (self.rows_read().await?, judge.borrow().ledger.states());
        let (began, server, own) = (Instant::now(), self.cpu()?, Cpu::own()?);
        let ended = all(name, exchanges, judge, began).await;
        let seconds = began.elapsed().as_secs_f64();
        // A server that has ended is the reason of whatever else failed.
        self.check()?;
        let (clients, last_replies_ns) = ended?;
        let (server, own) = (self.cpu()?.since(&server).total_us, Cpu::own()?.since(&own).total_us);
        let rows_read = self.rows_read().await? - rows_read;
        let ledger = &mut judge.borrow_mut().ledger;
        ledger.settle();
        let ids = ledger.workload().subscriptions() as u64;
        let phase = Phase {
            name,
            ids,
            states: ledger.states() - states,
            seconds,
            ids_per_s: ids as f64 / seconds,
            server_cpu_us_per_id: server / ids as f64,
            last_reply: Percentiles::of(last_replies_ns),
            rows_read,
            load_cpu_share: own / (seconds * 1e6),
        };
        Ok((phase, clients))
    }

    /// Returns the number of rows that a Rowcast has read to answer readers.
    async fn rows_read(&self) -> anyhow::Result<u64> {
        if self.peer != Peer::Rowcast {
            return Ok(0);
        }
        metric(&mut Http::connect(&self.target).await?, "rowcast_last_values_loaded_total").await
    }

    /// Waits until the server does nothing more, as far as its processor time tells.
    async fn until_idle(&self) -> anyhow::Result<()> {
        loop {
            let before = self.cpu()?;
            sleep(IDLE).await;
            if self.cpu()?.since(&before).total_us < IDLE_CPU_US {
                return Ok(());
            }
        }
    }

    /// Refuses a server that has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.server.as_mut().map_or(Ok(()), Server::check)
    }

    /// Returns the way to the server.
    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the processor time that the server has used.
    pub(super) fn cpu(&self) -> anyhow::Result<Cpu> {
        Cpu::of(&self.pids)
    }
}

/// Runs all readers at once. Returns them, and the times of the last reply to each that asked for something.
async fn all(
    name: &'static str,
    exchanges: Vec<Exchange>,
    judge: &Rc<RefCell<Judge<impl Judging + 'static>>>,
    began: Instant,
) -> anyhow::Result<(Vec<Client>, Vec<u64>)> {
    let progress = Rc::new(Progress::new(name, Some(exchanges.len() as u64)));
    let run = |exchange: Exchange| {
        let (judge, progress) = (Rc::clone(judge), Rc::clone(&progress));
        let asks = exchange.asks();
        let task = spawn_local(async move {
            let client = exchange.run(judge).await?;
            progress.add(1);
            anyhow::Ok((client, asks.then(|| u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))))
        });
        async { task.await.context("a reader's task")? }
    };
    let all = try_join_all(exchanges.into_iter().map(run).collect::<Vec<_>>());
    let ended = timeout(STORM_MAX, all).await.with_context(|| format!("{name} was not over after {STORM_MAX:?}"))??;
    progress.finish();
    let (clients, last_replies_ns): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
    Ok((clients, last_replies_ns.into_iter().flatten().collect()))
}
