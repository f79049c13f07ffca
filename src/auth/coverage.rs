//! The rows that a grant reads, asked for one after the other: [`Coverage`].

use std::sync::Arc;

use super::Grant;
use super::grant::Read;
use crate::model::key::Key;
use crate::model::table::{Table, Tables};
use crate::model::topic::{Subject, Topic, WideRow};

/// Tells which rows a grant reads. It remembers the table that was asked for last: who asks for many rows asks for those of
/// one table in a row.
#[derive(Debug)]
pub struct Coverage<'a> {
    grant: &'a Grant,
    tables: &'a Tables,
    last: Option<(Arc<Table>, Option<&'a Read>)>,
}

impl<'a> Coverage<'a> {
    /// Returns that of a grant, on rows of these tables.
    #[must_use]
    pub const fn new(grant: &'a Grant, tables: &'a Tables) -> Self {
        Self { grant, tables, last: None }
    }

    /// Returns true if the grant reads this row.
    pub fn covers(&mut self, subject: &Subject) -> bool {
        self.covers_row(subject.topic(), subject.wide().map(|row| &**row))
    }

    /// Returns the same of a topic, with its row if it is wide.
    ///
    /// # Panics
    /// If the topic is wide and stands alone.
    pub fn covers_row(&mut self, topic: Topic, row: Option<&WideRow>) -> bool {
        if self.last.as_ref().is_none_or(|(table, _)| table.id != topic.table()) {
            let table = self.tables.get(topic.table());
            let read = self.grant.read_of(&table.name);
            self.last = Some((table, read));
        }
        let Some((table, Some(read))) = &self.last else { return false };
        match (row, topic.integer()) {
            (Some(row), _) => read.covers(table.keys, &row.key),
            (None, Some(integer)) => read.covers(table.keys, &Key::Integer(integer)),
            (None, None) => panic!("a wide topic stands with its row's key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::product::ProductId;
    use crate::model::topic::testing::{grant_of, subject, tables};

    #[test]
    fn rows_are_covered_as_their_grant_says_in_whatever_order_they_come() {
        let (grant, tables) = (grant_of([0, 1, 3, 6, 9]), tables());
        let mut coverage = Coverage::new(&grant, &tables);
        for number in (0..20).chain((0..20).rev()) {
            assert_eq!(coverage.covers(&subject(number)), [0, 1, 3, 6, 9].contains(&number), "{number}");
            assert!(!coverage.covers(&ProductId::new(number).unwrap().subject()), "another table");
        }
    }
}
