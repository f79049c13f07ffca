//! The oracle: writers, readers of every habit (some of them `rowcast-client`) and faults at random, and at every quiet point the demand that each
//! reader's map equals the tables: products, and one table of each kind of keys. In a round without faults, what was received and what was skipped are together what
//! was committed.
//!
//! A run is drawn from a seed, which a failure prints; `ROWCAST_ORACLE_SEED` gives it again (the machine's timing is not
//! in it). `ROWCAST_ORACLE=long` makes runs of many seeds for half an hour.

mod client;
mod fault;
mod follower;
mod ledger;
mod line;
mod random;
mod reader;
mod table;
mod witness;
mod world;
mod writer;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::client::ClientReader;
use self::fault::Fault;
use self::follower::Follower;
use self::line::Http;
use self::random::Random;
use self::reader::{Habit, Kind, Reader, Surroundings};
use self::table::{Id, Rows};
use self::world::World;
use crate::support::patiently;

const WRITERS: usize = 3;
/// The most milliseconds of writing between two quiet points.
const ROUND_MS: u64 = 3_000;
const ROUNDS_MIN: u32 = 2;
/// The span of a run, of one of many runs, and of all of those.
const SPAN: Duration = Duration::from_secs(45);
const SPAN_OF_MANY: Duration = Duration::from_mins(2);
const SPAN_OF_ALL: Duration = Duration::from_mins(30);

#[tokio::test]
async fn on_the_embedded_store() {
    let (seeds, span) = seeds();
    for seed in seeds {
        eprintln!("embedded: ROWCAST_ORACLE_SEED={seed}");
        let mut random = Random::new(seed);
        run(World::embedded(&mut random).await, random, span).await;
    }
}

#[tokio::test]
async fn on_postgres_with_two_servers() {
    let (seeds, span) = seeds();
    for seed in seeds {
        eprintln!("postgres: ROWCAST_ORACLE_SEED={seed}");
        let mut random = Random::new(seed);
        run(World::postgres(&mut random).await, random, span).await;
    }
}

/// Returns the seeds of the runs, and the span of each.
fn seeds() -> (impl Iterator<Item = u64>, Duration) {
    let given = std::env::var("ROWCAST_ORACLE_SEED").ok();
    let first = given.map_or_else(|| RandomState::new().hash_one(Instant::now()), |seed| seed.parse().unwrap());
    let is_long = std::env::var("ROWCAST_ORACLE").is_ok_and(|length| length == "long");
    let end = Instant::now() + if is_long { SPAN_OF_ALL } else { Duration::ZERO };
    let seeds = (0..).map(move |run| first.wrapping_add(run)).enumerate();
    let seeds = seeds.take_while(move |(run, _)| *run == 0 || Instant::now() < end).map(|(_, seed)| seed);
    (seeds, if is_long { SPAN_OF_MANY } else { SPAN })
}

async fn run(mut world: World, mut random: Random, span: Duration) {
    let (busy, is_busy) = watch::channel(false);
    let around = Surroundings {
        places: world.places(),
        tables: world.tables.clone(),
        rows: world.tables.all(),
        common: world.tables.common(),
        is_busy,
    };
    let everybody = Everybody::start(&around, &mut random).await;
    let until = Instant::now() + span;
    let (mut before, mut rounds) = (None, 0);
    while rounds < ROUNDS_MIN || Instant::now() < until {
        rounds += 1;
        let fault = Fault::draw(&world, &mut random);
        let round = format!("round {rounds}, {fault:?} after {before:?}");
        eprintln!("{round}");
        everybody.note(&round);
        everybody.begin_round(&patiently(world.rows()).await, fault, before).await;
        let epochs = everybody.epochs();
        let ledger = world.ledger(&around.common).await;
        fault.prepare(&mut world).await;
        if random.one_in(2) {
            world.set_delays(|| Duration::from_millis(random.below(500)));
        }
        busy.send_replace(true);
        let writers = writers(&world, &around, &mut random);
        let writing = Duration::from_millis(300 + random.below(ROUND_MS));
        tokio::join!(sleep(writing), fault.happen(&mut world, &everybody.readers, &mut random));
        busy.send_replace(false);
        let written = writers.join_all().await.into_iter().sum::<Option<u64>>();
        world.set_delays(|| Duration::ZERO);
        world.until_ready().await;
        if fault.is_of_table() {
            world.until_noted().await;
        }
        if fault == Fault::SequenceSetBack {
            everybody.until_other_epochs_than(&epochs, &round).await;
        }
        everybody.until_equal(&world, fault, &round).await;
        if fault.is_of_table() {
            // One that claims a version of what a truncation took is told an epoch of its own.
            let have_it_still = everybody.epochs().iter().zip(&epochs).any(|(epoch, before)| epoch == before);
            assert!(have_it_still, "products are of the same history, {round}");
        }
        let committed = match ledger {
            Some(ledger) => ledger.count().await,
            None => written,
        };
        if let Some(committed) = committed {
            everybody.until_all_is_counted(committed, fault, &round).await;
        }
        if fault == Fault::HistoryLost {
            world.lose_history().await;
            everybody.until_other_epochs_than(&epochs, &round).await;
            everybody.until_equal(&world, fault, &round).await;
        }
        before = Some(fault);
    }
    eprintln!("{rounds} rounds");
}

