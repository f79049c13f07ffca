//! The rights that a token gives: [`Grant`].

use std::time::Duration;

use uuid::Uuid;

use crate::model::key::{Key, KeyKind};
use crate::model::product::ProductId;
use crate::model::table::{PRODUCTS, Table};

/// The rights of whoever has a token, and their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    products: Rights,
    /// The rights on other tables, ordered by their names, each of which is there once.
    others: Box<[(Box<str>, Rights)]>,
    expires_at: Duration,
}

/// Keys of a table that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Those after one key, or from the first of all, up to another, or to the end of all.
    Range {
        /// The key before the first of them.
        after: Option<Key>,
        /// The last of them.
        last: Option<Key>,
    },
    /// One key.
    One(Key),
}

impl Run {
    /// Returns all keys after this one, or all.
    #[must_use]
    pub fn following(after: Option<&Key>) -> Self {
        Self::Range { after: after.cloned(), last: None }
    }
}

/// The rights on the rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) read: Read,
    pub(super) write: bool,
}

/// The rows that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    All,
    Rows {
        /// The first and the last of each range of integers, ordered, none touching the next.
        ranges: Box<[(i64, i64)]>,
        /// Keys as texts, ordered, and whether each stands for a range too.
        texts: Box<[(Box<str>, bool)]>,
        /// Those of the texts that are UUIDs, ordered, and whether one stands with its hyphens alone.
        uuids: Box<[(Uuid, bool)]>,
    },
}

impl Read {
    /// Returns all that these ranges cover, which may overlap, and the rows with these texts as their keys.
    pub(super) fn rows(mut ranges: Vec<(i64, i64)>, mut texts: Vec<(Box<str>, bool)>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, merged| {
            let touches = next.0 <= merged.1.saturating_add(1);
            if touches {
                merged.1 = merged.1.max(next.1);
            }
            touches
        });
        texts.sort_unstable();
        texts.dedup();
        let uuid = |text: &str| Some((Uuid::try_parse(text).ok()?, text.len() == uuid::fmt::Hyphenated::LENGTH));
        let mut uuids: Vec<_> = texts.iter().filter_map(|(text, _)| uuid(text)).collect();
        // The hyphenated one of the same is the first, which stays.
        uuids.sort_unstable_by_key(|&(uuid, is_hyphenated)| (uuid, !is_hyphenated));
        uuids.dedup_by_key(|(uuid, _)| *uuid);
        Self::Rows {
            ranges: ranges.into_boxed_slice(),
            texts: texts.into_boxed_slice(),
            uuids: uuids.into_boxed_slice(),
        }
    }

    pub(super) fn covers(&self, keys: KeyKind, key: &Key) -> bool {
        match (self, key) {
            (Self::All, _) => true,
            (Self::Rows { .. }, Key::Integer(integer)) => {
                self.next_range(*integer).is_some_and(|(first, _)| first == *integer)
            }
            // Where integers and texts are keys, what looks like a range is one.
            (Self::Rows { .. }, Key::Text(text)) => {
                self.names(text).is_some_and(|is_range| !is_range || keys != KeyKind::Any)
            }
            // Where texts are keys too, 32 digits in a row are one.
            (Self::Rows { uuids, .. }, Key::Uuid(uuid)) => uuids
                .binary_search_by_key(uuid, |(uuid, _)| *uuid)
                .is_ok_and(|place| uuids[place].1 || keys != KeyKind::Any),
        }
    }

    const fn is_nothing(&self) -> bool {
        matches!(self, Self::Rows { ranges, texts, .. } if ranges.is_empty() && texts.is_empty())
    }

    /// Returns whether this text stands for a range too, if it is among the texts.
    fn names(&self, text: &str) -> Option<bool> {
        let Self::Rows { texts, .. } = self else { return None };
        let place = texts.binary_search_by(|(named, _)| (**named).cmp(text)).ok()?;
        Some(texts[place].1)
    }

    /// Returns the first range of integers from `first` on: its first and its last.
    fn next_range(&self, first: i64) -> Option<(i64, i64)> {
        match self {
            Self::All => Some((first, i64::MAX)),
            Self::Rows { ranges, .. } => {
                let &(start, last) = ranges.get(ranges.partition_point(|&(_, last)| last < first))?;
                Some((start.max(first), last))
            }
        }
    }
}

