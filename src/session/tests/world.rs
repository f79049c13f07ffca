//! A session and what surrounds it: [`World`], with a log of what its reader is owed.

mod shards;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::shards::{Order, Pulling, WithShards};
use super::super::commands::COMMANDS_MAX;
use super::super::*;
use super::{SUBSCRIPTIONS_MAX, Step};
use crate::auth::TokenError;
use crate::fanout::{Listed, Operation, Page, PageWish, Place, Pull, Value};
use crate::model::key::SAFE_INTEGER_MAX;
use crate::model::table::Tables;
use crate::model::topic::testing::{TABLE, grant_of, number, subject, tables, topic};
use crate::session::command::{Command, ReplyId, States};
use crate::session::epochs::Standing;
use crate::session::queue::SlowConsumerPolicy;

/// The largest frame of a change, and the largest of everything else.
const FRAME_BYTES_MAX: usize = 400;
const ANSWER_BYTES_MAX: usize = 300;
/// A version that no topic reaches.
pub(super) const UNREACHED: u64 = SAFE_INTEGER_MAX.cast_unsigned();
/// The topics that change; the reader subscribes to them at the beginning.
pub(super) const TOPICS: u64 = 5;
/// The ids that are ever asked for.
const IDS: u64 = 20;

/// What causes a session to close at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Restart,
    Peer,
    Broken,
    Binary,
    TokenExpired,
}

/// The version that a reader claims to know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claim {
    None,
    Newest,
    Older,
    Unreached,
}

/// The state of a topic in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) version: u64,
    pub(super) is_gone: bool,
}

/// An event that the reader's messages are checked against.
#[derive(Debug)]
pub(super) enum Done {
    /// A command asked for the states of topics, or for what differs from versions of the right epoch; something is to
    /// come of those that are missing.
    Asked { number: usize, topics: Vec<(u64, Option<u64>)>, missing: Vec<u64> },
    /// A command asked for everything.
    AskedForAll(usize),
    /// A command was sent that ends subscriptions; true if it ends all.
    Ending(usize, bool),
    /// Subscriptions ended.
    Ended(Vec<u64>),
    /// They ended beside one to everything.
    Unasked(Vec<u64>),
    /// A command brought another grant, which reads these: these subscriptions are to be said to have ended, and that to
    /// everything if it is true.
    Authorized { number: usize, readable: BTreeSet<u64>, ended: BTreeSet<u64>, ends_all: bool },
    /// All versions lost their meaning.
    NewEpoch,
    /// The source came back, when the reader was owed these versions.
    Live(BTreeMap<u64, u64>),
}

// Each says one thing of a history, and they do not exclude each other.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct World {
    pub(super) session: Session,
    pub(super) limits: SessionLimits,
    tables: Tables,
    pub(super) now: Second,
    look_at: BTreeSet<Second>,
    /// Room in the socket, and the bytes that it has taken.
    pub(super) room: usize,
    pub(super) taken: Vec<u8>,
    /// What the shards were given and have not looked at.
    orders: VecDeque<Order>,
    /// True while they look at nothing.
    is_late: bool,
    /// The commands that the shards have carried out, each with its number of topics, and whether they list all: they do so
    /// in the order in which they get them, and tell in any order.
    with_shards: Vec<WithShards>,
    /// The pulls that they have not answered.
    pulls: Vec<Pulling>,
    /// The commands of the reader that end subscriptions and are not carried out, in their order.
    ending: VecDeque<Ending>,
    /// The pages of the list of all topics that are not answered, those that mean nothing any more among them.
    pub(super) pages: Vec<PageWish>,
    pub(super) subscribed: BTreeSet<Topic>,
    /// True if it is subscribed to everything, and if it has asked to be.
    is_everything: bool,
    has_asked_for_all: bool,
    pub(super) epoch: Epoch,
    pub(super) is_live: bool,
    /// The rows that the reader's token reads; all without one.
    readable: Option<BTreeSet<u64>>,
    pub(super) rows: BTreeMap<u64, Row>,
    /// The topics of which the reader is owed the newest state.
    pub(super) owed: BTreeSet<u64>,
    /// The events, with the number of bytes that the socket had taken by then.
    pub(super) log: Vec<(usize, Done)>,
    /// The answers that are expected, in their order.
    pub(super) answers: Vec<String>,
    asked: BTreeSet<u64>,
    pub(super) has_asked: bool,
    /// The topics whose states it ever asked for.
    ever_asked: BTreeSet<u64>,
    /// True if a command asked for states, even one that is refused. A close behind such a command is answered at once.
    pub(super) has_wanted_states: bool,
    /// The tokens of which the shards have not heard. A close behind one of which the session has not told them either is
    /// answered at once, too.
    pub(super) unheard_tokens: usize,
    /// True if there was one when the peer closed.
    pub(super) has_unheard_token: bool,
    pub(super) has_new_epoch: bool,
    version: u64,
    pub(super) pushed: u64,
    pub(super) skipped: u64,
    /// The number of bytes that the socket had taken when the session began to close.
    pub(super) closed_at: Option<usize>,
    ended: Option<CloseReason>,
    /// The seconds in which the peer closed, and in which the session began to.
    pub(super) peer_closed_at: Option<Second>,
    pub(super) closed_in: Option<Second>,
    /// True if the socket has failed, and if the session was ended by its deadline.
    pub(super) is_gone: bool,
    pub(super) is_cut: bool,
}

