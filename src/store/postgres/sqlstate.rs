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
const BY_CODE: [(&str, Kind); 11] = [
    ("22021", Refused(Unrepresentable)), // character_not_in_repertoire
    ("22P05", Refused(Unrepresentable)), // untranslatable_character
    ("23502", Refused(Invalid)),         // not_null_violation
    ("23514", Refused(Invalid)),         // check_violation
    ("25006", Unavailable),              // read_only_sql_transaction: a standby before its promotion
    ("25P04", Unavailable),              // transaction_timeout, of Postgres 17
    ("38001", Fault),                    // containing_sql_not_permitted: the routine is wrong, not the row
    ("38003", Fault),                    // prohibited_sql_statement_attempted, likewise
    ("40002", Refused(Conflict)),        // transaction_integrity_constraint_violation
    ("42501", Refused(Denied)),          // insufficient_privilege, and a policy that refuses a row
    ("55P03", Unavailable),              // lock_not_available
];

/// The meaning of the other codes of each class that Postgres documents. An error of any other class is one that the
/// database's owner gave a code of his own, to refuse a row (`RAISE … USING ERRCODE = 'U0001'`).
const BY_CLASS: [(&str, Kind); 44] = [
    ("00", Refused(Invalid)), // success, warning and no data: no error of Postgres', but a trigger may raise them
    ("01", Refused(Invalid)),
    ("02", Refused(Invalid)),
    ("03", Fault),             // SQL statement not yet complete
    ("08", Unavailable),       // connection exception
    ("09", Refused(Invalid)),  // triggered action exception: raised by a trigger
    ("0A", Fault),             // feature not supported
    ("0B", Fault),             // invalid transaction initiation
    ("0F", Fault),             // locator exception
    ("0L", Fault),             // invalid grantor
    ("0P", Fault),             // invalid role specification
    ("0Z", Fault),             // diagnostics exception
    ("20", Refused(Invalid)),  // case not found: a trigger's CASE has none for the row
    ("21", Refused(Invalid)),  // cardinality violation: with this row a trigger's subquery has several
    ("22", Refused(Invalid)),  // data exception
    ("23", Refused(Conflict)), // integrity constraint violation: unique, exclusion, foreign key
    ("24", Fault),             // invalid cursor state
    ("25", Fault),             // invalid transaction state
    ("26", Fault),             // invalid SQL statement name
    ("27", Fault),             // triggered data change violation: a BEFORE trigger that writes its own row
    ("28", Fault),             // invalid authorization specification
    ("2B", Fault),             // dependent privilege descriptors still exist
    ("2D", Fault),             // invalid transaction termination
    ("2F", Fault),             // SQL routine exception: a function is wrong
    ("34", Fault),             // invalid cursor name
    ("38", Refused(Invalid)),  // external routine exception: raised by a trigger in another language
    ("39", Fault),             // external routine invocation exception: a function is wrong
    ("3B", Fault),             // savepoint exception
    ("3D", Fault),             // invalid catalog name
    ("3F", Fault),             // invalid schema name
    ("40", Unavailable),       // transaction rollback
    ("42", Fault),             // syntax error or access rule violation
    ("44", Refused(Invalid)),  // WITH CHECK OPTION violation
    ("53", Unavailable),       // insufficient resources
    ("54", Refused(Invalid)),  // program limit exceeded: too long for an index, nested too deeply
    ("55", Fault),             // object not in prerequisite state
    ("57", Unavailable),       // operator intervention, and a statement that took too long
    ("58", Fault),             // system error
    ("72", Unavailable),       // snapshot too old
    ("F0", Fault),             // configuration file error
    ("HV", Fault),             // foreign data wrapper error
    ("P0", Refused(Invalid)), // PL/pgSQL error: raised by a trigger, or its STRICT query has no row, or its ASSERT fails
    ("XX", Fault),            // internal error
    ("RC", Changed),          // by migrations/0010_changed_tables.sql
];

impl Kind {
    /// Returns the meaning of an SQLSTATE.
    pub(super) fn of(code: &str) -> Self {
        let is_code = |(known, _): &&(&str, Self)| code == *known;
        let is_class = |(class, _): &&(&str, Self)| code.starts_with(class);
        // Any five digits and capital letters are a code (ISO 9075-2, 24.1).
        let is_any = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        match BY_CODE.iter().find(is_code).or_else(|| BY_CLASS.iter().find(is_class)) {
            Some((_, kind)) if is_any => *kind,
            None if is_any => Refused(Invalid),
            _ => Fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes that Postgres 15 documents (its appendix A) and this server's own, by what becomes of a request.
    const BY_MEANING: [(Kind, &[&str]); 5] = [
        (Refused(Invalid), &["00", "01", "02", "09", "20", "21", "22", "38", "44", "54", "P0"]),
        (Refused(Conflict), &["23"]),
        (Unavailable, &["08", "40", "53", "57", "72"]),
        (Changed, &["RC"]),
        (
            Fault,
            &[
                "03", "0A", "0B", "0F", "0L", "0P", "0Z", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "39",
                "3B", "3D", "3F", "42", "55", "58", "F0", "HV", "XX",
            ],
        ),
    ];

    #[test]
    fn every_class_that_postgres_documents_is_decided() {
        for (kind, classes) in BY_MEANING {
            for class in classes {
                // A code that no class defines.
                assert_eq!(Kind::of(&format!("{class}ZZZ")), kind, "{class}");
            }
        }
        assert_eq!(BY_MEANING.iter().map(|(_, classes)| classes.len()).sum::<usize>(), BY_CLASS.len());
    }

    #[test]
    fn a_code_of_the_owner_refuses_the_row() {
        for code in ["U0001", "MY001", "45000", "99999", "ZZZZZ", "H0001", "P1001", "R0001", "10608"] {
            assert_eq!(Kind::of(code), Refused(Invalid), "{code}");
        }
        for code in ["", "0", "08", "P0", "U000", "u0001", "U00011", "P00011", "U 001", "é001"] {
            assert_eq!(Kind::of(code), Fault, "{code}");
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
            ("54001", Refused(Invalid)),
            ("P0001", Refused(Invalid)),
            ("P0002", Refused(Invalid)),
            ("38000", Refused(Invalid)),
            ("38001", Fault),
        ] {
            assert_eq!(Kind::of(code), kind, "{code}");
        }
    }

    #[test]
    fn nothing_is_told_twice_nor_a_code_what_its_class_says_already() {
        for (at, (code, kind)) in BY_CODE.iter().enumerate() {
            assert!(code.len() == 5 && BY_CODE[at + 1..].iter().all(|(other, _)| other != code), "{code}");
            let class = BY_CLASS.iter().find(|(class, _)| code.starts_with(class)).unwrap();
            assert_ne!(class.1, *kind, "{code} is what its class is");
        }
        for (at, (class, _)) in BY_CLASS.iter().enumerate() {
            assert!(class.len() == 2 && BY_CLASS[at + 1..].iter().all(|(other, _)| other != class), "{class}");
        }
    }
}
