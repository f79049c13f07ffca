//! What a shard has read: its wishes, the rows that come, and what becomes of its products when the source was away.

use std::collections::VecDeque;

use super::super::last::{LastValue, Learnt, Loading, Sent, Waiter, is_before};
use super::super::message::{Loaded, LoadedRow, Value};
use super::{Output, Shard};
use crate::model::product::ProductId;
use crate::wire::frame::Frame;

impl Shard {
    /// Takes a row that was wished for.
    pub(in super::super) fn loaded(&mut self, Loaded { product, number, row }: Loaded, out: &mut Output) {
        let Some(loading) = self.loadings.get_mut(&product) else { return };
        let Some(sent) = loading.sent.take_if(|sent| sent.number == number) else { return };
        self.awaited -= 1;
        if !loading.is_wanted() {
            self.rest(product);
        } else if self.is_lost || is_before(number, self.void_before) || is_before(number, loading.since) {
            self.want(product);
        } else {
            self.take_row(product, sent, &row, out);
        }
        self.make_room(out);
        self.wish(out);
    }

    /// Takes a row whose answer counts.
    fn take_row(&mut self, product: ProductId, sent: Sent, row: &LoadedRow, out: &mut Output) {
        let Loading { heals, ref waiters, .. } = self.loadings[&product];
        let may_have_missed = heals || !self.to_heal.is_empty();
        let is_waited_for = !waiters.is_empty();
        let (learnt, version_before, version) = self.change(product, |last| {
            let before = last.version();
            let keeps = is_waited_for || last.is_held();
            let learnt = last.load(row, sent.version, keeps);
            (learnt, before, last.version())
        });
        self.newest = self.newest.max(version);
        if learnt == Learnt::Regress {
            out.has_regressed = true;
            self.want(product);
            return;
        }
        // Of what was never heard of since its subscribers came, they are told only if they may have missed it; and where they
        // missed nothing, that a product is absent was told by its last change.
        let is_row_told = version_before > 0 && matches!(row, LoadedRow::Present { .. });
        if learnt == Learnt::News && (may_have_missed || is_row_told) {
            let frame = match row {
                LoadedRow::Present { frame, .. } => frame.clone(),
                LoadedRow::Absent { version } => Frame::of_absence(product, *version),
                LoadedRow::Unreadable => unreachable!("there is no news in it"),
            };
            out.casts.push((product, version, frame));
        }
        self.healed(product);
        if *row == LoadedRow::Unreadable {
            let value = |_: &Waiter, last: &mut LastValue| {
                let version = last.version();
                Some(Value::Present { version, frame: Frame::of_unreadable(product, version) })
            };
            self.answer_waiters(product, out, value);
        } else {
            self.answer_waiters(product, out, |waiter, last| waiter.read(sent.number, last));
        }
        self.want(product);
        self.rest(product);
        if self.is_watched
            && let Some(topic) = self.index.topic(product).filter(|topic| topic.last.is_absent())
        {
            let version = topic.last.version();
            self.deleted(product, version);
        }
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
        self.to_heal = self.index.topics().map(|(product, _)| product).collect();
        if is_new_epoch {
            (self.newest, self.gone) = (0, Vec::new());
            let products = self.to_heal.clone();
            for product in products {
                self.change(product, LastValue::let_go);
                if let Some(topic) = self.index.topic(product) {
                    topic.last.forget();
                }
            }
            for loading in self.loadings.values_mut() {
                loading.waiters.iter_mut().for_each(|waiter| waiter.known = 0);
            }
        }
    }

    /// Makes up to `max` of the products whose changes may have been missed loadings.
    pub(in super::super) fn heal(&mut self, max: usize, out: &mut Output) -> usize {
        let healing = self.to_heal.len().min(max);
        for product in self.to_heal.split_off(self.to_heal.len() - healing) {
            let Some(topic) = self.index.topic(product) else { continue };
            if !topic.is_wanted() {
                self.change(product, LastValue::let_go);
                continue;
            }
            let loading = self.loadings.entry(product).or_insert_with(|| Loading::new(self.next_number));
            if !loading.is_wanted() {
                loading.since = self.next_number;
            }
            self.healing += usize::from(!loading.heals);
            loading.heals = true;
            self.want(product);
        }
        if self.to_heal.is_empty() {
            self.to_heal = Vec::new();
        }
        self.wish(out);
        healing
    }

    /// Learns that no change of a product is missing any more.
    pub(super) fn healed(&mut self, product: ProductId) {
        if let Some(loading) = self.loadings.get_mut(&product) {
            self.healing -= usize::from(loading.heals);
            loading.heals = false;
        }
    }

    /// Puts a product into the line of those to wish for, unless the loader has its wish or nobody needs it.
    pub(super) fn want(&mut self, product: ProductId) {
        let Some(loading) = self.loadings.get_mut(&product) else { return };
        if loading.is_wanted() && !loading.is_queued && loading.sent.is_none() {
            loading.is_queued = true;
            self.to_wish.push_back(product);
        }
    }

    /// Wishes for the products of the line, as many as the loader may have. None while changes may be missed: nothing is
    /// read then.
    pub(super) fn wish(&mut self, out: &mut Output) {
        while !self.is_lost && self.awaited < self.wishes_max {
            let Some(product) = self.to_wish.pop_front() else {
                self.to_wish = VecDeque::new();
                return;
            };
            let Some(loading) = self.loadings.get_mut(&product) else { continue };
            if !loading.is_queued {
                continue;
            }
            loading.is_queued = false;
            let topic = self.index.topic(product).expect("what is wanted has subscribers");
            let number = self.next_number;
            self.next_number = number.wrapping_add(1);
            loading.sent = Some(Sent { number, version: topic.last.version() });
            self.awaited += 1;
            out.wishes.push((product, number));
        }
        self.tidy_line();
    }

    /// Removes the products from the line that nobody needs any more, if they are most of it: a stranger may come and go
    /// while the store is away.
    fn tidy_line(&mut self) {
        const KEPT: usize = 1024;
        if self.to_wish.len() <= KEPT + 2 * self.loadings.len() {
            return;
        }
        let loadings = &mut self.loadings;
        // The first place of a product stays; its mark is set again below.
        let mut is_first = |product: &ProductId| {
            let loading = loadings.get_mut(product);
            loading.is_some_and(|loading| std::mem::take(&mut loading.is_queued))
        };
        self.to_wish.retain(&mut is_first);
        for product in &self.to_wish {
            self.loadings.get_mut(product).expect("it is loading").is_queued = true;
        }
        self.to_wish.shrink_to_fit();
    }
}
