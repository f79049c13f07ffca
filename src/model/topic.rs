//! What the fan-out routes by: [`Topic`], one row of one table.

use std::cmp::Reverse;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::key::{Key, SAFE_INTEGER_MAX, SAFE_INTEGER_MIN};
use super::table::TableId;

/// A row's place among all rows of all tables, in 16 bytes.
///
/// An integer that JavaScript holds exactly stands as it is, with its table, in the lower half: it is *narrow*. The
/// topic of any other key is *wide*: its table and 117 bits of a keyed hash of it, which does not give the key back.
///
/// Two keys of a table with the same hash would be one row to whoever subscribes. They need not be feared: the hash is
/// SipHash-2-4 with 128 bits and a key of this process, which nobody outside knows and nothing that is sent reveals, so
/// that none can be chosen to collide; and among 10^9 keys of a table, the chance that any two do is below 10^-17.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// 0 if it is narrow.
    high: u64,
    low: u64,
}

/// The bits of a narrow topic's integer, below those of its table.
const INTEGER_BITS: u32 = 54;
const _: () = assert!(SAFE_INTEGER_MAX < 1 << (INTEGER_BITS - 1), "its sign has a bit");
/// Set in the upper half of a wide topic, above its table and the rest of the hash.
const IS_WIDE: u64 = 1 << 63;
const HASH_BITS: u32 = 63 - TableId::BITS;

impl Topic {
    /// Returns the topic of a row whose key is an integer that JavaScript holds exactly, or `None` for any other integer.
    #[must_use]
    pub const fn of_integer(table: TableId, integer: i64) -> Option<Self> {
        if integer < SAFE_INTEGER_MIN || integer > SAFE_INTEGER_MAX {
            return None;
        }
        let bits = integer.cast_unsigned() & ((1 << INTEGER_BITS) - 1);
        Some(Self { high: 0, low: (table.get() as u64) << INTEGER_BITS | bits })
    }

    /// Returns the half that says all of a narrow topic; `None` for a wide one.
    #[must_use]
    pub const fn narrow(self) -> Option<u64> {
        if self.high == 0 { Some(self.low) } else { None }
    }

    /// Returns the narrow topic with this half.
    #[must_use]
    pub const fn of_narrow(low: u64) -> Self {
        Self { high: 0, low }
    }

    /// Returns the table of its row.
    #[must_use]
    pub const fn table(self) -> TableId {
        let number = if self.high == 0 { self.low >> INTEGER_BITS } else { self.high >> HASH_BITS };
        TableId::of_bits(number)
    }

    /// Returns the key of a narrow topic.
    #[must_use]
    pub const fn integer(self) -> Option<i64> {
        // The sign's bit moves to the top and back.
        let unused = 64 - INTEGER_BITS;
        if self.high == 0 { Some((self.low << unused).cast_signed() >> unused) } else { None }
    }

    /// Returns 64 bits by which topics spread that nobody chose: for a wide one, of its hash.
    #[must_use]
    pub const fn low(self) -> u64 {
        self.low
    }
}

/// Its lower half spreads topics as well as both.
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
    }
}

/// Its table, and its key or hash.
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.integer() {
            Some(integer) => write!(f, "{}/{integer}", self.table().get()),
            None => write!(f, "{}/#{:x}{:016x}", self.table().get(), self.high & ((1 << HASH_BITS) - 1), self.low),
        }
    }
}

/// A topic, with the key of its row where the topic does not give it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A narrow topic, by its half.
    Narrow(u64),
    /// A wide one.
    Wide(Arc<WideRow>),
}

/// A wide topic and the key of its row.
#[derive(Debug, PartialEq, Eq)]
pub struct WideRow {
    /// The topic.
    pub topic: Topic,
    /// The key.
    pub key: Key,
}

const _: () = assert!(size_of::<Subject>() == 16);
const _: () = assert!(size_of::<WideRow>() == 40, "56 bytes with its counts, as ARCHITECTURE.md sums");

impl Subject {
    /// Returns the subject of a topic that is narrow, or whose row is this one.
    ///
    /// # Panics
    /// If the topic is wide and stands alone.
    #[must_use]
    pub fn new(topic: Topic, row: Option<&Arc<WideRow>>) -> Self {
        match (topic.narrow(), row) {
            (Some(low), _) => Self::Narrow(low),
            (None, Some(row)) => Self::Wide(Arc::clone(row)),
            (None, None) => panic!("a wide topic stands with its row's key"),
        }
    }

