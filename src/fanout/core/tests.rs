//! Several cores in one thread, whose messages are delivered in any order that their inboxes allow, against a set of
//! pairs and the rows of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use proptest::prelude::*;
use slotmap::Key;

use super::super::hub::Inbox;
use super::super::{Cast, Command, Listing, LoadedRow, Operation, Page, PageWish, Place, Value};
use super::*;
use crate::loader::{self, Demand, Demands, Wish};
use crate::metrics::Metrics;
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

const CORES: u16 = 3;
const PRODUCTS: u64 = 6;

/// Remembers what it was given.
#[derive(Debug, Default)]
struct Recorder {
    waiting: Vec<(u64, u64)>,
    flushed: Vec<(u64, u64)>,
    applied: Vec<(u32, usize)>,
    refused: Vec<u32>,
    /// True if it was told something that it is to be flushed for.
    is_told: bool,
    epoch: Option<Epoch>,
    is_live: bool,
    /// The newest version of each product that it was told in this epoch; 0: that it does not exist.
    shown: BTreeMap<u64, u64>,
    /// The pulls without an answer, by number.
    pulls: BTreeMap<u32, u64>,
    /// The commands that list all products.
    lists: BTreeSet<u32>,
    /// The pages that are to be asked for, and the number of the one that was.
    pages: Vec<Place>,
    page: Option<u32>,
    asked_pages: u32,
    /// The products that the shards listed and that are to be pulled.
    listed: Vec<ProductId>,
    listed_pulls: u32,
    /// True if it asked to be told of every product.
    is_everything: bool,
}

/// The number of the first pull of what was listed.
const LISTED_PULLS: u32 = 1 << 20;

impl Recorder {
    /// Takes a version, which is to be of the epoch that it was told.
    fn take(&mut self, product: u64, content: [u8; 8]) {
        let (epoch, version) = (content[0], u64::from_be_bytes(content) & VERSION);
        assert_eq!(u64::from(epoch), self.epoch.map_or(0, Epoch::get), "a version of another epoch");
        let is_deletion = u64::from_be_bytes(content) & DELETION != 0;
        let before = self.shown.insert(product, if is_deletion { 0 } else { version });
        assert!(before.is_none_or(|before| before <= version), "{version} after {before:?}");
    }
}

impl Subscriber for Recorder {
    fn push(&mut self, run: &CastRun) {
        self.is_told = true;
        let product = run.product.get();
        let is_pulling = self.pulls.values().any(|&pulled| pulled == product);
        if *run.frames == *Frame::of_absence(run.product, 0) {
            if !is_pulling {
                self.shown.insert(product, 0);
            }
            return;
        }
        for (frame, &version) in run.frames.chunks_exact(10).zip(run.versions()) {
            let content: [u8; 8] = frame[2..].try_into().unwrap();
            assert_eq!(u64::from_be_bytes(content) & VERSION, version, "each frame comes with its version");
            self.waiting.push((product, version));
            if !is_pulling {
                self.take(product, content);
            }
        }
    }

    fn flush(&mut self) {
        assert!(std::mem::take(&mut self.is_told), "only who was given something is flushed");
        self.flushed.append(&mut self.waiting);
    }

    fn applied(&mut self, number: u32, products: usize) {
        self.applied.push((number, products));
        if self.lists.contains(&number) && self.is_everything {
            self.pages.push(Place::default());
        }
    }

    fn refused(&mut self, number: u32) {
        self.refused.push(number);
    }

    fn differ(&mut self, number: u32, products: Vec<ProductId>) {
        assert!(self.applied.iter().all(|(applied, _)| *applied != number), "before its command is applied");
        self.listed.extend(products);
    }

    fn listed(&mut self, listed: Listed) {
        let Listed::Page(Page { number, products, next }) = listed else { return };
        assert!(products.len() <= everything::PAGE_MAX && products.is_sorted());
        if self.page.take_if(|page| *page == number).is_some() {
            self.listed.extend(products);
            self.pages.extend(next);
        }
    }

