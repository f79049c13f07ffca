//! The states of topics that a reader is still to get, since it asked for them or is too slow for their changes:
//! `Values`, and what a session does about them.
//!
//! States are pulled from the shards as the socket drains, some at a time, so that a reader of very many costs the list
//! of them and not a queue. They fill half of the send queue at most: changes have the other half.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::answer;
use super::command::States;
use super::encoding::Encoding;
use super::queue::{SlowConsumerPolicy, Word};
use super::stale::{Answered, Part, StaleSet, Told};
use super::tables::{FollowedTable, end_tables};
use super::{Effects, Given, Phase, Session, SessionLimits};
use crate::auth::{Coverage, Grant};
use crate::fanout::{self, CastRun, Listed, PageWish, Pull, Pulled, TableStandings, Value};
use crate::model::epoch::Epoch;
use crate::model::table::{TableId, Tables};
use crate::model::topic::{Subject, Subjects, Topic, WideRow};
use crate::wire::event_stream;
use crate::wire::frame::{Frame, FrameRun};

/// The most topics that one message says to be absent.
const ABSENT_MAX: usize = 512;
/// The bytes of a state, as long as none has come.
const STATE_BYTES: usize = 256;
/// The most topics that are added to those asked for, or taken from them, one by one.
const ONE_BY_ONE_MAX: usize = 8;

/// The standing of the shards towards the source of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The epoch of the versions that they tell, once it is known.
    pub epoch: Option<Epoch>,
    /// Whether no change was missed.
    pub is_live: bool,
    /// The tables that are not as all are, if any.
    pub tables: Option<Rc<TableStandings>>,
}

impl Standing {
    /// Returns the epoch of a table, if it has one of its own.
    pub(super) fn own_epoch(&self, table: TableId) -> Option<Epoch> {
        self.tables.as_ref().and_then(|tables| tables.epoch(table))
    }

    /// Returns whether no change of a table was missed that was not missed of all.
    pub(super) fn is_table_live(&self, table: TableId) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.is_live(table))
    }
}

/// The states that a reader is still to get.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) stale: StaleSet,
    /// The epoch that the reader was told; `None` if it never asked for states.
    pub(super) epoch: Option<Epoch>,
    /// The epochs that it was told of tables after that.
    pub(super) table_epochs: HashMap<TableId, Epoch>,
    /// The topics whose states it asked for, without repetitions, in the order of their ids.
    asked: Vec<Topic>,
    /// The rows of the wide ones among them.
    rows_asked: HashMap<Topic, Arc<WideRow>>,
    /// The rows that it is to be told to be absent, of one table, with versions.
    pub(super) absent: Vec<(Subject, u64)>,
    tables: Tables,
    /// The part after which it is told that the source is back.
    live_after: Option<Part>,
    /// The bytes of a state, on the average of those that came last.
    state_bytes: usize,
    /// The pulls whose answers have not come, those of subscriptions that ended among them: their numbers are not to be
    /// given again.
    awaited: usize,
    /// The tables of which it asked to be told every row.
    everything: Vec<Everything>,
    /// The tables beside products that it is subscribed to rows of.
    pub(super) followed: Vec<FollowedTable>,
    /// True if it ever did, and its grant withholds some: each change is to be looked at.
    is_filtered: bool,
    /// True while the shards end what a new grant does not cover: likewise.
    pub(super) is_narrowing: bool,
    /// The meaning of the epoch that it was told.
    told_as: ToldAs,
}

/// The meaning of the epoch of all versions to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldAs {
    /// The first of this connection, which it may have known before, with others of tables.
    First,
    /// Another one, which ends those of tables.
    New,
    /// The same, of this reader alone.
    Own,
}

/// A table of which a reader is told every row.
#[derive(Debug)]
pub(super) struct Everything {
    table: TableId,
    /// True if it asked for their states too.
    is_asked: bool,
    /// The newest version that it claims to know of any row, until that is looked at; 0: none.
    pub(super) newest_claimed: u64,
    /// The newest of those that the shards know, as far as they have said.
    pub(super) newest_heard: u64,
}

