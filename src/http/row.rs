//! One row as JSON, in pieces: [`RowText`].

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;

use super::Services;
use super::answer::{AnswerBody, Broken};
use super::budget::Lease;
use super::turns::Turns;
use crate::model::product::Product;
use crate::store::Versioned;

/// The bytes of rows that one piece has, about; escapes make it six times as long at most (RFC 8259, §7). An answer
/// that is no longer is made whole.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// Returns the bytes that a row holds.
pub(super) fn bytes_of(row: &Versioned) -> usize {
    let Product { manufacturer, price_per_unit, product_name, .. } = &row.product;
    size_of::<Versioned>() + manufacturer.capacity() + price_per_unit.capacity() + product_name.capacity()
}

/// A product as it is answered: its fields, then its version.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    product: &'a Product,
    version: u64,
}

impl<'a> From<&'a Versioned> for Shown<'a> {
    fn from(row: &'a Versioned) -> Self {
        Self { product: &row.product, version: row.version }
    }
}

/// Writes a row as [`Shown`] is, in pieces.
pub(super) struct RowText {
    row: Versioned,
    /// The parts that are written.
    parts: usize,
    /// The bytes of the next part's text that are written.
    text_bytes: usize,
}

/// A part of a row's JSON.
enum Part<'a> {
    Literal(String),
    Text(&'a str),
}

impl RowText {
    pub(super) const fn new(row: Versioned) -> Self {
        Self { row, parts: 0, text_bytes: 0 }
    }

    /// Returns the bytes of the whole text: it is written once to be counted, a piece at a time.
    async fn count_bytes(&mut self, turns: &Turns) -> u64 {
        let (mut bytes, mut piece, mut is_over) = (0, Vec::with_capacity(PIECE_BYTES), false);
        while !is_over {
            piece.clear();
            is_over = turns.take(|| self.write(&mut piece)).await;
            bytes += piece.len() as u64;
        }
        (self.parts, self.text_bytes) = (0, 0);
        bytes
    }

    fn part(&self) -> Option<Part<'_>> {
        let Versioned { product, version } = &self.row;
        Some(match self.parts {
            0 => Part::Literal(format!(r#"{{"productId":{},"manufacturer":""#, product.product_id)),
            1 => Part::Text(&product.manufacturer),
            2 => Part::Literal(r#"","pricePerUnit":""#.to_owned()),
            3 => Part::Text(&product.price_per_unit),
            4 => Part::Literal(format!(r#"","unitsAvailable":{},"productName":""#, product.units_available)),
            5 => Part::Text(&product.product_name),
            6 => Part::Literal(format!(r#"","version":{version}}}"#)),
            _ => return None,
        })
    }

    /// Writes until the piece is long enough or the row ends; returns true if it has ended.
    pub(super) fn write(&mut self, piece: &mut Vec<u8>) -> bool {
        while piece.len() < PIECE_BYTES {
            let Some(part) = self.part() else { return true };
            let unwritten = match part {
                Part::Literal(literal) => {
                    piece.extend_from_slice(literal.as_bytes());
                    None
                }
                Part::Text(text) => {
                    let rest = &text[self.text_bytes..];
                    let mut end = rest.floor_char_boundary(PIECE_BYTES - piece.len());
                    if end == 0 {
                        end = rest.chars().next().map_or(0, char::len_utf8);
                    }
                    write_escaped(piece, &rest[..end]);
                    (end < rest.len()).then_some(self.text_bytes + end)
                }
            };
            if let Some(text_bytes) = unwritten {
                self.text_bytes = text_bytes;
            } else {
                (self.parts, self.text_bytes) = (self.parts + 1, 0);
            }
        }
        self.part().is_none()
    }
}

/// Writes a part of a string without the quotes around it: a character's escape does not depend on what stands beside
/// it.
fn write_escaped(piece: &mut Vec<u8>, text: &str) {
    let start = piece.len();
    serde_json::to_writer(&mut *piece, text).expect("a Vec takes all");
    piece.copy_within(start + 1.., start);
    piece.truncate(piece.len() - 2);
}

/// Makes the body of an answer that is one row, whose pieces hold `lease` until the last is made. Its length is known:
/// clients of a single resource expect `Content-Length` (RFC 9110, §8.6).
pub(super) async fn body_of_row(services: &Services, row: Versioned, lease: Lease) -> AnswerBody {
    let turns = services.shared.turns.clone();
    let mut row = RowText::new(row);
    let bytes = row.count_bytes(&turns).await;
    AnswerBody::pieces(pieces_of_row(turns, row, lease)).of_length(bytes)
}

fn pieces_of_row(turns: Turns, row: RowText, lease: Lease) -> impl Stream<Item = Result<Bytes, Broken>> {
    stream::unfold((turns, row, lease, false), |(turns, mut row, lease, is_over)| async move {
        if is_over {
            return None;
        }
        let make = || {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let is_over = row.write(&mut piece);
            (Bytes::from(piece), is_over)
        };
        let (piece, is_over) = turns.take(make).await;
        Some((Ok(piece), (turns, row, lease, is_over)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::product::ProductId;

    #[test]
    fn a_row_in_pieces_is_the_row_whole() {
        let strange = "\"\\/\u{1}\u{8}\t\n\r\u{1f}\u{7f}\u{2028}é€😀'%s$1{}";
        for (manufacturer, product_name) in [
            (String::new(), String::new()),
            ("Maker".to_owned(), strange.to_owned()),
            (strange.repeat(3000), "x".repeat(100_000)),
            ("€".repeat(50_000), format!("x{}", "😀".repeat(20_000))),
            ("\u{1}".repeat(70_000), String::new()),
        ] {
            let product_id = ProductId::new(7).unwrap();
            let product = Product {
                product_id,
                manufacturer,
                price_per_unit: "1€".to_owned(),
                units_available: -3,
                product_name,
            };
            let row = Versioned { product, version: 9 };
            let whole = serde_json::to_string(&Shown::from(&row)).unwrap();
            let (mut text, mut joined, mut is_over) = (RowText::new(row), Vec::new(), false);
            while !is_over {
                let mut piece = Vec::new();
                is_over = text.write(&mut piece);
                assert!(piece.len() <= 6 * PIECE_BYTES + 100, "{}", piece.len());
                joined.append(&mut piece);
            }
            assert_eq!(String::from_utf8(joined).unwrap(), whole);
        }
    }
}
