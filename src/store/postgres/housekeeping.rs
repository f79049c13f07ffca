//! The removal of the rows that the tables hold only for a while.

use std::time::Duration;

use super::PostgresStore;
use crate::store::StoreError;

/// Messages too long for a notification, once every server has had the time to read them.
const REMOVE_MESSAGES: &str = "DELETE FROM oversize_changes WHERE version IN (SELECT version FROM oversize_changes \
     WHERE created_at < now() - interval '10 minutes' LIMIT 10000 FOR UPDATE SKIP LOCKED)";

/// Tombstones whose horizon is past (every transaction that could insert the product below them is over) and which have
/// had it for so many seconds. Those that somebody is writing are left for the next time, since waiting for them could
/// deadlock.
const REMOVE_TOMBSTONES: &str = "DELETE FROM product_tombstones WHERE product_id IN (SELECT product_id \
     FROM product_tombstones WHERE horizon <= pg_snapshot_xmin(pg_current_snapshot()) \
     AND marked_at <= now() - make_interval(secs => $1) LIMIT 100000 FOR UPDATE SKIP LOCKED)";

const LAST_VERSION: &str = "SELECT last_value FROM product_versions";

/// Gives the tombstones up to a version their horizon, the number of this transaction. An insert that drew its version
/// before one of them had its transaction's number before that, and this transaction gets its number after the version
/// was read: the number is above those of all such inserts.
const MARK_TOMBSTONES: &str = "UPDATE product_tombstones SET horizon = pg_current_xact_id(), marked_at = now() \
     WHERE product_id IN (SELECT product_id FROM product_tombstones WHERE horizon IS NULL AND version <= $1 \
     LIMIT 100000 FOR UPDATE SKIP LOCKED)";

/// Likewise, of tables.
const REMOVE_TABLE_TOMBSTONES: &str = "DELETE FROM rowcast_tombstones WHERE (table_id, key, version) IN (SELECT table_id, \
     key, version FROM rowcast_tombstones WHERE horizon <= pg_snapshot_xmin(pg_current_snapshot()) \
     AND marked_at <= now() - make_interval(secs => $1) LIMIT 100000 FOR UPDATE SKIP LOCKED)";
const MARK_TABLE_TOMBSTONES: &str = "UPDATE rowcast_tombstones SET horizon = pg_current_xact_id(), marked_at = now() \
     WHERE (table_id, key, version) IN (SELECT table_id, key, version FROM rowcast_tombstones \
     WHERE horizon IS NULL AND version <= $1 LIMIT 100000 FOR UPDATE SKIP LOCKED)";

impl PostgresStore {
    /// Removes the rows that nobody needs any more. A tombstone takes two calls: one that marks it, and one that comes
    /// `tombstone_age` later and finds the transactions of that time over. Until then it tells the version of an absence
    /// to loads, and to servers and readers that are behind.
    ///
    /// # Errors
    /// See [`StoreError`]; the rows that are left then are left for the next time.
    pub(crate) async fn keep_house(&self, tombstone_age: Duration) -> Result<(), StoreError> {
        self.query(REMOVE_MESSAGES, &[]).await?;
        if self.has_products() {
            self.query(REMOVE_TOMBSTONES, &[&tombstone_age.as_secs_f64()]).await?;
        }
        self.query(REMOVE_TABLE_TOMBSTONES, &[&tombstone_age.as_secs_f64()]).await?;
        let rows = self.query(LAST_VERSION, &[]).await?;
        let last_version: i64 = self.told(super::column(&rows[0], "last_value"))?;
        if self.has_products() {
            self.query(MARK_TOMBSTONES, &[&last_version]).await?;
        }
        self.query(MARK_TABLE_TOMBSTONES, &[&last_version]).await?;
        Ok(())
    }
}
