//! The store's part in the stream of notifications: its marks, and the epoch (`migrations/0003_streams.sql`).

use tokio::sync::futures::Notified;

use super::failure::Failure;
use super::{PostgresStore, column};
use crate::model::epoch::Epoch;
use crate::store::StoreError;

/// Nothing may be drawn or read above it by a client whose numbers are fractions.
const VERSION_MAX: u64 = (1 << 53) - 1;

/// The versions that are left out where an epoch begins, or a table's trigger finds the sequence set back
/// (`tables/before.sql`): more than are on their way meanwhile, and than most tables ever drew, so that no row of another
/// table is above the sequence, whose next change would have a further epoch begin.
pub(super) const VERSIONS_LEFT_OUT: u64 = 1 << 24;

/// The versions that are left out above what was heard where an epoch begins: more than triggers have lifted the sequence by
/// then. Two of them at once may set it back by a little, so that a row which was not heard of yet is above it.
const RENEWAL_LEFT_OUT: u64 = 4 * VERSIONS_LEFT_OUT;

const RENEW_EPOCH: &str = "SELECT rowcast_renew_epoch($1, $2) AS epoch";
const GREATEST_VERSION: &str = "SELECT coalesce(greatest((SELECT max(version) FROM products), \
     (SELECT max(version) FROM product_tombstones), (SELECT max(version) FROM rowcast_tombstones)), 0) AS version";
const GREATEST_OF_TABLES: &str = "SELECT coalesce((SELECT max(version) FROM rowcast_tombstones), 0) AS version";

impl PostgresStore {
    /// Returns the name of this process in the stream.
    pub(crate) const fn server(&self) -> u64 {
        self.server
    }

    /// Begins a new epoch, unless another one than `expected` stands, and answers the one that stands then. Versions go on
    /// above all products and tombstones, and far above `floor` unless that is 0: other tables have rows above it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where somebody writes products for so long that no moment without writers was found.
    pub async fn renew_epoch(&self, expected: Epoch, floor: u64) -> Result<Epoch, StoreError> {
        let lifted = if floor == 0 { 0 } else { floor.saturating_add(RENEWAL_LEFT_OUT) };
        let floor = lifted.min(VERSION_MAX).cast_signed();
        let rows = self.query(RENEW_EPOCH, &[&expected.get().cast_signed(), &floor]).await?;
        let number = self.told(column::<i64>(&rows[0], "epoch"))?.cast_unsigned();
        self.told(Epoch::new(number).ok_or(Failure::LeftOut))
    }

    /// Returns the greatest version of the products, where they are cast, and of all tombstones; reads all of them. A table's row is never stamped
    /// below the version that it has, so that those need not be read.
    pub(crate) async fn greatest_version(&self) -> Result<u64, StoreError> {
        let greatest = if self.has_products() { GREATEST_VERSION } else { GREATEST_OF_TABLES };
        let rows = self.query(greatest, &[]).await?;
        Ok(self.told(column::<i64>(&rows[0], "version"))?.cast_unsigned())
    }

    /// Ends the listener's session, which then tells a gap and begins another one.
    pub(crate) fn listen_anew(&self) {
        self.anew.notify_waiters();
    }

    /// Has the listener look at the tables before its time.
    pub(crate) fn look_at_tables_at_once(&self) {
        self.look.notify_one();
    }

    /// Returns once somebody asks for such a look.
    pub(crate) async fn asked_to_look(&self) {
        self.look.notified().await;
    }

    /// Returns once somebody asks for another session, from when this was called.
    pub(crate) fn asked_to_listen_anew(&self) -> Notified<'_> {
        self.anew.notified()
    }
}