impl Grant {
    pub(super) fn new(products: Rights, mut others: Vec<(Box<str>, Rights)>, expires_at: Duration) -> Self {
        others.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self { products, others: others.into_boxed_slice(), expires_at }
    }

    /// Returns a grant to read these products, from the first to the last, for ever.
    #[cfg(test)]
    pub(crate) fn to_read(first: i64, last: i64) -> Self {
        let read = Read::rows(vec![(first, last)], Vec::new());
        Self::new(Rights { read, write: false }, Vec::new(), Duration::MAX)
    }

    /// Returns a grant to read rows of a table by these keys, for ever.
    #[cfg(test)]
    pub(crate) fn to_read_rows(table: &str, keys: impl IntoIterator<Item = Key>) -> Self {
        let (mut integers, mut texts) = (Vec::new(), Vec::new());
        for key in keys {
            match key {
                Key::Integer(integer) => integers.push((integer, integer)),
                key => texts.push((key.to_string().into(), false)),
            }
        }
        let rights = |read| Rights { read, write: false };
        let nothing = rights(Read::rows(Vec::new(), Vec::new()));
        Self::new(nothing, vec![(table.into(), rights(Read::rows(integers, texts)))], Duration::MAX)
    }

    /// Returns a grant to write products and rows of these tables, and to read nothing, for ever.
    #[cfg(test)]
    pub(crate) fn to_write(others: &[&str]) -> Self {
        let rights = || Rights { read: Read::rows(Vec::new(), Vec::new()), write: true };
        Self::new(rights(), others.iter().map(|name| ((*name).into(), rights())).collect(), Duration::MAX)
    }

    /// Returns the same until then, since 1970.
    #[cfg(test)]
    pub(crate) fn until(self, expires_at: Duration) -> Self {
        Self { expires_at, ..self }
    }

    fn on(&self, name: &str) -> Option<&Rights> {
        if name == PRODUCTS {
            return Some(&self.products);
        }
        let place = self.others.binary_search_by(|(table, _)| (**table).cmp(name)).ok()?;
        Some(&self.others[place].1)
    }

    /// Returns the rows of the table with this name that may be read, if any may.
    pub(super) fn read_of(&self, name: &str) -> Option<&Read> {
        self.on(name).map(|rights| &rights.read).filter(|read| !read.is_nothing())
    }

    /// Returns true if it reads the same rows of the table with this name as another.
    #[must_use]
    pub fn reads_alike(&self, other: &Self, name: &str) -> bool {
        self.read_of(name) == other.read_of(name)
    }

    /// Returns true if it reads the same rows of all tables as another.
    #[must_use]
    pub fn reads_as(&self, other: &Self) -> bool {
        let mut names = self.others.iter().chain(&other.others).map(|(name, _)| &**name);
        self.reads_alike(other, PRODUCTS) && names.all(|name| self.reads_alike(other, name))
    }

    /// Returns true if this row of a table may be read and subscribed to.
    #[must_use]
    pub fn may_read_row(&self, table: &Table, key: &Key) -> bool {
        self.on(&table.name).is_some_and(|rights| rights.read.covers(table.keys, key))
    }

    /// Returns true if some row of a table may be read.
    #[must_use]
    pub fn may_read_some(&self, table: &Table) -> bool {
        self.read_of(&table.name).is_some()
    }

    /// Returns true if rows of the table with this name may be written.
    #[must_use]
    pub fn may_write_to(&self, table: &str) -> bool {
        self.on(table).is_some_and(|rights| rights.write)
    }

    /// Returns true if this product may be read and subscribed to.
    #[must_use]
    pub fn may_read(&self, id: ProductId) -> bool {
        self.products.read.covers(KeyKind::PRODUCT, &id.key())
    }

