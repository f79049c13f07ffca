//! The database's state as far as the stream's truth depends on it: [`Inspection`].

use std::sync::Arc;

use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

use crate::model::epoch::Epoch;
use crate::store::StoreError;
use crate::store::postgres::PostgresStore;
use crate::store::postgres::served::ServedTable;
use crate::store::postgres::tables::{InstalledTable, TableLook, looks, read_looks};

const PRODUCTS_TOUCHED: &str =
    "a trigger of products was off, or made anew, or a function of one, or a column of products, was altered";

/// The state at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Inspection {
    pub(super) epoch: Epoch,
    /// The version that was drawn last.
    last_version: u64,
    /// Why the history is not the one in which the epoch began, if the database has found that itself.
    replaced: Option<&'static str>,
    /// The place in the database's log up to which all is on disk, if that is known. It never goes back by itself.
    pub(super) flushed: Option<u64>,
    /// True if no trigger of products, function of one or column was touched since the epoch began.
    is_untouched: bool,
    /// The triggers that are missing or off, if any.
    triggers_off: Option<String>,
    /// The part of the database's notification queue that is taken, 0 to 1.
    pub(super) notification_queue: f64,
    /// The tables beside products, in the order of the store.
    pub(super) tables: Vec<TableLook>,
}

/// The conclusion from an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every change is told, and its version belongs to this epoch.
    Sound(Epoch),
    /// These triggers tell nothing.
    Off(String),
    /// The history of this epoch was replaced, for this reason.
    Replaced(Epoch, &'static str),
}

impl Inspection {
    /// Returns the conclusion, for a listener that knew a version as great as `floor` before it asked, and was told that
    /// `epoch` stands, in notifications that came before the inspection's own.
    pub(super) fn verdict(&self, floor: u64, epoch: Option<Epoch>) -> Verdict {
        if let Some(names) = &self.triggers_off {
            return Verdict::Off(names.clone());
        }
        if !self.is_untouched {
            return Verdict::Replaced(self.epoch, PRODUCTS_TOUCHED);
        }
        if self.last_version < floor {
            return Verdict::Replaced(self.epoch, "the sequence of versions is below a version that was given");
        }
        if let Some(reason) = self.replaced {
            return Verdict::Replaced(self.epoch, reason);
        }
        if epoch.is_some_and(|epoch| epoch != self.epoch) {
            return Verdict::Replaced(self.epoch, "another epoch stands than the one that was told");
        }
        Verdict::Sound(self.epoch)
    }
}

/// Listens to the channel of the products. The channel's name stands in a table that the server's role may read.
pub(super) async fn listen(client: &Client, settings: &str) -> Result<(), Error> {
    client.batch_execute(settings).await?;
    let channel: String = client.query_one("SELECT channel FROM rowcast_stream", &[]).await?.try_get(0)?;
    client.batch_execute(&format!("LISTEN \"{}\"", channel.replace('"', "\"\""))).await
}

/// Looks at the state and has the database notify `proof`, in one transaction: when the proof is heard, all that was
/// committed before the look has been heard. `None` where the table is not as the migrations made it.
///
/// Another connection than the listening one asks: a proxy that pools transactions would pass a notification on to the
/// very transaction that made it. And it is a simple query, which every proxy passes.
pub(super) async fn inspect(store: &PostgresStore, proof: &str) -> Result<Option<Inspection>, StoreError> {
    let tables: Vec<Arc<InstalledTable>> = store.served().iter().map(ServedTable::installed).collect();
    let look = format!(
        "SELECT epoch, (SELECT last_value FROM product_versions) AS last_version, \
         rowcast_replaced() AS replaced, rowcast_flushed() AS flushed, triggers = rowcast_triggers() AS is_untouched, rowcast_triggers_off() AS triggers_off, \
         pg_notification_queue_usage() AS notification_queue, {} AS tables, pg_notify(channel, '{proof}') FROM rowcast_stream",
        looks(tables.iter().map(|table| &**table))
    );
    let messages = store.simple_query(&look).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.and_then(read))
}

/// Asks the listening connection for an answer.
pub(super) async fn ping(client: &Client) -> Result<(), Error> {
    client.simple_query("").await.map(|_| ())
}

/// Returns the sentence for a word of `rowcast_replaced()` (`migrations/0018_home.sql`).
fn replaced(word: &str) -> &'static str {
    match word {
        "below" => {
            "a row that changed has no greater version than before: the sequence of versions was set back, or a trigger of \
             somebody else sets the version after Rowcast's has"
        }
        "cache" => "the sequence of versions had a cache (CACHE), which was taken away",
        "home" => "the database is another one: a copy of it took its place, or it was restored from a dump",
        _ => "the database is on another timeline: a standby was promoted, or a backup restored",
    }
}

/// Reads the row, or answers `None` where the table has values that no migration writes.
fn read(row: &SimpleQueryRow) -> Option<Inspection> {
    let number = |name| row.try_get(name).ok().flatten()?.parse::<i64>().ok().map(i64::cast_unsigned);
    Some(Inspection {
        epoch: Epoch::new(number("epoch")?)?,
        last_version: number("last_version")?,
        replaced: row.try_get("replaced").ok()?.map(replaced),
        flushed: number("flushed"),
        is_untouched: row.try_get("is_untouched").ok().flatten()? == "t",
        triggers_off: row.try_get("triggers_off").ok().flatten().map(str::to_owned),
        notification_queue: row.try_get("notification_queue").ok().flatten()?.parse().ok()?,
        tables: read_looks(row.try_get("tables").ok().flatten()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_what_is_wrong() {
        let epoch = |number| Epoch::new(number).unwrap();
        let sound = Inspection {
            epoch: epoch(1),
            last_version: 7,
            replaced: None,
            flushed: None,
            is_untouched: true,
            triggers_off: None,
            notification_queue: 0.0,
            tables: Vec::new(),
        };
        for known in [None, Some(epoch(1))] {
            assert_eq!(sound.verdict(7, known), Verdict::Sound(epoch(1)));
            assert!(matches!(sound.verdict(8, known), Verdict::Replaced(_, why) if why.contains("sequence")));
        }
        let below = Inspection { replaced: Some(replaced("below")), ..sound.clone() };
        assert!(matches!(below.verdict(7, Some(epoch(1))), Verdict::Replaced(_, why) if why.contains("changed")));
        assert!(matches!(sound.verdict(0, Some(epoch(2))), Verdict::Replaced(_, why) if why.contains("epoch")));
        let elsewhere = Inspection { replaced: Some(replaced("home")), ..sound.clone() };
        assert!(
            matches!(elsewhere.verdict(7, Some(epoch(1))), Verdict::Replaced(_, why) if why.contains("another one"))
        );
        let touched = Inspection { is_untouched: false, ..sound.clone() };
        assert!(matches!(touched.verdict(0, None), Verdict::Replaced(_, why) if why.contains("trigger")));
        let off = Inspection { triggers_off: Some("00_rowcast".into()), ..touched };
        assert_eq!(off.verdict(9, Some(epoch(2))), Verdict::Off("00_rowcast".into()));
    }
}
