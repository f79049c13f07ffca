//! The handle through which everything reaches the shards: [`Hub`].

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use siphasher::sip::SipHasher13;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::CoreId;
use super::message::{Beginning, Cast, CastPermit, Listing, Loaded, Message, TableTerm, TableWord, Term};
use crate::model::epoch::Epoch;
use crate::model::table::{TableId, Tables};
use crate::model::topic::Topic;

/// The most changes between ingest and the last core that delivers them, counted in units of [`UNIT_BYTES`]: it bounds
/// the cores' inboxes at 16 MiB of frames, beside the commands that their connections have under way.
const CAST_UNITS_MAX: u32 = 4096;
const UNIT_BYTES: usize = 4096;

/// Routes changes to the cores that own their shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inboxes: Vec<UnboundedSender<Message>>,
    tables: Tables,
    shards: usize,
    /// Hashes a topic to its shard.
    shard_hash: SipHasher13,
    cast_units: Arc<Semaphore>,
    /// The number of rows that all shards keep for those who are told of every topic.
    rows_kept: Arc<AtomicUsize>,
    told: Mutex<Told>,
    /// Of each core: the number of the history that its connections were told.
    history_by_core: Vec<AtomicU32>,
    /// Of each core: whether it is live.
    live_by_core: Vec<AtomicBool>,
    /// Wakes those that wait for a core to be live.
    went_live: Notify,
}

/// The words of the source that the cores were told.
#[derive(Debug, Default)]
struct Told {
    /// The last term.
    term: Term,
    /// The number of the last word on a table.
    tables: u32,
    /// The epochs that a core's connections may not have been told yet, by rising numbers.
    beginnings: Vec<Beginning>,
}

impl Told {
    /// Begins a history. Cores whose connections were told the one with the number `told` have all before it.
    fn begin(&mut self, table: Option<TableId>, epoch: Epoch, told: u32) {
        let history = &mut self.term.history;
        history.number += 1;
        history.epoch = if table.is_none() { Some(epoch) } else { history.epoch };
        self.beginnings.retain(|beginning| beginning.number > told);
        self.beginnings.push(Beginning { number: history.number, table, epoch });
    }
}

/// The receiving end of one core's messages.
#[derive(Debug)]
pub struct Inbox {
    /// The core that takes them.
    pub core: CoreId,
    pub(super) messages: UnboundedReceiver<Message>,
}

impl Hub {
    /// Returns a hub over this many cores and shards, both at least 1, with the inbox of each core. Nobody outside can tell
    /// which topics share a shard: strangers choose the ids, and would otherwise choose them all of one core.
    ///
    /// The hash is SipHash-1-3 with a key of this process. Faster ones keep the order in which ids stand: a stride found
    /// to stay in one shard would make as many such ids as are wanted.
    #[must_use]
    pub fn new(cores: u16, shards: usize, tables: Tables) -> (Self, Vec<Inbox>) {
        let random = RandomState::new();
        Self::with_key(cores, shards, tables, [random.hash_one(0), random.hash_one(1)])
    }

    /// Returns the same with topics spread over the shards by this key, for tests and counts that are to repeat.
    #[must_use]
    pub fn with_key(cores: u16, shards: usize, tables: Tables, key: [u64; 2]) -> (Self, Vec<Inbox>) {
        assert!(cores > 0 && shards > 0, "there is at least one core and one shard");
        let (inboxes, receivers) = (0..cores)
            .map(|core| {
                // Bounded by the units of casts and by the commands that a connection has under way: a full inbox
                // that waited could stop two cores that send to each other.
                #[allow(clippy::disallowed_methods)]
                let (inbox, messages) = mpsc::unbounded_channel();
                (inbox, Inbox { core: CoreId(core), messages })
            })
            .unzip();
        let shard_hash = SipHasher13::new_with_keys(key[0], key[1]);
        let cast_units = Arc::new(Semaphore::new(CAST_UNITS_MAX as usize));
        let live_by_core = (0..cores).map(|_| AtomicBool::new(false)).collect();
        (
            Self(Arc::new(Inner {
                inboxes,
                tables,
                shards,
                shard_hash,
                cast_units,
                rows_kept: Arc::default(),
                told: Mutex::default(),
                history_by_core: (0..cores).map(|_| AtomicU32::new(0)).collect(),
                live_by_core,
                went_live: Notify::new(),
            })),
            receivers,
        )
    }

