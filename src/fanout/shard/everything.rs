//! What a shard keeps while somebody is told of every row of a table: the version of each that the store has.
//!
//! The rows come as pages of ids and versions, each at a barrier, while changes go on. A change that was cast is newer
//! than the row of a page that has not come yet, so a topic that was cast meanwhile is not taken from its page.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::ConnectionId;
use super::super::index::shrink;
use super::super::last::{Forgotten, LastValue};
use super::super::message::Value;
use super::kept::Kept;
use super::{Output, Shard};
use crate::model::table::TableId;
use crate::model::topic::{Subject, Subjects, Topic};

/// What a shard keeps of one table.
#[derive(Debug)]
pub(super) struct WatchedTable {
    /// True if somebody is told of every row; otherwise what is kept is for nobody.
    is_watched: bool,
    /// True if the rows that the store has are still coming.
    is_listing: bool,
    /// The topics that are kept.
    pub(super) kept: Kept,
    /// Those of them that went while rows came, each with the version at which it did.
    pub(super) gone: Vec<(Topic, u64)>,
    /// The greatest version that was heard or listed.
    pub(super) newest: u64,
}

/// The next step of a release.
enum Release {
    Gone(Topic, u64),
    Kept(Topic),
}

impl WatchedTable {
    fn counting(rows_kept: Arc<AtomicUsize>) -> Self {
        let kept = Kept::counting(rows_kept);
        Self { is_watched: true, is_listing: true, kept, gone: Vec::new(), newest: 0 }
    }

    /// Returns whether a row that is gone may be among those that are still to come.
    const fn may_come_back(&self, heals: bool) -> bool {
        self.is_listing || heals
    }

    fn has_to_release(&self, heals: bool) -> bool {
        if self.is_watched { !self.gone.is_empty() && !self.may_come_back(heals) } else { !self.kept.is_empty() }
    }

    fn next_release(&mut self) -> Option<Release> {
        let gone = self.gone.pop().map(|(topic, version)| Release::Gone(topic, version));
        gone.or_else(|| self.kept.pop().map(Release::Kept))
    }
}

impl Shard {
    /// Begins to keep every row of a table that changes, and that [`Shard::listed`] tells of.
    pub(in super::super) fn watch(&mut self, table: TableId) {
        let rows_kept = &self.rows_kept;
        let watched = self.watched.entry(table).or_insert_with(|| WatchedTable::counting(Arc::clone(rows_kept)));
        // What is kept still has followed every change.
        (watched.is_watched, watched.is_listing, watched.newest) = (true, true, 0);
    }

    /// Returns the shard, which counts there what it keeps, with the others of the process.
    pub(in super::super) fn counting(self, rows_kept: Arc<AtomicUsize>) -> Self {
        Self { rows_kept, ..self }
    }

    /// Learns whether the rows that the store has are all here, from the last [`Shard::watch`] or gap on.
    pub(in super::super) fn set_listing(&mut self, table: TableId, is_listing: bool) {
        if let Some(watched) = self.watched.get_mut(&table) {
            watched.is_listing = is_listing;
        }
    }

    /// Ends that: what is kept for nobody else is to be [released](Shard::release).
    pub(in super::super) fn unwatch(&mut self, table: TableId) {
        if let Some(watched) = self.watched.get_mut(&table) {
            (watched.is_watched, watched.gone) = (false, Vec::new());
            if watched.kept.is_empty() {
                self.watched.remove(&table);
            }
        }
    }

    /// Forgets up to `max` of the topics that are kept for nobody, or that are gone; returns their number.
    pub(in super::super) fn release(&mut self, max: usize) -> usize {
        let mut released = 0;
        while released < max
            && let Some(table) = self.table_to_release()
        {
            let watched = self.watched.get_mut(&table).expect("it has something to release");
            match watched.next_release() {
                Some(Release::Gone(topic, version)) => self.deleted(topic, version),
                Some(Release::Kept(topic)) => self.unkeep(topic),
                None => {}
            }
            released += 1;
            if self.watched.get(&table).is_some_and(|watched| !watched.is_watched && watched.kept.is_empty()) {
                self.watched.remove(&table);
            }
        }
        released
    }

