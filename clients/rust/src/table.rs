//! A table of a client: its rows, and its topics, which are what subscribers follow and the server is asked for: a key
//! each, or all rows ([`Table`], pure).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::commands::{cut, subscribe, unsubscribe};
use crate::event::Change;
use crate::key::Key;
use crate::message;
use crate::replica::Replica;
use crate::rows::Topic;

/// The bytes of keys and versions in a command, far below what a server takes by default.
const MESSAGE_BYTES: usize = 64 * 1024;

/// The number of a subscription.
pub(crate) type Follower = u64;

/// A command under way.
pub(crate) struct Piece {
    pub(crate) id: u64,
    /// The topics that are subscribed to; none if their subscriptions end.
    pub(crate) topics: Option<Vec<Topic>>,
    pub(crate) command: String,
}

/// What commands need: their next number, and the bytes of keys that one may have.
pub(crate) struct Means {
    last_id: u64,
    pub(crate) message_bytes: usize,
}

impl Default for Means {
    fn default() -> Self {
        Self { last_id: 0, message_bytes: MESSAGE_BYTES }
    }
}

impl Means {
    pub(crate) const fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Table {
    pub(crate) name: Arc<str>,
    pub(crate) rows: Replica,
    topics: HashMap<Topic, State>,
    /// The topics that began or ended and the server has not been told of.
    touched: HashSet<Topic>,
    /// The followers of topics that were asked for or answered since this was looked at.
    pub(crate) unsettled: BTreeSet<Follower>,
    /// True if the server said of this table alone that what it tells may be old.
    pub(crate) is_lost: bool,
    /// True if anything was told on this connection.
    pub(crate) is_told: bool,
    /// True if what was told may be of another epoch, or have holes, and everything is to be asked for once more.
    pub(crate) asks_again: bool,
    pub(crate) asked_at: Option<Instant>,
    /// True if the token that counts does not grant some of what was asked for.
    pub(crate) is_refused: bool,
    /// True if a token that is being taken has ended subscriptions.
    is_narrowed: bool,
    /// The commands of the beginning whose replies are due before it is live.
    due: HashSet<u64>,
    /// The commands that end subscriptions and have no reply yet. Until they have, all rows are not asked for: what
    /// comes may be the last word of a subscription that ended, or the first of that.
    ends: HashSet<u64>,
    pub(crate) was_current: bool,
}

/// The state of a topic.
#[derive(Default)]
struct State {
    followers: Vec<Follower>,
    asked: Asked,
    /// True if it was answered once.
    is_shown: bool,
    /// True if the row was told since it was asked for: it is not forbidden.
    is_named: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    /// By the command with this number.
    By(u64),
    Answered,
    /// The server will tell nothing of it.
    Refused,
}

impl Table {
    pub(crate) fn new(name: Arc<str>, epoch: Option<Arc<str>>) -> Self {
        Self { rows: Replica::new(Arc::clone(&name), epoch), name, ..Self::default() }
    }

    pub(crate) fn is_followed(&self) -> bool {
        !self.topics.is_empty()
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asks_again || !self.due.is_empty()
    }

    pub(crate) fn is_current(&self) -> bool {
        !self.is_followed() || !self.is_lost && !self.is_asking()
    }

    /// Returns whether all that is due was answered, so that everything may be asked for once more.
    pub(crate) fn may_ask_again(&self) -> bool {
        self.asks_again && self.due.is_empty() && self.ends.is_empty()
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.touched.is_empty()
    }

    pub(crate) fn add(&mut self, follower: Follower, topics: &[Topic]) {
        for topic in topics {
            self.topics.entry(topic.clone()).or_default().followers.push(follower);
            self.touched.insert(topic.clone());
        }
    }

    pub(crate) fn remove(&mut self, follower: Follower, topics: &[Topic]) {
        for topic in topics {
            if let Some(state) = self.topics.get_mut(topic) {
                state.followers.retain(|it| *it != follower);
                self.touched.insert(topic.clone());
            }
        }
    }

    /// Returns the followers of these topics.
    pub(crate) fn followers(&self, topics: &[Topic]) -> BTreeSet<Follower> {
        let states = topics.iter().filter_map(|topic| self.topics.get(topic));
        states.flat_map(|state| &state.followers).copied().collect()
    }

    /// Returns whether all of these topics were answered on this connection.
    pub(crate) fn are_answered(&self, topics: &[Topic]) -> bool {
        topics.iter().all(|topic| self.topics.get(topic).is_some_and(|state| state.asked == Asked::Answered))
    }

    /// Returns the rows of these topics that are known to exist.
    pub(crate) fn known(&self, topics: &[Topic]) -> Vec<Change> {
        if topics.contains(&None) {
            return self.rows.states();
        }
        topics.iter().flatten().filter_map(|key| self.rows.state(key)).collect()
    }

