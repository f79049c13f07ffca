//! One WebSocket: [`Connection`], and the [`Connections`] of a core.
//!
//! A connection has one task, which sleeps until its socket can be read, or written again after it was full. What it
//! reads goes through the core's scratch buffer; it keeps bytes of its own only while a message is incomplete or a
//! command is being carried out. What it sends waits in its [`SendQueue`], and is written by whoever pushed it: the core
//! after a batch of changes, the task after an answer.
//!
//! A peer that sends but does not read is not read from either: that bounds its answers.

mod drive;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use simd_json::Buffers;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use self::drive::Advancing;
use crate::auth::Grant;
use crate::fanout::{CastRun, Core, SlotKey, Subscriber};
use crate::metrics::{CoreMetrics, Metrics};
use crate::model::product::ProductId;
use crate::session::close::CloseReason;
use crate::session::heartbeat::{Beat, CLOSE_SECONDS_MAX, PING_AFTER_SECONDS, Second, Wheel};
use crate::session::queue::{Pushed, SendQueue, SendQueueLimits};
use crate::session::{command as protocol, drain, heartbeat};
use crate::transport::admission::{CountedSocket, Place};
use crate::transport::socket::Socket;
use crate::wire::frame::{Frame, FrameRun};
use crate::wire::websocket::{Decoder, Opcode};

/// What a core reads from a socket at once.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How many frames go to the kernel in one call.
const SLICES_MAX: usize = 64;
/// How many answers may wait before their peer is read from again.
const ANSWERS_WAITING_MAX: usize = 16;

#[cfg(target_pointer_width = "64")]
const _: () = {
    // A debug build checks more, and keeps what it checks.
    let bytes_max = if cfg!(debug_assertions) { 352 } else { 344 };
    assert!(
        Core::<Connection>::SEAT_BYTES <= bytes_max,
        "see the sum of an idle connection's memory in ARCHITECTURE.md"
    );
};

/// What bounds each connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The bounds of its send queue, and the slow-consumer policy.
    pub queue: SendQueueLimits,
    /// How many products it may subscribe to.
    pub subscriptions_max: usize,
    /// The longest message that its client may send.
    pub message_bytes_max: usize,
    /// How many messages are read from it in a second; zero sets no limit.
    pub messages_per_second_max: u32,
}

/// The connections of one core, with what they share. It never leaves the core's thread.
pub struct Connections {
    core: Rc<RefCell<Core<Connection>>>,
    shared: Rc<Shared>,
    tasks: TaskTracker,
}

/// What a connection holds of the shared counts as long as it lives: its place within the bound on WebSockets, and the
/// count of its core's sockets.
pub type Admitted = (Place, Rc<CountedSocket>);

struct Shared {
    limits: ConnectionLimits,
    metrics: CoreMetrics,
    process_metrics: Arc<Metrics>,
    wheel: RefCell<Wheel>,
    scratch: RefCell<Box<[u8]>>,
    json_buffers: RefCell<Buffers>,
    /// Who has sent all that it may in this second, and is read from again in the next.
    held: RefCell<Vec<SlotKey>>,
    /// How many connections were cut because they did not end in time.
    cut: Cell<usize>,
    /// Of when readers are asked to come back.
    chance: RandomState,
}

impl Connections {
    /// The connections of `core`, none yet.
    #[must_use]
    pub fn new(
        core: Rc<RefCell<Core<Connection>>>,
        limits: ConnectionLimits,
        metrics: CoreMetrics,
        process_metrics: Arc<Metrics>,
    ) -> Rc<Self> {
        let shared = Shared {
            limits,
            metrics,
            process_metrics,
            wheel: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            json_buffers: RefCell::default(),
            held: RefCell::default(),
            cut: Cell::new(0),
            chance: RandomState::new(),
        };
        Rc::new(Self { core, shared: Rc::new(shared), tasks: TaskTracker::new() })
    }

