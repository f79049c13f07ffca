//! A reader: the commands that it sends, on one connection after the other, and its [`Map`], as the messages make it that
//! come: [`Client`]. It checks what it must never be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::TOPICS;
use super::history::History;
use super::map::Map;
use super::shell::token_of;
use crate::fanout::ConnectionId;
use crate::model::topic::testing::{TABLE, number_of_json, subject, tables};

/// What a lie adds to a version: no store of a test has one as great.
const LIE: u64 = 1000;

/// The states that a subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Nothing,
    Snapshot,
    /// Those that differ from what the reader knows.
    Versions,
    /// Likewise, of a reader that says to know versions which never were.
    Lie,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) server: usize,
    pub(super) connection: ConnectionId,
    /// True if the server has closed the connection.
    pub(super) is_closed: bool,
    pub(super) map: Map,
    /// The rows that its token reads; all without one.
    pub(super) readable: Option<BTreeSet<u64>>,
    /// What it is subscribed to once its commands are carried out, and of which it asked for states.
    subscribed: BTreeMap<u64, bool>,
    everything: Option<bool>,
    /// The commands that are not answered, in their order.
    pending: VecDeque<Pending>,
    sent: u64,
    /// True if it was told that the source, or the table, is lost.
    is_lost: [bool; 2],
    /// True if it was told under `drop` that changes never come, and has not asked for what it shows since.
    pub(super) is_behind: bool,
    /// The rows that it is to show as they are, once everything is settled.
    assured: BTreeSet<u64>,
    /// Those of which it is to show what changes since that step, and those of which it heard since.
    followed: BTreeMap<u64, u64>,
    heard: BTreeSet<u64>,
    /// Those of which nothing is to come any more.
    ended: BTreeSet<u64>,
    /// The rows that the last token that was taken reads.
    granted: Option<BTreeSet<u64>>,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    /// The step from which on its answer may be.
    at: u64,
    kind: Kind,
    is_ok: bool,
    /// The subscriptions that there are once it is carried out, and the rows that none of them tells of.
    subscribed: usize,
    untold: BTreeSet<u64>,
}

#[derive(Debug)]
enum Kind {
    /// Those whose states it asks for.
    Subscribe(BTreeSet<u64>),
    /// The rows that were named since, if it asks for states.
    Everything(Option<BTreeSet<u64>>),
    Unsubscribe,
    Authorize {
        readable: BTreeSet<u64>,
        ended: BTreeSet<u64>,
        ends_all: bool,
    },
    /// One that is of no use any more.
    Void,
}

