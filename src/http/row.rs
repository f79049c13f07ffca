//! One row as JSON, in pieces: [`RowText`].

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::Services;
use super::answer::{AnswerBody, Broken};
use super::budget::Lease;
use super::form::{Form, Text};
use crate::model::key::Key;
use crate::store::Versioned;

/// The bytes of rows that one piece has. An answer that is no longer is made whole.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// Returns the bytes that a row holds.
pub(super) fn bytes_of(row: &Versioned) -> usize {
    let key_bytes = match &row.key {
        Key::Text(text) => text.len(),
        Key::Integer(_) | Key::Uuid(_) => 0,
    };
    size_of::<Versioned>() + key_bytes + row.row.as_bytes().len()
}

/// Writes the text of a row, in pieces.
pub(super) struct RowText {
    text: Text,
    /// The bytes that are written.
    written: usize,
}

impl RowText {
    pub(super) const fn new(text: Text) -> Self {
        Self { text, written: 0 }
    }

    /// Returns the bytes of the whole text.
    fn bytes(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    fn parts(&self) -> [&[u8]; 3] {
        let (before, json, after) = &self.text;
        [before.as_bytes(), json, after.as_bytes()]
    }

    /// Writes until the piece is long enough or the row ends; returns true if it has ended.
    pub(super) fn write(&mut self, piece: &mut Vec<u8>) -> bool {
        let (mut skipped, mut written) = (self.written, 0);
        for part in self.parts() {
            let rest = &part[skipped.min(part.len())..];
            skipped = skipped.saturating_sub(part.len());
            let room = PIECE_BYTES.saturating_sub(piece.len()).min(rest.len());
            piece.extend_from_slice(&rest[..room]);
            written += room;
        }
        self.written += written;
        self.written == self.bytes()
    }
}

/// Makes the body of an answer that is one row, which holds `lease` until the last of it is made. Its length is known:
/// clients of a single resource expect `Content-Length` (RFC 9110, §8.6).
pub(super) fn body_of_row(services: &Services, form: Form, row: &Versioned, mut lease: Lease) -> AnswerBody {
    let mut text = RowText::new(form.alone(row));
    let bytes = text.bytes();
    if bytes <= PIECE_BYTES {
        let mut whole = Vec::with_capacity(bytes);
        text.write(&mut whole);
        lease.shrink_to(bytes);
        return AnswerBody::whole(whole, lease);
    }
    lease.shrink_to(bytes_of(row));
    AnswerBody::pieces(pieces_of_row(services, text, lease)).of_length(bytes as u64)
}

fn pieces_of_row(
    services: &Services,
    text: RowText,
    lease: Lease,
) -> impl Stream<Item = Result<Bytes, Broken>> + use<> {
    let turns = services.shared.turns.clone();
    stream::unfold((turns, text, lease, false), |(turns, mut text, lease, is_over)| async move {
        if is_over {
            return None;
        }
        let make = || {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let is_over = text.write(&mut piece);
            (Bytes::from(piece), is_over)
        };
        let (piece, is_over) = turns.take(make).await;
        Some((Ok(piece), (turns, text, lease, is_over)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::model::row::Row;

    #[test]
    fn a_row_in_pieces_is_the_row_whole() {
        for length in [0, 1, PIECE_BYTES - 20, PIECE_BYTES - 10, PIECE_BYTES, 3 * PIECE_BYTES, 100_001] {
            let json = format!(r#"{{"a":"{}"}}"#, "é".repeat(length / 2));
            let key = KeyKind::Any.of_text("\"").unwrap();
            let row = Versioned { key, version: 9, row: Row::parse(json.as_bytes()).unwrap() };
            let members = &json[..json.len() - 1];
            for (text, whole) in [
                (Form::Row.alone(&row), json.clone()),
                (Form::Row.listed(&row), format!(r#"{{"key":"\"","version":9,"row":{json}}}"#)),
                (Form::Product.alone(&row), format!(r#"{members},"version":9}}"#)),
                (Form::Product.listed(&row), format!(r#"{members},"version":9}}"#)),
            ] {
                let (mut text, mut joined, mut is_over) = (RowText::new(text), Vec::new(), false);
                assert_eq!(text.bytes(), whole.len());
                while !is_over {
                    let mut piece = Vec::new();
                    is_over = text.write(&mut piece);
                    assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES, "{}", piece.len());
                    joined.append(&mut piece);
                }
                assert_eq!(String::from_utf8(joined).unwrap(), whole);
            }
        }
    }
}
