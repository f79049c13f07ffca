//! The loader without its I/O: [`Plan`]. Pure; the time is an argument.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::listings::{Listed, Listings};
use super::{SourceHeard, Wish};
use crate::backoff::Backoff;
use crate::fanout::CoreId;
use crate::fanout::Watch;
use crate::model::epoch::Epoch;
use crate::model::key::Key;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Topic};
use crate::store::{Found, Keys, READ_IDS_MAX, Read};

/// The time for a barrier to be heard once its read is back, while nothing else is heard.
pub(super) const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Those who wait for a row: their cores, and the numbers of their loadings.
type Askers = SmallVec<[(CoreId, u32); 1]>;

/// Rows that are read, and who waits for each.
type Wishes = Vec<(Subject, Askers)>;

/// The answers for one core.
pub(super) type Answers = Vec<(Topic, u32, Found)>;

/// A read to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) barrier: u64,
    pub(super) what: Sought,
}

/// The rows of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// These.
    Rows(Vec<Subject>),
    /// The keys and the versions of those of a table that follow this one, or of the first.
    KeysAfter(TableId, Option<Key>),
}

/// The result of a read that counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The answers, by core.
    Answers(HashMap<CoreId, Answers>),
    /// The next of a listing.
    Listed(Listed),
}

/// The wishes that wait, and the one read that is under way.
///
/// A read counts if its rows are there and its barrier was heard while the source went on telling all in one epoch.
/// Otherwise its wishes are read again. A table whose reads fail rests meanwhile, and holds up no other.
#[derive(Debug)]
pub(super) struct Plan {
    askers_by_topic: HashMap<Topic, Askers>,
    /// The topics that wait, by their tables, which take turns, and in the order of their first wish. No queue is empty.
    waiting: BTreeMap<TableId, VecDeque<Subject>>,
    /// The table whose wishes were read for last.
    last: TableId,
    reading: Option<Reading>,
    listings: Listings,
    /// True if it is the turn of a listing to be read for.
    is_turn_of_listings: bool,
    /// The number of the last barrier.
    barrier: u64,
    /// The epoch of the source while it tells every change.
    epoch: Option<Epoch>,
    /// The most topics of the next read: fewer after one whose rows spoilt each other.
    ids_max: usize,
    /// The tables whose last read failed.
    troubles: HashMap<TableId, Trouble>,
    /// The tables that are lost alone: nobody waits for their rows.
    lost: Vec<TableId>,
}

/// What is known of a table whose reads fail.
#[derive(Debug)]
struct Trouble {
    failures: u32,
    /// The time of the first failure, or of the last one that was taken notice of.
    since: Instant,
    /// The time before which it is not read.
    not_before: Instant,
}

#[derive(Debug)]
struct Reading {
    barrier: u64,
    table: TableId,
    began: Instant,
    sought: For,
    outcome: Option<Outcome>,
    is_heard: bool,
    /// The time at which the barrier counts as lost, once the rows are there.
    deadline: Option<Instant>,
}

/// Those for whom a read is made.
#[derive(Debug)]
enum For {
    Wishes(Wishes),
    /// The listing of the table.
    Listing,
}