impl Client {
    pub(super) fn new((server, connection): (usize, ConnectionId), readable: Option<BTreeSet<u64>>) -> Self {
        Self {
            server,
            connection,
            is_closed: false,
            map: Map::default(),
            granted: readable.clone(),
            readable,
            subscribed: BTreeMap::new(),
            everything: None,
            pending: VecDeque::new(),
            sent: 0,
            is_lost: [false; 2],
            is_behind: false,
            assured: BTreeSet::new(),
            followed: BTreeMap::new(),
            heard: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Has another connection in the place of this one: what it subscribes to is to be asked for by [`Client::ask_again`].
    pub(super) fn connect(&mut self, connection: (usize, ConnectionId)) {
        let before = std::mem::replace(self, Self::new(connection, self.readable.clone()));
        let Self { mut map, subscribed, everything, sent, .. } = before;
        map.connect();
        *self = Self { map, subscribed, everything, sent, ..Self::new(connection, self.readable.clone()) };
    }

    /// Returns the commands that ask again for all that it is subscribed to.
    pub(super) fn ask_again(&mut self, ask: Ask, is_new: bool, since: u64) -> Vec<String> {
        let of = |has_states: bool| {
            let topics = self.subscribed.iter().filter(move |(_, its)| **its == has_states);
            topics.map(|(number, _)| *number).collect::<Vec<u64>>()
        };
        let (with_states, live_only, everything) = (of(true), of(false), self.everything);
        let mut commands = Vec::new();
        if is_new {
            self.subscribed.clear();
            self.everything = None;
        }
        self.is_behind = false;
        if !with_states.is_empty() {
            commands.push(self.subscribe(&with_states, ask, since));
        }
        if is_new && !live_only.is_empty() {
            commands.push(self.subscribe(&live_only, Ask::Nothing, since));
        }
        if let Some(has_states) = everything.filter(|has_states| is_new || *has_states) {
            let command = self.subscribe_all(if has_states { ask } else { Ask::Nothing }, since);
            // It waits for the end of something else.
            self.is_behind = command.is_none();
            commands.extend(command);
        }
        commands
    }

    pub(super) fn subscribe(&mut self, numbers: &[u64], ask: Ask, since: u64) -> String {
        let mut command = command("subscribe", &numbers.iter().copied().map(key).collect());
        match ask {
            Ask::Nothing => {}
            Ask::Snapshot => command["snapshot"] = true.into(),
            Ask::Versions | Ask::Lie => {
                let claims = numbers.iter().map(|number| claim_of(self.map.claim(*number), ask));
                command["versions"] = claims.collect();
            }
        }
        self.tell_epoch(&mut command, ask);
        let readable: BTreeSet<u64> = numbers.iter().copied().filter(|number| self.reads(*number)).collect();
        for number in &readable {
            *self.subscribed.entry(*number).or_default() |= ask != Ask::Nothing;
            self.ended.remove(number);
        }
        let is_ok = numbers.iter().all(|number| readable.contains(number));
        self.send(command, if ask == Ask::Nothing { Kind::Void } else { Kind::Subscribe(readable) }, is_ok, since)
    }

    /// Subscribes to all rows; for their states it waits until it is told of what ends.
    pub(super) fn subscribe_all(&mut self, ask: Ask, since: u64) -> Option<String> {
        let has_states = ask != Ask::Nothing;
        if has_states && self.pending.iter().any(ends) {
            return None;
        }
        let mut command = command("subscribe", &"*".into());
        if has_states {
            command["snapshot"] = true.into();
        }
        if matches!(ask, Ask::Versions | Ask::Lie) && self.map.epoch().is_some() && claim_of(self.map.newest(), ask) > 0
        {
            command["newest"] = claim_of(self.map.newest(), ask).into();
        }
        self.tell_epoch(&mut command, ask);
        self.everything = Some(has_states || self.everything == Some(true));
        self.ended.clear();
        Some(self.send(command, Kind::Everything(has_states.then(BTreeSet::new)), true, since))
    }

    /// Whoever asks for states tells the epoch that it keeps, also where it knows no version: a server that is behind says then
    /// that its own is another.
    fn tell_epoch(&self, command: &mut Value, ask: Ask) {
        if let Some(epoch) = self.map.epoch().filter(|_| ask != Ask::Nothing) {
            command["epoch"] = epoch.to_string().into();
        }
    }

    pub(super) fn unsubscribe(&mut self, numbers: &[u64], since: u64) -> String {
        let command = command("unsubscribe", &numbers.iter().copied().map(key).collect());
        self.subscribed.retain(|number, _| !numbers.contains(number));
        self.forget_ended(numbers);
        self.send(command, Kind::Unsubscribe, true, since)
    }

    pub(super) fn unsubscribe_all(&mut self, since: u64) -> String {
        let command = command("unsubscribe", &"*".into());
        self.subscribed.clear();
        self.end_everything();
        self.send(command, Kind::Unsubscribe, true, since)
    }

    pub(super) fn authorize(&mut self, readable: &BTreeSet<u64>, since: u64) -> String {
        let command = json!({"command": "authorize", "token": token_of(readable)});
        self.ended.retain(|number| !readable.contains(number));
        let is_alike = self.readable.replace(readable.clone()).as_ref() == Some(readable);
        let mut ended = BTreeSet::new();
        let mut ends_all = false;
        if !is_alike {
            let gone = self.subscribed.extract_if(.., |number, _| !readable.contains(number));
            ended = gone.map(|(number, _)| number).collect();
            ends_all = self.everything.is_some();
            self.end_everything();
        }
        self.send(command, Kind::Authorize { readable: readable.clone(), ended, ends_all }, true, since)
    }

    /// The replies to commands for everything say nothing any more of what is gone.
    fn end_everything(&mut self) {
        self.everything = None;
        for pending in self.pending.iter_mut().filter(|pending| matches!(pending.kind, Kind::Everything(_))) {
            pending.kind = Kind::Void;
        }
        self.forget_ended(&(0..TOPICS).collect::<Vec<u64>>());
    }

    /// Nothing is promised any more of those of these rows that it is not subscribed to.
    fn forget_ended(&mut self, numbers: &[u64]) {
        for pending in &mut self.pending {
            if let Kind::Subscribe(asked) = &mut pending.kind {
                asked.retain(|number| !numbers.contains(number) || self.subscribed.contains_key(number));
            }
        }
        for number in numbers {
            if self.is_subscribed(*number) {
                continue;
            }
            self.assured.remove(number);
            self.followed.remove(number);
            self.heard.remove(number);
        }
    }

    fn send(&mut self, mut command: Value, kind: Kind, is_ok: bool, since: u64) -> String {
        let number = self.sent;
        self.sent += 1;
        command["id"] = number.into();
        let subscribed = self.subscribed.len() + usize::from(self.everything.is_some());
        let untold = (0..TOPICS).filter(|number| !self.is_subscribed(*number)).collect();
        self.pending.push_back(Pending { number, at: since, kind, is_ok, subscribed, untold });
        command.to_string()
    }

    fn reads(&self, number: u64) -> bool {
        self.readable.as_ref().is_none_or(|readable| readable.contains(&number))
    }

    fn is_subscribed(&self, number: u64) -> bool {
        self.subscribed.contains_key(&number) || self.everything.is_some() && self.reads(number)
    }

    /// Takes a message. `is_dropping` says whether changes that never come may have been the newest of their rows.
    pub(super) fn take(&mut self, text: &str, history: &History, is_dropping: bool) {
        let message: Value = serde_json::from_str(text).expect("a message is JSON");
        let table = message["table"].as_str();
        if let Some(action) = message["action"].as_str() {
            let (number, version) = (number_of_json(table, &message["key"]), message["version"].as_u64().unwrap());
            let row = Some((message["row"]["epoch"].as_u64().unwrap(), version)).filter(|_| action != "DELETE");
            assert!(row.is_none() || history.has_been(number, row), "{number} never was {row:?}");
            if self.is_told_of(number) {
                self.map.take(number, version, row, self.is_ending());
            }
        } else if let Some(keys) = message["absent"].as_array() {
            let versions = message["versions"].as_array().expect("each has a version");
            assert_eq!(keys.len(), versions.len());
            for (key, version) in keys.iter().zip(versions) {
                let number = number_of_json(table, key);
                if self.is_told_of(number) {
                    self.map.take_absence(number, version.as_u64().unwrap(), self.is_ending());
                }
            }
        } else if let Some(epoch) = message["epoch"].as_str() {
            self.map.begin_epoch(epoch.parse().unwrap(), table.is_some());
        } else if let Some(is_live) = message["live"].as_bool() {
            let is_lost = &mut self.is_lost[usize::from(table.is_some())];
            assert_eq!(*is_lost, is_live, "it is told each once");
            *is_lost = !is_live;
        } else if message["skipped"].is_u64() {
            if is_dropping {
                self.fall_behind();
            }
        } else if !message["unsubscribed"].is_null() {
            self.take_end(table, &message["unsubscribed"]);
        } else {
            let answered = self.pending.pop_front().expect("only commands are answered");
            assert_eq!(message["reply"], answered.number, "{message}: {answered:?}");
            assert_eq!(message["ok"], answered.is_ok, "{message}: {answered:?}");
            if answered.is_ok {
                assert_eq!(message["subscribed"], answered.subscribed, "{message}: {answered:?}");
            } else {
                assert_eq!(message["code"], "forbidden");
            }
            self.answered(answered, history);
        }
    }

    /// Returns whether every subscription is being ended, perhaps before others begin: the last words may be of an epoch that it
    /// is told only with the next one.
    fn is_ending(&self) -> bool {
        self.pending.iter().any(|pending| ends(pending) && pending.subscribed == 0)
    }

    /// Returns whether a new token reads a row: it counts from when it is taken, and the reply comes later, as does the end of what
    /// it ends.
    fn may_come(&self, number: u64) -> bool {
        self.pending.iter().any(|pending| match &pending.kind {
            Kind::Authorize { readable, .. } => readable.contains(&number),
            _ => false,
        })
    }

    /// Learns that a row is named; returns whether it takes it. The last words on what it has ended it does not.
    fn is_told_of(&mut self, number: u64) -> bool {
        assert!(!self.ended.contains(&number), "{number} is told, and its subscription has ended: {self:?}");
        let is_granted = self.granted.as_ref().is_none_or(|granted| granted.contains(&number));
        assert!(is_granted || self.may_come(number), "{number} may not be read: {self:?}");
        for pending in &mut self.pending {
            if let Kind::Everything(Some(named)) = &mut pending.kind {
                named.insert(number);
            }
        }
        self.heard.insert(number);
        self.is_subscribed(number)
    }

    /// Whatever it shows may be old. What it asked for before may have been followed by a change that never comes.
    fn fall_behind(&mut self) {
        self.is_behind = true;
        self.assured.clear();
        self.followed.clear();
        for pending in &mut self.pending {
            match &mut pending.kind {
                Kind::Subscribe(asked) => asked.clear(),
                Kind::Everything(_) => pending.kind = Kind::Void,
                Kind::Unsubscribe | Kind::Authorize { .. } | Kind::Void => {}
            }
        }
    }

    fn take_end(&mut self, table: Option<&str>, keys: &Value) {
        let Some(Pending { kind: Kind::Authorize { ended, ends_all, .. }, .. }) = self.pending.front_mut() else {
            panic!("only a new token ends subscriptions");
        };
        match keys.as_array() {
            Some(keys) => {
                assert!(keys.iter().all(|key| ended.remove(&number_of_json(table, key))), "{keys:?} of {ended:?}");
            }
            None => assert!(std::mem::take(ends_all), "it was told, or was not subscribed to"),
        }
    }

    /// From a reply on the reader is up to date: it shows what there was when all was settled before it asked, or later.
    fn answered(&mut self, Pending { at, kind, untold, .. }: Pending, history: &History) {
        match kind {
            Kind::Subscribe(asked) => {
                for number in asked {
                    self.assure(number, at, history);
                }
            }
            Kind::Everything(Some(named)) => {
                for number in 0..TOPICS {
                    if !named.contains(&number) {
                        self.map.take_absence(number, 0, false);
                    }
                }
                for number in (0..TOPICS).filter(|number| self.reads(*number)).collect::<Vec<u64>>() {
                    self.assure(number, at, history);
                }
            }
            Kind::Unsubscribe => self.end(untold),
            Kind::Authorize { readable, ended, ends_all } => {
                assert!(ended.is_empty() && !ends_all, "{ended:?} were not said to have ended, or everything");
                self.granted = Some(readable);
                self.end(untold);
            }
            Kind::Everything(None) | Kind::Void => {}
        }
    }

    fn assure(&mut self, number: u64, at: u64, history: &History) {
        let row = self.map.row(number);
        assert!(history.was_at_or_after(number, row, at), "{number} is {row:?} at a reply: {self:?} {history:?}");
        self.assured.insert(number);
    }

    /// Nothing is to come of these rows, which no subscription tells of: answers go in order with all else.
    fn end(&mut self, untold: BTreeSet<u64>) {
        // A command that is on its way may have subscribed to them again, and a later one have ended that.
        if self.map.is_told() && self.pending.iter().all(ends) {
            let untold = untold.into_iter().filter(|number| !self.may_come(*number));
            let untold: Vec<u64> = untold.collect();
            self.ended.extend(untold);
        }
    }

    /// Checks, once everything is settled, that it shows what there is; `is_lost` says whether the source is, or the table.
    pub(super) fn check(&mut self, history: &History, is_lost: [bool; 2]) {
        // Before any epoch is known, commands wait that ask for states, and those behind them.
        let is_served = self.pending.is_empty() || self.map.is_told();
        if is_served && (!self.subscribed.is_empty() || self.everything.is_some()) {
            // What is lost no more is so only once the other is not either.
            let is_known = self.is_lost.iter().zip(is_lost).all(|(told, is_lost)| *told || !is_lost);
            assert!(is_known && (self.is_lost == is_lost || is_lost != [false; 2]), "{is_lost:?}: {self:?}");
        }
        if is_lost != [false; 2] {
            return;
        }
        assert!(self.pending.is_empty(), "no reply: {self:?}");
        for number in (0..TOPICS).filter(|number| self.is_subscribed(*number)).collect::<Vec<u64>>() {
            let has_states = self.subscribed.get(&number) == Some(&true) || self.everything == Some(true);
            assert!(!has_states || self.assured.contains(&number), "{number} was answered: {self:?}");
            self.follow(number, history);
            if self.assured.contains(&number) {
                let (row, newest) = (self.map.row(number), history.newest(number));
                assert_eq!(row, newest, "{number}: {self:?}");
            }
        }
    }

    /// Of a row that it did not ask for it is to show what changes from now on.
    fn follow(&mut self, number: u64, history: &History) {
        if let Some(&since) = self.followed.get(&number) {
            if self.heard.contains(&number) || history.has_changed_since(number, since) {
                self.assured.insert(number);
            }
        } else {
            self.followed.insert(number, history.now);
            self.heard.remove(&number);
        }
    }
}

/// Returns whether a command ends subscriptions.
const fn ends(pending: &Pending) -> bool {
    matches!(pending.kind, Kind::Unsubscribe | Kind::Authorize { .. })
}

/// Returns the version that a reader says to know, of one that it knows.
const fn claim_of(version: u64, ask: Ask) -> u64 {
    match ask {
        Ask::Nothing | Ask::Snapshot | Ask::Versions => version,
        Ask::Lie => version + LIE,
    }
}

fn command(name: &str, keys: &Value) -> Value {
    json!({"command": name, "table": tables().get(TABLE).name, "keys": keys})
}

fn key(number: u64) -> Value {
    let mut json = Vec::new();
    subject(number).key().write_json(&mut json);
    serde_json::from_slice(&json).expect("it is JSON")
}