impl Values {
    pub(super) fn new(tables: &Tables) -> Box<Self> {
        Box::new(Self {
            tables: tables.clone(),
            rows_asked: HashMap::new(),
            stale: StaleSet::default(),
            epoch: None,
            table_epochs: HashMap::new(),
            asked: Vec::new(),
            absent: Vec::new(),
            live_after: None,
            state_bytes: STATE_BYTES,
            awaited: 0,
            everything: Vec::new(),
            followed: Vec::new(),
            is_filtered: false,
            is_narrowing: false,
            told_as: ToldAs::First,
        })
    }

    /// Returns whether nothing is to come but changes, and each of them goes out.
    fn is_at_rest(&self) -> bool {
        self.stale.is_empty() && self.absent.is_empty() && self.live_after.is_none() && !self.looks_at_rows()
    }

    /// Returns whether each row that is to be told is looked at first.
    const fn looks_at_rows(&self) -> bool {
        self.is_filtered || self.is_narrowing
    }

    /// Returns the tables of which the reader is told every row.
    pub(super) fn wholes(&self) -> impl Iterator<Item = TableId> {
        self.everything.iter().map(|its| its.table)
    }

    /// Forgets what was asked for, and what is still to come, of rows that a grant does not cover, and the tables of which it
    /// reads nothing.
    pub(super) fn forget_uncovered(&mut self, grant: &Grant, coverage: &mut Coverage<'_>) {
        let rows = &self.rows_asked;
        self.asked.retain(|topic| coverage.covers_row(*topic, rows.get(topic).map(|row| &**row)));
        self.asked.shrink_to_fit();
        self.rows_asked.retain(|topic, row| coverage.covers_row(*topic, Some(row)));
        self.rows_asked.shrink_to_fit();
        self.stale.retain(|topic, row| coverage.covers_row(topic, row));
        let tables = &self.tables;
        end_tables(&mut self.followed, |table| !grant.may_read_some(&tables.get(table)));
    }

    /// Returns the epoch that the reader was told of a table, by its name or with all.
    pub(super) fn epoch_of(&self, table: TableId) -> Option<Epoch> {
        self.table_epochs.get(&table).copied().or(self.epoch)
    }

    fn has_no_subscriptions(&self) -> bool {
        self.everything.is_empty() && self.followed.is_empty()
    }

    fn is_everything(&self, table: TableId) -> bool {
        self.everything.iter().any(|its| its.table == table)
    }

    pub(super) fn everything(&mut self, table: TableId) -> Option<&mut Everything> {
        self.everything.iter_mut().find(|its| its.table == table)
    }

    fn forget_everything(&mut self, table: TableId) {
        self.everything.retain(|its| its.table != table);
    }

    fn follow(&mut self, subjects: &Subjects) {
        let topics = subjects.topics();
        if !subjects.are_narrow() {
            let wide = subjects.iter().filter_map(|subject| Some((subject.topic(), Arc::clone(subject.wide()?))));
            self.rows_asked.extend(wide);
        }
        if topics.len() <= ONE_BY_ONE_MAX {
            for topic in topics {
                if let Err(place) = self.asked.binary_search(topic) {
                    self.asked.insert(place, *topic);
                }
            }
            return;
        }
        self.asked.reserve_exact(topics.len());
        self.asked.extend_from_slice(topics);
        // Joins what is in order already.
        self.asked.sort();
        self.asked.dedup();
    }

    fn unfollow(&mut self, topics: &[Topic]) {
        if !self.rows_asked.is_empty() {
            for topic in topics {
                self.rows_asked.remove(topic);
            }
            if self.rows_asked.is_empty() {
                self.rows_asked = HashMap::new();
            }
        }
        if topics.len() <= ONE_BY_ONE_MAX {
            for topic in topics {
                if let Ok(place) = self.asked.binary_search(topic) {
                    self.asked.remove(place);
                }
            }
            return;
        }
        let mut ended = topics.to_vec();
        ended.sort_unstable();
        self.asked.retain(|topic| ended.binary_search(topic).is_err());
        self.asked.shrink_to_fit();
    }
}

