//! One reader, without socket, clock or runtime: [`Session`], a machine whose events come from the reader's socket, its
//! shards and its core, and whose outputs are bytes to write, commands for the shards, and an end.
//!
//! Its parts: the [`command`]s that a reader sends, the reasons for a [`refusal`], the [`commands`] that are in progress,
//! their `dispatch` and what the server says in [`answer`], the change of its grant ([`authorize`]); its [`encoding`], its [`queue`], the
//! [`values`] that it is still to get, of the rows that were `asked` for or of `everything`, and the set of topics that are
//! [`stale`]; the [`epochs`] that it is told and the `tables` that may be behind; its [`heartbeat`], its [`allowance`], and
//! the reasons for its [`close`].
//!
//! Once the close frame is in the queue, nothing is put behind it: not a change, not a reply, not a pong.

pub mod allowance;
pub mod answer;
mod asked;
pub mod authorize;
pub mod close;
pub mod command;
pub mod commands;
mod dispatch;
pub mod drain;
pub mod encoding;
pub mod epochs;
mod everything;
pub mod heartbeat;
pub mod queue;
pub mod refusal;
pub mod stale;
mod tables;
pub mod values;

use std::borrow::Cow;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use self::allowance::Allowance;
use self::close::CloseReason;
use self::command::{Command, ReplyId};
use self::commands::Commands;
use self::encoding::Encoding;
use self::heartbeat::Second;
use self::queue::{Pushed, SendQueue, SendQueueLimits, SlowConsumerPolicy};
use self::refusal::{Refusal, Why};
use self::values::Values;
use crate::auth::Grant;
use crate::fanout::{CastRun, Listed, Pulled};
use crate::metrics::Limit;
use crate::model::epoch::Epoch;
use crate::model::table::{TableId, Tables};
use crate::model::topic::{Subject, Subjects, Topic};
use crate::wire::frame::{Frame, FrameRun};
use crate::wire::websocket::{CodecError, Opcode};

/// The answers that may wait before their peer is read from again.
pub const ANSWERS_WAITING_MAX: usize = 16;

/// The bounds of each session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// The bounds of its send queue, and the slow-consumer policy.
    pub queue: SendQueueLimits,
    /// The most topics that it may subscribe to.
    pub subscriptions_max: usize,
    /// The longest message that its client may send, in bytes.
    pub message_bytes_max: usize,
    /// The most units of work that its client may send in a second ([`Decoder::take_units`]); zero sets no limit.
    ///
    /// [`Decoder::take_units`]: crate::wire::websocket::Decoder::take_units
    pub units_per_second_max: u32,
    /// The seconds of silence after which its client is pinged, at least one.
    pub ping_after: u32,
}

/// The context of an event.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The second in which it happened.
    pub now: Second,
    /// The session's bounds.
    pub limits: &'a SessionLimits,
    /// The tables whose rows are cast.
    pub tables: &'a Tables,
}

