//! The client without its connection: what subscribers want, what the server says, and what comes of both for either
//! ([`Core`], pure: time is an argument).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::commands::authorize;
use crate::error::Error;
use crate::event::{Change, Entry, Event, Refusal, Row};
use crate::key::Key;
use crate::mailbox::Mailbox;
use crate::message::Message;
use crate::rows::{PRODUCTS, Rows, Topic};
use crate::table::{Follower, Means, Piece, Table};
use crate::token::{Token, Tokens};

const MESSAGE_BYTES_MIN: usize = 1024;
/// The rest between two times at which everything of a table is asked for.
const ASK_PAUSE: Duration = Duration::from_secs(3);
/// The rest before rows that were refused are asked for once more.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// The longest time that a server may name for a reconnect.
const HINT_MAX: Duration = Duration::from_mins(10);
/// The code of a refusal of some rows, beside which the others are told.
const FORBIDDEN: &str = "forbidden";
/// The code of a refusal of all keys for the sake of one.
const BAD_KEYS: &str = "bad_keys";
/// The code of a refusal by a server that takes no token on an open connection.
const UNKNOWN_COMMAND: &str = "unknown_command";

/// The state of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not everything was there yet.
    #[default]
    Connecting,
    /// What is known is the present state, as far as the server knows.
    Live,
    /// What is known may be old.
    Stale,
    /// It has ended.
    Closed,
}

/// The state of a client, and what is in the way of a better one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// The reason for which it is not connected, has ended, or has not got the token that was set.
    pub problem: Option<Error>,
    /// The time of the next attempt, while it waits for that.
    pub retry_at: Option<Instant>,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Core {
    tokens: Tokens,
    tables: BTreeMap<Arc<str>, Table>,
    subscribers: HashMap<Follower, Subscriber>,
    last_follower: Follower,
    /// The commands without a reply.
    unanswered: HashMap<u64, Asked>,
    outbox: Vec<String>,
    means: Means,
    /// What was refused, until it is asked for once more.
    refused: Vec<(Instant, u64, Arc<str>, Vec<Topic>)>,
    /// True if changes that give way are lost: the server drops them.
    loses_changes: bool,
    /// The epoch that was told last for all tables.
    epoch: Option<Arc<str>>,
    /// The time at which the connection opened.
    opened_at: Option<Instant>,
    is_open: bool,
    is_source_lost: bool,
    /// True if everything was there once.
    is_shown: bool,
    /// True if everything was answered on this connection.
    is_settled: bool,
    is_ended: bool,
    /// The time after which the server asked to come back.
    hint: Option<Duration>,
    problem: Option<Error>,
    retry_at: Option<Instant>,
    woken: Vec<Waker>,
}

/// A command.
enum Asked {
    /// It subscribes to these topics of a table.
    For(Arc<str>, Vec<Topic>),
    /// It ends subscriptions to rows of a table.
    End(Arc<str>),
    /// It gives the server this token.
    Token(Arc<str>),
}

struct Subscriber {
    rows: Rows,
    mailbox: Mailbox,
    /// True if all that it asked for was answered on this connection.
    is_complete: bool,
}

impl Core {
    pub(crate) fn new(token: Option<Token>, loses_changes: bool) -> Self {
        Self { tokens: Tokens::new(token), loses_changes, ..Self::default() }
    }

    /// Begins a subscription, which is told first what is known.
    pub(crate) fn subscribe(&mut self, rows: Rows) -> Follower {
        self.last_follower += 1;
        let (follower, name) = (self.last_follower, rows.table_shared());
        let epoch = self.epoch.clone();
        let table = self.tables.entry(Arc::clone(&name)).or_insert_with(|| Table::new(name, epoch));
        let mut mailbox = Mailbox::default();
        table.add(follower, rows.topics());
        table.known(rows.topics()).into_iter().for_each(|change| mailbox.change(change));
        table.unsettled.insert(follower);
        if table.are_answered(rows.topics()) {
            mailbox.complete();
        }
        if self.is_ended {
            mailbox.end();
        }
        self.subscribers.insert(follower, Subscriber { rows, mailbox, is_complete: false });
        self.settle();
        follower
    }

