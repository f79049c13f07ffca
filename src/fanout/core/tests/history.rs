//! A history of steps in any order, and what each connection is owed after them, by a set of pairs: [`live`].

use crate::model::topic::testing::{TABLE, number};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::super::Operation;
use super::super::*;
use super::world::World;
use super::{CORES, TOPICS};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Open(u16),
    Command(usize, Operation, Vec<u64>),
    /// A subscription with versions.
    Resume(usize, Vec<u64>),
    /// The end of what is not among these topics, and perhaps that it is told of all.
    Revoke(usize, Vec<u64>, bool),
    Close(usize),
    Cast(u64),
    Delete(u64),
    /// Pulls, with what the connection knows or without.
    Pull(usize, Vec<u64>, bool),
    Lose,
    /// Perhaps in a new epoch.
    Begin(bool),
    LoseTable,
    /// Likewise.
    BeginTable(bool),
    /// Changes of the table that are not told, and the word that there were some.
    Miss(Vec<u64>),
    Read,
    HandOver,
    /// The connections go on with their lists of all topics.
    AskForPages,
    PullListed,
    Process(u16, usize),
    Work(u16),
    Settle,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Operation::{Count, Subscribe, SubscribeAll, Unsubscribe, UnsubscribeAll};
    let topics = proptest::collection::vec(0..TOPICS, 0..8);
    let missed = proptest::collection::vec(0..TOPICS, 1..4);
    let pulled = proptest::collection::vec(0..TOPICS, 1..4);
    let kept = proptest::collection::vec(0..TOPICS, 0..6);
    let operation = prop_oneof![
        4 => Just(Subscribe),
        3 => Just(Unsubscribe),
        1 => Just(Count),
        1 => any::<bool>().prop_map(|lists| SubscribeAll { table: TABLE, lists }),
        1 => Just(UnsubscribeAll(TABLE)),
    ];
    let step = prop_oneof![
        2 => (0..CORES).prop_map(Step::Open),
        7 => (any::<usize>(), operation, topics.clone())
            .prop_map(|(place, operation, ids)| Step::Command(place, operation, ids)),
        3 => (any::<usize>(), topics).prop_map(|(place, ids)| Step::Resume(place, ids)),
        2 => (any::<usize>(), kept, any::<bool>()).prop_map(|(place, ids, all)| Step::Revoke(place, ids, all)),
        1 => any::<usize>().prop_map(Step::Close),
        6 => (0..TOPICS).prop_map(Step::Cast),
        3 => (0..TOPICS).prop_map(Step::Delete),
        4 => (any::<usize>(), pulled, any::<bool>()).prop_map(|(place, ids, resumes)| Step::Pull(place, ids, resumes)),
        1 => Just(Step::Lose),
        2 => (0..4u8).prop_map(|of_four| Step::Begin(of_four == 0)),
        1 => Just(Step::LoseTable),
        2 => any::<bool>().prop_map(Step::BeginTable),
        1 => missed.prop_map(Step::Miss),
        2 => Just(Step::Read),
        2 => Just(Step::HandOver),
        3 => Just(Step::AskForPages),
        2 => Just(Step::PullListed),
        4 => (0..CORES, 1..4usize).prop_map(|(core, messages)| Step::Process(core, messages)),
        4 => (0..CORES).prop_map(Step::Work),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 0..120)
}

/// The expectations of an open connection.
#[derive(Debug)]
struct Known {
    connection: ConnectionId,
    /// Its subscriptions once its commands are carried out.
    subscribed: BTreeSet<u64>,
    /// The answers that the shards are to give to its commands, by number.
    applied: Vec<(u32, usize)>,
    /// The versions that it must get because it was subscribed while they were cast and everything was settled.
    due: Vec<(u64, u64)>,
    /// The topics whose subscription it ever ended: what it shows of them may be from before.
    ended: BTreeSet<u64>,
    /// The topics that it subscribed to with versions, and shows as they are from then on.
    resumed: BTreeSet<u64>,
    /// The topics that were to be revoked, each as often.
    revoked: Vec<u64>,
    pulls: u32,
    /// Whether it is subscribed to every topic, and has asked for all of them.
    everything: Option<bool>,
    /// The epoch and the version from which on it is told of every topic.
    told_from: Option<(u8, u64)>,
}