impl For {
    fn wishes(self) -> Wishes {
        match self {
            Self::Wishes(wishes) => wishes,
            Self::Listing => Wishes::new(),
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Rows(Read),
    Keys(Keys),
}

impl Plan {
    /// Returns a plan for so many cores, of which at most `rows_max` rows are listed.
    pub(super) fn new(cores: usize, rows_max: usize) -> Self {
        Self {
            askers_by_topic: HashMap::new(),
            waiting: BTreeMap::new(),
            last: TableId::PRODUCTS,
            reading: None,
            listings: Listings::new(cores, rows_max),
            is_turn_of_listings: false,
            barrier: 0,
            epoch: None,
            ids_max: READ_IDS_MAX,
            troubles: HashMap::new(),
            lost: Vec::new(),
        }
    }

    /// Learns that a core wants to know every row of a table, or does not. All are listed anew. Answers true if it made a
    /// read void.
    pub(super) fn watch(&mut self, core: CoreId, table: TableId, watch: Option<Watch>) -> bool {
        self.listings.watch(core, table, watch);
        self.reading.take_if(|reading| reading.table == table && matches!(reading.sought, For::Listing)).is_some()
    }

    /// Returns the listings, to tell them of the pages.
    pub(super) const fn listings(&mut self) -> &mut Listings {
        &mut self.listings
    }

    /// Takes a wish. Each of its numbers is answered once.
    pub(super) fn wish(&mut self, wish: Wish) {
        for (subject, number) in wish.topics {
            if self.lost.contains(&subject.topic().table()) {
                continue;
            }
            let askers = self.askers_by_topic.entry(subject.topic()).or_default();
            if askers.is_empty() {
                self.waiting.entry(subject.topic().table()).or_default().push_back(subject);
            }
            askers.push((wish.core, number));
        }
    }

    /// Takes the source's word on itself. Answers true if it made a read void.
    pub(super) fn heard(&mut self, heard: SourceHeard) -> bool {
        match heard {
            SourceHeard::Barrier(number) => {
                if let Some(reading) = self.reading.as_mut().filter(|reading| reading.barrier == number) {
                    reading.is_heard = true;
                }
                return false;
            }
            SourceHeard::Table(table, is_there) => return self.hear_of_table(table, is_there),
            SourceHeard::Gap => self.epoch = None,
            SourceHeard::Began(epoch) => {
                self.epoch = Some(epoch);
                // The store may well be back with the source.
                self.troubles.values_mut().for_each(|trouble| trouble.not_before = trouble.since);
            }
        }
        self.listings.begin();
        self.give_up()
    }

    /// Learns whether rows of a table are to be read. The shards wish anew for those of one that is back, so that the wishes of
    /// before are forgotten. Answers true if it made a read void.
    fn hear_of_table(&mut self, table: TableId, is_there: bool) -> bool {
        self.lost.retain(|lost| *lost != table);
        if is_there {
            return false;
        }
        self.lost.push(table);
        let is_void = self.reading.take_if(|reading| reading.table == table).is_some();
        self.waiting.remove(&table);
        self.askers_by_topic.retain(|topic, _| topic.table() != table);
        self.troubles.remove(&table);
        is_void
    }

    /// Returns the epoch of the source, while it tells every change.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Begins the next read, if there is one to be made now.
    pub(super) fn start(&mut self, now: Instant) -> Option<Order> {
        if self.reading.is_some() || self.epoch.is_none() {
            return None;
        }
        let (table, what, sought) = self.next_sought(now)?;
        self.barrier += 1;
        let barrier = self.barrier;
        let (began, is_heard) = (now, false);
        self.reading = Some(Reading { barrier, table, began, sought, outcome: None, is_heard, deadline: None });
        Some(Order { barrier, what })
    }

    /// Returns what is to be read next: the listings and the wishes take turns, and so do the tables of each.
    fn next_sought(&mut self, now: Instant) -> Option<(TableId, Sought, For)> {
        let troubles = &self.troubles;
        let is_readable = |table: TableId| troubles.get(&table).is_none_or(|trouble| now >= trouble.not_before);
        let behind = self.waiting.range((Excluded(self.last), Unbounded)).chain(&self.waiting);
        let wished = behind.map(|(&table, _)| table).find(|&table| is_readable(table));
        self.is_turn_of_listings = !self.is_turn_of_listings;
        if (self.is_turn_of_listings || wished.is_none())
            && let Some((table, after)) = self.listings.next(is_readable)
        {
            return Some((table, Sought::KeysAfter(table, after), For::Listing));
        }
        let table = wished?;
        self.last = table;
        let taken = self.take_of(table).into_iter().map(|subject| {
            let askers = self.askers_by_topic.remove(&subject.topic()).unwrap_or_default();
            (subject, askers)
        });
        let taken: Wishes = taken.collect();
        let rows = taken.iter().map(|(subject, _)| subject.clone()).collect();
        Some((table, Sought::Rows(rows), For::Wishes(taken)))
    }

    /// Takes the rows of a table that wait longest.
    fn take_of(&mut self, table: TableId) -> VecDeque<Subject> {
        let Entry::Occupied(mut waiting) = self.waiting.entry(table) else { return VecDeque::new() };
        if waiting.get().len() <= self.ids_max {
            return waiting.remove();
        }
        waiting.get_mut().drain(..self.ids_max).collect()
    }

    /// Takes the rows of the read.
    pub(super) fn read(&mut self, read: Read, now: Instant) {
        if read.found.is_empty() {
            self.ids_max = (read.left.len() / 2).max(1);
            self.give_up();
        } else {
            self.came(Outcome::Rows(read), now);
        }
    }

    /// Takes the ids and versions of the read.
    pub(super) fn read_keys(&mut self, keys: Keys, now: Instant) {
        self.came(Outcome::Keys(keys), now);
    }

    fn came(&mut self, outcome: Outcome, now: Instant) {
        if let Some(reading) = &mut self.reading {
            reading.outcome = Some(outcome);
            reading.deadline = Some(now + BARRIER_TIMEOUT);
        }
    }

    /// Gives the read up. Its table rests before the next, and no shorter than the read took: others have half of the time.
    pub(super) fn failed(&mut self, now: Instant) {
        let Some((table, took)) = self.reading.as_ref().map(|reading| (reading.table, now - reading.began)) else {
            return;
        };
        self.give_up();
        let trouble = self.troubles.entry(table).or_insert(Trouble { failures: 0, since: now, not_before: now });
        trouble.failures = trouble.failures.saturating_add(1);
        // There is one loader in a process, and its reads begin with a wish: they need no jitter.
        trouble.not_before = now + BACKOFF.after(trouble.failures, 0).max(took);
    }

    /// Grants the barrier more time: the source is behind, and not silent.
    pub(super) fn is_late(&mut self, now: Instant) {
        if let Some(reading) = &mut self.reading {
            reading.deadline = Some(now + BARRIER_TIMEOUT);
        }
    }

    /// Returns the time at which something is due, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if let Some(reading) = &self.reading {
            return reading.deadline;
        }
        self.epoch?;
        let wanted = self.waiting.keys().copied().chain(self.listings.wanted());
        wanted.filter_map(|table| self.troubles.get(&table)).map(|trouble| trouble.not_before).min()
    }