    pub(crate) fn unsubscribe(&mut self, follower: Follower) {
        let Some(subscriber) = self.subscribers.remove(&follower) else { return };
        if let Some(table) = self.tables.get_mut(subscriber.rows.table()) {
            table.remove(follower, subscriber.rows.topics());
        }
    }

    /// Takes the next event of a subscription.
    pub(crate) fn poll_event(&mut self, follower: Follower, waker: &Waker) -> Poll<Option<Event>> {
        self.subscribers.get_mut(&follower).map_or(Poll::Ready(None), |subscriber| subscriber.mailbox.poll(waker))
    }

    pub(crate) fn get(&self, table: &str, key: &Key) -> Option<Row> {
        self.tables.get(table)?.rows.get(key).map(|entry| entry.row)
    }

    pub(crate) fn rows(&self, table: &str) -> Vec<Entry> {
        self.tables.get(table).map_or_else(Vec::new, |table| table.rows.entries().collect())
    }

    pub(crate) fn is_live(&self, table: &str) -> bool {
        self.is_open && !self.is_source_lost && self.tables.get(table).is_none_or(Table::is_current)
    }

    pub(crate) fn status(&self) -> Status {
        Status { state: self.state(), problem: self.problem.clone(), retry_at: self.retry_at }
    }

    fn state(&self) -> State {
        if self.is_ended {
            return State::Closed;
        }
        if self.is_open && !self.is_source_lost && self.tables.values().all(Table::is_current) {
            return State::Live;
        }
        if self.is_shown || self.is_open { State::Stale } else { State::Connecting }
    }

    /// Begins an attempt to connect.
    pub(crate) const fn connecting(&mut self) {
        self.retry_at = None;
    }

    /// Begins a connection: asks for all that is followed.
    pub(crate) fn opened(&mut self, now: Instant) {
        (self.is_open, self.is_settled, self.opened_at) = (!self.is_ended, false, Some(now));
        (self.problem, self.hint) = (None, None);
        self.ask_for_all(now, |_| true);
        self.settle();
    }

    fn ask_for_all(&mut self, now: Instant, is_meant: impl Fn(&Table) -> bool) {
        let names: Vec<Arc<str>> =
            self.tables.values().filter(|it| is_meant(it)).map(|it| Arc::clone(&it.name)).collect();
        for name in names {
            if let Some(table) = self.tables.get_mut(&name) {
                let pieces = table.ask_for_all(now, &mut self.means);
                self.send(&name, pieces);
            }
        }
    }

    /// Learns that the connection is gone, or did not open, and when the next attempt is.
    pub(crate) fn lost(&mut self, problem: Error, retry_at: Option<Instant>) {
        if problem.is_too_large() {
            self.means.message_bytes = (self.means.message_bytes / 2).max(MESSAGE_BYTES_MIN);
        }
        (self.problem, self.retry_at) = (Some(problem), retry_at);
        self.close();
    }

    fn close(&mut self) {
        (self.is_open, self.is_source_lost) = (false, false);
        if self.is_authorizing() {
            self.tokens.renew_again();
        }
        self.unanswered.clear();
        self.outbox.clear();
        self.refused.clear();
        self.tables.values_mut().for_each(Table::lost);
        self.settle();
    }

    /// Ends everything.
    pub(crate) fn end(&mut self, problem: Option<Error>) {
        if self.is_ended {
            return;
        }
        (self.is_ended, self.problem, self.retry_at) = (true, problem, None);
        self.close();
        for subscriber in self.subscribers.values_mut() {
            subscriber.mailbox.end();
            self.woken.extend(subscriber.mailbox.waker());
        }
    }

