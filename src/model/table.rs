//! The tables of a process: [`TableId`], [`Table`] and the list of all, [`Tables`].

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::key::{Key, KeyKind};
use super::topic::{Subject, TopicHash, WideRow};

/// The place of a table in the list of those that a server casts. Products have the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(u16);

impl TableId {
    /// The bits of its number.
    pub(crate) const BITS: u32 = 10;
    /// The table of products.
    pub const PRODUCTS: Self = Self(0);
    /// The last place.
    pub const MAX: Self = Self((1 << Self::BITS) - 1);

    /// Returns the table at this place, or `None` above [`TableId::MAX`].
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Returns its place.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns the table whose place is in the lower bits of a number.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) const fn of_bits(number: u64) -> Self {
        Self(number as u16 & Self::MAX.0)
    }
}

/// A table whose rows are cast.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its place.
    pub id: TableId,
    /// Its name, as it was given: in messages and addresses.
    pub name: Box<str>,
    /// The keys that its rows have.
    pub keys: KeyKind,
}

impl Table {
    /// Appends its name as JSON.
    pub fn write_name(&self, buffer: &mut Vec<u8>) {
        serde_json::to_writer(buffer, &self.name).expect("a text is JSON, and a Vec takes all");
    }
}

/// The name of the table of products.
pub const PRODUCTS: &str = "products";

/// All tables of the process, and the topics of their rows. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Tables(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hash: TopicHash,
    list: ArcSwap<List>,
    /// Held by who adds one.
    adding: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct List {
    tables: Vec<Arc<Table>>,
    ids_by_name: HashMap<Box<str>, TableId>,
    /// True if the table at the first place is not cast: nothing finds it.
    is_without_products: bool,
}

/// There is no place for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {} tables already", TableId::MAX.get() + 1)]
pub struct TooManyTables;

impl Tables {
    /// Returns the list with the table of products alone, whose topics of other tables' texts hang on this key, which
    /// nobody outside may know.
    #[must_use]
    pub fn with_key(key: [u64; 2]) -> Self {
        let inner = Inner { hash: TopicHash::with_key(key), list: ArcSwap::default(), adding: Mutex::default() };
        let tables = Self(Arc::new(inner));
        tables.add(PRODUCTS, KeyKind::PRODUCT).expect("there is room for the first");
        tables
    }

    /// Returns the same with a key of this process.
    #[must_use]
    pub fn new() -> Self {
        let random = RandomState::new();
        Self::with_key([random.hash_one(0), random.hash_one(1)])
    }

    /// Takes the built-in table of products out of the list, whose place stays empty. Another may then have its name.
    pub fn leave_out_products(&self) {
        let _adding = self.0.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = List::clone(&self.0.list.load());
        list.is_without_products = true;
        list.ids_by_name.retain(|_, id| *id != TableId::PRODUCTS);
        self.0.list.store(Arc::new(list));
    }

    /// Returns the built-in table of products, unless it was left out.
    #[must_use]
    pub fn products(&self) -> Option<Arc<Table>> {
        let list = self.0.list.load();
        if list.is_without_products { None } else { Some(Arc::clone(&list.tables[0])) }
    }

    /// Adds a table, unless there is one of this name; returns it.
    ///
    /// # Errors
    /// [`TooManyTables`].
    pub fn add(&self, name: &str, keys: KeyKind) -> Result<Arc<Table>, TooManyTables> {
        let _adding = self.0.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = self.find(name) {
            return Ok(table);
        }
        let mut list = List::clone(&self.0.list.load());
        let id = u16::try_from(list.tables.len()).ok().and_then(TableId::new).ok_or(TooManyTables)?;
        let table = Arc::new(Table { id, name: name.into(), keys });
        list.tables.push(Arc::clone(&table));
        list.ids_by_name.insert(name.into(), id);
        self.0.list.store(Arc::new(list));
        Ok(table)
    }

    /// Sets the keys that a table has, for those who ask from here on.
    ///
    /// # Panics
    /// If there is no such table.
    pub fn set_keys(&self, id: TableId, keys: KeyKind) {
        let _adding = self.0.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = List::clone(&self.0.list.load());
        let table = &mut list.tables[usize::from(id.get())];
        if table.keys != keys {
            *table = Arc::new(Table { id, name: table.name.clone(), keys });
            self.0.list.store(Arc::new(list));
        }
    }

    /// Returns the table with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Table>> {
        let list = self.0.list.load();
        list.ids_by_name.get(name).map(|id| Arc::clone(&list.tables[usize::from(id.get())]))
    }

    /// Returns the table at this place, which it was [added](Tables::add) to.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn get(&self, id: TableId) -> Arc<Table> {
        Arc::clone(&self.0.list.load().tables[usize::from(id.get())])
    }

    /// Returns all tables, in the order of their places.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Table>> {
        let list = self.0.list.load();
        list.tables[usize::from(list.is_without_products)..].to_vec()
    }

    /// Returns the subject that a key of a table is.
    #[must_use]
    pub fn subject(&self, table: TableId, key: Key) -> Subject {
        let topic = self.0.hash.topic(table, &key);
        topic.narrow().map_or_else(|| Subject::Wide(Arc::new(WideRow { topic, key })), Subject::Narrow)
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_have_the_first_place_and_names_are_added_once() {
        let tables = Tables::new();
        assert_eq!(tables.find(PRODUCTS).unwrap().id, TableId::PRODUCTS);
        let orders = tables.add("orders", KeyKind::Uuid).unwrap();
        assert_eq!(orders.id.get(), 1);
        assert_eq!(tables.clone().add("orders", KeyKind::Text).unwrap(), orders);
        assert_eq!((tables.find("orders"), tables.find("Orders")), (Some(Arc::clone(&orders)), None));
        assert_eq!(tables.get(orders.id), orders);
        assert_eq!(tables.all().len(), 2);
    }

    #[test]
    fn there_is_an_end_of_places() {
        let tables = Tables::new();
        for number in 1..=TableId::MAX.get() {
            tables.add(&number.to_string(), KeyKind::Any).unwrap();
        }
        assert_eq!(tables.add("one more", KeyKind::Any), Err(TooManyTables));
        assert_eq!(tables.add("7", KeyKind::Any).unwrap().id.get(), 7);
    }

    #[test]
    fn a_subject_keeps_the_key_that_its_topic_does_not_give_back() {
        let tables = Tables::new();
        for key in [Key::Integer(7), Key::Integer(i64::MAX), Key::Text("a".into())] {
            let subject = tables.subject(TableId::PRODUCTS, key.clone());
            assert_eq!(subject.key(), key);
            assert_eq!(subject.wide().is_none(), key == Key::Integer(7));
        }
    }
}
