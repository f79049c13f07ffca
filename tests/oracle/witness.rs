//! What one reader was told, and what it must never be told: [`Witness`].

mod commands;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use rowcast_client::message::{Change, Message};
use rowcast_client::{Action, Key};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::table::{Id, Rows, Tables};

/// The messages about no row that are kept.
const HEARD_MAX: usize = 40;

/// The keys of a message, as they are written.
#[derive(Deserialize)]
struct Keys<'a> {
    table: Option<String>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    absent: Vec<&'a RawValue>,
}

/// What a reader knows of a row.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The greatest version that was told in this epoch, of a row or an absence; 0 if none was.
    version: u64,
    row: Option<String>,
    told: Told,
}

/// What the server has told of a row, beside what is known. To who asks for everything it may tell less: it does not
/// learn the version of each row, and may lag behind the server that told it.
#[derive(Clone, Copy, Debug, Default)]
enum Told {
    /// What is known.
    #[default]
    All,
    /// Nothing until its reply: it hears of it later.
    Nothing,
    /// This version, which is below the one that is known and was ignored: it comes nearer from there.
    Less(u64),
}

/// A command without its reply.
#[derive(Debug)]
enum Asked {
    /// For changes alone.
    Changes,
    /// For what differs from the versions of an epoch, which may have been told more than these meanwhile.
    Differences { versions: BTreeMap<Id, u64>, epoch: String },
    /// For the state of these rows; `missing` are those that were not named since.
    Snapshot { rows: BTreeSet<Id>, missing: BTreeSet<Id> },
    /// For the state of a whole table; `named` are the rows that were named since.
    Everything { table: usize, named: BTreeSet<Id> },
    /// For the end of these.
    Unsubscribed(BTreeSet<Id>),
}

/// The changes that a reader got, by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Changes, and states and absences in the place of those that gave way.
    pub(super) received: u64,
    pub(super) skipped: u64,
    /// Absences of what the reader did not show: in the place of an insert and a delete that gave way both, or of
    /// nothing, where a load found an absence that the server did not remember.
    pub(super) perhaps: u64,
    /// True if it was told that changes may be missed.
    pub(super) was_lost: bool,
}

/// The state that a reader of the protocol keeps, and the faults that it saw.
pub(super) struct Witness {
    tables: Tables,
    /// The epoch of each table's versions, as it was told last: by the table's name or for all.
    epochs: BTreeMap<usize, String>,
    /// The one that was told last for all.
    epoch_of_all: Option<String>,
    /// The number of those that were told for all on this connection: after the first, all that was asked for is told anew,
    /// beside the changes.
    epochs_told: u32,
    known: BTreeMap<Id, Known>,
    /// The rows that its commands subscribed it to on this connection.
    subscribed: BTreeSet<Id>,
    asked: VecDeque<Asked>,
    is_live: bool,
    /// The tables of which it was told that what it shows may be old.
    lost: BTreeSet<usize>,
    commands: u64,
    pub(super) account: Account,
    /// True while versions may go back though no epoch was told, as to a reader who never asked for states.
    pub(super) ignores_versions: bool,
    /// True while versions may go back before the new epoch is told.
    pub(super) may_go_back: bool,
    pub(super) faults: Vec<String>,
    /// The last messages that are about no row, for who looks for the reason of a fault.
    heard: VecDeque<String>,
}

impl Witness {
    pub(super) const fn new(tables: Tables) -> Self {
        Self {
            tables,
            epochs: BTreeMap::new(),
            epoch_of_all: None,
            epochs_told: 0,
            known: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            asked: VecDeque::new(),
            is_live: false,
            lost: BTreeSet::new(),
            commands: 0,
            account: Account { received: 0, skipped: 0, perhaps: 0, was_lost: false },
            ignores_versions: false,
            may_go_back: false,
            faults: Vec::new(),
            heard: VecDeque::new(),
        }
    }

    /// Begins a connection with what it knows.
    pub(super) fn begin(&mut self) {
        self.asked.clear();
        self.subscribed.clear();
        self.lost.clear();
        (self.is_live, self.epochs_told) = (true, 0);
        for known in self.known.values_mut().filter(|known| matches!(known.told, Told::Less(_))) {
            known.told = Told::All;
        }
    }

    /// Forgets what it was told.
    pub(super) fn forget(&mut self) {
        let (faults, heard) = (std::mem::take(&mut self.faults), std::mem::take(&mut self.heard));
        *self = Self { may_go_back: self.may_go_back, faults, heard, ..Self::new(self.tables.clone()) };
    }

    /// Learns that the connection is gone.
    pub(super) const fn lost(&mut self) {
        self.is_live = false;
    }

    /// Shows these rows without having been told: it was subscribed to all rows when they were all there was.
    pub(super) fn show(&mut self, rows: &Rows) {
        let known = |(id, (version, row)): (&Id, &(u64, String))| {
            (id.clone(), Known { version: *version, row: Some(row.clone()), ..Known::default() })
        };
        self.known = rows.iter().map(known).collect();
    }