    /// Takes over a socket after its handshake, with the bytes that were already read from it, and serves it in a task
    /// of this thread's [`LocalRuntime`](tokio::runtime::LocalRuntime).
    ///
    /// It may subscribe to what `grant` lets it read, and is closed when that expires; without one it may subscribe to
    /// everything.
    pub fn open(self: &Rc<Self>, socket: Socket, already_read: &[u8], admitted: Admitted, grant: Option<Rc<Grant>>) {
        socket.prepare();
        let shared = Rc::clone(&self.shared);
        // A copy, since the bytes stand in the 8 KiB buffer of the HTTP connection, which would live as long.
        let already_read = already_read.into();
        let mut core = self.core.borrow_mut();
        let key = core
            .insert_with(|key| Connection { grant, ..Connection::new(key, socket, already_read, shared, admitted) });
        let now = self.shared.wheel.borrow().now();
        core.get_mut(key).expect("it was inserted").look_again(now + PING_AFTER_SECONDS);
        drop(core);
        let connections = Rc::clone(self);
        tokio::task::spawn_local(self.tasks.track_future(async move {
            let reason = std::future::poll_fn(|cx| drive::drive(&connections, key, cx)).await;
            connections.remove(key, reason);
        }));
    }

    /// How many connections are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.borrow().len()
    }

    /// Whether no connection is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.borrow().is_empty()
    }

    /// How many connections were cut because they did not end in time.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.shared.cut.get()
    }

    /// Closes the connections that are open because the server stops, spread evenly over this time. They are sent changes
    /// until they are closed. Returns once all closes are sent, or nobody is left.
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
                    connection.begin_close(CloseReason::Restart);
                }
            }
            closed = due;
        }
    }

    /// Closes every connection, and waits until all have ended: each has [`CLOSE_SECONDS_MAX`] for its side of the
    /// close, and is cut then.
    pub async fn close_all(&self, reason: CloseReason) {
        for (_, connection) in self.core.borrow_mut().iter_mut() {
            connection.begin_close(reason);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Turns the wheel once a second, for ever: pings the silent, gives up the dead, cuts what does not close, and goes on
    /// with those that had sent all that they might.
    pub async fn beat(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let due = self.shared.wheel.borrow_mut().turn();
            for key in due {
                if let Some(connection) = self.core.borrow_mut().get_mut(key) {
                    connection.beat();
                }
            }
            for key in self.shared.held.take() {
                if let Some(connection) = self.core.borrow_mut().get_mut(key) {
                    connection.waker.wake_by_ref();
                }
            }
        }
    }

    fn remove(&self, key: SlotKey, reason: CloseReason) {
        let Some(connection) = self.core.borrow_mut().remove(key) else { return };
        connection.report_queue(0, 0);
        self.shared.process_metrics.connection_closed(reason.label());
        if reason.is_noteworthy() {
            info!(reason = reason.label(), code = reason.code(), peer = ?connection.socket.peer_addr().ok(), "closed");
        } else {
            debug!(reason = reason.label(), code = reason.code(), "closed");
        }
    }
}

/// One WebSocket.
pub struct Connection {
    key: SlotKey,
    socket: Socket,
    shared: Rc<Shared>,
    decoder: Decoder,
    queue: SendQueue,
    /// What its token grants; without one, everything.
    grant: Option<Rc<Grant>>,
    /// Read, but not yet looked at: the peer's last command is still being carried out, or it does not read.
    unread: Box<[u8]>,
    /// The command that is being carried out; one at a time.
    command: Option<Box<Advancing>>,
    /// How many products it is subscribed to.
    subscriptions: u32,
    phase: Phase,
    /// Whether the socket took no more, and its task waits until it does.
    blocked: bool,
    heard: Second,
    /// The second in which the peer's last message was read, and how many were in it.
    messages: (Second, u32),
    /// Wakes this connection's task.
    waker: Waker,
    /// What of the queue is in the metrics: frames and bytes.
    reported: Cell<(u32, u32)>,
    _admitted: Admitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The close frame is pushed; nothing else is sent, and what comes is thrown away, until the peer closes too.
    Closing {
        reason: CloseReason,
        deadline: Second,
    },
    /// Over: the task ends.
    Ended(CloseReason),
}

