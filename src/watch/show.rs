//! What a watcher sees: a table that follows, or lines of JSON ([`Show`]).

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, Row, Table, presets};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use terminal_size::{Height, Width, terminal_size};

use super::replica::Replica;

/// The size that is assumed where the terminal does not tell its own.
const USUAL_SIZE: (u16, u16) = (80, 24);
/// The lines around the rows: the state, the head and its rules, what does not fit.
const LINES_AROUND: usize = 6;
/// Moves to the top left and clears what is below (ECMA-48: CUP, ED).
const TO_THE_TOP: &str = "\x1b[H\x1b[J";

/// The form in which products are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of the products as they are, which follows their changes
    Table,
    /// Each message in a line, as it came
    Json,
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

    /// Shows the products as they are.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn draw(&mut self, replica: &Replica, server: &str) -> io::Result<()> {
        if !self.draws() {
            return Ok(());
        }
        let (width, height) = terminal_size().map_or(USUAL_SIZE, |(Width(width), Height(height))| (width, height));
        let total = replica.rows().count();
        let most = if self.follows { usize::from(height).saturating_sub(LINES_AROUND).max(1) } else { total };
        let state = if replica.is_live() { "live" } else { "not live: this may be old" };
        let mut text = if self.follows { TO_THE_TOP.to_owned() } else { String::new() };
        writeln!(text, "{server}: {total} products, {state}").expect("a String takes all");
        if total > 0 {
            text += &table(replica, most, width);
            text.push('\n');
        }
        if total > most {
            writeln!(text, "and {} more; --format json shows all", total - most).expect("a String takes all");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

fn table(replica: &Replica, most: usize, width: u16) -> String {
    let rows: Vec<(u64, Members)> = replica
        .rows()
        .take(most)
        .map(|(_, version, row)| (version, serde_json::from_str(row).unwrap_or_default()))
        .collect();
    let columns: Vec<&str> = rows.first().map_or_else(Vec::new, |(_, row)| row.names().collect());
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
    table.set_header(columns.iter().map(|column| Cell::new(printable(column))).chain([Cell::new("version")]));
    for (version, row) in &rows {
        let cells = columns.iter().map(|column| cell(row.get(column))).chain([Cell::new(version)]);
        let mut row = Row::from(cells.collect::<Vec<_>>());
        row.max_height(1);
        table.add_row(row);
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

fn cell(value: Option<&Value>) -> Cell {
    Cell::new(match value {
        None => String::new(),
        Some(Value::String(text)) => printable(text),
        Some(value) => printable(&value.to_string()),
    })
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
    use std::collections::BTreeSet;

    use super::super::message::Message;
    use super::*;

    fn replica(rows: &[&str]) -> Replica {
        let mut replica = Replica::new(BTreeSet::from([1, 2, 3]));
        replica.begin();
        for (version, row) in (1..).zip(rows) {
            let message = format!(r#"{{"action":"SNAPSHOT","version":{version},"product":{row}}}"#);
            replica.take(&Message::parse(message.as_bytes()).unwrap());
        }
        replica.take(&Message::parse(br#"{"reply":0,"ok":true}"#).unwrap());
        replica
    }

    fn drawn(replica: &Replica) -> String {
        let mut out = Vec::new();
        Show::new(Format::Table, &mut out, false).draw(replica, "here:1").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_has_a_line_for_each_product_and_its_version() {
        let text = drawn(&replica(&[r#"{"productId":1,"productName":"a"}"#, r#"{"productId":2,"productName":"b"}"#]));
        assert!(text.starts_with("here:1: 2 products, live\n"), "{text}");
        for part in ["productId", "productName", "version"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(drawn(&replica(&[])), "here:1: 0 products, live\n");
    }

    #[test]
    fn a_row_cannot_command_the_terminal() {
        let name = "\u{1b}]0;owned\u{7}\u{9b}31m\r\n";
        let row = serde_json::json!({"productId": 1, "productName": name}).to_string();
        let text = drawn(&replica(&[&row]));
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
        let text = drawn(&replica(&[&row]));
        assert!(text.lines().all(|line| line.chars().count() <= 200), "{text}");
    }
}
