//! The state that a reader keeps of the rows that it watches, of one table: [`Replica`], pure data.
//!
//! It follows docs/protocol.md: of each row the newest version counts, an absence removes, another epoch makes every
//! version mean nothing, and a reader that comes back tells all the versions that it has. Of everything it is told all
//! rows again then, and those that are not named by the reply are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::value::RawValue;

use super::message::{Change, Message, Refused};
use crate::model::key::{Key, KeyKind, SAFE_INTEGER_MAX, SAFE_INTEGER_MIN};
use crate::model::table::PRODUCTS;

/// The most keys that a command lists, and the most bytes after which it lists no further one: far below the 256 KiB that
/// a message may have, with a version for each.
const KEYS_PER_COMMAND: usize = 4096;
const LIST_BYTES_MAX: usize = 128 * 1024;

/// The rows that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Their table, as it was named; none: products, asked for by their ids.
    pub table: Option<Box<str>>,
    /// The rows.
    pub rows: Rows,
}

/// Rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Those with these keys. A text asks for an integer or a UUID as well, in a table that has such keys.
    Keys(BTreeSet<Key>),
    /// All that the token lets its bearer read.
    Everything,
}

impl Watched {
    /// Returns the rows of the table of products.
    #[must_use]
    pub const fn products(rows: Rows) -> Self {
        Self { table: None, rows }
    }

    /// Returns whether a message that names this table, or none, is about the one that is watched.
    fn is_of(&self, table: Option<&str>) -> bool {
        table.unwrap_or(PRODUCTS) == self.table.as_deref().unwrap_or(PRODUCTS)
    }

    /// Returns the beginning of a command: `{"command":"subscribe","productIDs":`, or with a table and `keys`.
    fn subscribe(&self) -> String {
        match &self.table {
            None => r#"{"command":"subscribe","productIDs":"#.to_owned(),
            Some(table) => format!(r#"{{"command":"subscribe","table":{},"keys":"#, json(table)),
        }
    }
}

impl From<BTreeSet<u64>> for Watched {
    /// Returns the products with these ids.
    fn from(ids: BTreeSet<u64>) -> Self {
        let key = |id| Key::Integer(i64::try_from(id).unwrap_or(i64::MAX));
        Self::products(Rows::Keys(ids.into_iter().map(key).collect()))
    }
}

/// The newest known state of every row that is watched.
#[derive(Debug)]
pub struct Replica {
    watched: Watched,
    /// The epoch of the table's versions.
    epoch: Option<String>,
    /// The one that was told last of all tables.
    epoch_of_all: Option<String>,
    rows: BTreeMap<Key, Known>,
    /// The replies that are still due until all that was asked for has come.
    replies_due: usize,
    is_live: bool,
    /// True if the server said of the table alone that what is shown may be old.
    is_table_lost: bool,
    /// Of everything, the rows that are shown and were not named since the connection began.
    unnamed: BTreeSet<Key>,
}

/// The state of one row.
#[derive(Debug, Default)]
struct Known {
    /// The newest version that was heard in this epoch; 0 if none was.
    version: u64,
    row: Row,
}

#[derive(Debug, Default)]
enum Row {
    /// It does not exist.
    #[default]
    Gone,
    /// It exists, and its key alone was told.
    Alone,
    /// Its JSON.
    Told(Box<RawValue>),
}

impl Row {
    const fn exists(&self) -> bool {
        !matches!(self, Self::Gone)
    }
}

/// The effect of a message on the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A row is new, other, or gone.
    Changed,
    /// Nothing that is shown is other.
    Nothing,
    /// The message was older than what is known.
    Old,
    /// What is shown may be old (false), or is the present state (true).
    Live(bool),
    /// What is shown is the present state; these rows, which were shown, are gone.
    LiveWithout(Vec<Key>),
    /// The server refuses a command.
    Refused(Refused),
    /// The server asks to come back after so many milliseconds.
    Reconnect(u64),
}

impl Replica {
    /// Returns a replica of these rows that knows nothing.
    #[must_use]
    pub fn new(watched: impl Into<Watched>) -> Self {
        Self {
            watched: watched.into(),
            epoch: None,
            epoch_of_all: None,
            rows: BTreeMap::new(),
            replies_due: 0,
            is_live: false,
            is_table_lost: false,
            unnamed: BTreeSet::new(),
        }
    }

