//! A server in one thread, for tests: [`Server`], the cores of a process with the rows of a store, its loader, and messages
//! that are delivered when a test says so.

use std::collections::BTreeMap;

use futures_util::FutureExt;

use super::super::hub::Inbox;
use super::super::{Cast, Listing, LoadedRow};
use super::*;
use crate::loader::{self, Demand, Demands, Wish};
use crate::metrics::Metrics;
use crate::model::topic::testing::{TABLE, number as number_of, subject, tables};

/// The word on a row that subscribers are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) number: u64,
    pub(crate) version: u64,
    /// The number of the epoch of the version; 0: none was told.
    pub(crate) epoch: u8,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Change,
    Deletion,
    /// The row as it was read.
    Row,
}

/// All cores of a process, with connections of this kind.
pub(crate) struct Server<S> {
    pub(crate) hub: Hub,
    pub(crate) cores: Vec<Core<S>>,
    pub(crate) inboxes: Vec<Inbox>,
    encode: fn(&Told) -> Frame,
    demands: Demands,
    /// Wishes that are to be read, and rows that were read and are to be handed over.
    wishes: Vec<Wish>,
    loaded: Vec<(CoreId, Vec<Loaded>)>,
    /// The watches of the cores, the rows that were listed for them, and what is listed next.
    watches: BTreeMap<CoreId, Watch>,
    listings: Vec<(CoreId, u32, Listing)>,
    is_listing: bool,
    list_from: u64,
    /// The pages that a core was handed for a watch and has not taken.
    untaken: BTreeMap<(CoreId, u32), u32>,
    /// The version of each topic that exists.
    pub(crate) rows: BTreeMap<u64, u64>,
    pub(crate) version: u64,
    pub(crate) epoch: u8,
    /// The epoch of all tables, where that of this one is another; 0: none was told.
    epoch_of_all: u8,
    /// A row cannot be read where its version is divisible by this; 0: all can.
    pub(crate) unreadable_every: u64,
    /// True if changes of the table do not come.
    pub(crate) is_table_lost: bool,
    /// True if changes come.
    pub(crate) is_begun: bool,
}

impl<S: Subscriber> Server<S> {
    /// Returns so many cores, which do so much in a slice, over so many shards. `encode` makes the frames.
    pub(crate) fn of(cores: u16, shards: usize, slice_cost: usize, encode: fn(&Told) -> Frame) -> Self {
        let (hub, inboxes) = Hub::with_key(cores, shards, tables(), [shards as u64, slice_cost as u64]);
        let metrics = Metrics::new();
        let (loader, demands) = loader::channel();
        let core = |inbox: &Inbox| {
            let core = Core::new(inbox.core, hub.clone(), metrics.core(inbox.core.0, "drop"));
            let mut core = core.with_loader(loader.wishes()).with_last_values(1000);
            (core.slice_cost, core.at_once_cost) = (slice_cost, slice_cost);
            core
        };
        Self {
            cores: inboxes.iter().map(core).collect(),
            inboxes,
            encode,
            hub,
            demands,
            wishes: Vec::new(),
            loaded: Vec::new(),
            watches: BTreeMap::new(),
            listings: Vec::new(),
            is_listing: false,
            list_from: 0,
            untaken: BTreeMap::new(),
            rows: BTreeMap::new(),
            version: 0,
            epoch: 0,
            epoch_of_all: 0,
            unreadable_every: 0,
            is_table_lost: false,
            is_begun: false,
        }
    }

    fn is_readable(&self, version: u64) -> bool {
        !version.is_multiple_of(self.unreadable_every)
    }

    fn ids(&self) -> std::ops::Range<u16> {
        0..u16::try_from(self.cores.len()).expect("few cores")
    }

    pub(crate) fn core(&mut self, core: u16) -> &mut Core<S> {
        &mut self.cores[usize::from(core)]
    }

    /// Commits the next version of a topic.
    pub(crate) fn commit(&mut self, number: u64) {
        self.version += 1;
        self.rows.insert(number, self.version);
    }

