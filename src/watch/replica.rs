//! The state that a reader keeps of the products that it watches: [`Replica`], pure data.
//!
//! It follows docs/protocol.md: of each product the newest version counts, an absence removes, another epoch makes every
//! version mean nothing, and a reader that comes back tells all the versions that it has. Of everything it is told all
//! rows again then, and those that are not named by the reply are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::value::RawValue;

use super::message::{Change, Message};

/// The most ids that a command lists: far below the 256 KiB that a message may have, with a version for each.
const IDS_PER_COMMAND: usize = 4096;

/// The products that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Those with these ids.
    Ids(BTreeSet<u64>),
    /// All that the token lets its bearer read.
    Everything,
}

impl From<BTreeSet<u64>> for Watched {
    fn from(ids: BTreeSet<u64>) -> Self {
        Self::Ids(ids)
    }
}

/// The newest known state of every product that is watched.
#[derive(Debug)]
pub struct Replica {
    watched: Watched,
    epoch: Option<String>,
    products: BTreeMap<u64, Known>,
    /// The replies that are still due until all that was asked for has come.
    replies_due: usize,
    is_live: bool,
    /// Of everything, the products that are shown and were not named since the connection began.
    unnamed: BTreeSet<u64>,
}

/// The state of one product.
#[derive(Debug, Default)]
struct Known {
    /// The newest version that was heard in this epoch; 0 if none was.
    version: u64,
    /// Its JSON; none if the product does not exist.
    row: Option<Box<RawValue>>,
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
    /// What is shown is the present state; these products, which were shown, are gone.
    LiveWithout(Vec<u64>),
    /// The server refuses a command, with this sentence.
    Refused(String),
    /// The server asks to come back after so many milliseconds.
    Reconnect(u64),
}

impl Replica {
    /// Returns a replica of these products that knows nothing.
    #[must_use]
    pub fn new(watched: impl Into<Watched>) -> Self {
        let (products, unnamed) = (BTreeMap::new(), BTreeSet::new());
        Self { watched: watched.into(), epoch: None, products, replies_due: 0, is_live: false, unnamed }
    }

    /// Begins a connection: returns the commands to send, which name all that is known. Until they are answered, what
    /// is shown may be old.
    pub fn begin(&mut self) -> Vec<String> {
        self.is_live = false;
        let commands: Vec<String> = match &self.watched {
            Watched::Ids(ids) => {
                let ids: Vec<u64> = ids.iter().copied().collect();
                ids.chunks(IDS_PER_COMMAND).enumerate().map(|(number, ids)| self.subscribe(number, ids)).collect()
            }
            Watched::Everything => vec![self.subscribe_to_everything()],
        };
        if self.watched == Watched::Everything {
            self.unnamed = self.rows().map(|(id, ..)| id).collect();
        }
        self.replies_due = commands.len();
        commands
    }