    /// Returns the epoch that it was told of a table.
    pub(super) fn epoch(&self, table: usize) -> Option<&String> {
        self.epochs.get(&table)
    }

    /// Returns whether every command is answered and what it shows is said to be the present state.
    pub(super) fn is_live(&self) -> bool {
        self.is_live && self.lost.is_empty() && self.asked.is_empty()
    }

    /// Returns what it waits for until it is live.
    pub(super) fn wait(&self) -> String {
        let Self { is_live, lost, asked, .. } = self;
        format!(
            "source {is_live}, tables lost {lost:?}, {} commands without a reply, the first {:?}",
            asked.len(),
            asked.front()
        )
    }

    /// Returns the rows that it is subscribed to.
    pub(super) const fn subscribed(&self) -> &BTreeSet<Id> {
        &self.subscribed
    }

    /// Returns the rows of what it is subscribed to, if they are said to be the present state.
    pub(super) fn rows(&self) -> Option<Rows> {
        let shown = self.known.iter().filter(|(id, _)| self.subscribed.contains(id));
        let rows = shown.filter_map(|(id, known)| Some((id.clone(), (known.version, known.row.clone()?))));
        self.is_live().then(|| rows.collect())
    }

    /// Takes what the server says.
    pub(super) fn take(&mut self, text: &[u8]) {
        let before = self.faults.len();
        self.look_at_keys(text);
        let message = Message::parse(text);
        if !matches!(message, Ok(Message::Change(_) | Message::Absent { .. })) {
            self.note(&String::from_utf8_lossy(text));
        }
        match message {
            Ok(Message::Change(change)) => {
                if let Some(id) = self.id(change.table.as_deref(), &change.key) {
                    self.change(&id, &change);
                }
            }
            Ok(Message::Absent { table, keys, versions }) => {
                for (place, key) in keys.iter().enumerate() {
                    if let Some(id) = self.id(table.as_deref(), key) {
                        self.absent(&id, versions.get(place).copied());
                    }
                }
            }
            Ok(Message::Epoch { epoch, table }) => self.epoch_told(&epoch, table.as_deref()),
            Ok(Message::Live { is_live, table }) => self.live_told(is_live, table.as_deref()),
            Ok(Message::Skipped(skipped)) => self.account.skipped += skipped,
            Ok(Message::Reply { error: None, .. }) => self.replied(),
            Ok(Message::Reply { error: Some(error), .. }) => self.faults.push(format!("a refusal, {error}")),
            Ok(Message::Reconnect { .. }) => {}
            Ok(Message::Other | Message::Unsubscribed { .. }) => self.faults.push("an unknown message".to_owned()),
            Err(error) => self.faults.push(format!("no message, {error}")),
        }
        for fault in &mut self.faults[before..] {
            let shown = &text[..text.len().min(200)];
            let _ = write!(fault, ": {}", String::from_utf8_lossy(shown));
        }
    }

    /// Notes what happened, beside the changes and absences.
    pub(super) fn note(&mut self, what: &str) {
        if self.heard.len() == HEARD_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(what.to_owned());
    }

    /// Returns what it saw that must not be, and at the end of that what it had heard.
    pub(super) fn faults(&self) -> Vec<String> {
        let heard = self.faults.first().map(|_| format!("heard: {:?}", self.heard));
        self.faults.iter().cloned().chain(heard).collect()
    }

    /// Looks at whether the keys of a message are numbers where they are, and texts where not.
    fn look_at_keys(&mut self, text: &[u8]) {
        let Ok(Keys { table, key, absent }) = serde_json::from_slice(text) else { return };
        for key in key.into_iter().chain(absent) {
            let text = serde_json::from_str::<Key>(key.get()).expect("a key").to_string();
            let place = self.tables.place(table.as_deref());
            let is_text = |json: &str| json.starts_with('"');
            if place.is_some_and(|place| is_text(&self.tables.get(place).json(&text)) != is_text(key.get())) {
                self.faults.push(format!("a key in another form than {text:?} has"));
            }
        }
    }

    /// Returns the row that a message names, unless there is none.
    fn id(&mut self, table: Option<&str>, key: &Key) -> Option<Id> {
        Some(Id::new(self.table(table)?, key.to_string()))
    }

    fn table(&mut self, name: Option<&str>) -> Option<usize> {
        let place = self.tables.place(name);
        if place.is_none() {
            self.faults.push("a message about an unknown table".to_owned());
        }
        place
    }

    fn change(&mut self, id: &Id, change: &Change) {
        self.named(id);
        let is_asked = self.is_asked(id, change.version);
        if self.is_told_less(id, change.version) {
            return;
        }
        let known = self.known.entry(id.clone()).or_default();
        if change.version <= known.version && !self.ignores_versions {
            let is_repeated = change.version == known.version;
            let may_be_repeated = is_asked || self.epochs_told > 1 || !matches!(known.told, Told::All);
            if !(is_repeated && may_be_repeated) {
                self.faults.push(format!("a version that is not above {}", known.version));
            }
        }
        let row = change.row.as_ref().filter(|_| change.action != Action::Delete);
        let row = row.map(|row| row.json().to_owned());
        *known = Known { version: change.version, row, told: Told::All };
        self.account.received += 1;
    }

