//! `resume` and `snapshot`: storms of readers that all ask for states at once ([`resume`], [`snapshot`]); and `healing`:
//! readers whose server loses its source ([`mod@healing`]).
//!
//! 1. [`scene`]: a server of the run's own, with its [`mod@products`] and its readers.
//! 2. [`exchange`]: one reader's commands, and what comes until the last reply.
//! 3. [`ledger`]: what came, beside what the reader knew and what the store has; [`centrifugo`]: the same of that server.
//! 4. [`outcome`]: the results.

mod centrifugo;
mod exchange;
mod healing;
mod ledger;
mod outcome;
mod products;
mod scene;

use std::cell::RefCell;
use std::rc::Rc;

use crate::cli::{ResumeArgs, SnapshotArgs};
use crate::peer::Peer;
use crate::workload::Workload;

use centrifugo::Positions;
use exchange::Judge;
use ledger::Ledger;
use outcome::{Opened, Phase};
use scene::Scene;

pub(crate) use healing::healing;
pub(crate) use outcome::Outcome;

/// The numbers in the names of products that changed are greater by this than those of all before.
const CHANGED: u32 = 1_000_000_000;

/// The ears of all readers.
trait Ears {
    /// Takes a message.
    ///
    /// # Errors
    /// It is a refusal, or not understood.
    fn take(&mut self, reader: usize, text: &[u8]) -> anyhow::Result<Heard>;
}

/// The judge of what one kind of server tells its readers in a storm.
trait Judging: Ears {
    /// Returns what the readers ask for.
    fn workload(&self) -> &Workload;

    /// Returns the number of states that came.
    fn states(&self) -> u64;

    /// Judges at the end of a round what did not come.
    fn settle(&mut self);
}

/// The meaning of a message for the exchange with its reader.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// The number of commands that it answers.
    replies: usize,
    /// What the server has to be told.
    answer: Option<&'static [u8]>,
}

/// All readers learn what there is and leave; some products change; all come back with what they know.
pub(crate) async fn resume(args: &ResumeArgs) -> anyhow::Result<Outcome<ResumeArgs>> {
    let storm = &args.storm;
    let mut scene = match args.running()? {
        Some(target) => Scene::running(storm, args.peer, target, &args.pid),
        None => Scene::start(storm).await?,
    };
    let workload = Workload::new(storm.connections as usize, storm.ids_per_connection as usize, storm.products);
    scene.write(&products(storm.products), 0).await?;
    let (faults, (opened, phases)) = if args.peer == Peer::Centrifugo {
        let judge = Judge::new(Positions::new(workload));
        let measured = resume_from_cache(&mut scene, &judge).await?;
        (std::mem::take(&mut judge.borrow_mut().ledger.faults), measured)
    } else {
        let judge = Judge::new(Ledger::new(workload, scene.rows().await?));
        let measured = resume_with_versions(&mut scene, &judge, &changed(storm.products, args.changed)).await?;
        (std::mem::take(&mut judge.borrow_mut().ledger.faults), measured)
    };
    Ok(Outcome::new(args.clone(), storm.own.database_url.is_some(), opened, phases).with(&faults))
}

type Measured = (Opened, Vec<Phase>);

async fn resume_with_versions(
    scene: &mut Scene<'_>,
    judge: &Rc<RefCell<Judge<Ledger>>>,
    changed: &[u32],
) -> anyhow::Result<Measured> {
    let (clients, _) = scene.open().await?;
    let (learnt, clients) =
        scene.storm("snapshot", judge, clients, |ledger, reader| Ok(ledger.ask_all(reader))).await?;
    scene.close(clients).await?;
    scene.write(changed, CHANGED).await?;
    let rows = scene.rows().await?;
    judge.borrow_mut().ledger.renew(rows);
    let (clients, opened) = scene.open().await?;
    let (resumed, _clients) = scene.storm("resume", judge, clients, |ledger, reader| ledger.ask_newer(reader)).await?;
    Ok((opened, vec![learnt, resumed]))
}

async fn resume_from_cache(scene: &mut Scene<'_>, judge: &Rc<RefCell<Judge<Positions>>>) -> anyhow::Result<Measured> {
    let (clients, _) = scene.open().await?;
    let (learnt, clients) =
        scene.storm("snapshot", judge, clients, |ledger, reader| Ok(ledger.ask_all(reader))).await?;
    scene.close(clients).await?;
    judge.borrow_mut().ledger.come_back();
    let (clients, opened) = scene.open().await?;
    let (resumed, _clients) = scene.storm("resume", judge, clients, |ledger, reader| ledger.ask_newer(reader)).await?;
    Ok((opened, vec![learnt, resumed]))
}

/// A server that was just started is asked for each product once, then by every reader for many, twice.
pub(crate) async fn snapshot(args: &SnapshotArgs) -> anyhow::Result<Outcome<SnapshotArgs>> {
    let storm = &args.storm;
    let connections = storm.connections as usize;
    let scene = Scene::start(storm).await?;
    scene.write(&products(storm.products), 0).await?;
    let rows = scene.rows().await?;
    let mut scene = scene.restart().await?;
    let (clients, opened) = scene.open().await?;
    let each_once = Judge::new(Ledger::new(Workload::each_once(connections, storm.products), rows.clone()));
    let ask_all = |ledger: &mut Ledger, reader: usize| Ok(ledger.ask_all(reader));
    let (cold, clients) = scene.storm("each product once", &each_once, clients, ask_all).await?;

    let workload = Workload::new(connections, storm.ids_per_connection as usize, storm.products);
    let judge = Judge::new(Ledger::new(workload, rows));
    let (first, clients) = scene.storm("from memory", &judge, clients, ask_all).await?;
    let (second, _clients) = scene.storm("from memory, again", &judge, clients, ask_all).await?;
    let outcome = Outcome::new(args.clone(), storm.own.database_url.is_some(), opened, vec![cold, first, second]);
    Ok(outcome.with(&each_once.borrow().ledger.faults).with(&judge.borrow().ledger.faults))
}

fn products(count: u32) -> Vec<u32> {
    (1..=count).collect()
}

/// Returns this percentage of the products, spread evenly over all of them.
fn changed(count: u32, percent: u32) -> Vec<u32> {
    let below = |product: u32| u64::from(product) * u64::from(percent) / 100;
    (1..=count).filter(|product| below(*product) > below(product - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn the_share_that_changes_is_spread_evenly() {
        assert_eq!(changed(10, 0), [0; 0]);
        assert_eq!(changed(10, 100), (1..=10).collect::<Vec<_>>());
        assert_eq!(changed(10, 30), [4, 7, 10]);
        assert_eq!(changed(100_000, 7).len(), 7000);
        assert_eq!(changed(3, 10), [0; 0]);
    }
}
