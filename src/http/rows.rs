//! Rows as JSON, in pieces: [`RowText`] writes one row, [`Listing`] a page of the list.

use std::io::Write;
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::time::timeout;
use tracing::warn;

use super::Services;
use super::access::Access;
use super::answer::{AnswerBody, Broken};
use super::budget::Lease;
use super::problem::Problem;
use super::turns::Turns;
use crate::metrics::Limit;
use crate::model::product::{Product, ProductId};
use crate::store::{StoreError, Versioned};

/// The bytes of rows that one piece has, about; escapes make it six times as long at most (RFC 8259, §7). An answer
/// that is no longer is made whole.
pub(super) const PIECE_BYTES: usize = 16 * 1024;
/// The bytes of rows that a list reads from the store at once; a row that is longer comes alone.
const PAGE_BYTES: usize = 64 * 1024;
/// The most bytes of a row, as long as nobody knows its size: one that only SQL can write may be longer.
const ROW_BYTES_MAX: usize = Product::JSON_BYTES_MAX;
/// The time for which an answer waits for room until it is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);
/// The most look-ups in the store for one answer, not counting those that filled a page.
const LOOKUPS_MAX: usize = 100;

/// Takes room for the first rows of an answer, in the budget for answers.
///
/// # Errors
/// [`NoRoom`] after [`ROOM_TIMEOUT`].
pub(super) async fn room_for_rows(services: &Services) -> Result<Lease, NoRoom> {
    room_within(services, ROOM_TIMEOUT).await
}

async fn room_within(services: &Services, patience: Duration) -> Result<Lease, NoRoom> {
    timeout(patience, services.shared.budgets.answers.take(ROW_BYTES_MAX)).await.map_err(|_| {
        services.metrics.refused(Limit::AnswersBytes);
        NoRoom
    })
}

/// The budget for answers is held by slow readers.
#[derive(Debug)]
pub(super) struct NoRoom;

impl From<NoRoom> for Problem {
    fn from(_: NoRoom) -> Self {
        Self::unavailable("as many answers wait for slow readers as may; try again soon")
    }
}

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

/// The continuation after the rows that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// More rows, perhaps.
    Unread,
    /// The end, with this as `next`.
    Next(Option<ProductId>),
}

/// A page of the list on its way: `{"products":[…],"next":…}`, whose `next` is the `after` of the page that follows, or
/// null. It holds the rows that it read last.
pub(super) struct Listing {
    services: Services,
    access: Access,
    /// The greatest id that was read, or passed over.
    after: Option<ProductId>,
    /// The id that was listed last.
    listed: Option<ProductId>,
    /// The products that may still be listed.
    left: usize,
    /// The most products that the store is asked for: about as many as fit in a page.
    lookahead: usize,
    lookups_left: usize,
    rows: vec::IntoIter<Versioned>,
    lease: Lease,
    /// The row that is being written.
    row: Option<RowText>,
    /// The text before the next row.
    before: &'static str,
    rest: Rest,
    is_over: bool,
}

impl Listing {
    /// Reads the first rows of the `limit` products after `after` that may be read.
    ///
    /// # Errors
    /// 503.
    pub(super) async fn begin(
        services: &Services,
        access: Access,
        after: Option<ProductId>,
        limit: usize,
    ) -> Result<Self, Problem> {
        let mut listing = Self {
            services: services.clone(),
            access,
            after,
            listed: None,
            left: limit,
            lookahead: usize::MAX,
            lookups_left: LOOKUPS_MAX,
            rows: Vec::new().into_iter(),
            lease: Lease::default(),
            row: None,
            before: r#"{"products":["#,
            rest: Rest::Unread,
            is_over: false,
        };
        let lease = room_for_rows(services).await?;
        listing.read_rows(lease).await?;
        Ok(listing)
    }

    /// Returns true if all of it is read, and short.
    pub(super) fn is_short(&self) -> bool {
        self.rest != Rest::Unread && self.rows.as_slice().iter().map(bytes_of).sum::<usize>() <= PIECE_BYTES
    }

    /// Returns all of a short one.
    pub(super) async fn whole(mut self) -> (Bytes, Lease) {
        let turns = self.services.shared.turns.clone();
        let whole = turns.take(|| {
            let mut whole = Vec::new();
            while !self.is_over {
                let mut piece = Vec::new();
                self.write(&mut piece);
                whole.append(&mut piece);
            }
            whole
        });
        let whole = whole.await;
        self.lease.shrink_to(whole.capacity());
        (whole.into(), self.lease)
    }

