//! One thread's share of the work: its shards, and the connections that it delivers to.
//!
//! Everything here belongs to one thread and needs no lock. Other cores are reached only by messages, and nobody waits
//! for room in an inbox.

mod commands;
mod everything;
mod revocations;
mod tables;
mod truth;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use slotmap::SlotMap;

use self::everything::Everything;
pub(super) use self::revocations::Revoking;
pub use self::tables::TableStandings;
use self::truth::{Health, TELL_COST};
use super::cast_run::CastRuns;
use super::hub::Hub;
use super::message::{
    Answer, CastRun, Delivery, Differing, History, Job, Listed, Loaded, Message, Order, Pull, Pulled,
};
use super::shard::{Newest, Output, Shard};
use super::under_way::UnderWay;
use super::work::WorkQueue;
use super::{ConnectionId, CoreId, CoreSubscribers, Keys, SlotKey};
use crate::metrics::CoreMetrics;
use crate::model::epoch::Epoch;
use crate::model::table::{TableId, Tables};
use crate::model::topic::{Subject, Subjects, Topic};
use crate::wire::frame::{Frame, FrameRun};

/// The most that a slice of work costs, where one topic costs 1: about 50 µs
/// (`cargo bench --bench timings -- index`).
const SLICE_COST: usize = 256;

/// The most slices of rows that were read whose frames go out with one write to each connection. Rows that were read
/// after a loss are of many topics and few connections each: of a slice alone, each write would carry one frame.
const SLICES_OF_A_FLUSH: usize = 16;

/// The bytes of the values that all shards remember, where nothing else is said.
pub const LAST_VALUES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The receiver of a core's deliveries. All its methods are called on the core's own thread.
pub trait Subscriber {
    /// Takes changes of one topic, to be sent at the next flush.
    fn push(&mut self, run: &CastRun);
    /// Sends the waiting bytes, as far as they can be sent without blocking.
    fn flush(&mut self);
    /// Takes changes of one topic and sends them at once: for those that came alone.
    fn push_and_flush(&mut self, run: &CastRun) {
        self.push(run);
        self.flush();
    }
    /// Learns that its command with this number is carried out in all shards, and the number of the topics that were
    /// new, had been subscribed to, or were counted.
    fn applied(&mut self, number: u32, topics: usize);
    /// Learns that its command with this number is not carried out, since there are more rows than may be kept for those
    /// who are told of every topic.
    fn refused(&mut self, number: u32) {
        let _ = number;
    }
    /// Learns topics of its command with this number whose newest versions are not those that it knows, or may not be,
    /// before the command is applied.
    fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        let _ = (number, topics);
    }
    /// Learns rows to which it is subscribed no more, before the command that revoked them is applied.
    fn revoked(&mut self, revoked: Subjects) {
        let _ = revoked;
    }
    /// Learns the newest version that the shards of one core know, before the command that lists all topics is applied;
    /// or a page of the list, of which it is not flushed.
    fn listed(&mut self, listed: Listed) {
        let _ = listed;
    }
    /// Returns whether this answer is to its pull that is under way.
    fn awaits(&self, answer: &Pulled) -> bool {
        let _ = answer;
        true
    }
    /// Takes the answer to one of its pulls, to be sent at the next flush.
    fn pulled(&mut self, answer: Pulled) {
        let _ = answer;
    }
    /// Learns that from here on changes may be missing, or that all that was missed has been pushed. A flush follows.
    fn live(&mut self, is_live: bool) {
        let _ = is_live;
    }
    /// Learns that all versions from here on are of this epoch. A flush follows.
    fn epoch(&mut self, epoch: Epoch) {
        let _ = epoch;
    }
    /// Learns the same as with [`Subscriber::live`] of one table. A flush follows.
    fn table_live(&mut self, table: TableId, is_live: bool) {
        let _ = (table, is_live);
    }
    /// Learns that all versions of a table from here on are of this epoch, until one of all begins. A flush follows.
    fn table_epoch(&mut self, table: TableId, epoch: Epoch) {
        let _ = (table, epoch);
    }
}

/// The reader of the rows that shards do not know. None of its methods waits.
pub trait Reads: fmt::Debug {
    /// Has topics read for the shards of a core, each under the number that the answer, one for each, is to carry
    /// ([`Hub::loaded`]). The read begins after this call.
    fn wish(&self, core: CoreId, topics: Vec<(Subject, u32)>);
    /// Has the rows of a table listed for a core ([`Hub::list`]), or not any more. Every listing that the core was
    /// promised before is void.
    fn watch(&self, core: CoreId, table: TableId, watch: Option<Watch>);
    /// Learns that a core has taken the rows that it was handed last for its watch with this number: there is room for
    /// others.
    fn taken(&self, core: CoreId, table: TableId, number: u32);
    /// Learns that a row of a table was read whose version is below the one that was known when it was wished for: the
    /// history was replaced.
    fn regressed(&self, table: TableId);
}

