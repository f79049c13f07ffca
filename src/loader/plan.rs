//! The loader without its I/O: [`Plan`]. Pure; the time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{SourceHeard, Wish};
use crate::backoff::Backoff;
use crate::fanout::CoreId;
use crate::fanout::Watch;
use crate::model::epoch::Epoch;
use crate::model::product::ProductId;
use crate::store::{Found, Keys, READ_IDS_MAX, Read};

/// The time for a barrier to be heard once its read is back, while nothing else is heard.
pub(super) const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pages of rows that a core may have been handed and not taken yet.
const PAGES_MAX: u32 = 2;
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Those who wait for a product: their cores, and the numbers of their loadings.
type Askers = SmallVec<[(CoreId, u32); 1]>;

/// Products that are read, and who waits for each.
type Wishes = Vec<(ProductId, Askers)>;

/// The answers for one core.
pub(super) type Answers = Vec<(ProductId, u32, Found)>;

/// A read to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) barrier: u64,
    pub(super) what: Sought,
}

/// The rows of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// These products.
    Products(Vec<ProductId>),
    /// The ids and the versions of those that follow this one, or of the first.
    KeysAfter(Option<ProductId>),
}

/// The result of a read that counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The answers, by core.
    Answers(HashMap<CoreId, Answers>),
    /// The next ids and versions, for the watches of these cores.
    Keys { keys: Vec<(ProductId, u64)>, end: Option<ListEnd>, watches: Vec<(CoreId, u32)> },
}

/// The end of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListEnd {
    /// All rows were listed.
    Whole,
    /// There are more than may be listed.
    TooMany,
}

/// The wishes that wait, and the one read that is under way.
///
/// A read counts if its rows are there and its barrier was heard while the source went on telling all in one epoch.
/// Otherwise its wishes are read again.
#[derive(Debug)]
pub(super) struct Plan {
    askers_by_product: HashMap<ProductId, Askers>,
    /// The products that wait, in the order of their first wish.
    waiting: VecDeque<ProductId>,
    reading: Option<Reading>,
    /// The cores whose shards want to know every product, each with the pages that it was handed and has not taken. All of
    /// them do, or nothing is listed.
    watches: HashMap<CoreId, (Watch, u32)>,
    cores: usize,
    /// The most rows that are listed.
    rows_max: usize,
    /// The progress of the listing, until it has ended.
    listing: Option<Progress>,
    /// True if it is the turn of the listing to be read for.
    is_turn_of_listing: bool,
    /// The number of the last barrier.
    barrier: u64,
    /// The epoch of the source while it tells every change.
    epoch: Option<Epoch>,
    /// The most products of the next read: fewer after one whose rows spoilt each other.
    ids_max: usize,
    failures: u32,
    /// The time before which nothing is read, after a failure.
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
}

/// The part of the rows that is listed.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    after: Option<ProductId>,
    rows: usize,
}