    /// Returns true if the barrier is due and was not heard in its time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.deadline.is_some_and(|deadline| now >= deadline))
    }

    /// Returns a table of which every read has failed for so long. It counts anew then.
    pub(super) fn failing_for(&mut self, now: Instant, at_least: Duration) -> Option<TableId> {
        let is_long = |trouble: &Trouble| now.duration_since(trouble.since) >= at_least;
        let (&table, trouble) = self.troubles.iter_mut().find(|(_, trouble)| is_long(trouble))?;
        trouble.since = now;
        Some(table)
    }

    /// Returns the result of the read, once its rows are there and its barrier was heard. What it left goes to the next.
    pub(super) fn told(&mut self) -> Option<Told> {
        let reading = self.reading.take_if(|reading| reading.is_heard && reading.outcome.is_some())?;
        self.troubles.remove(&reading.table);
        match (reading.outcome?, reading.sought) {
            (Outcome::Rows(read), sought) => Some(Told::Answers(self.answers(read, sought.wishes()))),
            (Outcome::Keys(keys), For::Listing) => self.listings.listed(reading.table, keys).map(Told::Listed),
            (Outcome::Keys(_), For::Wishes(_)) => unreachable!("rows were read for them"),
        }
    }

    /// Returns the answers, by core.
    fn answers(&mut self, read: Read, wishes: Wishes) -> HashMap<CoreId, Answers> {
        let Read { found, left } = read;
        self.ids_max = (2 * self.ids_max).min(READ_IDS_MAX);
        let mut wishes: HashMap<Topic, (Subject, Askers)> =
            wishes.into_iter().map(|(subject, askers)| (subject.topic(), (subject, askers))).collect();
        let mut answers: HashMap<CoreId, Answers> = HashMap::new();
        for (topic, found) in found {
            for (core, number) in wishes.remove(&topic).map(|(_, askers)| askers).unwrap_or_default() {
                answers.entry(core).or_default().push((topic, number, found.clone()));
            }
        }
        let left = left.into_iter().filter_map(|topic| wishes.remove(&topic)).collect();
        self.put_back(left);
        answers
    }

    /// Puts the wishes of the read back, and answers true if there was one.
    fn give_up(&mut self) -> bool {
        let Some(reading) = self.reading.take() else { return false };
        self.put_back(reading.sought.wishes());
        true
    }

    /// Puts wishes back, ahead of those that wait.
    fn put_back(&mut self, wishes: Wishes) {
        for (subject, askers) in wishes.into_iter().rev() {
            let waiting = self.askers_by_topic.entry(subject.topic()).or_default();
            if waiting.is_empty() {
                self.waiting.entry(subject.topic().table()).or_default().push_front(subject);
            }
            waiting.extend(askers);
        }
    }
}

#[cfg(test)]
mod tests;
