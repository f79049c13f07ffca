//! The states of topics that a reader is still to get, since it asked for them or is too slow for their changes:
//! `Values`, and what a session does about them.
//!
//! States are pulled from the shards as the socket drains, some at a time, so that a reader of very many costs the list
//! of them and not a queue. They fill half of the send queue at most: changes have the other half.

use smallvec::SmallVec;

use super::answer;
use super::asked::Asked;
use super::command::States;
use super::encoding::Encoding;
use super::epochs::{Epochs, Standing};
use super::everything::Everything;
use super::queue::{SlowConsumerPolicy, Word};
use super::stale::{Answered, Part, StaleSet, Told};
use super::tables::{FollowedTable, end_tables};
use super::{Effects, Given, Phase, Session, SessionLimits};
use crate::auth::{Coverage, Grant};
use crate::fanout::{self, PageWish, Pull, Pulled, Value};
use crate::model::epoch::Epoch;
use crate::model::table::{TableId, Tables};
use crate::model::topic::{Subject, Subjects, Topic};
use crate::wire::event_stream;
use crate::wire::frame::{Frame, FrameRun};

/// The most topics that one message says to be absent.
const ABSENT_MAX: usize = 512;
/// The bytes of a state, as long as none has come.
const STATE_BYTES: usize = 256;

/// The states that a reader is still to get.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) stale: StaleSet,
    /// The epochs that the reader was told.
    pub(super) epochs: Epochs,
    /// The rows whose states it asked for.
    asked: Asked,
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
    pub(super) everything: Everything,
    /// The tables beside products that it is subscribed to rows of.
    pub(super) followed: Vec<FollowedTable>,
    /// True if it ever did, and its grant withholds some: each change is to be looked at.
    pub(super) is_filtered: bool,
    /// True while the shards end what a new grant does not cover: likewise.
    pub(super) is_narrowing: bool,
}