#[derive(Debug)]
struct Reading {
    barrier: u64,
    /// Those that wait for its rows; `None` if it is for the listing.
    wishes: Option<Wishes>,
    outcome: Option<Outcome>,
    is_heard: bool,
    /// The time at which the barrier counts as lost, once the rows are there.
    deadline: Option<Instant>,
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
            askers_by_product: HashMap::new(),
            waiting: VecDeque::new(),
            reading: None,
            watches: HashMap::new(),
            cores,
            rows_max,
            listing: None,
            is_turn_of_listing: false,
            barrier: 0,
            epoch: None,
            ids_max: READ_IDS_MAX,
            failures: 0,
            not_before: None,
            failing_since: None,
        }
    }

    /// Learns that a core wants to know every product, or does not. All are listed anew. Answers true if it made a read
    /// void.
    pub(super) fn watch(&mut self, core: CoreId, watch: Option<Watch>) -> bool {
        match watch {
            Some(watch) => self.watches.insert(core, (watch, 0)),
            None => self.watches.remove(&core),
        };
        self.list_anew();
        self.reading.take_if(|reading| reading.wishes.is_none()).is_some()
    }

    /// Learns that a page is on its way to a core, for its watch with this number.
    pub(super) fn handed(&mut self, core: CoreId, number: u32) {
        if let Some(pages) = self.pages_of(core, number) {
            *pages += 1;
        }
    }

    /// Learns that a core has taken a page.
    pub(super) fn taken(&mut self, core: CoreId, number: u32) {
        if let Some(pages) = self.pages_of(core, number) {
            *pages = pages.saturating_sub(1);
        }
    }

    /// Returns the pages that a core was handed for a watch and has not taken, unless it watches anew.
    fn pages_of(&mut self, core: CoreId, number: u32) -> Option<&mut u32> {
        self.watches.get_mut(&core).filter(|(watch, _)| watch.number == number).map(|(_, pages)| pages)
    }

    /// Returns the progress of the listing, if every core has room for more of it.
    fn listing(&self) -> Option<Progress> {
        self.listing.filter(|_| self.watches.values().all(|&(_, pages)| pages < PAGES_MAX))
    }

    fn list_anew(&mut self) {
        self.listing = (self.watches.len() == self.cores).then(Progress::default);
    }

    /// Takes a wish. Each of its numbers is answered once.
    pub(super) fn wish(&mut self, wish: Wish) {
        for (product, number) in wish.products {
            let askers = self.askers_by_product.entry(product).or_default();
            if askers.is_empty() {
                self.waiting.push_back(product);
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
            SourceHeard::Gap => self.epoch = None,
            SourceHeard::Began(epoch) => {
                self.epoch = Some(epoch);
                // The store may well be back with the source.
                self.not_before = None;
            }
        }
        self.list_anew();
        self.give_up()
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
        let (what, wishes) = self.next_sought()?;
        self.barrier += 1;
        let barrier = self.barrier;
        self.reading = Some(Reading { barrier, wishes, outcome: None, is_heard: false, deadline: None });
        Some(Order { barrier, what })
    }

    /// Returns what is to be read next: the listing and the wishes take turns.
    fn next_sought(&mut self) -> Option<(Sought, Option<Wishes>)> {
        self.is_turn_of_listing = !self.is_turn_of_listing;
        if let Some(listing) = self.listing().filter(|_| self.is_turn_of_listing || self.waiting.is_empty()) {
            return Some((Sought::KeysAfter(listing.after), None));
        }
        let count = self.ids_max.min(self.waiting.len());
        let wishes: Vec<_> = self
            .waiting
            .drain(..count)
            .map(|product| (product, self.askers_by_product.remove(&product).unwrap_or_default()))
            .collect();
        let ids: Vec<ProductId> = wishes.iter().map(|(product, _)| *product).collect();
        (!ids.is_empty()).then_some((Sought::Products(ids), Some(wishes)))
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
        let is_wanted = !self.waiting.is_empty() || self.listing().is_some();
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
        match reading.outcome? {
            Outcome::Rows(read) => Some(Told::Answers(self.answers(read, reading.wishes.unwrap_or_default()))),
            Outcome::Keys(keys) => self.listed(keys),
        }
    }

    fn listed(&mut self, Keys { keys, is_last }: Keys) -> Option<Told> {
        let listing = self.listing.as_mut()?;
        listing.rows += keys.len();
        listing.after = keys.last().map(|&(product, _)| product).or(listing.after);
        // Who was promised every product keeps them, however many they become.
        let is_too_many = listing.rows > self.rows_max && self.watches.values().all(|(watch, _)| watch.may_refuse);
        let end = if is_too_many { Some(ListEnd::TooMany) } else { is_last.then_some(ListEnd::Whole) };
        if end.is_some() {
            self.listing = None;
        }
        let watches = self.watches.iter().map(|(&core, (watch, _))| (core, watch.number)).collect();
        Some(Told::Keys { keys, end, watches })
    }

    /// Returns the answers, by core.
    fn answers(&mut self, read: Read, wishes: Wishes) -> HashMap<CoreId, Answers> {
        let Read { found, left } = read;
        self.ids_max = (2 * self.ids_max).min(READ_IDS_MAX);
        let mut wishes: HashMap<ProductId, Askers> = wishes.into_iter().collect();
        let mut answers: HashMap<CoreId, Answers> = HashMap::new();
        for (product, found) in found {
            for (core, number) in wishes.remove(&product).unwrap_or_default() {
                answers.entry(core).or_default().push((product, number, found.clone()));
            }
        }
        let left = left.into_iter().filter_map(|product| wishes.remove_entry(&product)).collect();
        self.put_back(left);
        answers
    }

    /// Puts the wishes of the read back, and answers true if there was one.
    fn give_up(&mut self) -> bool {
        let Some(reading) = self.reading.take() else { return false };
        self.put_back(reading.wishes.unwrap_or_default());
        true
    }

    /// Puts wishes back, ahead of those that wait.
    fn put_back(&mut self, wishes: Wishes) {
        for (product, askers) in wishes.into_iter().rev() {
            let waiting = self.askers_by_product.entry(product).or_default();
            if waiting.is_empty() {
                self.waiting.push_front(product);
            }
            waiting.extend(askers);
        }
    }
}

#[cfg(test)]
mod tests;
