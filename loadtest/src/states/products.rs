//! The products of a storm, written before it and between its rounds: [`write()`].

use anyhow::Context;
use futures_util::future::try_join_all;
use tokio::time::{Duration, sleep, timeout};
use tokio_postgres::{GenericClient, Row};

use crate::message::Message;
use crate::metrics::metric;
use crate::peer::Peer;
use crate::publish::{Http, database};
use crate::table::Table;
use crate::target::Target;

/// Connections that write.
const WRITERS: usize = 64;
/// Nothing on this machine takes longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The interval at which the server's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// As many digits as versions have here.
const VERSION: u64 = 1_000_000;

/// Writes every row with one statement; `$2` is added to the id to make the number in its name.
const WRITE: &str = "INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name) \
    SELECT n, 'Load', '1EUR', 6, 't' || lpad((n + $2)::text, 15, '0') || repeat('~', $3) FROM unnest($1::bigint[]) n \
    ON CONFLICT (product_id) DO UPDATE SET (manufacturer, price_per_unit, units_available, product_name) = \
    (excluded.manufacturer, excluded.price_per_unit, excluded.units_available, excluded.product_name) \
    RETURNING product_id, version";

/// The way to the store.
pub(super) struct Way<'a> {
    pub(super) peer: Peer,
    pub(super) server: &'a Target,
    /// The server's Postgres, if it has one: many rows are written there at once.
    pub(super) database_url: Option<&'a str>,
    pub(super) frame_bytes: usize,
}

/// Writes these products, each with its id and `stamp` added as the number in its name, and waits until the server has
/// heard of all of them.
pub(super) async fn write(way: &Way<'_>, products: &[u32], stamp: u32) -> anyhow::Result<()> {
    if way.peer != Peer::Rowcast {
        return write_rest(way, products, stamp).await.context("publish to the channels");
    }
    let heard = changes(way.server).await?;
    let written = match way.database_url {
        Some(url) => write_sql(url, products, stamp, way.frame_bytes).await,
        None => write_rest(way, products, stamp).await,
    };
    written.context("write the products")?;
    let all_are_heard = async {
        while changes(way.server).await? < heard + products.len() as u64 {
            sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, all_are_heard).await.context("the server has not heard of all products for a minute")?
}

/// Returns the number of changes that the server has heard of, on a connection of its own: one that waits for all writes
/// is silent for longer than the server bears.
async fn changes(server: &Target) -> anyhow::Result<u64> {
    metric(&mut Http::connect(server).await?, "rowcast_changes_total").await
}

fn message(product: u32, stamp: u32) -> Message {
    Message { product, version: VERSION, due_ns: u64::from(product) + u64::from(stamp) }
}

async fn write_rest(way: &Way<'_>, products: &[u32], stamp: u32) -> anyhow::Result<()> {
    let writer = |first: usize| async move {
        let mut http = Http::connect(way.server).await?;
        for &product in products.iter().skip(first).step_by(WRITERS) {
            let message = message(product, stamp);
            let padding = Table::Products.padding(&message, way.frame_bytes).unwrap_or(0);
            http.request(&way.peer.publish_request(&message, padding, &http.token)).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..WRITERS.min(products.len())).map(writer)).await?;
    Ok(())
}

async fn write_sql(url: &str, products: &[u32], stamp: u32, frame_bytes: usize) -> anyhow::Result<()> {
    write_by(&database::connect(url).await?, products, stamp, frame_bytes).await?;
    Ok(())
}

/// Writes these products by one statement, as [`write()`] does, and waits for nobody. Returns their versions.
pub(super) async fn write_by(
    client: &impl GenericClient,
    products: &[u32],
    stamp: u32,
    frame_bytes: usize,
) -> anyhow::Result<Vec<(u32, u64)>> {
    let ids: Vec<i64> = products.iter().map(|&product| i64::from(product)).collect();
    let padding = products
        .first()
        .and_then(|&product| Table::Products.padding(&message(product, stamp), frame_bytes))
        .unwrap_or(0);
    let padding = i32::try_from(padding).context("the length of a name")?;
    let written = client.query(WRITE, &[&ids, &i64::from(stamp), &padding]).await?;
    let version =
        |row: &Row| Ok((u32::try_from(row.try_get::<_, i64>(0)?)?, u64::try_from(row.try_get::<_, i64>(1)?)?));
    written.iter().map(version).collect()
}