impl Session {
    /// Returns whether the reader asks for states, so that its answers go in order with them.
    pub(super) fn is_asked(&self) -> bool {
        self.values.as_ref().is_some_and(|values| values.epoch.is_some())
    }

    /// Returns whether a pull is to be made of what [`Session::next_pulls`] returns.
    #[must_use]
    pub fn wants_pulls(&self, limits: &SessionLimits) -> bool {
        self.values.as_ref().is_some_and(|values| values.stale.has_waiting()) && self.pulls_max(limits) > 0
    }

    /// Returns the states to ask the shards for, as many as there is room for. Ask after every event and whenever bytes
    /// were written, until there are none.
    pub fn next_pulls(&mut self, limits: &SessionLimits) -> Vec<Pull> {
        let most = self.pulls_max(limits);
        match &mut self.values {
            Some(values) => {
                let pulls: Vec<Pull> = std::iter::from_fn(|| values.stale.next_pull()).take(most).collect();
                values.awaited += pulls.len();
                pulls
            }
            None => Vec::new(),
        }
    }

    /// Returns whether [`Session::next_page`] asks for one.
    #[must_use]
    pub fn wants_page(&self) -> bool {
        let wants = self.values.as_ref().is_some_and(|values| values.stale.wants_page());
        wants && self.phase == Phase::Open && !self.is_blocked
    }

    /// Returns the page of the list of all topics to ask the shards for. Ask whenever [`Session::next_pulls`] is asked.
    pub fn next_page(&mut self) -> Option<PageWish> {
        if self.wants_page() { self.values.as_mut()?.stale.next_page() } else { None }
    }

    /// Returns the number of states that may be pulled: none until half of those before have left.
    fn pulls_max(&self, limits: &SessionLimits) -> usize {
        let Some(values) = &self.values else { return 0 };
        if self.phase != Phase::Open || self.is_blocked {
            return 0;
        }
        let bytes_max = limits.queue.bytes_max / 2;
        let most = (limits.queue.frames_max / 2).min(bytes_max / values.state_bytes).max(1);
        let waiting = self.queue.len() + values.stale.pulled();
        if waiting > most / 2 || self.queue.bytes() > bytes_max / 2 { 0 } else { most - waiting }
    }

    /// Notes changes that are not queued, since a state that will be pulled has them, or something newer. Returns `None`
    /// if they are to be queued.
    pub fn give_way(&mut self, subject: &Subject, run: &FrameRun, limits: &SessionLimits) -> Option<Effects> {
        let values = self.values.as_mut().filter(|_| self.phase == Phase::Open)?;
        let is_conflating = limits.queue.policy == SlowConsumerPolicy::Conflate && !values.stale.is_empty();
        if !is_conflating && !values.stale.contains(subject.topic()) {
            return None;
        }
        let skipped = values.stale.gave_way(subject, run.frames() as u64, newest(run));
        self.queue.skip(skipped);
        Some(Effects { skipped, ..Effects::default() })
    }

    /// Returns whether changes of this topic are to be queued.
    pub(super) fn queues(&mut self, topic: Topic, limits: &SessionLimits) -> bool {
        let Some(values) = &self.values else { return true };
        if values.stale.is_empty() {
            self.say_absent();
            return true;
        }
        let is_conflating = limits.queue.policy == SlowConsumerPolicy::Conflate;
        let is_queued = !is_conflating && !values.stale.contains(topic);
        if is_queued {
            self.say_absent();
        }
        is_queued
    }

    /// Returns whether a change may go out at once.
    pub(super) fn has_no_states_due(&self) -> bool {
        self.values.as_ref().is_none_or(|values| values.is_at_rest())
    }