/// Starts the writers of a round.
fn writers(world: &World, around: &Surroundings, random: &mut Random) -> JoinSet<Option<u64>> {
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        match world.database_url() {
            Some(url) if number > 0 => writers.spawn(writer::by_sql(url, around.clone(), random.split())),
            _ => writers.spawn(writer::by_rest(around.clone(), random.split())),
        };
    }
    writers
}

/// All readers.
struct Everybody {
    readers: Vec<Reader>,
    followers: Vec<Follower>,
    clients: Vec<ClientReader>,
}

impl Everybody {
    /// One of each habit on each protocol; of the two, each goes to another server first.
    async fn start(around: &Surroundings, random: &mut Random) -> Self {
        let first = usize::try_from(random.below(2)).unwrap();
        let mut kinds = |habits: &[Habit]| -> Vec<Kind> {
            let both = |(number, &habit)| {
                [(Http::One, first + number), (Http::Two, first + number + 1)].map(|(http, place)| (habit, http, place))
            };
            let kinds = habits.iter().enumerate().flat_map(both);
            kinds.map(|(habit, http, place)| Kind { habit, http, place, random: random.split() }).collect()
        };
        let (readers, followers) = (kinds(&Habit::ALL), kinds(&Follower::HABITS));
        let clients = client::start_all(around, first, random).await;
        Self {
            clients,
            readers: readers.into_iter().map(|kind| Reader::start(kind, around.clone())).collect(),
            followers: followers.into_iter().map(|kind| Follower::start(kind, around.clone())).collect(),
        }
    }

    fn note(&self, round: &str) {
        self.readers.iter().for_each(|reader| reader.note(round));
        self.followers.iter().for_each(|follower| follower.note(round));
    }

    fn epochs(&self) -> Vec<Option<String>> {
        self.readers.iter().map(Reader::epoch).collect()
    }

    /// Waits until every reader was told that another history began, and says which was not.
    async fn until_other_epochs_than(&self, epochs: &[Option<String>], round: &str) {
        let untold = || {
            let mut readers = self.readers.iter().zip(epochs).filter(|(reader, before)| reader.epoch() == **before);
            readers
                .next()
                .map(|(reader, before)| format!("{}, {round}: it has the epoch {before:?} still", reader.name))
        };
        until_none(untold).await;
    }

    /// At a quiet point: has all followers show the rows and count from here on, and readers know what may happen.
    async fn begin_round(&self, table: &Rows, fault: Fault, before: Option<Fault>) {
        // The other server may have heard of the epoch after it was noted, and after what it shows was right.
        let may_go_back = fault.replaces_history() || before.is_some_and(Fault::is_of_table);
        for reader in &self.readers {
            reader.begin_round(may_go_back);
        }
        for follower in &self.followers {
            let anew = before.is_none_or(|before| !before.spares(follower.server));
            patiently(follower.until_following(table, anew, may_go_back)).await;
        }
    }

    /// Waits until every reader has the table, and says which has not.
    async fn until_equal(&self, world: &World, fault: Fault, round: &str) {
        let table = &patiently(world.rows()).await;
        let difference = || {
            let readers = self.readers.iter().map(|it| (&it.name, it.faults(), it.differs_from(table)));
            let followers = self.followers.iter().map(|it| {
                let may_be_lost = fault.cuts_readers(it.server, world);
                (&it.name, it.faults(), it.differs_from(table, may_be_lost))
            });
            let clients = self.clients.iter().map(|it| (&it.name, it.faults(), it.differs_from(table)));
            readers.chain(followers).chain(clients).find_map(|(name, faults, difference)| {
                assert_eq!(faults, [""; 0], "{name}, {round}");
                difference.map(|difference| format!("{name}, {round}: {difference}"))
            })
        };
        until_none(difference).await;
        assert_eq!(patiently(world.rows()).await, *table, "nobody writes at a quiet point, {round}");
    }

    /// Waits until every follower of a server without a fault was told of all changes, or told that they were skipped.
    async fn until_all_is_counted(&self, committed: u64, fault: Fault, round: &str) {
        let difference = || {
            let followers = self.followers.iter().filter(|it| fault.spares(it.server));
            let mut miscounts = followers.filter_map(|it| Some((&it.name, it.miscounts(committed)?)));
            miscounts.next().map(|(name, miscount)| format!("{name}, {round}: {miscount}"))
        };
        until_none(difference).await;
    }
}

/// Waits until there is no difference, and fails with one that stays.
async fn until_none(difference: impl Fn() -> Option<String>) {
    let equal = async {
        while difference().is_some() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_mins(1), equal).await.is_err() {
        assert_eq!(difference(), None);
    }
}

/// Returns these rows.
fn of(table: &Rows, ids: &BTreeSet<Id>) -> Rows {
    table.iter().filter(|(id, _)| ids.contains(id)).map(|(id, row)| (id.clone(), row.clone())).collect()
}

fn differences(rows: &Rows, table: &Rows) -> String {
    let ids: BTreeSet<&Id> = rows.keys().chain(table.keys()).collect();
    let shown =
        |row: Option<&(u64, String)>| row.map(|(version, row)| (*version, row.chars().take(120).collect::<String>()));
    let differing = ids.into_iter().filter(|id| rows.get(id) != table.get(id));
    let lines =
        differing.take(6).map(|id| format!("{id:?}: has {:?}, is {:?}", shown(rows.get(id)), shown(table.get(id))));
    lines.collect::<Vec<_>>().join("; ")
}
