//! The WebSockets and event streams of a core: [`Connections`], each a [`Connection`], which joins a [`Session`] with its
//! socket.
//!
//! The session decides; the code here carries bytes to it and from it. A connection has one task, which sleeps until
//! its socket can be read, or written again after it was full. The bytes that it reads go through the core's scratch
//! buffer; it keeps bytes of its own only while a message is incomplete or is not to be read yet. The bytes that it
//! sends are written by the code that pushed them: the core after a batch of changes, the task after answers.

mod read;
mod turns;
mod write;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use simd_json::Buffers;
use tokio::time::{Instant, MissedTickBehavior, Sleep};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use self::read::Unread;
use self::turns::Turns;
use crate::auth::{CurrentKeys, Grant};
use crate::fanout::{Core, SlotKey};
use crate::metrics::{CoreMetrics, Metrics};
use crate::model::table::Tables;
use crate::session::close::CloseReason;
use crate::session::command::Command;
use crate::session::heartbeat::{Second, Wheel, silence_seconds_max};
use crate::session::{Effects, End, Event, Given, Session, SessionLimits, drain};
use crate::transport::admission::{CountedSocket, Place};
use crate::transport::socket::Socket;
use crate::wire::websocket::Decoder;

#[cfg(target_pointer_width = "64")]
const _: () = {
    // A debug build checks more, and keeps the data of its checks.
    let bytes_max = if cfg!(debug_assertions) { 344 } else { 336 };
    assert!(
        Core::<Connection>::SEAT_BYTES <= bytes_max,
        "see the sum of an idle connection's memory in ARCHITECTURE.md"
    );
};

/// The connections of one core, with the state that they share. It never leaves the core's thread.
pub struct Connections {
    core: Rc<RefCell<Core<Connection>>>,
    shared: Rc<Shared>,
    tasks: TaskTracker,
}

/// A connection's shares of the process's counts, held as long as it lives: its place within the bound on WebSockets and
/// event streams, and the count of its core's sockets.
pub type HeldPlaces = (Place, Rc<CountedSocket>);

struct Shared {
    limits: SessionLimits,
    tables: Tables,
    metrics: CoreMetrics,
    process_metrics: Arc<Metrics>,
    /// The keys that tokens on open WebSockets are checked with.
    keys: Option<Arc<CurrentKeys>>,
    began: Instant,
    wheel: RefCell<Wheel>,
    scratch: RefCell<Box<[u8]>>,
    json_buffers: RefCell<Buffers>,
    turns: Turns,
    /// Connections that were cut because they did not end in time.
    cut: Cell<usize>,
    /// Seeds the jitter of `reconnect.afterMs`.
    chance: RandomState,
}

impl Connections {
    /// Returns the connections of `core`, none yet. [`Connections::run`] serves them. Without keys tokens mean nothing.
    #[must_use]
    pub fn new(
        core: Rc<RefCell<Core<Connection>>>,
        limits: SessionLimits,
        metrics: CoreMetrics,
        process_metrics: Arc<Metrics>,
        keys: Option<Arc<CurrentKeys>>,
    ) -> Rc<Self> {
        let tables = core.borrow().tables().clone();
        let shared = Shared {
            limits,
            tables,
            metrics,
            process_metrics,
            keys,
            began: Instant::now(),
            wheel: RefCell::default(),
            scratch: RefCell::new(vec![0; read::SCRATCH_BYTES].into_boxed_slice()),
            json_buffers: RefCell::default(),
            turns: Turns::default(),
            cut: Cell::new(0),
            chance: RandomState::new(),
        };
        Rc::new(Self { core, shared: Rc::new(shared), tasks: TaskTracker::new() })
    }

    /// Takes over a socket after its handshake, with the bytes that were already read from it, and serves it in a task
    /// of this thread's [`LocalRuntime`](tokio::runtime::LocalRuntime).
    ///
    /// It may subscribe to the topics that `grant` lets it read, and is closed when that expires; without one it may
    /// subscribe to everything.
    pub fn open(self: &Rc<Self>, socket: Socket, already_read: &[u8], places: HeldPlaces, grant: Option<Arc<Grant>>) {
        socket.prepare();
        // A copy, since the bytes stand in the 8 KiB buffer of the HTTP connection, which would live as long.
        let unread = Unread::new(already_read);
        let session = Session::new(self.now(), grant);
        self.insert(|key| Connection {
            unread,
            ..Connection::new(key, socket, session, Rc::clone(&self.shared), places)
        });
    }