/// An event in the life of a session.
#[derive(Debug)]
pub enum Event<'a> {
    /// The peer sent bytes that cost so many units, after this time since the core began.
    Heard {
        /// Units of work.
        units: u32,
        /// Time since the core began.
        at: Duration,
    },
    /// The time for which the session was held is over.
    Released,
    /// The peer sent a text message.
    Command(Result<Command, Refusal>),
    /// The peer sent another token, in a command with this name: its grant, none where tokens mean nothing.
    Authorize(Option<ReplyId>, Result<Option<Arc<Grant>>, Why>),
    /// The peer sent a ping with this payload.
    Ping(&'a [u8]),
    /// The peer sent its close frame, with this code if it gave one.
    PeerClosed(Option<u16>),
    /// The peer sent a binary message.
    Binary,
    /// The peer broke the protocol or a limit; its later bytes cannot be read.
    Broken(CodecError),
    /// All shards have done their part of this command: so many topics were new, ended, or counted.
    Applied {
        /// The number with which the command was given.
        number: u32,
        /// Topics that were new, ended, or counted.
        topics: usize,
    },
    /// The shards have refused this command: there are more rows than a reader may subscribe to as a whole.
    Refused {
        /// The number with which the command was given.
        number: u32,
    },
    /// The shards have ended the subscriptions to these rows, which its new grant does not cover, before the command that
    /// revokes is applied.
    Revoked(Subjects),
    /// These topics of the command with this number have other newest versions than the reader knows, or may have,
    /// before the command is applied.
    Differ(u32, Vec<Topic>),
    /// The shards tell the newest version that they know, before a command that lists all topics is applied; or a page of
    /// the list.
    Listed(Listed),
    /// A shard tells the newest state of a topic, which was asked for.
    Pulled(Pulled),
    /// All versions from here on are of this epoch.
    Epoch(Epoch),
    /// From here on changes may be missing; or all that was missed has been pushed.
    Live(bool),
    /// All versions of a table from here on are of this epoch.
    TableEpoch(TableId, Epoch),
    /// The same as [`Event::Live`] of one table.
    TableLive(TableId, bool),
    /// The socket takes no more for now.
    Blocked,
    /// The socket takes more again.
    Writable,
    /// The socket has passed on all bytes that were written.
    Flushed,
    /// The second has come in which the session wanted to be looked at, or an earlier one; with the seconds for which
    /// the reader's token is still valid, rounded up.
    Looked(Option<u32>),
    /// The server stops; the reader is asked to come back after so many milliseconds.
    Restart {
        /// Milliseconds.
        after_ms: u64,
    },
    /// The socket has ended, or failed.
    Gone,
}

/// The duties of a session's owner after an event, beside writing the waiting bytes and giving the shards the commands
/// that [`Session::next_command`] yields and the pulls that [`Session::next_pulls`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Have the session looked at in that second.
    pub look_at: Option<Second>,
    /// Release the session after that time.
    pub hold: Option<Duration>,
    /// The close frame waits: all waiting bytes are to be written even if a socket would rather take them later.
    pub close_begins: bool,
    /// End this side of the connection: nothing follows the bytes that were written.
    pub ends_writing: bool,
    /// The session has ended.
    pub end: Option<End>,
    /// A limit that the peer met.
    pub refused: Option<Limit>,
    /// Changes that gave way.
    pub skipped: u64,
}

/// The way in which a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides have closed, or the socket has ended.
    InTime,
    /// The peer did not end its side of the close in time.
    Cut,
}

/// One reader.
#[derive(Debug)]
pub struct Session {
    queue: SendQueue,
    encoding: Encoding,
    phase: Phase,
    /// The reason for which it closes, or has ended.
    reason: CloseReason,
    /// True if the socket takes no more for now.
    is_blocked: bool,
    /// True if the peer has used its allowance up.
    is_held: bool,
    /// True if the reader was told that what it shows may be old.
    is_told_lost: bool,
    subscriptions: u32,
    /// While it is open, the second in which the peer was heard last; afterwards that in which it is cut.
    second: Second,
    allowance: Allowance,
    /// Boxed because few readers have commands in progress.
    commands: Option<Box<Commands>>,
    /// Boxed because it is for those who ask for states, for every topic or for rows of tables beside products, and for slow
    /// readers.
    values: Option<Box<Values>>,
    /// The grant of the reader's token; without a token, everything is granted.
    grant: Option<Arc<Grant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The peer, which never asked for states, has closed; its commands that are in progress are answered before it is.
    /// Nothing more is read or pushed.
    Answering,
    /// The close frame is queued; nothing else is, and input is ignored until the peer's close frame.
    Closing {
        /// True if the peer has sent its own.
        is_peers_here: bool,
    },
    /// The close frame has left, with all before it.
    Lingering,
    /// Over.
    Ended,
}

