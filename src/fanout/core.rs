//! One thread's share of the work: its shards, and the connections that it delivers to.
//!
//! Everything here belongs to one thread and needs no lock. Other cores are reached only by messages, and nobody waits
//! for room in an inbox.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotmap::SlotMap;
use tokio::time::timeout;

use super::cast_run::CastRuns;
use super::hub::{Hub, Inbox};
use super::idle::idle_time;
use super::message::{CastRun, Delivery, Message};
use super::pace::{Pace, gather_step, is_waste};
use super::{ConnectionId, CoreId, Operation, SlotKey, SubscriptionIndex};
use crate::metrics::CoreMetrics;
use crate::model::product::ProductId;

/// How many messages a core takes before it flushes: enough to join the writes of a burst, few enough that sockets
/// are read between bursts.
const BATCH_MAX: usize = 2048;

/// What a core delivers to. All of it is called on the core's own thread.
pub trait Subscriber {
    /// Takes changes of one product, to be sent at the next flush.
    fn push(&mut self, run: &CastRun);
    /// Sends what waits, as far as it can be without blocking.
    fn flush(&mut self);
    /// Takes changes of one product and sends them at once: for those that came alone.
    fn push_and_flush(&mut self, run: &CastRun) {
        self.push(run);
        self.flush();
    }
    /// Learns that the command that it gave is carried out in all shards.
    fn applied(&mut self, applied: Applied);
}

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many of its products were new, ended, or counted.
    pub products: usize,
    /// How many products the connection is subscribed to.
    pub subscriptions: usize,
}

/// One core's state.
#[derive(Debug)]
pub struct Core<S> {
    id: CoreId,
    hub: Hub,
    /// The shards that this core owns: shard `s` is at `s / cores`.
    shards: Vec<SubscriptionIndex>,
    /// Boxed, so that a growing table moves pointers and reserves no room for connections that do not exist.
    seats: SlotMap<SlotKey, Box<Seat<S>>>,
    /// What this batch casts, until it is delivered.
    casts: CastRuns,
    /// Whether this batch is one message, whose frames are written as they are pushed.
    is_alone: bool,
    /// How many frames this batch has brought to connections, and with how many flushes at once.
    frames: usize,
    flushes: usize,
    /// Who got a frame in this batch and is to be flushed.
    touched: Vec<SlotKey>,
    /// When the changes of this batch were committed.
    committed: Vec<Instant>,
    metrics: CoreMetrics,
}

/// A connection's place on its core.
#[derive(Debug)]
struct Seat<S> {
    subscriber: S,
    subscriptions: u32,
    /// The command that is being carried out; one at a time.
    pending: Option<Pending>,
    touched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    operation: Operation,
    answers_awaited: u32,
    products: u32,
}

impl<S> Core<S> {
    /// What a connection's place takes.
    pub const SEAT_BYTES: usize = size_of::<Seat<S>>();
}

impl<S: Subscriber> Core<S> {
    /// The core with this id, without connections.
    #[must_use]
    pub fn new(id: CoreId, hub: Hub, metrics: CoreMetrics) -> Self {
        let shards = (0..hub.shards()).filter(|&shard| hub.core_of(shard) == id).map(|_| SubscriptionIndex::new());
        Self {
            id,
            shards: shards.collect(),
            hub,
            seats: SlotMap::with_key(),
            casts: CastRuns::default(),
            is_alone: false,
            frames: 0,
            flushes: 0,
            touched: Vec::new(),
            committed: Vec::new(),
            metrics,
        }
    }

    /// Adds the connection that `build` makes of its key.
    pub fn insert_with(&mut self, build: impl FnOnce(SlotKey) -> S) -> SlotKey {
        self.metrics.connections.inc();
        self.metrics.connections_opened.inc();
        self.seats.insert_with_key(|key| {
            Box::new(Seat { subscriber: build(key), subscriptions: 0, pending: None, touched: false })
        })
    }

    /// A connection, if it still lives.
    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut S> {
        self.seats.get_mut(key).map(|seat| &mut seat.subscriber)
    }

    /// All connections.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut S)> {
        self.seats.iter_mut().map(|(key, seat)| (key, &mut seat.subscriber))
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether there are no connections.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// How many products a connection is subscribed to.
    pub fn subscriptions(&mut self, key: SlotKey) -> usize {
        self.seats.get_mut(key).map_or(0, |seat| seat.subscriptions as usize)
    }