impl Known {
    fn new(connection: ConnectionId) -> Self {
        let (subscribed, ended, resumed) = Default::default();
        let (applied, due, revoked) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            connection,
            subscribed,
            applied,
            due,
            ended,
            resumed,
            revoked,
            pulls: 0,
            everything: None,
            told_from: None,
        }
    }

    /// Gives a command; whether all of it is done at once.
    fn command(&mut self, world: &mut World, operation: Operation, topics: &[u64]) -> bool {
        let number = u32::try_from(self.applied.len()).unwrap();
        let topics = match operation {
            Operation::SubscribeAll { .. } | Operation::UnsubscribeAll(_) => &[],
            _ => topics,
        };
        let all = match operation {
            Operation::SubscribeAll { table: TABLE, lists } => {
                let was = self.everything.replace(lists || self.everything == Some(true));
                usize::from(was.is_none())
            }
            Operation::UnsubscribeAll(_) => {
                self.ended.extend(0..TOPICS);
                self.resumed.clear();
                self.told_from = None;
                usize::from(self.everything.take().is_some()) + std::mem::take(&mut self.subscribed).len()
            }
            _ => 0,
        };
        let changed = topics.iter().filter(|&&topic| match operation {
            Operation::Subscribe => self.subscribed.insert(topic),
            Operation::Unsubscribe => self.subscribed.remove(&topic),
            Operation::Count => self.subscribed.contains(&topic),
            Operation::SubscribeAll { .. } | Operation::UnsubscribeAll(_) | Operation::Revoke => {
                unreachable!("they name none")
            }
        });
        self.applied.push((number, all + changed.count()));
        // Changes that were cast before and are still under way may come or not.
        self.due.clear();
        if operation == Operation::Unsubscribe && self.everything.is_none() {
            self.ended.extend(topics);
            self.resumed.retain(|topic| !topics.contains(topic));
        }
        let recorder = world.recorder(self.connection);
        recorder.is_everything = self.everything.is_some();
        match operation {
            Operation::Subscribe => recorder.ask(topics),
            // What was revoked beside that to all is told until the end of that is carried out.
            Operation::SubscribeAll { .. } | Operation::UnsubscribeAll(_) => {
                recorder.ask(&(0..TOPICS).collect::<Vec<u64>>());
            }
            _ => {}
        }
        match operation {
            Operation::SubscribeAll { table: TABLE, lists: true } => drop(recorder.lists.insert(number)),
            Operation::UnsubscribeAll(_) => (recorder.pages, recorder.page) = (Vec::new(), None),
            _ => {}
        }
        world.command(self.connection, number, operation, topics);
        world.recorder(self.connection).applied.len() == self.applied.len()
    }

    /// Subscribes with versions: from then on it shows what is there. Returns whether all of it is done at once.
    fn resume(&mut self, world: &mut World, topics: &[u64]) -> bool {
        let number = u32::try_from(self.applied.len()).unwrap();
        let changed = topics.iter().filter(|&&topic| self.subscribed.insert(topic)).count();
        self.applied.push((number, changed));
        self.due.clear();
        self.ended.retain(|topic| !topics.contains(topic));
        self.resumed.extend(topics);
        world.recorder(self.connection).ask(topics);
        world.resume(self.connection, number, topics);
        world.recorder(self.connection).applied.len() == self.applied.len()
    }

    /// Ends what is not among these topics. Returns whether all of it is done at once.
    fn revoke(&mut self, world: &mut World, kept: &[u64], ends_all: bool) -> bool {
        let number = u32::try_from(self.applied.len()).unwrap();
        let ended: BTreeSet<u64> = self.subscribed.iter().copied().filter(|topic| !kept.contains(topic)).collect();
        self.subscribed.retain(|topic| kept.contains(topic));
        let was_told_all = ends_all && self.everything.take().is_some();
        self.applied.push((number, ended.len() + usize::from(was_told_all)));
        self.due.clear();
        self.revoked.extend(&ended);
        if self.everything.is_none() {
            let gone = (0..TOPICS).filter(|topic| !self.subscribed.contains(topic));
            self.ended.extend(gone.filter(|topic| was_told_all || ended.contains(topic)));
            self.resumed.retain(|topic| self.subscribed.contains(topic));
        }
        let recorder = world.recorder(self.connection);
        recorder.is_everything = self.everything.is_some();
        let mut gone = ended;
        if was_told_all {
            recorder.revokes.values_mut().chain([&mut recorder.gone]).for_each(|before| gone.append(before));
        }
        recorder.revokes.insert(number, gone);
        if was_told_all {
            self.told_from = None;
            (recorder.pages, recorder.page) = (Vec::new(), None);
        }
        world.revoke(self.connection, number, kept, ends_all);
        world.recorder(self.connection).applied.len() == self.applied.len()
    }

    /// Checks that it shows every row that was changed since it was told of all, and what was missed is told.
    fn check_told_of_all(&mut self, world: &mut World) {
        if self.everything.is_none() || !world.is_begun || world.is_table_lost {
            return;
        }
        let (epoch, newest, rows) = (world.epoch, world.version, world.rows.clone());
        let recorder = world.recorder(self.connection);
        if let Some((_, from)) = self.told_from.filter(|(from, _)| *from == epoch) {
            for (number, version) in rows.iter().filter(|(_, version)| **version > from) {
                assert_eq!(recorder.shown.get(number), Some(version), "{number}: {recorder:?}");
            }
        } else {
            self.told_from = Some((epoch, newest));
        }
    }

    /// Checks, once everything is settled: each command was answered once and right, the shards have what it asked for,
    /// versions only grew, and what was due has come.
    fn check(&mut self, world: &mut World) {
        let mut applied = world.recorder(self.connection).applied.clone();
        applied.sort_unstable();
        if world.is_begun && !world.is_table_lost || self.everything.is_none() {
            assert_eq!(applied, self.applied);
        }
        assert_eq!(world.subscribed(self.connection), self.subscribed);
        self.revoked.sort_unstable();
        world.recorder(self.connection).revoked.sort_unstable();
        assert_eq!(world.recorder(self.connection).revoked, self.revoked, "each is told once");
        let (is_begun, is_healed, rows) = (world.is_begun, world.epoch > 0, world.rows.clone());
        let is_table_lost = world.is_table_lost;
        let recorder = world.recorder(self.connection);
        assert!(recorder.waiting.is_empty() && !recorder.is_told, "what was pushed was flushed");
        assert_eq!(recorder.is_live, is_begun);
        assert!(recorder.is_table_lost || !is_table_lost, "it was told that the table is lost");
        if is_begun && !is_table_lost {
            assert!(!recorder.is_table_lost, "it was told that the table is back");
            assert!(recorder.pulls.is_empty(), "no answer: {recorder:?}");
            for (number, &version) in &recorder.shown {
                let is_told = self.subscribed.contains(number) || self.everything.is_some();
                if is_told && !self.ended.contains(number) {
                    assert_eq!(version, rows.get(number).copied().unwrap_or_default(), "{number}: {recorder:?}");
                }
            }
            let is_told = |number: &u64| self.subscribed.contains(number) || self.everything.is_some();
            let mut untold = recorder.old.iter().filter(|number| is_told(number) && !self.ended.contains(number));
            assert_eq!(untold.next(), None, "nothing was told of it in this epoch: {recorder:?}");
            for number in &self.resumed {
                let shown = recorder.shown.get(number).copied().unwrap_or_default();
                assert_eq!(shown, rows.get(number).copied().unwrap_or_default(), "{number}: {recorder:?}");
            }
            if self.everything == Some(true) {
                for (number, version) in &rows {
                    assert_eq!(recorder.shown.get(number), Some(version), "{number}: {recorder:?}");
                }
                // What it showed before it came back, and is not named, is gone.
                let is_gone = |(number, version): (&u64, &u64)| {
                    rows.contains_key(number) || *version == 0 || self.ended.contains(number)
                };
                assert!(recorder.shown.iter().all(is_gone), "{rows:?}: {recorder:?}");
            }
        }
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for &(number, version) in &recorder.flushed {
            let before = newest.insert(number, version);
            // Who comes back to a topic may be healed of what it was told before.
            assert!(before.is_none_or(|before| before < version || is_healed && before == version));
        }
        for due in self.due.drain(..) {
            assert!(recorder.flushed.contains(&due), "{due:?} is not in {:?}", recorder.flushed);
        }
    }
}

