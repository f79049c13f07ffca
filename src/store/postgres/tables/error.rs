//! The reasons for which a table is not cast: [`TableError`].

use super::VERSION_COLUMN;
use super::form::VERSION_MARK;

/// The reason for which a table was not installed, or not removed. The text begins with the name as it was given and
/// never contains a password.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table is not one whose rows can be cast.
    #[error("table {name}: {reason}")]
    Unfit {
        /// The name as it was given.
        name: String,
        /// The reason.
        reason: Unfit,
    },
    /// The role lacks a right.
    #[error("table {name}: {reason}; run `rowcast migrate` with the URL of a role that owns the table")]
    NotAllowed {
        /// The name as it was given.
        name: String,
        /// The database's reason.
        reason: String,
    },
    /// The role may not make functions that use Rowcast's own tables.
    #[error("table {name}: Rowcast's own tables belong to the role {owner}; run `rowcast migrate` as a member of it")]
    NotOwner {
        /// The name as it was given.
        name: String,
        /// The role.
        owner: String,
    },
    /// Others have held the table all the time.
    #[error(
        "table {name}: it was locked by other transactions for {tries} tries of a second each; end the one that holds it \
         (pg_stat_activity shows which), then try again"
    )]
    Locked {
        /// The name as it was given.
        name: String,
        /// The tries.
        tries: u32,
    },
    /// Something is built on the column that is to be taken away.
    #[error("table {name}: {dependents}; drop or change that first")]
    InTheWay {
        /// The name as it was given.
        name: String,
        /// The database's words, which name each.
        dependents: String,
    },
    /// Nothing of Rowcast is on it.
    #[error("table {name}: Rowcast is not installed on it")]
    NotInstalled {
        /// The name as it was given.
        name: String,
    },
    /// The database did not do it.
    #[error("table {name}: {doing}")]
    Database {
        /// The name as it was given.
        name: String,
        /// The attempt.
        doing: &'static str,
        /// The database's error.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// The reason for which a table's rows cannot be cast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not a name.
    #[error("this is no table's name: {0}")]
    Name(String),
    /// No such table.
    #[error("there is no such table; names are read as in SQL, so one with capital letters needs double quotes")]
    Absent,
    /// The same as another in the list.
    #[error("it is the same table as {0}; name each once")]
    Twice(String),
    /// Something else than an ordinary table.
    #[error("it is {0}, and only the rows of ordinary tables are cast")]
    Kind(&'static str),
    /// Rows that a crash removes without a trigger.
    #[error(
        "it is unlogged, and a crash would empty it without telling; ALTER TABLE … SET LOGGED makes it a lasting one"
    )]
    Unlogged,
    /// A table without the right to read it.
    #[error("the role {0} may not read it; as its owner: GRANT SELECT, INSERT, UPDATE, DELETE ON … TO {0}")]
    Unreadable(String),
    /// The built-in table.
    #[error("it is Rowcast's own table of products, which is cast without being named")]
    Products,
    /// A table that Rowcast made.
    #[error("it is one of Rowcast's own")]
    Own,
    /// No such column.
    #[error("it has no column {0}; names are read as in SQL, so one with capital letters needs double quotes")]
    NoColumn(String),
    /// No primary key, and no column named.
    #[error("it has no primary key; name a column that is NOT NULL and unique, as in --table name:column")]
    NoKey,
    /// A primary key of several columns.
    #[error(
        "its primary key has several columns ({0}); name one that is NOT NULL and unique, as in --table name:column"
    )]
    Composite(String),
    /// A key that may be NULL.
    #[error("its column {0} may be NULL; a key must not (ALTER TABLE … ALTER COLUMN … SET NOT NULL)")]
    Nullable(String),
    /// A key of a type that has no one text.
    #[error("its column {column} is of the type {kind}; a key is a smallint, integer, bigint, uuid, text or varchar")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// A key by which different texts are the same.
    #[error("its column {0} has a collation that is not deterministic, by which different texts are one key")]
    Collation(String),
    /// A key that the database computes.
    #[error("its column {0} is generated, and cannot be a key")]
    Generated(String),
    /// A key without a unique index of its own.
    #[error(
        "its column {0} has no unique index of its own that is valid, not partial and not deferrable; a key needs one \
         (CREATE UNIQUE INDEX)"
    )]
    NotUnique(String),
    /// A hidden column of a table that is not cast.
    #[error("a column of it is to be hidden, and it is not cast; name it with --table too")]
    NotNamed,
    /// A hidden key.
    #[error("its column {0} is its key, which every change names, and cannot be hidden")]
    HiddenKey(String),
    /// Somebody else's column.
    #[error(
        "it has a column {VERSION_COLUMN} that is not known to be Rowcast's; rename it, or, where it is Rowcast's and has \
         lost its comment: COMMENT ON COLUMN ….{VERSION_COLUMN} IS '{VERSION_MARK}'"
    )]
    VersionColumn,
    /// Somebody else's trigger.
    #[error(
        "its trigger {trigger} calls {function}, which is not Rowcast's, and has a name that Rowcast needs; rename it \
         (ALTER TRIGGER … ON … RENAME TO …)"
    )]
    Trigger {
        /// The trigger.
        trigger: String,
        /// Its function.
        function: String,
    },
    /// Values that are shown by the names of other things.
    #[error(
        "its column {column} is of the type {kind}, whose values are shown by the names of other things, and nobody is told when \
         one of those is renamed; hide it (--hide …), or have it keep the text (ALTER TABLE … ALTER COLUMN … TYPE text)"
    )]
    Naming {
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// No room for a column.
    #[error(
        "it has no room for the column {VERSION_COLUMN}: a table may have 1,600 columns, and those that were dropped count"
    )]
    Full,
}