    /// Takes a row, if it is followed still.
    pub(crate) fn change(&mut self, change: &message::Change) -> Option<Change> {
        self.is_told = true;
        self.is_of_interest(&change.key).then(|| self.rows.apply(change)).flatten()
    }

    /// Takes absences of rows.
    pub(crate) fn absent(&mut self, keys: &[Key], versions: &[u64]) -> Vec<Change> {
        self.is_told = true;
        let versions = versions.iter().copied().chain(std::iter::repeat(0));
        let changes = keys
            .iter()
            .zip(versions)
            .filter_map(|(key, version)| self.is_of_interest(key).then(|| self.rows.absent(key, version)).flatten());
        changes.collect()
    }

    /// Takes away rows that a new token does not grant.
    pub(crate) fn withdraw(&mut self, keys: &[Key]) -> Vec<Change> {
        self.is_narrowed = true;
        keys.iter().filter_map(|key| self.rows.absent(key, 0)).collect()
    }

    /// Learns that the server has taken a token, which may grant what others did not.
    pub(crate) fn granted(&mut self) {
        // What was told until here was granted by another.
        self.topics.values_mut().for_each(|state| state.is_named = false);
        self.asks_again |= self.is_refused && self.is_followed();
        self.is_refused = std::mem::take(&mut self.is_narrowed);
    }

    fn is_of_interest(&mut self, key: &Key) -> bool {
        self.rows.name(key);
        let its = self.topics.get_mut(&Some(key.clone()));
        its.map(|state| state.is_named = true).is_some() || self.topics.contains_key(&None)
    }

    /// Learns that the connection is gone.
    pub(crate) fn lost(&mut self) {
        (self.is_lost, self.asks_again) = (false, false);
        self.ends.clear();
        self.due.clear();
        self.unask_all();
    }

    /// Takes off what nobody follows any more. Returns the commands that tell the server, if it is there.
    pub(crate) fn news(&mut self, is_open: bool, means: &mut Means) -> Vec<Piece> {
        let mut touched: Vec<Topic> = self.touched.drain().collect();
        let is_ended = |topic: &Topic| self.topics.get(topic).is_some_and(|state| state.followers.is_empty());
        let ended: Vec<Topic> = touched.iter().filter(|topic| is_ended(topic)).cloned().collect();
        let states: Vec<(Topic, State)> = ended.iter().filter_map(|topic| self.topics.remove_entry(topic)).collect();
        let is_end_of_all = ended.contains(&None);
        if is_end_of_all {
            // The end of everything ends every other subscription too.
            self.rows.forget_all_but(|key| self.topics.contains_key(&Some(key.clone())));
            self.unask_all();
            touched = self.topics.keys().cloned().collect();
        } else if !self.topics.contains_key(&None) {
            ended.iter().flatten().for_each(|key| self.rows.forget(key));
        }
        if !is_open {
            return Vec::new();
        }
        let mut pieces = Vec::new();
        if is_end_of_all {
            pieces.push(self.end(None, means));
        } else {
            let asked = states.into_iter().filter(|(_, state)| state.asked != Asked::No).filter_map(|(topic, _)| topic);
            let lists = cut(asked.collect(), means.message_bytes);
            pieces.extend(lists.iter().map(|keys| self.end(Some(keys), means)));
        }
        pieces.extend(self.ask(touched, means));
        pieces
    }

    fn end(&mut self, keys: Option<&[Key]>, means: &mut Means) -> Piece {
        let id = means.id();
        self.ends.insert(id);
        Piece { id, topics: None, command: unsubscribe(id, &self.name, keys) }
    }

    /// Learns that an end was answered.
    pub(crate) fn ended(&mut self, id: u64) {
        self.ends.remove(&id);
        if self.ends.is_empty() && self.topics.get(&None).is_some_and(|all| all.asked == Asked::No) {
            self.touched.insert(None);
        }
    }

    /// Asks for those of these topics that are followed and were not asked for on this connection.
    fn ask(&mut self, mut topics: Vec<Topic>, means: &mut Means) -> Vec<Piece> {
        topics.retain(|topic| {
            let is_due = |state: &State| state.asked == Asked::No && !state.followers.is_empty();
            (topic.is_some() || self.ends.is_empty()) && self.topics.get(topic).is_some_and(is_due)
        });
        topics.sort_unstable();
        let is_of_all = topics.first() == Some(&None);
        let lists = cut(topics.into_iter().flatten().collect(), means.message_bytes);
        let all = is_of_all.then(|| vec![None]).into_iter();
        let lists: Vec<Vec<Topic>> =
            all.chain(lists.into_iter().map(|keys| keys.into_iter().map(Some).collect())).collect();
        lists.into_iter().map(|topics| self.piece(topics, means)).collect()
    }