    fn pulled(&mut self, answer: Pulled) {
        self.is_told = true;
        let product = answer.product.get();
        assert_eq!(self.pulls.remove(&answer.number), Some(product), "one answer for each pull");
        if self.pulls.values().any(|&pulled| pulled == product) {
            return;
        }
        match answer.value {
            Value::Same => assert!(self.shown.contains_key(&product)),
            Value::Present { frame, .. } => self.take(product, frame[2..].try_into().unwrap()),
            Value::Absent { .. } => drop(self.shown.insert(product, 0)),
            Value::Unreached => panic!("nobody claims what never was"),
            // The subscription to this one has ended, and that to all goes on.
            Value::Ended if self.is_everything => self.listed.push(answer.product),
            Value::Ended => {}
        }
    }

    fn live(&mut self, is_live: bool) {
        self.is_told = true;
        self.is_live = is_live;
    }

    fn epoch(&mut self, epoch: Epoch) {
        self.is_told = true;
        self.epoch = Some(epoch);
        self.shown.clear();
        self.waiting.clear();
        self.flushed.clear();
    }
}

/// The bytes of a frame that are its version; the first one is its epoch.
const VERSION: u64 = DELETION - 1;
/// Set where the version is that of a deletion.
const DELETION: u64 = 1 << 55;

/// All cores of a process.
struct World {
    hub: Hub,
    cores: Vec<Core<Recorder>>,
    inboxes: Vec<Inbox>,
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
    /// The version of each product that exists.
    rows: BTreeMap<u64, u64>,
    version: u64,
    epoch: u8,
    /// True if changes come.
    is_begun: bool,
}

impl World {
    fn new(shards: usize) -> Self {
        Self::with_slices(shards, SLICE_COST)
    }

