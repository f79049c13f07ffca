//! A session with its core and a socket that takes any part of its bytes, joined as a
//! [connection](crate::connection::Connections) joins them: [`Shell`].

use std::collections::{BTreeSet, VecDeque};

use simd_json::Buffers;

use super::super::super::command::{self, Request};
use super::super::super::*;
use super::super::reader::{Taken, frames};
use crate::fanout::{Core, SlotKey, Subscriber};
use crate::model::topic::testing::{grant_of, tables};
use crate::session::epochs::Standing;

pub(super) struct Shell {
    session: Session,
    limits: SessionLimits,
    tables: Tables,
    /// Room in the socket, and the bytes that it has taken and the reader has not.
    room: usize,
    taken: Vec<u8>,
    /// The messages of the reader that were not read.
    sent: VecDeque<String>,
}

/// Returns the text of a token that reads these rows.
pub(super) fn token_of(readable: &BTreeSet<u64>) -> String {
    readable.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn grant_of_token(token: &str) -> Arc<Grant> {
    Arc::new(grant_of(token.split(',').map(|number| number.parse().expect("a token is made by a test"))))
}

impl Shell {
    pub(super) fn new(limits: SessionLimits, readable: Option<&BTreeSet<u64>>, room: usize) -> Self {
        let grant = readable.map(|readable| Arc::new(grant_of(readable.iter().copied())));
        let (session, tables) = (Session::new(0, grant), tables());
        Self { session, limits, tables, room, taken: Vec::new(), sent: VecDeque::new() }
    }

    /// Sends a message of the reader.
    pub(super) fn send(&mut self, text: String) {
        self.sent.push_back(text);
    }

    /// Gives the socket so much room.
    pub(super) fn make_room(&mut self, bytes: usize) {
        self.room = self.room.saturating_add(bytes);
        if self.session.is_blocked() {
            self.on(Event::Writable);
        }
        self.flush_session();
    }

    /// Leaves the socket so much room.
    pub(super) const fn leave_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Returns the frames that have come to the reader whole.
    pub(super) fn receive(&mut self) -> Vec<Taken> {
        let (frames, rest) = frames(&self.taken);
        self.taken.drain(..self.taken.len() - rest);
        frames
    }

    fn on(&mut self, event: Event<'_>) {
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        let effects = self.session.on(event, &given);
        self.follow(effects);
    }

    fn follow(&mut self, effects: Effects) {
        if effects.close_begins {
            self.on(Event::Writable);
            self.flush_session();
        }
    }

    fn flush_session(&mut self) {
        if self.session.is_blocked() || self.session.ended().is_some() {
            return;
        }
        while self.session.has_output() {
            if self.room == 0 {
                return self.on(Event::Blocked);
            }
            let mut slices = [IoSlice::new(&[]); 5];
            let used = self.session.fill(&mut slices);
            let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let sent = bytes.len().min(self.room);
            self.room -= sent;
            self.taken.extend_from_slice(&bytes[..sent]);
            self.session.taken(sent);
        }
        if self.session.is_closing() {
            self.on(Event::Flushed);
        }
    }

    fn hear(&mut self, text: String) {
        let (mut text, mut buffers) = (text.into_bytes(), Buffers::default());
        let event = match command::parse(&mut text, &mut buffers, &self.tables, self.session.grant()) {
            Ok(Request::Rows(command)) => Event::Command(Ok(command)),
            Ok(Request::Authorize { reply, token }) => {
                Event::Authorize(reply, Ok(token.map(|token| grant_of_token(&token.0))))
            }
            Err(refusal) => Event::Command(Err(refusal)),
        };
        self.on(event);
    }

    fn push_one(&mut self, subject: &Subject, version: u64, frame: Frame) {
        if self.session.push(subject, &FrameRun::one(version, frame.clone()), &self.limits) {
            return;
        }
        self.flush_session();
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        let effects = self.session.push_by_policy(subject, version, frame, &given);
        self.follow(effects);
    }
}

/// Reads up to so many messages of a connection, as its task does, and has the shards given what the session has for them.
/// Returns whether there was anything to do.
pub(super) fn serve(core: &mut Core<Shell>, key: SlotKey, messages: usize) -> bool {
    let mut is_moving = false;
    for place in 0..=messages {
        is_moving |= give_work(core, key);
        let Some(shell) = core.get_mut(key) else { break };
        if shell.session.has_answers_enough() {
            shell.flush_session();
        }
        if place == messages || !shell.session.reads() || shell.session.is_closing() {
            break;
        }
        let Some(text) = shell.sent.pop_front() else { break };
        shell.hear(text);
        is_moving = true;
    }
    if let Some(shell) = core.get_mut(key) {
        shell.flush_session();
    }
    is_moving
}

fn give_work(core: &mut Core<Shell>, key: SlotKey) -> bool {
    let mut is_moving = false;
    if let Some(Shell { session, limits, tables, .. }) = core.get_mut(key)
        && let Some(effects) = session.say_unsubscribed(&Given { now: 0, limits, tables })
    {
        is_moving = true;
        core.get_mut(key).expect("it is open").follow(effects);
    }
    loop {
        is_moving |= give_commands(core, key);
        let Some(shell) = core.get_mut(key) else { return is_moving };
        let (pulls, page) = (shell.session.next_pulls(&shell.limits), shell.session.next_page());
        if pulls.is_empty() && page.is_none() {
            return is_moving;
        }
        is_moving = true;
        core.pull(key, pulls);
        if let Some(wish) = page {
            core.list(key, wish);
        }
        if let Some(shell) = core.get_mut(key) {
            shell.flush_session();
        }
    }
}

fn give_commands(core: &mut Core<Shell>, key: SlotKey) -> bool {
    let mut is_moving = false;
    let standing = Standing { epoch: core.epoch(), is_live: core.is_live(), tables: core.table_standings() };
    while let Some(shell) = core.get_mut(key) {
        let given = Given { now: 0, limits: &shell.limits, tables: &shell.tables };
        let Some((command, effects)) = shell.session.next_command(&standing, &given) else { break };
        shell.follow(effects);
        is_moving = true;
        core.command(key, command);
    }
    is_moving
}

impl Subscriber for Shell {
    fn push(&mut self, run: &CastRun) {
        let frames = self.session.form(run);
        if self.session.push(&run.subject, &frames, &self.limits) {
            return;
        }
        if let Some(effects) = self.session.give_way(&run.subject, &frames, &self.limits) {
            self.follow(effects);
            return;
        }
        let mut rest = Some(frames.into_owned());
        while let Some(frames) = rest {
            let ((version, frame), after) = frames.split_first();
            self.push_one(&run.subject, version, frame);
            rest = after;
        }
    }

    fn flush(&mut self) {
        self.flush_session();
    }

    fn push_and_flush(&mut self, run: &CastRun) {
        let frames = self.session.form(run);
        let is_alone = self.session.is_clear() && frames.frames() == 1;
        let sent = if is_alone { frames.len().min(self.room) } else { 0 };
        self.room -= sent;
        self.taken.extend_from_slice(&frames[..sent]);
        if sent < frames.len() {
            self.push(run);
            self.session.taken(sent);
            self.flush_session();
        }
    }

    fn applied(&mut self, number: u32, topics: usize) {
        self.on(Event::Applied { number, topics });
    }

    fn refused(&mut self, number: u32) {
        self.on(Event::Refused { number });
    }

    fn revoked(&mut self, revoked: Subjects) {
        self.on(Event::Revoked(revoked));
    }

    fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        self.on(Event::Differ(number, topics));
    }

    fn listed(&mut self, listed: Listed) {
        self.on(Event::Listed(listed));
    }

    fn pulled(&mut self, answer: Pulled) {
        self.on(Event::Pulled(answer));
    }

    fn live(&mut self, is_live: bool) {
        self.on(Event::Live(is_live));
    }

    fn epoch(&mut self, epoch: Epoch) {
        self.on(Event::Epoch(epoch));
    }

    fn table_live(&mut self, table: TableId, is_live: bool) {
        self.on(Event::TableLive(table, is_live));
    }

    fn table_epoch(&mut self, table: TableId, epoch: Epoch) {
        self.on(Event::TableEpoch(table, epoch));
    }
}
