//! What a watcher sees: a table that follows, or lines of JSON ([`Show`]).

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, Row, Table, presets};
use rowcast_client::Entry;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use terminal_size::{Height, Width, terminal_size};

/// The size that is assumed where the terminal does not tell its own.
const USUAL_SIZE: (u16, u16) = (80, 24);
/// The lines around the rows: the state, the head and its rules, what does not fit.
const LINES_AROUND: usize = 6;
/// Moves to the top left and clears what is below (ECMA-48: CUP, ED).
const TO_THE_TOP: &str = "\x1b[H\x1b[J";

/// The characters of a terminal's line for each column of a table: with fewer, none can be read.
const COLUMN_CHARACTERS_MIN: usize = 12;
/// The most columns of a table, whatever the terminal holds.
const COLUMNS_MAX: usize = 24;
/// The most names of columns that are said not to be shown.
const COLUMNS_NAMED_MAX: usize = 8;

/// The form in which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of the rows as they are, which follows their changes
    Table,
    /// Each message in a line, as it came
    Json,
}

/// What is drawn.
pub struct View<'a> {
    /// The server's host and port.
    pub server: &'a str,
    /// The table; none: products.
    pub table: Option<&'a str>,
    /// The rows.
    pub rows: &'a [Entry],
    /// True if they are the present state.
    pub is_live: bool,
}

/// The output of a watcher.
pub struct Show<W> {
    format: Format,
    out: W,
    /// True if the table is drawn over and over, on a terminal.
    follows: bool,
}

impl<W: Write> Show<W> {
    /// Returns an output; `follows` says whether a table is drawn at each change or once at the end.
    pub const fn new(format: Format, out: W, follows: bool) -> Self {
        Self { format, out, follows }
    }

    /// Returns whether [`Show::draw`] shows anything that [`Show::message`] does not.
    #[must_use]
    pub fn draws(&self) -> bool {
        self.format == Format::Table
    }

    /// Shows a message that changed something.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn message(&mut self, text: &[u8]) -> io::Result<()> {
        if self.format == Format::Json {
            self.out.write_all(printable(&String::from_utf8_lossy(text)).as_bytes())?;
            self.out.write_all(b"\n")?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// Shows the rows as they are.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
        if !self.draws() {
            return Ok(());
        }
        let View { server, rows, .. } = view;
        let (width, height) = terminal_size().map_or(USUAL_SIZE, |(Width(width), Height(height))| (width, height));
        let total = rows.len();
        let most = if self.follows { usize::from(height).saturating_sub(LINES_AROUND).max(1) } else { total };
        let mut text = if self.follows { TO_THE_TOP.to_owned() } else { String::new() };
        let state = if view.is_live { "live" } else { "not live: this may be old" };
        match view.table {
            None => writeln!(text, "{server}: {total} products, {state}"),
            Some(table) => writeln!(text, "{server}: {}: {total} rows, {state}", printable(table)),
        }
        .expect("a String takes all");
        if total > 0 {
            let columns = if view.table.is_none() { Columns::OfProducts } else { Columns::Any };
            text += &table(&rows[..most.min(total)], width, columns);
            text.push('\n');
        }
        if total > most {
            writeln!(text, "and {} more; --format json shows all", total - most).expect("a String takes all");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// The columns of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    /// Those of products, all of them.
    OfProducts,
    /// The key, and as many of the members of the rows as can be read.
    Any,
}

fn table(rows: &[Entry], width: u16, columns: Columns) -> String {
    let rows: Vec<ShownRow> = rows
        .iter()
        .map(|entry| ShownRow {
            key: entry.key.to_string(),
            version: entry.version,
            members: entry.row.parse().unwrap_or_default(),
        })
        .collect();
    match columns {
        Columns::OfProducts => {
            let names: Vec<&str> = rows.first().map_or_else(Vec::new, |row| row.members.names().collect());
            drawn(None, &names, &rows, width)
        }
        Columns::Any => {
            let (key, mut names) = columns_of(&rows);
            let room = (usize::from(width) / COLUMN_CHARACTERS_MIN).saturating_sub(2).clamp(1, COLUMNS_MAX);
            let left = names.split_off(room.min(names.len()));
            drawn(Some(key), &names, &rows, width) + &not_shown(&left)
        }
    }
}

/// A row on its way to the terminal.
struct ShownRow {
    key: String,
    version: u64,
    members: Members,
}

/// Returns the head of the keys' column and the names of the others, in the order in which the rows name them. A member
/// that repeats the key in every row gives its column the name.
fn columns_of(rows: &[ShownRow]) -> (&str, Vec<&str>) {
    let mut seen = HashSet::new();
    let mut names: Vec<&str> =
        rows.iter().flat_map(|row| row.members.names()).filter(|&name| seen.insert(name)).collect();
    let repeats_key = |name: &&str| rows.iter().all(|row| row.members.get(name).is_some_and(|it| shown(it) == row.key));
    match names.iter().position(repeats_key) {
        Some(place) => (names.remove(place), names),
        None => ("key", names),
    }
}

/// Returns the line on the columns that have no room.
fn not_shown(names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let first: Vec<String> = names.iter().take(COLUMNS_NAMED_MAX).map(|name| printable(name)).collect();
    let more = if names.len() > COLUMNS_NAMED_MAX { ", …" } else { "" };
    format!("\nand {} more columns: {}{more}", names.len(), first.join(", "))
}

/// Draws rows with these columns and their version, behind their key under its head if that is given.
fn drawn(key: Option<&str>, columns: &[&str], rows: &[ShownRow], width: u16) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
    table
        .set_header(key.iter().chain(columns).map(|column| Cell::new(printable(column))).chain([Cell::new("version")]));
    // A cell that is longer than the line is cut there in any case.
    let cell = |text: String| Cell::new(text.chars().take(usize::from(width)).collect::<String>());
    for row in rows {
        let key = key.map(|_| cell(printable(&row.key)));
        let cells = columns.iter().map(|column| cell(row.members.get(column).map_or_else(String::new, shown)));
        let mut line = Row::from(key.into_iter().chain(cells).chain([Cell::new(row.version)]).collect::<Vec<_>>());
        line.max_height(1);
        table.add_row(line);
    }
    table.to_string()
}

/// The members of a JSON object, in their order.
#[derive(Default)]
struct Members(Vec<(String, Value)>);

impl Members {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// Returns a value as it is shown: a text as it is, all else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        value => printable(&value.to_string()),
    }
}