impl Values {
    pub(super) fn new(tables: &Tables) -> Box<Self> {
        Box::new(Self {
            tables: tables.clone(),
            stale: StaleSet::default(),
            epochs: Epochs::default(),
            asked: Asked::default(),
            absent: Vec::new(),
            live_after: None,
            state_bytes: STATE_BYTES,
            awaited: 0,
            everything: Everything::default(),
            followed: Vec::new(),
            is_filtered: false,
            is_narrowing: false,
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

    /// Forgets what was asked for, and what is still to come, of rows that a grant does not cover, and the tables of which it
    /// reads nothing.
    pub(super) fn forget_uncovered(&mut self, grant: &Grant, coverage: &mut Coverage<'_>) {
        self.asked.retain(|topic, row| coverage.covers_row(topic, row));
        self.stale.retain(|topic, row| coverage.covers_row(topic, row));
        let tables = &self.tables;
        end_tables(&mut self.followed, |table| !grant.may_read_some(&tables.get(table)));
    }

    /// Forgets the claims of the reader: all that it asked for is to come again.
    pub(super) fn doubt(&mut self) {
        self.stale.doubt(self.asked.subjects());
        for table in self.everything.asked() {
            self.stale.list_all_again(table);
        }
    }

    /// Begins in another history. Returns the number of changes that gave way and never come.
    pub(super) fn begin_anew(&mut self) -> u64 {
        self.everything.begin_anew(|_| true);
        self.stale.begin_anew()
    }

    /// Does the same for the rows of one table.
    pub(super) fn begin_table_anew(&mut self, table: TableId) -> u64 {
        self.everything.begin_anew(|its| its == table);
        self.stale.begin_table_anew(table)
    }

    /// Has rows of tables of which every row is told pulled whose changes are of an epoch that is over: one that a change has
    /// deleted is perhaps forgotten by its shard.
    pub(super) fn pull_of_whole(&mut self, changes: Vec<(Subject, FrameRun)>) {
        let is_told = |subject: &Subject| self.everything.contains(subject.topic().table());
        let rows = changes.into_iter().map(|(subject, _)| subject).filter(is_told);
        let (rows, _) = rows.collect::<Subjects>().once_each(Vec::new());
        for rows in rows.by_table() {
            self.stale.list(rows, Vec::new());
        }
    }

    fn has_no_subscriptions(&self) -> bool {
        self.everything.is_empty() && self.followed.is_empty()
    }
}

impl Session {
    /// Returns whether a pull is to be made of what [`Session::next_pulls`] returns.
    #[must_use]
    pub fn wants_pulls(&self, limits: &SessionLimits) -> bool {
        // Mostly nothing waits, which is cheaper to find out than the rooms.
        let Some(values) = self.values.as_ref().filter(|values| values.stale.has_waiting(|_| true)) else {
            return false;
        };
        let rooms = self.rooms(limits);
        values.stale.has_waiting(|table| has_room(&rooms, table))
    }

    /// Returns the states to ask the shards for, as many as there is room for. Ask after every event and whenever bytes
    /// were written, until there are none.
    pub fn next_pulls(&mut self, limits: &SessionLimits) -> Vec<Pull> {
        let mut rooms = self.rooms(limits);
        let Some(values) = &mut self.values else { return Vec::new() };
        let mut pulls = Vec::new();
        while let Some(pull) = values.stale.next_pull(|table| has_room(&rooms, table)) {
            let table = pull.subject.topic().table();
            rooms.iter_mut().filter(|(its, _)| *its == table).for_each(|(_, room)| *room -= 1);
            pulls.push(pull);
        }
        values.awaited += pulls.len();
        pulls
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

    /// Returns the number of states that may be pulled of each table that has some to be: none until half of those before
    /// have left. Each has its share, since those of one may not come for as long as somebody locks it.
    fn rooms(&self, limits: &SessionLimits) -> SmallVec<[(TableId, usize); 1]> {
        let bytes_max = limits.queue.bytes_max / 2;
        let Some(values) = &self.values else { return SmallVec::new() };
        if self.phase != Phase::Open || self.is_blocked || self.queue.bytes() > bytes_max / 2 {
            return SmallVec::new();
        }
        let mut tables = values.stale.tables();
        let most = (limits.queue.frames_max / 2).min(bytes_max / values.state_bytes) / tables.len().max(1);
        for (_, pulled) in &mut tables {
            let (share, waiting) = (most.max(1), self.queue.len() + *pulled);
            *pulled = if waiting > share / 2 { 0 } else { share - waiting };
        }
        tables
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
        values.asked.add(&command.topics);
        match states {
            States::Since { versions, epoch } if epoch == Some(told) => {
                command.known.clone_from(&versions);
                values.stale.list_held(command.topics.clone(), versions, command.number)
            }
            // Versions of another epoch mean nothing.
            States::Since { .. } | States::All { .. } | States::Everything { .. } => {
                values.stale.list(command.topics.clone(), Vec::new())
            }
        }
    }

    /// Learns topics of a command of which the reader does not know the newest version.
    pub(super) fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        if let Some(values) = &mut self.values {
            values.stale.differ(number, topics);
        }
    }

    /// Returns whether the reader's token lets it read a topic.
    pub(super) fn may_get(&self, subject: &Subject) -> bool {
        let Some(values) = self.values.as_ref().filter(|values| values.looks_at_rows()) else { return true };
        let table = values.tables.get(subject.topic().table());
        self.grant().is_none_or(|grant| grant.may_read_row(&table, &subject.key()))
    }

    /// Returns whether there are rows that [`Session::may_get`] withholds.
    pub(super) fn is_filtered(&self) -> bool {
        self.values.as_ref().is_some_and(|values| values.looks_at_rows())
    }

    /// Forgets all states, since every subscription ends.
    pub(super) fn unfollow_all(&mut self, table: TableId, given: &Given<'_>, effects: &mut Effects) {
        let Some(values) = &mut self.values else { return };
        values.asked.retain(|topic, _| topic.table() != table);
        values.everything.remove(table);
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
        values.asked.remove(topics);
        if topics.first().is_some_and(|topic| values.everything.contains(topic.table())) {
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

    /// Returns whether an answer is to the pull of its topic that is under way.
    #[must_use]
    pub fn awaits(&self, answer: &Pulled) -> bool {
        let is_pulled = |values: &Values| values.stale.is_pulled(answer.subject.topic(), answer.number);
        self.values.as_deref().is_some_and(is_pulled)
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
            Value::Ended if values.everything.contains(topic.table()) => {
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
            values.is_at_rest() && values.has_no_subscriptions() && values.awaited == 0 && !values.epochs.are_told()
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
            self.queue.push_word(Word::Absent, word);
        }
    }
}

#[cfg(test)]
impl Session {
    /// Panics if the rows of what was asked for are not those of its wide topics.
    pub(super) fn check_asked(&self) {
        if let Some(values) = &self.values {
            values.asked.check();
        }
    }
}

/// Returns whether there is room for a state of a table.
fn has_room(rooms: &[(TableId, usize)], table: TableId) -> bool {
    rooms.iter().any(|&(its, room)| its == table && room > 0)
}

/// Returns the version of the last frame of a run.
fn newest(run: &FrameRun) -> u64 {
    *run.versions().last().expect("a run has a frame")
}
