//! The database, and servers that hear of it.

use std::collections::{BTreeMap, VecDeque};

use super::super::super::message::{Loaded, LoadedRow, Pull, Pulled, Value};
use super::reader::Reader;
use super::*;
use crate::model::topic::testing::number_of_json;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Commit {
        topic: u64,
        exists: bool,
        is_whole: bool,
        is_readable: bool,
    },
    /// A server takes so many events of its stream.
    Hear(usize, usize),
    /// A loader begins to read.
    Read(usize),
    /// A loader has read, and marks the stream.
    Notify(usize),
    /// A loader hands an answer over whose mark was heard.
    HandOver(usize),
    Lose(usize),
    Connect(usize),
    Begin(usize),
    Heal(usize),
    Come(usize),
    Subscribe(usize, u64),
    Ask(usize, u64),
    Resume(usize, u64),
    /// A reader claims a version that never was.
    Forge(usize, u64),
    Unsubscribe(usize, u64),
    Move(usize),
    /// A reader goes to another server and resumes there.
    Reconnect(usize),
    RemoveTombstones,
    Save,
    /// The database becomes what it was.
    Restore,
    /// The store finds that its history was replaced.
    Renew,
}

/// The bytes of values, the wishes at once and the rows of a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) wishes: usize,
    pub(super) rows: usize,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Change { version: u64, exists: bool, is_whole: bool },
    Absent { version: u64 },
    Unreadable { version: u64 },
}

impl Content {
    pub(super) const fn version(self) -> u64 {
        match self {
            Self::Change { version, .. } | Self::Absent { version } | Self::Unreadable { version } => version,
        }
    }

    pub(super) const fn exists(self) -> bool {
        matches!(self, Self::Change { exists: true, .. } | Self::Unreadable { .. })
    }

    /// Returns whether there is no more to be told of the row.
    pub(super) const fn is_all(self) -> bool {
        matches!(self, Self::Change { is_whole: true, .. } | Self::Unreadable { .. })
    }

    /// Returns the frame of a change of a topic.
    fn write(topic: u64, version: u64, exists: bool, is_whole: bool) -> Frame {
        frame(format!("{topic} {version} {exists} {is_whole}").as_bytes())
    }