    /// Takes over a socket whose request asks for an event stream, and answers it in such a task as [`Connections::open`]
    /// does: with these bytes, the head of the answer if the socket is to be sent one, then with the events of this
    /// command. Nothing more of the peer is read.
    pub fn open_events(
        self: &Rc<Self>,
        socket: Socket,
        head: Vec<u8>,
        command: Command,
        places: HeldPlaces,
        grant: Option<Arc<Grant>>,
    ) {
        socket.prepare();
        // Nothing is heard of a peer whose host is gone. One that is only slow is closed by its session, before.
        let ping_after = self.shared.limits.ping_after;
        socket.give_up_after(Duration::from_secs((silence_seconds_max(ping_after) + ping_after).into()));
        let mut session = Session::of_event_stream(self.now(), grant, head);
        let given = Given { now: self.now(), limits: &self.shared.limits, tables: &self.shared.tables };
        let effects = session.on(Event::Command(Ok(command)), &given);
        debug_assert_eq!(effects, Effects::default(), "a command waits for its task");
        self.insert(|key| Connection {
            is_deaf: true,
            ..Connection::new(key, socket, session, Rc::clone(&self.shared), places)
        });
    }

    fn now(&self) -> Second {
        self.shared.wheel.borrow().now()
    }

    fn insert(self: &Rc<Self>, make: impl FnOnce(SlotKey) -> Connection) {
        let mut core = self.core.borrow_mut();
        let key = core.insert_with(make);
        core.get_mut(key).expect("it was inserted").look();
        drop(core);
        let served = Served { connections: Rc::clone(self), key, reason: CloseReason::Panicked };
        tokio::task::spawn_local(self.tasks.track_future(served.run()));
    }

    /// Returns the bounds of each connection.
    #[must_use]
    pub fn limits(&self) -> &SessionLimits {
        &self.shared.limits
    }

    /// Serves the connections, for ever: looks once a second at those that are due, to ping the silent, give up the
    /// dead and cut those that do not close; and lets those that have sent much take turns.
    pub async fn run(self: Rc<Self>) {
        tokio::join!(self.beat(), self.take_turns());
    }

