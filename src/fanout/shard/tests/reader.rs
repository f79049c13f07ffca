//! A reader: what it was told, and what it must never be told.

use std::collections::BTreeMap;

use super::super::super::message::Value;
use super::world::Content;

/// What a reader shows of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The newest version that it was told; of a topic that is gone, the one that it was gone at.
    pub(super) version: u64,
    pub(super) exists: bool,
}

/// The newest version of a topic that came.
#[derive(Clone, Copy, Debug)]
struct Came {
    version: u64,
    /// True if the subscription ended since: the same version may come again.
    is_again: bool,
}

/// One reader on one server.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) server: usize,
    /// The connection's number; another one on another server.
    pub(super) connection: u32,
    /// The epoch of the versions that it knows.
    pub(super) epoch: u32,
    pub(super) shown: BTreeMap<u64, Shown>,
    /// The topics that it is subscribed to, each with the number of commits before.
    pub(super) subscribed: BTreeMap<u64, usize>,
    /// The pulls without an answer: the topic's, with the version that it claimed.
    pub(super) pulls: BTreeMap<u32, (u64, u64)>,
    /// The last pull of each topic, while it has no answer.
    pub(super) pulling: BTreeMap<u64, u32>,
    /// The newest version of each topic that came on this connection, in this epoch.
    came: BTreeMap<u64, Came>,
    next_number: u32,
    /// True if it claimed a version that never was.
    pub(super) has_forged: bool,
    /// True if the history of the versions that it is told may have been replaced.
    pub(super) is_in_doubt: bool,
}

impl Reader {
    pub(super) fn new(server: usize, connection: u32, epoch: u32) -> Self {
        Self {
            server,
            connection,
            epoch,
            shown: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            pulls: BTreeMap::new(),
            pulling: BTreeMap::new(),
            came: BTreeMap::new(),
            next_number: 0,
            has_forged: false,
            is_in_doubt: false,
        }
    }

    /// Goes to another server, with what it shows.
    pub(super) fn go(&mut self, server: usize, connection: u32, epoch: u32) {
        let shown = std::mem::take(&mut self.shown);
        let (has_forged, before) = (self.has_forged, self.epoch);
        *self = Self { shown, has_forged, ..Self::new(server, connection, before) };
        self.turn_to(epoch);
    }

    /// Ends a subscription: it shows the topic no more, and may be told of it anew when it comes back.
    pub(super) fn unsubscribe(&mut self, topic: u64) -> bool {
        self.shown.remove(&topic);
        if let Some(came) = self.came.get_mut(&topic) {
            came.is_again = true;
        }
        self.subscribed.remove(&topic).is_some()
    }

    /// Learns of another epoch: the versions that it knows mean nothing.
    pub(super) fn turn_to(&mut self, epoch: u32) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.forget_versions();
            self.pulls.values_mut().for_each(|(_, claimed)| *claimed = 0);
        }
    }

    /// Begins anew: versions are of an epoch that it knows none of.
    fn forget_versions(&mut self) {
        self.came.clear();
        self.shown.values_mut().for_each(|shown| shown.version = 0);
    }

    /// Notes a pull; returns its number.
    pub(super) fn pull(&mut self, topic: u64, claimed: u64) -> u32 {
        self.next_number += 1;
        self.pulls.insert(self.next_number, (topic, claimed));
        self.pulling.insert(topic, self.next_number);
        self.next_number
    }

    /// Takes a change that was cast.
    pub(super) fn cast(&mut self, topic: u64, content: Content) {
        assert!(self.subscribed.contains_key(&topic), "a change of what it is not subscribed to");
        if !self.pulling.contains_key(&topic) {
            self.take(topic, content, false);
        }
    }

    /// Takes the answer to a pull.
    pub(super) fn answered(&mut self, topic: u64, number: u32, value: &Value) {
        let (pulled, claimed) = self.pulls.remove(&number).expect("one answer for each pull");
        assert_eq!(pulled, topic);
        let is_last = self.pulling.get(&topic) == Some(&number);
        if !is_last {
            return;
        }
        self.pulling.remove(&topic);
        match *value {
            Value::Ended => assert!(!self.subscribed.contains_key(&topic), "it is subscribed"),
            Value::Same => assert!(claimed > 0, "nothing is the same as nothing"),
            Value::Present { version, ref frame } => {
                assert!(version > claimed, "{version} for who knows {claimed}");
                let content = Content::read(topic, frame);
                assert_eq!(content.version(), version);
                assert!(content.is_all(), "an answer has the whole row");
                self.take(topic, content, true);
            }
            Value::Absent { version } => {
                assert!(version == 0 || version > claimed, "absent since {version} for who knows {claimed}");
                self.take(topic, Content::Absent { version }, true);
            }
            Value::Unreached => {
                assert!(self.has_forged || self.is_in_doubt, "{claimed} was a version");
                self.forget_versions();
            }
        }
    }

    fn take(&mut self, topic: u64, content: Content, is_asked: bool) {
        let version = content.version();
        let shown = self.shown.entry(topic).or_insert(Shown { version: 0, exists: false });
        if version > 0 {
            let before = self.came.insert(topic, Came { version, is_again: false });
            let is_newer = before.is_none_or(|before| {
                before.version < version || (is_asked || before.is_again) && before.version == version
            });
            assert!(is_newer || self.is_in_doubt, "{version} after {before:?}");
        }
        if version == 0 || version > shown.version {
            let newest = shown.version.max(version);
            *shown = Shown { version: newest, exists: content.exists() };
        }
    }
}