    /// Lets all changes that wait give way, and this one: their newest are pulled as the socket drains.
    pub(super) fn conflate(&mut self, subject: &Subject, version: u64, given: &Given<'_>, effects: &mut Effects) {
        let is_live_taken = self.queue.take_live();
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        for (waiting, run) in self.queue.take_changes() {
            effects.skipped += values.stale.gave_way(&waiting, run.frames() as u64, newest(&run));
        }
        effects.skipped += values.stale.gave_way(subject, 1, version);
        self.queue.skip(effects.skipped);
        if is_live_taken {
            // What was missed is among what gave way.
            self.is_told_lost = true;
            values.live_after = Some(values.stale.end_part());
        }
        self.take_table_lives();
    }

    /// Begins to ask for states of the topics of a command that is given to the shards; adds the versions that are
    /// known to it.
    pub(super) fn ask(
        &mut self,
        command: &mut fanout::Command,
        states: States,
        epoch: Epoch,
        standing: &Standing,
        given: &Given<'_>,
    ) -> Part {
        let table = command.topics.topics().first().map(|topic| topic.table());
        let told = self.tell_epochs(table, states.epoch(), epoch, standing, given);
        let values = self.values.as_mut().expect("it is there");
        values.follow(&command.topics);
        match states {
            States::Since { versions, epoch } if epoch == Some(told) => {
                command.known.clone_from(&versions);
                values.stale.list_held(command.topics.clone(), versions, command.number)
            }
            // Versions of another epoch mean nothing.
            States::Since { .. } | States::All | States::Everything { .. } => {
                values.stale.list(command.topics.clone(), Vec::new())
            }
        }
    }

    /// Tells a reader that asks for states the epoch of all versions, and that of a table which has one of its own, unless it
    /// was told; returns the one that it was told of the table.
    ///
    /// One that claims another epoch of the table is told that by name, though it be that of all: a server that is behind
    /// has not heard of the table's own yet, and of that the epoch of all says nothing.
    fn tell_epochs(
        &mut self,
        table: Option<TableId>,
        claimed: Option<Epoch>,
        epoch: Epoch,
        standing: &Standing,
        given: &Given<'_>,
    ) -> Epoch {
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        let is_first = values.epoch.is_none();
        let told = *values.epoch.get_or_insert(epoch);
        if is_first {
            self.say(Word::Other, answer::epoch(told));
        }
        let (Some(table), Some(values)) = (table, &mut self.values) else { return told };
        if let Some(&of_table) = values.table_epochs.get(&table) {
            return of_table;
        }
        let of_table = standing.own_epoch(table).unwrap_or(told);
        let knows_other = claimed.is_some_and(|claimed| claimed != of_table) && values.told_as == ToldAs::First;
        if (of_table != told || knows_other) && table != TableId::PRODUCTS {
            values.table_epochs.insert(table, of_table);
            self.say(Word::Other, answer::table_epoch(of_table, &given.tables.get(table)));
        }
        of_table
    }