impl Connection {
    fn new(key: SlotKey, socket: Socket, unread: Box<[u8]>, shared: Rc<Shared>, admitted: Admitted) -> Self {
        let heard = shared.wheel.borrow().now();
        let decoder = Decoder::new(shared.limits.message_bytes_max);
        Self {
            key,
            socket,
            shared,
            decoder,
            queue: SendQueue::new(),
            grant: None,
            unread,
            command: None,
            subscriptions: 0,
            phase: Phase::Open,
            blocked: false,
            heard,
            messages: (heard, 0),
            waker: Waker::noop().clone(),
            reported: Cell::default(),
            _admitted: admitted,
        }
    }

    /// Sends the close frame and nothing after it. Ends when the peer has closed too, or at a deadline.
    fn begin_close(&mut self, reason: CloseReason) {
        if self.phase != Phase::Open {
            return;
        }
        let deadline = self.shared.wheel.borrow().now() + CLOSE_SECONDS_MAX;
        self.shared.wheel.borrow_mut().schedule(self.key, deadline);
        self.phase = Phase::Closing { reason, deadline };
        self.queue.discard_changes();
        if reason == CloseReason::Restart {
            let chance = self.shared.chance.hash_one(self.key);
            self.queue.push_control(protocol::reconnect(drain::reconnect_after_ms(chance)));
        }
        self.queue.push_control(reason.frame());
        self.flush();
        self.waker.wake_by_ref();
    }

    fn end(&mut self, reason: CloseReason) {
        self.phase = match self.phase {
            Phase::Open => Phase::Ended(reason),
            Phase::Closing { reason, .. } | Phase::Ended(reason) => Phase::Ended(reason),
        };
        self.waker.wake_by_ref();
    }

    /// Looks at a connection that its wheel says is due.
    fn beat(&mut self) {
        let now = self.shared.wheel.borrow().now();
        match self.phase {
            Phase::Closing { deadline, reason } if now >= deadline => {
                self.shared.cut.set(self.shared.cut.get() + 1);
                self.end(reason);
            }
            // Scheduled again when closing began; what is due now is the heartbeat from before.
            Phase::Closing { .. } | Phase::Ended(_) => {}
            Phase::Open if self.grant_seconds() == Some(0) => self.begin_close(CloseReason::TokenExpired),
            Phase::Open => match heartbeat::beat(now, self.heard) {
                Beat::Wait(at) => self.look_again(at),
                Beat::Ping(at) => {
                    self.queue.push_control(Frame::new(Opcode::Ping, b""));
                    self.flush();
                    self.look_again(at);
                }
                Beat::Close => self.begin_close(CloseReason::Silence),
            },
        }
    }

    /// Has an open connection looked at in that second, or when its token expires, if that is earlier.
    fn look_again(&self, at: Second) {
        let mut wheel = self.shared.wheel.borrow_mut();
        let expires = self.grant_seconds().map_or(at, |seconds| wheel.now().saturating_add(seconds));
        wheel.schedule(self.key, at.min(expires));
    }

