//! Changes from Postgres, by `LISTEN` and `NOTIFY`: [`listen`].
//! <https://www.postgresql.org/docs/15/sql-notify.html>
//!
//! The connection is driven by [`Connection::poll_message`], one notification after the other. While ingest takes no
//! more, nothing is polled: then the sockets' buffers fill, and Postgres keeps the rest in its notification queue. No
//! time limit runs meanwhile, so that a server that is behind is not taken for a database that is gone.

mod housekeeping;
pub mod notification;

use std::collections::hash_map::RandomState;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Socket};

use self::housekeeping::keep_house;
use self::notification::{MessageAt, Notification, parse};
use crate::model::change::{Change, ChangeBody};
use crate::model::epoch::Epoch;
use crate::model::event::SourceEvent;
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::tls::TlsStream;
use crate::store::postgres::{PostgresStore, chain};

const CHANNEL: &str = "product_change";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The most times that the message of an oversize change is asked for.
const OVERSIZE_TRIES: u32 = 3;

/// The most characters of a foreign payload that the log shows.
const FOREIGN_SHOWN_MAX: usize = 80;

/// The times after which a connection that says nothing is taken for dead.
#[derive(Clone, Copy, Debug)]
pub struct Vigilance {
    /// The interval at which the connection has to prove itself alive, which it does by keeping house.
    pub proof_interval: Duration,
    /// The longest time for which the database may say nothing at all while an answer is due.
    pub silence_max: Duration,
}

impl Vigilance {
    /// A server's times: within 90 s of silence it knows.
    pub const DEFAULT: Self = Self { proof_interval: Duration::from_mins(1), silence_max: Duration::from_secs(20) };
}

const _: () = {
    let Vigilance { proof_interval, silence_max } = Vigilance::DEFAULT;
    assert!(proof_interval.as_secs() + silence_max.as_secs() <= 90);
    // A database that is busy keeping house is not dead.
    assert!(silence_max.as_secs() > housekeeping::STATEMENTS as u64 * housekeeping::STATEMENT_TIMEOUT.as_secs());
};

/// The channel of the source's events, which keeps their order.
type Feed = mpsc::Sender<SourceEvent>;

/// Feeds every change that the database notifies, until nobody takes them any more: a beginning once `LISTEN`
/// was answered, then the changes, and a gap when the connection is lost. It is opened again; the changes that were
/// committed between the gap and the next beginning are not fed.
pub async fn listen(config: PostgresConfig, store: PostgresStore, feed: Feed) {
    listen_with(config, store, feed, Vigilance::DEFAULT).await;
}