    /// Returns its topic.
    #[must_use]
    pub fn topic(&self) -> Topic {
        match self {
            Self::Narrow(low) => Topic::of_narrow(*low),
            Self::Wide(row) => row.topic,
        }
    }

    /// Returns the row of a wide one.
    #[must_use]
    pub const fn wide(&self) -> Option<&Arc<WideRow>> {
        match self {
            Self::Narrow(_) => None,
            Self::Wide(row) => Some(row),
        }
    }

    /// Returns the key of its row.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Narrow(low) => {
                let integer = Topic::of_narrow(*low).integer();
                Key::Integer(integer.expect("a narrow topic has an integer"))
            }
            Self::Wide(row) => row.key.clone(),
        }
    }
}

/// Subjects in a row. Narrow ones take no room for keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    topics: Vec<Topic>,
    /// The rows of the first of them, as far as there was a wide one; `None` beside a narrow one.
    rows: Vec<Option<Arc<WideRow>>>,
}

impl Subjects {
    /// Adds one.
    pub fn push(&mut self, subject: Subject) {
        let topic = subject.topic();
        if let Subject::Wide(row) = subject {
            self.rows.resize(self.topics.len(), None);
            self.rows.push(Some(row));
        }
        self.topics.push(topic);
    }

    /// Returns their topics.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Returns the one at this place.
    #[must_use]
    pub fn get(&self, place: usize) -> Subject {
        Subject::new(self.topics[place], self.rows.get(place).and_then(Option::as_ref))
    }