/// A core's wish to know the version of every row that the store has of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its number, which the rows carry.
    pub number: u32,
    /// True if it may be refused, since nobody is promised every topic yet.
    pub may_refuse: bool,
}

/// One core's state.
#[derive(Debug)]
pub struct Core<S> {
    id: CoreId,
    hub: Hub,
    /// The shards that this core owns, each at its [place](Hub::place_of).
    shards: Vec<Shard>,
    /// The rows that were read for the shards and that they are yet to be given.
    rows: VecDeque<Loaded>,
    /// The results of the shards that are to be passed on.
    out: Output,
    /// The way to the loader; without one, what is to be read is waited for.
    loader: Option<Box<dyn Reads>>,
    /// Boxed, so that a growing table moves pointers and reserves no room for connections that do not exist.
    seats: SlotMap<SlotKey, Box<Seat<S>>>,
    /// The casts of this batch, until they are delivered.
    casts: CastRuns,
    /// True if this batch is one message, whose frames are written as they are pushed.
    is_alone: bool,
    /// The number of frames that this batch has brought to connections, and the number of flushes at once that it took.
    frames: usize,
    flushes: usize,
    /// The connections that got a frame in this batch and are to be flushed.
    touched: Vec<SlotKey>,
    /// The number of slices of work since the last flush.
    unflushed_slices: usize,
    /// The times at which the changes of this batch were committed.
    committed: Vec<Instant>,
    /// The work that the shards of this core are still to do.
    work: WorkQueue<Job>,
    /// The commands of this core's connections that other cores have parts of.
    under_way: UnderWay,
    /// The messages that wait to be sent to each core.
    outgoing: Vec<Outgoing>,
    /// The most that is done in one turn: a slice of the work, and as much again at once.
    slice_cost: usize,
    /// The cost of the work that is still done at once before the next turn.
    at_once_cost: usize,
    /// True if a turn has begun, or the message that brings it is on its way.
    is_turn_asked: bool,
    health: Health,
    everything: Everything,
    tables: self::tables::Tables,
    /// The history that this core's connections were told. Another core may be ahead of this one's shards.
    told: History,
    metrics: CoreMetrics,
}

/// The output of one turn for another core, in one message of each kind.
#[derive(Debug, Default)]
struct Outgoing {
    orders: Vec<Order>,
    differing: Vec<Differing>,
    revoked: Vec<(SlotKey, Subjects)>,
    answers: Vec<Answer>,
    /// Answers to pulls, of this history.
    pulled: Vec<(SlotKey, Pulled)>,
    listed: Vec<(SlotKey, Listed)>,
    history: History,
    /// The pulls at hand of topics that the core has the shards of.
    pulls: Vec<Pull>,
    /// The topics of the command at hand that the core has the shards of, and the versions that are known of them.
    topics: Subjects,
    known: Vec<u64>,
}

/// A connection's place on its core.
#[derive(Debug)]
struct Seat<S> {
    subscriber: S,
    touched: bool,
    /// True if another core was ever given a part of its commands.
    is_known_elsewhere: bool,
}

impl<S> Core<S> {
    /// The bytes that a connection's place takes.
    pub const SEAT_BYTES: usize = size_of::<Seat<S>>();
}

impl<S: Subscriber> Core<S> {
    /// Returns the core with this id, without connections. Nothing is read for it before [`Core::with_loader`].
    #[must_use]
    pub fn new(id: CoreId, hub: Hub, metrics: CoreMetrics) -> Self {
        let bytes_max = LAST_VALUES_BYTES_MAX / hub.shards();
        let shards = (0..hub.shards()).filter(|&shard| hub.core_of(shard) == id);
        let shards = shards.map(|_| Shard::new(bytes_max, hub.tables().clone()).counting(hub.rows_kept()));
        let outgoing = (0..hub.cores()).map(|_| Outgoing::default()).collect();
        let (hub_cores, everything) = (hub.cores(), Everything::new(hub.rows_kept()));
        Self {
            id,
            shards: shards.collect(),
            rows: VecDeque::new(),
            out: Output::default(),
            loader: None,
            hub,
            seats: SlotMap::with_key(),
            casts: CastRuns::default(),
            is_alone: false,
            frames: 0,
            flushes: 0,
            touched: Vec::new(),
            unflushed_slices: 0,
            committed: Vec::new(),
            work: WorkQueue::new(),
            under_way: UnderWay::default(),
            outgoing,
            slice_cost: SLICE_COST,
            at_once_cost: SLICE_COST,
            is_turn_asked: false,
            health: Health::new(hub_cores),
            everything,
            tables: self::tables::Tables::default(),
            told: History::default(),
            metrics,
        }
    }

