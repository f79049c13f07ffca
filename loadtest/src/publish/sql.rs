//! Publishing through Postgres: writing rows, or notifying ready messages.

use anyhow::Context;
use futures_util::future::try_join_all;
use tokio_postgres::{Client, GenericClient, Statement};

use super::database::connect;
use crate::message::{self, Message};

/// A connection that writes rows.
pub(crate) struct SqlPublisher {
    client: Client,
    statement: Statement,
}

const WRITE: &str = "INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name) \
    VALUES ($1, 'Load', '1EUR', 6, $2) \
    ON CONFLICT (product_id) DO UPDATE SET product_name = excluded.product_name RETURNING version";

impl SqlPublisher {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        let statement = client
            .prepare(WRITE)
            .await
            .context("prepare the write; has the database the table products? `rowcast migrate` makes it")?;
        Ok(Self { client, statement })
    }

    pub(super) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        write(&self.client, &self.statement, message, padding).await
    }

    /// Writes all of these in one transaction.
    pub(super) async fn publish_many(&mut self, messages: &[(Message, usize)]) -> anyhow::Result<Vec<u64>> {
        let transaction = self.client.transaction().await?;
        let writes = messages.iter().map(|(message, padding)| write(&transaction, &self.statement, message, *padding));
        let versions = try_join_all(writes).await?;
        transaction.commit().await?;
        Ok(versions)
    }
}

/// Writes a row; returns its version.
async fn write(
    client: &impl GenericClient,
    statement: &Statement,
    message: &Message,
    padding: usize,
) -> anyhow::Result<u64> {
    let name = message::product_name(message.due_ns, padding);
    let row = client.query_one(statement, &[&i64::from(message.product), &name]).await?;
    Ok(row.get::<_, i64>(0).cast_unsigned())
}

/// A connection that notifies, without a row.
pub(crate) struct NotifyPublisher {
    client: Client,
    one: Statement,
    many: Statement,
}

impl NotifyPublisher {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        // Its versions begin below those of the rows, so they belong to a history of their own. Those that the sequence
        // gives stay above them.
        client.batch_execute("SELECT rowcast_renew_epoch(epoch, 1::bigint << 52) FROM rowcast_stream").await?;
        let one = client.prepare("SELECT pg_notify(channel, $1) FROM rowcast_stream").await?;
        let many = client
            .prepare("SELECT count(pg_notify(channel, change)) FROM rowcast_stream, unnest($1::text[]) change")
            .await?;
        Ok(Self { client, one, many })
    }

    pub(crate) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        self.client.execute(&self.one, &[&message::change_json(message, padding)]).await?;
        Ok(message.version)
    }

    /// Notifies all of these in one transaction.
    pub(super) async fn publish_many(&mut self, messages: &[(Message, usize)]) -> anyhow::Result<Vec<u64>> {
        let changes: Vec<String> =
            messages.iter().map(|(message, padding)| message::change_json(message, *padding)).collect();
        self.client.execute(&self.many, &[&changes]).await?;
        Ok(messages.iter().map(|(message, _)| message.version).collect())
    }
}