    /// Commits the next version of a topic and casts it.
    pub(crate) fn cast(&mut self, number: u64) -> u64 {
        self.commit(number);
        self.tell(number, false);
        self.version
    }

    /// Deletes a topic, and casts that if changes come.
    pub(crate) fn delete(&mut self, number: u64) {
        if self.rows.remove(&number).is_some() {
            self.version += 1;
            if self.are_changes_told() {
                self.tell(number, true);
            }
        }
    }

    /// Returns whether the source tells what is committed.
    pub(crate) fn are_changes_told(&self) -> bool {
        (self.epoch == 0 || self.is_begun) && !self.is_table_lost
    }

    /// Versions begin again after this one, and nobody knows it yet.
    pub(crate) fn set_back(&mut self, version: u64) {
        self.version = version;
    }

    fn frame(&self, number: u64, version: u64, kind: Kind) -> Frame {
        (self.encode)(&Told { number, version, epoch: self.epoch, kind })
    }

    fn tell(&self, number: u64, is_deletion: bool) {
        let frame = self.frame(number, self.version, if is_deletion { Kind::Deletion } else { Kind::Change });
        let cast = Cast {
            subject: subject(number),
            version: self.version,
            frame,
            is_whole: self.is_readable(self.version),
            is_deletion,
            committed_at: Instant::now(),
        };
        self.hub.cast(cast).now_or_never().expect("there is room for all changes of a test");
    }

