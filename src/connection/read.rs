//! The reading side of a connection: its task, and the pieces in which it is served.
//!
//! A reader that sends little is served at once. One that sends more than [`AT_ONCE_BYTES`] or [`AT_ONCE_UNITS`] waits
//! for a turn ([`super::turns`]), in which it is served until the turn's time is over.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tracing::debug;

use super::{Connection, Connections, Shared, unix_time};
use crate::auth::Grant;
use crate::fanout::{Command, Core, SlotKey};
use crate::session::close::CloseReason;
use crate::session::command::{Request, Token};
use crate::session::epochs::Standing;
use crate::session::refusal::Why;
use crate::session::{Event, Given, command};
use crate::wire::websocket::{Received, UNIT_BYTES};

/// The bytes that a core reads from a socket in one call at most.
pub(super) const SCRATCH_BYTES: usize = 16 * 1024;
/// The bytes that a connection is served at once.
const AT_ONCE_BYTES: usize = 4 * 1024;
/// The units of work that a connection is served at once.
const AT_ONCE_UNITS: u32 = 16;
/// The reads that throw away the unread bytes of a connection that has ended. More than the kernel keeps for one that
/// does not flood.
const DISCARDING_READS_MAX: usize = 64;

/// Bytes that were read and are to be decoded later. They are not moved as they are taken.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    taken: usize,
}

impl Unread {
    pub(super) fn new(bytes: &[u8]) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self { bytes: bytes.to_vec(), taken: 0 }))
    }
}

/// The amount that may be served before others get their turn.
#[derive(Debug)]
pub(super) struct Slice {
    /// The end of the turn, if it is one.
    until: Option<Instant>,
    bytes: usize,
    units: u32,
}

impl Slice {
    /// Returns the slice for bytes that are served as soon as they come.
    fn at_once() -> Self {
        Self { until: None, bytes: AT_ONCE_BYTES, units: AT_ONCE_UNITS }
    }

    /// Returns a turn that ends at that time.
    pub(super) fn turn(until: Instant) -> Self {
        Self { until: Some(until), bytes: SCRATCH_BYTES, units: u32::MAX }
    }

    fn is_over(&self) -> bool {
        match self.until {
            Some(until) => Instant::now() >= until,
            None => self.bytes == 0 || self.units == 0,
        }
    }