    /// Has the core's shards wish for what they are to read.
    #[must_use]
    pub fn with_loader(mut self, loader: impl Reads + 'static) -> Self {
        self.loader = Some(Box::new(loader));
        self
    }

    /// Has the core's shards remember values of their part of so many bytes, which are for all shards of the process.
    #[must_use]
    pub fn with_last_values(mut self, bytes_max: usize) -> Self {
        let bytes_max = bytes_max / self.hub.shards();
        self.shards.iter_mut().for_each(|shard| shard.remember(bytes_max));
        self
    }

    /// Refuses to tell further connections of every topic while the shards of the process keep more than so many rows for
    /// those who are.
    #[must_use]
    pub const fn with_rows_kept(mut self, rows_max: usize) -> Self {
        self.everything.keep(rows_max);
        self
    }

    /// Returns the tables whose rows are cast.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        self.hub.tables()
    }

    /// Adds the connection that `build` makes of its key.
    pub fn insert_with(&mut self, build: impl FnOnce(SlotKey) -> S) -> SlotKey {
        self.metrics.connections.inc();
        self.metrics.connections_opened.inc();
        self.seats
            .insert_with_key(|key| Box::new(Seat { subscriber: build(key), touched: false, is_known_elsewhere: false }))
    }

    /// Returns a connection, if it still lives.
    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut S> {
        self.seats.get_mut(key).map(|seat| &mut seat.subscriber)
    }

    /// Returns all connections.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut S)> {
        self.seats.iter_mut().map(|(key, seat)| (key, &mut seat.subscriber))
    }

    /// Returns the number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Returns whether there are no connections.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Removes a connection and ends its subscriptions in all shards: none of its commands is carried out after that.
    pub fn remove(&mut self, key: SlotKey) -> Option<S> {
        let seat = self.seats.remove(key)?;
        self.metrics.connections.dec();
        self.close(key, seat.is_known_elsewhere);
        Some(seat.subscriber)
    }

    /// Carries out all messages of a batch, then flushes each connection that got a frame, once. Returns the number of
    /// frames that went out with each flush.
    pub(super) fn process(&mut self, batch: &mut Vec<Message>) -> usize {
        // The turn goes on until its work is done.
        self.is_turn_asked = true;
        // Frames of the slices before may wait for a flush.
        self.is_alone = batch.len() == 1 && self.touched.is_empty();
        (self.frames, self.flushes) = (0, 0);
        for message in batch.drain(..) {
            let message = match message {
                Message::Cast(cast, permit) => {
                    self.casts.add(cast, permit);
                    continue;
                }
                message => message,
            };
            // Changes cast before a command are for those who were subscribed before it.
            self.deliver_casts();
            match message {
                Message::Cast(..) => unreachable!("it was taken"),
                Message::Deliver(delivery, keys) => self.deliver(&delivery, &keys),
                Message::Orders(orders) => orders.into_iter().for_each(|order| self.take_up(order)),
                Message::Differ(all) => all.into_iter().for_each(|differing| self.differ(differing)),
                Message::Revoked(all) => all.into_iter().for_each(|(key, revoked)| self.revoked(key, revoked)),
                Message::Answers(answers) => answers.into_iter().for_each(|answer| self.answered(&answer)),
                Message::Gap => self.lose(),
                Message::Began(term) => self.begin(term),
                Message::Table(term) => self.take_table_term(term),
                Message::Healed(core, term) => self.healed(core, term),
                Message::TableHealed(core, table, number) => self.table_healed(core, table, number),
                Message::Loaded(rows) => self.rows.extend(rows),
                Message::Listing(table, number, listing) => self.everything.take(table, number, listing),
                Message::Listed(lists) => lists.into_iter().for_each(|(key, listed)| self.listed(key, listed)),
                Message::Pulled(history, answers) => self.pulled(history, answers),
                Message::Turn => {}
            }
        }
        self.deliver_casts();
        self.is_alone = false;
        self.flushes += self.touched.len();
        self.flush();
        self.send_waiting();
        self.tell_if_healed();
        self.frames / self.flushes.max(1)
    }

    fn flush(&mut self) {
        self.unflushed_slices = 0;
        for key in self.touched.drain(..) {
            if let Some(seat) = self.seats.get_mut(key) {
                seat.touched = false;
                seat.subscriber.flush();
            }
        }
        if !self.committed.is_empty() {
            let flushed_at = Instant::now();
            for committed_at in self.committed.drain(..) {
                self.metrics.commit_to_socket.observe((flushed_at - committed_at).as_secs_f64());
            }
        }
    }

    /// Gives the casts of this batch to their subscribers: here at once, elsewhere with one message per core.
    fn deliver_casts(&mut self) {
        let mut casts = std::mem::take(&mut self.casts);
        for mut run in casts.drain() {
            let topic = run.subject.topic();
            let shard = self.hub.shard_of(topic);
            debug_assert_eq!(self.hub.core_of(shard), self.id);
            let place = self.hub.place_of(shard);
            let shard = &mut self.shards[place];
            let newest = Newest { is_whole: run.is_whole, is_deletion: run.is_deletion };
            shard.cast(&run.subject, &mut run.frames, newest, &mut self.out);
            // One that is told to nobody is below what is known, or is of another history of the same version.
            let deleted_at = (run.is_deletion && !run.frames.is_empty()).then_some(run.newest);
            if !run.frames.is_empty() {
                let subscribers = self.everything.audience(shard, topic);
                if !subscribers.is_empty() {
                    let (delivery, outgoing) = (run.join(self.health.term.history), &mut self.outgoing);
                    let (delivery, own) = send_to_others(delivery, &subscribers, self.id, &self.hub, outgoing);
                    drop(subscribers);
                    if let Some(keys) = own {
                        self.deliver(&delivery, &keys);
                    }
                }
            }
            if let Some(version) = deleted_at {
                self.shards[place].deleted(topic, version);
            }
            if !self.out.is_empty() {
                self.pass_on();
            }
        }
        self.casts = casts;
    }

    fn deliver(&mut self, delivery: &Delivery, keys: &[SlotKey]) {
        let Delivery { run, history, is_gone, permits } = delivery;
        if *history != self.told {
            self.turn_to(*history);
            if self.tables.is_void(history.number, run.subject.topic().table()) {
                // A row that exists is read in the new epoch. One that went before has perhaps been forgotten by its shard.
                if *is_gone {
                    self.deliver_absence(&run.subject, keys);
                }
                return;
            }
        }
        self.committed.extend(permits.iter().map(|permit| permit.committed_at));
        self.frames += keys.len() * run.frames.frames();
        self.flushes += if self.is_alone { keys.len() } else { 0 };
        for &key in keys {
            // A connection that closed leaves its key in lists that were in flight.
            let Some(seat) = self.seats.get_mut(key) else { continue };
            if self.is_alone {
                seat.subscriber.push_and_flush(run);
                continue;
            }
            seat.subscriber.push(run);
            if !seat.touched {
                seat.touched = true;
                self.touched.push(key);
            }
        }
    }

    /// Tells connections that a row does not exist, of which no version is known in their epoch.
    fn deliver_absence(&mut self, subject: &Subject, keys: &[SlotKey]) {
        let table = self.hub.tables().get(subject.topic().table());
        let absence = Frame::of_absence(&table, &subject.key(), 0);
        let run = CastRun::new(subject.clone(), FrameRun::one(0, absence));
        for &key in keys {
            if let Some(seat) = self.seats.get_mut(key) {
                seat.subscriber.push(&run);
                self.touch(key);
            }
        }
    }

    /// Has a connection flushed at the end of the batch.
    fn touch(&mut self, key: SlotKey) {
        if let Some(seat) = self.seats.get_mut(key)
            && !seat.touched
        {
            seat.touched = true;
            self.touched.push(key);
        }
    }

    fn connection(&self, key: SlotKey) -> ConnectionId {
        ConnectionId { core: self.id, key }
    }
}

/// Sends a delivery to the other cores that have subscribers; returns it with the subscribers of this core.
fn send_to_others(
    delivery: Delivery,
    subscribers: &[CoreSubscribers],
    own_core: CoreId,
    hub: &Hub,
    outgoing: &mut [Outgoing],
) -> (Arc<Delivery>, Option<Arc<Keys>>) {
    let delivery = Arc::new(delivery);
    let mut own = None;
    for CoreSubscribers { core, keys } in subscribers {
        if *core == own_core {
            own = Some(Arc::clone(keys));
        } else {
            // Answers of this turn are older than the change, and go before it.
            outgoing[usize::from(core.0)].send_answers(hub, *core);
            hub.send(*core, Message::Deliver(Arc::clone(&delivery), Arc::clone(keys)));
        }
    }
    (delivery, own)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