    /// Begins a connection: returns the commands to send, which name all that is known. Until they are answered, what
    /// is shown may be old.
    pub fn begin(&mut self) -> Vec<String> {
        (self.is_live, self.is_table_lost) = (false, false);
        let commands = match &self.watched.rows {
            Rows::Keys(keys) => self.subscribe_to(keys),
            Rows::Everything => vec![self.subscribe_to_everything()],
        };
        if self.watched.rows == Rows::Everything {
            self.unnamed = self.rows().map(|(key, ..)| key.clone()).collect();
        }
        self.replies_due = commands.len();
        commands
    }

    fn subscribe_to_everything(&self) -> String {
        let mut command = self.watched.subscribe() + r#""*","snapshot":true"#;
        if let Some(epoch) = &self.epoch {
            let newest = self.rows.values().map(|known| known.version).max().unwrap_or(0);
            let _ = write!(command, r#","epoch":{},"newest":{newest}"#, json(epoch));
        }
        command + r#","id":0}"#
    }

    fn subscribe_to(&self, keys: &BTreeSet<Key>) -> Vec<String> {
        let mut commands = Vec::new();
        let mut part = Part::default();
        for key in keys {
            if part.is_full() {
                commands.push(self.subscribe(commands.len(), std::mem::take(&mut part)));
            }
            part.add(key, self.version_of(key));
        }
        if part.rows > 0 {
            commands.push(self.subscribe(commands.len(), part));
        }
        commands
    }

    fn subscribe(&self, number: usize, part: Part) -> String {
        let keys = String::from_utf8(part.keys).expect("JSON is text");
        let mut command = format!("{}[{keys}]", self.watched.subscribe());
        if let Some(epoch) = &self.epoch {
            let _ = write!(command, r#","versions":[{}],"epoch":{}"#, part.versions, json(epoch));
        } else {
            command.push_str(r#","snapshot":true"#);
        }
        let _ = write!(command, r#","id":{number}}}"#);
        command
    }

    /// Returns the version that is known of a row that is watched, however the server writes its key; 0 if none is.
    fn version_of(&self, key: &Key) -> u64 {
        let as_number = || match key {
            Key::Text(text) => self.rows.get(&INTEGERS.of_text(text).ok()?),
            Key::Integer(_) | Key::Uuid(_) => None,
        };
        self.rows.get(key).or_else(as_number).map_or(0, |known| known.version)
    }

    /// Takes what the server says.
    pub fn take(&mut self, message: &Message) -> Effect {
        match message {
            Message::Change(change) if self.watched.is_of(change.table.as_deref()) => self.change(change),
            Message::Absent { table, keys, versions } if self.watched.is_of(table.as_deref()) => {
                self.absent(keys, versions)
            }
            Message::Epoch { epoch, table: None } => {
                // A connection begins with it. The one that the table has beside it holds on, and is told next.
                if self.epoch_of_all.as_ref() != Some(epoch) {
                    self.epoch_of_all = Some(epoch.clone());
                    self.begin_epoch(epoch);
                }
                Effect::Nothing
            }
            Message::Epoch { epoch, table } if self.watched.is_of(table.as_deref()) => {
                self.begin_epoch(epoch);
                Effect::Nothing
            }
            Message::Live { is_live, table: None } => {
                self.is_live = *is_live;
                Effect::Live(self.is_live())
            }
            Message::Live { is_live, table } if self.watched.is_of(table.as_deref()) => {
                self.is_table_lost = !*is_live;
                Effect::Live(self.is_live())
            }
            Message::Reply { error: None } => self.replied_well(),
            Message::Reply { error: Some(refused) } => {
                self.replied();
                Effect::Refused(refused.clone())
            }
            Message::Reconnect { after_ms } => Effect::Reconnect(*after_ms),
            _ => Effect::Nothing,
        }
    }

    /// Learns the epoch of the table's versions from here on.
    fn begin_epoch(&mut self, epoch: &str) {
        if self.epoch.as_deref() != Some(epoch) {
            self.epoch = Some(epoch.to_owned());
            self.rows.values_mut().for_each(|known| known.version = 0);
        }
    }

    fn change(&mut self, change: &Change) -> Effect {
        self.unnamed.remove(&change.key);
        let known = self.rows.entry(change.key.clone()).or_default();
        // A server that lags behind the one before may say that a row is missing, and tell it at this version again.
        let is_repeated = change.version == known.version && (known.row.exists() || change.is_delete);
        if change.version < known.version || is_repeated {
            return Effect::Old;
        }
        let row = match &change.row {
            _ if change.is_delete => Row::Gone,
            Some(row) => Row::Told(row.clone()),
            None => Row::Alone,
        };
        *known = Known { version: change.version, row };
        Effect::Changed
    }

    fn absent(&mut self, keys: &[Key], versions: &[u64]) -> Effect {
        let mut effect = Effect::Nothing;
        for (place, key) in keys.iter().enumerate() {
            self.unnamed.remove(key);
            // 0 says that it is not known since when.
            let version = versions.get(place).copied().unwrap_or(0);
            let known = self.rows.entry(key.clone()).or_default();
            if 0 < version && version < known.version {
                continue;
            }
            if std::mem::take(&mut known.row).exists() {
                effect = Effect::Changed;
            }
            known.version = known.version.max(version);
        }
        effect
    }

    /// Takes the reply that all that was asked for has come.
    fn replied_well(&mut self) -> Effect {
        let gone: Vec<Key> = std::mem::take(&mut self.unnamed).into_iter().collect();
        for key in &gone {
            self.rows.entry(key.clone()).or_default().row = Row::Gone;
        }
        match self.replied() {
            Effect::Live(true) if !gone.is_empty() => Effect::LiveWithout(gone),
            effect => effect,
        }
    }

    fn replied(&mut self) -> Effect {
        self.replies_due = self.replies_due.saturating_sub(1);
        if self.replies_due > 0 {
            return Effect::Nothing;
        }
        self.is_live = true;
        Effect::Live(self.is_live())
    }

    /// Returns the rows that are watched.
    #[must_use]
    pub const fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Returns whether what is known is the present state, as far as the server knows.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.is_live && !self.is_table_lost && self.replies_due == 0
    }

    /// Learns that the connection is gone.
    pub const fn lost(&mut self) {
        self.is_live = false;
    }

    /// Returns the rows that exist, in the order of their keys: the version of each, and its JSON unless its key alone was
    /// told.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, u64, Option<&str>)> {
        self.rows.iter().filter_map(|(key, known)| match &known.row {
            Row::Gone => None,
            Row::Alone => Some((key, known.version, None)),
            Row::Told(row) => Some((key, known.version, Some(row.get()))),
        })
    }
}

/// The integers that are numbers in JSON.
const INTEGERS: KeyKind = KeyKind::Integer(SAFE_INTEGER_MIN, SAFE_INTEGER_MAX);

/// The rows that one command lists.
#[derive(Default)]
struct Part {
    /// Their keys as JSON, with commas between them.
    keys: Vec<u8>,
    /// Their versions, likewise.
    versions: String,
    rows: usize,
}

impl Part {
    const fn is_full(&self) -> bool {
        self.rows >= KEYS_PER_COMMAND || self.keys.len() + self.versions.len() > LIST_BYTES_MAX
    }

    fn add(&mut self, key: &Key, version: u64) {
        if self.rows > 0 {
            self.keys.push(b',');
            self.versions.push(',');
        }
        self.rows += 1;
        key.write_json(&mut self.keys);
        let _ = write!(self.versions, "{version}");
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(ids: &[u64]) -> Replica {
        Replica::new(ids.iter().copied().collect::<BTreeSet<u64>>())
    }

    fn take(replica: &mut Replica, message: &str) -> Effect {
        replica.take(&Message::parse(message.as_bytes()).unwrap())
    }

    fn row(action: &str, id: u64, version: u64) -> String {
        format!(r#"{{"action":"{action}","version":{version},"product":{{"productId":{id}}}}}"#)
    }

    fn known(replica: &Replica) -> Vec<(i64, u64)> {
        replica.rows().map(|(id, version, _)| (id.to_string().parse().unwrap(), version)).collect()
    }

    #[test]
    fn a_snapshot_makes_it_live_and_what_is_older_is_ignored() {
        let mut replica = replica(&[1, 2]);
        assert_eq!(replica.begin(), [r#"{"command":"subscribe","productIDs":[1,2],"snapshot":true,"id":0}"#]);
        assert_eq!(take(&mut replica, r#"{"epoch":"k3x"}"#), Effect::Nothing);
        assert_eq!(take(&mut replica, &row("SNAPSHOT", 1, 7)), Effect::Changed);
        assert_eq!(take(&mut replica, r#"{"absent":[2],"versions":[5]}"#), Effect::Nothing);
        assert!(!replica.is_live());
        assert_eq!(take(&mut replica, r#"{"reply":0,"ok":true,"subscribed":2}"#), Effect::Live(true));
        for old in [row("UPDATE", 1, 7), row("UPDATE", 1, 6), row("INSERT", 2, 4)] {
            assert_eq!(take(&mut replica, &old), Effect::Old, "{old}");
        }
        assert_eq!(take(&mut replica, &row("INSERT", 2, 8)), Effect::Changed);
        assert_eq!(known(&replica), [(1, 7), (2, 8)]);
        assert_eq!(take(&mut replica, &row("DELETE", 1, 9)), Effect::Changed);
        assert_eq!(known(&replica), [(2, 8)]);
    }

    #[test]
    fn it_comes_back_with_all_that_it_knows() {
        let mut replica = replica(&[1, 2, 3]);
        replica.begin();
        for message in [
            r#"{"epoch":"k3x"}"#,
            &row("SNAPSHOT", 1, 7),
            &row("DELETE", 2, 9),
            r#"{"reply":0,"ok":true,"subscribed":3}"#,
        ] {
            take(&mut replica, message);
        }
        replica.lost();
        let again = r#"{"command":"subscribe","productIDs":[1,2,3],"versions":[7,9,0],"epoch":"k3x","id":0}"#;
        assert_eq!(replica.begin(), [again]);
        assert!(!replica.is_live());
        assert_eq!(known(&replica), [(1, 7)], "it is shown meanwhile, as old");
        // Another history: the row stays until it is told anew, and any version is newer than it.
        take(&mut replica, r#"{"epoch":"other"}"#);
        assert_eq!(take(&mut replica, &row("SNAPSHOT", 1, 2)), Effect::Changed);
        assert_eq!(known(&replica), [(1, 2)]);
    }

    #[test]
    fn many_ids_go_in_several_commands_and_it_is_live_after_the_last_reply() {
        let ids: Vec<u64> = (0..10_000).collect();
        let mut replica = replica(&ids);
        assert_eq!(replica.begin().len(), 3);
        let reply = |number| format!(r#"{{"reply":{number},"ok":true,"subscribed":1}}"#);
        assert_eq!(take(&mut replica, &reply(0)), Effect::Nothing);
        assert_eq!(take(&mut replica, &reply(1)), Effect::Nothing);
        assert_eq!(take(&mut replica, &reply(2)), Effect::Live(true));
        assert_eq!(take(&mut replica, r#"{"live":false}"#), Effect::Live(false));
        assert!(!replica.is_live());
        assert_eq!(take(&mut replica, r#"{"live":true}"#), Effect::Live(true));
    }

    #[test]
    fn of_everything_what_is_not_named_again_is_gone() {
        let mut replica = Replica::new(Watched::products(Rows::Everything));
        assert_eq!(replica.begin(), [r#"{"command":"subscribe","productIDs":"*","snapshot":true,"id":0}"#]);
        let reply = r#"{"reply":0,"ok":true,"subscribed":1}"#;
        for message in [r#"{"epoch":"k3x"}"#, &row("SNAPSHOT", 1, 7), &row("INSERT", 2, 8), &row("SNAPSHOT", 3, 9)] {
            take(&mut replica, message);
        }
        assert_eq!(take(&mut replica, reply), Effect::Live(true));
        replica.lost();
        let again = r#"{"command":"subscribe","productIDs":"*","snapshot":true,"epoch":"k3x","newest":9,"id":0}"#;
        assert_eq!(replica.begin(), [again]);
        assert_eq!(take(&mut replica, &row("SNAPSHOT", 1, 7)), Effect::Old, "it is named all the same");
        assert_eq!(take(&mut replica, r#"{"absent":[3],"versions":[10]}"#), Effect::Changed);
        assert_eq!(take(&mut replica, &row("INSERT", 4, 11)), Effect::Changed);
        assert_eq!(known(&replica), [(1, 7), (2, 8), (4, 11)], "it is shown as old until the reply");
        assert_eq!(take(&mut replica, reply), Effect::LiveWithout(vec![Key::Integer(2)]));
        assert_eq!(known(&replica), [(1, 7), (4, 11)]);
        assert_eq!(take(&mut replica, &row("SNAPSHOT", 2, 7)), Effect::Old);
        assert_eq!(
            take(&mut replica, &row("SNAPSHOT", 2, 8)),
            Effect::Changed,
            "the server lagged behind the one before"
        );
        assert_eq!(known(&replica), [(1, 7), (2, 8), (4, 11)]);
    }

    #[test]
    fn a_server_that_lags_takes_no_row_away_for_good() {
        for absence in [r#"{"absent":[23],"versions":[12]}"#, r#"{"absent":[23],"versions":[0]}"#] {
            let mut replica = Replica::new(Watched::products(Rows::Everything));
            replica.begin();
            take(&mut replica, r#"{"epoch":"k3x"}"#);
            take(&mut replica, &row("INSERT", 23, 17));
            take(&mut replica, r#"{"reply":0,"ok":true,"subscribed":1}"#);
            replica.begin();
            take(&mut replica, absence);
            take(&mut replica, r#"{"reply":0,"ok":true,"subscribed":1}"#);
            take(&mut replica, &row("INSERT", 23, 17));
            assert_eq!(known(&replica), [(23, 17)], "{absence}");
            assert_eq!(take(&mut replica, &row("UPDATE", 23, 17)), Effect::Old);
        }
    }

    #[test]
    fn a_refusal_is_told() {
        let mut replica = replica(&[1]);
        replica.begin();
        let refused = take(&mut replica, r#"{"reply":0,"ok":false,"error":"no","code":"forbidden"}"#);
        assert_eq!(refused, Effect::Refused(Refused { sentence: "no".into(), code: "forbidden".into() }));
        let refused = take(&mut replica, r#"{"error":"bad","code":"bad_product_ids"}"#);
        assert_eq!(refused, Effect::Refused(Refused { sentence: "bad".into(), code: "bad_product_ids".into() }));
        assert_eq!(take(&mut replica, r#"{"reconnect":{"afterMs":850}}"#), Effect::Reconnect(850));
    }

    fn orders(keys: &[&str]) -> Replica {
        let keys = keys.iter().map(|&key| Key::Text(key.into())).collect();
        Replica::new(Watched { table: Some("orders".into()), rows: Rows::Keys(keys) })
    }

    const REPLY: &str = r#"{"reply":0,"ok":true,"subscribed":1}"#;

    #[test]
    fn rows_of_any_table_are_known_by_their_keys_however_these_are_written() {
        let mut replica = orders(&["17", "a-9", "9007199254740993"]);
        let begin = r#"{"command":"subscribe","table":"orders","keys":["17","9007199254740993","a-9"]"#;
        assert_eq!(replica.begin(), [format!(r#"{begin},"snapshot":true,"id":0}}"#)]);
        for message in [
            r#"{"epoch":"k3x"}"#,
            r#"{"action":"SNAPSHOT","version":7,"table":"orders","key":17,"row":{"state":"paid"}}"#,
            r#"{"action":"SNAPSHOT","version":8,"table":"orders","key":"a-9"}"#,
            r#"{"action":"SNAPSHOT","version":9,"table":"orders","key":"9007199254740993","row":{}}"#,
        ] {
            take(&mut replica, message);
        }
        assert_eq!(take(&mut replica, REPLY), Effect::Live(true));
        let rows: Vec<_> = replica.rows().map(|(key, version, row)| (key.to_string(), version, row)).collect();
        let expected = [
            ("17".to_owned(), 7, Some(r#"{"state":"paid"}"#)),
            ("9007199254740993".to_owned(), 9, Some("{}")),
            ("a-9".to_owned(), 8, None),
        ];
        assert_eq!(rows, expected);
        assert_eq!(replica.begin(), [format!(r#"{begin},"versions":[7,9,8],"epoch":"k3x","id":0}}"#)]);
        let absent = r#"{"absent":[17],"versions":[12],"table":"orders"}"#;
        assert_eq!(take(&mut replica, absent), Effect::Changed);
        assert_eq!(replica.rows().count(), 2);
    }

    #[test]
    fn what_is_said_of_another_table_is_not_of_this_one() {
        let mut replica = orders(&["17"]);
        replica.begin();
        take(&mut replica, r#"{"epoch":"k3x"}"#);
        take(&mut replica, r#"{"action":"SNAPSHOT","version":7,"table":"orders","key":17,"row":{}}"#);
        take(&mut replica, REPLY);
        for other in [
            r#"{"action":"DELETE","version":9,"table":"stock","key":17,"row":{}}"#,
            r#"{"action":"DELETE","version":9,"product":{"productId":17}}"#,
            r#"{"absent":[17],"versions":[9],"table":"stock"}"#,
            r#"{"absent":[17],"versions":[9]}"#,
            r#"{"epoch":"other","table":"stock"}"#,
            r#"{"live":false,"table":"stock"}"#,
        ] {
            assert_eq!(take(&mut replica, other), Effect::Nothing, "{other}");
        }
        assert!(replica.is_live() && replica.rows().count() == 1);
        assert_eq!(replica.version_of(&Key::Text("17".into())), 7);
        assert_eq!(take(&mut replica, r#"{"epoch":"its","table":"orders"}"#), Effect::Nothing);
        assert_eq!(replica.version_of(&Key::Text("17".into())), 0, "the epoch is another for this table alone");
    }

    #[test]
    fn a_table_s_own_epoch_outlives_the_connection() {
        let mut replica = orders(&["17"]);
        replica.begin();
        let (of_all, of_table) = (r#"{"epoch":"k3x"}"#, r#"{"epoch":"its","table":"orders"}"#);
        let row = r#"{"action":"SNAPSHOT","version":7,"table":"orders","key":17,"row":{}}"#;
        for message in [of_all, of_table, row, REPLY] {
            take(&mut replica, message);
        }
        let again = r#"{"command":"subscribe","table":"orders","keys":["17"],"versions":[7],"epoch":"its","id":0}"#;
        for _ in 0..2 {
            assert_eq!(replica.begin(), [again]);
            for message in [of_all, of_table, REPLY] {
                take(&mut replica, message);
            }
        }
        take(&mut replica, r#"{"epoch":"other"}"#);
        assert_eq!(replica.version_of(&Key::Text("17".into())), 0, "another epoch of all ends that of the table");
    }

    #[test]
    fn a_table_that_is_not_live_is_not_while_the_connection_is() {
        let mut replica = orders(&["17"]);
        replica.begin();
        assert_eq!(take(&mut replica, REPLY), Effect::Live(true));
        assert_eq!(take(&mut replica, r#"{"live":false,"table":"orders"}"#), Effect::Live(false));
        assert_eq!(take(&mut replica, r#"{"live":false}"#), Effect::Live(false));
        assert_eq!(take(&mut replica, r#"{"live":true}"#), Effect::Live(false), "the table is not");
        assert_eq!(take(&mut replica, r#"{"live":true,"table":"orders"}"#), Effect::Live(true));
        // It is said anew of each connection.
        take(&mut replica, r#"{"live":false,"table":"orders"}"#);
        replica.begin();
        assert_eq!(take(&mut replica, REPLY), Effect::Live(true));
    }

    #[test]
    fn long_keys_go_in_messages_that_the_server_takes() {
        let keys: Vec<String> = (0..2000).map(|number| format!("{number:04}{}", "\u{1}".repeat(252))).collect();
        let mut replica = orders(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        let commands = replica.begin();
        assert!(commands.len() > 10 && commands.iter().all(|command| command.len() <= 256 * 1024));
        assert_eq!(commands.iter().map(|command| command.matches(r"\u0001").count()).sum::<usize>(), 2000 * 252);
    }
}
