//! The lists of all topics that a reader asked for, which come page by page: [`Pages`].
//!
//! A list is as long as the table, so a reader has only its place in it. A page is asked for when little is left of those
//! before: a reader that does not read holds some hundred ids.

use std::collections::VecDeque;

use super::{Part, StaleSet, take_number};
use crate::fanout::{Page, PageWish, Place};
use crate::model::table::TableId;

/// The number of listed topics below which the next page is asked for: what one round of pulls takes.
pub(super) const AHEAD: usize = 512;

/// The lists that have not come whole, one after the other.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Each with its table, and with the part that waits for it, which counts it as a topic.
    lists: VecDeque<(TableId, Part, Place)>,
    /// The number of the page of the first that was asked for.
    asked: Option<u32>,
}

impl Pages {
    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Lets all lists begin again; the page under way is void.
    pub(super) fn begin_again(&mut self) {
        self.lists.iter_mut().for_each(|(_, _, next)| *next = Place::default());
        self.asked = None;
    }
}

impl StaleSet {
    /// Adds all rows of a table, for a command that asked for them. Ends a part with them.
    pub fn list_all(&mut self, table: TableId) -> Part {
        let part = self.parts.open();
        self.add_pages(table, part);
        self.end_part()
    }

    /// Asks for all rows of a table in the oldest part that is not answered, unless a list of all is to come anyway.
    pub fn list_all_again(&mut self, table: TableId) {
        if self.pages.lists.iter().all(|(its, ..)| *its != table) {
            self.parts.open();
            self.add_pages(table, self.parts.first());
        }
    }

    /// Returns whether [`StaleSet::next_page`] asks for one.
    #[must_use]
    pub fn wants_page(&self) -> bool {
        !self.pages.is_empty() && self.pages.asked.is_none() && self.listed < AHEAD
    }

    /// Asks for the next page, if one is to be asked for.
    pub fn next_page(&mut self) -> Option<PageWish> {
        let &(table, _, from) = self.pages.lists.front().filter(|_| self.wants_page())?;
        let number = take_number(&mut self.next_number);
        self.pages.asked = Some(number);
        Some(PageWish { table, from, number })
    }

    /// Takes a page, unless it is not the one that was asked for last.
    pub fn page(&mut self, page: Page) {
        let Page { number, topics, next } = page;
        if self.pages.asked.take_if(|asked| *asked == number).is_none() {
            return;
        }
        let (_, part, place) = self.pages.lists.front_mut().expect("a page of a list was asked for");
        let part = *part;
        if let Some(next) = next {
            *place = next;
        }
        self.add_list(topics, Vec::new(), part);
        if next.is_none() {
            self.pages.lists.pop_front();
            self.parts.leave_one(part);
            self.give_memory_back();
        }
    }

    /// Ends the lists of a table that have not come whole, since the reader is not told of every row of it.
    pub fn end_pages(&mut self, table: TableId) {
        if self.pages.lists.front().is_some_and(|(its, ..)| *its == table) {
            // The page that is under way is its.
            self.pages.asked = None;
        }
        let lists = std::mem::take(&mut self.pages.lists);
        let (ended, others): (VecDeque<_>, _) = lists.into_iter().partition(|(its, ..)| *its == table);
        self.pages.lists = others;
        for (_, part, _) in ended {
            self.parts.leave_one(part);
        }
        self.give_memory_back();
    }

    fn add_pages(&mut self, table: TableId, part: Part) {
        self.parts.add(part, 1);
        self.pages.lists.push_back((table, part, Place::default()));
    }
}
