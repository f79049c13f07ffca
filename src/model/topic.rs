//! What the fan-out routes by: [`Topic`], one row of one table.

use std::fmt;

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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Its table, and its key or hash.
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.integer() {
            Some(integer) => write!(f, "{}/{integer}", self.table().get()),
            None => write!(f, "{}/#{:x}{:016x}", self.table().get(), self.high & ((1 << HASH_BITS) - 1), self.low),
        }
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
        use std::hash::Hasher;
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
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

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

    proptest! {
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
