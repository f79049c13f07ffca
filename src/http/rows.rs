//! A page of the list of rows as JSON, in pieces: [`Listing`], and the room for the rows that it reads.

use std::io::Write;
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::time::timeout;
use tracing::warn;

use super::Services;
use super::access::Access;
use super::answer::Broken;
use super::budget::Lease;
use super::problem::Problem;
use super::row::{PIECE_BYTES, RowText, bytes_of};
use crate::metrics::Limit;
use crate::model::product::{Product, ProductId};
use crate::store::{StoreError, Versioned};

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
