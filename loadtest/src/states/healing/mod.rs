//! `healing`: the connection by which a server listens to its Postgres is ended, again and again, while readers listen
//! ([`healing`]).
//!
//! 1. [`source`]: the connection, and whether the server hears again. [`writing`]: the changes that are made meanwhile.
//! 2. [`witness`]: what the readers are told, and know.
//! 3. [`outcome`]: the results.

mod outcome;
mod source;
mod witness;
mod writing;

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, bail};
use tokio::task::spawn_local;
use tokio::time::{Duration, sleep, timeout};

use super::exchange::{Exchange, Judge};
use super::outcome::load_average;
use super::scene::Scene;
use super::{CHANGED, changed, products};
use crate::cli::HealingArgs;
use crate::client::Client;
use crate::clock::Clock;
use crate::commands::{States, commands};
use crate::process::Cpu;
use crate::progress::Progress;
use crate::publish::Http;
use crate::workload::Workload;

use outcome::{Kill, Outcome};
use source::Source;
use witness::Witness;
use writing::Writing;

/// A server that takes longer to heal has hung.
const PATIENCE: Duration = Duration::from_mins(5);
/// A server that sends nothing for so long has no more to send.
const SILENCE: Duration = Duration::from_secs(2);

/// Readers listen, the server's source is lost and comes back, and in the end what each reader knows is compared with the
/// store.
pub(crate) async fn healing(args: &HealingArgs) -> anyhow::Result<Outcome> {
    args.check()?;
    let storm = &args.storm;
    let source = Source::connect(args.database_url()?).await?;
    let scene = Scene::start(storm).await?;
    scene.write(&products(storm.products), 0).await?;
    let rows = scene.rows().await?;
    // It is to remember nothing when the source is lost first.
    let mut scene = scene.restart().await?;
    source.until_one_listens().await?;
    let (clients, opened) = scene.open().await?;
    let clock = Clock::start();
    let workload = Workload::new(storm.connections as usize, storm.ids_per_connection as usize, storm.products);
    let witness = Witness::new(workload, clock);
    let judge = Judge::new(if args.snapshot { witness } else { witness.knowing(&rows) });
    let mut run = Run { args, scene, source, clock, judge };
    run.subscribe(clients).await?;
    let writing = Writing::start(args, run.scene.target(), clock).await?;
    let kills = run.kills(&writing).await?;
    let written = writing.stop().await?;
    run.until_quiet().await?;
    let rows = run.scene.rows().await?;
    let witness = &mut run.judge.borrow_mut().ledger;
    let (states, different_readers) = witness.compare(&rows);
    Ok(Outcome {
        parameters: args.clone(),
        opened,
        kills,
        written,
        told: witness.told,
        states,
        different_readers,
        faults_count: witness.faults.count,
        faults: witness.faults.texts(),
        load_average: load_average(),
    })
}

struct Run<'a> {
    args: &'a HealingArgs,
    scene: Scene<'a>,
    source: Source,
    clock: Clock,
    judge: Rc<RefCell<Judge<Witness>>>,
}