    /// Reads what a frame says, which is to be of this topic.
    pub(super) fn read(topic: u64, frame: &[u8]) -> Self {
        let text = str::from_utf8(&frame[2..]).unwrap();
        if text.starts_with('{') {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            if json["action"] == "SNAPSHOT" {
                let key = json.get("key").unwrap_or(&json["product"]["productId"]);
                assert_eq!(number_of_json(json["table"].as_str(), key), topic, "{text}");
                return Self::Unreadable { version: json["version"].as_u64().unwrap() };
            }
            assert_eq!(number_of_json(json["table"].as_str(), &json["absent"][0]), topic, "{text}");
            return Self::Absent { version: json["versions"][0].as_u64().unwrap() };
        }
        let words: Vec<&str> = text.split(' ').collect();
        let [of, version, exists, is_whole] = words[..] else { panic!("{text}") };
        assert_eq!(of.parse(), Ok(topic), "{text}");
        let (version, exists) = (version.parse().unwrap(), exists.parse().unwrap());
        Self::Change { version, exists, is_whole: is_whole.parse().unwrap() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Change { topic: u64, version: u64, exists: bool, is_whole: bool },
    Gap,
    Began(u32),
    Barrier(u32),
}

/// A row, or what is left of it: of a topic that is gone, the version of its deletion, 0 where nothing is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    version: u64,
    exists: bool,
    is_readable: bool,
}

#[derive(Debug)]
struct Reading {
    rows: Vec<Loaded>,
    /// The number of its mark, once it is in the stream.
    barrier: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Lost,
    /// Changes come, and what was before may be missing.
    Connected,
    Begun,
}

#[derive(Debug)]
struct Server {
    shard: Shard,
    out: Output,
    source: Source,
    stream: VecDeque<Event>,
    /// True if the loader has heard that every change comes.
    hears: bool,
    wishes: VecDeque<(Subject, u32)>,
    reading: Option<Reading>,
    /// Answers on their way to the shard.
    answers: VecDeque<Loaded>,
    epoch: u32,
    /// The newest version of each topic that the shard was told in this epoch.
    told: BTreeMap<u64, u64>,
    /// The rows at each beginning that is in the stream.
    beginnings: VecDeque<BTreeMap<u64, Row>>,
    /// The rows when the changes began that the shard hears: no answer is older.
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug)]
pub(super) struct World {
    rows: BTreeMap<u64, Row>,
    saved: (BTreeMap<u64, Row>, u64),
    last_version: u64,
    greatest_version: u64,
    epoch: u32,
    /// True from when the history was replaced until that is found.
    is_replaced: bool,
    /// The commits so far, by topic.
    commits: Vec<u64>,
    servers: Vec<Server>,
    readers: Vec<Reader>,
    connections: u32,
    barriers: u32,
    limits: Limits,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let server = |_| {
            let mut shard = Shard::new(limits.bytes, tables());
            shard.wishes_max = limits.wishes;
            Server {
                shard,
                out: Output::default(),
                source: Source::Lost,
                stream: VecDeque::new(),
                hears: false,
                wishes: VecDeque::new(),
                reading: None,
                answers: VecDeque::new(),
                epoch: 0,
                told: BTreeMap::new(),
                beginnings: VecDeque::new(),
                rows: BTreeMap::new(),
            }
        };
        Self {
            rows: BTreeMap::new(),
            saved: Default::default(),
            last_version: 0,
            greatest_version: 0,
            epoch: 1,
            is_replaced: false,
            commits: Vec::new(),
            servers: (0..SERVERS).map(server).collect(),
            readers: Vec::new(),
            connections: 0,
            barriers: 0,
            limits,
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Commit { topic, exists, is_whole, is_readable } => {
                self.commit(topic, Row { version: 0, exists, is_readable }, is_whole);
            }
            Step::Hear(server, events) => self.hear(server, events),
            Step::Read(server) => self.read(server),
            Step::Notify(server) => self.notify(server),
            Step::HandOver(server) => self.hand_over(server),
            Step::Lose(server) => self.lose(server),
            Step::Connect(server) => self.connect(server),
            Step::Begin(server) => self.begin(server),
            Step::Heal(server) => self.heal(server),
            Step::Come(server) => {
                self.connections += 1;
                self.readers.push(Reader::new(server, self.connections, self.servers[server].epoch));
            }
            Step::RemoveTombstones => self.remove_tombstones(),
            Step::Save => self.saved = (self.rows.clone(), self.last_version),
            Step::Restore => {
                (self.rows, self.last_version) = self.saved.clone();
                self.is_replaced = true;
            }
            Step::Renew => self.renew(),
            _ if self.readers.is_empty() => {}
            Step::Subscribe(reader, topic) => {
                let reader = reader % self.readers.len();
                // What another server told it is worth nothing unless it resumes with it.
                if self.subscribe(reader, topic, 0).is_new {
                    self.readers[reader].shown.remove(&topic);
                }
            }
            Step::Ask(reader, topic) => self.pull(reader % self.readers.len(), topic, |_| 0),
            Step::Resume(reader, topic) => self.pull(reader % self.readers.len(), topic, |known| known),
            Step::Forge(reader, topic) => {
                let reader = reader % self.readers.len();
                self.readers[reader].has_forged = true;
                self.pull(reader, topic, |_| 1 << 40);
            }
            Step::Unsubscribe(reader, topic) => self.unsubscribe(reader % self.readers.len(), topic),
            Step::Move(reader) => self.move_reader(reader % self.readers.len()),
            Step::Reconnect(reader) => {
                let reader = reader % self.readers.len();
                let topics: Vec<u64> = self.readers[reader].subscribed.keys().copied().collect();
                self.move_reader(reader);
                for topic in topics {
                    self.pull(reader, topic, |known| known);
                }
            }
        }
    }

    fn commit(&mut self, topic: u64, committed: Row, is_whole: bool) {
        let row = self.rows.entry(topic).or_default();
        let Row { exists, is_readable, .. } = committed;
        if !exists && !row.exists {
            return;
        }
        self.last_version += 1;
        self.greatest_version = self.greatest_version.max(self.last_version);
        let version = self.last_version;
        *row = Row { version, ..committed };
        self.commits.push(topic);
        for server in self.servers.iter_mut().filter(|server| server.source != Source::Lost) {
            server.stream.push_back(Event::Change { topic, version, exists, is_whole: is_whole && is_readable });
        }
    }

    fn hear(&mut self, number: usize, events: usize) {
        for _ in 0..events {
            let server = &mut self.servers[number];
            let Some(event) = server.stream.pop_front() else { return };
            match event {
                Event::Change { topic, .. } => {
                    let mut changes = vec![event];
                    // Changes that wait together are joined.
                    while let Some(&next @ Event::Change { topic: other, .. }) = server.stream.front()
                        && other == topic
                        && changes.len() < events
                    {
                        changes.push(next);
                        server.stream.pop_front();
                    }
                    self.cast(number, topic, &changes);
                }
                Event::Gap => {
                    server.hears = false;
                    server.shard.lose();
                    server.read_again();
                }
                Event::Began(epoch) => self.began(number, epoch),
                Event::Barrier(barrier) => {
                    if let Some(reading) = server.reading.take_if(|reading| reading.barrier == Some(barrier)) {
                        server.answers.extend(reading.rows);
                    }
                }
            }
        }
    }

    fn cast(&mut self, number: usize, topic: u64, changes: &[Event]) {
        let server = &mut self.servers[number];
        let mut frames = smallvec::SmallVec::new();
        let (mut newest_version, mut newest) = (0, Newest { is_whole: true, is_deletion: false });
        for &change in changes {
            let Event::Change { version, exists, is_whole, .. } = change else { unreachable!("they are changes") };
            frames.push((version, Content::write(topic, version, exists, is_whole)));
            if version > newest_version {
                (newest_version, newest) = (version, Newest { is_whole, is_deletion: !exists });
            }
            let told = server.told.entry(topic).or_default();
            *told = version.max(*told);
        }
        server.shard.cast(&subject(topic), &mut frames, newest, &mut server.out);
        let subscribers = server.shard.subscribers(super::topic(topic));
        let subscribers: Vec<SlotKey> = subscribers.iter().flat_map(|list| list.keys.iter().copied()).collect();
        for (_, frame) in frames {
            self.deliver(number, topic, &subscribers, &frame);
        }
        self.pass_on(number);
    }

    fn began(&mut self, number: usize, epoch: u32) {
        let server = &mut self.servers[number];
        let is_new = epoch != server.epoch;
        (server.epoch, server.hears) = (epoch, true);
        server.rows = server.beginnings.pop_front().expect("it was noted");
        server.read_again();
        server.shard.begin(is_new);
        if is_new {
            server.told.clear();
            self.readers.iter_mut().filter(|reader| reader.server == number).for_each(|it| it.turn_to(epoch));
        }
    }

    fn read(&mut self, number: usize) {
        let rows_max = self.limits.rows;
        let server = &mut self.servers[number];
        if !server.hears || server.reading.is_some() || server.wishes.is_empty() {
            return;
        }
        let wishes = server.wishes.drain(..rows_max.min(server.wishes.len()));
        let rows = wishes.map(|(subject, number)| {
            let topic = super::number(subject.topic());
            let Row { version, exists, is_readable } = self.rows.get(&topic).copied().unwrap_or_default();
            let row = if exists && !is_readable {
                LoadedRow::Unreadable { version }
            } else if exists {
                LoadedRow::Present { version, frame: Content::write(topic, version, true, true) }
            } else {
                LoadedRow::Absent { version }
            };
            Loaded { topic: subject.topic(), number, row }
        });
        server.reading = Some(Reading { rows: rows.collect(), barrier: None });
    }

    fn notify(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let Some(reading) = server.reading.as_mut().filter(|reading| reading.barrier.is_none()) else { return };
        if server.source == Source::Lost {
            server.read_again();
            return;
        }
        self.barriers += 1;
        reading.barrier = Some(self.barriers);
        server.stream.push_back(Event::Barrier(self.barriers));
    }

    fn hand_over(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if let Some(answer) = server.answers.pop_front() {
            server.shard.loaded(answer, &mut server.out);
            self.pass_on(number);
        }
    }

    fn lose(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if server.source == Source::Begun {
            server.stream.push_back(Event::Gap);
        }
        server.source = Source::Lost;
    }

    fn connect(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if server.source == Source::Lost {
            server.source = Source::Connected;
        }
    }

    fn begin(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if server.source == Source::Connected {
            server.source = Source::Begun;
            server.stream.push_back(Event::Began(self.epoch));
            server.beginnings.push_back(self.rows.clone());
        }
    }

    fn heal(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.shard.heal(1, &mut server.out);
        self.pass_on(number);
    }

    fn renew(&mut self) {
        if !self.is_replaced {
            return;
        }
        (self.is_replaced, self.epoch, self.last_version) = (false, self.epoch + 1, self.greatest_version);
        for server in self.servers.iter_mut().filter(|server| server.source == Source::Begun) {
            server.stream.push_back(Event::Began(self.epoch));
            server.beginnings.push_back(self.rows.clone());
        }
    }

    /// Removes what is left of deleted rows, where no read is on its way that may need it.
    fn remove_tombstones(&mut self) {
        let is_quiet = |server: &Server| server.reading.is_none() && server.answers.is_empty();
        if self.servers.iter().all(|server| is_quiet(server) && server.stream.is_empty()) {
            self.rows.retain(|_, row| row.exists);
        }
    }

    fn subscribe(&mut self, reader: usize, topic: u64, known: u64) -> Subscribed {
        let reader = &mut self.readers[reader];
        let server = &mut self.servers[reader.server];
        let subscribed = server.shard.subscribe(connection(reader.connection), &subject(topic), known);
        assert_eq!(subscribed.is_new, !reader.subscribed.contains_key(&topic));
        reader.subscribed.entry(topic).or_insert(self.commits.len());
        subscribed
    }

    fn pull(&mut self, reader: usize, topic: u64, claim: impl FnOnce(u64) -> u64) {
        let known = claim(self.readers[reader].shown.get(&topic).map_or(0, |shown| shown.version));
        let is_same = self.subscribe(reader, topic, known).is_same;
        let reader = &mut self.readers[reader];
        let number = reader.pull(topic, known);
        let (server, connection) = (reader.server, connection(reader.connection));
        let pull = Pull { subject: subject(topic), known, number };
        let Server { shard, out, .. } = &mut self.servers[server];
        if is_same {
            // As good as a pull's answer, and an earlier pull goes on.
            out.answers.push((connection, Pulled { subject: pull.subject, number, value: Value::Same }));
        } else {
            shard.pull(connection, pull, false, out);
        }
        self.pass_on(server);
    }

    fn unsubscribe(&mut self, reader: usize, topic: u64) {
        let reader = &mut self.readers[reader];
        let is_subscribed = reader.unsubscribe(topic);
        let (number, connection) = (reader.server, connection(reader.connection));
        let server = &mut self.servers[number];
        assert_eq!(server.shard.unsubscribe(connection, super::topic(topic), &mut server.out), is_subscribed);
        self.pass_on(number);
    }

    fn move_reader(&mut self, reader: usize) {
        self.connections += 1;
        let reader = &mut self.readers[reader];
        let server = &mut self.servers[reader.server];
        let (mut closing, connection) = (Closing::default(), connection(reader.connection));
        while !closing.is_done() {
            server.shard.close(connection, None, &mut closing, 1, None);
        }
        let other = (reader.server + 1) % SERVERS;
        reader.go(other, self.connections, self.servers[other].epoch);
    }

    /// Gives a change to those of a server's readers that the shard named.
    fn deliver(&mut self, server: usize, topic: u64, subscribers: &[SlotKey], frame: &Frame) {
        let is_named =
            |reader: &&mut Reader| reader.server == server && subscribers.contains(&connection(reader.connection).key);
        let is_in_doubt = self.is_in_doubt(server);
        for reader in self.readers.iter_mut().filter(is_named) {
            reader.is_in_doubt = is_in_doubt;
            reader.cast(topic, Content::read(topic, frame));
        }
    }

    /// Returns whether the versions that a server tells may be those of a history that was replaced.
    fn is_in_doubt(&self, server: usize) -> bool {
        self.is_replaced || self.servers[server].epoch != self.epoch
    }

    fn pass_on(&mut self, number: usize) {
        let is_in_doubt = self.is_in_doubt(number);
        let server = &mut self.servers[number];
        let out = std::mem::take(&mut server.out);
        server.wishes.extend(out.wishes);
        for Read { subject, version, frame, .. } in out.casts {
            let lists = self.servers[number].shard.subscribers(subject.topic());
            let subscribers: Vec<SlotKey> = lists.iter().flat_map(|list| list.keys.iter().copied()).collect();
            let topic = super::number(subject.topic());
            let content = Content::read(topic, &frame);
            assert!(content.version() == version || content == Content::Absent { version: 0 });
            self.deliver(number, topic, &subscribers, &frame);
        }
        for (to, answer) in out.answers {
            let topic = super::number(answer.subject.topic());
            let is_it = |reader: &&mut Reader| reader.server == number && connection(reader.connection) == to;
            let reader = self.readers.iter_mut().find(is_it).expect("who has gone is not answered");
            let is_ended = answer.value == Value::Ended;
            assert!(is_ended || self.servers[number].hears, "an answer while changes may be missed");
            let answered = match answer.value {
                Value::Same => Some(reader.pulls[&answer.number].1),
                Value::Present { version, .. } => Some(version),
                Value::Absent { .. } | Value::Unreached | Value::Ended => None,
            };
            if let Some(version) = answered.filter(|_| !is_in_doubt) {
                let told = self.servers[number].told.get(&topic).copied().unwrap_or_default();
                let row = self.servers[number].rows.get(&topic).copied().unwrap_or_default();
                let newest = told.max(row.version);
                assert!(version >= newest, "{version} is not the newest: {newest} was there");
            }
            let is_last = reader.pulling.get(&topic) == Some(&answer.number);
            reader.is_in_doubt = is_in_doubt;
            reader.answered(topic, answer.number, &answer.value);
            if answer.value == Value::Unreached && is_last {
                let reader = self.readers.iter().position(|reader| connection(reader.connection) == to);
                let reader = reader.expect("it is there");
                let topics: Vec<u64> = self.readers[reader].subscribed.keys().copied().collect();
                for topic in topics {
                    self.pull(reader, topic, |_| 0);
                }
            }
        }
        if out.regressed.is_some() {
            assert!(is_in_doubt, "no history was replaced");
            self.renew();
        }
    }

    pub(super) fn check(&mut self) {
        for server in &mut self.servers {
            server.shard.index.check();
            check_memory(&mut server.shard);
            let healing = server.shard.loadings.values().filter(|loading| loading.heals).count();
            assert_eq!(server.shard.healing, healing);
            let awaited = server.shard.loadings.values().filter(|loading| loading.sent.is_some()).count();
            assert_eq!(server.shard.awaited, awaited);
            let reading = server.reading.as_ref().map_or(0, |reading| reading.rows.len());
            assert_eq!(awaited, server.wishes.len() + reading + server.answers.len(), "one answer for each wish");
        }
    }

    /// Lets everything that is on its way arrive, with all sources connected.
    pub(super) fn settle(&mut self) {
        self.renew();
        for server in 0..SERVERS {
            self.connect(server);
            self.begin(server);
        }
        for _ in 0..10_000 {
            let is_settled = self.servers.iter().all(Server::is_settled);
            if is_settled {
                return;
            }
            for server in 0..SERVERS {
                self.hear(server, 3);
                self.heal(server);
                self.read(server);
                self.notify(server);
                self.hand_over(server);
                self.check();
            }
        }
        panic!("it does not come to rest: {:?}", self.servers);
    }

    /// When everything is settled: each pull has its answer, and every reader shows what is true.
    pub(super) fn check_truth(&self) {
        for server in &self.servers {
            assert!(server.shard.is_healed());
            assert!(server.shard.loadings.is_empty(), "{:?}", server.shard.loadings);
        }
        for reader in &self.readers {
            assert!(reader.pulls.is_empty(), "no answer: {reader:?}");
            for (&topic, &commits) in &reader.subscribed {
                let row = self.rows.get(&topic).copied().unwrap_or_default();
                let Some(shown) = reader.shown.get(&topic) else {
                    // Who was told nothing shows nothing.
                    let is_due = row.exists && self.commits[commits..].contains(&topic);
                    assert!(!is_due, "{topic} was never told: {reader:?}");
                    continue;
                };
                assert_eq!(shown.exists, row.exists, "{topic} at {row:?}: {reader:?}");
                if row.exists {
                    assert_eq!(shown.version, row.version, "{topic}: {reader:?}");
                }
            }
        }
    }
}

impl Server {
    /// Puts the wishes of a read that is void back.
    fn read_again(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.wishes.extend(
                reading.rows.into_iter().map(|Loaded { topic, number, .. }| (subject(super::number(topic)), number)),
            );
        }
    }

    fn is_settled(&self) -> bool {
        let is_read = self.wishes.is_empty() && self.reading.is_none() && self.answers.is_empty();
        self.stream.is_empty() && is_read && !self.shard.has_to_heal()
    }
}
