//! `noisy-neighbour`: the cost of one heavy or hostile client to the others, attack by attack ([`run`]).
//!
//! 1. [`trials`]: the attacks, as a table. [`server`]: a server for each, ended with it. [`proxy`]: a slow way to its
//!    database.
//! 2. [`probe`]: readers and a steady writer, whose latencies are taken in rounds, with and without the attack in turn.
//! 3. [`attacks`]: the actions of the attackers, on a thread of their own. [`watch`]: the server's memory and threads
//!    meanwhile.
//! 4. [`percentiles`] and [`table`]: the results.

mod attacks;
mod percentiles;
mod probe;
mod proxy;
mod server;
mod table;
mod trials;
mod watch;

use std::cell::RefCell;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::sleep;

use crate::cli::NoisyNeighbourArgs;
use crate::process::{Cpu, rss_kib};
use crate::target::Target;
use crate::token::Token;

use attacks::Attack;
use probe::{Probe, Round};
use server::Server;
use table::{Outcome, Row};
use trials::{Kind, TRIALS, Trial};
use watch::Watch;

pub(crate) use trials::AttackName;

/// Between the opening of the readers and the first round.
const WARM_UP: Duration = Duration::from_millis(500);
/// After an attack, a round that does not count: all of its changes come before the next round begins.
const RECOVERY_SECONDS: f64 = 0.5;

/// Runs every trial that is asked for, and prints its row when it is known. One that cannot be finished is named, and
/// the next begins.
pub(crate) async fn run(args: &NoisyNeighbourArgs) -> anyhow::Result<Outcome> {
    args.check()?;
    let binary = args.server.clone().map_or_else(beside_this_binary, Ok)?;
    let is_asked_for = |trial: &&Trial| args.attack.is_empty() || args.attack.contains(&trial.name);
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    write!(stdout(), "{}", table::HEAD)?;
    for trial in TRIALS.iter().filter(is_asked_for) {
        match one(args, &binary, trial).await {
            Ok(row) => {
                write!(stdout(), "{}", row.line())?;
                rows.push(row);
            }
            Err(error) => {
                let failure = format!("{}: {error:#}", table::title(trial));
                writeln!(stdout(), "\nFAILED: {failure}\n")?;
                failures.push(failure);
            }
        }
    }
    Ok(Outcome { parameters: args.clone(), rows, failures })
}

fn beside_this_binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find the server beside this binary; name it with --server")?;
    Ok(own.with_file_name("rowcast"))
}

/// The results of rounds with or without the attack.
#[derive(Default)]
struct Rounds {
    each: Vec<Round>,
    seconds: f64,
    cpu_us: f64,
    done: u64,
    /// Since the attacks began, also before and after the rounds.
    done_in_all: u64,
    cut: u64,
}

async fn one(args: &NoisyNeighbourArgs, binary: &std::path::Path, trial: &Trial) -> anyhow::Result<Row> {
    let cores = args.cores.unwrap_or(trial.cores);
    let mut options = vec!["--cores".to_owned(), cores.to_string()];
    options.extend(trial.options.iter().map(ToString::to_string));
    let proxy = match &args.database_url {
        Some(url) if trial.name == AttackName::Readyz => Some(proxy::delaying(url).await?),
        _ => None,
    };
    options.extend(proxy.iter().flat_map(|proxy| ["--database-url".to_owned(), proxy.url.clone()]));
    // Its start is awaited on another thread, while the proxy works on this one.
    let (binary, parent) = (binary.to_owned(), args.directory());
    let server = tokio::task::spawn_blocking(move || Server::start(&binary, &parent, &options)).await??;
    let (target, pid) = (Target::plain(server.address, Token::default()), server.pid());
    let server = Rc::new(RefCell::new(server));
    if matches!(trial.kind, Kind::ListsSlowly | Kind::ListsWithoutWindow) {
        attacks::write_rows(&target).await.context("write the rows that are listed")?;
    }
    let watch = Watch::start(&server, args.memory_max_mib * 1024);
    let measured = measure(args, trial, &target, pid, &watch).await;
    // A server that has ended is the reason of whatever else failed.
    server.borrow_mut().check().with_context(|| watch.text())?;
    let (without, with, memory) = measured?;
    Ok(Row::new(trial, cores, proxy.is_some(), &without, &with, memory))
}

/// Rounds without and with the attack in turn, and the server's memory.
async fn measure(
    args: &NoisyNeighbourArgs,
    trial: &Trial,
    target: &Target,
    pid: u32,
    watch: &Watch,
) -> anyhow::Result<(Rounds, Rounds, table::Memory)> {
    let probe = Probe::open(target, args.readers, args.rate).await?;
    sleep(WARM_UP).await;
    let rss_before_kib = rss_kib(&[pid])?;
    let (mut without, mut with) = (Rounds::default(), Rounds::default());
    for _ in 0..args.rounds {
        without.add(&probe, pid, args.seconds, None).await?;
        let attack = Attack::start(trial.kind, target.clone(), trial.clients).await?;
        let seconds = args.seconds.max(trial.seconds_min);
        with.add(&probe, pid, seconds, Some(&attack)).await?;
        with.done_in_all += attack.tally.done();
        with.cut += attack.tally.cut();
        attack.stop()?;
        probe.round(RECOVERY_SECONDS).await;
    }
    sleep(Duration::from_secs_f64(args.settle)).await;
    let memory = table::Memory { before_kib: rss_before_kib, most: watch.most(), after_kib: rss_kib(&[pid])? };
    Ok((without, with, memory))
}

impl Rounds {
    async fn add(&mut self, probe: &Probe, pid: u32, seconds: f64, attack: Option<&Attack>) -> anyhow::Result<()> {
        let done = || attack.map_or(0, |attack| attack.tally.done());
        let (began, cpu, done_before) = (Instant::now(), Cpu::of(&[pid])?, done());
        self.each.push(probe.round(seconds).await);
        self.done += done() - done_before;
        self.seconds += began.elapsed().as_secs_f64();
        self.cpu_us += Cpu::of(&[pid])?.since(&cpu).total_us;
        Ok(())
    }
}