    pub(crate) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.is_settled
    }

    pub(crate) const fn hint(&self) -> Option<Duration> {
        self.hint
    }

    /// Returns whether a command waits for its reply.
    pub(crate) fn is_owed_a_reply(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Sets another source of tokens, of which the server is to be given one.
    pub(crate) fn set_token(&mut self, source: Token) {
        self.tokens.set(source);
    }

    pub(crate) const fn tokens(&mut self) -> &mut Tokens {
        &mut self.tokens
    }

    /// Gives the server a token of the source that was set last, if that is still the last.
    pub(crate) fn renew(&mut self, token: Result<String, Error>) {
        if self.tokens.want_handshake(false) {
            return;
        }
        match token {
            Ok(token) => {
                let id = self.means.id();
                self.outbox.push(authorize(id, &token));
                self.unanswered.insert(id, Asked::Token(token.into()));
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn is_authorizing(&self) -> bool {
        self.unanswered.values().any(|asked| matches!(asked, Asked::Token(_)))
    }

    /// Forgets a token that is not good. Returns whether another may be had.
    pub(crate) fn forget_token(&mut self) -> bool {
        self.tokens.forget() || self.is_authorizing()
    }

    /// Returns whether the connection, or the wait for one, is to be left for another at once.
    pub(crate) fn wants_handshake(&self) -> bool {
        self.tokens.want_handshake(self.is_open)
    }

    /// Returns whether there is something to say, or nothing more.
    pub(crate) fn has_news(&self) -> bool {
        self.is_ended || self.wants_handshake() || !self.outbox.is_empty() || self.tables.values().any(Table::has_news)
    }

    /// Takes the commands to send. What began and ended since the last time goes out together.
    pub(crate) fn commands(&mut self) -> Vec<String> {
        let names: Vec<Arc<str>> = self.tables.keys().cloned().collect();
        for name in names {
            if let Some(table) = self.tables.get_mut(&name).filter(|table| table.has_news()) {
                let pieces = table.news(self.is_open, &mut self.means);
                self.send(&name, pieces);
            }
        }
        self.settle();
        std::mem::take(&mut self.outbox)
    }

    fn send(&mut self, table: &Arc<str>, pieces: Vec<Piece>) {
        for Piece { id, topics, command } in pieces {
            let name = Arc::clone(table);
            self.unanswered
                .insert(id, topics.map_or_else(|| Asked::End(Arc::clone(table)), |topics| Asked::For(name, topics)));
            self.outbox.push(command);
        }
    }

    /// Takes what the server says.
    pub(crate) fn take(&mut self, message: Message, now: Instant) {
        match message {
            Message::Change(change) => {
                let name = change.table.as_deref().unwrap_or(PRODUCTS);
                let change = self.tables.get_mut(name).and_then(|table| table.change(&change));
                self.deliver(change);
            }
            Message::Absent { table, keys, versions } => {
                let table = self.tables.get_mut(table.as_deref().unwrap_or(PRODUCTS));
                let changes = table.map(|table| table.absent(&keys, &versions));
                self.deliver(changes.into_iter().flatten());
            }
            Message::Unsubscribed { table, keys } => self.ended(table.as_deref().unwrap_or(PRODUCTS), keys),
            Message::Epoch { epoch, table } => self.begin_epoch(&epoch.into(), table.as_deref()),
            Message::Live { is_live, table: None } => self.is_source_lost = !is_live,
            Message::Live { is_live, table: Some(table) } => {
                if let Some(table) = self.tables.get_mut(table.as_str()) {
                    table.is_lost = !is_live;
                }
            }
            Message::Reply { id: Some(id), error } => self.replied(id, error, now),
            Message::Skipped(_) if self.loses_changes => {
                self.tables.values_mut().for_each(|table| table.asks_again = table.is_followed());
            }
            Message::Reconnect { after_ms } => self.hint = Some(Duration::from_millis(after_ms).min(HINT_MAX)),
            Message::Reply { id: None, .. } | Message::Skipped(_) | Message::Other => {}
        }
        self.settle();
    }

    /// Learns the epoch of a table's versions, or of all. That of all, told again to each connection, ends no table's.
    fn begin_epoch(&mut self, epoch: &Arc<str>, table: Option<&str>) {
        if table.is_none() && self.epoch.replace(Arc::clone(epoch)).as_ref() == Some(epoch) {
            return;
        }
        for (_, its) in self.tables.iter_mut().filter(|(name, _)| table.is_none_or(|table| table == &***name)) {
            if its.rows.enter_epoch(epoch) && its.is_told {
                its.asks_again = its.is_followed();
            }
        }
    }

    /// Learns that subscriptions have ended that a new token does not grant. None of their rows is shown any more; all
    /// rows are asked for once more, since it grants others.
    fn ended(&mut self, name: &str, keys: Option<Vec<Key>>) {
        let Some(table) = self.tables.get_mut(name) else { return };
        let Some(keys) = keys else {
            table.asks_again = table.is_followed();
            return;
        };
        let changes = table.withdraw(&keys);
        self.deliver(changes);
        let refusal = Refusal { code: FORBIDDEN.into(), sentence: "the token grants these rows no more".into() };
        let topics: Vec<Topic> = keys.into_iter().map(Some).collect();
        self.refuse(name, &topics, &refusal);
    }

    fn replied(&mut self, id: u64, error: Option<Refusal>, now: Instant) {
        match (self.unanswered.remove(&id), error) {
            (Some(Asked::For(name, topics)), Some(refusal)) if refusal.code != FORBIDDEN => {
                self.refused(id, name, topics, &refusal, now);
            }
            (Some(Asked::For(name, topics)), refusal) => self.answered(id, &name, &topics, refusal),
            (Some(Asked::End(name)), _) => self.tables.get_mut(&name).into_iter().for_each(|table| table.ended(id)),
            (Some(Asked::Token(token)), refusal) => self.authorized(token, refusal),
            (None, _) => {}
        }
    }

    /// Learns that all came that was asked for, but what is forbidden.
    fn answered(&mut self, id: u64, name: &Arc<str>, topics: &[Topic], forbidden: Option<Refusal>) {
        let is_authorizing = self.is_authorizing();
        let Some(table) = self.tables.get_mut(name) else { return };
        if is_authorizing && topics.contains(&None) {
            // Rows that a token which is being taken does not grant were withheld already.
            return table.ask_again_after(id);
        }
        let Some(refusal) = forbidden else {
            let changes = table.answered(id, topics, false);
            self.deliver(changes);
            return self.tell_completion(name, topics);
        };
        let (mut changes, pieces) = table.forbidden(id, topics, &mut self.means);
        let topics = table.current(id, topics);
        changes.extend(table.answered(id, &topics, true));
        self.send(name, pieces);
        self.deliver(changes);
        self.refuse(name, &topics, &refusal);
        self.tell_completion(name, &topics);
    }

    /// Learns whether the server has taken a token. What others did not grant is asked for once more.
    fn authorized(&mut self, token: Arc<str>, refusal: Option<Refusal>) {
        match refusal {
            None => {
                self.problem = None;
                self.tokens.take(token);
                self.tables.values_mut().for_each(Table::granted);
            }
            Some(refusal) if refusal.code == UNKNOWN_COMMAND => self.tokens.need_handshake(),
            Some(refusal) => self.problem = Some(Error::Token(refusal.sentence)),
        }
    }

    /// One bad key refuses all that are beside it; halves show which it is. Another refusal may be for a while.
    fn refused(&mut self, id: u64, name: Arc<str>, topics: Vec<Topic>, refusal: &Refusal, now: Instant) {
        let Some(table) = self.tables.get_mut(&name) else { return };
        if refusal.code == BAD_KEYS && topics.len() > 1 {
            let pieces = table.ask_anew(id, &topics, 2, &mut self.means);
            return self.send(&name, pieces);
        }
        table.refused(id, &topics);
        self.refuse(&name, &topics, refusal);
        self.refused.push((now + REFUSED_PAUSE, id, name, topics));
    }

    /// Returns when there is something to do, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let refused = self.refused.iter().map(|(at, ..)| *at);
        let tables = self.tables.values().filter(|table| table.may_ask_again());
        // A table that came later was asked for row by row.
        let asked_at = tables.filter_map(|table| table.asked_at.or(self.opened_at));
        refused.chain(asked_at.map(|at| at + ASK_PAUSE)).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        let due: Vec<_> = self.refused.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, id, name, topics) in due {
            if let Some(table) = self.tables.get_mut(&name) {
                let pieces = table.ask_anew(id, &topics, 1, &mut self.means);
                self.send(&name, pieces);
            }
        }
        self.ask_for_all(now, |table| {
            table.may_ask_again() && table.asked_at.is_none_or(|asked_at| asked_at + ASK_PAUSE <= now)
        });
        self.settle();
    }

    /// Returns the rows to be read: those of which the key alone was told.
    pub(crate) fn owed(&self) -> Vec<(Arc<str>, Key)> {
        let owed = |table: &Table| table.rows.owed().iter().map(|key| (Arc::clone(&table.name), key.clone())).collect();
        self.tables.values().flat_map(|table| -> Vec<_> { owed(table) }).collect()
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.tables.values().any(|table| !table.rows.owed().is_empty())
    }

    /// Takes a row that was read.
    pub(crate) fn fill(&mut self, table: &str, key: &Key, version: u64, row: Row) {
        let change = self.tables.get_mut(table).and_then(|table| table.rows.fill(key, version, row));
        self.deliver(change);
    }

    /// Takes what wakes those who were told something.
    pub(crate) fn woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    fn deliver(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            let table = self.tables.get(&change.table);
            let followers = table.map(|table| table.followers(&[Some(change.key.clone()), None])).unwrap_or_default();
            self.post(followers, |mailbox| mailbox.change(change.clone()));
        }
    }

    fn refuse(&mut self, table: &str, topics: &[Topic], refusal: &Refusal) {
        let followers = self.tables.get(table).map(|table| table.followers(topics)).unwrap_or_default();
        self.post(followers, |mailbox| mailbox.refuse(refusal.clone()));
    }

    fn tell_completion(&mut self, table: &str, topics: &[Topic]) {
        let Some(table) = self.tables.get(table) else { return };
        let mut followers = table.followers(topics);
        followers.retain(|it| self.subscribers.get(it).is_some_and(|it| table.are_answered(it.rows.topics())));
        self.post(followers, Mailbox::complete);
    }

    fn post(&mut self, followers: BTreeSet<Follower>, add: impl Fn(&mut Mailbox)) {
        for follower in followers {
            if let Some(subscriber) = self.subscribers.get_mut(&follower) {
                add(&mut subscriber.mailbox);
                self.woken.extend(subscriber.mailbox.waker());
            }
        }
    }

    /// Tells each subscriber of whom it is another whether what it was told is the present state.
    fn settle(&mut self) {
        let is_there = self.is_open && !self.is_source_lost;
        for (name, table) in &mut self.tables {
            let is_current = is_there && table.is_current();
            let unsettled = std::mem::take(&mut table.unsettled);
            for follower in unsettled {
                if let Some(subscriber) = self.subscribers.get_mut(&follower) {
                    subscriber.is_complete = table.are_answered(subscriber.rows.topics());
                    self.woken.extend(subscriber.settle(is_current));
                }
            }
            if is_current != table.was_current {
                table.was_current = is_current;
                let followers = self.subscribers.values_mut().filter(|it| it.rows.table() == &**name);
                self.woken.extend(followers.filter_map(|subscriber| subscriber.settle(is_current)));
            }
        }
        self.is_settled |= self.is_open && !self.tables.values().any(Table::is_asking);
        self.is_shown |= self.state() == State::Live;
    }
}

impl Subscriber {
    fn settle(&mut self, is_current: bool) -> Option<Waker> {
        let is_live = is_current && self.is_complete;
        let last = self.mailbox.last_live();
        // That it is not live yet is news only to who was told all that there is.
        if last == Some(is_live) || last.is_none() && !is_live && !self.is_complete {
            return None;
        }
        self.mailbox.live(is_live);
        self.mailbox.waker()
    }
}

#[cfg(test)]
mod history;
#[cfg(test)]
mod tests;
