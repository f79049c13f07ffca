//! `rowcast-load`: puts a load on a server on this machine, checks that every change arrives, and measures.
//!
//! The modules, in the order of a run:
//!
//! 1. [`cli`]: the arguments. [`workload`]: the subscriptions. [`peer`]: the differences between servers.
//! 2. [`target`] and [`token`]: the way there. [`opening`], [`client`] and [`http2`]: WebSockets, opened and subscribed.
//! 3. [`publish`]: writes changes. [`readers`]: receives them ([`frames`], [`envelope`], [`message`]).
//! 4. [`accounts`]: the check that all arrived. [`latency`] and [`process`]: the speed and the cost.
//! 5. [`states`]: readers that ask for states ([`commands`]), or whose server loses its source, and what they then
//!    [know](known) beside the store's [`rows`]. [`mod@noisy_neighbour`]: readers under attacks. Both start a [`server`] of
//!    their own.
//! 6. [`report`] and [`chart`]: the results. [`floor`]: the server that others are measured against.

// Counts and times become numbers for people.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod accounts;
mod chart;
mod cli;
mod client;
mod clock;
mod commands;
mod envelope;
mod fanout;
mod faults;
mod floor;
mod frames;
mod handshakes;
mod http2;
mod known;
mod latency;
mod message;
mod metrics;
mod noisy_neighbour;
mod notify;
mod opening;
mod peer;
mod percentiles;
mod process;
mod progress;
mod publish;
mod readers;
mod report;
mod rows;
mod server;
mod states;
mod storm;
mod table;
mod target;
mod token;
mod workload;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use cli::{
    Cli, Command, FanoutArgs, HandshakesArgs, HealingArgs, MemoryArgs, NoisyNeighbourArgs, NotifyArgs, SubscribeArgs,
};

/// It could not be run (`EX_USAGE` of sysexits.h); 1 means that it was run and something was lost.
const EXIT_FAILED: u8 = 64;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "rowcast-load: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(command: Command) -> anyhow::Result<bool> {
    if let Command::Floor(args) = command {
        let address = cli::loopback(&args.listen).with_context(|| format!("--listen {}", args.listen))?;
        floor::serve(address, args.batch)?;
        return Ok(true);
    }
    if let Command::Chart = command {
        let comparison =
            serde_json::from_reader(std::io::stdin().lock()).context("the comparison on standard input")?;
        write!(std::io::stdout(), "{}", chart::comparison::draw(&comparison)?)?;
        return Ok(true);
    }
    // One thread, so that the generator stays on the processor that it was given.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("start the runtime")?;
    runtime.block_on(async {
        match command {
            Command::Fanout(args) => fanout(&args).await,
            Command::Memory(args) => memory(&args).await,
            Command::Subscribe(args) => subscribe(&args).await,
            Command::Resume(args) => {
                let outcome = until_stopped(states::resume(&args)).await?;
                states_told(&outcome, args.storm.own.json.as_deref())
            }
            Command::Snapshot(args) => {
                let outcome = until_stopped(states::snapshot(&args)).await?;
                states_told(&outcome, args.storm.own.json.as_deref())
            }
            Command::Healing(args) => healing(&args).await,
            Command::Notify(args) => notify(&args).await,
            Command::Handshakes(args) => handshakes(&args).await,
            Command::NoisyNeighbour(args) => noisy_neighbour(&args).await,
            Command::Floor(_) | Command::Chart => unreachable!("these have no runtime"),
        }
    })
}

async fn fanout(args: &FanoutArgs) -> anyhow::Result<bool> {
    let outcome = fanout::run(args).await?;
    write!(std::io::stdout(), "{}", outcome.table())?;
    write_json(args.target.json.as_deref(), &outcome)?;
    if let Some(file) = &args.svg {
        std::fs::write(file, chart::run::draw(&outcome)?).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(outcome.is_good())
}

async fn memory(args: &MemoryArgs) -> anyhow::Result<bool> {
    let memory = storm::memory(args).await?;
    let (connections, each) = (args.readers.connections, memory.kib_per_connection);
    writeln!(
        std::io::stdout(),
        "{each:.2} KiB per connection: {} KiB before, {} KiB with {connections} open",
        memory.rss_before_kib,
        memory.rss_open_kib
    )?;
    write_json(args.target.json.as_deref(), &memory)?;
    Ok(true)
}

async fn subscribe(args: &SubscribeArgs) -> anyhow::Result<bool> {
    let storm = storm::subscribe(args).await?;
    write!(std::io::stdout(), "{}", storm.table())?;
    write_json(args.target.json.as_deref(), &storm)?;
    Ok(true)
}

async fn healing(args: &HealingArgs) -> anyhow::Result<bool> {
    let outcome = until_stopped(states::healing(args)).await?;
    write!(std::io::stdout(), "{}", outcome.table())?;
    write_json(args.storm.own.json.as_deref(), &outcome)?;
    Ok(outcome.is_good())
}

async fn notify(args: &NotifyArgs) -> anyhow::Result<bool> {
    args.check()?;
    write!(std::io::stdout(), "{}", notify::run(args).await?.table())?;
    Ok(true)
}

async fn handshakes(args: &HandshakesArgs) -> anyhow::Result<bool> {
    let outcome = handshakes::run(args).await?;
    write!(std::io::stdout(), "{}", outcome.table())?;
    write_json(args.target.json.as_deref(), &outcome)?;
    Ok(true)
}

async fn noisy_neighbour(args: &NoisyNeighbourArgs) -> anyhow::Result<bool> {
    let outcome = until_stopped(noisy_neighbour::run(args)).await?;
    write_json(args.own.json.as_deref(), &outcome)?;
    Ok(outcome.is_complete())
}

fn states_told(outcome: &states::Outcome<impl Serialize>, json: Option<&Path>) -> anyhow::Result<bool> {
    write!(std::io::stdout(), "{}", outcome.table())?;
    write_json(json, outcome)?;
    Ok(outcome.is_good())
}

/// Gives up a run when it is told to stop, whose servers end with it.
async fn until_stopped<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminated = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        outcome = run => outcome,
        _ = terminated.recv() => bail!("stopped"),
        _ = tokio::signal::ctrl_c() => bail!("stopped"),
    }
}

fn write_json(file: Option<&Path>, value: &impl Serialize) -> anyhow::Result<()> {
    file.map_or(Ok(()), |file| report::write_json(file, value))
}
