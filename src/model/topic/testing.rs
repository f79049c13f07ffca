//! Rows for tests, each known by a number: of one table that has keys of every kind, half of them wide.
//!
//! | number | key | topic |
//! |---|---|---|
//! | even | the number | narrow |
//! | 1, 5, 9, … | a text | wide |
//! | 3, 7, 11, … | a UUID | wide |

use std::collections::HashMap;
use std::sync::LazyLock;

use uuid::Uuid;

use super::{Subject, Topic};
use crate::auth::Grant;
use crate::model::key::{Key, KeyKind};
use crate::model::table::{TableId, Tables};

/// The numbers whose rows [`number`] knows if they are wide.
const NUMBERS: u64 = 1 << 15;

/// The table of the rows.
pub(crate) const TABLE: TableId = TableId::of_bits(1);
const NAME: &str = "notes";

/// The tables, whose topics are the same in every run.
static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let tables = Tables::with_key([1, 2]);
    assert_eq!(tables.add(NAME, KeyKind::Any).unwrap().id, TABLE);
    tables
});

static NUMBERS_OF_WIDE: LazyLock<HashMap<Topic, u64>> =
    LazyLock::new(|| (0..NUMBERS).map(|number| (topic(number), number)).collect());

/// Returns the tables of the rows.
pub(crate) fn tables() -> Tables {
    TABLES.clone()
}

/// Returns the row with this number.
pub(crate) fn subject(number: u64) -> Subject {
    let key = match number % 4 {
        1 => Key::Text(format!("note \"{number}\"").into()),
        3 => Key::Uuid(Uuid::from_u128(number.into())),
        _ => Key::Integer(number.cast_signed()),
    };
    TABLES.subject(TABLE, key)
}

/// Returns a grant to read the rows with these numbers.
pub(crate) fn grant_of(numbers: impl IntoIterator<Item = u64>) -> Grant {
    Grant::to_read_rows(NAME, numbers.into_iter().map(|number| subject(number).key()))
}

/// Returns its topic.
pub(crate) fn topic(number: u64) -> Topic {
    subject(number).topic()
}

/// Returns the number of the row with this topic.
pub(crate) fn number(topic: Topic) -> u64 {
    topic.integer().map_or_else(|| NUMBERS_OF_WIDE[&topic], i64::unsigned_abs)
}

/// Returns the number of the row that a message names: by its table, and its key in JSON.
pub(crate) fn number_of_json(table: Option<&str>, key: &serde_json::Value) -> u64 {
    assert_eq!(table, Some(NAME));
    let key = match key {
        serde_json::Value::String(text) => KeyKind::Any.of_text(text),
        key => KeyKind::Any.of_number(key.as_i64().expect("a key is an integer or a text")),
    };
    let topic = TABLES.subject(TABLE, key.expect("it is a key of the table")).topic();
    let number = number(topic);
    assert_eq!(self::topic(number), topic, "it is the key of a row");
    number
}
