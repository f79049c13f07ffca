//! `noisy-neighbour`: the cost of one heavy or hostile client to the others, attack by attack ([`run`]).
//!
//! 1. [`trials`]: the attacks, as a table, each with a [`server`] of its own. [`proxy`]: a slow way to
//!    its database.
//! 2. [`probe`]: readers and a steady writer, whose latencies are taken in rounds: without the attack, with the attack on
//!    another server of the same kind, and with it on theirs, in turn.
//! 3. [`attacks`]: the actions of the attackers, on a thread of their own. [`watch`]: the server's memory and threads
//!    meanwhile.
//! 4. [`table`]: the results.

mod attacks;
mod probe;
mod proxy;
mod table;
mod trials;
mod watch;

use std::cell::RefCell;
use std::io::{Write, stdout};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::sleep;

use crate::cli::NoisyNeighbourArgs;
use crate::process::{Cpu, rss_kib};
use crate::server::{self, Launch, Server};
use crate::target::Target;
use crate::token::Token;

use attacks::Attack;
use probe::{Probe, Round};
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
    let binary = server::binary(args.server.as_deref())?;
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

async fn one(args: &NoisyNeighbourArgs, binary: &Path, trial: &Trial) -> anyhow::Result<Row> {
    let cores = args.cores.unwrap_or(trial.cores);
    let mut options = vec!["--cores".to_owned(), cores.to_string()];
    options.extend(trial.options.iter().map(ToString::to_string));
    let proxy = match &args.own.database_url {
        Some(url) if trial.name == AttackName::Readyz => Some(proxy::delaying(url).await?),
        _ => None,
    };
    options.extend(proxy.iter().flat_map(|proxy| ["--database-url".to_owned(), proxy.url.clone()]));
    let launch = Launch { binary: binary.to_owned(), parent: args.own.directory(), options, processor: None };
    let twin = if trial.has_twin() && proxy.is_none() { Some(launch.clone().start().await?) } else { None };
    let server = launch.start().await?;
    let scene = Scene::of(args, trial, server, twin);
    let measured = scene.measure().await;
    // A server that has ended is the reason of whatever else failed.
    scene.check()?;
    let (rounds, memory) = measured?;
    Ok(Row::new(trial, cores, proxy.is_some(), &rounds, memory))
}

/// A server that is watched.
struct Watched {
    server: Rc<RefCell<Server>>,
    target: Target,
    watch: Watch,
}

impl Watched {
    fn of(server: Server, rss_max_kib: u64) -> Self {
        let target = Target::plain(server.address, Token::default());
        let server = Rc::new(RefCell::new(server));
        let watch = Watch::start(&server, rss_max_kib);
        Self { server, target, watch }
    }

    fn check(&self) -> anyhow::Result<()> {
        self.server.borrow_mut().check().with_context(|| self.watch.text())
    }
}

/// One trial, ready to be measured.
struct Scene<'a> {
    args: &'a NoisyNeighbourArgs,
    trial: &'a Trial,
    server: Watched,
    /// Another server of the same kind, without readers. An attack on it takes as much of the processors as one on the
    /// readers' server, and nothing else of theirs.
    twin: Option<Watched>,
}

impl<'a> Scene<'a> {
    fn of(args: &'a NoisyNeighbourArgs, trial: &'a Trial, server: Server, twin: Option<Server>) -> Self {
        let watched = |server| Watched::of(server, args.memory_max_mib * 1024);
        Self { args, trial, server: watched(server), twin: twin.map(watched) }
    }

    fn check(&self) -> anyhow::Result<()> {
        self.server.check()?;
        self.twin.as_ref().map_or(Ok(()), |twin| twin.check().context("the other server"))
    }

    /// Measures rounds without and with the attack in turn, and the server's memory.
    async fn measure(&self) -> anyhow::Result<(Measured, table::Memory)> {
        if matches!(self.trial.kind, Kind::ListsSlowly | Kind::ListsWithoutWindow) {
            attacks::write_rows(&self.server.target).await.context("write the rows that are listed")?;
        }
        if let Some(twin) = &self.twin {
            probe::write_once(&twin.target).await.context("write the product of the other server")?;
        }
        let pid = self.server.server.borrow().pid();
        let probe = Probe::open(&self.server.target, self.args.readers, self.args.rate).await?;
        sleep(WARM_UP).await;
        let before_kib = rss_kib(&[pid])?;
        let mut measured = Measured::default();
        for _ in 0..self.args.rounds {
            measured.without.add(&probe, pid, self.args.seconds, None).await?;
            if let Some(twin) = &self.twin {
                let beside = measured.beside.get_or_insert_default();
                beside.add_attacked(&probe, pid, self.args.seconds, self.trial, &twin.target).await?;
            }
            let seconds = self.args.seconds.max(self.trial.seconds_min);
            measured.with.add_attacked(&probe, pid, seconds, self.trial, &self.server.target).await?;
        }
        sleep(Duration::from_secs_f64(self.args.settle)).await;
        let memory = table::Memory { before_kib, most: self.server.watch.most(), after_kib: rss_kib(&[pid])? };
        Ok((measured, memory))
    }
}

/// The rounds of a trial.
#[derive(Default)]
struct Measured {
    without: Rounds,
    /// With the attack on the other server, if there is one.
    beside: Option<Rounds>,
    with: Rounds,
}

impl Rounds {
    /// Adds a round with the attack on `target`.
    async fn add_attacked(
        &mut self,
        probe: &Probe,
        pid: u32,
        seconds: f64,
        trial: &Trial,
        target: &Target,
    ) -> anyhow::Result<()> {
        let attack = Attack::start(trial.kind, target.clone(), trial.clients).await?;
        self.add(probe, pid, seconds, Some(&attack)).await?;
        self.done_in_all += attack.tally.done();
        self.cut += attack.tally.cut();
        attack.stop()?;
        probe.round(RECOVERY_SECONDS).await;
        Ok(())
    }

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
