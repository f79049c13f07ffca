//! The cores of a process, with the rows of a store, its loader, and messages that are delivered when a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use futures_util::FutureExt;

use super::super::super::hub::Inbox;
use super::super::super::{Cast, Command, Listing, LoadedRow, Operation, PageWish, Revocation};
use super::super::*;
use super::recorder::{DELETION, Recorder};
use super::{CORES, TOPICS};
use crate::loader::{self, Demand, Demands, Wish};
use crate::metrics::Metrics;
use crate::model::topic::testing::{TABLE, grant_of, number as number_of, subject, tables, topic};
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

/// The number of the first pull of what was listed.
const LISTED_PULLS: u32 = 1 << 20;

/// All cores of a process.
pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) cores: Vec<Core<Recorder>>,
    pub(super) inboxes: Vec<Inbox>,
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
    pub(super) rows: BTreeMap<u64, u64>,
    pub(super) version: u64,
    pub(super) epoch: u8,
    /// The epoch of all tables, where that of this one is another; 0: none was told.
    epoch_of_all: u8,
    /// True if changes of the table do not come.
    pub(super) is_table_lost: bool,
    /// True if changes come.
    pub(super) is_begun: bool,
}

impl World {
    pub(super) fn new(shards: usize) -> Self {
        Self::with_slices(shards, SLICE_COST)
    }