    /// Returns all of them.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Subject> {
        (0..self.topics.len()).map(|place| self.get(place))
    }

    /// Returns those of each table, in no order of the tables.
    #[must_use]
    pub fn by_table(self) -> Vec<Self> {
        let mut tables: Vec<(TableId, Self)> = Vec::new();
        for subject in self.iter() {
            let table = subject.topic().table();
            match tables.iter_mut().find(|(its, _)| *its == table) {
                Some((_, subjects)) => subjects.push(subject),
                None => tables.push((table, std::iter::once(subject).collect())),
            }
        }
        tables.into_iter().map(|(_, subjects)| subjects).collect()
    }

    /// Returns their number.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Returns each once, in falling order, with the row of each wide one, none if all are narrow, and the greatest of its versions,
    /// none if none were given.
    #[must_use]
    pub fn falling(self, versions: Vec<u64>) -> (Vec<Topic>, Vec<Option<Arc<WideRow>>>, Vec<u64>) {
        let Self { mut topics, mut rows } = self;
        if rows.is_empty() && versions.is_empty() {
            topics.sort_unstable_by(|one, other| other.cmp(one));
            topics.dedup();
            return (topics, rows, versions);
        }
        if rows.is_empty() {
            let mut pairs: Vec<(Topic, u64)> = topics.into_iter().zip(versions).collect();
            pairs.sort_unstable_by(|one, other| other.cmp(one));
            pairs.dedup_by_key(|(topic, _)| *topic);
            let (topics, versions) = pairs.into_iter().unzip();
            return (topics, rows, versions);
        }
        rows.resize(topics.len(), None);
        let mut places: Vec<usize> = (0..topics.len()).collect();
        let version = |place: usize| versions.get(place).copied().unwrap_or(0);
        places.sort_unstable_by_key(|&place| Reverse((topics[place], version(place))));
        places.dedup_by_key(|place| topics[*place]);
        let versions = if versions.is_empty() { versions } else { places.iter().map(|&it| versions[it]).collect() };
        let rows = places.iter().map(|&place| rows[place].take()).collect();
        (places.into_iter().map(|place| topics[place]).collect(), rows, versions)
    }

    /// Returns each once, with the greatest of its versions, none if none were given.
    #[must_use]
    pub fn once_each(self, versions: Vec<u64>) -> (Self, Vec<u64>) {
        let (mut topics, mut rows, mut versions) = self.falling(versions);
        topics.reverse();
        rows.reverse();
        versions.reverse();
        (Self { topics, rows }, versions)
    }

    /// Takes the last of them off, so many at most.
    #[must_use]
    pub fn take_last(&mut self, most: usize) -> Self {
        let first = self.topics.len().saturating_sub(most);
        let rows = if self.rows.len() > first { self.rows.split_off(first) } else { Vec::new() };
        Self { topics: self.topics.split_off(first), rows }
    }

    /// Returns whether all of them are narrow.
    #[must_use]
    pub const fn are_narrow(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Extend<Subject> for Subjects {
    fn extend<I: IntoIterator<Item = Subject>>(&mut self, subjects: I) {
        subjects.into_iter().for_each(|subject| self.push(subject));
    }
}

impl FromIterator<Subject> for Subjects {
    fn from_iter<I: IntoIterator<Item = Subject>>(subjects: I) -> Self {
        let mut all = Self::default();
        subjects.into_iter().for_each(|subject| all.push(subject));
        all
    }
}

/// Of narrow topics.
impl From<Vec<Topic>> for Subjects {
    fn from(topics: Vec<Topic>) -> Self {
        debug_assert!(topics.iter().all(|topic| topic.narrow().is_some()), "a wide topic stands with its key");
        Self { topics, rows: Vec::new() }
    }
}

/// Makes the topics of keys. Those of different processes differ.
#[derive(Clone, Debug)]
pub struct TopicHash(SipHasher24);

impl TopicHash {
    /// Returns a hash with this key, which nobody outside may know.
    #[must_use]
    pub fn with_key(key: [u64; 2]) -> Self {
        Self(SipHasher24::new_with_keys(key[0], key[1]))
    }

    /// Returns the topic of a table's row.
    #[must_use]
    pub fn topic(&self, table: TableId, key: &Key) -> Topic {
        let narrow = match key {
            Key::Integer(integer) => Topic::of_integer(table, *integer),
            Key::Uuid(_) | Key::Text(_) => None,
        };
        narrow.unwrap_or_else(|| {
            let mut hasher = self.0;
            // The kind of a key is in its hash, so that a UUID and the text of its bytes are two.
            match key {
                Key::Integer(integer) => {
                    hasher.write_u8(0);
                    hasher.write_i64(*integer);
                }
                Key::Uuid(uuid) => {
                    hasher.write_u8(1);
                    hasher.write(uuid.as_bytes());
                }
                Key::Text(text) => {
                    hasher.write_u8(2);
                    hasher.write(text.as_bytes());
                }
            }
            hasher.write_u16(table.get());
            let hash = hasher.finish128();
            let rest = hash.h1 >> (64 - HASH_BITS);
            Topic { high: IS_WIDE | u64::from(table.get()) << HASH_BITS | rest, low: hash.h2 }
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::testing::subject;
    use super::*;

    fn tables() -> impl Strategy<Value = TableId> {
        (0..=TableId::MAX.get()).prop_map(|number| TableId::new(number).unwrap())
    }

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![
            any::<i64>().prop_map(Key::Integer),
            (-9..9i64).prop_map(Key::Integer),
            any::<u128>().prop_map(|bits| Key::Uuid(Uuid::from_u128(bits))),
            "[a-c]{0,3}".prop_map(|text| Key::Text(text.into())),
        ]
    }

    #[test]
    fn a_product_is_its_own_number() {
        for number in [0, 1, 9_007_199_254_740_991] {
            let topic = Topic::of_integer(TableId::PRODUCTS, number).unwrap();
            assert_eq!(topic.narrow(), Some(number.cast_unsigned()));
        }
        assert_eq!(Topic::of_integer(TableId::PRODUCTS, SAFE_INTEGER_MAX + 1), None);
    }

    #[test]
    fn another_process_has_other_wide_topics() {
        let text = Key::Text("a".into());
        let of = |key| TopicHash::with_key(key).topic(TableId::PRODUCTS, &text);
        assert_ne!(of([1, 2]), of([1, 3]));
        assert_eq!(of([1, 2]), of([1, 2]));
    }

    /// Subjects, narrow ones alone perhaps, with versions or without.
    fn listed() -> impl Strategy<Value = (Vec<Subject>, Vec<u64>)> {
        let wide = prop::collection::vec((0..12_u64, 0..5_u64), 0..16);
        let narrow = prop::collection::vec(((0..6_u64).prop_map(|number| 2 * number), 0..5_u64), 0..16);
        (prop_oneof![2 => wide, 1 => narrow], any::<bool>()).prop_map(|(listed, has_versions)| {
            let (numbers, versions): (Vec<u64>, Vec<u64>) = listed.into_iter().unzip();
            (numbers.into_iter().map(subject).collect(), if has_versions { versions } else { Vec::new() })
        })
    }

    /// The same, each once, in rising order, with the greatest of its versions, 0 where none were given.
    fn once_each(subjects: &[Subject], versions: &[u64]) -> Vec<(Subject, u64)> {
        let mut each: BTreeMap<Topic, (Subject, u64)> = BTreeMap::new();
        for (place, subject) in subjects.iter().enumerate() {
            let (_, newest) = each.entry(subject.topic()).or_insert_with(|| (subject.clone(), 0));
            *newest = versions.get(place).copied().unwrap_or(0).max(*newest);
        }
        each.into_values().collect()
    }

    /// Each with its version, 0 where there are none; there is one for each or none at all.
    fn with_versions(subjects: impl ExactSizeIterator<Item = Subject>, versions: &[u64]) -> Vec<(Subject, u64)> {
        assert!(versions.is_empty() || versions.len() == subjects.len());
        subjects.enumerate().map(|(place, it)| (it, versions.get(place).copied().unwrap_or(0))).collect()
    }

    proptest! {
        #[test]
        fn subjects_are_those_that_were_added((added, _) in listed(), (more, _) in listed()) {
            let mut subjects: Subjects = added.iter().cloned().collect();
            subjects.extend(more.clone());
            let all = [added, more].concat();
            prop_assert_eq!(subjects.iter().collect::<Vec<_>>(), all.clone());
            prop_assert_eq!(subjects.topics(), all.iter().map(Subject::topic).collect::<Vec<_>>());
            prop_assert_eq!((subjects.len(), subjects.is_empty()), (all.len(), all.is_empty()));
            prop_assert_eq!(subjects.are_narrow(), all.iter().all(|subject| subject.wide().is_none()));
        }

        #[test]
        fn the_last_subjects_are_taken_off((added, _) in listed(), most in 0..20_usize) {
            let mut subjects: Subjects = added.iter().cloned().collect();
            let last = subjects.take_last(most);
            prop_assert_eq!(last.len(), most.min(added.len()));
            prop_assert_eq!(subjects.iter().chain(last.iter()).collect::<Vec<_>>(), added);
        }

        #[test]
        fn subjects_are_left_each_once_with_the_newest_of_its_versions((added, versions) in listed()) {
            let expected = once_each(&added, &versions);
            let subjects: Subjects = added.iter().cloned().collect();
            let is_narrow = subjects.are_narrow();

            let (once, kept) = subjects.clone().once_each(versions.clone());
            prop_assert_eq!(kept.is_empty(), versions.is_empty());
            prop_assert_eq!(with_versions(once.iter(), &kept), expected.clone());

            let (topics, rows, kept) = subjects.falling(versions.clone());
            prop_assert_eq!(rows.is_empty(), is_narrow);
            prop_assert!(is_narrow || rows.len() == topics.len());
            prop_assert_eq!(kept.is_empty(), versions.is_empty());
            let row = |place: usize| rows.get(place).and_then(Option::as_ref);
            prop_assert!(topics.iter().enumerate().all(|(place, it)| it.narrow().is_none() || row(place).is_none()));
            let falling = topics.iter().enumerate().map(|(place, &topic)| Subject::new(topic, row(place)));
            let falling: Vec<Subject> = falling.collect();
            let expected: Vec<_> = expected.into_iter().rev().collect();
            prop_assert_eq!(with_versions(falling.into_iter(), &kept), expected);
        }

        #[test]
        fn rows_are_told_apart(one in (tables(), keys()), other in (tables(), keys())) {
            let hash = TopicHash::with_key([7, 8]);
            let (a, b) = (hash.topic(one.0, &one.1), hash.topic(other.0, &other.1));
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.table(), one.0);
        }

        #[test]
        fn a_narrow_topic_gives_its_key_back(table in tables(), key in keys()) {
            let topic = TopicHash::with_key([7, 8]).topic(table, &key);
            let is_narrow = matches!(key, Key::Integer(SAFE_INTEGER_MIN..=SAFE_INTEGER_MAX));
            prop_assert_eq!(topic.narrow().is_some(), is_narrow);
            prop_assert_eq!(topic.integer().map(Key::Integer), is_narrow.then_some(key));
            if let Some(low) = topic.narrow() {
                prop_assert_eq!(Topic::of_narrow(low), topic);
            }
        }
    }
}
