//! Changes from Postgres, by `LISTEN` and `NOTIFY`: [`listen`].
//! <https://www.postgresql.org/docs/15/sql-notify.html>
//!
//! The connection is driven by [`Connection::poll_message`](tokio_postgres::Connection::poll_message), one notification
//! after the other. While ingest takes no more, nothing is polled: then the sockets' buffers fill, and Postgres keeps the
//! rest in its notification queue. No time limit runs meanwhile, so that a server that is behind is not taken for a
//! database that is gone.

mod inspection;
pub mod notification;
mod session;
mod stored;
mod tables;
mod versions;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use self::session::{Known, Session};
use crate::backoff::Backoff;
use crate::model::event::SourceEvent;
use crate::source::{Health, Obstacle};
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::migrate::grants;
use crate::store::postgres::{PostgresStore, chain};
use crate::store::{Refusal, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(10) };
/// The time that a statement of the listener's own connection may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);

/// The times by which a listener lives.
#[derive(Clone, Copy, Debug)]
pub struct Vigilance {
    /// The interval at which the connection has to prove that notifications pass, and the database is looked at.
    pub proof_interval: Duration,
    /// The longest time for which nothing at all may be heard while a proof or an answer is due.
    pub silence_max: Duration,
    /// The interval at which rows are removed that the tables hold only for a while.
    pub house_interval: Duration,
    /// The time for which a tombstone stays after no insert can need it any more.
    pub tombstone_age: Duration,
}

impl Vigilance {
    /// A server's times.
    pub const DEFAULT: Self = Self {
        proof_interval: Duration::from_secs(3),
        silence_max: Duration::from_secs(5),
        house_interval: Duration::from_mins(1),
        tombstone_age: Duration::from_mins(10),
    };
}

const _: () = {
    let Vigilance { proof_interval, silence_max, .. } = Vigilance::DEFAULT;
    // Readers are told within 10 s that a connection is dead.
    assert!(proof_interval.as_secs() + silence_max.as_secs() < 10);
    // A database that ends a slow statement is not dead.
    assert!(silence_max.as_secs() > STATEMENT_TIMEOUT.as_secs());
};

/// The channel of the source's events, which keeps their order.
type Feed = mpsc::Sender<SourceEvent>;

/// A listener's surroundings.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The database.
    pub config: PostgresConfig,
    /// The store of the same database, for what is not asked on the listening connection.
    pub store: PostgresStore,
    /// The obstacle that operators are shown.
    pub health: Health,
    /// The times.
    pub vigilance: Vigilance,
    /// True if a table that takes the place of another is installed on, as at the start.
    pub installs: bool,
}

/// Feeds every change that the database notifies, until nobody takes them any more: a beginning once a notification has
/// come back and the database is in order, then the changes, and a gap when the connection is lost or the triggers tell
/// nothing. The connection is opened again; the changes that were committed between the gap and the next beginning are
/// not fed.
pub async fn listen(listener: Listener, feed: Feed) {
    let random = RandomState::new();
    let mut known = Known::default();
    let mut failures = 0;
    let metrics = &listener.health.metrics().source;
    listener.store.served().iter().for_each(|served| metrics.set_table(&served.table.name, true));
    loop {
        let ended = Box::pin(Session::run(&listener, &feed, &mut known)).await;
        let Err(lost) = ended else { return };
        failures = if known.hears { 1 } else { failures + 1 };
        let delay = BACKOFF.after(failures, random.hash_one(Instant::now()));
        listener.health.set(Some(lost.obstacle()));
        metrics.lag.due(Instant::now());
        let (database, retry_ms) = (&listener.config, delay.as_millis());
        tracing::warn!(%database, reason = lost.told(database, listener.store.has_products()), retry_ms, "not listening to changes");
        if std::mem::take(&mut known.hears) && feed.send(SourceEvent::Gap).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(delay) => {}
            () = feed.closed() => return,
        }
    }
}

/// The reason for which a session ended before its time.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{}", chain(.0))]
    Database(#[from] Error),
    #[error(transparent)]
    Refused(StoreError),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Unreachable,
    #[error("no sign of life for {0:?}")]
    Silence(Duration),
    #[error("{advice} (none for {0:?})", advice = Obstacle::Deaf.advice())]
    Deaf(Duration),
    #[error("the table rowcast_stream is not as the migrations made it; restore its row")]
    Stream,
    #[error("the database closed the connection")]
    Closed,
    #[error("reads for the shards fail")]
    Anew,
    #[error("the message of change {0} was removed or replaced before it was read")]
    Removed(u64),
    #[error("the message of change {0} was not read: {1}")]
    Unread(u64, StoreError),
}

impl Lost {
    fn is_denied(&self) -> bool {
        match self {
            Self::Database(error) => error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            Self::Refused(error) | Self::Unread(_, error) => {
                matches!(error, StoreError::Refused { refusal: Refusal::Denied, .. })
            }
            _ => false,
        }
    }

    fn obstacle(&self) -> Obstacle {
        match self {
            Self::Deaf(_) => Obstacle::Deaf,
            Self::Stream => Obstacle::Epoch,
            _ if self.is_denied() => Obstacle::Rights,
            _ => Obstacle::Connection,
        }
    }

    fn told(&self, config: &PostgresConfig, has_products: bool) -> String {
        let grants = || grants(&config.role(), has_products);
        let rights = || format!("{self}; as the tables' owner, for the server: {}", grants());
        if self.is_denied() { rights() } else { self.to_string() }
    }
}
