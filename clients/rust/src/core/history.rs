//! Random histories of a server in miniature under a core: whatever is lost, overtaken, refused, withdrawn or broken
//! off, rows that are said to be live are those of the store that the token grants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Context;

use serde_json::{Value, json};

use super::*;

const HISTORIES: u64 = 120;
const STEPS: u32 = 200;
const TABLES: [&str; 2] = ["orders", "stock"];
const KEYS: [i64; 4] = [0, 1, 2, 3];

/// Chance that a seed repeats (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// A table of the server: of each row its version and whether it exists, and the rows whose change was not told.
#[derive(Default)]
struct Stored {
    rows: BTreeMap<i64, (u64, bool)>,
    epoch: u64,
    is_lost: bool,
    missed: BTreeSet<i64>,
}

/// The rows that a token grants, by their tables. Its text names the keys of each: `0 2,1`.
#[derive(Clone, PartialEq, Eq)]
struct Granted(BTreeMap<&'static str, BTreeSet<i64>>);

impl Granted {
    fn parse(token: &str) -> Self {
        let keys = |text: &str| text.split_terminator(' ').map(|key| key.parse().unwrap()).collect();
        Self(TABLES.into_iter().zip(token.split(',').map(keys)).collect())
    }

    fn token(random: &mut Random) -> String {
        let mut keys = || -> Vec<String> {
            let of_four = random.below(3);
            KEYS.into_iter().filter(|_| of_four == 0 || random.below(4) < of_four).map(|key| key.to_string()).collect()
        };
        format!("{},{}", keys().join(" "), keys().join(" "))
    }

    fn everything() -> String {
        let keys = KEYS.map(|key| key.to_string()).join(" ");
        format!("{keys},{keys}")
    }
}

/// A server, and a connection whose messages wait until they are delivered.
struct Miniature {
    random: Random,
    tables: BTreeMap<&'static str, Stored>,
    version: u64,
    epoch: u64,
    is_lost: bool,
    is_open: bool,
    granted: Granted,
    /// What the connection follows; none: all rows.
    follows: BTreeSet<(&'static str, Option<i64>)>,
    /// The epochs that it was told.
    told: BTreeMap<&'static str, u64>,
    messages: VecDeque<Value>,
}

impl Miniature {
    fn new(seed: u64) -> Self {
        let tables = TABLES.map(|name| (name, Stored { epoch: 1, ..Stored::default() })).into();
        let (follows, told, messages) = (BTreeSet::new(), BTreeMap::new(), VecDeque::new());
        let (version, epoch, is_lost, is_open) = (0, 1, false, false);
        let (random, granted) = (Random(seed), Granted::parse(&Granted::everything()));
        Self { random, tables, version, epoch, is_lost, is_open, granted, follows, told, messages }
    }

    fn row(&self, table: &str, key: i64) -> Option<String> {
        let (version, exists) = self.tables[table].rows.get(&key)?;
        exists.then(|| format!(r#"{{"n":{version}}}"#))
    }

    fn say(&mut self, message: Value) {
        if self.is_open {
            self.messages.push_back(message);
        }
    }

    fn write(&mut self) {
        let (name, key) = (self.random.pick(&TABLES), self.random.pick(&KEYS));
        self.version += 1;
        let (version, is_delete) = (self.version, self.random.below(5) < 2);
        let stored = self.tables.get_mut(name).unwrap();
        let existed = stored.rows.get(&key).is_some_and(|(_, exists)| *exists);
        if is_delete && !existed {
            return;
        }
        stored.rows.insert(key, (version, !is_delete));
        let action = if is_delete {
            "DELETE"
        } else if existed {
            "UPDATE"
        } else {
            "INSERT"
        };
        if self.is_lost || stored.is_lost {
            stored.missed.insert(key);
        } else if self.is_followed(name, key) {
            let row = json!({"n": version});
            self.say(json!({"action": action, "version": version, "table": name, "key": key, "row": row}));
        }
    }

    fn is_followed(&self, table: &'static str, key: i64) -> bool {
        let is_of_all = self.follows.contains(&(table, None)) && self.granted.0[table].contains(&key);
        is_of_all || self.follows.contains(&(table, Some(key)))
    }

    /// Takes another token: what it does not grant is withheld at once, ended, and said.
    fn authorize(&mut self, id: &Value, token: &str) {
        if self.random.below(5) == 0 {
            return self.say(json!({"reply": id, "ok": false, "code": "bad_token", "error": "bad"}));
        }
        let before = std::mem::replace(&mut self.granted, Granted::parse(token));
        let granted = self.granted.clone();
        let is_granted = |name: &Value, key: &Value| granted.0[name.as_str().unwrap()].contains(&key.as_i64().unwrap());
        self.messages.retain(|message| {
            let key = message.get("key").or_else(|| message["absent"].get(0));
            key.is_none_or(|key| is_granted(&message["table"], key))
        });
        for (table, key) in self.follows.clone() {
            let ended = match key {
                Some(key) if !granted.0[table].contains(&key) => json!([key]),
                None if granted.0[table] != before.0[table] => json!("*"),
                _ => continue,
            };
            self.follows.remove(&(table, key));
            self.say(json!({"unsubscribed": ended, "table": table}));
        }
        self.say(json!({"reply": id, "ok": true}));
    }

    fn tell_state(&mut self, table: &'static str, key: i64, known: u64) {
        match self.tables[table].rows.get(&key).copied() {
            Some((version, true)) if version <= known => {}
            Some((version, true)) => {
                let row = json!({"n": version});
                self.say(json!({"action": "SNAPSHOT", "version": version, "table": table, "key": key, "row": row}));
            }
            Some((version, false)) if self.random.below(2) == 0 => {
                self.say(json!({"absent": [key], "versions": [version], "table": table}));
            }
            _ => self.say(json!({"absent": [key], "versions": [0], "table": table})),
        }
    }

    fn tell_epoch(&mut self, table: &'static str) {
        if self.told.insert("", self.epoch) != Some(self.epoch) {
            self.say(json!({"epoch": self.epoch.to_string()}));
        }
        let epoch = self.tables[table].epoch;
        if self.told.insert(table, epoch).unwrap_or(self.epoch) != epoch {
            self.say(json!({"epoch": epoch.to_string(), "table": table}));
        }
    }

    fn carry_out(&mut self, command: &str) {
        let command: Value = serde_json::from_str(command).unwrap();
        if command["command"] == "authorize" {
            return self.authorize(&command["id"], command["token"].as_str().unwrap());
        }
        let name = TABLES.into_iter().find(|name| command["table"] == *name).unwrap();
        let keys = command["keys"].as_array();
        let keys: Option<Vec<i64>> =
            keys.map(|keys| keys.iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect());
        let id = &command["id"];
        if command["command"] == "unsubscribe" {
            self.follows.retain(|(table, key)| {
                *table != name || keys.as_ref().is_some_and(|keys| !keys.iter().any(|it| Some(*it) == *key))
            });
            return self.say(json!({"reply": id, "ok": true}));
        }
        if self.random.below(40) == 0 {
            return self.say(json!({"reply": id, "ok": false, "code": "too_many_subscriptions", "error": "too many"}));
        }
        self.tell_epoch(name);
        if self.is_lost {
            self.say(json!({"live": false}));
        }
        if self.tables[name].is_lost {
            self.say(json!({"live": false, "table": name}));
        }
        let is_of_epoch = command["epoch"].as_str().is_some_and(|it| it.parse() == Ok(self.tables[name].epoch));
        assert!(!is_of_epoch || command["newest"].as_u64().unwrap_or(0) <= self.version, "a version that never was");
        let granted = self.granted.0[name].clone();
        let is_forbidden =
            keys.as_ref().map_or(granted.is_empty(), |keys| !keys.iter().all(|key| granted.contains(key)));
        match keys {
            None if is_forbidden => {}
            None => {
                self.follows.insert((name, None));
                for key in granted.into_iter().filter(|key| self.row(name, *key).is_some()).collect::<Vec<_>>() {
                    self.tell_state(name, key, 0);
                }
            }
            Some(keys) => {
                for (place, key) in keys.into_iter().enumerate().filter(|(_, key)| granted.contains(key)) {
                    self.follows.insert((name, Some(key)));
                    let known = command["versions"][place].as_u64().filter(|_| is_of_epoch).unwrap_or(0);
                    self.tell_state(name, key, known);
                }
            }
        }
        self.say(if is_forbidden {
            json!({"reply": id, "ok": false, "code": "forbidden", "error": "forbidden"})
        } else {
            json!({"reply": id, "ok": true})
        });
    }

    fn lose_source(&mut self) {
        if self.random.below(2) == 0 {
            self.is_lost = true;
            return self.say(json!({"live": false}));
        }
        let name = self.random.pick(&TABLES);
        self.tables.get_mut(name).unwrap().is_lost = true;
        if self.told.contains_key(name) {
            self.say(json!({"live": false, "table": name}));
        }
    }

    /// Tells what was missed; returns false if nothing was lost.
    fn heal(&mut self) -> bool {
        if let Some(name) = TABLES.into_iter().find(|name| self.tables[name].is_lost) {
            self.tables.get_mut(name).unwrap().is_lost = false;
            if !self.is_lost {
                self.tell_missed(name);
            }
            if self.told.contains_key(name) {
                self.say(json!({"live": true, "table": name}));
            }
            return true;
        }
        let was_lost = std::mem::take(&mut self.is_lost);
        if was_lost {
            for name in TABLES {
                self.tell_missed(name);
            }
            self.say(json!({"live": true}));
        }
        was_lost
    }

    fn tell_missed(&mut self, name: &'static str) {
        for key in std::mem::take(&mut self.tables.get_mut(name).unwrap().missed) {
            if self.is_followed(name, key) {
                self.tell_state(name, key, 0);
            }
        }
    }

    /// An older dump of one table, or of all, is restored: versions begin anew, and every row is told.
    fn begin_epoch(&mut self) {
        let of_one = [self.random.pick(&TABLES)];
        let is_of_all = self.random.below(2) == 0;
        let names: &[&'static str] = if is_of_all { &TABLES } else { &of_one };
        let epoch = 1 + self.epoch.max(self.tables.values().map(|stored| stored.epoch).max().unwrap());
        if is_of_all {
            (self.version, self.epoch) = (0, epoch);
        }
        for name in names {
            self.messages.retain(|message| message["table"] != *name || message.get("live").is_some());
            let stored = self.tables.get_mut(name).unwrap();
            stored.epoch = epoch;
            stored.rows.retain(|_, (_, exists)| *exists);
            stored.rows.pop_first();
            for (version, _) in stored.rows.values_mut() {
                self.version += 1;
                *version = self.version;
            }
        }
        if self.told.contains_key("") {
            self.say(if is_of_all {
                json!({"epoch": epoch.to_string()})
            } else {
                json!({"epoch": epoch.to_string(), "table": names[0]})
            });
            if is_of_all {
                self.told = self.told.keys().map(|name| (*name, epoch)).collect();
            } else {
                self.told.insert(names[0], epoch);
            }
        }
        for name in names {
            for key in KEYS {
                if self.is_followed(name, key) {
                    self.tell_state(name, key, 0);
                }
            }
        }
    }
}

/// A subscriber that keeps what it was told.
struct Reader {
    follower: Follower,
    table: &'static str,
    keys: Vec<i64>,
    rows: BTreeMap<i64, String>,
    is_live: bool,
}

struct History {
    core: Core,
    now: Instant,
    server: Miniature,
    readers: Vec<Reader>,
    sent: VecDeque<String>,
    compared: u64,
}

impl History {
    fn connect(&mut self) {
        if self.server.is_open {
            self.core.lost(Error::Lost(String::new()), None);
        }
        if let Some(source) = self.core.tokens().for_handshake() {
            self.core.tokens().take(text(&source).into());
        }
        self.server.granted = Granted::parse(&self.core.tokens().good().unwrap());
        self.sent.clear();
        self.server.messages.clear();
        self.server.follows.clear();
        self.server.told.clear();
        self.server.is_open = true;
        self.core.opened(self.now);
    }

    fn renew(&mut self, token: String) {
        self.core.set_token(token.into());
        if self.server.is_open
            && let Some(source) = self.core.tokens().for_renewal()
        {
            self.core.renew(Ok(text(&source)));
        }
    }

    fn exchange(&mut self, messages: u64) {
        self.sent.extend(self.core.commands());
        for _ in 0..messages {
            if let Some(command) = self.sent.pop_front() {
                self.server.carry_out(&command);
            }
            if let Some(message) = self.server.messages.pop_front() {
                self.core.take(Message::parse(message.to_string().as_bytes()).unwrap(), self.now);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        if self.server.is_open {
            self.core.tick(self.now);
        }
    }

    fn change_readers(&mut self) {
        let random = &mut self.server.random;
        if self.readers.len() > 2 && random.below(2) == 0 {
            let place = usize::try_from(random.below(self.readers.len() as u64)).unwrap();
            self.core.unsubscribe(self.readers.swap_remove(place).follower);
            return;
        }
        let table = random.pick(&TABLES);
        let keys: Vec<i64> = KEYS.into_iter().filter(|_| random.below(2) == 0).collect();
        let (rows, keys) = match random.below(5) {
            0 | 1 => (Rows::all(table), KEYS.to_vec()),
            _ => (Rows::of(table, keys.iter().copied()), keys),
        };
        let follower = self.core.subscribe(rows);
        self.readers.push(Reader { follower, table, keys, rows: BTreeMap::new(), is_live: false });
    }

    /// Has readers read; those who are live have what the store has, if nothing is under way.
    fn look(&mut self, seed: u64) {
        let is_quiet = self.server.is_open && self.server.messages.is_empty() && self.sent.is_empty();
        for reader in &mut self.readers {
            while let Poll::Ready(Some(event)) = self.core.poll_event(reader.follower, Waker::noop()) {
                reader.take(event);
            }
            if !is_quiet || !reader.is_live || self.core.has_news() {
                continue;
            }
            for &key in &reader.keys {
                let is_granted = self.server.granted.0[reader.table].contains(&key);
                let stored = self.server.row(reader.table, key).filter(|_| is_granted);
                let what = format!("seed {seed}: {} {key} of {:?}", reader.table, reader.keys);
                assert_eq!(reader.rows.get(&key), stored.as_ref(), "{what}");
                let kept = self.core.get(reader.table, &key.into()).map(|row| row.json().to_owned());
                assert_eq!(kept, stored, "kept, {what}");
                self.compared += 1;
            }
        }
    }

    fn step(&mut self) {
        match self.server.random.below(100) {
            0..35 => self.server.write(),
            35..70 => {
                let messages = self.server.random.below(5);
                self.exchange(messages);
            }
            70..75 => self.connect(),
            75..79 => self.server.lose_source(),
            79..89 => drop(self.server.heal()),
            89..92 => self.server.begin_epoch(),
            92..96 => self.change_readers(),
            96 => {
                let token = Granted::token(&mut self.server.random);
                self.renew(token);
            }
            _ => {
                let ms = self.server.random.below(4_000);
                self.pass(ms);
            }
        }
    }
}

/// Returns the token of a source that is one.
fn text(source: &Token) -> String {
    let mut asking = std::pin::pin!(source.ask());
    let Poll::Ready(Ok(text)) = asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it is a text")
    };
    text
}

impl Reader {
    fn take(&mut self, event: Event) {
        match event {
            Event::Change(change) => {
                let key = change.key.to_string().parse().unwrap();
                match change.row {
                    Some(row) => self.rows.insert(key, row.json().to_owned()),
                    None => self.rows.remove(&key),
                };
            }
            Event::Live => self.is_live = true,
            Event::Stale => self.is_live = false,
            Event::Complete | Event::Refused(_) => {}
        }
    }
}

#[test]
fn in_any_history_rows_that_are_live_are_those_of_the_store() {
    let mut compared = 0;
    for seed in 0..HISTORIES {
        let (core, server) = (Core::new(Some(Granted::everything().into()), false), Miniature::new(seed));
        let (readers, sent) = (Vec::new(), VecDeque::new());
        let mut history = History { core, now: Instant::now(), server, readers, sent, compared };
        for _ in 0..3 {
            history.change_readers();
        }
        for _ in 0..STEPS {
            history.step();
            history.look(seed);
        }
        while history.server.heal() {}
        if !history.server.is_open {
            history.connect();
        }
        for _ in 0..100 {
            // One in five is refused.
            if history.server.granted != Granted::parse(&Granted::everything()) {
                history.renew(Granted::everything());
            }
            history.exchange(20);
            history.pass(1_000);
            history.look(seed);
        }
        assert_eq!(history.core.status().state, State::Live, "seed {seed}");
        assert!(history.readers.iter().all(|reader| reader.is_live), "seed {seed}");
        compared = history.compared;
    }
    assert!(compared > HISTORIES * 100, "{compared} rows were compared");
}
