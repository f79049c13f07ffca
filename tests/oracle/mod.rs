//! The oracle: writers, readers of every habit and faults at random, and at every quiet point the demand that each
//! reader's map equals the table.
//!
//! A run is drawn from a seed, which a failure prints; `ROWCAST_ORACLE_SEED` gives it again (the machine's timing is not
//! in it). `ROWCAST_ORACLE=long` goes on for half an hour.

mod proxy;
mod random;
mod reader;
mod world;
mod writer;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::random::Random;
use self::reader::{HABITS, Reader};
use self::world::World;
use crate::support::patiently;

/// The products that are written: few, so that they meet.
const PRODUCTS: u64 = 60;
const READERS: usize = 15;
const WRITERS: usize = 3;
/// The most milliseconds of writing between two quiet points.
const ROUND_MS: u64 = 3_000;

fn span() -> Duration {
    let is_long = std::env::var("ROWCAST_ORACLE").is_ok_and(|length| length == "long");
    if is_long { Duration::from_mins(15) } else { Duration::from_secs(40) }
}

fn seed() -> u64 {
    let given = std::env::var("ROWCAST_ORACLE_SEED").ok();
    given.map_or_else(|| RandomState::new().hash_one(Instant::now()), |seed| seed.parse().unwrap())
}

#[tokio::test]
async fn on_the_embedded_store() {
    let seed = seed();
    eprintln!("ROWCAST_ORACLE_SEED={seed}");
    let mut random = Random::new(seed);
    run(World::embedded(&mut random).await, random).await;
}

#[tokio::test]
async fn on_postgres_with_two_servers() {
    let seed = seed();
    eprintln!("ROWCAST_ORACLE_SEED={seed}");
    let mut random = Random::new(seed);
    run(World::postgres(&mut random).await, random).await;
}

async fn run(mut world: World, mut random: Random) {
    let (busy, is_busy) = watch::channel(false);
    let products = (0..PRODUCTS).collect();
    let readers: Vec<Reader> = (0..READERS)
        .map(|number| {
            let habit = HABITS[number % HABITS.len()];
            Reader::start(number, habit, &products, world.websockets(), is_busy.clone(), random.split())
        })
        .collect();
    let until = Instant::now() + span();
    let mut rounds = 0;
    while Instant::now() < until {
        busy.send_replace(true);
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            match world.database_url() {
                Some(url) if number > 0 => {
                    writers.spawn(writer::by_sql(url, PRODUCTS, is_busy.clone(), random.split()))
                }
                _ => writers.spawn(writer::by_rest(world.addresses(), PRODUCTS, is_busy.clone(), random.split())),
            };
        }
        let writing = Duration::from_millis(300 + random.below(ROUND_MS));
        let fault = world.fault(&mut random);
        tokio::join!(tokio::time::sleep(writing), fault);
        busy.send_replace(false);
        while writers.join_next().await.is_some() {}
        world.mend().await;
        rounds += 1;
        until_equal(&world, &readers, rounds).await;
    }
    eprintln!("{rounds} rounds");
    assert!(rounds > 1, "a run has several rounds");
}

/// Waits until every reader has the table, and says which has not.
async fn until_equal(world: &World, readers: &[Reader], round: usize) {
    let table = world.table().await;
    let equal = async {
        for reader in readers {
            while reader.rows().as_ref() != Some(&table) {
                assert_eq!(reader.faults(), [""; 0], "{}, round {round}", reader.name);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    if tokio::time::timeout(Duration::from_mins(1), equal).await.is_err() {
        for reader in readers {
            let rows = reader.rows();
            assert!(rows.as_ref() == Some(&table), "{}, round {round}: {}", reader.name, differences(rows, &table));
        }
    }
    for reader in readers {
        assert_eq!(reader.faults(), [""; 0], "{}, round {round}", reader.name);
    }
    assert_eq!(patiently(world.table()).await, table, "nobody writes at a quiet point");
}

type Rows = BTreeMap<u64, (u64, String)>;

fn differences(rows: Option<Rows>, table: &Rows) -> String {
    let Some(rows) = rows else { return "it is not live".to_owned() };
    let ids = rows.keys().chain(table.keys()).filter(|id| rows.get(id) != table.get(id));
    let shown = ids.take(6).map(|id| format!("{id}: has {:?}, is {:?}", rows.get(id), table.get(id)));
    shown.collect::<Vec<_>>().join("; ")
}