fn check_all_shards(world: &World) {
    let kept: usize = world.cores.iter().flat_map(|core| &core.shards).map(Shard::check).sum();
    assert_eq!(world.hub.rows_kept().load(Ordering::Relaxed), kept);
    if world.is_begun && !world.is_table_lost {
        let shards = || world.cores.iter().flat_map(|core| &core.shards);
        let is_needed = |topic: &Topic| {
            world.rows.contains_key(&number(*topic)) || shards().any(|shard| !shard.subscribers(*topic).is_empty())
        };
        let kept = shards().flat_map(|shard| shard.index().kept());
        assert_eq!(kept.into_iter().find(|topic| !is_needed(topic)), None, "it is kept, and gone");
    }
}

fn check_all(known: &mut [Known], world: &mut World) {
    for known in known {
        known.check(world);
        known.check_told_of_all(world);
    }
    check_all_shards(world);
}

/// Changes of before may come or not.
fn nothing_is_due(known: &mut [Known]) {
    for known in known {
        known.due.clear();
    }
}

fn one_of(known: &mut [Known], number: usize) -> &mut Known {
    let place = number % known.len();
    &mut known[place]
}

/// Lives through these steps.
pub(super) fn live(steps: &[Step], shards: usize, topics_in_a_slice: usize) {
    let mut world = World::with_slices(shards, commands::JOB_COST + topics_in_a_slice);
    world.unreadable_every = 5;
    let mut known: Vec<Known> = Vec::new();
    let mut settled = true;
    for step in steps {
        match step.clone() {
            Step::Open(core) => {
                let connection = world.open(core);
                known.push(Known::new(connection));
            }
            Step::Command(..) | Step::Resume(..) | Step::Revoke(..) | Step::Close(_) | Step::Pull(..)
                if known.is_empty() => {}
            Step::Pull(number, topics, resumes) => {
                let Known { connection, pulls, .. } = one_of(&mut known, number);
                world.pull(*connection, *pulls, &topics, resumes);
                *pulls += u32::try_from(topics.len()).unwrap();
            }
            Step::Lose => {
                world.lose();
                settled = false;
            }
            Step::Begin(is_new_epoch) => {
                world.begin(is_new_epoch);
                // Changes of the epoch before mean nothing.
                nothing_is_due(&mut known);
                settled = false;
            }
            Step::LoseTable => {
                world.lose_table();
                settled = false;
            }
            Step::BeginTable(is_new_epoch) => {
                world.begin_table(is_new_epoch);
                nothing_is_due(&mut known);
                settled = false;
            }
            Step::Miss(_) if !world.is_begun => {}
            Step::Miss(topics) => {
                world.miss(&topics);
                nothing_is_due(&mut known);
                settled = false;
            }
            Step::Read => drop(world.read()),
            Step::HandOver => world.hand_over(),
            Step::AskForPages => drop(world.ask_for_pages()),
            Step::PullListed => drop(world.pull_listed()),
            Step::Command(number, operation, topics) => {
                settled &= one_of(&mut known, number).command(&mut world, operation, &topics);
            }
            Step::Resume(number, topics) => settled &= one_of(&mut known, number).resume(&mut world, &topics),
            Step::Revoke(number, kept, ends_all) => {
                settled &= one_of(&mut known, number).revoke(&mut world, &kept, ends_all);
            }
            Step::Close(number) => {
                let Known { connection, .. } = known.swap_remove(number % known.len());
                assert!(world.core(connection.core.0).remove(connection.key).is_some());
                assert!(world.core(connection.core.0).remove(connection.key).is_none());
                settled = false;
            }
            Step::Delete(number) => {
                world.delete(number);
                for known in &mut known {
                    known.due.retain(|(topic, _)| *topic != number);
                }
            }
            Step::Cast(number) if !world.are_changes_told() => world.commit(number),
            Step::Cast(number) => {
                let version = world.cast(number);
                let is_told = |known: &&mut Known| known.subscribed.contains(&number) || known.everything.is_some();
                for known in known.iter_mut().filter(|known| settled && is_told(known)) {
                    known.due.push((number, version));
                }
            }
            Step::Process(core, messages) => {
                world.process(core, messages);
            }
            Step::Work(core) => {
                world.work(core);
            }
            Step::Settle => {
                world.settle();
                settled = true;
                check_all(&mut known, &mut world);
            }
        }
    }
    world.settle();
    check_all(&mut known, &mut world);
    world.begin(false);
    if world.is_table_lost {
        world.begin_table(false);
    }
    world.settle();
    assert!(world.hub.is_live() && world.cores.iter().all(|core| core.tables.are_alike()));
    check_all(&mut known, &mut world);
    for Known { connection, .. } in known {
        world.core(connection.core.0).remove(connection.key);
    }
    world.settle();
    world.assert_empty();
}