impl Run<'_> {
    /// Has all readers subscribe, and listen from then on.
    async fn subscribe(&self, clients: Vec<Client>) -> anyhow::Result<()> {
        let states = if self.args.snapshot { States::All } else { States::None };
        let mut answers = 0;
        for (reader, client) in clients.into_iter().enumerate() {
            let commands = commands("subscribe", self.judge.borrow().ledger.ids(reader), states);
            answers += commands.answers;
            let (exchange, judge) = (Exchange::lasting(reader, client, &commands), Rc::clone(&self.judge));
            spawn_local(async move {
                if let Err(why) = exchange.run(Rc::clone(&judge)).await {
                    judge.borrow_mut().ledger.end(format!("{why:#}"));
                }
            });
        }
        self.until("answered the subscriptions", |witness| witness.replies == answers && witness.are_live()).await
    }

    /// Ends the server's connection as often as is asked for, with a pause before each. There is none after the last: a
    /// product that changes again is told, whatever was lost of it before.
    async fn kills(&mut self, writing: &Writing) -> anyhow::Result<Vec<Kill>> {
        let pause = Duration::from_secs_f64(self.args.pause);
        let progress = Progress::new("ending the server's connection", Some(self.args.kills.into()));
        let mut kills = Vec::new();
        for number in 0..self.args.kills {
            sleep(pause).await;
            let kill = self.kill(number, writing).await;
            // A server that has ended is the reason of whatever else failed.
            self.scene.check()?;
            kills.push(kill.with_context(|| format!("kill {}", number + 1))?);
            progress.add(1);
        }
        progress.finish();
        Ok(kills)
    }

    async fn kill(&mut self, number: u32, writing: &Writing) -> anyhow::Result<Kill> {
        let storm = &self.args.storm;
        let changed = changed(storm.products, self.args.changed);
        let end = self.source.begin(&changed, CHANGED + number, storm.payload_bytes as usize).await?;
        self.judge.borrow_mut().ledger.begin();
        let (before, server, own) = (self.judge.borrow().ledger.told, self.scene.cpu()?, Cpu::own()?);
        let ended_ns = self.clock.now_ns();
        writing.committed(&end.commit().await?);
        let live = self.until("made all readers live again", Witness::are_live);
        let (heard_ns, ()) = tokio::try_join!(self.heard(writing), live)?;
        let (server, own) = (self.scene.cpu()?.since(&server).total_us, Cpu::own()?.since(&own).total_us);
        let witness = &self.judge.borrow().ledger;
        let [lost_ns, live_ns] = witness.moments_ns().context("a reader was not told of the loss")?;
        let after_s = |ns: u64| ns.saturating_sub(ended_ns) as f64 / 1e9;
        let both_s = |(first, last)| (after_s(first), after_s(last));
        Ok(Kill {
            lost_s: both_s(lost_ns),
            heard_s: after_s(heard_ns),
            live_s: both_s(live_ns),
            healing_s: live_ns.1.saturating_sub(heard_ns) as f64 / 1e9,
            told: witness.told.since(before),
            server_cpu_s: server / 1e6,
            load_cpu_share: own / 1e6 / after_s(live_ns.1),
        })
    }

    /// Waits until the server has told a reader of the loss, and then until it says that it hears every change again; returns
    /// when. What was committed before it was last asked in vain is what whoever is live has to know.
    async fn heard(&self, writing: &Writing) -> anyhow::Result<u64> {
        self.until("told a reader of the loss", Witness::is_any_lost).await?;
        let is_heard = async {
            let mut http = Http::connect(self.scene.target()).await?;
            loop {
                let newest = writing.newest();
                if source::is_heard(&mut http).await? {
                    return anyhow::Ok(self.clock.now_ns());
                }
                self.judge.borrow_mut().ledger.due = newest;
                sleep(source::LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, is_heard)
            .await
            .with_context(|| format!("the server did not listen again for {PATIENCE:?}"))?
    }

    /// Waits until all readers are live and nothing more comes.
    async fn until_quiet(&self) -> anyhow::Result<()> {
        loop {
            self.until("made all readers live again", Witness::are_live).await?;
            let frames = self.judge.borrow().ledger.told.frames;
            sleep(SILENCE).await;
            if self.judge.borrow().ledger.told.frames == frames {
                return Ok(());
            }
        }
    }

    /// Waits until the readers have heard what the server has to do.
    async fn until(&self, what: &str, is_done: impl Fn(&Witness) -> bool) -> anyhow::Result<()> {
        let news = Rc::clone(&self.judge.borrow().ledger.news);
        let waiting = async {
            loop {
                let notified = news.notified();
                {
                    let witness = &self.judge.borrow().ledger;
                    if let Some(why) = &witness.ended {
                        bail!("{why}");
                    }
                    if is_done(witness) {
                        return Ok(());
                    }
                }
                notified.await;
            }
        };
        timeout(PATIENCE, waiting).await.with_context(|| format!("the server has not {what} for {PATIENCE:?}"))?
    }
}