    async fn beat(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.turn();
        }
    }

    /// Goes one second on, and looks at the connections that are due then.
    fn turn(&self) {
        let due = self.shared.wheel.borrow_mut().turn();
        for key in due {
            if let Some(connection) = self.core.borrow_mut().get_mut(key) {
                connection.look();
            }
        }
    }

    /// Returns the number of connections that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.borrow().len()
    }

    /// Returns whether no connection is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.borrow().is_empty()
    }

    /// Returns the number of connections that were cut because they did not end in time.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.shared.cut.get()
    }

    /// Closes the connections that are open because the server stops, spread evenly over this time. They are sent
    /// changes until they are closed. Returns once all closes are sent, or nobody is left.
    pub async fn drain(&self, over: Duration) {
        if over.is_zero() {
            return;
        }
        let keys: Vec<SlotKey> = self.core.borrow_mut().iter_mut().map(|(key, _)| key).collect();
        let begun = Instant::now();
        let mut ticks = tokio::time::interval_at(begun + drain::TICK, drain::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut closed = 0;
        while closed < keys.len() && !self.is_empty() {
            ticks.tick().await;
            let due = drain::due(keys.len(), begun.elapsed(), over);
            let core = &mut *self.core.borrow_mut();
            for &key in &keys[closed..due] {
                if let Some(connection) = core.get_mut(key) {
                    connection.restart();
                }
            }
            closed = due;
        }
    }

    /// Closes every connection because the server stops, and waits until all have ended: each has
    /// [`CLOSE_SECONDS_MAX`](crate::session::heartbeat::CLOSE_SECONDS_MAX) for its side of the close, and is cut then.
    pub async fn close_all(&self) {
        for (_, connection) in self.core.borrow_mut().iter_mut() {
            connection.restart();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn remove(&self, key: SlotKey, reason: CloseReason) {
        let Some(mut connection) = self.core.borrow_mut().remove(key) else { return };
        if reason != CloseReason::Panicked {
            connection.discard_unread(&mut self.shared.scratch.borrow_mut());
        }
        connection.report_waiting((0, 0));
        self.shared.process_metrics.readers.closed(reason);
        if reason.is_noteworthy() {
            info!(reason = reason.label(), code = reason.code(), peer = ?connection.socket.peer_addr().ok(), "closed");
        } else {
            debug!(reason = reason.label(), code = reason.code(), "closed");
        }
    }
}

/// A connection that has a task, which owns this: however the task ends, its connection leaves the core, with its
/// subscriptions and its places.
struct Served {
    connections: Rc<Connections>,
    key: SlotKey,
    reason: CloseReason,
}

impl Served {
    async fn run(mut self) {
        self.reason = std::future::poll_fn(|cx| self.connections.drive(self.key, cx)).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.connections.remove(self.key, self.reason);
    }
}

/// One WebSocket or event stream: a session and its socket.
pub struct Connection {
    key: SlotKey,
    session: Session,
    socket: Socket,
    decoder: Decoder,
    shared: Rc<Shared>,
    /// Bytes that were read and are to be decoded later.
    unread: Option<Box<Unread>>,
    /// The end of the time for which the session is held. Boxed because few are.
    held: Option<Pin<Box<Sleep>>>,
    /// Wakes this connection's task.
    waker: Waker,
    /// Frames and bytes of the queue that are in the metrics.
    reported: Cell<(u32, u32)>,
    /// The second of the look that counts: those that the wheel has for an earlier one are of before.
    look_at: Second,
    /// True if it waits for a turn.
    in_turns: bool,
    /// True if nothing that comes is decoded: of a peer that broke the protocol, or has an event stream.
    is_deaf: bool,
    _places: HeldPlaces,
}

impl Connection {
    fn new(key: SlotKey, socket: Socket, session: Session, shared: Rc<Shared>, places: HeldPlaces) -> Self {
        Self {
            key,
            session,
            socket,
            decoder: Decoder::new(shared.limits.message_bytes_max),
            shared,
            unread: None,
            held: None,
            waker: Waker::noop().clone(),
            reported: Cell::default(),
            look_at: 0,
            in_turns: false,
            is_deaf: false,
            _places: places,
        }
    }

    /// Gives the session an event, and carries out its effects.
    fn on(&mut self, event: Event<'_>) {
        let given =
            Given { now: self.shared.wheel.borrow().now(), limits: &self.shared.limits, tables: &self.shared.tables };
        let effects = self.session.on(event, &given);
        self.follow(effects);
    }

    fn follow(&mut self, effects: Effects) {
        if effects == Effects::default() {
            return;
        }
        let Effects { look_at, hold, close_begins, ends_writing, end, refused, skipped } = effects;
        if let Some(at) = look_at {
            self.look_at = self.shared.wheel.borrow_mut().schedule(self.key, at);
        }
        if let Some(hold) = hold {
            self.held = Some(Box::pin(tokio::time::sleep(hold)));
            // The task waits for the end of it.
            self.waker.wake_by_ref();
        }
        if let Some(limit) = refused {
            self.shared.process_metrics.refused(limit);
        }
        if skipped > 0 {
            self.shared.metrics.frames_skipped.inc_by(skipped);
        }
        if end == Some(End::Cut) {
            self.shared.cut.set(self.shared.cut.get() + 1);
        }
        if ends_writing {
            self.socket.end_writing();
        }
        if close_begins {
            self.write_last();
        }
        if close_begins || ends_writing || end.is_some() {
            // The task throws further input away, or ends.
            self.waker.wake_by_ref();
        }
    }

    /// Looks at a connection that its wheel says is due.
    fn look(&mut self) {
        if self.shared.wheel.borrow().now() < self.look_at {
            return;
        }
        let grant_seconds = self.grant_seconds();
        self.on(Event::Looked(grant_seconds));
        self.flush_session();
    }

    /// Has it looked at when a new token expires, if that is before the next look.
    fn look_at_expiry(&mut self) {
        let Some(seconds) = self.grant_seconds() else { return };
        let wheel = &mut *self.shared.wheel.borrow_mut();
        let at = wheel.now().saturating_add(seconds);
        if at < self.look_at {
            self.look_at = wheel.schedule(self.key, at);
        }
    }

    /// Sends the peer away because the server stops.
    fn restart(&mut self) {
        let chance = self.shared.chance.hash_one(self.key);
        self.on(Event::Restart { after_ms: drain::reconnect_after_ms(chance) });
    }

    /// Returns the seconds for which the token is still valid, rounded up.
    fn grant_seconds(&self) -> Option<u32> {
        let remaining = self.session.grant()?.remaining(unix_time());
        let begun = u64::from(remaining.subsec_nanos() > 0);
        Some(u32::try_from(remaining.as_secs().saturating_add(begun)).unwrap_or(u32::MAX))
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