impl Session {
    /// Returns the session of a reader whose WebSocket has just been opened.
    #[must_use]
    pub fn new(now: Second, grant: Option<Arc<Grant>>) -> Self {
        Self {
            queue: SendQueue::new(),
            encoding: Encoding::WebSocket,
            phase: Phase::Open,
            reason: CloseReason::Vanished,
            is_blocked: false,
            is_held: false,
            is_told_lost: false,
            subscriptions: 0,
            second: now,
            allowance: Allowance::default(),
            commands: None,
            values: None,
            grant,
        }
    }

    /// Returns the session of a reader of an event stream, which is sent these bytes first.
    #[must_use]
    pub fn of_event_stream(now: Second, grant: Option<Arc<Grant>>, head: Vec<u8>) -> Self {
        let mut session = Self { encoding: Encoding::EventStream, ..Self::new(now, grant) };
        if !head.is_empty() {
            session.queue.push_control(Frame::of_bytes(head));
        }
        session
    }

    /// Handles one event and returns its effects.
    pub fn on(&mut self, event: Event<'_>, given: &Given<'_>) -> Effects {
        let mut effects = Effects::default();
        match event {
            Event::Heard { units, at } => self.hear(units, at, given, &mut effects),
            Event::Released => self.is_held = false,
            Event::Command(command) => self.begin_command(command, given),
            Event::Authorize(reply, grant) => self.authorize(reply, grant, given, &mut effects),
            Event::Ping(payload) => self.answer(Frame::new(Opcode::Pong, payload)),
            Event::PeerClosed(code) => self.peer_closed(code, given, &mut effects),
            Event::Binary => self.close(CloseReason::Binary, given, &mut effects),
            Event::Broken(error) => {
                effects.refused = (error == CodecError::MessageTooBig).then_some(Limit::MessageBytes);
                self.close(error.into(), given, &mut effects);
            }
            Event::Applied { number, topics } => self.applied(number, topics, given, &mut effects),
            Event::Refused { number } => self.everything_refused(number, given, &mut effects),
            Event::Listed(listed) => self.listed(listed, given, &mut effects),
            Event::Revoked(rows) => self.revoked(&rows),
            Event::Differ(number, topics) => self.differ(number, topics),
            Event::Pulled(answer) => self.pulled(answer, given, &mut effects),
            Event::Epoch(epoch) => self.epoch_began(epoch, given, &mut effects),
            Event::Live(is_live) => self.live(is_live, given, &mut effects),
            Event::TableEpoch(table, epoch) => self.table_epoch_began(table, epoch, given, &mut effects),
            Event::TableLive(table, is_live) => self.table_live(table, is_live, given, &mut effects),
            Event::Blocked => self.is_blocked = true,
            Event::Writable => self.writable(given),
            Event::Flushed => self.flushed(&mut effects),
            Event::Looked(grant_seconds) => self.look(grant_seconds, given, &mut effects),
            Event::Restart { after_ms } => {
                self.answer(self.encoding.reconnect(after_ms));
                self.close(CloseReason::Restart, given, &mut effects);
            }
            // Who reads an event stream has no other way to end it.
            Event::Gone if self.is_event_stream() => self.end(CloseReason::Peer(None), &mut effects),
            Event::Gone => self.end(CloseReason::Vanished, &mut effects),
        }
        effects
    }

