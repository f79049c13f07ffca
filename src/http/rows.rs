//! A list of rows as JSON, in pieces: [`Listing`], and the room for the rows that it reads.

use std::sync::Arc;
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
use super::cursor::{Cursor, Rest};
use super::form::{Form, list_end};
use super::problem::Problem;
use super::row::{PIECE_BYTES, RowText, bytes_of};
use crate::metrics::Limit;
use crate::model::product::Product;
use crate::model::table::Table;
use crate::store::{StoreError, Versioned};

/// The most bytes of a row, as long as nobody knows its size: one that only SQL can write may be longer.
const ROW_BYTES_MAX: usize = Product::JSON_BYTES_MAX;
/// The time for which an answer waits for room until it is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);
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

/// A list on its way: its rows, and `next`, which is the `after` of the list that follows, or null. It holds the rows that
/// it read last.
pub(super) struct Listing {
    services: Services,
    access: Access,
    table: Arc<Table>,
    form: Form,
    cursor: Cursor,
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
    /// Reads the first rows.
    ///
    /// # Errors
    /// 503.
    pub(super) async fn begin(
        services: &Services,
        access: Access,
        table: Arc<Table>,
        form: Form,
        cursor: Cursor,
    ) -> Result<Self, Problem> {
        let mut listing = Self {
            services: services.clone(),
            access,
            table,
            form,
            cursor,
            rows: Vec::new().into_iter(),
            lease: Lease::default(),
            row: None,
            before: form.list_start(),
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
                self.row = Some(RowText::new(self.form.listed(&row)));
            } else if let Rest::Next(next) = &self.rest {
                let before = if self.before == "," { "" } else { self.before };
                piece.extend_from_slice(before.as_bytes());
                piece.extend_from_slice(&list_end(next.as_ref()));
                self.is_over = true;
                return;
            } else {
                return;
            }
        }
    }

    async fn read_rows(&mut self, lease: Lease) -> Result<(), StoreError> {
        self.lease = lease;
        let (rows, rest) = self.cursor.read(&self.services.store, &self.access, &self.table).await?;
        self.lease.shrink_to(rows.iter().map(bytes_of).sum());
        (self.rows, self.rest) = (rows.into_iter(), rest);
        Ok(())
    }
}