/// A command that ends subscriptions.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) topics: BTreeSet<u64>,
    /// The topics that later commands ask for.
    pub(super) asked_again: BTreeSet<u64>,
    /// True if it ends that to everything too.
    pub(super) ends_all: bool,
}

impl World {
    pub(super) fn new(policy: SlowConsumerPolicy, units_per_second_max: u32) -> Self {
        Self::of(Session::new(0, None), policy, units_per_second_max)
    }

    /// Of a reader of an event stream.
    pub(super) fn of_event_stream(policy: SlowConsumerPolicy, units_per_second_max: u32) -> Self {
        Self::of(Session::of_event_stream(0, None, Vec::new()), policy, units_per_second_max)
    }

    fn of(session: Session, policy: SlowConsumerPolicy, units_per_second_max: u32) -> Self {
        let queue = SendQueueLimits { frames_max: 6, bytes_max: 1000, policy };
        let limits = SessionLimits {
            queue,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            message_bytes_max: 1000,
            units_per_second_max,
            ping_after: 25,
        };
        let mut world = Self {
            session,
            limits,
            tables: tables(),
            now: 0,
            look_at: BTreeSet::new(),
            room: 500,
            taken: Vec::new(),
            orders: VecDeque::new(),
            is_late: false,
            with_shards: Vec::new(),
            pulls: Vec::new(),
            ending: VecDeque::new(),
            pages: Vec::new(),
            subscribed: BTreeSet::new(),
            is_everything: false,
            has_asked_for_all: false,
            epoch: Epoch::new(1).unwrap(),
            is_live: true,
            readable: None,
            rows: BTreeMap::new(),
            owed: BTreeSet::new(),
            log: Vec::new(),
            answers: Vec::new(),
            asked: BTreeSet::new(),
            has_asked: false,
            ever_asked: BTreeSet::new(),
            has_wanted_states: false,
            unheard_tokens: 0,
            has_unheard_token: false,
            has_new_epoch: false,
            version: 0,
            pushed: 0,
            skipped: 0,
            closed_at: None,
            ended: None,
            peer_closed_at: None,
            closed_in: None,
            is_gone: false,
            is_cut: false,
        };
        world.on(Event::Looked(None));
        world.command(Operation::Subscribe, (0..TOPICS).collect(), None);
        world.tell_applied(0);
        world.flush();
        world
    }

    pub(super) fn on(&mut self, event: Event<'_>) {
        let given = Given { now: self.now, limits: &self.limits, tables: &self.tables };
        let effects = self.session.on(event, &given);
        self.follow(effects);
    }

    fn follow(&mut self, effects: Effects) {
        self.skipped += effects.skipped;
        self.is_cut |= effects.end == Some(End::Cut);
        self.look_at.extend(effects.look_at);
        if effects.close_begins {
            assert_eq!(self.closed_at, None, "it closes once");
            self.closed_at = Some(self.taken.len());
            self.closed_in = Some(self.now);
            self.on(Event::Writable);
            self.flush();
        }
        self.give_work();
    }