    fn read(&mut self, bytes: usize) {
        if self.until.is_none() {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn decoded(&mut self, units: u32) {
        self.units = self.units.saturating_sub(units);
    }
}

impl Connections {
    /// Runs the task of a connection: goes on until it has ended, or nothing can be done before another event.
    pub(super) fn drive(&self, key: SlotKey, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let is_served = {
            let core = &mut *self.core.borrow_mut();
            let connection = core.get_mut(key).expect("only its own task removes a connection");
            connection.wake(cx);
            !connection.in_turns
        };
        if is_served {
            self.serve(key, cx, Slice::at_once());
        } else {
            self.answer(key);
        }
        let core = &mut *self.core.borrow_mut();
        match core.get_mut(key).and_then(|connection| connection.session.ended()) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }

    /// Gives the shards their commands and pulls, and writes the answers that are there.
    fn answer(&self, key: SlotKey) {
        let core = &mut *self.core.borrow_mut();
        give_work(core, key);
        if let Some(connection) = core.get_mut(key) {
            connection.flush_session();
        }
    }

    /// Reads and decodes the peer's bytes until nothing is left, the session takes no more, or the slice is over.
    pub(super) fn serve(&self, key: SlotKey, cx: &mut Context<'_>, mut slice: Slice) {
        let core = &mut *self.core.borrow_mut();
        let scratch = &mut *self.shared.scratch.borrow_mut();
        loop {
            give_work(core, key);
            let Some(connection) = core.get_mut(key) else { return };
            if connection.session.has_answers_enough() {
                connection.flush_session();
            }
            if !connection.session.reads() {
                break;
            }
            if slice.is_over() {
                connection.in_turns = true;
                self.shared.turns.push(key);
                break;
            }
            if connection.serve_piece(cx, scratch, &mut slice).is_pending() {
                break;
            }
        }
        if let Some(connection) = core.get_mut(key) {
            connection.decoder.release();
            connection.flush_session();
        }
    }
}

/// Gives the shards the commands, the pulls and the questions for pages that the session has for them. What they answer at
/// once is written, so that there may be room for more: the work that they do at once is bounded.
fn give_work(core: &mut Core<Connection>, key: SlotKey) {
    if let Some(connection) = core.get_mut(key) {
        connection.say_unsubscribed();
    }
    loop {
        give_commands(core, key);
        let Some(connection) = core.get_mut(key) else { return };
        let (pulls, page) = (connection.session.next_pulls(&connection.shared.limits), connection.session.next_page());
        if pulls.is_empty() && page.is_none() {
            return;
        }
        core.pull(key, pulls);
        if let Some(wish) = page {
            core.list(key, wish);
        }
        if let Some(connection) = core.get_mut(key) {
            connection.flush_session();
        }
    }
}

fn give_commands(core: &mut Core<Connection>, key: SlotKey) {
    let standing = Standing { epoch: core.epoch(), is_live: core.is_live(), tables: core.table_standings() };
    while let Some(connection) = core.get_mut(key)
        && let Some(command) = connection.next_command(&standing)
    {
        core.command(key, command);
    }
}

impl Connection {
    fn next_command(&mut self, standing: &Standing) -> Option<Command> {
        let given =
            Given { now: self.shared.wheel.borrow().now(), limits: &self.shared.limits, tables: &self.shared.tables };
        let (command, effects) = self.session.next_command(standing, &given)?;
        self.follow(effects);
        Some(command)
    }

    /// Queues some of what a new grant ended.
    fn say_unsubscribed(&mut self) {
        let given =
            Given { now: self.shared.wheel.borrow().now(), limits: &self.shared.limits, tables: &self.shared.tables };
        if let Some(effects) = self.session.say_unsubscribed(&given) {
            self.follow(effects);
        }
    }

    /// Remembers the way to wake this task, and goes on where it can: with reading after it was held, with writing
    /// after the socket was full.
    fn wake(&mut self, cx: &mut Context<'_>) {
        self.waker.clone_from(cx.waker());
        if let Some(held) = &mut self.held
            && held.as_mut().poll(cx).is_ready()
        {
            self.held = None;
            self.on(Event::Released);
        }
        if self.session.is_blocked() && self.socket.poll_write_ready(cx).is_ready() {
            self.on(Event::Writable);
            self.flush_session();
        }
    }

    /// Decodes the bytes that were read before, or else reads and decodes once.
    fn serve_piece(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], slice: &mut Slice) -> Poll<()> {
        if let Some(mut unread) = self.unread.take() {
            unread.taken += self.decode(&mut unread.bytes[unread.taken..], slice);
            if unread.taken < unread.bytes.len() {
                self.unread = Some(unread);
            }
            return Poll::Ready(());
        }
        let room = slice.bytes.min(scratch.len());
        match ready!(self.socket.poll_read(cx, &mut scratch[..room])) {
            Ok(0) | Err(_) => self.on(Event::Gone),
            Ok(read) => {
                slice.read(read);
                let taken = self.decode(&mut scratch[..read], slice);
                self.unread = Unread::new(&scratch[taken..read]);
            }
        }
        Poll::Ready(())
    }

    /// Decodes `input` message by message until it is used up, the session takes no more, or the slice is over; returns
    /// the number of its bytes that were taken.
    fn decode(&mut self, input: &mut [u8], slice: &mut Slice) -> usize {
        let mut taken = 0;
        while taken < input.len() {
            if self.is_deaf {
                return self.ignore(input.len(), slice);
            }
            taken += self.decode_one(&mut input[taken..], slice);
            if self.session.has_answers_enough() {
                self.flush_session();
            }
            if !self.session.reads() || slice.is_over() {
                break;
            }
        }
        taken
    }

    /// Throws away bytes that mean nothing, and cost the peer what a frame of that length does.
    fn ignore(&mut self, bytes: usize, slice: &mut Slice) -> usize {
        let units = 1 + u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        slice.decoded(units);
        self.on(Event::Heard { units, at: self.shared.began.elapsed() });
        bytes
    }

    /// Decodes one message at the front of `input`, or a part of one; returns the number of bytes that it took.
    fn decode_one(&mut self, input: &mut [u8], slice: &mut Slice) -> usize {
        let given =
            Given { now: self.shared.wheel.borrow().now(), limits: &self.shared.limits, tables: &self.shared.tables };
        let length = input.len();
        let (taken, event) = match self.decoder.decode(input) {
            Ok((taken, received)) => {
                let is_ignored = self.session.is_closing();
                let grant = self.session.grant();
                (taken, received.and_then(|received| event(received, is_ignored, &self.shared, grant)))
            }
            Err(error) => {
                self.is_deaf = true;
                (length, Some(Event::Broken(error)))
            }
        };
        let authorizes = matches!(event, Some(Event::Authorize(..)));
        let more_units = if authorizes { self.session.authorize_units() } else { 0 };
        let effects = event.map(|event| self.session.on(event, &given)).unwrap_or_default();
        self.follow(effects);
        if authorizes {
            self.look_at_expiry();
        }
        let units = self.decoder.take_units().saturating_add(more_units);
        slice.decoded(units);
        self.on(Event::Heard { units, at: self.shared.began.elapsed() });
        taken
    }

    /// Throws away the bytes that have come for a connection that has ended. A socket that is closed with bytes unread
    /// is reset, and the peer may lose the last bytes that it was sent.
    pub(super) fn discard_unread(&mut self, scratch: &mut [u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..DISCARDING_READS_MAX {
            if !matches!(self.socket.poll_read(&mut cx, scratch), Poll::Ready(Ok(1..))) {
                return;
            }
        }
    }
}

impl Shared {
    /// Returns the grant of a token; none where there are no keys, and a token is not looked at.
    fn grant_of(&self, token: Option<Token>) -> Result<Option<Arc<Grant>>, Why> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let Token(token) = token.ok_or(Why::NoToken)?;
        keys.verify(&token, unix_time()).map(|grant| Some(Arc::new(grant))).map_err(|error| {
            debug!(%error, "a token was refused");
            Why::BadToken(error)
        })
    }
}

/// Returns the event that a message is to a session, if it is one. A session that closes takes nothing but the peer's
/// close.
fn event<'a>(received: Received<'a>, is_closing: bool, shared: &Shared, grant: Option<&Grant>) -> Option<Event<'a>> {
    match received {
        Received::Close(status) => Some(Event::PeerClosed(status.map(|(code, _)| code))),
        _ if is_closing => None,
        Received::Text(text) => {
            let buffers = &mut shared.json_buffers.borrow_mut();
            Some(match command::parse(text, buffers, &shared.tables, grant) {
                Ok(Request::Rows(command)) => Event::Command(Ok(command)),
                Ok(Request::Authorize { reply, token }) => Event::Authorize(reply, shared.grant_of(token)),
                Err(refusal) => Event::Command(Err(refusal)),
            })
        }
        Received::Ping(payload) => Some(Event::Ping(payload)),
        Received::Pong(_) => None,
        Received::Binary(_) => Some(Event::Binary),
    }
}
