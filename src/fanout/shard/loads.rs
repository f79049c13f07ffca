//! What a shard has read: its wishes, the rows that come, and what becomes of its topics when the source was away.

use std::collections::VecDeque;

use super::super::last::{LastValue, Learnt, Loading, Sent, Waiter, is_before};
use super::super::message::{Loaded, LoadedRow};
use super::{Output, Read, Shard};
use crate::model::table::TableId;
use crate::model::topic::Topic;
use crate::wire::frame::Frame;

impl Shard {
    /// Takes a row that was wished for.
    pub(in super::super) fn loaded(&mut self, Loaded { topic, number, row }: Loaded, out: &mut Output) {
        let Some(loading) = self.loadings.get_mut(&topic) else { return };
        let Some(sent) = loading.sent.take_if(|sent| sent.number == number) else { return };
        self.awaited -= 1;
        if !loading.is_wanted() {
            self.rest(topic);
            self.let_gone_go(topic);
        } else if self.is_lost || is_before(number, self.void_before) || is_before(number, loading.since) {
            // That of a lost table too: its words make all before them void.
            self.want(topic);
        } else {
            self.take_row(topic, sent, &row, out);
        }
        self.make_room(out);
        self.wish(out);
    }

    /// Takes a row whose answer counts.
    fn take_row(&mut self, topic: Topic, sent: Sent, row: &LoadedRow, out: &mut Output) {
        let Loading { heals, ref waiters, .. } = self.loadings[&topic];
        let may_have_missed = heals || !self.to_heal.is_empty();
        let is_waited_for = !waiters.is_empty();
        let (learnt, version_before, version) = self.change(topic, |last| {
            let before = last.version();
            let keeps = is_waited_for || last.is_held();
            let learnt = last.load(row, sent.version, keeps);
            (learnt, before, last.version())
        });
        self.read_at(topic.table(), version);
        if learnt == Learnt::Regress {
            out.regressed = Some(topic.table());
            self.want(topic);
            return;
        }
        // Of what was never heard of since its subscribers came, they are told only if they may have missed it; and where they
        // missed nothing, that a topic is absent was told by its last change. What is kept for who is told of every row is
        // forgotten by that change, unless it was below the version that is known.
        let is_told = learnt == Learnt::News
            && (may_have_missed
                || version_before > 0
                    && (!matches!(row, LoadedRow::Absent { .. }) || self.index.subscribers(topic).is_empty()));
        if is_told {
            let (is_absence, frame) = match row {
                LoadedRow::Present { frame, .. } => (false, frame.clone()),
                LoadedRow::Absent { version } => (true, self.absence(topic, *version)),
                LoadedRow::Unreadable { version } => (false, self.unreadable(topic, *version)),
            };
            out.casts.push(Read { subject: self.index.subject(topic), version, frame, is_absence });
        }
        self.healed(topic);
        if let LoadedRow::Unreadable { version } = *row {
            let (table, key) = (self.tables.get(topic.table()), self.index.subject(topic).key());
            let frame = |version| Frame::of_unreadable(&table, &key, version);
            let value = |waiter: &Waiter, last: &mut LastValue| waiter.read_in_vain(sent.number, version, last, frame);
            self.answer_waiters(topic, out, value);
        } else {
            self.answer_waiters(topic, out, |waiter, last| waiter.read(sent.number, last));
        }
        self.want(topic);
        self.rest(topic);
        self.let_gone_go(topic);
    }

    fn absence(&self, topic: Topic, version: u64) -> Frame {
        Frame::of_absence(&self.tables.get(topic.table()), &self.index.subject(topic).key(), version)
    }

    fn unreadable(&self, topic: Topic, version: u64) -> Frame {
        Frame::of_unreadable(&self.tables.get(topic.table()), &self.index.subject(topic).key(), version)
    }

    /// Learns that changes may have been missed, and may be until [`Shard::begin`].
    pub(in super::super) fn lose(&mut self) {
        self.is_lost = true;
        self.void_before = self.next_number;
        self.to_heal = Vec::new();
    }

    /// Learns that from here on every change comes. What has subscribers is to be [healed](Shard::heal), and what has
    /// none is forgotten; in a new epoch all versions are.
    pub(in super::super) fn begin(&mut self, is_new_epoch: bool) {
        self.lose();
        self.is_lost = false;
        if is_new_epoch {
            self.forget(|_| true);
        }
        let lost_tables = &self.lost_tables;
        self.to_heal = self.index.topics().filter(|topic| !lost_tables.contains(&topic.table())).collect();
    }

    /// Forgets all that is known of tables, since their versions mean nothing any more.
    fn forget(&mut self, is_of: impl Fn(TableId) -> bool) {
        for (_, watched) in self.watched.iter_mut().filter(|(table, _)| is_of(**table)) {
            (watched.newest, watched.gone) = (0, Vec::new());
        }
        let topics: Vec<Topic> = self.index.topics().filter(|topic| is_of(topic.table())).collect();
        for topic in topics {
            self.change(topic, LastValue::let_go);
            if let Some(entry) = self.index.entry_of(topic) {
                entry.last.forget();
            }
        }
        for (_, loading) in self.loadings.iter_mut().filter(|(topic, _)| is_of(topic.table())) {
            loading.waiters.iter_mut().for_each(|waiter| waiter.known = 0);
        }
    }