    /// Forgets a topic that was kept, unless somebody else needs it.
    fn unkeep(&mut self, topic: Topic) {
        let Some(entry) = self.index.entry_of(topic) else { return };
        entry.last.keep(false);
        if entry.is_wanted() {
            return;
        }
        let is_held = entry.last.is_held();
        self.idles(topic);
        if !is_held {
            self.index.forget(topic);
        }
    }

    /// Returns whether there are topics for [`Shard::release`].
    pub(in super::super) fn has_to_release(&self) -> bool {
        self.table_to_release().is_some()
    }

    fn table_to_release(&self) -> Option<TableId> {
        let heals = self.has_to_heal();
        self.watched.iter().find(|(_, watched)| watched.has_to_release(heals)).map(|(&table, _)| table)
    }

    /// Returns what is kept of a table of which somebody is told every row.
    fn watched_table(&mut self, table: TableId) -> Option<&mut WatchedTable> {
        self.watched.get_mut(&table).filter(|watched| watched.is_watched)
    }

    /// Takes the version of a row that the store has. Where changes may have been missed since somebody was told of every
    /// topic, news is to be read and told.
    pub(in super::super) fn listed(&mut self, subject: &Subject, version: u64, may_have_missed: bool) {
        let topic = subject.topic();
        self.keep(subject);
        let entry = self.index.entry_of(topic).expect("it is kept");
        let newest = version.max(entry.last.version());
        if let Some(watched) = self.watched_table(topic.table()) {
            watched.newest = watched.newest.max(newest);
        }
        let entry = self.index.entry_of(topic).expect("it is kept");
        if entry.last.version() >= version {
            return;
        }
        // Its subscribers are told by the read that heals it, which finds no news in a version that is known. While there are
        // topics to heal, it is among them, or was subscribed to since they were listed.
        let may_heal = !self.to_heal.is_empty() && !entry.subscribers().is_empty();
        let is_remembered = entry.last.is_remembered();
        if self.heals(topic) {
            return;
        }
        if may_have_missed || may_heal || is_remembered {
            self.to_heal.push(topic);
        } else if let Some(entry) = self.index.entry_of(topic) {
            entry.last.cast(version, false, None);
        }
    }

    /// Returns the greatest version that was listed or heard since the last [`Shard::watch`] and in this epoch.
    pub(in super::super) fn newest(&self, table: TableId) -> u64 {
        self.watched.get(&table).map_or(0, |watched| watched.newest)
    }

    /// Returns those of the next `max` kept topics after one, or of the first, that may exist; and the last that it looked
    /// at, or `None` if there are no more. Forgets those that are gone.
    pub(in super::super) fn page(
        &mut self,
        table: TableId,
        after: Option<Topic>,
        max: usize,
    ) -> (Subjects, Option<Topic>) {
        let heals = self.has_to_heal();
        let Some(watched) = self.watched.get(&table) else { return Default::default() };
        let may_come_back = watched.may_come_back(heals);
        let mut topics = watched.kept.after(after, max);
        let last = topics.last().copied().filter(|_| topics.len() == max);
        topics.retain(|&topic| {
            let last = &self.index.entry_of(topic).expect("it is kept").last;
            let (is_gone, version) = (last.is_gone(), last.version());
            if is_gone && !may_come_back {
                self.deleted(topic, version);
            }
            !is_gone
        });
        (topics.into_iter().map(|topic| self.index.subject(topic)).collect(), last)
    }

    /// Takes note of a change.
    pub(super) fn heard(&mut self, subject: &Subject, version: u64) {
        if self.watched_table(subject.topic().table()).is_some() {
            self.keep(subject);
        }
        if let Some(watched) = self.watched_table(subject.topic().table()) {
            watched.newest = watched.newest.max(version);
        }
    }

    /// Takes note of the version that a read found, or that is known after it.
    pub(super) fn read_at(&mut self, table: TableId, version: u64) {
        if let Some(watched) = self.watched_table(table) {
            watched.newest = watched.newest.max(version);
        }
    }

