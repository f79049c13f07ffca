//! The number of changes that a Postgres commits, by its own notifications ([`Ledger`]).

use std::collections::BTreeSet;
use std::future::poll_fn;

use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// A session that hears what every server hears.
pub(super) struct Ledger {
    client: Client,
    counting: JoinHandle<Option<u64>>,
}

impl Ledger {
    /// Begins to count the changes of these products.
    pub(super) async fn open(url: &str, products: BTreeSet<u64>) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres takes connections");
        let counting = tokio::spawn(async move {
            let mut changes = 0;
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(it))) if it.channel() == "ledger" => return Some(changes),
                    Some(Ok(AsyncMessage::Notification(it))) => {
                        changes += u64::from(product_of(it.payload()).is_some_and(|id| products.contains(&id)));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        });
        let channel = client.query_one("SELECT quote_ident(channel) FROM rowcast_stream", &[]).await.unwrap();
        client.batch_execute(&format!("LISTEN {}; LISTEN ledger", channel.get::<_, &str>(0))).await.unwrap();
        Self { client, counting }
    }

    /// Returns the number of changes so far, unless the connection was lost.
    pub(super) async fn count(self) -> Option<u64> {
        // Notifications come in the order of the commits; the session is driven until this one.
        let (_, changes) = tokio::join!(self.client.batch_execute("NOTIFY ledger"), self.counting);
        changes.expect("it does not panic")
    }
}

/// Returns the product of a change; `None` for another message.
fn product_of(payload: &str) -> Option<u64> {
    let (_, rest) = payload.strip_prefix(r#"{"action":"#)?.split_once(r#""productId":"#)?;
    rest.split([',', '}']).next()?.parse().ok()
}