    fn absent(&mut self, id: &Id, version: Option<u64>) {
        self.named(id);
        if version.is_some_and(|version| 0 < version && self.is_told_less(id, version)) {
            return;
        }
        let known = self.known.entry(id.clone()).or_default();
        match version {
            None => self.faults.push(format!("an absence of {id:?} without a version")),
            Some(version) if 0 < version && version < known.version && !self.ignores_versions => {
                self.faults.push(format!("an absence of {id:?} below {}", known.version));
            }
            Some(version) => {
                let was_shown = known.row.take().is_some();
                known.version = if self.ignores_versions { version } else { version.max(known.version) };
                *(if was_shown { &mut self.account.received } else { &mut self.account.perhaps }) += 1;
            }
        }
    }

    /// Notes what is told of a row below the version that is known, where a server may tell less; returns whether it did.
    fn is_told_less(&mut self, id: &Id, version: u64) -> bool {
        let asks = |asked: &Asked| matches!(asked, Asked::Everything { table, .. } if *table == id.table);
        let asks_for_everything = self.asked.iter().any(asks);
        let known = self.known.entry(id.clone()).or_default();
        // The version at which a row went is forgotten at times, and is no bound for versions that go back.
        let may_return = self.may_go_back && known.row.is_none();
        let comes_nearer = match known.told {
            Told::All => false,
            Told::Nothing => true,
            Told::Less(told) => told <= version,
        };
        let is_less = version < known.version && (asks_for_everything || may_return || comes_nearer);
        if is_less {
            known.told = Told::Less(version);
        }
        is_less
    }

    /// Looks at whether a row may be named, and notes that it was.
    fn named(&mut self, id: &Id) {
        let is_ending = |asked: &Asked| matches!(asked, Asked::Unsubscribed(rows) if rows.contains(id));
        if !self.subscribed.contains(id) && !self.asked.iter().any(is_ending) {
            self.faults.push(format!("a message about {id:?}, which it is not subscribed to"));
        }
        for asked in &mut self.asked {
            match asked {
                Asked::Snapshot { missing, .. } => {
                    missing.remove(id);
                }
                Asked::Everything { table, named } if *table == id.table => {
                    named.insert(id.clone());
                }
                Asked::Changes | Asked::Differences { .. } | Asked::Everything { .. } | Asked::Unsubscribed(_) => {}
            }
        }
    }

    /// Returns whether a row may come at a version that was told.
    fn is_asked(&self, id: &Id, version: u64) -> bool {
        self.asked.iter().any(|asked| match asked {
            Asked::Snapshot { rows, .. } => rows.contains(id),
            // Versions of another epoch are none.
            Asked::Differences { versions, epoch } => {
                versions.get(id).is_some_and(|known| *known < version || self.epochs.get(&id.table) != Some(epoch))
            }
            Asked::Everything { table, .. } => *table == id.table,
            Asked::Changes | Asked::Unsubscribed(_) => false,
        })
    }

    fn epoch_told(&mut self, epoch: &str, table: Option<&str>) {
        if table.is_none() {
            let is_new = self.epoch_of_all.as_deref() != Some(epoch);
            self.epochs_told += u32::from(is_new || self.epochs_told == 0);
            // Of tables that have another one it says nothing, unless it is new.
            if !is_new {
                return;
            }
            self.epoch_of_all = Some(epoch.to_owned());
            self.tables.clone().iter().for_each(|(table, _)| self.begin_epoch(table, epoch));
        } else if let Some(table) = self.table(table) {
            self.begin_epoch(table, epoch);
        }
    }

    fn begin_epoch(&mut self, table: usize, epoch: &str) {
        if self.epochs.get(&table).is_none_or(|before| before != epoch) {
            self.epochs.insert(table, epoch.to_owned());
            let of_table = self.known.iter_mut().filter(|(id, _)| id.table == table);
            of_table.for_each(|(_, known)| (known.version, known.told) = (0, Told::All));
        }
    }

    fn live_told(&mut self, is_live: bool, table: Option<&str>) {
        self.account.was_lost |= !is_live;
        if table.is_none() {
            self.is_live = is_live;
        } else if let Some(table) = self.table(table) {
            let _ = if is_live { self.lost.remove(&table) } else { self.lost.insert(table) };
        }
    }

    fn replied(&mut self) {
        match self.asked.pop_front() {
            None => self.faults.push("a reply to nothing".to_owned()),
            Some(Asked::Snapshot { missing, .. }) if !missing.is_empty() => {
                self.faults.push(format!("a reply before {missing:?} were named"));
            }
            Some(Asked::Everything { table, named }) => {
                // What was not named is gone.
                let unnamed = self.known.iter_mut().filter(|(id, _)| id.table == table && !named.contains(id));
                for (_, known) in unnamed {
                    (known.row, known.told) = (None, Told::Nothing);
                }
            }
            Some(_) => {}
        }
    }
}