    fn piece(&mut self, topics: Vec<Topic>, means: &mut Means) -> Piece {
        let id = means.id();
        let keys: Option<Vec<Key>> = topics.iter().cloned().collect();
        let command = subscribe(id, &self.name, keys.as_deref(), &self.rows);
        if keys.is_none() {
            self.rows.begin();
        }
        self.set(&topics, Asked::By(id));
        Piece { id, topics: Some(topics), command }
    }

    /// Asks for everything that is followed.
    pub(crate) fn ask_for_all(&mut self, now: Instant, means: &mut Means) -> Vec<Piece> {
        (self.asks_again, self.is_told, self.asked_at) = (false, false, Some(now));
        (self.is_refused, self.is_narrowed) = (false, false);
        self.unask_all();
        let pieces = self.ask(self.topics.keys().cloned().collect(), means);
        self.due = pieces.iter().map(|piece| piece.id).collect();
        pieces
    }

    /// Asks for the topics of a command once more, in so many parts.
    pub(crate) fn ask_anew(&mut self, id: u64, topics: &[Topic], parts: usize, means: &mut Means) -> Vec<Piece> {
        let topics = self.current(id, topics);
        self.set(&topics, Asked::No);
        let length = topics.len().div_ceil(parts).max(1);
        let pieces: Vec<Piece> = topics.chunks(length).flat_map(|part| self.ask(part.to_vec(), means)).collect();
        if self.due.remove(&id) {
            self.due.extend(pieces.iter().map(|piece| piece.id));
        }
        pieces
    }

    /// Takes a refusal for now. What is shown of its rows is old.
    pub(crate) fn refused(&mut self, id: u64, topics: &[Topic]) {
        let topics = self.current(id, topics);
        if !topics.iter().any(|topic| self.topics.get(topic).is_some_and(|state| state.is_shown)) {
            self.due.remove(&id);
        }
    }

    /// Takes the word that a command is answered, though not all that it asked for may have come.
    pub(crate) fn ask_again_after(&mut self, id: u64) {
        self.due.remove(&id);
        self.asks_again = self.is_followed();
    }

    /// Takes the word that all of a command has come, but what is forbidden: all rows of a table are as a whole.
    pub(crate) fn answered(&mut self, id: u64, topics: &[Topic], is_forbidden: bool) -> Vec<Change> {
        let topics = self.current(id, topics);
        let are_all = topics.contains(&None);
        self.is_told = true;
        self.due.remove(&id);
        self.set(&topics, if are_all && is_forbidden { Asked::Refused } else { Asked::Answered });
        if are_all { self.rows.complete() } else { Vec::new() }
    }

    /// Takes the word that some of a command is forbidden, which may be of the rows that were known and are not told
    /// anew. Those that would have been are taken away; asks for the others without naming what is known.
    pub(crate) fn forbidden(&mut self, id: u64, topics: &[Topic], means: &mut Means) -> (Vec<Change>, Vec<Piece>) {
        self.is_refused = true;
        let is_named = |topic: &Topic| self.topics.get(topic).is_some_and(|state| state.is_named);
        let untold: Vec<Key> = self.current(id, topics).into_iter().filter(|it| !is_named(it)).flatten().collect();
        let (doubtful, gone): (Vec<Key>, Vec<Key>) = untold.into_iter().partition(|key| self.rows.version(key) > 0);
        for key in &doubtful {
            self.rows.doubt(key);
        }
        let doubtful: Vec<Topic> = doubtful.into_iter().map(Some).collect();
        let pieces = if doubtful.is_empty() { Vec::new() } else { self.ask_anew(id, &doubtful, 1, means) };
        (gone.iter().filter_map(|key| self.rows.absent(key, 0)).collect(), pieces)
    }

    /// Returns those topics that this command was the last to ask for.
    pub(crate) fn current(&self, id: u64, topics: &[Topic]) -> Vec<Topic> {
        let is_current = |topic: &&Topic| self.topics.get(topic).is_some_and(|state| state.asked == Asked::By(id));
        topics.iter().filter(is_current).cloned().collect()
    }

    fn unask_all(&mut self) {
        let topics: Vec<Topic> = self.topics.keys().cloned().collect();
        self.set(&topics, Asked::No);
    }

    fn set(&mut self, topics: &[Topic], asked: Asked) {
        for topic in topics {
            let Some(state) = self.topics.get_mut(topic) else { continue };
            state.asked = asked;
            state.is_shown |= asked == Asked::Answered;
            state.is_named &= asked == Asked::Answered;
            self.unsettled.extend(&state.followers);
        }
    }
}