    /// Cores that do so much in a slice.
    pub(super) fn with_slices(shards: usize, slice_cost: usize) -> Self {
        let (hub, inboxes) = Hub::with_key(CORES, shards, tables(), [shards as u64, slice_cost as u64]);
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
            is_table_lost: false,
            is_begun: false,
        }
    }

    pub(super) fn open(&mut self, core: u16) -> ConnectionId {
        let core = self.core(core);
        let standings = core.table_standings().unwrap_or_default();
        let recorder = Recorder {
            epoch: core.epoch(),
            table_epoch: standings.epoch(TABLE),
            is_live: core.is_live(),
            is_table_lost: !standings.is_live(TABLE),
            ..Recorder::default()
        };
        let key = core.insert_with(|_| recorder);
        ConnectionId { core: core.id, key }
    }

    pub(super) fn core(&mut self, core: u16) -> &mut Core<Recorder> {
        &mut self.cores[usize::from(core)]
    }

    pub(super) fn recorder(&mut self, connection: ConnectionId) -> &mut Recorder {
        self.core(connection.core.0).get_mut(connection.key).expect("it is open")
    }

    /// Commits the next version of a topic.
    pub(super) fn commit(&mut self, number: u64) {
        self.version += 1;
        self.rows.insert(number, self.version);
    }

    fn frame(&self, version: u64) -> Frame {
        Frame::new(Opcode::Binary, &(u64::from(self.epoch) << 56 | version).to_be_bytes())
    }

    /// Commits the next version of a topic and casts it.
    pub(super) fn cast(&mut self, number: u64) -> u64 {
        self.commit(number);
        self.tell(number, false);
        self.version
    }

    /// Deletes a topic, and casts that if changes come.
    pub(super) fn delete(&mut self, number: u64) {
        if self.rows.remove(&number).is_some() {
            self.version += 1;
            if self.are_changes_told() {
                self.tell(number, true);
            }
        }
    }

    /// Returns whether the source tells what is committed.
    pub(super) fn are_changes_told(&self) -> bool {
        (self.epoch == 0 || self.is_begun) && !self.is_table_lost
    }

    /// Versions begin again after this one, and nobody knows it yet.
    pub(super) fn set_back(&mut self, version: u64) {
        self.version = version;
    }

    fn tell(&self, number: u64, is_deletion: bool) {
        let frame = self.frame(self.version | if is_deletion { DELETION } else { 0 });
        let cast = Cast {
            subject: subject(number),
            version: self.version,
            frame,
            is_whole: true,
            is_deletion,
            committed_at: Instant::now(),
        };
        self.hub.cast(cast).now_or_never().expect("there is room for all changes of a test");
    }

    pub(super) fn lose(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            (self.is_listing, self.list_from) = (true, 0);
            self.hub.gap();
        }
    }

    /// Lets changes come; in a new epoch, of versions that begin again.
    pub(super) fn begin(&mut self, is_new_epoch: bool) {
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
    pub(super) fn lose_table(&mut self) {
        self.is_table_lost = true;
        self.wishes.clear();
        self.hub.table_lost(TABLE);
    }

    /// Commits other versions of these topics, or removes every other of them, and tells nothing but that it did.
    pub(super) fn miss(&mut self, topics: &[u64]) {
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
    pub(super) fn begin_table(&mut self, is_new_epoch: bool) {
        self.is_table_lost = false;
        if is_new_epoch {
            self.renew_versions();
            self.hub.table_began(TABLE, Epoch::new(self.epoch.into()).unwrap());
        } else {
            self.hub.missed(TABLE);
        }
    }

    /// Reads what the shards wished for; whether there was anything.
    pub(super) fn read(&mut self) -> bool {
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
                    Some(&version) => LoadedRow::Present { version, frame: self.frame(version) },
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
        if !self.is_listing || !self.is_begun || self.watches.len() < usize::from(CORES) {
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

    /// Returns whether a core has the rows listed.
    pub(super) fn is_watched(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Has every connection ask for the next page of its list of all topics, if it has the one before.
    pub(super) fn ask_for_pages(&mut self) -> bool {
        let mut any = false;
        for core in &mut self.cores {
            let keys: Vec<SlotKey> = core.iter_mut().map(|(key, _)| key).collect();
            for key in keys {
                let recorder = core.get_mut(key).unwrap();
                if recorder.page.is_none()
                    && let Some(from) = recorder.pages.pop()
                {
                    recorder.asked_pages += 1;
                    let number = recorder.asked_pages;
                    recorder.page = Some(number);
                    core.list(key, PageWish { table: TABLE, from, number });
                    any = true;
                }
            }
        }
        any
    }

    /// Has every connection pull what was listed for it.
    pub(super) fn pull_listed(&mut self) -> bool {
        let mut pulls = Vec::new();
        for core in &mut self.cores {
            let id = core.id;
            for (key, recorder) in core.iter_mut().filter(|(_, recorder)| !recorder.listed.is_empty()) {
                let topics: Vec<u64> = recorder.listed.drain(..).map(number_of).collect();
                let number = LISTED_PULLS + recorder.listed_pulls;
                recorder.listed_pulls += u32::try_from(topics.len()).unwrap();
                pulls.push((ConnectionId { core: id, key }, number, topics));
            }
        }
        let any = !pulls.is_empty();
        for (connection, number, topics) in pulls {
            self.pull(connection, number, &topics, false);
        }
        any
    }

    /// Hands over what was read.
    pub(super) fn hand_over(&mut self) {
        for (core, number, listing) in std::mem::take(&mut self.listings) {
            *self.untaken.entry((core, number)).or_default() += u32::from(matches!(listing, Listing::Rows(_)));
            self.hub.list(core, TABLE, number, listing);
        }
        for (core, rows) in std::mem::take(&mut self.loaded) {
            self.hub.loaded(core, rows);
        }
    }

    /// Pulls topics, with what the connection knows of them or without.
    pub(super) fn pull(&mut self, connection: ConnectionId, number: u32, topics: &[u64], resumes: bool) {
        let recorder = self.recorder(connection);
        let numbers = (number..).zip(topics);
        let pulls: Vec<Pull> = numbers
            .map(|(number, &id)| {
                recorder.pulls.insert(number, id);
                let known = if resumes { recorder.shown.get(&id).copied().unwrap_or_default() } else { 0 };
                Pull { subject: subject(id), known, number }
            })
            .collect();
        self.core(connection.core.0).pull(connection.key, pulls);
    }

    /// Has a core take up to so many of its messages; whether there were any.
    pub(super) fn process(&mut self, core: u16, messages: usize) -> bool {
        let inbox = &mut self.inboxes[usize::from(core)];
        let mut batch: Vec<Message> = (0..messages).map_while(|_| inbox.messages.try_recv().ok()).collect();
        let any = !batch.is_empty();
        self.core(core).process(&mut batch);
        any
    }

    /// Has a core begin its next turn; whether it did any work in it.
    pub(super) fn work(&mut self, core: u16) -> bool {
        let core = self.core(core);
        let had_work = core.has_work();
        core.work();
        had_work
    }

    /// Has every core take all its messages, and begin its next turn.
    pub(super) fn turn(&mut self) {
        for core in 0..CORES {
            self.process(core, usize::MAX);
            self.work(core);
        }
    }

    pub(super) fn settle(&mut self) {
        let mut is_moving = true;
        while is_moving {
            let did_something = (0..CORES).filter(|&core| self.process(core, usize::MAX) | self.work(core)).count() > 0;
            let did_something =
                did_something | self.ask_for_pages() | self.pull_listed() | self.read() | !self.loaded.is_empty();
            self.hand_over();
            // A turn may end with messages for a core that had its own before.
            is_moving = did_something || self.inboxes.iter().any(|inbox| !inbox.messages.is_empty());
        }
        assert!(self.hub.settled().now_or_never().is_some(), "every change gave its units back");
        for (&core, &Watch { number, .. }) in self.watches.iter().filter(|_| self.is_begun) {
            assert_eq!(self.untaken.get(&(core, number)).copied().unwrap_or(0), 0, "the loader waits for pages");
        }
    }

    /// Subscribes with the versions that the connection shows.
    pub(super) fn resume(&mut self, connection: ConnectionId, number: u32, topics: &[u64]) {
        let shown = &self.recorder(connection).shown;
        let known = topics.iter().map(|number| shown.get(number).copied().unwrap_or(0)).collect();
        let topics = topics.iter().copied().map(subject).collect();
        let command = Command { known, ..Command::new(number, Operation::Subscribe, topics) };
        self.core(connection.core.0).command(connection.key, command);
    }

    /// Gives a command.
    pub(super) fn command(&mut self, connection: ConnectionId, number: u32, operation: Operation, topics: &[u64]) {
        let topics = topics.iter().copied().map(subject).collect();
        self.core(connection.core.0).command(connection.key, Command::new(number, operation, topics));
    }

    /// Ends what a connection has but these topics, and that it is told of all if it is to end.
    pub(super) fn revoke(&mut self, connection: ConnectionId, number: u32, kept: &[u64], ends_all: bool) {
        let wholes = if ends_all { vec![TABLE] } else { Vec::new() };
        let revocation = Revocation { grant: Arc::new(grant_of(kept.iter().copied())), wholes };
        let command = Command::new(number, Operation::Revoke, Subjects::default());
        let command = Command { revocation: Some(Arc::new(revocation)), ..command };
        self.core(connection.core.0).command(connection.key, command);
    }

    /// The topics to which a connection is subscribed, as the shards have them.
    pub(super) fn subscribed(&self, connection: ConnectionId) -> BTreeSet<u64> {
        let is_in_a_shard = |&number: &u64| {
            let mut shards = self.cores.iter().flat_map(|core| &core.shards);
            shards.any(|shard| shard.contains(connection, topic(number)))
        };
        (0..TOPICS).filter(is_in_a_shard).collect()
    }

    pub(super) fn assert_empty(&self) {
        for core in &self.cores {
            assert!(core.is_empty() && core.work.is_empty() && core.under_way.is_empty());
            assert!(core.everything.is_empty());
            for shard in &core.shards {
                shard.check();
                assert_eq!(shard.index().connections_len(), 0);
                assert_eq!(self.hub.rows_kept().load(Ordering::Relaxed), 0, "nothing is kept for nobody");
                if self.epoch == 0 {
                    assert_eq!(shard.index().topics_len(), 0, "nothing was asked for");
                }
            }
        }
    }
}