    fn give_work(&mut self) {
        loop {
            let given = Given { now: self.now, limits: &self.limits, tables: &self.tables };
            if let Some(effects) = self.session.say_unsubscribed(&given) {
                return self.follow(effects);
            }
            let standing = Standing { epoch: Some(self.epoch), is_live: self.is_live, tables: None };
            if let Some((command, effects)) = self.session.next_command(&standing, &given) {
                self.skipped += effects.skipped;
                assert!(self.session.ended().is_none() && !self.session.is_closing(), "an end gives no commands");
                self.give(command);
                continue;
            }
            let (pulls, page) = (self.session.next_pulls(&self.limits), self.session.next_page());
            if pulls.is_empty() && page.is_none() {
                assert!(!self.session.wants_pulls(&self.limits) && !self.session.wants_page());
                return;
            }
            assert!(self.session.ended().is_none() && !self.session.is_closing());
            for pull in pulls {
                let with_orders = self.orders.iter().filter_map(Order::pull);
                let mut others = self.pulls.iter().map(|pulling| &pulling.pull).chain(with_orders);
                assert!(others.all(|other| (&other.subject, other.number) != (&pull.subject, pull.number)));
                self.orders.push_back(Order::Pull(pull));
            }
            self.look_at_orders();
            if let Some(page) = page {
                assert!(self.pages.iter().all(|other| other.number != page.number), "a page is known by its number");
                self.pages.push(page);
            }
        }
    }

    /// Writes as a thin shell does.
    pub(super) fn flush(&mut self) {
        while !self.session.is_blocked() && self.session.ended().is_none() && self.session.has_output() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = self.session.fill(&mut slices);
            let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            if let Some(only) = self.session.only() {
                assert_eq!(only, bytes);
            }
            let sent = bytes.len().min(self.room);
            self.room -= sent;
            self.taken.extend_from_slice(&bytes[..sent]);
            self.session.taken(sent);
            if sent < bytes.len() {
                self.on(Event::Blocked);
            }
        }
        if !self.session.has_output() {
            self.on(Event::Flushed);
        }
        self.give_work();
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Changes a topic so many times, and deletes it with the last if it is to be gone.
    fn change(&mut self, topic: u64, padding: usize, frames: usize, is_gone: bool) {
        let frames: Vec<(u64, Frame)> = (0..frames)
            .map(|_| {
                let version = self.next_version();
                (version, row_frame("v", topic, version, padding))
            })
            .collect();
        self.rows.insert(topic, Row { version: self.version, is_gone });
        self.push(topic, &frames);
    }

    /// Returns whether the reader has ended its subscription to a topic: what comes until the command is carried out, it is
    /// not owed.
    fn is_unwanted(&self, topic: u64) -> bool {
        let is_ended = |it: &Ending| {
            it.topics.contains(&topic) && !it.asked_again.contains(&topic) && (it.ends_all || !self.is_everything)
        };
        self.ending.iter().any(is_ended)
    }

    /// Returns whether the reader's token reads a topic.
    fn reads(&self, topic: u64) -> bool {
        self.readable.as_ref().is_none_or(|readable| readable.contains(&topic))
    }

    /// Returns whether it has asked for a topic that its token reads, by its commands so far. Without a token it has what
    /// the shards have.
    fn is_wanted(&self, topic: u64) -> bool {
        self.readable.is_none() || self.reads(topic) && (self.has_asked_for_all || self.asked.contains(&topic))
    }

    /// Returns whether it ever had a token.
    pub(super) fn has_grant(&self) -> bool {
        self.readable.is_some()
    }

