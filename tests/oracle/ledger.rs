//! The number of changes that a Postgres commits, by its own notifications ([`Ledger`]).

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;

use rowcast::source::notify::notification::{Payload, TablePayload, parse};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::table::{Id, PRODUCTS, Tables};

/// A session that hears what every server hears.
pub(super) struct Ledger {
    client: Client,
    heard: JoinHandle<Option<Vec<String>>>,
    tables_by_oid: BTreeMap<u32, usize>,
    rows: BTreeSet<Id>,
}

impl Ledger {
    /// Begins to count the changes of these rows.
    pub(super) async fn open(url: &str, tables: &Tables, rows: BTreeSet<Id>) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres takes connections");
        let heard = tokio::spawn(async move {
            let mut payloads = Vec::new();
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(it))) if it.channel() == "ledger" => return Some(payloads),
                    Some(Ok(AsyncMessage::Notification(it))) => payloads.push(it.payload().to_owned()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        });
        let channel = client.query_one("SELECT quote_ident(channel) FROM rowcast_stream", &[]).await.unwrap();
        client.batch_execute(&format!("LISTEN {}; LISTEN ledger", channel.get::<_, &str>(0))).await.unwrap();
        let mut tables_by_oid = BTreeMap::new();
        for (table, its) in tables.iter().skip(1) {
            let oid = client.query_one("SELECT $1::text::regclass::oid", &[&its.name]).await.unwrap();
            tables_by_oid.insert(oid.get(0), table);
        }
        Self { client, heard, tables_by_oid, rows }
    }

    /// Returns the number of changes so far, unless the connection was lost.
    pub(super) async fn count(self) -> Option<u64> {
        // Notifications come in the order of the commits; the session is driven until this one.
        let (_, heard) = tokio::join!(self.client.batch_execute("NOTIFY ledger"), self.heard);
        let payloads = heard.expect("it does not panic")?;
        let ids = payloads.iter().filter_map(|payload| row_of(payload, &self.tables_by_oid));
        Some(ids.filter(|id| self.rows.contains(id)).count() as u64)
    }
}

/// Returns the row of a change; `None` for another message.
fn row_of(payload: &str, tables_by_oid: &BTreeMap<u32, usize>) -> Option<Id> {
    match parse(payload)? {
        Payload::Table(TablePayload::Change(change)) => {
            let key: serde_json::Value = serde_json::from_str(change.key).expect("a key is JSON");
            let key = key.as_str().map_or_else(|| change.key.to_owned(), str::to_owned);
            Some(Id::new(*tables_by_oid.get(&change.oid)?, key))
        }
        Payload::Change(change) => Some(Id::new(PRODUCTS, change.product_id.to_string())),
        Payload::TableBegan(_) | Payload::Table(_) | Payload::Epoch(_) | Payload::Barrier(_) | Payload::Proof(_) => {
            None
        }
    }
}
