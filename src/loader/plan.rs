//! The loader without its I/O: [`Plan`]. Pure; the time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{SourceHeard, Wish};
use crate::backoff::Backoff;
use crate::fanout::CoreId;
use crate::model::epoch::Epoch;
use crate::model::product::ProductId;
use crate::store::{Found, READ_IDS_MAX, Read};

/// The time for a barrier to be heard once its read is back, while nothing else is heard.
pub(super) const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Those who wait for a product: their cores, and the numbers of their loadings.
type Askers = SmallVec<[(CoreId, u32); 1]>;

/// The answers for one core.
pub(super) type Answers = Vec<(ProductId, u32, Found)>;

/// A read to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) barrier: u64,
    pub(super) ids: Vec<ProductId>,
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

#[derive(Debug)]
struct Reading {
    barrier: u64,
    wishes: Vec<(ProductId, Askers)>,
    read: Option<Read>,
    is_heard: bool,
    /// The time at which the barrier counts as lost, once the rows are there.
    deadline: Option<Instant>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            askers_by_product: HashMap::new(),
            waiting: VecDeque::new(),
            reading: None,
            barrier: 0,
            epoch: None,
            ids_max: READ_IDS_MAX,
            failures: 0,
            not_before: None,
            failing_since: None,
        }
    }
}

impl Plan {
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
        let count = self.ids_max.min(self.waiting.len());
        let wishes: Vec<_> = self
            .waiting
            .drain(..count)
            .map(|product| (product, self.askers_by_product.remove(&product).unwrap_or_default()))
            .collect();
        let ids: Vec<ProductId> = wishes.iter().map(|(product, _)| *product).collect();
        if ids.is_empty() {
            return None;
        }
        self.barrier += 1;
        let barrier = self.barrier;
        self.reading = Some(Reading { barrier, wishes, read: None, is_heard: false, deadline: None });
        Some(Order { barrier, ids })
    }

    /// Takes the rows of the read.
    pub(super) fn read(&mut self, read: Read, now: Instant) {
        if read.found.is_empty() {
            self.ids_max = (read.left.len() / 2).max(1);
            self.give_up();
        } else if let Some(reading) = &mut self.reading {
            reading.read = Some(read);
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
        match &self.reading {
            Some(reading) => reading.deadline,
            None => self.not_before.filter(|_| self.epoch.is_some() && !self.waiting.is_empty()),
        }
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

    /// Returns the answers of the read, by core, once its rows are there and its barrier was heard. What it left goes to
    /// the next.
    pub(super) fn answers(&mut self) -> Option<HashMap<CoreId, Answers>> {
        let reading = self.reading.take_if(|reading| reading.is_heard && reading.read.is_some())?;
        let Read { found, left } = reading.read?;
        (self.failures, self.failing_since, self.not_before) = (0, None, None);
        self.ids_max = (2 * self.ids_max).min(READ_IDS_MAX);
        let mut wishes: HashMap<ProductId, Askers> = reading.wishes.into_iter().collect();
        let mut answers: HashMap<CoreId, Answers> = HashMap::new();
        for (product, found) in found {
            for (core, number) in wishes.remove(&product).unwrap_or_default() {
                answers.entry(core).or_default().push((product, number, found.clone()));
            }
        }
        let left = left.into_iter().filter_map(|product| wishes.remove_entry(&product)).collect();
        self.put_back(left);
        Some(answers)
    }

    /// Puts the wishes of the read back, and answers true if there was one.
    fn give_up(&mut self) -> bool {
        let Some(reading) = self.reading.take() else { return false };
        self.put_back(reading.wishes);
        true
    }

    /// Puts wishes back, ahead of those that wait.
    fn put_back(&mut self, wishes: Vec<(ProductId, Askers)>) {
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
