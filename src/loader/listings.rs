//! The rows of tables that are listed for the shards: [`Listings`]. Pure.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use crate::fanout::{CoreId, Watch};
use crate::model::key::Key;
use crate::model::table::TableId;
use crate::model::topic::Subject;
use crate::store::Keys;

/// The pages of rows that a core may have been handed and not taken yet.
const PAGES_MAX: u32 = 2;

/// The listings of all tables, which take turns.
#[derive(Debug)]
pub(super) struct Listings {
    by_table: BTreeMap<TableId, Listing>,
    cores: usize,
    /// The most rows of a table that are listed.
    rows_max: usize,
    /// The table that was read for last.
    last: TableId,
}

/// The listing of one table.
#[derive(Debug, Default)]
struct Listing {
    /// The cores whose shards want to know every row, each with the pages that it was handed and has not taken. All of
    /// them do, or nothing is listed.
    watches: HashMap<CoreId, (Watch, u32)>,
    /// The progress, until the listing has ended.
    progress: Option<Progress>,
}

/// The part of the rows that is listed.
#[derive(Clone, Debug, Default)]
struct Progress {
    after: Option<Key>,
    rows: usize,
}

/// The next ids and versions of a table, for the watches of these cores.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) table: TableId,
    pub(super) keys: Vec<(Subject, u64)>,
    pub(super) end: Option<ListEnd>,
    pub(super) watches: Vec<(CoreId, u32)>,
}

/// The end of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListEnd {
    /// All rows were listed.
    Whole,
    /// There are more than may be listed.
    TooMany,
}

impl Listings {
    pub(super) const fn new(cores: usize, rows_max: usize) -> Self {
        Self { by_table: BTreeMap::new(), cores, rows_max, last: TableId::PRODUCTS }
    }

    /// Learns that a core wants to know every row of a table, or does not. All are listed anew.
    pub(super) fn watch(&mut self, core: CoreId, table: TableId, watch: Option<Watch>) {
        let listing = self.by_table.entry(table).or_default();
        match watch {
            Some(watch) => listing.watches.insert(core, (watch, 0)),
            None => listing.watches.remove(&core),
        };
        if listing.watches.is_empty() {
            self.by_table.remove(&table);
        } else {
            listing.begin(self.cores);
        }
    }

    /// Begins all listings anew.
    pub(super) fn begin(&mut self) {
        self.by_table.values_mut().for_each(|listing| listing.begin(self.cores));
    }

    /// Learns that a page is on its way to a core, for its watch with this number.
    pub(super) fn handed(&mut self, core: CoreId, table: TableId, number: u32) {
        if let Some(pages) = self.pages_of(core, table, number) {
            *pages += 1;
        }
    }

    /// Learns that a core has taken a page.
    pub(super) fn taken(&mut self, core: CoreId, table: TableId, number: u32) {
        if let Some(pages) = self.pages_of(core, table, number) {
            *pages = pages.saturating_sub(1);
        }
    }

    /// Returns the pages that a core was handed for a watch and has not taken, unless it watches anew.
    fn pages_of(&mut self, core: CoreId, table: TableId, number: u32) -> Option<&mut u32> {
        let watch = self.by_table.get_mut(&table)?.watches.get_mut(&core);
        watch.filter(|(watch, _)| watch.number == number).map(|(_, pages)| pages)
    }

    /// Returns the tables of which a page may be read.
    pub(super) fn wanted(&self) -> impl Iterator<Item = TableId> {
        self.by_table.iter().filter(|(_, listing)| listing.is_wanted()).map(|(&table, _)| table)
    }

    /// Returns the table whose turn it is to be read for, of those that are readable, and the key after which, if every core
    /// has room for more of it.
    pub(super) fn next(&mut self, is_readable: impl Fn(TableId) -> bool) -> Option<(TableId, Option<Key>)> {
        let mut behind = self.by_table.range((Excluded(self.last), Unbounded)).chain(self.by_table.iter());
        let (&table, listing) = behind.find(|(table, listing)| listing.is_wanted() && is_readable(**table))?;
        self.last = table;
        Some((table, listing.progress.as_ref()?.after.clone()))
    }

    /// Takes a page of a table.
    pub(super) fn listed(&mut self, table: TableId, Keys { keys, next }: Keys) -> Option<Listed> {
        let listing = self.by_table.get_mut(&table)?;
        let progress = listing.progress.as_mut()?;
        progress.rows += keys.len();
        // Who was promised every row keeps them, however many they become.
        let is_too_many = progress.rows > self.rows_max && listing.watches.values().all(|(watch, _)| watch.may_refuse);
        let end = if is_too_many { Some(ListEnd::TooMany) } else { next.is_none().then_some(ListEnd::Whole) };
        if end.is_some() {
            listing.progress = None;
        } else {
            progress.after = next;
        }
        let watches = listing.watches.iter().map(|(&core, (watch, _))| (core, watch.number)).collect();
        Some(Listed { table, keys, end, watches })
    }
}

impl Listing {
    fn begin(&mut self, cores: usize) {
        self.progress = (self.watches.len() == cores).then(Progress::default);
    }

    fn is_wanted(&self) -> bool {
        self.progress.is_some() && self.watches.values().all(|&(_, pages)| pages < PAGES_MAX)
    }
}
