//! `subscribe` and `memory`: connections that receive no changes, and their cost to the server.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use rowcast::open_files;
use serde::Serialize;
use tokio::time::sleep;

use crate::cli::{MemoryArgs, SubscribeArgs};
use crate::client::Client;
use crate::commands::{States, commands};
use crate::metrics::metric;
use crate::opening::{Memory, open_all, open_idle};
use crate::peer::Peer;
use crate::process::Cpu;
use crate::progress::Progress;
use crate::publish::Http;
use crate::report::Rows;
use crate::target::Target;
use crate::workload::Workload;

/// Opens idle connections and tells their memory.
pub(crate) async fn memory(args: &MemoryArgs) -> anyhow::Result<Memory> {
    ensure!(!args.target.pid.is_empty(), "memory needs --pid, the process id of the server: --pid $(pidof rowcast)");
    let _ = open_files::raise();
    let workload = Workload::new(args.readers.connections, args.readers.ids_per_connection, args.readers.products);
    let opened =
        open_all(args.target.peer, &args.target.server()?, args.readers.http2, &workload, &args.target.pid).await?;
    opened.memory.context("the server's process is not known")
}

/// One phase of a storm.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Phase {
    name: &'static str,
    ids: u64,
    seconds: f64,
    ids_per_s: f64,
    /// `None` unless the server's process is known.
    server_cpu_us_per_id: Option<f64>,
}

/// All phases.
#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    parameters: SubscribeArgs,
    phases: Vec<Phase>,
}

impl Storm {
    pub(crate) fn table(&self) -> String {
        let mut rows = Rows::default();
        for Phase { name, ids, seconds, ids_per_s, server_cpu_us_per_id } in &self.phases {
            let cpu = server_cpu_us_per_id.map_or(String::new(), |us| format!(", server CPU {us:.3} µs per id"));
            rows.add(name, format!("{ids} ids in {seconds:.3} s, {ids_per_s:.0} ids/s{cpu}"));
        }
        rows.0
    }
}

/// Subscribes, unsubscribes, subscribes again and closes, with all connections at once.
pub(crate) async fn subscribe(args: &SubscribeArgs) -> anyhow::Result<Storm> {
    ensure!(args.target.peer == Peer::Rowcast, "subscribe speaks Rowcast's commands only; leave --peer out");
    ensure!(args.readers.http2.is_none(), "subscribe has a TCP connection for each WebSocket; leave --http2 out");
    let server = args.target.server()?;
    let _ = open_files::raise();
    let workload = Workload::new(args.readers.connections, args.readers.ids_per_connection, args.readers.products);
    let mut storm = Storming { server, pids: &args.target.pid, workload: &workload, phases: Vec::new() };
    let mut clients = open_idle(Peer::Rowcast, &storm.server, None, 0..workload.connections).await?;
    for (name, command) in
        [("subscribe", "subscribe"), ("unsubscribe", "unsubscribe"), ("subscribe again", "subscribe")]
    {
        storm.command(name, command, &mut clients).await?;
    }
    storm.close(clients).await?;
    Ok(Storm { parameters: args.clone(), phases: storm.phases })
}

struct Storming<'a> {
    server: Target,
    pids: &'a [u32],
    workload: &'a Workload,
    phases: Vec<Phase>,
}

impl Storming<'_> {
    async fn command(&mut self, name: &'static str, command: &str, clients: &mut [Client]) -> anyhow::Result<()> {
        let of = |number| commands(command, self.workload.ids(number), States::None);
        let commands: Vec<_> = (0..clients.len()).map(of).collect();
        let progress = Progress::new(name, Some(clients.len() as u64));
        let (began, cpu) = (Instant::now(), Cpu::of(self.pids)?);
        let all = clients.iter_mut().zip(&commands).map(|(client, commands)| {
            let progress = &progress;
            async move { client.command(commands).await.inspect(|()| progress.add(1)) }
        });
        try_join_all(all)
            .await
            .with_context(|| format!("{name}; is --max-subscriptions of the server large enough?"))?;
        progress.finish();
        self.end_phase(name, began, &cpu)
    }

    /// Closes the clients; that is over when the server holds no subscription any more.
    async fn close(&mut self, clients: Vec<Client>) -> anyhow::Result<()> {
        let mut http = Http::connect(&self.server).await?;
        let (began, cpu) = (Instant::now(), Cpu::of(self.pids)?);
        drop(clients);
        while metric(&mut http, "rowcast_subscriptions").await? > 0 {
            ensure!(
                began.elapsed() < Duration::from_mins(1),
                "the server still holds subscriptions after a minute; are there other clients?"
            );
            sleep(Duration::from_millis(2)).await;
        }
        self.end_phase("close", began, &cpu)
    }

    fn end_phase(&mut self, name: &'static str, began: Instant, cpu: &Cpu) -> anyhow::Result<()> {
        let seconds = began.elapsed().as_secs_f64();
        let ids = self.workload.subscriptions() as u64;
        let each = |us: f64| us / ids.max(1) as f64;
        let server_cpu_us_per_id =
            if self.pids.is_empty() { None } else { Some(each(Cpu::of(self.pids)?.since(cpu).total_us)) };
        self.phases.push(Phase { name, ids, seconds, ids_per_s: ids as f64 / seconds, server_cpu_us_per_id });
        Ok(())
    }
}