    /// Sends a change to all subscribers of its topic; waits while too many changes are under way.
    pub async fn cast(&self, cast: Cast) {
        let units = u32::try_from(1 + cast.frame.len() / UNIT_BYTES).unwrap_or(u32::MAX).min(CAST_UNITS_MAX);
        let units = Arc::clone(&self.0.cast_units).acquire_many_owned(units).await;
        let units = units.expect("the semaphore is never closed");
        let permit = CastPermit { committed_at: cast.committed_at, _units: units };
        self.send(self.core_of(self.shard_of(cast.subject.topic())), Message::Cast(cast, permit));
    }

    /// Says that changes may have been missed: what the shards know of their topics may be old, until the next
    /// [`Hub::began`] and the loads that follow it.
    pub fn gap(&self) {
        for is_live in &self.0.live_by_core {
            is_live.store(false, Ordering::Relaxed);
        }
        self.send_to_all(|| Message::Gap);
    }

    /// Says that from here on every change is cast, with versions of this epoch. With another epoch than before, all
    /// versions told before mean nothing.
    pub fn began(&self, epoch: Epoch) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.term.number += 1;
        if told.term.history.epoch != Some(epoch) {
            told.begin(None, epoch, self.told_to_all());
        }
        self.send_to_all(|| Message::Began(told.term));
    }

    /// Says that changes of this table may have been missed, and that from here on none is: what has subscribers is read.
    pub fn missed(&self, table: TableId) {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell_of_table(told, table, TableWord::Missed);
    }

    /// Says that changes of this table may be missed from here on, until [`Hub::missed`] or [`Hub::table_began`].
    pub fn table_lost(&self, table: TableId) {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell_of_table(told, table, TableWord::Lost);
    }

    /// Says that changes of this table may have been missed, that none is from here on, and that its versions are of this
    /// epoch: all versions of it that were told before mean nothing.
    pub fn table_began(&self, table: TableId, epoch: Epoch) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.begin(Some(table), epoch, self.told_to_all());
        self.tell_of_table(told, table, TableWord::Began);
    }

    fn tell_of_table(&self, mut told: MutexGuard<'_, Told>, table: TableId, word: TableWord) {
        told.tables += 1;
        let term = TableTerm { table, number: told.tables, history: told.term.history, word };
        self.send_to_all(|| Message::Table(term));
    }

    /// Returns the number of the history that all cores' connections were told.
    fn told_to_all(&self) -> u32 {
        self.0.history_by_core.iter().map(|number| number.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Returns the epochs that began after the history with the number `told` up to that with the number `history`, in
    /// their order, and learns that a core's connections are told them.
    pub(super) fn beginnings(&self, core: CoreId, told: u32, history: u32) -> Vec<Beginning> {
        let all = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.history_by_core[usize::from(core.0)].store(history, Ordering::Release);
        all.beginnings.iter().filter(|its| told < its.number && its.number <= history).copied().collect()
    }

    /// Returns whether every change that was missed has been pushed to every subscriber, and none is being missed, as
    /// far as the cores have come.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.live_by_core.iter().all(|is_live| is_live.load(Ordering::Relaxed))
    }

    /// Returns once [`Hub::is_live`] is true.
    pub async fn until_live(&self) {
        loop {
            // Hears of every core that goes live after this, polled or not.
            let went_live = self.0.went_live.notified();
            if self.is_live() {
                return;
            }
            went_live.await;
        }
    }

    /// Learns whether a core is live.
    pub(super) fn set_live(&self, core: CoreId, is_live: bool) {
        self.0.live_by_core[usize::from(core.0)].store(is_live, Ordering::Relaxed);
        if is_live {
            self.0.went_live.notify_waiters();
        }
    }

    /// Hands a core the rows that its shards wished for. To be called once every change that their read saw was cast.
    pub fn loaded(&self, core: CoreId, rows: Vec<Loaded>) {
        self.send(core, Message::Loaded(rows));
    }

    /// Hands a core rows of a table, for its watch with this number. To be called once every change that their read saw
    /// was cast.
    pub fn list(&self, core: CoreId, table: TableId, number: u32, listing: Listing) {
        self.send(core, Message::Listing(table, number, listing));
    }

    /// Returns the tables whose rows are cast.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.0.tables
    }

    /// Returns the core that owns a topic's shard.
    #[must_use]
    pub fn core_of_topic(&self, topic: Topic) -> CoreId {
        self.core_of(self.shard_of(topic))
    }

    /// Waits until every change that was cast has been given to its subscribers.
    pub async fn settled(&self) {
        let all = self.0.cast_units.acquire_many(CAST_UNITS_MAX).await;
        drop(all.expect("the semaphore is never closed"));
    }

    pub(super) fn send_to_all(&self, message: impl Fn() -> Message) {
        for core in (0..).map(CoreId).take(self.cores()) {
            self.send(core, message());
        }
    }

    /// Returns the number of rows that all shards keep for those who are told of every topic, which they count.
    pub(super) fn rows_kept(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0.rows_kept)
    }

    /// Returns the number of cores.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.0.inboxes.len()
    }

    /// Returns the number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.0.shards
    }

    /// Returns the shard that owns a topic's subscriptions.
    pub(super) fn shard_of(&self, topic: Topic) -> usize {
        if self.0.shards == 1 {
            return 0;
        }
        let mut hasher = self.0.shard_hash;
        hasher.write_u64(topic.low());
        // The upper 32 bits of a topic of two such numbers: below the number of shards, without a division.
        let place = (hasher.finish() >> 32) * self.0.shards as u64;
        usize::try_from(place >> 32).expect("fewer than 2^32 shards")
    }

    /// Returns the core that owns a shard.
    pub(super) fn core_of(&self, shard: usize) -> CoreId {
        CoreId(u16::try_from(shard % self.cores()).expect("a core's number has 16 bits"))
    }

    /// Returns the place of a shard among those of its core.
    pub(super) fn place_of(&self, shard: usize) -> usize {
        shard / self.cores()
    }

    /// Sends a message to a core. A core that has ended takes none, and nobody waits for its answers then.
    pub(super) fn send(&self, core: CoreId, message: Message) {
        let _ = self.0.inboxes[usize::from(core.0)].send(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: usize = 8;

    /// Counts the topics of each shard.
    fn topics_by_shard(hub: &Hub, topics: impl IntoIterator<Item = Topic>) -> [usize; SHARDS] {
        let mut topics_by_shard = [0; SHARDS];
        for topic in topics {
            topics_by_shard[hub.shard_of(topic)] += 1;
        }
        topics_by_shard
    }

    fn topics() -> impl Iterator<Item = Topic> {
        (0..).map(Topic::of_narrow)
    }

    #[test]
    fn ids_in_a_row_and_multiples_spread_over_the_shards() {
        let (hub, _inboxes) = Hub::new(2, SHARDS, Tables::new());
        for factor in [1, 2, 8, 1000, 1 << 20, 1 << 32, 1 << 40] {
            let spread = topics_by_shard(&hub, (0..8000).map(|n| Topic::of_narrow(n * factor)));
            assert!(spread.iter().all(|topics| (800..1200).contains(topics)), "{factor}: {spread:?}");
        }
    }

    #[test]
    fn ids_that_fall_into_one_shard_under_one_key_spread_under_another() {
        let (known, _inboxes) = Hub::with_key(2, SHARDS, Tables::new(), [0, 1]);
        let chosen: Vec<_> = topics().filter(|&topic| known.shard_of(topic) == 0).take(8000).collect();
        assert_eq!(topics_by_shard(&known, chosen.iter().copied())[0], 8000);
        for hub in [Hub::with_key(2, SHARDS, Tables::new(), [0, 2]).0, Hub::new(2, SHARDS, Tables::new()).0] {
            let spread = topics_by_shard(&hub, chosen.iter().copied());
            assert!(spread.iter().all(|topics| (800..1200).contains(topics)), "{spread:?}");
        }
    }

    #[test]
    fn every_process_spreads_them_in_its_own_way() {
        let shards = |hub: &Hub| -> Vec<usize> { topics().take(100).map(|topic| hub.shard_of(topic)).collect() };
        assert_ne!(shards(&Hub::new(2, SHARDS, Tables::new()).0), shards(&Hub::new(2, SHARDS, Tables::new()).0));
    }
}