/// Does as [`listen`], with another vigilance.
pub async fn listen_with(config: PostgresConfig, store: PostgresStore, feed: Feed, vigilance: Vigilance) {
    let random = RandomState::new();
    let epoch = Epoch::random();
    let mut failures = 0;
    loop {
        let mut hears = false;
        let ended = Box::pin(session(&config, &store, &feed, vigilance, epoch, &mut hears)).await;
        let Err(lost) = ended else { return };
        failures = if hears { 1 } else { failures + 1 };
        let delay = backoff(failures, random.hash_one(Instant::now()));
        let retry_ms = delay.as_millis();
        tracing::warn!(database = %config, reason = %lost, retry_ms, "not listening to changes");
        if hears && feed.send(SourceEvent::Gap).await.is_err() {
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
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Unreachable,
    #[error("no sign of life for {0:?}")]
    Silence(Duration),
    #[error("the database closed the connection")]
    Closed,
}

/// Serves one connection, from its opening until it is lost, or until the feed's receiver is gone. Sets `hears` with
/// its beginning: every loss after that is a gap.
async fn session(
    config: &PostgresConfig,
    store: &PostgresStore,
    feed: &Feed,
    vigilance: Vigilance,
    epoch: Epoch,
    hears: &mut bool,
) -> Result<(), Lost> {
    let Vigilance { proof_interval, silence_max } = vigilance;
    let (client, mut connection) =
        timeout(CONNECT_TIMEOUT, config.connect()).await.map_err(|_| Lost::Unreachable)??;
    // The one statement whose answer is due, if any. Its answer too comes by way of `next_message`.
    let mut statement: Option<Statement<'_>> = Some(Box::pin(begin(&client)));
    let mut housekeeping = interval(proof_interval);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = next_message(&mut connection) => {
                let wanted = match message? {
                    Some(payload) => forward(payload, store, feed).await,
                    None => true,
                };
                if !wanted {
                    return Ok(());
                }
            }
            answer = answer(&mut statement), if statement.is_some() => {
                answer?;
                statement = None;
                // The first answer is that of `LISTEN`.
                if !*hears {
                    *hears = true;
                    tracing::info!(database = %config, "listening to changes");
                    if feed.send(SourceEvent::Began(epoch)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            _ = housekeeping.tick(), if statement.is_none() => statement = Some(Box::pin(keep_house(&client))),
            // Begins anew with every message.
            () = sleep(silence_max), if statement.is_some() => return Err(Lost::Silence(silence_max)),
            () = feed.closed() => return Ok(()),
        }
    }
}

async fn begin(client: &Client) -> Result<(), Error> {
    let timeout_ms = housekeeping::STATEMENT_TIMEOUT.as_millis();
    client.batch_execute(&format!("SET statement_timeout = {timeout_ms}; LISTEN {CHANNEL}")).await
}

type Statement<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

async fn answer(statement: &mut Option<Statement<'_>>) -> Result<(), Error> {
    match statement {
        Some(statement) => statement.await,
        None => std::future::pending().await,
    }
}

/// Returns the payload of the next notification, or `None` for a message of another kind.
async fn next_message(connection: &mut Connection<Socket, TlsStream>) -> Result<Option<String>, Lost> {
    match poll_fn(|context| connection.poll_message(context)).await {
        Some(Ok(AsyncMessage::Notification(notification))) => Ok(Some(notification.payload().to_owned())),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(error.into()),
        None => Err(Lost::Closed),
    }
}

/// Feeds the change that a payload tells of, and returns true while changes are wanted.
async fn forward(payload: String, store: &PostgresStore, feed: &Feed) -> bool {
    let Some(notification) = parse(&payload) else {
        let payload: String = payload.chars().take(FOREIGN_SHOWN_MAX).collect();
        tracing::warn!(payload, "skipped a notification that no trigger of products sent");
        return true;
    };
    let (is_whole, message) = match notification.message {
        MessageAt::Payload => (true, payload),
        MessageAt::Nowhere => (false, payload),
        MessageAt::Table => match oversize_message(notification, store).await {
            Some(message) => (true, message),
            None => (false, with_id_alone(&payload)),
        },
    };
    let change = Change {
        product_id: notification.product_id,
        version: notification.version,
        body: ChangeBody::Encoded(message),
        is_whole,
        committed_at: Instant::now(),
    };
    feed.send(SourceEvent::Change(change)).await.is_ok()
}

/// Returns the message of an oversize change, or `None` where it cannot be had.
async fn oversize_message(notification: Notification, store: &PostgresStore) -> Option<String> {
    for _ in 0..OVERSIZE_TRIES {
        match store.oversize_message(notification.version).await {
            Ok(Some(message)) => return Some(message),
            Ok(None) => {
                tracing::warn!(version = notification.version, "a change was removed before it was read");
                break;
            }
            Err(error) => tracing::warn!(version = notification.version, %error, "a change was not read"),
        }
    }
    None
}

/// Rewrites `{…,"productId":1}` as `{…,"product":{"productId":1}}`.
fn with_id_alone(short: &str) -> String {
    short.replace(r#""productId":"#, r#""product":{"productId":"#) + "}"
}

/// Returns the wait after so many failures in a row: twice as long each time, less a random part of up to a quarter.
fn backoff(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    let most = (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MAX);
    let percent = u32::try_from(random % 26).expect("a remainder of 26 is small");
    most * (100 - percent) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_its_bound_and_differs_between_servers() {
        for (failures, most) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (u32::MAX, 10)] {
            let most = Duration::from_secs(most);
            assert_eq!(backoff(failures, 0), most);
            for random in [1, 77, u64::MAX] {
                let delay = backoff(failures, random);
                assert!(delay < most && delay >= most * 3 / 4, "{delay:?} of {most:?}");
            }
        }
    }

    #[test]
    fn a_message_that_is_gone_still_tells_which_product_changed() {
        assert_eq!(
            with_id_alone(r#"{"action":"UPDATE","version":42,"productId":1}"#),
            r#"{"action":"UPDATE","version":42,"product":{"productId":1}}"#
        );
    }
}
