//! What a client says: commands about rows of one table, in pieces below what a message may have, and tokens. Keys are
//! written as texts, which every table takes for the keys that it has.

use serde::{Serialize, Serializer};

use crate::key::Key;
use crate::replica::Replica;

/// The most keys that a command names.
const KEYS_MAX: usize = 4096;
/// The bytes of a key's version and of what stands around both.
const BYTES_BESIDE_KEY: usize = 24;

#[derive(Default, Serialize)]
struct Command<'a> {
    #[serde(rename = "command")]
    word: &'static str,
    table: &'a str,
    keys: Keys<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    id: u64,
}

/// Keys; none: all.
#[derive(Default)]
struct Keys<'a>(Option<&'a [Key]>);

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str("*"),
            Some(keys) => serializer.collect_seq(keys.iter().map(Key::to_string)),
        }
    }
}

impl Command<'_> {
    fn json(&self) -> String {
        serde_json::to_string(self).expect("a command is JSON")
    }
}

/// Returns the command that subscribes to rows of a table, all unless there are keys, and names what is known of them.
pub(crate) fn subscribe(id: u64, table: &str, keys: Option<&[Key]>, known: &Replica) -> String {
    let command =
        Command { word: "subscribe", table, keys: Keys(keys), epoch: known.epoch(), id, ..Command::default() };
    let Some(keys) = keys else {
        return Command { snapshot: true, newest: known.newest(), ..command }.json();
    };
    let versions: Vec<u64> = keys.iter().map(|key| known.version(key)).collect();
    let knows_some = command.epoch.is_some() && versions.iter().any(|&version| version > 0);
    Command { snapshot: !knows_some, versions: knows_some.then_some(versions), ..command }.json()
}

/// Returns the command that ends subscriptions to rows of a table, all unless there are keys.
pub(crate) fn unsubscribe(id: u64, table: &str, keys: Option<&[Key]>) -> String {
    Command { word: "unsubscribe", table, keys: Keys(keys), id, ..Command::default() }.json()
}

/// Returns the command that gives the server another token.
pub(crate) fn authorize(id: u64, token: &str) -> String {
    serde_json::json!({"command": "authorize", "token": token, "id": id}).to_string()
}

/// Returns keys in lists for one command each.
pub(crate) fn cut(keys: Vec<Key>, bytes_max: usize) -> Vec<Vec<Key>> {
    let mut lists: Vec<Vec<Key>> = Vec::new();
    let mut bytes = usize::MAX;
    for key in keys {
        let more = serde_json::to_string(&key.to_string()).map_or(0, |json| json.len()) + BYTES_BESIDE_KEY;
        match lists.last_mut() {
            Some(list) if list.len() < KEYS_MAX && bytes + more <= bytes_max => {
                bytes += more;
                list.push(key);
            }
            _ => {
                bytes = more;
                lists.push(vec![key]);
            }
        }
    }
    lists
}