    /// Removes a connection and ends its subscriptions in all shards.
    pub fn remove(&mut self, key: SlotKey) -> Option<S> {
        let seat = self.seats.remove(key)?;
        self.metrics.connections.dec();
        let connection = self.connection(key);
        self.close_in_shards(connection);
        if seat.subscriptions > 0 || seat.pending.is_some() {
            self.hub.send_to_others(self.id, || Message::Close(connection));
        }
        Some(seat.subscriber)
    }

    /// Carries a connection's command out, one at a time. The answer is `None` where other cores' shards take part;
    /// [`Subscriber::applied`] tells when they have.
    ///
    /// # Panics
    /// If the connection's last command is still being carried out.
    pub fn command(&mut self, key: SlotKey, operation: Operation, products: &[ProductId]) -> Option<Applied> {
        let connection = self.connection(key);
        let mut products_by_core: Vec<Vec<ProductId>> = vec![Vec::new(); self.hub.cores()];
        for &product in products {
            products_by_core[usize::from(self.hub.core_of(self.hub.shard_of(product)).0)].push(product);
        }
        let own = std::mem::take(&mut products_by_core[usize::from(self.id.0)]);
        let products = count(self.apply(connection, operation, &own));
        let mut pending = Pending { operation, answers_awaited: 0, products };
        for (core, products) in (0..).map(CoreId).zip(products_by_core) {
            if !products.is_empty() {
                pending.answers_awaited += 1;
                self.hub.send(core, Message::Command(connection, operation, products));
            }
        }
        let seat = self.seats.get_mut(key)?;
        assert!(seat.pending.is_none(), "one command at a time");
        seat.pending = Some(pending);
        seat.finish_command()
    }

    /// Carries out all messages of a batch, then flushes each connection that got a frame, once. How many frames went out
    /// with each flush.
    fn process(&mut self, batch: &mut Vec<Message>) -> usize {
        self.is_alone = batch.len() == 1;
        (self.frames, self.flushes) = (0, 0);
        for message in batch.drain(..) {
            let message = match message {
                Message::Cast(cast, permit) => {
                    self.casts.add(cast, permit);
                    continue;
                }
                message => message,
            };
            // What was cast before a command is for who was subscribed before it.
            self.deliver_casts();
            match message {
                Message::Cast(..) => unreachable!("it was taken"),
                Message::Deliver(delivery, keys) => self.deliver(&delivery, &keys),
                Message::Command(connection, operation, products) => {
                    let products = self.apply(connection, operation, &products);
                    self.hub.send(connection.core, Message::Applied(connection.key, products));
                }
                Message::Applied(key, products) => self.applied(key, products),
                Message::Close(connection) => self.close_in_shards(connection),
            }
        }
        self.deliver_casts();
        self.flushes += self.touched.len();
        self.flush();
        self.frames / self.flushes.max(1)
    }