    /// Cores that do so much in a slice.
    fn with_slices(shards: usize, slice_cost: usize) -> Self {
        let (hub, inboxes) = Hub::with_key(CORES, shards, [shards as u64, slice_cost as u64]);
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
            is_begun: false,
        }
    }

    fn open(&mut self, core: u16) -> ConnectionId {
        let core = self.core(core);
        let recorder = Recorder { epoch: core.epoch(), is_live: core.is_live(), ..Recorder::default() };
        let key = core.insert_with(|_| recorder);
        ConnectionId { core: core.id, key }
    }

    fn core(&mut self, core: u16) -> &mut Core<Recorder> {
        &mut self.cores[usize::from(core)]
    }

    fn recorder(&mut self, connection: ConnectionId) -> &mut Recorder {
        self.core(connection.core.0).get_mut(connection.key).expect("it is open")
    }

    /// Commits the next version of a product.
    fn commit(&mut self, number: u64) {
        self.version += 1;
        self.rows.insert(number, self.version);
    }

    fn frame(&self, version: u64) -> Frame {
        Frame::new(Opcode::Binary, &(u64::from(self.epoch) << 56 | version).to_be_bytes())
    }

    /// Commits the next version of a product and casts it.
    fn cast(&mut self, number: u64) -> u64 {
        self.commit(number);
        self.tell(number, false);
        self.version
    }

    /// Deletes a product, and casts that if changes come.
    fn delete(&mut self, number: u64) {
        if self.rows.remove(&number).is_some() {
            self.version += 1;
            if self.epoch == 0 || self.is_begun {
                self.tell(number, true);
            }
        }
    }

    fn tell(&self, number: u64, is_deletion: bool) {
        let frame = self.frame(self.version | if is_deletion { DELETION } else { 0 });
        let cast = Cast {
            product: product(number),
            version: self.version,
            frame,
            is_whole: true,
            is_deletion,
            committed_at: Instant::now(),
        };
        self.hub.cast(cast).now_or_never().expect("there is room for all changes of a test");
    }

    fn lose(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            (self.is_listing, self.list_from) = (true, 0);
            self.hub.gap();
        }
    }

    /// Lets changes come; in a new epoch, of versions that begin again.
    fn begin(&mut self, is_new_epoch: bool) {
        if is_new_epoch || self.epoch == 0 {
            self.epoch += 1;
            self.version = 0;
            let products: Vec<u64> = self.rows.keys().copied().collect();
            products.into_iter().rev().for_each(|number| self.commit(number));
        } else if self.is_begun {
            return;
        }
        self.is_begun = true;
        (self.is_listing, self.list_from) = (true, 0);
        self.hub.began(Epoch::new(self.epoch.into()).unwrap());
    }

    /// Reads what the shards wished for; whether there was anything.
    fn read(&mut self) -> bool {
        while let Some(demand) = self.demands.try_next() {
            match demand {
                Demand::Wish(wish) => self.wishes.push(wish),
                Demand::Watch(core, watch) => {
                    (self.is_listing, self.list_from) = (true, 0);
                    match watch {
                        Some(watch) => self.watches.insert(core, watch),
                        None => self.watches.remove(&core),
                    };
                }
                Demand::Taken(core, number) => *self.untaken.get_mut(&(core, number)).unwrap() -= 1,
                other => panic!("{other:?}"),
            }
        }
        let has_listed = self.list();
        if !self.is_begun || self.wishes.is_empty() {
            return has_listed;
        }
        for Wish { core, products } in std::mem::take(&mut self.wishes) {
            let row = |(product, number): (ProductId, u32)| {
                let row = match self.rows.get(&product.get()) {
                    Some(&version) => LoadedRow::Present { version, frame: self.frame(version) },
                    None => LoadedRow::Absent { version: 0 },
                };
                Loaded { product, number, row }
            };
            self.loaded.push((core, products.into_iter().map(row).collect()));
        }
        true
    }

    /// Reads the next two rows for the watches, if all cores watch; whether it did.
    fn list(&mut self) -> bool {
        if !self.is_listing || !self.is_begun || self.watches.len() < usize::from(CORES) {
            return false;
        }
        let rows = self.rows.range(self.list_from..).take(2);
        let rows: Vec<(ProductId, u64)> = rows.map(|(&number, &version)| (product(number), version)).collect();
        self.is_listing = !rows.is_empty();
        self.list_from = rows.last().map_or(0, |(last, _)| last.get() + 1);
        for (&core, &Watch { number, .. }) in &self.watches {
            let is_its = |(product, _): &&(ProductId, u64)| self.hub.core_of_product(*product) == core;
            self.listings.push((core, number, Listing::Rows(rows.iter().filter(is_its).copied().collect())));
            if rows.is_empty() {
                self.listings.push((core, number, Listing::End));
            }
        }
        true
    }

    /// Has every connection ask for the next page of its list of all products, if it has the one before.
    fn ask_for_pages(&mut self) -> bool {
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
                    core.list(key, PageWish { from, number });
                    any = true;
                }
            }
        }
        any
    }

    /// Has every connection pull what was listed for it.
    fn pull_listed(&mut self) -> bool {
        let mut pulls = Vec::new();
        for core in &mut self.cores {
            let id = core.id;
            for (key, recorder) in core.iter_mut().filter(|(_, recorder)| !recorder.listed.is_empty()) {
                let products: Vec<u64> = recorder.listed.drain(..).map(ProductId::get).collect();
                let number = LISTED_PULLS + recorder.listed_pulls;
                recorder.listed_pulls += u32::try_from(products.len()).unwrap();
                pulls.push((ConnectionId { core: id, key }, number, products));
            }
        }
        let any = !pulls.is_empty();
        for (connection, number, products) in pulls {
            self.pull(connection, number, &products, false);
        }
        any
    }

    /// Hands over what was read.
    fn hand_over(&mut self) {
        for (core, number, listing) in std::mem::take(&mut self.listings) {
            *self.untaken.entry((core, number)).or_default() += u32::from(matches!(listing, Listing::Rows(_)));
            self.hub.list(core, number, listing);
        }
        for (core, rows) in std::mem::take(&mut self.loaded) {
            self.hub.loaded(core, rows);
        }
    }

    /// Pulls products, with what the connection knows of them or without.
    fn pull(&mut self, connection: ConnectionId, number: u32, products: &[u64], resumes: bool) {
        let recorder = self.recorder(connection);
        let numbers = (number..).zip(products);
        let pulls: Vec<Pull> = numbers
            .map(|(number, &id)| {
                recorder.pulls.insert(number, id);
                let known = if resumes { recorder.shown.get(&id).copied().unwrap_or_default() } else { 0 };
                Pull { product: product(id), known, number }
            })
            .collect();
        self.core(connection.core.0).pull(connection.key, pulls);
    }

    /// Has a core take up to so many of its messages; whether there were any.
    fn process(&mut self, core: u16, messages: usize) -> bool {
        let inbox = &mut self.inboxes[usize::from(core)];
        let mut batch: Vec<Message> = (0..messages).map_while(|_| inbox.messages.try_recv().ok()).collect();
        let any = !batch.is_empty();
        self.core(core).process(&mut batch);
        any
    }

    /// Has a core begin its next turn; whether it did any work in it.
    fn work(&mut self, core: u16) -> bool {
        let core = self.core(core);
        let had_work = core.has_work();
        core.work();
        had_work
    }

    /// Has every core take all its messages, and begin its next turn.
    fn turn(&mut self) {
        for core in 0..CORES {
            self.process(core, usize::MAX);
            self.work(core);
        }
    }

    fn settle(&mut self) {
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
    fn resume(&mut self, connection: ConnectionId, number: u32, products: &[u64]) {
        let shown = &self.recorder(connection).shown;
        let known = products.iter().map(|number| shown.get(number).copied().unwrap_or(0)).collect();
        let products = products.iter().map(|&number| product(number)).collect();
        let command = Command { known, ..Command::new(number, Operation::Subscribe, products) };
        self.core(connection.core.0).command(connection.key, command);
    }

    /// Gives a command.
    fn command(&mut self, connection: ConnectionId, number: u32, operation: Operation, products: &[u64]) {
        let products = products.iter().map(|&number| product(number)).collect();
        self.core(connection.core.0).command(connection.key, Command::new(number, operation, products));
    }

    /// The products to which a connection is subscribed, as the shards have them.
    fn subscribed(&self, connection: ConnectionId) -> BTreeSet<u64> {
        let is_in_a_shard = |&number: &u64| {
            let mut shards = self.cores.iter().flat_map(|core| &core.shards);
            shards.any(|shard| shard.contains(connection, product(number)))
        };
        (0..PRODUCTS).filter(is_in_a_shard).collect()
    }

    fn assert_empty(&self) {
        for core in &self.cores {
            assert!(core.is_empty() && core.work.is_empty() && core.under_way.is_empty());
            assert!(core.everything.is_empty());
            for shard in &core.shards {
                shard.check();
                assert_eq!(shard.index().connections_len(), 0);
                assert_eq!(self.hub.rows_kept().load(Ordering::Relaxed), 0, "nothing is kept for nobody");
                if self.epoch == 0 {
                    assert_eq!(shard.index().products_len(), 0, "nothing was asked for");
                }
            }
        }
    }
}