    pub(crate) fn lose(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            (self.is_listing, self.list_from) = (true, 0);
            self.hub.gap();
        }
    }

    /// Lets changes come; in a new epoch, of versions that begin again.
    pub(crate) fn begin(&mut self, is_new_epoch: bool) {
        if self.epoch_of_all == 0 && self.epoch > 0 {
            // The table has an epoch of its own before there is one of all.
            self.epoch_of_all = u8::MAX;
        } else if is_new_epoch || self.epoch_of_all == 0 {
            self.renew_versions();
            self.epoch_of_all = self.epoch;
        } else if self.is_begun {
            return;
        }
        self.is_begun = true;
        (self.is_listing, self.list_from) = (true, 0);
        self.hub.began(Epoch::new(self.epoch_of_all.into()).unwrap());
    }

    fn renew_versions(&mut self) {
        self.epoch += 1;
        self.version = 0;
        let topics: Vec<u64> = self.rows.keys().copied().collect();
        topics.into_iter().rev().for_each(|number| self.commit(number));
    }

    /// Loses the changes of the table alone. The loader forgets what was wished for of it.
    pub(crate) fn lose_table(&mut self) {
        self.is_table_lost = true;
        self.wishes.clear();
        self.hub.table_lost(TABLE);
    }

    /// Commits other versions of these topics, or removes every other of them, and tells nothing but that it did.
    pub(crate) fn miss(&mut self, topics: &[u64]) {
        for (place, &number) in topics.iter().enumerate() {
            self.commit(number);
            if place % 2 == 1 {
                self.rows.remove(&number);
            }
        }
        if self.is_begun && !self.is_table_lost {
            self.hub.missed(TABLE);
        }
    }

    /// Lets them come; in a new epoch of the table, of versions that begin again.
    pub(crate) fn begin_table(&mut self, is_new_epoch: bool) {
        self.is_table_lost = false;
        if is_new_epoch {
            self.renew_versions();
            self.hub.table_began(TABLE, Epoch::new(self.epoch.into()).unwrap());
        } else {
            self.hub.missed(TABLE);
        }
    }

    /// Reads what the shards wished for; whether there was anything.
    pub(crate) fn read(&mut self) -> bool {
        while let Some(demand) = self.demands.try_next() {
            match demand {
                Demand::Wish(_) if self.is_table_lost => {}
                Demand::Wish(wish) => self.wishes.push(wish),
                Demand::Watch(core, _, watch) => {
                    (self.is_listing, self.list_from) = (true, 0);
                    match watch {
                        Some(watch) => self.watches.insert(core, watch),
                        None => self.watches.remove(&core),
                    };
                }
                Demand::Taken(core, _, number) => *self.untaken.get_mut(&(core, number)).unwrap() -= 1,
                other => panic!("{other:?}"),
            }
        }
        let has_listed = self.list();
        if !self.is_begun || self.is_table_lost || self.wishes.is_empty() {
            return has_listed;
        }
        for Wish { core, topics } in std::mem::take(&mut self.wishes) {
            let row = |(subject, number): (Subject, u32)| {
                let topic = subject.topic();
                let row = match self.rows.get(&number_of(topic)) {
                    Some(&version) if !self.is_readable(version) => LoadedRow::Unreadable { version },
                    Some(&version) => {
                        LoadedRow::Present { version, frame: self.frame(number_of(topic), version, Kind::Row) }
                    }
                    None => LoadedRow::Absent { version: 0 },
                };
                Loaded { topic, number, row }
            };
            self.loaded.push((core, topics.into_iter().map(row).collect()));
        }
        true
    }

    /// Reads the next two rows for the watches, if all cores watch; whether it did.
    fn list(&mut self) -> bool {
        if !self.is_listing || !self.is_begun || self.watches.len() < self.cores.len() {
            return false;
        }
        let rows = self.rows.range(self.list_from..).take(2);
        let rows: Vec<(Subject, u64)> = rows.map(|(&number, &version)| (subject(number), version)).collect();
        self.is_listing = !rows.is_empty();
        self.list_from = rows.last().map_or(0, |(last, _)| number_of(last.topic()) + 1);
        for (&core, &Watch { number, .. }) in &self.watches {
            let is_its = |(subject, _): &&(Subject, u64)| self.hub.core_of_topic(subject.topic()) == core;
            self.listings.push((core, number, Listing::Rows(rows.iter().filter(is_its).cloned().collect())));
            if rows.is_empty() {
                self.listings.push((core, number, Listing::End));
            }
        }
        true
    }

    /// Hands over what was read.
    pub(crate) fn hand_over(&mut self) {
        for (core, number, listing) in std::mem::take(&mut self.listings) {
            *self.untaken.entry((core, number)).or_default() += u32::from(matches!(listing, Listing::Rows(_)));
            self.hub.list(core, TABLE, number, listing);
        }
        for (core, rows) in std::mem::take(&mut self.loaded) {
            self.hub.loaded(core, rows);
        }
    }

    /// Has a core take up to so many of its messages; whether there were any.
    pub(crate) fn process(&mut self, core: u16, messages: usize) -> bool {
        let inbox = &mut self.inboxes[usize::from(core)];
        let mut batch: Vec<Message> = (0..messages).map_while(|_| inbox.messages.try_recv().ok()).collect();
        let any = !batch.is_empty();
        self.core(core).process(&mut batch);
        any
    }

    /// Has a core begin its next turn; whether it did any work in it.
    pub(crate) fn work(&mut self, core: u16) -> bool {
        let core = self.core(core);
        let had_work = core.has_work();
        core.work();
        had_work
    }

    /// Has every core take all its messages, and begin its next turn.
    pub(crate) fn turn(&mut self) {
        for core in self.ids() {
            self.process(core, usize::MAX);
            self.work(core);
        }
    }

    /// Returns whether a core has the rows listed.
    pub(crate) fn is_watched(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Has every core do all that it has to do, then reads what the shards wished for and hands it over; returns whether there
    /// was anything.
    pub(crate) fn advance(&mut self) -> bool {
        let is_moving = self.ids().filter(|&core| self.process(core, usize::MAX) | self.work(core)).count() > 0;
        let is_moving = is_moving | self.read() | !self.loaded.is_empty();
        self.hand_over();
        // A turn may end with messages for a core that had its own before.
        is_moving || self.inboxes.iter().any(|inbox| !inbox.messages.is_empty())
    }

    /// Panics if something is due where nothing is to be done any more.
    pub(crate) fn assert_settled(&self) {
        assert!(self.hub.settled().now_or_never().is_some(), "every change gave its units back");
        for (&core, &Watch { number, .. }) in self.watches.iter().filter(|_| self.is_begun) {
            assert_eq!(self.untaken.get(&(core, number)).copied().unwrap_or(0), 0, "the loader waits for pages");
        }
    }
}
