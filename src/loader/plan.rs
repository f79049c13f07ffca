//! The loader without its I/O: [`Plan`]. Pure; the time is an argument.

use std::collections::{HashMap, VecDeque};
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
/// Otherwise its wishes are read again.
#[derive(Debug)]
pub(super) struct Plan {
    askers_by_topic: HashMap<Topic, Askers>,
    /// The topics that wait, in the order of their first wish.
    waiting: VecDeque<Subject>,
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
    failures: u32,
    /// The time before which nothing is read, after a failure.
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
    /// The tables that are lost alone: nobody waits for their rows.
    lost: Vec<TableId>,
}

#[derive(Debug)]
struct Reading {
    barrier: u64,
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
    /// The listing of a table.
    Listing(TableId),
}

impl For {
    fn wishes(self) -> Wishes {
        match self {
            Self::Wishes(wishes) => wishes,
            Self::Listing(_) => Wishes::new(),
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
            waiting: VecDeque::new(),
            reading: None,
            listings: Listings::new(cores, rows_max),
            is_turn_of_listings: false,
            barrier: 0,
            epoch: None,
            ids_max: READ_IDS_MAX,
            failures: 0,
            not_before: None,
            failing_since: None,
            lost: Vec::new(),
        }
    }

    /// Learns that a core wants to know every row of a table, or does not. All are listed anew. Answers true if it made a
    /// read void.
    pub(super) fn watch(&mut self, core: CoreId, table: TableId, watch: Option<Watch>) -> bool {
        self.listings.watch(core, table, watch);
        self.reading.take_if(|reading| matches!(reading.sought, For::Listing(its) if its == table)).is_some()
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
                self.waiting.push_back(subject);
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
                self.not_before = None;
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
        let is_its = |reading: &mut Reading| match &reading.sought {
            For::Listing(its) => *its == table,
            For::Wishes(wishes) => wishes.first().is_some_and(|(subject, _)| subject.topic().table() == table),
        };
        let is_void = self.reading.take_if(is_its).is_some();
        self.waiting.retain(|subject| subject.topic().table() != table);
        self.askers_by_topic.retain(|topic, _| topic.table() != table);
        // The failures may have been its.
        (self.failures, self.failing_since, self.not_before) = (0, None, None);
        is_void
    }

    /// Returns the epoch of the source, while it tells every change.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Begins the next read, if there is one to be made now.
    pub(super) fn start(&mut self, now: Instant) -> Option<Order> {
        if self.reading.is_some() || self.epoch.is_none() || self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        let (what, sought) = self.next_sought()?;
        self.barrier += 1;
        let barrier = self.barrier;
        self.reading = Some(Reading { barrier, sought, outcome: None, is_heard: false, deadline: None });
        Some(Order { barrier, what })
    }

    /// Returns what is to be read next: the listings and the wishes take turns.
    fn next_sought(&mut self) -> Option<(Sought, For)> {
        self.is_turn_of_listings = !self.is_turn_of_listings;
        if (self.is_turn_of_listings || self.waiting.is_empty())
            && let Some((table, after)) = self.listings.next()
        {
            return Some((Sought::KeysAfter(table, after), For::Listing(table)));
        }
        let wishes: Vec<_> = self
            .take_of_one_table()
            .into_iter()
            .map(|subject| {
                let askers = self.askers_by_topic.remove(&subject.topic()).unwrap_or_default();
                (subject, askers)
            })
            .collect();
        let rows: Vec<Subject> = wishes.iter().map(|(subject, _)| subject.clone()).collect();
        (!rows.is_empty()).then_some((Sought::Rows(rows), For::Wishes(wishes)))
    }

    /// Takes the rows that wait longest, and others of the same table: a store reads one table at a time.
    fn take_of_one_table(&mut self) -> VecDeque<Subject> {
        let Some(table) = self.waiting.front().map(|subject| subject.topic().table()) else { return VecDeque::new() };
        let is_its = |subject: &Subject| subject.topic().table() == table;
        let count = self.waiting.iter().take(self.ids_max).take_while(|subject| is_its(subject)).count();
        if count == self.ids_max || count == self.waiting.len() {
            return self.waiting.drain(..count).collect();
        }
        let (mut taken, mut left) = (VecDeque::new(), VecDeque::new());
        for subject in self.waiting.drain(..) {
            let is_taken = taken.len() < self.ids_max && is_its(&subject);
            (if is_taken { &mut taken } else { &mut left }).push_back(subject);
        }
        self.waiting = left;
        taken
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

    /// Gives the read up, and waits before the next.
    pub(super) fn failed(&mut self, now: Instant) {
        self.give_up();
        self.failures = self.failures.saturating_add(1);
        // There is one loader in a process, and its reads begin with a wish: they need no jitter.
        self.not_before = Some(now + BACKOFF.after(self.failures, 0));
        self.failing_since.get_or_insert(now);
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
        let is_wanted = !self.waiting.is_empty() || self.listings.is_wanted();
        self.not_before.filter(|_| self.epoch.is_some() && is_wanted)
    }

    /// Returns true if the barrier is due and was not heard in its time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.deadline.is_some_and(|deadline| now >= deadline))
    }

    /// Returns the time for which every read has failed. Begins to count anew when it is taken notice of.
    pub(super) fn failing_for(&mut self, now: Instant, at_least: Duration) -> bool {
        let is_long = self.failing_since.is_some_and(|since| now.duration_since(since) >= at_least);
        if is_long {
            self.failing_since = Some(now);
        }
        is_long
    }

    /// Returns the result of the read, once its rows are there and its barrier was heard. What it left goes to the next.
    pub(super) fn told(&mut self) -> Option<Told> {
        let reading = self.reading.take_if(|reading| reading.is_heard && reading.outcome.is_some())?;
        (self.failures, self.failing_since, self.not_before) = (0, None, None);
        match (reading.outcome?, reading.sought) {
            (Outcome::Rows(read), sought) => Some(Told::Answers(self.answers(read, sought.wishes()))),
            (Outcome::Keys(keys), For::Listing(table)) => self.listings.listed(table, keys).map(Told::Listed),
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
                self.waiting.push_front(subject);
            }
            waiting.extend(askers);
        }
    }
}

#[cfg(test)]
mod tests;
