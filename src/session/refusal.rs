//! The reasons for which a command cannot be carried out, with their codes and texts: [`Refusal`] and [`Why`].

use std::fmt;

use super::command::ReplyId;
use crate::auth::TokenError;
use crate::model::key::{BadKey, Key};
use crate::model::product::ProductId;
use crate::model::table::{PRODUCTS, TableId, Tables};

/// A command that cannot be carried out, with the answer to its sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The command's name for itself, if it could be read.
    pub reply: Option<ReplyId>,
    /// The reason.
    pub why: Why,
}

/// The reason for which a command cannot be carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// The message is not JSON, or not an object.
    NotAnObject,
    /// `command` is missing or unknown.
    UnknownCommand,
    /// `productIDs` is missing, and neither an array nor "*".
    NoProducts,
    /// The element of `productIDs` at this place is no product id.
    BadProduct(usize),
    /// `table` is no string, or is missing beside `keys`.
    NoTable,
    /// `table` stands beside `productIDs`.
    TwoTables,
    /// There is no table of this name, of which so much is said.
    UnknownTable(Box<str>),
    /// The token gives no rights on the table of this name, of which so much is said, and which may be none.
    NoRights(Box<str>),
    /// The token lets its bearer read no row of the table of this name, of which so much is said.
    NothingToRead(Box<str>),
    /// `productIDs` where products are not built in: true if there is another table of their name.
    NoBuiltInProducts(bool),
    /// `keys` is missing, and neither an array nor "*".
    NoKeys,
    /// The element of `keys` at this place is no key of the table.
    BadKey(usize, BadKey),
    /// `id` is neither a number nor a string.
    BadId,
    /// `snapshot` is neither true nor false.
    BadSnapshot,
    /// `versions` is no array, or has another length than what names the rows, or stands beside `snapshot`.
    BadVersions(NamedBy),
    /// The element of `versions` at this place is no version.
    BadVersion(usize),
    /// `epoch` is not a string.
    BadEpoch,
    /// `newest` is no version.
    BadNewest,
    /// `token` is missing, or no string.
    NoToken,
    /// `token` is not accepted.
    BadToken(TokenError),
    /// This table has more rows than a reader may subscribe to as a whole.
    TooManyRows(TableId),
    /// There would be more subscriptions than this connection may have.
    TooManySubscriptions {
        /// The table of the rows that were asked for.
        table: TableId,
        /// The most that it may have.
        limit: usize,
    },
    /// The token does not let its bearer read these; the command's other rows are subscribed to.
    Forbidden {
        /// The first of them.
        keys: Vec<Key>,
        /// The number of the others.
        more: usize,
    },
}

/// The member of a command that names its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `productIDs`.
    ProductIds,
    /// `keys`.
    Keys,
}

/// Makes [`Code`], which knows all its variants: a test finds the one that a document lacks.
macro_rules! codes {
    ($($(#[$about:meta])* $code:ident = $word:literal,)*) => {
        /// A reason for which commands are refused, as programs tell it from others: the `code` of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$about])* $code,)*
        }

        impl Code {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// Returns its word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $word,)*
                }
            }
        }
    };
}

codes! {
    /// The message is no JSON object.
    NotJson = "not_json",
    /// There is no such command.
    UnknownCommand = "unknown_command",
    /// `productIDs` names no products.
    BadProductIds = "bad_product_ids",
    /// `table` is no name, or is one too many.
    BadTable = "bad_table",
    /// The table is not there.
    UnknownTable = "unknown_table",
    /// `keys` names no rows.
    BadKeys = "bad_keys",
    /// `id` is none.
    BadId = "bad_id",
    /// `snapshot` is neither true nor false.
    BadSnapshot = "bad_snapshot",
    /// `versions` is none for each key.
    BadVersions = "bad_versions",
    /// `epoch` is no text.
    BadEpoch = "bad_epoch",
    /// `newest` is no version.
    BadNewest = "bad_newest",
    /// The table has more rows than may be subscribed to as a whole.
    TooManyRows = "too_many_rows",
    /// The connection would have too many subscriptions.
    TooManySubscriptions = "too_many_subscriptions",
    /// The token does not grant it.
    Forbidden = "forbidden",
    /// `token` is none, or is not accepted.
    BadToken = "bad_token",
}

/// The most characters of a name that a refusal repeats.
const NAME_CHARACTERS_MAX: usize = 80;

impl Why {
    /// Returns the reason that there is no table of this name.
    #[must_use]
    pub fn unknown_table(name: &str) -> Self {
        Self::UnknownTable(shown(name))
    }

    /// Returns the reason that a token gives no rights on the table of this name.
    #[must_use]
    pub fn no_rights(name: &str) -> Self {
        Self::NoRights(shown(name))
    }