    /// Learns that changes of one table may be missed, until [`Shard::miss`]: nothing of it is read.
    pub(in super::super) fn lose_table(&mut self, table: TableId) {
        self.void_before = self.next_number;
        if !self.lost_tables.contains(&table) {
            self.lost_tables.push(table);
        }
        self.to_heal.retain(|topic| topic.table() != table);
        let loadings: Vec<Topic> = self.loadings.keys().filter(|topic| topic.table() == table).copied().collect();
        for topic in loadings {
            // The loader forgets the wishes of the table.
            let sent = self.loadings.get_mut(&topic).and_then(|loading| loading.sent.take());
            self.awaited -= usize::from(sent.is_some());
            self.healed(topic);
            self.rest(topic);
        }
    }

    /// Learns that changes of one table may have been missed, and that none is from here on: what has subscribers is to be
    /// [healed](Shard::heal). In a new epoch of the table all that is known of it is forgotten.
    pub(in super::super) fn miss(&mut self, table: TableId, is_new_epoch: bool) {
        self.void_before = self.next_number;
        self.lost_tables.retain(|lost| *lost != table);
        if is_new_epoch {
            self.forget(|its| its == table);
        }
        // While all changes may be missed, the next beginning heals it too.
        if self.is_lost {
            return;
        }
        self.to_heal.extend(self.index.topics().filter(|topic| topic.table() == table));
        let waiting: Vec<Topic> = self.loadings.keys().filter(|topic| topic.table() == table).copied().collect();
        for topic in waiting {
            self.want(topic);
        }
    }

    /// Makes up to `max` of the topics whose changes may have been missed loadings.
    pub(in super::super) fn heal(&mut self, max: usize, out: &mut Output) -> usize {
        let healing = self.to_heal.len().min(max);
        for topic in self.to_heal.split_off(self.to_heal.len() - healing) {
            let Some(entry) = self.index.entry_of(topic) else { continue };
            if !entry.is_wanted() {
                self.change(topic, LastValue::let_go);
                continue;
            }
            let loading = self.loadings.entry(topic).or_insert_with(|| Loading::new(self.next_number));
            if !loading.is_wanted() {
                loading.since = self.next_number;
            }
            self.healing += usize::from(!loading.heals);
            loading.heals = true;
            self.want(topic);
        }
        if self.to_heal.is_empty() {
            self.to_heal = Vec::new();
        }
        self.wish(out);
        healing
    }

    /// Learns that no change of a topic is missing any more.
    pub(super) fn healed(&mut self, topic: Topic) {
        if let Some(loading) = self.loadings.get_mut(&topic) {
            self.healing -= usize::from(loading.heals);
            loading.heals = false;
        }
    }

    /// Puts a topic into the line of those to wish for, unless the loader has its wish or nobody needs it.
    pub(super) fn want(&mut self, topic: Topic) {
        let Some(loading) = self.loadings.get_mut(&topic) else { return };
        if loading.is_wanted() && !loading.is_queued && loading.sent.is_none() {
            loading.is_queued = true;
            self.to_wish.push_back(topic);
        }
    }

    /// Wishes for the topics of the line, as many as the loader may have. None while changes may be missed: nothing is
    /// read then, and of a table that is lost alone its [return](Shard::miss) puts those into the line that are wanted.
    pub(super) fn wish(&mut self, out: &mut Output) {
        while !self.is_lost && self.awaited < self.wishes_max {
            let Some(topic) = self.to_wish.pop_front() else {
                self.to_wish = VecDeque::new();
                return;
            };
            let Some(loading) = self.loadings.get_mut(&topic) else { continue };
            if !loading.is_queued {
                continue;
            }
            loading.is_queued = false;
            if !self.lost_tables.is_empty() && self.lost_tables.contains(&topic.table()) {
                continue;
            }
            let entry = self.index.entry_of(topic).expect("what is wanted has subscribers");
            let number = self.next_number;
            self.next_number = number.wrapping_add(1);
            loading.sent = Some(Sent { number, version: entry.last.version() });
            self.awaited += 1;
            out.wishes.push((self.index.subject(topic), number));
        }
        self.tidy_line();
    }

    /// Removes the topics from the line that nobody needs any more, if they are most of it: a stranger may come and go
    /// while the store is away.
    fn tidy_line(&mut self) {
        const KEPT: usize = 1024;
        if self.to_wish.len() <= KEPT + 2 * self.loadings.len() {
            return;
        }
        let loadings = &mut self.loadings;
        // The first place of a topic stays; its mark is set again below.
        let mut is_first = |topic: &Topic| {
            let loading = loadings.get_mut(topic);
            loading.is_some_and(|loading| std::mem::take(&mut loading.is_queued))
        };
        self.to_wish.retain(&mut is_first);
        for topic in &self.to_wish {
            self.loadings.get_mut(topic).expect("it is loading").is_queued = true;
        }
        self.to_wish.shrink_to_fit();
    }
}