fn product(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Open(u16),
    Command(usize, Operation, Vec<u64>),
    /// A subscription with versions.
    Resume(usize, Vec<u64>),
    Close(usize),
    Cast(u64),
    Delete(u64),
    /// Pulls, with what the connection knows or without.
    Pull(usize, Vec<u64>, bool),
    Lose,
    /// Perhaps in a new epoch.
    Begin(bool),
    Read,
    HandOver,
    /// The connections go on with their lists of all products.
    AskForPages,
    PullListed,
    Process(u16, usize),
    Work(u16),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Operation::{Count, Subscribe, SubscribeAll, Unsubscribe, UnsubscribeAll};
    let products = proptest::collection::vec(0..PRODUCTS, 0..8);
    let pulled = proptest::collection::vec(0..PRODUCTS, 1..4);
    let operation = prop_oneof![
        4 => Just(Subscribe),
        3 => Just(Unsubscribe),
        1 => Just(Count),
        1 => any::<bool>().prop_map(|lists| SubscribeAll { lists }),
        1 => Just(UnsubscribeAll),
    ];
    let step = prop_oneof![
        2 => (0..CORES).prop_map(Step::Open),
        7 => (any::<usize>(), operation, products.clone())
            .prop_map(|(place, operation, ids)| Step::Command(place, operation, ids)),
        3 => (any::<usize>(), products).prop_map(|(place, ids)| Step::Resume(place, ids)),
        1 => any::<usize>().prop_map(Step::Close),
        6 => (0..PRODUCTS).prop_map(Step::Cast),
        1 => (0..PRODUCTS).prop_map(Step::Delete),
        4 => (any::<usize>(), pulled, any::<bool>()).prop_map(|(place, ids, resumes)| Step::Pull(place, ids, resumes)),
        1 => Just(Step::Lose),
        2 => (0..4u8).prop_map(|of_four| Step::Begin(of_four == 0)),
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
    /// The products whose subscription it ever ended: what it shows of them may be from before.
    ended: BTreeSet<u64>,
    /// The products that it subscribed to with versions, and shows as they are from then on.
    resumed: BTreeSet<u64>,
    pulls: u32,
    /// Whether it is subscribed to every product, and has asked for all of them.
    everything: Option<bool>,
}

impl Known {
    fn new(connection: ConnectionId) -> Self {
        let (subscribed, ended, resumed) = Default::default();
        let (applied, due) = (Vec::new(), Vec::new());
        Self { connection, subscribed, applied, due, ended, resumed, pulls: 0, everything: None }
    }

    /// Gives a command; whether all of it is done at once.
    fn command(&mut self, world: &mut World, operation: Operation, products: &[u64]) -> bool {
        let number = u32::try_from(self.applied.len()).unwrap();
        let products = match operation {
            Operation::SubscribeAll { .. } | Operation::UnsubscribeAll => &[],
            _ => products,
        };
        let all = match operation {
            Operation::SubscribeAll { lists } => {
                let was = self.everything.replace(lists || self.everything == Some(true));
                usize::from(was.is_none())
            }
            Operation::UnsubscribeAll => {
                self.ended.extend(0..PRODUCTS);
                self.resumed.clear();
                usize::from(self.everything.take().is_some()) + std::mem::take(&mut self.subscribed).len()
            }
            _ => 0,
        };
        let changed = products.iter().filter(|&&product| match operation {
            Operation::Subscribe => self.subscribed.insert(product),
            Operation::Unsubscribe => self.subscribed.remove(&product),
            Operation::Count => self.subscribed.contains(&product),
            Operation::SubscribeAll { .. } | Operation::UnsubscribeAll => unreachable!("they name none"),
        });
        self.applied.push((number, all + changed.count()));
        // Changes that were cast before and are still under way may come or not.
        self.due.clear();
        if operation == Operation::Unsubscribe && self.everything.is_none() {
            self.ended.extend(products);
            self.resumed.retain(|product| !products.contains(product));
        }
        let recorder = world.recorder(self.connection);
        recorder.is_everything = self.everything.is_some();
        match operation {
            Operation::SubscribeAll { lists: true } => drop(recorder.lists.insert(number)),
            Operation::UnsubscribeAll => (recorder.pages, recorder.page) = (Vec::new(), None),
            _ => {}
        }
        world.command(self.connection, number, operation, products);
        world.recorder(self.connection).applied.len() == self.applied.len()
    }

    /// Subscribes with versions: from then on it shows what is there. Returns whether all of it is done at once.
    fn resume(&mut self, world: &mut World, products: &[u64]) -> bool {
        let number = u32::try_from(self.applied.len()).unwrap();
        let changed = products.iter().filter(|&&product| self.subscribed.insert(product)).count();
        self.applied.push((number, changed));
        self.due.clear();
        self.ended.retain(|product| !products.contains(product));
        self.resumed.extend(products);
        world.resume(self.connection, number, products);
        world.recorder(self.connection).applied.len() == self.applied.len()
    }

    /// Checks, once everything is settled: each command was answered once and right, the shards have what it asked for,
    /// versions only grew, and what was due has come.
    fn check(&mut self, world: &mut World) {
        let mut applied = world.recorder(self.connection).applied.clone();
        applied.sort_unstable();
        if world.is_begun || self.everything.is_none() {
            assert_eq!(applied, self.applied);
        }
        assert_eq!(world.subscribed(self.connection), self.subscribed);
        let (is_begun, is_healed, rows) = (world.is_begun, world.epoch > 0, world.rows.clone());
        let recorder = world.recorder(self.connection);
        assert!(recorder.waiting.is_empty() && !recorder.is_told, "what was pushed was flushed");
        assert_eq!(recorder.is_live, is_begun);
        if is_begun {
            assert!(recorder.pulls.is_empty(), "no answer: {recorder:?}");
            for (number, &version) in &recorder.shown {
                let is_told = self.subscribed.contains(number) || self.everything.is_some();
                if is_told && !self.ended.contains(number) {
                    assert_eq!(version, rows.get(number).copied().unwrap_or_default(), "{number}: {recorder:?}");
                }
            }
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
            // Who comes back to a product may be healed of what it was told before.
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
}

fn check_all(known: &mut [Known], world: &mut World) {
    for known in known {
        known.check(world);
    }
    check_all_shards(world);
}

/// Lives through these steps.
fn live(steps: &[Step], shards: usize, products_in_a_slice: usize) {
    let mut world = World::with_slices(shards, commands::JOB_COST + products_in_a_slice);
    let mut known: Vec<Known> = Vec::new();
    let mut settled = true;
    for step in steps {
        match step.clone() {
            Step::Open(core) => {
                let connection = world.open(core);
                known.push(Known::new(connection));
            }
            Step::Command(..) | Step::Resume(..) | Step::Close(_) | Step::Pull(..) if known.is_empty() => {}
            Step::Pull(number, products, resumes) => {
                let place = number % known.len();
                let Known { connection, pulls, .. } = &mut known[place];
                world.pull(*connection, *pulls, &products, resumes);
                *pulls += u32::try_from(products.len()).unwrap();
            }
            Step::Lose => {
                world.lose();
                settled = false;
            }
            Step::Begin(is_new_epoch) => {
                world.begin(is_new_epoch);
                // Changes of the epoch before mean nothing.
                for known in &mut known {
                    known.due.clear();
                }
                settled = false;
            }
            Step::Read => drop(world.read()),
            Step::HandOver => world.hand_over(),
            Step::AskForPages => drop(world.ask_for_pages()),
            Step::PullListed => drop(world.pull_listed()),
            Step::Command(number, operation, products) => {
                let place = number % known.len();
                settled &= known[place].command(&mut world, operation, &products);
            }
            Step::Resume(number, products) => {
                let place = number % known.len();
                settled &= known[place].resume(&mut world, &products);
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
                    known.due.retain(|(product, _)| *product != number);
                }
            }
            Step::Cast(number) if world.epoch > 0 && !world.is_begun => world.commit(number),
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
    world.settle();
    assert!(world.hub.is_live());
    check_all(&mut known, &mut world);
    for Known { connection, .. } in known {
        world.core(connection.core.0).remove(connection.key);
    }
    world.settle();
    world.assert_empty();
}

proptest! {
    #[test]
    fn everybody_gets_the_changes_of_what_they_subscribed_to(
        steps in steps(),
        shards in 1usize..8,
        products_in_a_slice in 1usize..6,
    ) {
        live(&steps, shards, products_in_a_slice);
    }
}

/// Each core hears of the beginning, and reads, in its own time.
#[test]
fn readers_are_told_that_the_source_is_back_once_every_core_has_healed() {
    let mut world = World::new(8);
    world.begin(false);
    let connection = world.open(0);
    world.command(connection, 0, Operation::Subscribe, &(0..PRODUCTS).collect::<Vec<u64>>());
    world.settle();
    for number in 0..PRODUCTS {
        world.cast(number);
    }
    world.settle();
    world.lose();
    world.settle();
    assert!(!world.recorder(connection).is_live);
    (0..PRODUCTS).for_each(|number| world.commit(number));
    world.begin(false);
    while world.process(0, usize::MAX) | world.work(0) | world.read() {
        world.hand_over();
    }
    assert!(!world.recorder(connection).is_live, "the other cores have not told what was missed");
    world.settle();
    let rows = world.rows.clone();
    let recorder = world.recorder(connection);
    assert!(recorder.is_live);
    assert_eq!(recorder.shown, rows);
}

#[test]
fn a_message_for_an_earlier_connection_never_reaches_a_later_one() {
    let mut world = World::new(1);
    let first = world.open(1);
    world.command(first, 0, Operation::Subscribe, &[1]);
    world.settle();
    world.cast(1);
    world.process(0, 1);
    world.core(1).remove(first.key);
    let second = world.open(1);
    let slot = |key: SlotKey| key.data().as_ffi() & u64::from(u32::MAX);
    assert_eq!(slot(second.key), slot(first.key));
    world.settle();
    assert!(world.recorder(second).flushed.is_empty());
    world.core(1).remove(second.key);
    world.settle();
    world.assert_empty();
}

#[test]
fn a_burst_is_flushed_once() {
    let mut world = World::new(1);
    let connection = world.open(0);
    world.command(connection, 0, Operation::Subscribe, &[1, 2]);
    let versions = [(1, world.cast(1)), (2, world.cast(2)), (1, world.cast(1))];
    world.process(0, 3);
    world.process(0, 3);
    let [first, second, third] = versions;
    assert_eq!(world.recorder(connection).flushed, [first, third, second], "what is of one product comes together");
}

#[test]
fn it_is_known_how_many_frames_went_out_with_each_flush() {
    let mut world = World::new(1);
    for _ in 0..3 {
        let connection = world.open(0);
        world.command(connection, 0, Operation::Subscribe, &[1, 2]);
    }
    let mut frames_per_flush = |changes: &[u64]| {
        for &number in changes {
            world.cast(number);
        }
        let inbox = &mut world.inboxes[0];
        let mut batch: Vec<Message> = std::iter::from_fn(|| inbox.messages.try_recv().ok()).collect();
        world.cores[0].process(&mut batch)
    };
    assert_eq!(frames_per_flush(&[1]), 1, "one that comes alone is flushed as it is pushed");
    assert_eq!(frames_per_flush(&[1, 2, 1, 1]), 4);
    assert_eq!(frames_per_flush(&[3, 3]), 0, "nobody is subscribed");
}

#[test]
fn a_large_command_and_a_large_close_leave_a_turn_to_others_after_each_slice() {
    let mut world = World::new(1);
    let (large, small) = (world.open(0), world.open(0));
    let products: Vec<u64> = (0..SLICE_COST as u64 * 10).collect();
    world.command(large, 0, Operation::Subscribe, &products);
    world.work(0);
    let done = world.cores[0].shards[0].index().products_len();
    assert!((1..=SLICE_COST).contains(&done), "{done} products in one slice");
    world.command(small, 0, Operation::Subscribe, &[1]);
    world.command(small, 1, Operation::Subscribe, &[2]);
    assert_eq!(world.recorder(small).applied, [(0, 1), (1, 1)], "little is done at once");
    world.settle();
    assert_eq!(world.recorder(large).applied, [(0, products.len())]);
    world.core(0).remove(large.key);
    let left = world.cores[0].shards[0].index().products_len();
    assert!((products.len() - SLICE_COST..products.len()).contains(&left), "{left} products after one slice");
    world.settle();
    assert_eq!(world.cores[0].shards[0].index().products_len(), 2);
}

#[test]
fn small_commands_beyond_a_turns_budget_wait_for_the_next() {
    let mut world = World::new(1);
    let connection = world.open(0);
    for (number, _) in (0..).zip(0..SLICE_COST) {
        world.command(connection, number, Operation::Count, &[1]);
    }
    let done = world.recorder(connection).applied.len();
    assert!((1..SLICE_COST / commands::JOB_COST).contains(&done), "{done} commands at once");
    world.settle();
    assert_eq!(world.recorder(connection).applied.len(), SLICE_COST);
}

#[test]
fn the_commands_of_one_turn_go_to_another_core_together() {
    let mut world = World::new(1);
    let connection = world.open(1);
    for number in 0..8 {
        world.command(connection, number, Operation::Subscribe, &[u64::from(number)]);
    }
    world.process(1, usize::MAX);
    assert!(matches!(world.inboxes[0].messages.try_recv(), Ok(Message::Orders(orders)) if orders.len() == 8));
    assert!(world.inboxes[0].messages.try_recv().is_err());
}

/// A world of so many rows on one shard, with a connection that is told of all of them.
fn with_rows(rows: u64) -> (World, ConnectionId) {
    let mut world = World::new(1);
    (0..rows).for_each(|number| world.commit(number));
    world.begin(false);
    let connection = world.open(0);
    world.recorder(connection).lists.insert(0);
    world.recorder(connection).is_everything = true;
    world.command(connection, 0, Operation::SubscribeAll { lists: true }, &[]);
    (world, connection)
}

#[test]
fn a_list_of_every_product_is_told_page_by_page_and_each_costs_a_part_of_a_slice() {
    const ROWS: u64 = 1000;
    let (mut world, first) = with_rows(ROWS);
    while world.recorder(first).applied.is_empty() {
        world.turn();
        world.read();
        world.hand_over();
    }
    assert_eq!(world.recorder(first).listed, [], "nothing is listed before it is asked for");
    let readers: Vec<ConnectionId> = (0..20).map(|_| world.open(0)).collect();
    for &reader in &readers {
        world.recorder(reader).lists.insert(0);
        world.recorder(reader).is_everything = true;
        world.command(reader, 0, Operation::SubscribeAll { lists: true }, &[]);
    }
    let listed = |world: &mut World| -> usize { readers.iter().map(|&it| world.recorder(it).listed.len()).sum() };
    let (mut before, mut turns) = (0, 0);
    while before < readers.len() * 1000 {
        world.ask_for_pages();
        world.turn();
        let now = listed(&mut world);
        assert!(now - before <= SLICE_COST, "{} products are listed in one turn", now - before);
        (before, turns) = (now, turns + 1);
        assert!(turns < 1000, "{now} are listed");
    }
    let all: Vec<ProductId> = (0..ROWS).map(product).collect();
    for reader in readers {
        assert_eq!(world.recorder(reader).listed, all);
    }
}

#[test]
fn what_is_kept_for_everybody_is_forgotten_slice_by_slice_when_the_last_has_left() {
    let (mut world, connection) = with_rows(1000);
    world.settle();
    let kept = |world: &World| world.hub.rows_kept().load(Ordering::Relaxed);
    assert_eq!(kept(&world), 1000);
    world.core(0).remove(connection.key);
    assert_eq!(kept(&world), 1000, "the end of a connection costs as much as it had");
    world.work(0);
    assert!((1000 - SLICE_COST..1000).contains(&kept(&world)), "{} are kept", kept(&world));
    // Who comes meanwhile finds the rest, and the store lists the others.
    let next = world.open(1);
    world.recorder(next).lists.insert(0);
    world.recorder(next).is_everything = true;
    world.command(next, 0, Operation::SubscribeAll { lists: true }, &[]);
    world.settle();
    assert_eq!((kept(&world), world.recorder(next).shown.len()), (1000, 1000));
    world.core(1).remove(next.key);
    world.settle();
    world.assert_empty();
}

#[test]
fn nobody_else_is_told_of_every_product_while_more_rows_are_kept_than_may_be() {
    let (mut world, first) = with_rows(3);
    world.cores.iter_mut().for_each(|core| core.everything.keep(3));
    world.settle();
    assert_eq!(world.recorder(first).applied, [(0, 1)]);
    world.cast(3);
    world.settle();
    let late = world.open(1);
    world.recorder(late).is_everything = true;
    let ask = |world: &mut World, connection: ConnectionId, number: u32| {
        world.recorder(connection).lists.insert(number);
        world.command(connection, number, Operation::SubscribeAll { lists: true }, &[]);
        world.settle();
    };
    ask(&mut world, late, 0);
    assert_eq!(world.recorder(late).refused, [0]);
    assert_eq!(world.recorder(late).applied, []);
    ask(&mut world, first, 1);
    assert_eq!(world.recorder(first).applied, [(0, 1), (1, 0)], "who has it keeps it, and may list again");
    assert_eq!(world.recorder(first).shown.len(), 4);
    world.cast(4);
    world.settle();
    assert!(world.recorder(first).shown.contains_key(&4) && !world.recorder(late).shown.contains_key(&4));
    (0..2).for_each(|number| world.delete(number));
    world.settle();
    ask(&mut world, late, 1);
    assert_eq!(world.recorder(late).applied, [(1, 1)], "there is room again");
}

/// A reader that is told of every product may ask for ids that no row has: they are not kept.
#[test]
fn products_that_do_not_exist_are_not_kept_since_somebody_pulled_them() {
    let (mut world, connection) = with_rows(2);
    world.settle();
    world.pull(connection, 0, &[7, 8, 9], false);
    world.settle();
    assert_eq!(world.recorder(connection).shown.get(&8), Some(&0));
    assert_eq!(world.hub.rows_kept().load(Ordering::Relaxed), 2);
}

#[test]
fn rows_that_went_while_changes_were_missed_or_rows_were_listed_are_not_kept() {
    let (mut world, connection) = with_rows(1000);
    let kept = |world: &World| world.hub.rows_kept().load(Ordering::Relaxed);
    while kept(&world) < 400 {
        world.turn();
        world.read();
        world.hand_over();
    }
    (0..100).for_each(|number| world.delete(number));
    world.settle();
    assert_eq!(kept(&world), 900);
    world.lose();
    (100..500).for_each(|number| world.delete(number));
    world.begin(false);
    world.settle();
    assert_eq!(kept(&world), 500);
    let rows = world.rows.clone();
    assert!(world.recorder(connection).shown.iter().filter(|(_, version)| **version > 0).eq(&rows));
}
