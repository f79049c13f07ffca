//! Proof that every change arrived, once and in order: the answers to the publishers ([`Published`]) against the
//! changes that each socket received ([`Accounts`]). Pure.
//!
//! A subscription keeps four numbers, whatever it receives: first, last, count and sum of the versions. Growing
//! versions of which count and sum agree with those that were published are the same versions.

use crate::faults::Faults;
use crate::workload::Workload;

/// The changes that one subscription received.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    first: u64,
    last: u64,
    count: u64,
    sum: u64,
}

/// The versions that were published: by product, and by publisher where several publish one product without an order
/// among them (a lane each).
pub(crate) struct Published {
    lanes: u32,
    versions: Vec<Vec<u64>>,
    /// The newest version of each product.
    pub(crate) newest: Vec<u64>,
    /// The number of changes.
    pub(crate) changes: u64,
    /// The number of deliveries that they make.
    pub(crate) deliveries: u64,
}

impl Published {
    pub(crate) fn new(products: u32, lanes: u32) -> Self {
        let versions = vec![Vec::new(); (products as usize + 1) * lanes as usize];
        Self { lanes, versions, newest: vec![0; products as usize + 1], changes: 0, deliveries: 0 }
    }

    /// Counts a change that was answered for.
    pub(crate) fn add(&mut self, product: u32, version: u64, subscribers: u32) {
        let lane = (version % u64::from(self.lanes)) as usize;
        self.versions[product as usize * self.lanes as usize + lane].push(version);
        self.renew(product, version);
        self.changes += 1;
        self.deliveries += u64::from(subscribers);
    }

    /// Learns a version of a product, also of a change that is not counted.
    pub(crate) fn renew(&mut self, product: u32, version: u64) {
        let newest = &mut self.newest[product as usize];
        *newest = version.max(*newest);
    }

    /// Orders what was answered; publishers hear their answers in any order.
    fn sort(&mut self) {
        for versions in &mut self.versions {
            versions.sort_unstable();
        }
    }

    fn versions(&self, product: u32, lane: usize) -> &[u64] {
        &self.versions[product as usize * self.lanes as usize + lane]
    }
}

/// The changes that all sockets received.
pub(crate) struct Accounts {
    lanes: usize,
    tallies: Vec<Tally>,
    skipped_by_socket: Vec<u64>,
    /// Changes received.
    pub(crate) received: u64,
    /// Changes that notices named.
    pub(crate) skipped: u64,
    pub(crate) faults: Faults,
    /// Sockets that were opened again, which do not know all changes.
    reopened: Vec<bool>,
    /// The changes that they received before.
    closed: Vec<Life>,
}

/// The changes that a socket received from its opening to its end.
struct Life {
    socket: usize,
    tallies: Vec<Tally>,
    skipped: u64,
    /// It was open during the whole run.
    is_whole: bool,
}

impl Accounts {
    pub(crate) fn new(workload: &Workload, lanes: u32) -> Self {
        Self {
            lanes: lanes as usize,
            tallies: vec![Tally::default(); workload.subscriptions() * lanes as usize],
            skipped_by_socket: vec![0; workload.connections],
            received: 0,
            skipped: 0,
            faults: Faults::default(),
            reopened: vec![false; workload.connections],
            closed: Vec::new(),
        }
    }

    /// Counts a change that a socket received. `place` is that of its subscription.
    #[inline]
    pub(crate) fn receive(&mut self, socket: usize, place: Option<usize>, product: u32, version: u64) {
        self.received += 1;
        let Some(place) = place else {
            return self.faults.add(socket, product, || format!("version {version}, without a subscription"));
        };
        let lane = if self.lanes == 1 { 0 } else { usize::try_from(version).unwrap_or(0) % self.lanes };
        let tally = &mut self.tallies[place * self.lanes + lane];
        let last = tally.last;
        if tally.count == 0 {
            tally.first = version;
        }
        tally.last = version;
        tally.count += 1;
        tally.sum = tally.sum.wrapping_add(version);
        if version <= last {
            self.faults.add(socket, product, || format!("version {version} after {last}"));
        }
    }

    /// Counts `count` changes that a socket was told that it does not get.
    pub(crate) fn skip(&mut self, socket: usize, count: u64) {
        self.skipped += count;
        self.skipped_by_socket[socket] += count;
    }