    /// Forgets a topic that is gone at this version, unless somebody has subscribed to it or waits for it, or another version
    /// is known: then it came back, or the versions went back and what was told of it is to be healed in a new epoch. Once
    /// the last row has come: one that was read before the deletion would bring it back.
    pub(in super::super) fn deleted(&mut self, topic: Topic, version: u64) {
        let (table, heals) = (topic.table(), self.has_to_heal());
        if self.watched_table(table).is_none() || self.loadings.contains_key(&topic) {
            return;
        }
        let Some(entry) = self.index.entry_of(topic) else { return };
        if !entry.subscribers().is_empty() {
            return;
        }
        if entry.last.version() != version {
            return;
        }
        if let Some(watched) = self.watched_table(table)
            && watched.may_come_back(heals)
        {
            watched.gone.push((topic, version));
            return;
        }
        self.change(topic, LastValue::let_go);
        if let Some(entry) = self.index.entry_of(topic) {
            entry.last.keep(false);
            self.index.forget(topic);
        }
        if let Some(watched) = self.watched.get_mut(&table) {
            watched.kept.remove(topic);
        }
    }

    /// Ends the pulls of a connection that is told of every row of a table no more.
    pub(in super::super) fn leave_everything(&mut self, table: TableId, connection: ConnectionId, out: &mut Output) {
        let Some(places) = self.places_of_watchers.get(&connection) else { return };
        let topics: Vec<Topic> = places.keys().copied().filter(|topic| topic.table() == table).collect();
        for topic in topics {
            if let Some(place) = self.take_place_of_watcher(connection, topic) {
                let number = self.leave(topic, place);
                out.answer(connection, self.index.subject(topic), number, Value::Ended);
                self.let_gone_go(topic);
            }
        }
    }

    /// Learns that a topic has lost its last subscriber, and returns whether it stays all the same. Who is told of every row
    /// may have been told of this one as its subscriber: it is kept for them, as long as it exists.
    pub(super) fn stays(&mut self, subject: &Subject, forgotten: Forgotten) -> bool {
        let topic = subject.topic();
        let entry = self.index.entry_of(topic);
        if entry.as_ref().is_some_and(|entry| entry.last.is_kept()) {
            self.let_gone_go(topic);
            return true;
        }
        let known = entry.map_or(forgotten, |entry| entry.last.forgotten());
        let Some(watched) = self.watched.get_mut(&topic.table()).filter(|watched| watched.is_watched) else {
            return false;
        };
        if !known.existed() {
            return false;
        }
        watched.kept.insert(topic);
        // What it holds is counted on as that of a topic with subscribers.
        let last = &mut self.index.entry_or_new(subject).last;
        last.recall(known);
        last.keep(true);
        true
    }

    /// Forgets a topic that is kept and that nobody needs, if it is gone, or if nothing is known of it: then it was kept for a
    /// pull alone.
    pub(super) fn let_gone_go(&mut self, topic: Topic) {
        if !self.watched.is_empty()
            && let Some(entry) =
                self.index.entry_of(topic).filter(|entry| entry.last.is_gone() || entry.last.is_unknown())
        {
            let version = entry.last.version();
            self.deleted(topic, version);
        }
    }

    /// Keeps a topic.
    pub(super) fn keep(&mut self, subject: &Subject) {
        let topic = subject.topic();
        let entry = self.index.entry_or_new(subject);
        if entry.last.is_kept() {
            return;
        }
        let was_idle = !entry.is_wanted();
        entry.last.keep(true);
        let rows_kept = &self.rows_kept;
        let watched =
            self.watched.entry(topic.table()).or_insert_with(|| WatchedTable::counting(Arc::clone(rows_kept)));
        watched.kept.insert(topic);
        if was_idle && let Some(held) = entry.last.held() {
            held.stamp = self.memory.returns(topic);
            if self.memory.is_untidy() {
                self.tidy();
            }
        }
    }

    /// Sets a connection's place among those who wait for a topic, 0 for none; returns the one before.
    pub(super) fn set_place(&mut self, connection: ConnectionId, topic: Topic, place: u32) -> u32 {
        if let Some(waiting) = self.index.waiting(connection, topic) {
            return std::mem::replace(waiting, place);
        }
        let before = if place == 0 {
            self.take_place_of_watcher(connection, topic)
        } else {
            self.places_of_watchers.entry(connection).or_default().insert(topic, place)
        };
        before.unwrap_or(0)
    }

    pub(super) fn take_place_of_watcher(&mut self, connection: ConnectionId, topic: Topic) -> Option<u32> {
        let places = self.places_of_watchers.get_mut(&connection)?;
        let place = places.remove(&topic);
        shrink(places);
        if places.is_empty() {
            self.places_of_watchers.remove(&connection);
            shrink(&mut self.places_of_watchers);
        }
        place
    }
}
