//! The meaning of a database's *no* to whoever asked: [`Kind::of`], from its SQLSTATE. Pure.
//! <https://www.postgresql.org/docs/15/errcodes-appendix.html>

use self::Kind::{Changed, Fault, Refused, Unavailable};
use crate::store::Refusal;
use crate::store::Refusal::{Conflict, Denied, Invalid, Unrepresentable};

/// The meaning of a database's error to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It will not be done as it was asked.
    Refused(Refusal),
    /// Asking again may help: nothing is wrong with the request.
    Unavailable,
    /// The table is not as it was installed. Asking again helps once it was looked at.
    Changed,
    /// The database is not as this server expects it. Only its operator can help.
    Fault,
}

/// Codes that mean something else than their class does.
const BY_CODE: [(&str, Kind); 12] = [
    ("22021", Refused(Unrepresentable)), // character_not_in_repertoire
    ("22P05", Refused(Unrepresentable)), // untranslatable_character
    ("23502", Refused(Invalid)),         // not_null_violation
    ("23514", Refused(Invalid)),         // check_violation
    ("25006", Unavailable),              // read_only_sql_transaction: a standby before its promotion
    ("40002", Refused(Conflict)),        // transaction_integrity_constraint_violation
    ("42501", Refused(Denied)),          // insufficient_privilege, and a policy that refuses a row
    ("44000", Refused(Invalid)),         // with_check_option_violation
    ("54000", Refused(Invalid)),         // program_limit_exceeded: a value too long for an index
    ("55P03", Unavailable),              // lock_not_available
    ("P0001", Refused(Invalid)),         // raise_exception, by a trigger
    ("P0004", Refused(Invalid)),         // assert_failure, likewise
];

/// The meaning of the other codes of a class; those of a class that is not here are [`Fault`].
const BY_CLASS: [(&str, Kind); 7] = [
    ("08", Unavailable),       // connection exception
    ("22", Refused(Invalid)),  // data exception
    ("23", Refused(Conflict)), // integrity constraint violation: unique, exclusion, foreign key
    ("40", Unavailable),       // transaction rollback
    ("53", Unavailable),       // insufficient resources
    ("57", Unavailable),       // operator intervention, and a statement that took too long
    ("RC", Changed),           // by migrations/0010_changed_tables.sql
];

impl Kind {
    /// Returns the meaning of an SQLSTATE.
    pub(super) fn of(code: &str) -> Self {
        let is_code = |(known, _): &&(&str, Self)| code == *known;
        let is_class = |(class, _): &&(&str, Self)| code.len() == 5 && code.starts_with(class);
        let found = BY_CODE.iter().find(is_code).or_else(|| BY_CLASS.iter().find(is_class));
        found.map_or(Fault, |(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every class that Postgres 15 documents.
    const CLASSES: [&str; 43] = [
        "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24", "25",
        "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55",
        "57", "58", "72", "F0", "HV", "P0", "XX",
    ];

    #[test]
    fn only_the_classes_in_which_asking_again_may_help_are_outages() {
        for class in CLASSES {
            let wanted = match class {
                "08" | "40" | "53" | "57" => Unavailable,
                "22" => Refused(Invalid),
                "23" => Refused(Conflict),
                _ => Fault,
            };
            // A code that no class defines.
            assert_eq!(Kind::of(&format!("{class}ZZZ")), wanted, "{class}");
        }
    }

    #[test]
    fn the_codes_that_writers_meet_mean_what_they_say() {
        for (code, kind) in [
            ("23000", Refused(Conflict)),
            ("23001", Refused(Conflict)),
            ("23503", Refused(Conflict)),
            ("23505", Refused(Conflict)),
            ("23P01", Refused(Conflict)),
            ("22001", Refused(Invalid)),
            ("22003", Refused(Invalid)),
            ("22P02", Refused(Invalid)),
            ("40001", Unavailable),
            ("40P01", Unavailable),
            ("53100", Unavailable),
            ("53300", Unavailable),
            ("57014", Unavailable),
            ("57P01", Unavailable),
            ("RC001", Changed),
            ("RC002", Changed),
            ("42P01", Fault),
            ("28P01", Fault),
            ("3D000", Fault),
            ("XX000", Fault),
            ("55006", Fault),
            ("P0002", Fault),
            ("", Fault),
            ("0", Fault),
            ("08", Fault),
        ] {
            assert_eq!(Kind::of(code), kind, "{code}");
        }
    }

    #[test]
    fn no_code_is_told_twice_nor_what_its_class_says_already() {
        for (at, (code, kind)) in BY_CODE.iter().enumerate() {
            assert!(code.len() == 5 && BY_CODE[at + 1..].iter().all(|(other, _)| other != code), "{code}");
            let class = BY_CLASS.iter().find(|(class, _)| code.starts_with(class)).map_or(Fault, |class| class.1);
            assert_ne!(class, *kind, "{code} is what its class is");
        }
    }
}
