//! Publishing through Postgres: writing rows, or notifying ready messages.

use anyhow::Context;
use tokio_postgres::{Client, NoTls, Statement};

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
        let name = message::product_name(message.due_ns, padding);
        let row = self.client.query_one(&self.statement, &[&i64::from(message.product), &name]).await?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }
}

/// A connection that notifies, without a row.
pub(crate) struct NotifyPublisher {
    client: Client,
    statement: Statement,
}

impl NotifyPublisher {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        let statement = client.prepare("SELECT pg_notify('product_change', $1)").await?;
        Ok(Self { client, statement })
    }

    pub(super) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        self.client.execute(&self.statement, &[&message::change_json(message, padding)]).await?;
        Ok(message.version)
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("connect to Postgres as --database-url says")?;
    tokio::spawn(async move {
        // How it ended is told to whoever uses the client.
        let _ = connection.await;
    });
    Ok(client)
}