    /// Returns its pieces.
    pub(super) fn pieces(self) -> impl Stream<Item = Result<Bytes, Broken>> {
        stream::unfold(Some(self), |listing| async {
            let mut listing = listing?;
            if listing.is_over {
                return None;
            }
            match listing.piece().await {
                Ok(piece) => Some((Ok(piece), Some(listing))),
                Err(error) => {
                    warn!(?error, "a list ends early");
                    Some((Err(Broken), None))
                }
            }
        })
    }

    async fn piece(&mut self) -> Result<Bytes, Problem> {
        if self.row.is_none() && self.rows.as_slice().is_empty() && self.rest == Rest::Unread {
            // Nothing is held while the next rows wait for room. By then every reader has taken something, or was cut.
            self.lease = Lease::default();
            let lease = room_within(&self.services, self.services.limits.write_timeout).await?;
            self.read_rows(lease).await?;
        }
        let turns = self.services.shared.turns.clone();
        let piece = turns.take(|| {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            self.write(&mut piece);
            piece
        });
        Ok(piece.await.into())
    }

    /// Writes until the piece is long enough, or all that was read is written.
    fn write(&mut self, piece: &mut Vec<u8>) {
        while piece.len() < PIECE_BYTES {
            if let Some(row) = &mut self.row {
                if row.write(piece) {
                    self.row = None;
                }
            } else if let Some(row) = self.rows.next() {
                piece.extend_from_slice(self.before.as_bytes());
                self.before = ",";
                self.row = Some(RowText::new(row));
            } else if let Rest::Next(next) = self.rest {
                let before = if self.before == "," { "" } else { self.before };
                let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
                write!(piece, "{before}],\"next\":{next}}}").expect("a Vec takes all");
                self.is_over = true;
                return;
            } else {
                return;
            }
        }
    }

    /// Reads the next rows, or finds that there are none. Each page is a consistent read; two of them may differ by
    /// what was committed between them.
    async fn read_rows(&mut self, lease: Lease) -> Result<(), StoreError> {
        self.lease = lease;
        let mut rows = Vec::new();
        while rows.is_empty() && self.rest == Rest::Unread {
            let Some((first, last)) = following(self.after).and_then(|id| self.access.next_readable(id)) else {
                self.rest = Rest::Next(None);
                break;
            };
            // One more than is listed tells whether another page follows.
            let wanted = (self.left + 1).min(width(first, last)).min(self.lookahead);
            let page = self.services.store.list(previous(first), wanted, PAGE_BYTES).await?;
            let found = page.products.len();
            let is_full = page.more && (found < wanted || wanted == self.lookahead);
            self.lookahead = if is_full { 2 * found } else { usize::MAX };
            rows = page.products;
            self.pass(&mut rows, last, page.more);
            if !is_full || rows.is_empty() {
                self.lookups_left -= 1;
            }
            if self.lookups_left == 0 && self.rest == Rest::Unread {
                // Those that may be read lie far apart.
                self.rest = Rest::Next(self.after);
            }
        }
        self.lease.shrink_to(rows.iter().map(bytes_of).sum());
        self.rows = rows.into_iter();
        Ok(())
    }

    /// Keeps the rows that are listed, of those that the store has after `after`: those up to `last`, the end of a
    /// range that may be read. Records if there are more.
    fn pass(&mut self, rows: &mut Vec<Versioned>, last: ProductId, more: bool) {
        let id_of = |row: &Versioned| row.product.product_id;
        let readable = rows.iter().take_while(|row| id_of(row) <= last).count();
        // Ranges without products are passed over.
        let beyond = rows.get(readable).and_then(|row| previous(id_of(row)));
        rows.truncate(readable);
        if rows.len() > self.left {
            rows.truncate(self.left);
            self.rest = Rest::Next(rows.last().map(id_of).or(self.listed));
        } else if beyond.is_none() && !more {
            self.rest = Rest::Next(None);
        }
        self.left -= rows.len();
        self.listed = rows.last().map(id_of).or(self.listed);
        self.after = beyond.or_else(|| rows.last().map(id_of)).or(Some(last));
    }
}

fn following(id: Option<ProductId>) -> Option<ProductId> {
    id.map_or_else(|| ProductId::new(0), |id| ProductId::new(id.get() + 1))
}

fn previous(id: ProductId) -> Option<ProductId> {
    id.get().checked_sub(1).and_then(ProductId::new)
}

fn width(first: ProductId, last: ProductId) -> usize {
    usize::try_from(last.get() - first.get() + 1).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
