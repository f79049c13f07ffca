//! Tables and columns as the command line names them: [`TableSpec`], [`HiddenColumn`]. Pure.

use std::fmt;

/// A table's name, and the column of its key if it is not the primary key: `orders`, `shop.customers:customer_no`,
/// `"Order Lines":"LineNo"`. Names are as in SQL; what they mean, the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// The name as it was given.
    pub name: String,
    /// The column as it was given.
    pub key: Option<String>,
}

/// The reason for which a text names no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    /// A quote without its other.
    #[error("a double quote is not closed")]
    Quote,
    /// Nothing where a name belongs.
    #[error("a table's name is missing; it is given as name, schema.name or name:key_column")]
    Empty,
    /// More than one colon.
    #[error("it has more than one colon outside of quotes; it is given as name:key_column")]
    Colons,
    /// No table and column where both belong.
    #[error("a column is given with its table, as in users.password_hash")]
    NoColumn,
    /// A character that no name in Postgres has.
    #[error("it contains the character U+0000")]
    Nul,
}

impl TableSpec {
    /// Reads a list with commas between its members.
    ///
    /// # Errors
    /// See [`BadSpec`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, BadSpec> {
        if text.contains('\0') {
            return Err(BadSpec::Nul);
        }
        split_unquoted(text, ',')?.into_iter().map(Self::parse_one).collect()
    }

    fn parse_one(text: &str) -> Result<Self, BadSpec> {
        let parts: Vec<&str> = split_unquoted(text, ':')?.into_iter().map(str::trim).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(BadSpec::Empty);
        }
        match parts[..] {
            [name] => Ok(Self { name: name.to_owned(), key: None }),
            [name, key] => Ok(Self { name: name.to_owned(), key: Some(key.to_owned()) }),
            _ => Err(BadSpec::Colons),
        }
    }
}

/// A column that never leaves the server: `users.password_hash`, `shop.users."Password"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenColumn {
    /// The table's name as it was given.
    pub table: String,
    /// The column's name as it was given.
    pub column: String,
}

impl HiddenColumn {
    /// Reads a list with commas between its members.
    ///
    /// # Errors
    /// See [`BadSpec`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, BadSpec> {
        if text.contains('\0') {
            return Err(BadSpec::Nul);
        }
        split_unquoted(text, ',')?.into_iter().map(|text| Self::parse_one(text.trim())).collect()
    }

    fn parse_one(text: &str) -> Result<Self, BadSpec> {
        let parts = split_unquoted(text, '.')?;
        if parts.len() < 2 || parts.iter().any(|part| part.trim().is_empty()) {
            return Err(BadSpec::NoColumn);
        }
        let column = parts[parts.len() - 1];
        let table = &text[..text.len() - column.len() - 1];
        Ok(Self { table: table.trim().to_owned(), column: column.trim().to_owned() })
    }
}

impl fmt::Display for TableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}:{key}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Splits a text at a character where it is not within double quotes. A quote within them is written twice, which closes
/// and opens them again.
fn split_unquoted(text: &str, at: char) -> Result<Vec<&str>, BadSpec> {
    let mut is_quoted = false;
    let parts: Vec<&str> = text
        .split(|character| {
            is_quoted ^= character == '"';
            character == at && !is_quoted
        })
        .collect();
    if is_quoted { Err(BadSpec::Quote) } else { Ok(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(text: &str) -> Vec<(String, Option<String>)> {
        TableSpec::parse_list(text).unwrap().into_iter().map(|spec| (spec.name, spec.key)).collect()
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", BadSpec::Empty),
            (" ", BadSpec::Empty),
            ("orders,", BadSpec::Empty),
            (":id", BadSpec::Empty),
            ("orders:", BadSpec::Empty),
            ("a:b:c", BadSpec::Colons),
            ("\"orders", BadSpec::Quote),
            ("orders\"", BadSpec::Quote),
            ("or\0ders", BadSpec::Nul),
        ] {
            assert_eq!(TableSpec::parse_list(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_hidden_column_follows_the_last_full_stop_outside_of_quotes() {
        for (text, table, column) in [
            ("users.password", "users", "password"),
            ("shop.users.\"Pass.Word\"", "shop.users", "\"Pass.Word\""),
            ("\"a.b\".c", "\"a.b\"", "c"),
        ] {
            let wanted = HiddenColumn { table: table.into(), column: column.into() };
            assert_eq!(HiddenColumn::parse_list(text), Ok(vec![wanted]), "{text}");
        }
        assert_eq!(HiddenColumn::parse_list("a.b, c.d").unwrap().len(), 2);
        for (text, reason) in [
            ("", BadSpec::NoColumn),
            ("users", BadSpec::NoColumn),
            ("users.", BadSpec::NoColumn),
            (".password", BadSpec::NoColumn),
            ("a.b,", BadSpec::NoColumn),
            ("a.\"b", BadSpec::Quote),
            ("a.\0b", BadSpec::Nul),
        ] {
            assert_eq!(HiddenColumn::parse_list(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn quotes_hold_commas_colons_and_quotes() {
        let plain = |name: &str| (name.to_owned(), None);
        assert_eq!(specs("orders, shop.customers"), [plain("orders"), plain("shop.customers")]);
        assert_eq!(specs("shop.customers:customer_no"), [("shop.customers".into(), Some("customer_no".into()))]);
        assert_eq!(specs(r#""a,b":"c:d""#), [(r#""a,b""#.into(), Some(r#""c:d""#.into()))]);
        assert_eq!(specs(r#""say ""a,b""",x"#), [plain(r#""say ""a,b""""#), plain("x")]);
    }
}