    /// For how many seconds the token is still valid, rounded up.
    fn grant_seconds(&self) -> Option<u32> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let remaining = self.grant.as_ref()?.remaining(now);
        let begun = u64::from(remaining.subsec_nanos() > 0);
        Some(u32::try_from(remaining.as_secs().saturating_add(begun)).unwrap_or(u32::MAX))
    }

    /// Adds a change to a queue that may be full.
    fn push_frame(&mut self, product: ProductId, version: u64, frame: Frame) {
        if self.queue.push_run(product, &FrameRun::one(version, frame.clone()), &self.shared.limits.queue) {
            return;
        }
        // A burst fills the queue of a reader that is fast as well.
        self.flush();
        if self.phase != Phase::Open {
            return;
        }
        match self.queue.push(product, version, frame, &self.shared.limits.queue) {
            Pushed::Queued => {}
            Pushed::Skipped(frames) => {
                self.shared.metrics.frames_skipped.inc_by(frames);
            }
            Pushed::Overflow => self.begin_close(CloseReason::SlowConsumer),
        }
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        loop {
            if self.queue.control_len() == 0 {
                let skipped = self.queue.take_skipped();
                if skipped > 0 {
                    self.queue.push_control(protocol::skipped(skipped));
                }
            }
            if self.queue.is_empty() {
                let mut cx = Context::from_waker(&self.waker);
                let Poll::Ready(flushed) = self.socket.poll_flush(&mut cx) else {
                    self.blocked = true;
                    return Ok(());
                };
                return flushed;
            }
            match self.try_write() {
                Ok(sent) => self.sent(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut cx = Context::from_waker(&self.waker);
                    if self.socket.poll_write_ready(&mut cx).is_pending() {
                        self.blocked = true;
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what the socket took off the queue.
    fn sent(&mut self, bytes: usize) {
        let frames = self.queue.advance(bytes);
        self.shared.metrics.frames_sent.inc_by(frames);
        self.shared.metrics.bytes_sent.inc_by(bytes as u64);
    }

    /// Writes what waits, up to [`SLICES_MAX`] pieces of it, with one system call.
    fn try_write(&mut self) -> io::Result<usize> {
        if let Some(bytes) = self.queue.only() {
            return self.socket.try_write(bytes);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let used = self.queue.fill(&mut slices);
        self.socket.try_write_vectored(&slices[..used])
    }

    /// Tells the metrics how much waits now.
    fn report_queue(&self, frames: usize, bytes: usize) {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (frames, bytes) = (small(frames), small(bytes));
        let (frames_before, bytes_before) = self.reported.replace((frames, bytes));
        if (frames, bytes) != (frames_before, bytes_before) {
            self.shared.metrics.queue_frames.inc_by(i64::from(frames) - i64::from(frames_before));
            self.shared.metrics.queue_bytes.inc_by(i64::from(bytes) - i64::from(bytes_before));
        }
    }
}

impl Subscriber for Connection {
    fn push(&mut self, run: &CastRun) {
        let CastRun { product, ref frames } = *run;
        if self.phase != Phase::Open || self.queue.push_run(product, frames, &self.shared.limits.queue) {
            return;
        }
        let mut rest = Some(frames.clone());
        while let Some(run) = rest {
            let ((version, frame), after) = run.split_first();
            self.push_frame(product, version, frame);
            rest = after;
        }
    }

    fn flush(&mut self) {
        if !self.blocked && !matches!(self.phase, Phase::Ended(_)) {
            match self.write_waiting() {
                Err(_) => self.end(CloseReason::Vanished),
                Ok(()) if self.blocked => {}
                Ok(()) => match self.phase {
                    Phase::Closing { reason, .. } => {
                        self.socket.end_writing();
                        if matches!(reason, CloseReason::Peer(_)) {
                            // Both sides have said it; the server is the one to end TCP (RFC 6455, §7.1.1).
                            self.end(CloseReason::Vanished);
                        }
                    }
                    Phase::Open | Phase::Ended(_) => {}
                },
            }
        }
        self.report_queue(self.queue.len(), self.queue.bytes());
    }

    fn push_and_flush(&mut self, run: &CastRun) {
        let frames = &run.frames;
        let is_clear = self.phase == Phase::Open && !self.blocked && self.queue.is_empty();
        let sent = if is_clear && frames.frames() == 1 { self.socket.send_alone(frames) } else { 0 };
        if sent == frames.len() {
            self.shared.metrics.frames_sent.inc();
            self.shared.metrics.bytes_sent.inc_by(sent as u64);
            if !self.socket.is_flushed() {
                self.flush();
            }
            return;
        }
        self.push(run);
        self.sent(sent);
        self.flush();
    }

    fn applied(&mut self, _number: u32, products: usize) {
        if let Some(command) = &mut self.command {
            command.applied = Some(products);
            if command.is_given {
                self.waker.wake_by_ref();
            }
        }
    }
}