    /// Returns true if products may be written.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        self.products.write
    }

    /// Returns true if it has rights on the table with this name, be they none.
    #[must_use]
    pub fn names(&self, table: &str) -> bool {
        self.on(table).is_some()
    }

    /// Returns the first run of a table's keys that may be read, of those after this one, or of all.
    #[must_use]
    pub fn next_run(&self, table: &Table, after: Option<&Key>) -> Option<Run> {
        let read = &self.on(&table.name)?.read;
        let Read::Rows { texts, .. } = read else { return Some(Run::following(after)) };
        if let Some((min, max)) = table.keys.integers() {
            let next = match after {
                None => Some(min),
                Some(Key::Integer(after)) => after.checked_add(1),
                Some(Key::Uuid(_) | Key::Text(_)) => None,
            };
            if let Some((first, last)) = next.and_then(|next| read.next_range(next)).filter(|(first, _)| *first <= max)
            {
                let after = (first > min).then(|| Key::Integer(first - 1));
                return Some(Run::Range { after, last: Some(Key::Integer(last.min(max))) });
            }
        }
        let keys = texts.iter().filter_map(|(text, _)| table.keys.of_text(text).ok());
        let others = keys.filter(|key| !matches!(key, Key::Integer(_)) && read.covers(table.keys, key));
        others.filter(|key| after.is_none_or(|after| key > after)).min().map(Run::One)
    }

    /// Returns the time for which it is valid from `now` on, both since 1970; zero when it has expired.
    #[must_use]
    pub const fn remaining(&self, now: Duration) -> Duration {
        self.expires_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::table::Tables;

    fn id(number: u64) -> ProductId {
        ProductId::new(number).unwrap()
    }

    fn grant(ranges: &[(i64, i64)]) -> Grant {
        let read = Read::rows(ranges.to_vec(), Vec::new());
        Grant::new(Rights { read, write: false }, Vec::new(), Duration::from_secs(10))
    }

    #[test]
    fn ranges_grant_what_they_cover_and_nothing_else() {
        let ranges = [(7, 9), (3, 3), (0, 0), (8, 12), (13, 13), (20, 25), (21, 22)];
        let grant = grant(&ranges);
        for number in 0..30 {
            let covered = ranges.iter().any(|&(first, last)| (first..=last).contains(&number));
            assert_eq!(grant.may_read(id(number.cast_unsigned())), covered, "{number}");
        }
        let Read::Rows { ranges, .. } = &grant.products.read else { panic!("{grant:?}") };
        assert_eq!(**ranges, [(0, 0), (3, 3), (7, 13), (20, 25)]);
        let products = Tables::new().find(PRODUCTS).unwrap();
        let run =
            |after: i64, last| Some(Run::Range { after: Some(Key::Integer(after)), last: Some(Key::Integer(last)) });
        let next = |after: i64| grant.next_run(&products, Some(&Key::Integer(after)));
        assert_eq!([next(0), next(7), next(25), next(i64::MAX)], [run(2, 3), run(7, 13), None, None]);
        assert_eq!(grant.next_run(&products, None), Some(Run::Range { after: None, last: Some(Key::Integer(0)) }));
    }

    #[test]
    fn the_greatest_id_has_no_next() {
        let greatest = ProductId::MAX.get().cast_signed();
        let granted = grant(&[(greatest, greatest), (greatest - 1, greatest)]);
        assert!(granted.may_read(ProductId::MAX) && !granted.may_read(id(0)));
        let all = Grant::new(Rights { read: Read::All, write: true }, Vec::new(), Duration::ZERO);
        assert!(all.may_read(ProductId::MAX) && all.may_read(id(0)) && all.may_write());
        assert!(!grant(&[]).may_read(id(0)));
        assert!(!grant(&[(i64::MIN, -1), (i64::MAX, i64::MAX)]).may_read(id(0)));
    }

    #[test]
    fn the_rows_of_a_table_are_granted_by_its_name_and_their_keys() {
        let tables = Tables::new();
        let table = |name, keys| tables.add(name, keys).unwrap();
        let (orders, notes) = (table("orders", KeyKind::Any), table("notes", KeyKind::Text));
        let uuid = Uuid::from_u128(7);
        let texts = [("a-9".into(), false), ("1-3".into(), true), (uuid.to_string().into(), false)];
        let read = Read::rows(vec![(1, 3)], texts.to_vec());
        let rights = || Rights { read: read.clone(), write: true };
        let nothing = Rights { read: Read::rows(Vec::new(), Vec::new()), write: false };
        let others = vec![("orders".into(), rights()), ("notes".into(), rights())];
        let grant = Grant::new(nothing, others, Duration::MAX);
        let text = |text: &str| Key::Text(text.into());
        for (table, key, may) in [
            (&orders, Key::Integer(2), true),
            (&orders, Key::Integer(4), false),
            (&orders, text("a-9"), true),
            (&orders, text("1-3"), false),
            (&orders, Key::Uuid(uuid), true),
            (&orders, Key::Uuid(Uuid::from_u128(8)), false),
            (&notes, text("1-3"), true),
            (&notes, text("2"), false),
            (&tables.find(PRODUCTS).unwrap(), Key::Integer(2), false),
            (&table("others", KeyKind::Any), Key::Integer(2), false),
        ] {
            assert_eq!(grant.may_read_row(table, &key), may, "{} {key}", table.name);
        }
        let runs = |table: &Table| {
            let last = |run: &Run| match run {
                Run::Range { last, .. } => last.clone(),
                Run::One(key) => Some(key.clone()),
            };
            let mut run = grant.next_run(table, None);
            std::iter::from_fn(|| {
                let found = run.take()?;
                run = grant.next_run(table, last(&found).as_ref());
                Some(found)
            })
            .collect::<Vec<_>>()
        };
        let range = Run::Range { after: Some(Key::Integer(0)), last: Some(Key::Integer(3)) };
        assert_eq!(runs(&orders), [range, Run::One(Key::Uuid(uuid)), Run::One(text("a-9"))]);
        assert_eq!(runs(&notes), [&uuid.to_string(), "1-3", "a-9"].map(|key| Run::One(text(key))));
        assert_eq!(runs(&table("uuids", KeyKind::Uuid)), []);
        assert!(grant.may_write_to("orders") && !grant.may_write_to("others") && !grant.may_write_to(PRODUCTS));
        assert!(grant.may_read_some(&orders) && !grant.may_read_some(&tables.find(PRODUCTS).unwrap()));
    }

    #[test]
    fn grants_that_read_the_same_are_told_from_others() {
        let rows = |table, keys: &[i64]| Grant::to_read_rows(table, keys.iter().copied().map(Key::Integer));
        let nothing = rows("orders", &[]);
        for (one, other, are_alike) in [
            (&rows("orders", &[1, 2]), &rows("orders", &[2, 1, 1]), true),
            (&rows("orders", &[1, 2]), &rows("orders", &[1]), false),
            (&rows("orders", &[1]), &rows("notes", &[1]), false),
            (&nothing, &rows("notes", &[]), true),
            (&nothing, &Grant::to_write(&["orders"]), true),
            (&Grant::to_read(1, 2), &Grant::to_read(1, 2), true),
            (&Grant::to_read(1, 2), &nothing, false),
        ] {
            assert_eq!((one.reads_as(other), other.reads_as(one)), (are_alike, are_alike), "{one:?} {other:?}");
        }
        let (one, other) = (rows("orders", &[1]), rows("orders", &[2]));
        assert!(
            !one.reads_alike(&other, "orders") && one.reads_alike(&other, PRODUCTS) && one.reads_alike(&other, "x")
        );
    }

    #[test]
    fn the_rights_on_a_table_are_found_among_those_on_many() {
        let names: Vec<String> = (0..40).map(|number| format!("t{}", number * 7 % 40)).collect();
        let grant = Grant::to_write(&names.iter().map(|name| &**name).collect::<Vec<_>>());
        assert!(names.iter().all(|name| grant.may_write_to(name)) && !grant.may_write_to("t40"));
    }

    #[test]
    fn it_is_over_when_exp_is_reached() {
        let grant = grant(&[]);
        assert_eq!(grant.remaining(Duration::from_millis(9999)), Duration::from_millis(1));
        assert_eq!(grant.remaining(Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(grant.remaining(Duration::MAX), Duration::ZERO);
    }
}
