//! The server's source, which is ended: [`Source`].

use anyhow::{Context, ensure};
use tokio::time::{Duration, sleep, timeout};
use tokio_postgres::{Client, Transaction};

use crate::metrics::metric;
use crate::publish::{Http, database};
use crate::states::products;

/// The time that a server has to end its connections as it ends, and to listen again.
const PATIENCE: Duration = Duration::from_mins(1);
/// The interval at which the server is asked whether it listens.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The connections by which servers listen to this database.
const LISTENERS: &str =
    "FROM pg_stat_activity WHERE application_name = 'rowcast listener' AND datname = current_database()";

/// The database of the server.
pub(super) struct Source(Client);

impl Source {
    /// Connects to it.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(Self(database::connect(url).await?))
    }

    /// Waits until one server listens to this database, which is our own: that of before may still be going.
    pub(super) async fn until_one_listens(&self) -> anyhow::Result<()> {
        let mut listeners = 0;
        let is_one = async {
            while listeners != 1 {
                sleep(LOOK_EVERY).await;
                let count = self.0.query_one(&format!("SELECT count(*) {LISTENERS}"), &[]).await?;
                listeners = count.get::<_, i64>(0);
            }
            anyhow::Ok(())
        };
        match timeout(PATIENCE, is_one).await {
            Ok(result) => result.context("look for the server's connection"),
            Err(_) => Err(anyhow::anyhow!(
                "{listeners} connections of the name \"rowcast listener\" are open to the database of --database-url, and it \
                 has to be one: give a database to which no other server listens, and no application_name"
            )),
        }
    }

    /// Begins a transaction that ends the server's connection, and writes these products in it as
    /// [`products::write_by`] does.
    pub(super) async fn begin(&mut self, products: &[u32], stamp: u32, frame_bytes: usize) -> anyhow::Result<End<'_>> {
        let transaction = self.0.transaction().await?;
        let written = match products {
            [] => Vec::new(),
            some => products::write_by(&transaction, some, stamp, frame_bytes).await.context("write the products")?,
        };
        Ok(End { transaction, written })
    }
}

/// A transaction by which the server's connection ends.
pub(super) struct End<'a> {
    transaction: Transaction<'a>,
    written: Vec<(u32, u64)>,
}

impl End<'_> {
    /// Ends the connection, then commits what was written, of which the server is therefore not told. Returns the
    /// versions of what was written.
    pub(super) async fn commit(self) -> anyhow::Result<Vec<(u32, u64)>> {
        let end = format!("SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) {LISTENERS}");
        let ended: i64 = self.transaction.query_one(&end, &[]).await.context("end the server's connection")?.get(0);
        self.transaction.commit().await.context("commit the products")?;
        ensure!(
            ended == 1,
            "{ended} listening connections were ended in the place of one; does another server listen?"
        );
        Ok(self.written)
    }
}

/// Returns whether the server says that it hears every change.
pub(super) async fn is_heard(http: &mut Http) -> anyhow::Result<bool> {
    Ok(metric(http, "rowcast_source_up").await? > 0)
}