    /// Returns the reason that a token lets nobody read a row of the table of this name.
    #[must_use]
    pub fn nothing_to_read(name: &str) -> Self {
        Self::NothingToRead(shown(name))
    }

    /// Returns the reason that `productIDs` names nothing.
    #[must_use]
    pub fn no_products(tables: &Tables) -> Self {
        Self::NoBuiltInProducts(tables.find(PRODUCTS).is_some())
    }

    /// Returns its word for programs.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotAnObject => Code::NotJson,
            Self::UnknownCommand => Code::UnknownCommand,
            Self::NoProducts | Self::BadProduct(_) => Code::BadProductIds,
            Self::NoTable | Self::TwoTables => Code::BadTable,
            Self::UnknownTable(_) | Self::NoBuiltInProducts(_) => Code::UnknownTable,
            Self::NoKeys | Self::BadKey(..) => Code::BadKeys,
            Self::BadId => Code::BadId,
            Self::BadSnapshot => Code::BadSnapshot,
            Self::BadVersions(_) | Self::BadVersion(_) => Code::BadVersions,
            Self::BadEpoch => Code::BadEpoch,
            Self::BadNewest => Code::BadNewest,
            Self::NoToken | Self::BadToken(_) => Code::BadToken,
            Self::TooManyRows(_) => Code::TooManyRows,
            Self::TooManySubscriptions { .. } => Code::TooManySubscriptions,
            Self::Forbidden { .. } | Self::NoRights(_) | Self::NothingToRead(_) => Code::Forbidden,
        }
    }
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProductIds => "productIDs",
            Self::Keys => "keys",
        })
    }
}

/// Returns so much of a name as a refusal repeats.
fn shown(name: &str) -> Box<str> {
    name.chars().take(NAME_CHARACTERS_MAX).collect::<String>().into()
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => {
                f.write_str(r#"a message is a JSON object like {"command":"subscribe","productIDs":[1,2]}"#)
            }
            Self::UnknownCommand => f.write_str(r#"command is "subscribe", "unsubscribe" or "authorize""#),
            Self::NoProducts => f.write_str(r#"productIDs is an array of product ids, or "*""#),
            Self::BadProduct(place) => {
                write!(f, "productIDs[{place}] is not an integer from 0 to {}", ProductId::MAX)
            }
            Self::NoTable => f.write_str("table is the name of the table whose keys these are"),
            Self::TwoTables => f.write_str("name either products by productIDs, or the keys of a table"),
            Self::UnknownTable(name) => write!(f, "there is no table {name}"),
            Self::NoRights(name) => write!(f, "the token gives no rights on the table {name}"),
            Self::NothingToRead(name) => write!(f, "the token does not let you read any row of the table {name}"),
            Self::NoBuiltInProducts(true) => {
                f.write_str(r#"products is a table like any other here; name its rows by "table":"products" and keys"#)
            }
            Self::NoBuiltInProducts(false) => {
                f.write_str("this server has no products; name the rows of another table by table and keys")
            }
            Self::NoKeys => f.write_str(r#"keys is an array of keys of the table, or "*""#),
            Self::BadKey(place, why) => write!(f, "keys[{place}]: {why}"),
            Self::BadId => f.write_str("id is a number or a string"),
            Self::BadSnapshot => f.write_str("snapshot is true or false"),
            Self::BadVersions(rows) => {
                write!(
                    f,
                    "versions is an array of one version for each of {rows}, 0 where none is known, without snapshot"
                )
            }
            Self::BadVersion(place) => {
                write!(f, "versions[{place}] is not an integer from 0 to {}", ProductId::MAX)
            }
            Self::BadEpoch => f.write_str("epoch is a string, as the server told it"),
            Self::BadNewest => write!(f, "newest is not an integer from 0 to {}", ProductId::MAX),
            Self::NoToken => f.write_str("token is a string, the token as a handshake has it"),
            Self::BadToken(error) => write!(f, "{error}"),
            Self::TooManyRows(table) => {
                let rows = if *table == TableId::PRODUCTS { "products" } else { "rows of this table" };
                write!(f, "there are more {rows} than this server lets anybody subscribe to at once; name them")
            }
            Self::TooManySubscriptions { table, limit } => {
                let rows = if *table == TableId::PRODUCTS { "products" } else { "rows" };
                write!(f, "a connection subscribes to at most {limit} {rows}; nothing was subscribed")
            }
            Self::Forbidden { keys, more } => {
                f.write_str("the token does not let you read ")?;
                for (place, key) in keys.iter().enumerate() {
                    write!(f, "{}{key}", if place == 0 { "" } else { ", " })?;
                }
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                f.write_str("; the rest is subscribed to")
            }
        }
    }
}