    fn push(&mut self, topic: u64, frames: &[(u64, Frame)]) {
        let subject = subject(topic);
        if !self.subscribed.contains(&subject.topic()) && !self.is_everything {
            return;
        }
        self.pushed += frames.len() as u64;
        let is_ending = self.orders.iter().any(|order| order.ends(topic)) || self.is_unwanted(topic);
        if self.limits.queue.policy == SlowConsumerPolicy::Conflate && !is_ending && self.is_wanted(topic) {
            self.owed.insert(topic);
        }
        let run = CastRun::new(subject.clone(), FrameRun::join(frames));
        let run = self.session.form(&run).into_owned();
        if self.session.is_clear() && frames.len() == 1 && self.room >= run.len() {
            // Goes out alone, past the queue.
            self.room -= run.len();
            self.taken.extend_from_slice(&run);
            return;
        }
        if self.session.push(&subject, &run, &self.limits) {
            return;
        }
        if let Some(effects) = self.session.give_way(&subject, &run, &self.limits) {
            return self.follow(effects);
        }
        let mut rest = Some(run);
        while let Some(run) = rest {
            let ((version, frame), after) = run.split_first();
            rest = after;
            if self.session.push(&subject, &FrameRun::one(version, frame.clone()), &self.limits) {
                continue;
            }
            self.flush();
            let given = Given { now: self.now, limits: &self.limits, tables: &self.tables };
            let effects = self.session.push_by_policy(&subject, version, frame, &given);
            self.follow(effects);
        }
    }

    /// The history is replaced: every topic has another version, and is pushed as after a load.
    fn begin_epoch(&mut self, answers_others: bool) {
        self.epoch = Epoch::new(self.epoch.get() + 1).unwrap();
        (self.version, self.has_new_epoch) = (0, true);
        self.log.push((self.taken.len(), Done::NewEpoch));
        if !answers_others {
            self.pulls.clear();
        }
        // Versions of another history mean nothing.
        self.pulls.iter_mut().for_each(|pulling| pulling.pull.known = 0);
        for order in &mut self.orders {
            match order {
                Order::Command(command) => command.known.fill(0),
                Order::Pull(pull) => pull.known = 0,
            }
        }
        self.on(Event::Epoch(self.epoch));
        let rows: Vec<(u64, Row)> = self.rows.iter().map(|(&topic, &row)| (topic, row)).collect();
        for (topic, row) in rows {
            let version = self.next_version();
            self.rows.insert(topic, Row { version, ..row });
            self.push(topic, &[(version, row_frame("v", topic, version, 10))]);
        }
    }

    fn set_live(&mut self, is_live: bool) {
        if is_live == self.is_live {
            return;
        }
        self.is_live = is_live;
        if is_live {
            let version = |topic: &u64| (*topic, self.rows.get(topic).map_or(0, |row| row.version));
            let owed = self.owed.iter().filter(|topic| !self.is_unwanted(**topic)).map(version).collect();
            self.log.push((self.taken.len(), Done::Live(owed)));
        }
        self.on(Event::Live(is_live));
    }