    /// Returns changes as this reader is given them.
    #[must_use]
    pub fn form<'a>(&self, run: &'a CastRun) -> Cow<'a, FrameRun> {
        match self.encoding {
            Encoding::WebSocket => Cow::Borrowed(&run.frames),
            Encoding::EventStream => self.events(run),
        }
    }

    /// Adds changes of one topic, in this reader's form, if they have room without the policy; returns whether nothing more is to be done
    /// with them. This and [`Session::taken`] are the hot path, and return less than [`Effects`].
    pub fn push(&mut self, subject: &Subject, run: &FrameRun, limits: &SessionLimits) -> bool {
        self.phase != Phase::Open
            || self.values.is_some() && !self.may_get(subject)
            || (self.values.is_none() || self.queues(subject.topic(), limits))
                && self.queue.push_run(subject, run, &limits.queue)
    }

    /// Adds a change that found no room even after the socket was written to: frames give way by the policy.
    pub fn push_by_policy(&mut self, subject: &Subject, version: u64, frame: Frame, given: &Given<'_>) -> Effects {
        let mut effects = Effects::default();
        if self.phase != Phase::Open {
            return effects;
        }
        let run = FrameRun::one(version, frame);
        if let Some(effects) = self.give_way(subject, &run, given.limits) {
            return effects;
        }
        self.say_absent();
        match self.queue.push(subject, version, run.split_first().0.1, &given.limits.queue) {
            Pushed::Queued => {}
            Pushed::Skipped(frames) => effects.skipped = frames,
            Pushed::Full if given.limits.queue.policy == SlowConsumerPolicy::Conflate => {
                self.conflate(subject, version, given, &mut effects);
            }
            Pushed::Full => self.close(CloseReason::SlowConsumer, given, &mut effects),
        }
        effects
    }

    /// Takes the bytes that the socket took off the queue; returns the number of changes that left it.
    pub fn taken(&mut self, bytes: usize) -> u64 {
        self.queue.advance(bytes)
    }

    /// Returns whether something is to be written. A reader whose changes gave way is told so before it gets further
    /// ones.
    pub fn has_output(&mut self) -> bool {
        self.say_absent();
        if self.queue.control_len() == 0 {
            let skipped = self.queue.take_skipped();
            if skipped > 0 {
                self.queue.push_control(self.encoding.text(answer::skipped(skipped)));
            }
        }
        !self.queue.is_empty()
    }

    /// Returns the bytes to write, if they are those of exactly one run.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        self.queue.only()
    }

    /// Fills `slices` with the bytes to write, in order; returns the number of slices that it used.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.queue.fill(slices)
    }

    /// Returns whether the peer's bytes are to be read. They are not while its answers wait, or as many commands as may
    /// be are in progress; nor while it has used its allowance up.
    #[must_use]
    pub fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => !self.is_held && !self.is_full() && !self.has_answers_enough(),
            Phase::Closing { .. } | Phase::Lingering => true,
            Phase::Answering | Phase::Ended => false,
        }
    }

    /// Returns whether so many answers wait that they are to be written before more is read.
    #[must_use]
    pub fn has_answers_enough(&self) -> bool {
        self.queue.answers_len() >= ANSWERS_WAITING_MAX
    }

    /// Returns whether a change could be written at once, since nothing waits and the socket is not known to be full.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.phase == Phase::Open && !self.is_blocked && self.queue.is_empty() && self.has_no_states_due()
    }

    /// Returns whether the socket takes no more for now.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Returns whether the close frame is in the queue or has left.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Lingering)
    }

    /// Returns the reason for its end, once it has ended.
    #[must_use]
    pub const fn ended(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Ended => Some(self.reason),
            Phase::Open | Phase::Answering | Phase::Closing { .. } | Phase::Lingering => None,
        }
    }

    /// Returns whether the reader has an event stream, on which it cannot answer.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.encoding == Encoding::EventStream
    }

    /// Returns the grant of the reader's token.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_deref()
    }

    /// Returns the number of changes that wait whole, and their bytes.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.bytes())
    }

    fn hear(&mut self, units: u32, at: Duration, given: &Given<'_>, effects: &mut Effects) {
        if self.phase == Phase::Open && !self.is_event_stream() {
            self.second = given.now;
        }
        let per_second = given.limits.units_per_second_max;
        if self.phase == Phase::Open && units > 0 && per_second > 0 {
            effects.hold = self.allowance.take(units, per_second, at);
            if effects.hold.is_some() {
                self.is_held = true;
                effects.refused = Some(Limit::Commands);
            }
        }
    }

    /// Queues a frame, in the reader's form, ahead of all changes, unless the close frame is queued.
    fn answer(&mut self, frame: Frame) {
        if self.phase == Phase::Open {
            self.queue.push_control(frame);
        }
    }
}

#[cfg(test)]
mod tests;
