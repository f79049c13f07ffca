//! A reader's new token: the grant changes at once, and what it does not cover is ended, and said, before the answer.
//!
//! 1. The new grant counts from the command on. Where it reads other rows, every row that is pushed or pulled is looked at
//!    until the shards have ended what it does not cover, and those that wait in the queue are taken back.
//! 2. Behind the commands before it the shards are given a [`Revocation`]. No further command is read until all is done, so
//!    that none of them can be undone by it.
//! 3. The rows that ended are said as the reader takes the words, one message at a time: there may be very many.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::ReplyId;
use super::refusal::{Refusal, Why};
use super::values::Values;
use super::{Effects, Given, Phase, Session, answer};
use crate::auth::{Coverage, Grant};
use crate::fanout::Revocation;
use crate::model::table::{TableId, Tables};
use crate::model::topic::{Subject, Subjects};
use crate::wire::frame::Frame;

/// The most rows that one message says to have ended.
const UNSUBSCRIBED_MAX: usize = if cfg!(test) { 3 } else { 512 };
/// The units of work of a token, whose signature costs more than a thousand ids.
const TOKEN_UNITS: u32 = 16;
/// The subscriptions that are looked through for one unit.
const SUBSCRIPTIONS_PER_UNIT: u32 = 1024;

/// A change of the grant that is in progress.
#[derive(Debug)]
pub struct Authorizing {
    /// The grant before.
    old: Option<Arc<Grant>>,
    /// The tables of which every row was told, and the rows, that ended and are to be said.
    wholes: Vec<TableId>,
    rows: BTreeMap<TableId, Subjects>,
}

impl Authorizing {
    /// Returns whether all that ended was said.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.wholes.is_empty() && self.rows.is_empty()
    }

    /// Returns the next message on what ended, if there is one.
    fn next_words(&mut self, tables: &Tables) -> Option<Frame> {
        if let Some(table) = self.wholes.pop() {
            return Some(answer::unsubscribed_whole(&tables.get(table)));
        }
        let mut rows = self.rows.first_entry()?;
        let table = tables.get(*rows.key());
        let said = rows.get_mut().take_last(UNSUBSCRIBED_MAX);
        if rows.get().is_empty() {
            rows.remove();
        }
        Some(answer::unsubscribed(&said, &table))
    }
}

impl Session {
    /// Returns the units of work of an `authorize`.
    #[must_use]
    pub const fn authorize_units(&self) -> u32 {
        TOKEN_UNITS + self.subscriptions / SUBSCRIPTIONS_PER_UNIT
    }

    /// Takes the grant of another token; `None` where tokens mean nothing.
    pub(super) fn authorize(
        &mut self,
        reply: Option<ReplyId>,
        grant: Result<Option<Arc<Grant>>, Why>,
        given: &Given<'_>,
        effects: &mut Effects,
    ) {
        if self.phase != Phase::Open {
            return;
        }
        let grant = match grant {
            Ok(grant) => grant,
            Err(why) => return self.refuse(&Refusal { reply, why }),
        };
        if let Some(grant) = grant {
            let old = self.grant.replace(Arc::clone(&grant));
            if old.as_ref().is_none_or(|old| !grant.reads_as(old)) {
                self.withhold_rows(&grant, given);
                let authorizing = Authorizing { old, wholes: Vec::new(), rows: BTreeMap::new() };
                self.commands.get_or_insert_default().push_authorizing(reply, authorizing);
                return;
            }
        }
        self.commands.get_or_insert_default().push_done(reply);
        self.answer_done(given, effects);
    }

    /// Tells nothing more of rows that a grant does not read.
    fn withhold_rows(&mut self, grant: &Grant, given: &Given<'_>) {
        let mut coverage = Coverage::new(grant, given.tables);
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        values.is_narrowing = true;
        values.absent.retain(|(subject, _)| coverage.covers(subject));
        let encoding = self.encoding;
        let absent = |word: &[u8], is_told: &mut dyn FnMut(&Subject) -> bool| {
            let mut rows = answer::absent_rows(word, given.tables)?;
            rows.retain(|(subject, _)| is_told(subject));
            (!rows.is_empty()).then(|| encoding.text(answer::absent(&rows, given.tables)))
        };
        self.queue.retain_rows(|subject| coverage.covers(subject), absent);
    }

    /// Returns what the shards are to leave, for the command that is given to them. What is told of whole tables ends here.
    pub(super) fn begin_revocation(&mut self, given: &Given<'_>) -> Option<Arc<Revocation>> {
        let grant = Arc::clone(self.grant.as_ref()?);
        let authorizing = self.commands.as_mut()?.authorizing()?;
        let ends = |table: &TableId| {
            let table = given.tables.get(*table);
            authorizing.old.as_ref().is_none_or(|old| !grant.reads_alike(old, &table.name))
        };
        let wholes: Vec<TableId> =
            self.values.as_ref().map(|values| values.everything.tables().filter(ends).collect()).unwrap_or_default();
        authorizing.wholes.clone_from(&wholes);
        for table in &wholes {
            self.unfollow_everything(*table);
        }
        Some(Arc::new(Revocation { grant, wholes }))
    }

    /// Learns rows that the shards have ended.
    pub(super) fn revoked(&mut self, revoked: &Subjects) {
        if let Some(authorizing) = self.commands.as_mut().and_then(|commands| commands.authorizing()) {
            for subject in revoked.iter() {
                authorizing.rows.entry(subject.topic().table()).or_default().push(subject);
            }
        }
    }

    /// Learns that a table of which every row was to be told is not subscribed to, which its own answer says.
    pub(super) fn was_not_whole(&mut self, table: TableId) {
        if let Some(authorizing) = self.commands.as_mut().and_then(|commands| commands.authorizing()) {
            authorizing.wholes.retain(|its| *its != table);
        }
    }

    /// Learns that the shards have ended all that the grant does not cover: no row of it comes after this.
    pub(super) fn end_narrowing(&mut self, given: &Given<'_>) {
        if let (Some(grant), Some(values)) = (&self.grant, &mut self.values) {
            values.is_narrowing = false;
            values.forget_uncovered(grant, &mut Coverage::new(grant, given.tables));
        }
    }

    /// Returns whether [`Session::say_unsubscribed`] says something.
    #[must_use]
    pub fn wants_to_say(&self) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.has_unsaid()) && self.queue.answers_len() == 0
    }

    /// Says some of what a new grant ended, once the words before have left. Ask whenever [`Session::next_pulls`] is asked.
    pub fn say_unsubscribed(&mut self, given: &Given<'_>) -> Option<Effects> {
        if !self.wants_to_say() {
            return None;
        }
        let words = self.commands.as_mut()?.authorizing()?.next_words(given.tables)?;
        self.reply(words);
        let mut effects = Effects::default();
        self.answer_done(given, &mut effects);
        Some(effects)
    }
}