    /// Learns topics of a command of which the reader does not know the newest version.
    pub(super) fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        if let Some(values) = &mut self.values {
            values.stale.differ(number, topics);
        }
    }

    /// Begins to ask for the states of all topics, which are listed once the shards have carried the command out.
    pub(super) fn ask_everything(
        &mut self,
        table: TableId,
        (newest, its): (u64, Option<Epoch>),
        epoch: Epoch,
        standing: &Standing,
        given: &Given<'_>,
    ) {
        let told = self.tell_epochs(Some(table), its, epoch, standing, given);
        if let Some(values) = &mut self.values {
            values.stale.list(Subjects::default(), Vec::new());
            let newest = if its == Some(told) { newest } else { 0 };
            if let Some(its) = values.everything(table) {
                (its.is_asked, its.newest_claimed) = (true, its.newest_claimed.max(newest));
            }
        }
    }

    /// Takes the shards' word on the list of all topics.
    pub(super) fn listed(&mut self, listed: Listed, given: &Given<'_>, effects: &mut Effects) {
        match (listed, &mut self.values) {
            (Listed::Newest(table, newest), Some(values)) => {
                if let Some(its) = values.everything(table) {
                    its.newest_heard = its.newest_heard.max(newest);
                }
            }
            (Listed::Page(mut page), Some(_)) => {
                if self.is_filtered() {
                    page.topics = page.topics.iter().filter(|subject| self.may_get(subject)).collect();
                }
                if let Some(values) = &mut self.values {
                    values.stale.page(page);
                }
                self.settle_values(given, effects);
            }
            (_, None) => {}
        }
    }

    /// Asks for the states of all topics, for a command that the shards have carried out.
    pub(super) fn list_all(&mut self, table: TableId, number: u32) {
        let Some(values) = &mut self.values else { return };
        let Some(its) = values.everything(table).filter(|its| its.is_asked) else { return };
        // A version that none reaches is of another history: the reader begins anew.
        let is_false = std::mem::take(&mut its.newest_claimed) > its.newest_heard;
        let part = values.stale.list_all(table);
        if let Some(commands) = &mut self.commands {
            commands.awaits(number, part);
        }
        if is_false {
            self.begin_own_epoch();
        }
    }

    /// Learns that it is not told of every topic, since the shards refuse to.
    pub(super) fn unfollow_everything(&mut self, table: TableId) {
        if let Some(values) = &mut self.values {
            values.forget_everything(table);
            values.stale.end_pages(table);
        }
    }

    /// Begins to be told of every topic.
    pub(super) fn follow_all(&mut self, table: TableId, given: &Given<'_>) {
        let values = self.values.get_or_insert_with(|| Values::new(given.tables));
        if !values.is_everything(table) {
            values.everything.push(Everything { table, is_asked: false, newest_claimed: 0, newest_heard: 0 });
        }
        values.is_filtered |= self.grant.is_some();
    }

    /// Returns whether the reader's token lets it read a topic.
    pub(super) fn may_get(&self, subject: &Subject) -> bool {
        let Some(values) = self.values.as_ref().filter(|values| values.looks_at_rows()) else { return true };
        let table = values.tables.get(subject.topic().table());
        self.grant().is_none_or(|grant| grant.may_read_row(&table, &subject.key()))
    }

    fn is_filtered(&self) -> bool {
        self.values.as_ref().is_some_and(|values| values.looks_at_rows())
    }

    /// Forgets all states, since every subscription ends.
    pub(super) fn unfollow_all(&mut self, table: TableId, given: &Given<'_>, effects: &mut Effects) {
        let Some(values) = &mut self.values else { return };
        values.asked.retain(|topic| topic.table() != table);
        values.asked.shrink_to_fit();
        values.rows_asked.retain(|topic, _| topic.table() != table);
        values.rows_asked.shrink_to_fit();
        values.forget_everything(table);
        let lost = values.stale.clear(table);
        effects.skipped += lost;
        self.queue.skip(lost);
        self.settle_values(given, effects);
    }

    /// Learns that topics are subscribed to, again perhaps.
    pub(super) fn renew(&mut self, topics: &[Topic]) {
        if let Some(values) = &mut self.values {
            values.stale.renew(topics);
        }
    }

    /// Forgets states of topics that are not subscribed to any more.
    pub(super) fn unfollow(&mut self, topics: &[Topic], given: &Given<'_>, effects: &mut Effects) {
        let Some(values) = &mut self.values else { return };
        values.unfollow(topics);
        if topics.first().is_some_and(|topic| values.is_everything(topic.table())) {
            // They are subscribed to all the same, or the end of all is on its way.
            return;
        }
        if !values.stale.is_empty() {
            let lost = topics.iter().filter(|topic| values.stale.remove(**topic)).count() as u64;
            effects.skipped += lost;
            self.queue.skip(lost);
            self.settle_values(given, effects);
        }
    }

    pub(super) fn pulled(&mut self, answer: Pulled, given: &Given<'_>, effects: &mut Effects) {
        let is_withheld = !self.is_told(&answer.subject);
        let Some(values) = self.values.as_mut().filter(|_| self.phase == Phase::Open) else { return };
        values.awaited = values.awaited.saturating_sub(1);
        let Pulled { subject, number, value } = answer;
        let topic = subject.topic();
        match value {
            _ if is_withheld => {
                values.stale.answered(topic, number, Told::Ended);
            }
            Value::Same => {
                values.stale.answered(topic, number, Told::Same);
            }
            Value::Present { version, frame } => self.present(subject, number, (version, frame), given),
            Value::Absent { version } => {
                if values.stale.answered(topic, number, Told::State(version)) == Answered::Fresh {
                    let is_of_other = values.absent.last().is_some_and(|(it, _)| it.topic().table() != topic.table());
                    if is_of_other || values.absent.len() >= ABSENT_MAX {
                        self.say_absent();
                    }
                    if let Some(values) = &mut self.values {
                        values.absent.push((subject, version));
                    }
                }
            }
            Value::Unreached if values.stale.is_pulled(topic, number) => self.begin_own_epoch(),
            Value::Unreached => {}
            // Its own subscription has ended, and that to everything goes on.
            Value::Ended if values.is_everything(topic.table()) => {
                values.stale.put_back(topic, number);
            }
            Value::Ended => {
                if values.stale.answered(topic, number, Told::Ended) == Answered::Lost {
                    effects.skipped += 1;
                    self.queue.skip(1);
                }
            }
        }
        self.settle_values(given, effects);
    }

    /// Returns whether a state that comes may be told: it was asked for under a grant that let the reader have it, and
    /// while another one takes its place it may not be.
    fn is_told(&self, subject: &Subject) -> bool {
        !self.values.as_ref().is_some_and(|values| values.is_narrowing) || self.may_get(subject)
    }

    fn present(&mut self, subject: Subject, number: u32, (version, frame): (u64, Frame), given: &Given<'_>) {
        self.say_absent();
        let topic = subject.topic();
        let frame = match self.encoding {
            Encoding::WebSocket => frame,
            Encoding::EventStream => event_stream::row(self.epoch_of(topic.table()), version, &frame),
        };
        let Some(values) = &mut self.values else { return };
        values.state_bytes = (3 * values.state_bytes + frame.len()) / 4 + 1;
        if !self.queue.has_room_for_state(frame.len(), &given.limits.queue) {
            values.stale.put_back(topic, number);
        } else if values.stale.answered(topic, number, Told::State(version)) == Answered::Fresh {
            self.queue.push_state(subject, version, frame);
        }
    }

    /// Returns changes as events. Their ids are of the epoch that the reader was told; all have them of one, but those that
    /// have an epoch of their own.
    pub(super) fn events<'a>(&self, run: &'a CastRun) -> Cow<'a, FrameRun> {
        let epoch = self.epoch_of(run.subject.topic().table());
        if self.values.as_ref().is_some_and(|values| values.told_as == ToldAs::Own) {
            Cow::Owned(event_stream::rows(epoch, &run.frames))
        } else {
            run.events(epoch)
        }
    }

    fn epoch_of(&self, table: TableId) -> Option<Epoch> {
        self.values.as_ref()?.epoch_of(table)
    }

    /// Begins anew with a reader that claims a version which was never there: it is told an epoch that nobody else has,
    /// and all that it asked for.
    fn begin_own_epoch(&mut self) {
        let epoch = Epoch::random();
        self.say(Word::Other, answer::epoch(epoch));
        if let Some(values) = &mut self.values {
            values.epoch = Some(epoch);
            values.told_as = ToldAs::Own;
            values.table_epochs.values_mut().for_each(|its| *its = epoch);
            let subject = |&topic: &Topic| Subject::new(topic, values.rows_asked.get(&topic));
            let asked = values.asked.iter().map(subject).collect();
            values.stale.doubt(asked);
            for its in values.everything.iter().filter(|its| its.is_asked) {
                values.stale.list_all_again(its.table);
            }
        }
    }

    /// Learns the epoch of all versions from here on: changes of another one that wait mean nothing, and everything that
    /// is subscribed to will be pushed.
    pub(super) fn epoch_began(&mut self, epoch: Epoch, given: &Given<'_>, effects: &mut Effects) {
        let told = self.values.as_ref().and_then(|values| values.epoch);
        if self.phase != Phase::Open || told == Some(epoch) {
            return;
        }
        let mut lost: u64 = self.queue.take_changes().iter().map(|(_, run)| run.frames() as u64).sum();
        if let Some(values) = &mut self.values {
            lost += values.stale.begin_anew();
            for its in &mut values.everything {
                (its.newest_claimed, its.newest_heard) = (0, 0);
            }
            values.epoch = told.map(|_| epoch);
            values.told_as = if told.is_some() { ToldAs::New } else { ToldAs::First };
            values.table_epochs = HashMap::new();
        }
        if told.is_some() {
            self.say(Word::Other, answer::epoch(epoch));
        }
        effects.skipped += lost;
        self.queue.skip(lost);
        self.settle_values(given, effects);
    }

    /// Learns that changes may be missing from here on, or that all that was missed has been given to it.
    pub(super) fn live(&mut self, is_live: bool, given: &Given<'_>, effects: &mut Effects) {
        if self.phase != Phase::Open {
            return;
        }
        if !is_live {
            if let Some(values) = &mut self.values {
                values.live_after = None;
            }
            // Nobody is told of a return that did not last.
            self.is_told_lost |= self.queue.take_live();
            if self.subscriptions > 0 || self.commands.is_some() {
                self.tell_lost();
            }
            self.settle_values(given, effects);
        } else if self.is_told_lost {
            match self.values.as_mut().filter(|values| !values.stale.is_empty()) {
                Some(values) => values.live_after = Some(values.stale.end_part()),
                None => self.tell_live(),
            }
        }
    }

    /// Tells the reader, once, that what it shows may be old.
    pub(super) fn tell_lost(&mut self) {
        if !self.is_told_lost {
            self.is_told_lost = true;
            self.say(Word::Other, answer::live(false));
        }
    }

    fn tell_live(&mut self) {
        self.is_told_lost = false;
        self.say(Word::Live, answer::live(true));
    }

    /// Does what waited for states that are there.
    pub(super) fn settle_values(&mut self, given: &Given<'_>, effects: &mut Effects) {
        self.answer_done(given, effects);
        let Some(values) = &mut self.values else { return };
        if let Some(part) = values.live_after
            && values.stale.is_answered(part)
        {
            values.live_after = None;
            self.tell_live();
        }
        self.settle_tables(given);
        if self.values.as_ref().is_some_and(|values| {
            values.is_at_rest() && values.has_no_subscriptions() && values.awaited == 0 && values.epoch.is_none()
        }) {
            self.values = None;
        }
    }

    /// Queues a word in order with the changes.
    pub(super) fn say(&mut self, word: Word, frame: Frame) {
        self.say_absent();
        self.queue.push_word(word, self.encoding.text(frame));
    }

    /// Queues the word that topics are absent, if any are.
    pub(super) fn say_absent(&mut self) {
        if let Some(values) = &mut self.values
            && !values.absent.is_empty()
        {
            let absent = std::mem::take(&mut values.absent);
            let word = self.encoding.text(answer::absent(&absent, &values.tables));
            self.queue.push_absences(absent, word);
        }
    }
}

#[cfg(test)]
impl Session {
    /// Panics if the rows of what was asked for are not those of its wide topics.
    pub(super) fn check_asked(&self) {
        let Some(values) = &self.values else { return };
        let wide = values.asked.iter().filter(|topic| topic.narrow().is_none());
        assert_eq!(wide.count(), values.rows_asked.len());
        assert!(values.asked.is_sorted_by(|one, other| one < other));
        for topic in &values.asked {
            assert_eq!(Subject::new(*topic, values.rows_asked.get(topic)).topic(), *topic);
        }
    }
}

/// Returns the version of the last frame of a run.
fn newest(run: &FrameRun) -> u64 {
    *run.versions().last().expect("a run has a frame")
}