    /// Begins a socket anew that was closed and is opened again; the changes that it had are checked with the rest,
    /// since the publishers may not have heard of all of them yet.
    pub(crate) fn reopen(&mut self, socket: usize, workload: &Workload) {
        let per_socket = workload.ids_per_connection * self.lanes;
        let tallies = &mut self.tallies[socket * per_socket..(socket + 1) * per_socket];
        let skipped = std::mem::take(&mut self.skipped_by_socket[socket]);
        self.closed.push(Life { socket, tallies: tallies.to_vec(), skipped, is_whole: false });
        tallies.fill(Tally::default());
        self.reopened[socket] = true;
    }

    /// Checks every socket.
    pub(crate) fn audit(&mut self, workload: &Workload, published: &mut Published) {
        published.sort();
        for life in std::mem::take(&mut self.closed) {
            self.audit_life(&life, workload, published);
        }
        let per_socket = workload.ids_per_connection * self.lanes;
        for socket in 0..workload.connections {
            let tallies = self.tallies[socket * per_socket..(socket + 1) * per_socket].to_vec();
            let skipped = self.skipped_by_socket[socket];
            self.audit_life(&Life { socket, tallies, skipped, is_whole: !self.reopened[socket] }, workload, published);
        }
    }

    fn audit_life(&mut self, life: &Life, workload: &Workload, published: &Published) {
        let Life { socket, skipped, .. } = *life;
        let mut missing_count = 0;
        let mut faults = Vec::new();
        for (tallies, &product) in life.tallies.chunks(self.lanes).zip(workload.ids(socket)) {
            for (lane, tally) in tallies.iter().enumerate() {
                let expected = expected(published.versions(product, lane), tally, life.is_whole);
                let missing = compare(tally, expected);
                missing_count += missing.as_ref().map_or(0, |missing| missing.count);
                faults.extend(missing.map(|missing| (product, missing.what)));
            }
        }
        // A notice does not tell which of several it names, but it tells their number.
        let only_missing = faults.iter().all(|(_, what)| what.starts_with(MISSING));
        let named = skipped.cast_signed();
        let all_named = if life.is_whole { missing_count == named } else { missing_count <= named };
        if only_missing && all_named {
            return;
        }
        if faults.is_empty() {
            self.faults.add(socket, 0, || format!("a notice named {skipped} skipped changes, but all arrived"));
        }
        for (product, what) in faults {
            self.faults.add(socket, product, || format!("{what}; notices named {skipped} on this socket"));
        }
    }
}

const MISSING: &str = "missing ";

/// Returns the versions that this subscription had to see. A socket that was opened during the run is held to what lies
/// between its first and its last.
fn expected<'a>(versions: &'a [u64], tally: &Tally, is_whole: bool) -> &'a [u64] {
    if is_whole {
        return versions;
    }
    if tally.count == 0 {
        return &[];
    }
    let start = versions.partition_point(|version| *version < tally.first);
    let end = versions.partition_point(|version| *version <= tally.last);
    &versions[start..end]
}

struct Missing {
    count: i64,
    what: String,
}

/// Returns the part of `expected` that a subscription lacks, said as exactly as four numbers allow.
fn compare(tally: &Tally, expected: &[u64]) -> Option<Missing> {
    let sum = expected.iter().fold(0u64, |sum, version| sum.wrapping_add(*version));
    if tally.count == expected.len() as u64 && tally.sum == sum {
        return None;
    }
    let count = (expected.len() as u64).cast_signed() - tally.count.cast_signed();
    let lost = sum.wrapping_sub(tally.sum);
    let what = match count {
        ..=0 => format!("{} versions, {} were published", tally.count, expected.len()),
        1 if expected.binary_search(&lost).is_ok() => format!("{MISSING}version {lost}"),
        1 => "a version that nobody published, and one too few".to_owned(),
        _ => {
            let after = expected.partition_point(|version| *version <= tally.last);
            let all_at_end = expected.len() as u64 - after as u64 == count.cast_unsigned();
            let at = if all_at_end { "all after" } else { "some before" };
            format!("{MISSING}{count} of {} versions, {at} version {}", expected.len(), tally.last)
        }
    };
    Some(Missing { count, what })
}

#[cfg(test)]
mod tests;