/// Returns text without control characters, which would command the terminal: each as JSON escapes it.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            write!(shown, "\\u{:04x}", u32::from(character)).expect("a String takes all");
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(rows: &[(&str, &str)]) -> Vec<Entry> {
        let entry = |(version, (key, row)): (u64, &(&str, &str))| {
            let row = serde_json::value::RawValue::from_string((*row).to_owned()).unwrap().into();
            Entry { key: (*key).into(), version, row, is_owed: false }
        };
        (1..).zip(rows).map(entry).collect()
    }

    fn drawn(rows: &[&str]) -> String {
        let rows: Vec<(&str, &str)> = ["1", "2", "3"].into_iter().zip(rows.iter().copied()).collect();
        let mut out = Vec::new();
        let view = View { server: "here:1", table: None, rows: &entries(&rows), is_live: true };
        Show::new(Format::Table, &mut out, false).draw(&view).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_has_a_line_for_each_product_and_its_version() {
        let text = drawn(&[r#"{"productId":1,"productName":"a"}"#, r#"{"productId":2,"productName":"b"}"#]);
        assert!(text.starts_with("here:1: 2 products, live\n"), "{text}");
        for part in ["productId", "productName", "version"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(drawn(&[]), "here:1: 0 products, live\n");
    }

    #[test]
    fn a_row_cannot_command_the_terminal() {
        let name = "\u{1b}]0;owned\u{7}\u{9b}31m\r\n";
        let row = serde_json::json!({"productId": 1, "productName": name}).to_string();
        let text = drawn(&[&row]);
        assert!(!text.replace('\n', "").chars().any(char::is_control), "{text:?}");
        let mut out = Vec::new();
        // JSON leaves the upper control characters as they are.
        Show::new(Format::Json, &mut out, true).message(row.as_bytes()).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert!(!line.trim_end().chars().any(char::is_control), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["productName"], name);
    }

    #[test]
    fn a_long_row_stays_one_line() {
        let row = format!(r#"{{"productId":1,"productName":"{}"}}"#, "x".repeat(10_000));
        let text = drawn(&[&row]);
        assert!(text.lines().all(|line| line.chars().count() <= 200), "{text}");
    }

    /// The table of rows of orders, by their keys.
    fn orders(rows: &[(&str, &str)], width: u16) -> String {
        table(&entries(rows), width, Columns::Any)
    }

    fn heads(table: &str) -> Vec<&str> {
        table.lines().nth(1).unwrap().split_whitespace().collect()
    }

    #[test]
    fn a_table_of_any_rows_has_their_key_and_every_member_in_order() {
        let text = orders(&[("17", r#"{"state":"paid","n":1.5}"#), ("a-9", r#"{"to":[1,{"x":2}],"n":null}"#)], 80);
        assert_eq!(heads(&text), ["key", "state", "n", "to", "version"]);
        for part in ["17", "paid", "1.5", "a-9", r#"[1,{"x":2}]"#, "null"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_member_that_is_the_key_is_not_shown_twice() {
        let big = ("9007199254740993", r#"{"a":2,"no":9007199254740993}"#);
        assert_eq!(heads(&orders(&[("1", r#"{"a":1,"no":1}"#), big], 80)), ["no", "a", "version"]);
        assert_eq!(heads(&orders(&[("1", r#"{"no":1}"#), ("2", "{}")], 80)), ["key", "no", "version"]);
    }

    #[test]
    fn columns_without_room_are_named() {
        let members: Vec<String> = (0..100).map(|number| format!(r#""c{number}":{number}"#)).collect();
        let row = format!("{{{}}}", members.join(","));
        let text = orders(&[("17", &row)], 80);
        assert_eq!(heads(&text), ["c17", "c0", "c1", "c2", "c3", "version"]);
        assert!(text.ends_with("\nand 95 more columns: c4, c5, c6, c7, c8, c9, c10, c11, …"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(orders(&[("17", &row)], 1000).contains("and 75 more columns"));
    }

    #[test]
    fn a_long_value_costs_no_more_than_the_line() {
        let row = format!(r#"{{"text":"{}"}}"#, "é ".repeat(500_000));
        let text = orders(&[("17", &row)], 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.len() < 2000, "{}", text.len());
    }
}
