//! The removal of the rows that Postgres' tables hold only for a while: [`keep_house`].

use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::store::postgres::chain;

/// The time that one statement may take; the rows that are left then are left for the next time.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);
/// The number of statements that [`keep_house`] makes.
pub(super) const STATEMENTS: u32 = 4;

/// Messages too long for a notification, once every server has had the time to read them.
const REMOVE_MESSAGES: &str = "DELETE FROM oversize_changes WHERE version IN (SELECT version FROM oversize_changes \
     WHERE created_at < now() - interval '10 minutes' LIMIT 10000 FOR UPDATE SKIP LOCKED)";

/// Tombstones whose horizon is past: every transaction that could insert the product below them is over. Those that
/// somebody is writing are left for the next time, since waiting for them could deadlock.
const REMOVE_TOMBSTONES: &str = "DELETE FROM product_tombstones WHERE product_id IN (SELECT product_id \
     FROM product_tombstones WHERE horizon <= pg_snapshot_xmin(pg_current_snapshot()) LIMIT 100000 \
     FOR UPDATE SKIP LOCKED)";

const LAST_VERSION: &str = "SELECT last_value FROM product_versions";

/// Gives the tombstones up to a version their horizon, the number of this transaction. An insert that drew its version
/// before one of them had its transaction's number before that, and this transaction gets its number after the version
/// was read: the number is above those of all such inserts.
const MARK_TOMBSTONES: &str = "UPDATE product_tombstones SET horizon = pg_current_xact_id() WHERE product_id IN \
     (SELECT product_id FROM product_tombstones WHERE horizon IS NULL AND version <= $1 LIMIT 100000 \
     FOR UPDATE SKIP LOCKED)";

/// Removes the rows that nobody needs any more. A refusal of the database is logged and its rows are left for the next
/// time; an error is one of the connection. A tombstone takes two calls: one that marks it, and a later one that finds
/// the transactions of that time over.
pub(super) async fn keep_house(client: &Client) -> Result<(), Error> {
    match remove_and_mark(client).await {
        Err(error) if error.as_db_error().is_some() => {
            tracing::warn!(error = chain(&error), "old rows were not removed");
            Ok(())
        }
        outcome => outcome,
    }
}

async fn remove_and_mark(client: &Client) -> Result<(), Error> {
    client.execute(REMOVE_MESSAGES, &[]).await?;
    client.execute(REMOVE_TOMBSTONES, &[]).await?;
    let last_version: i64 = client.query_one(LAST_VERSION, &[]).await?.get(0);
    client.execute(MARK_TOMBSTONES, &[&last_version]).await?;
    Ok(())
}