    fn flush(&mut self) {
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

    /// Gives what this batch has cast to its subscribers: here at once, elsewhere with one message per core.
    fn deliver_casts(&mut self) {
        let mut casts = std::mem::take(&mut self.casts);
        for delivery in casts.drain() {
            let product = delivery.run.product;
            let delivery = Arc::new(delivery);
            let shard = self.hub.shard_of(product);
            debug_assert_eq!(self.hub.core_of(shard), self.id);
            let mut own = None;
            for subscribers in self.shards[shard / self.hub.cores()].subscribers(product) {
                if subscribers.core == self.id {
                    own = Some(Arc::clone(&subscribers.keys));
                } else {
                    let message = Message::Deliver(Arc::clone(&delivery), Arc::clone(&subscribers.keys));
                    self.hub.send(subscribers.core, message);
                }
            }
            if let Some(keys) = own {
                self.deliver(&delivery, &keys);
            }
        }
        self.casts = casts;
    }

    fn deliver(&mut self, delivery: &Delivery, keys: &[SlotKey]) {
        let Delivery { run, permits } = delivery;
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

    /// Carries a command out in this core's shards; how many products it changed or counted.
    fn apply(&mut self, connection: ConnectionId, operation: Operation, products: &[ProductId]) -> usize {
        let mut done = 0;
        for &product in products {
            let shard = &mut self.shards[self.hub.shard_of(product) / self.hub.cores()];
            let counts = match operation {
                Operation::Subscribe => shard.subscribe(connection, product),
                Operation::Unsubscribe => shard.unsubscribe(connection, product),
                Operation::Count => shard.contains(connection, product),
            };
            done += usize::from(counts);
        }
        match operation {
            Operation::Subscribe => self.metrics.subscriptions.inc_by(signed(done)),
            Operation::Unsubscribe => self.metrics.subscriptions.dec_by(signed(done)),
            Operation::Count => 0,
        };
        done
    }

    fn applied(&mut self, key: SlotKey, products: usize) {
        let Some(seat) = self.seats.get_mut(key) else { return };
        let pending = seat.pending.as_mut().expect("an answer has its command");
        pending.answers_awaited -= 1;
        pending.products += count(products);
        if let Some(applied) = seat.finish_command() {
            seat.subscriber.applied(applied);
        }
    }

    fn close_in_shards(&mut self, connection: ConnectionId) {
        let ended: usize = self.shards.iter_mut().map(|shard| shard.close(connection)).sum();
        self.metrics.subscriptions.dec_by(signed(ended));
    }

    fn connection(&self, key: SlotKey) -> ConnectionId {
        ConnectionId { core: self.id, key }
    }
}

impl<S> Seat<S> {
    /// Ends the command if all shards have answered.
    fn finish_command(&mut self) -> Option<Applied> {
        let Pending { operation, products, .. } = self.pending.take_if(|pending| pending.answers_awaited == 0)?;
        match operation {
            Operation::Subscribe => self.subscriptions += products,
            Operation::Unsubscribe => self.subscriptions -= products,
            Operation::Count => {}
        }
        Some(Applied { products: products as usize, subscriptions: self.subscriptions as usize })
    }
}

/// A seat keeps its counts in half words: there are very many seats.
fn count(products: usize) -> u32 {
    u32::try_from(products).expect("a command has fewer than 2^32 products")
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("fewer than 2^63 subscriptions")
}

/// Carries a core's messages out as they come. The core is borrowed only while a batch is processed.
///
/// A batch is taken twice: once more after everybody who is about to add to it had a turn, the tasks of this thread (they
/// read the requests that write) and the threads that share this processor (they commit and cast). It costs a change that
/// comes alone some microseconds before its first write; a change that does not come alone is spared a write of its own
/// to every subscriber. A core that is busy all the time gives them longer, at most `gather_max`.
pub async fn run<S: Subscriber>(core: Rc<RefCell<Core<S>>>, mut inbox: Inbox, gather_max: Duration) {
    let mut batch = Vec::new();
    let mut pace = Pace::new(gather_max, Instant::now());
    while inbox.messages.recv_many(&mut batch, BATCH_MAX).await > 0 {
        tokio::task::yield_now().await;
        std::thread::yield_now();
        let longest = pace.gather(Instant::now());
        if longest.is_zero() {
            take_waiting(&mut inbox, &mut batch);
        } else {
            gather(longest, &mut inbox, &mut batch).await;
        }
        let started = Instant::now();
        let frames_per_flush = core.borrow_mut().process(&mut batch);
        pace.delivered(started, Instant::now(), frames_per_flush);
    }
}

/// Adds to a batch what is there now.
fn take_waiting(inbox: &mut Inbox, batch: &mut Vec<Message>) {
    while batch.len() < BATCH_MAX
        && let Ok(message) = inbox.messages.try_recv()
    {
        batch.push(message);
    }
}

/// Adds to a batch what comes in a time, while the core has other things to do: one that rests would only wait.
async fn gather(longest: Duration, inbox: &mut Inbox, batch: &mut Vec<Message>) {
    let (started, idle_before) = (Instant::now(), idle_time());
    let step = gather_step(longest);
    while started.elapsed() < longest {
        // Its end is the usual case; what has come by then is in the batch.
        let is_full = timeout(step, fill(inbox, batch)).await.is_ok();
        if is_full || is_waste(idle_time().saturating_sub(idle_before), started.elapsed()) {
            return;
        }
    }
}

/// Adds to a batch what comes, until it is full or the inbox has closed. Cancel-safe.
async fn fill(inbox: &mut Inbox, batch: &mut Vec<Message>) {
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        if inbox.messages.recv_many(batch, room).await == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