    fn hear(&mut self) -> bool {
        let reads = self.session.reads();
        if reads {
            self.on(Event::Heard { units: 1, at: Duration::from_secs(self.now.into()) });
        }
        reads
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Change { topic, padding, frames, is_gone } => self.change(topic, padding, frames, is_gone),
            Step::Flush => self.flush(),
            Step::Command { subscribe, topics } => {
                let operation = if subscribe { Operation::Subscribe } else { Operation::Unsubscribe };
                self.command(operation, topics, None);
            }
            Step::Ask { topics, is_snapshot, is_right_epoch } => self.ask(topics, is_snapshot, is_right_epoch),
            Step::AskForAll { lists, newest } => self.ask_for_all(lists, newest),
            Step::EndAll => self.command(Operation::UnsubscribeAll(TABLE), Vec::new(), None),
            Step::Authorize(readable) => self.authorize(readable.into_iter().collect()),
            Step::BadToken => {
                if self.hear() {
                    let number = self.answers.len();
                    if !self.session.is_closing() {
                        self.answers.push(format!(r#"{{"reply":{number},"ok":false"#));
                    }
                    let reply = Some(ReplyId::Unsigned(number as u64));
                    self.on(Event::Authorize(reply, Err(Why::BadToken(TokenError::Expired))));
                }
            }
            Step::NoCommand => {
                if self.hear() {
                    if !self.session.is_closing() {
                        self.answers.push(r#"{"error":"#.to_owned());
                    }
                    self.on(Event::Command(Err(Refusal { reply: None, why: Why::NotAnObject })));
                }
            }
            // Of a reader of an event stream nothing is decoded; it can only leave.
            Step::Ping(_) if self.session.is_event_stream() => {}
            Step::Close(Cause::Peer | Cause::Broken | Cause::Binary) if self.session.is_event_stream() => {
                self.step(Step::Gone);
            }
            Step::Ping(byte) => {
                if self.hear() {
                    self.on(Event::Ping(&[byte]));
                }
            }
            Step::Applied(index) => {
                if !self.with_shards.is_empty() {
                    self.tell_applied(index.index(self.with_shards.len()));
                }
            }
            Step::Answer(index, knows_tombstones) => {
                if !self.pulls.is_empty() {
                    self.answer(index.index(self.pulls.len()), knows_tombstones);
                }
            }
            Step::Page(index) => {
                if !self.pages.is_empty() {
                    self.answer_page(index.index(self.pages.len()));
                }
            }
            Step::Late(is_late) => {
                self.is_late = is_late;
                self.look_at_orders();
            }
            Step::Epoch(answers_others) => self.begin_epoch(answers_others),
            Step::Live(is_live) => self.set_live(is_live),
            Step::Room(bytes) => {
                self.room += bytes;
                self.on(Event::Writable);
                self.flush();
            }
            Step::Seconds(seconds) => self.pass(seconds),
            Step::Released => self.on(Event::Released),
            Step::Close(cause) => self.close(cause),
            Step::Gone => {
                self.is_gone = true;
                self.on(Event::Gone);
            }
        }
    }

    fn close(&mut self, cause: Cause) {
        match cause {
            Cause::Restart => self.on(Event::Restart { after_ms: 100 }),
            Cause::Peer => {
                self.peer_closed_at.get_or_insert(self.now);
                self.has_unheard_token |= self.unheard_tokens > 0;
                self.on(Event::PeerClosed(Some(1000)));
            }
            Cause::Broken => self.on(Event::Broken(CodecError::InvalidUtf8)),
            Cause::Binary => self.on(Event::Binary),
            Cause::TokenExpired => self.on(Event::Looked(Some(0))),
        }
    }

    fn ask(&mut self, topics: Vec<(u64, Claim)>, is_snapshot: bool, is_right_epoch: bool) {
        if is_snapshot {
            let topics = topics.into_iter().map(|(topic, _)| topic).collect();
            return self.command(Operation::Subscribe, topics, Some(States::All { epoch: None }));
        }
        let told = super::reader::told_versions(&self.taken);
        let versions = topics.iter().map(|(topic, claim)| {
            // What it knows from elsewhere it claims when it asks first: words of the topic may be on their way later.
            let newest = if self.ever_asked.contains(topic) {
                told.get(topic).copied().unwrap_or(0)
            } else {
                self.rows.get(topic).map_or(0, |row| row.version)
            };
            match claim {
                Claim::None => 0,
                Claim::Newest => newest,
                Claim::Older => newest / 2,
                Claim::Unreached => UNREACHED,
            }
        });
        let epoch = is_right_epoch.then(|| super::reader::told_epoch(&self.taken)).flatten();
        let states = States::Since { versions: versions.collect(), epoch };
        self.command(Operation::Subscribe, topics.into_iter().map(|(topic, _)| topic).collect(), Some(states));
    }

    fn ask_for_all(&mut self, lists: bool, newest: Claim) {
        let greatest = self.rows.values().map(|row| row.version).max().unwrap_or(0);
        let newest = match newest {
            Claim::None => 0,
            Claim::Newest => greatest,
            Claim::Older => greatest / 2,
            Claim::Unreached => UNREACHED,
        };
        // A deletion may have the greatest version, and only rows are listed.
        self.has_new_epoch |= lists && newest > 0;
        let epoch = super::reader::told_epoch(&self.taken);
        let states = lists.then_some(States::Everything { newest, epoch });
        self.command(Operation::SubscribeAll { table: TABLE, lists }, Vec::new(), states);
    }

    /// The reader's token is another, which reads these rows.
    fn authorize(&mut self, readable: BTreeSet<u64>) {
        if !self.hear() {
            return;
        }
        let number = self.answers.len();
        let grant = grant_of(readable.iter().copied());
        if !self.session.is_closing() && self.session.ended().is_none() {
            let is_alike = self.readable.as_ref() == Some(&readable);
            let (kept, ended): (BTreeSet<u64>, _) = self.asked.iter().partition(|id| readable.contains(*id));
            let ends_all = !is_alike && std::mem::take(&mut self.has_asked_for_all);
            if ends_all {
                // What was owed because it asked for all is owed no more, and of what is kept only what comes from here on.
                self.owed.clear();
                self.log.push((self.taken.len(), Done::Ending(number, true)));
            } else {
                self.has_asked_for_all &= is_alike;
            }
            if !is_alike {
                self.owed.retain(|id| kept.contains(id));
                let gone = (0..IDS).filter(|id| !kept.contains(id)).collect();
                self.log.push((self.taken.len(), Done::Ended(gone)));
            }
            self.asked = kept;
            let subscribed = self.asked.len() + usize::from(self.has_asked_for_all);
            self.answers.push(format!(r#"{{"reply":{number},"ok":true,"subscribed":{subscribed}}}"#));
            self.readable = Some(readable.clone());
            self.unheard_tokens += usize::from(!is_alike);
            self.log.push((self.taken.len(), Done::Authorized { number, readable, ended, ends_all }));
        }
        let reply = Some(ReplyId::Unsigned(number as u64));
        self.on(Event::Authorize(reply, Ok(Some(Arc::new(grant)))));
    }

    pub(super) fn command(&mut self, operation: Operation, numbers: Vec<u64>, states: Option<States>) {
        if !self.hear() {
            return;
        }
        let number = self.answers.len();
        let topics = numbers.iter().copied().map(subject).collect();
        // What comes behind a close is ignored.
        if !self.session.is_closing() && self.session.ended().is_none() {
            let is_accepted = self.expect_answer(operation, &numbers, number);
            self.has_wanted_states |= states.is_some();
            if matches!(operation, Operation::Unsubscribe | Operation::UnsubscribeAll(_)) {
                let topics = if operation == Operation::Unsubscribe {
                    numbers.iter().copied().collect()
                } else {
                    (0..IDS).collect()
                };
                let ends_all = operation != Operation::Unsubscribe;
                self.ending.push_back(Ending { topics, asked_again: BTreeSet::new(), ends_all });
                self.log.push((self.taken.len(), Done::Ending(number, ends_all)));
            }
            if matches!(operation, Operation::UnsubscribeAll(_)) {
                self.log.push((self.taken.len(), Done::Ended((0..IDS).collect())));
            } else if let Some(States::Everything { .. }) = states {
                self.has_asked = true;
                self.ever_asked.extend(0..IDS);
                self.owed.extend((0..TOPICS).filter(|id| self.readable.as_ref().is_none_or(|it| it.contains(id))));
                self.ending.iter_mut().for_each(|ending| ending.asked_again.extend(0..IDS));
                self.log.push((self.taken.len(), Done::AskedForAll(number)));
            } else if operation == Operation::Unsubscribe {
                let done = if self.has_asked_for_all { Done::Unasked(numbers) } else { Done::Ended(numbers) };
                self.log.push((self.taken.len(), done));
            } else if let Some(states) = states.as_ref().filter(|_| is_accepted) {
                self.has_asked = true;
                let versions = match states {
                    States::Since { versions, epoch: Some(_) } => versions.iter().copied().map(Some).collect(),
                    _ => vec![None; numbers.len()],
                };
                let topics: Vec<(u64, Option<u64>)> =
                    numbers.into_iter().zip(versions).filter(|(id, _)| self.reads(*id)).collect();
                let numbers: Vec<u64> = topics.iter().map(|(id, _)| *id).collect();
                self.ever_asked.extend(&numbers);
                self.owed.extend(&numbers);
                self.ending.iter_mut().for_each(|ending| ending.asked_again.extend(&numbers));
                let missing = self.missing(&topics);
                self.log.push((self.taken.len(), Done::Asked { number, topics, missing }));
            }
        }
        let reply = Some(ReplyId::Unsigned(number as u64));
        self.on(Event::Command(Ok(Command { reply, operation, topics, states })));
    }

    /// The topics of which the reader does not claim to know the newest version.
    fn missing(&self, topics: &[(u64, Option<u64>)]) -> Vec<u64> {
        let claim = |topic| topics.iter().filter(|(id, _)| *id == topic).map(|(_, claim)| claim.unwrap_or(0)).max();
        let newest = |topic| self.rows.get(&topic).map_or(0, |row| row.version);
        let is_missing = |&topic: &u64| claim(topic) < Some(newest(topic).max(1));
        topics.iter().map(|&(topic, _)| topic).filter(is_missing).collect()
    }

    /// Notes the answer to the reader's command, if commands are carried out one after the other; returns whether it is
    /// accepted.
    fn expect_answer(&mut self, operation: Operation, topics: &[u64], number: usize) -> bool {
        let readable = topics.iter().filter(|id| self.reads(**id));
        let wanted: BTreeSet<u64> = self.asked.iter().chain(readable).copied().collect();
        let is_forbidden = operation == Operation::Subscribe && topics.iter().any(|id| !self.reads(*id));
        let all = usize::from(self.has_asked_for_all);
        let is_refused = operation == Operation::Subscribe && wanted.len() + all > SUBSCRIPTIONS_MAX;
        if operation == Operation::Subscribe && !is_refused {
            self.asked = wanted;
        } else if operation == Operation::Unsubscribe {
            self.asked.retain(|id| !topics.contains(id));
        } else if matches!(operation, Operation::UnsubscribeAll(_)) {
            self.asked.clear();
            self.has_asked_for_all = false;
        } else if matches!(operation, Operation::SubscribeAll { .. }) {
            self.has_asked_for_all = true;
        }
        let subscribed = self.asked.len() + usize::from(self.has_asked_for_all);
        self.answers.push(if is_refused || is_forbidden {
            format!(r#"{{"reply":{number},"ok":false"#)
        } else {
            format!(r#"{{"reply":{number},"ok":true,"subscribed":{subscribed}}}"#)
        });
        !is_refused
    }

    pub(super) fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now += 1;
            if self.look_at.remove(&self.now) {
                self.on(Event::Looked(None));
                self.flush();
            }
        }
    }

    /// Lets the shards and the socket do what they have not done yet.
    pub(super) fn settle(&mut self) {
        self.step(Step::Late(false));
        self.room = usize::MAX / 2;
        self.on(Event::Writable);
        for _ in 0..100 * COMMANDS_MAX {
            self.flush();
            self.tell_applied(0);
            if !self.pulls.is_empty() {
                self.answer(0, true);
            }
            if !self.pages.is_empty() {
                self.answer_page(0);
            }
        }
        self.flush();
        assert!(self.pulls.is_empty() && self.pages.is_empty(), "pulls come to an end");
    }

    pub(super) fn check_step(&mut self) {
        let mut slices = [IoSlice::new(&[]); 150];
        let used = self.session.fill(&mut slices);
        let held: usize = slices[..used].iter().map(|slice| slice.len()).sum();
        let answers_max = 2 * (ANSWERS_WAITING_MAX + COMMANDS_MAX + 4);
        assert!(used < slices.len());
        let begun_max = 6 * FRAME_BYTES_MAX;
        assert!(held <= 1000 + begun_max + answers_max * ANSWER_BYTES_MAX, "{held} bytes are held");
        let ended = self.session.ended();
        assert!(self.ended.is_none() || ended == self.ended, "it ends once");
        self.ended = ended;
        self.session.check_asked();
    }
}

/// The frame of a topic's row; its first member is `v` in a change and `s` in the answer to a pull.
fn row_frame(kind: &str, topic: u64, version: u64, padding: usize) -> Frame {
    let text = format!(r#"{{"{kind}":{version},"p":{topic},"x":"{}"}}"#, "x".repeat(padding));
    Frame::new(Opcode::Text, text.as_bytes())
}