    fn subscribe_to_everything(&self) -> String {
        let mut command = r#"{"command":"subscribe","productIDs":"*","snapshot":true"#.to_owned();
        if let Some(epoch) = &self.epoch {
            let newest = self.products.values().map(|known| known.version).max().unwrap_or(0);
            let epoch = serde_json::to_string(epoch).expect("text is JSON");
            let _ = write!(command, r#","epoch":{epoch},"newest":{newest}"#);
        }
        command + r#","id":0}"#
    }

    fn subscribe(&self, number: usize, ids: &[u64]) -> String {
        let mut command = format!(r#"{{"command":"subscribe","productIDs":[{}]"#, joined(ids.iter().copied()));
        if let Some(epoch) = &self.epoch {
            let version = |id: &u64| self.products.get(id).map_or(0, |known| known.version);
            let epoch = serde_json::to_string(epoch).expect("text is JSON");
            let _ = write!(command, r#","versions":[{}],"epoch":{epoch}"#, joined(ids.iter().map(version)));
        } else {
            command.push_str(r#","snapshot":true"#);
        }
        let _ = write!(command, r#","id":{number}}}"#);
        command
    }

    /// Takes what the server says.
    pub fn take(&mut self, message: &Message) -> Effect {
        match message {
            Message::Change(change) => self.change(change),
            Message::Absent { products, versions } => self.absent(products, versions),
            Message::Epoch(epoch) => {
                if self.epoch.as_deref() != Some(epoch) {
                    self.epoch = Some(epoch.clone());
                    self.products.values_mut().for_each(|known| known.version = 0);
                }
                Effect::Nothing
            }
            Message::Live(is_live) => {
                self.is_live = *is_live;
                Effect::Live(self.is_live && self.replies_due == 0)
            }
            Message::Reply { error: None } => self.replied_well(),
            Message::Reply { error: Some(error) } => {
                self.replied();
                Effect::Refused(error.clone())
            }
            Message::Reconnect { after_ms } => Effect::Reconnect(*after_ms),
            Message::Skipped(_) | Message::Other => Effect::Nothing,
        }
    }

    fn change(&mut self, change: &Change) -> Effect {
        self.unnamed.remove(&change.product_id);
        let known = self.products.entry(change.product_id).or_default();
        // A server that lags behind the one before may say that a row is missing, and tell it at this version again.
        let is_repeated = change.version == known.version && (known.row.is_some() || change.is_delete);
        if change.version < known.version || is_repeated {
            return Effect::Old;
        }
        *known = Known { version: change.version, row: (!change.is_delete).then(|| change.product.clone()) };
        Effect::Changed
    }

    fn absent(&mut self, products: &[u64], versions: &[u64]) -> Effect {
        let mut effect = Effect::Nothing;
        for (place, product) in products.iter().enumerate() {
            self.unnamed.remove(product);
            // 0 says that it is not known since when.
            let version = versions.get(place).copied().unwrap_or(0);
            let known = self.products.entry(*product).or_default();
            if 0 < version && version < known.version {
                continue;
            }
            if known.row.take().is_some() {
                effect = Effect::Changed;
            }
            known.version = known.version.max(version);
        }
        effect
    }

    /// Takes the reply that all that was asked for has come.
    fn replied_well(&mut self) -> Effect {
        let gone: Vec<u64> = std::mem::take(&mut self.unnamed).into_iter().collect();
        for id in &gone {
            self.products.entry(*id).or_default().row = None;
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
        Effect::Live(true)
    }

    /// Returns whether what is known is the present state, as far as the server knows.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.is_live && self.replies_due == 0
    }

    /// Learns that the connection is gone.
    pub const fn lost(&mut self) {
        self.is_live = false;
    }

    /// Returns the products that exist, by id: their versions and their JSON.
    pub fn rows(&self) -> impl Iterator<Item = (u64, u64, &str)> {
        self.products.iter().filter_map(|(&id, known)| Some((id, known.version, known.row.as_deref()?.get())))
    }
}

fn joined(numbers: impl Iterator<Item = u64>) -> String {
    let mut text = String::new();
    for number in numbers {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{number}");
    }
    text
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

    fn known(replica: &Replica) -> Vec<(u64, u64)> {
        replica.rows().map(|(id, version, _)| (id, version)).collect()
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
        let mut replica = Replica::new(Watched::Everything);
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
        assert_eq!(take(&mut replica, reply), Effect::LiveWithout(vec![2]));
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
            let mut replica = Replica::new(Watched::Everything);
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
        assert_eq!(refused, Effect::Refused("no".to_owned()));
        let refused = take(&mut replica, r#"{"error":"bad","code":"bad_product_ids"}"#);
        assert_eq!(refused, Effect::Refused("bad".to_owned()));
        assert_eq!(take(&mut replica, r#"{"reconnect":{"afterMs":850}}"#), Effect::Reconnect(850));
    }
}
