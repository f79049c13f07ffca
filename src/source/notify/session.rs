//! One connection that listens: [`Session`].

mod tables;

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Socket};

use super::inspection::{Inspection, Verdict, inspect, listen, ping};
use super::notification::{MessageAt, Notification, Payload, parse};
use super::stored::Stored;
use super::tables::Watched;
use super::versions::Versions;
use super::{CONNECT_TIMEOUT, Feed, Listener, Lost, STATEMENT_TIMEOUT};
use crate::model::change::{Change, ChangeBody};
use crate::model::epoch::Epoch;
use crate::model::event::SourceEvent;
use crate::source::Obstacle;
use crate::store::StoreError;
use crate::store::postgres::tables::{InstalledTable, TableError, TableLook};
use crate::store::postgres::tls::TlsStream;

/// The most times that the message of an oversize change is asked for.
const OVERSIZE_TRIES: u32 = 3;
/// The least time between two looks at the database: writes that one table cannot tell may ask for one each.
const LOOK_PAUSE: Duration = Duration::from_millis(25);
/// The most characters of a foreign payload that the log shows.
const FOREIGN_SHOWN_MAX: usize = 80;

/// The knowledge that outlives a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// True from a beginning that was fed to the gap that is fed next.
    pub(super) hears: bool,
    /// The epoch that was fed last.
    epoch: Option<Epoch>,
    /// The greatest version that was heard in it, or read.
    floor: u64,
    /// The versions that were heard last in it.
    versions: Versions,
    /// True if two rows had one of them.
    is_given_twice: bool,
    /// The place up to which the database's log was on disk at the last look; 0: not known.
    flushed: u64,
    /// True if it was further at an earlier look: the database's files are of an earlier time.
    is_rewound: bool,
    /// The number of signs of life that were asked for, by which tables remember looks.
    proofs: u64,
    /// What was fed of each table beside products.
    tables: Vec<Watched>,
}

impl Known {
    /// Returns why an epoch may not be the one of what was heard, if that is to be doubted.
    fn doubt_of(&self, epoch: Epoch) -> Option<&'static str> {
        let reason = match (self.is_given_twice, self.is_rewound) {
            (true, _) => "the sequence of versions gave one a second time",
            (_, true) => "the database's files are of an earlier time than before",
            (false, false) => return None,
        };
        self.epoch.is_none_or(|known| known == epoch).then_some(reason)
    }
}

/// A statement on the listening connection, whose answer comes by way of its messages.
type Statement<'a> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send + 'a>>;

enum Answer {
    Listening,
    Alive,
}

/// The outcome of what another connection was asked.
enum Aside {
    /// The state of the database.
    Inspected(Result<Option<Inspection>, StoreError>),
    /// The greatest version of all rows.
    Greatest(Result<u64, StoreError>),
    /// The epoch that stands after the renewal of the other.
    Renewed(Epoch, Result<Epoch, StoreError>),
    /// Old rows were removed, or not.
    Kept(Result<(), StoreError>),
    /// A table, by its place, was noted.
    Noted(usize, Result<(), StoreError>),
    /// Rows of a table, by its place, could be read, or not.
    Tried(usize, Result<(), StoreError>),
    /// A table was prepared as this look found it.
    Prepared(usize, Box<(TableLook, Result<InstalledTable, TableError>)>),
}

/// A sign of life that was asked for.
struct Proof {
    number: u64,
    /// The greatest version that was known when it was asked for.
    floor: u64,
    is_heard: bool,
    inspection: Option<Inspection>,
    /// The time at which the answer to the inspection came: its notification was committed then.
    inspected_at: Option<Instant>,
}

impl Proof {
    /// Returns true if its notification was committed and is not heard.
    const fn is_due(&self) -> bool {
        self.inspection.is_some() && !self.is_heard
    }
}

/// A connection that listens, with what is known of it.
// Each says one thing, and they do not exclude each other.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Session<'a> {
    listener: &'a Listener,
    feed: &'a Feed,
    known: &'a mut Known,
    /// The sign of life that is due.
    proof: Option<Proof>,
    /// The time of the last message, or of the last question if that was later.
    heard_at: Instant,
    /// True once the rows' versions have been compared with the sequence, as far as they can be.
    is_compared: bool,
    asides: JoinSet<Aside>,
    is_keeping_house: bool,
    is_renewing: bool,
    /// The time of the last look at the database.
    looked_at: Instant,
    /// True if another is wanted before its time.
    is_look_due: bool,
    /// The tables about which something is being done.
    busy: BTreeSet<usize>,
}

/// The wish for no further event.
struct Unwanted;

impl<'a> Session<'a> {
    /// Serves one connection, from its opening until it is lost, or until the feed's receiver is gone.
    pub(super) async fn run(listener: &'a Listener, feed: &'a Feed, known: &'a mut Known) -> Result<(), Lost> {
        let connecting = timeout(CONNECT_TIMEOUT, listener.config.connect_listener());
        let (client, connection) = connecting.await.map_err(|_| Lost::Unreachable)??;
        let mut session = Self {
            listener,
            feed,
            known,
            proof: None,
            heard_at: Instant::now(),
            is_compared: false,
            asides: JoinSet::new(),
            is_keeping_house: false,
            is_renewing: false,
            looked_at: Instant::now(),
            is_look_due: false,
            busy: BTreeSet::new(),
        };
        session.known.tables.resize_with(listener.store.served().iter().count(), Watched::default);
        session.serve(&client, connection).await
    }

    async fn serve(&mut self, client: &Client, mut connection: Connection<Socket, TlsStream>) -> Result<(), Lost> {
        let vigilance = self.listener.vigilance;
        let settings = self.listener.config.settings(STATEMENT_TIMEOUT);
        let mut statement: Option<Statement<'_>> =
            Some(Box::pin(async move { listen(client, &settings).await.map(|()| Answer::Listening) }));
        // One for all of the session: what is asked for while something else is seen to is not missed.
        let mut asked_anew = pin!(self.listener.store.asked_to_listen_anew());
        let (mut proving, mut keeping) = (ticks(vigilance.proof_interval), ticks(vigilance.house_interval));
        loop {
            let is_due = statement.is_some() || self.proof.as_ref().is_some_and(Proof::is_due);
            let outcome = tokio::select! {
                message = next_message(&mut connection) => {
                    let outcome = match message? {
                        Some(payload) => self.hear(payload).await?,
                        None => Ok(()),
                    };
                    // Not before it was taken: meanwhile nothing is heard.
                    self.heard_at = Instant::now();
                    outcome
                }
                answer = answer(&mut statement), if statement.is_some() => {
                    statement = None;
                    self.heard_at = Instant::now();
                    self.answered(&answer?);
                    Ok(())
                }
                Some(Ok(aside)) = self.asides.join_next() => self.concluded(aside).await?,
                _ = proving.tick(), if statement.is_none() && self.proof.is_none() && self.is_compared => {
                    self.ask_for_proof();
                    statement = Some(Box::pin(async move { ping(client).await.map(|()| Answer::Alive) }));
                    Ok(())
                }
                _ = keeping.tick(), if !self.is_keeping_house && self.is_compared => {
                    self.keep_house();
                    Ok(())
                }
                () = sleep_until(self.heard_at + vigilance.silence_max), if is_due => {
                    let silence = vigilance.silence_max;
                    return Err(if statement.is_some() { Lost::Silence(silence) } else { Lost::Deaf(silence) });
                }
                () = self.listener.store.asked_to_look() => {
                    self.is_look_due = true;
                    Ok(())
                }
                () = &mut asked_anew => return Err(Lost::Anew),
                () = self.feed.closed() => return Ok(()),
            };
            if outcome.is_err() || self.judge().await.is_err() {
                return Ok(());
            }
            if self.proof.is_none() && std::mem::take(&mut self.is_look_due) {
                proving.reset_at(Instant::now().max(self.looked_at + LOOK_PAUSE));
            }
        }
    }

    /// Has another connection ask for a sign of life.
    fn ask_for_proof(&mut self) {
        self.known.proofs += 1;
        self.heard_at = Instant::now();
        self.looked_at = self.heard_at;
        let (number, floor) = (self.known.proofs, self.known.floor);
        self.proof = Some(Proof { number, floor, is_heard: false, inspection: None, inspected_at: None });
        let (store, proof) = (self.listener.store.clone(), format!("proof {} {number}", self.listener.store.server()));
        self.asides.spawn(async move { Aside::Inspected(inspect(&store, &proof).await) });
    }

    fn answered(&mut self, answer: &Answer) {
        if matches!(answer, Answer::Listening) {
            let store = self.listener.store.clone();
            self.asides.spawn(async move { Aside::Greatest(store.greatest_version().await) });
        }
    }

    fn keep_house(&mut self) {
        self.is_keeping_house = true;
        let (store, tombstone_age) = (self.listener.store.clone(), self.listener.vigilance.tombstone_age);
        self.asides.spawn(async move { Aside::Kept(store.keep_house(tombstone_age).await) });
    }

    async fn concluded(&mut self, aside: Aside) -> Result<Result<(), Unwanted>, Lost> {
        match aside {
            Aside::Inspected(Ok(None)) => return Err(Lost::Stream),
            Aside::Inspected(Ok(inspection)) => {
                self.heard_at = Instant::now();
                self.inspected(inspection);
            }
            // The connections of the pool may all be taken; whether this one lives, it says itself.
            Aside::Inspected(Err(StoreError::Unavailable(error))) => {
                self.proof = None;
                tracing::warn!(error, "the state of the database was not looked at");
            }
            Aside::Inspected(Err(error)) => return Err(Lost::Refused(error)),
            Aside::Greatest(greatest) => {
                self.is_compared = true;
                match greatest {
                    Ok(version) => self.known.floor = self.known.floor.max(version),
                    Err(error) => tracing::warn!(%error, "the rows' versions were not compared with the sequence"),
                }
            }
            Aside::Kept(kept) => {
                self.is_keeping_house = false;
                if let Err(error) = kept {
                    tracing::warn!(%error, "old rows were not removed");
                }
            }
            Aside::Noted(place, noted) => {
                self.busy.remove(&place);
                match noted {
                    Ok(()) => self.is_look_due = true,
                    Err(error) => tracing::error!(%error, "a table could not be noted; it is tried again"),
                }
            }
            Aside::Tried(place, tried) => {
                self.busy.remove(&place);
                // If not, the next look has it tried again.
                if tried.is_ok() {
                    self.known.tables[place].readable();
                    self.is_look_due = true;
                }
            }
            Aside::Prepared(place, prepared) => {
                let (look, prepared) = *prepared;
                self.table_prepared(place, &look, prepared);
            }
            Aside::Renewed(before, Ok(epoch)) => {
                self.is_renewing = false;
                self.listener.health.metrics().source.epochs_begun.inc();
                tracing::warn!(%before, %epoch, "a new history of versions began");
            }
            Aside::Renewed(before, Err(error)) => {
                self.is_renewing = false;
                tracing::error!(%before, %error, "a new history of versions could not be begun; it is tried again");
                return Ok(self.obstructed(Obstacle::Epoch).await);
            }
        }
        Ok(Ok(()))
    }

    /// Takes the state of the database, in whose transaction the proof was notified.
    fn inspected(&mut self, inspection: Option<Inspection>) {
        let (Some(proof), Some(inspection)) = (&mut self.proof, inspection) else { return };
        let metrics = &self.listener.health.metrics().source;
        metrics.set_notification_queue(inspection.notification_queue);
        if !proof.is_heard {
            metrics.lag.due(self.heard_at.into_std());
        }
        proof.inspection = Some(inspection);
        proof.inspected_at = Some(self.heard_at);
    }

    /// Takes the proof with this number, if it is the one that was asked for.
    fn hear_proof(&mut self, number: u64) {
        let Some(proof) = self.proof.as_mut().filter(|proof| proof.number == number) else { return };
        proof.is_heard = true;
        let metrics = &self.listener.health.metrics().source;
        metrics.barrier_heard();
        metrics.lag.came(proof.inspected_at.map_or(Duration::ZERO, |at| at.elapsed()));
    }

    /// Concludes from a proof that is complete.
    async fn judge(&mut self) -> Result<(), Unwanted> {
        let complete = self.proof.take_if(|proof| proof.is_heard && proof.inspection.is_some());
        let Some(Proof { number, floor, inspection: Some(inspection), .. }) = complete else { return Ok(()) };
        let told = self.known.epoch.filter(|_| self.known.hears);
        self.known.is_rewound |= inspection.flushed.is_some_and(|flushed| flushed < self.known.flushed);
        self.known.flushed = inspection.flushed.unwrap_or(0);
        match inspection.verdict(floor, told) {
            Verdict::Sound(epoch) if let Some(reason) = self.known.doubt_of(epoch) => {
                self.renew(epoch, reason);
                Ok(())
            }
            Verdict::Sound(epoch) => {
                self.listener.health.set(None);
                // Before the first beginning, so that what is read then is read with the right versions. An epoch of all ends
                // those of tables.
                let is_new_epoch = self.known.epoch.is_some_and(|known| known != epoch);
                if !self.known.hears {
                    tracing::info!(database = %self.listener.config, %epoch, "listening to changes");
                    if is_new_epoch {
                        self.begin(epoch).await?;
                    }
                }
                self.conclude_tables(&inspection.tables, number, epoch).await?;
                if self.known.hears { Ok(()) } else { self.begin(epoch).await }
            }
            Verdict::Off(triggers) => {
                if self.listener.health.obstacle() != Some(Obstacle::Triggers) {
                    tracing::error!(triggers, "{}", Obstacle::Triggers.advice());
                }
                self.obstructed(Obstacle::Triggers).await
            }
            Verdict::Replaced(epoch, reason) => {
                self.renew(epoch, reason);
                Ok(())
            }
        }
    }

    /// Has a new epoch of all begin in the place of this one, for this reason.
    fn renew(&mut self, epoch: Epoch, reason: &str) {
        if !std::mem::replace(&mut self.is_renewing, true) {
            tracing::warn!(%epoch, reason, "the history of versions was replaced");
            let (store, floor) = (self.listener.store.clone(), self.known.floor);
            self.asides.spawn(async move { Aside::Renewed(epoch, store.renew_epoch(epoch, floor).await) });
        }
    }

    async fn begin(&mut self, epoch: Epoch) -> Result<(), Unwanted> {
        if self.known.epoch != Some(epoch) {
            if self.known.epoch.replace(epoch).is_some() {
                self.known.tables.iter_mut().for_each(Watched::epoch_of_all);
            }
            self.known.floor = 0;
            (self.known.is_given_twice, self.known.is_rewound) = (false, false);
            self.known.versions.forget();
        }
        self.known.hears = true;
        self.send(SourceEvent::Began(epoch)).await
    }

    /// Shows the obstacle, and tells the gap that it makes.
    async fn obstructed(&mut self, obstacle: Obstacle) -> Result<(), Unwanted> {
        self.listener.health.set(Some(obstacle));
        if std::mem::take(&mut self.known.hears) { self.send(SourceEvent::Gap).await } else { Ok(()) }
    }

    /// Takes a notification.
    async fn hear(&mut self, payload: String) -> Result<Result<(), Unwanted>, Lost> {
        Ok(match parse(&payload) {
            Some(Payload::Change(notification)) => {
                self.hear_version(notification.version, (0, notification.product_id));
                if !self.listener.store.has_products() {
                    return Ok(Ok(()));
                }
                self.forward(notification, payload).await?
            }
            Some(Payload::Epoch(epoch)) if self.known.hears && self.known.epoch != Some(epoch) => {
                self.begin(epoch).await
            }
            Some(Payload::Barrier(mark)) => match self.end_gaps().await {
                Ok(()) if mark.server == self.listener.store.server() => {
                    self.send(SourceEvent::Barrier(mark.number)).await
                }
                outcome => outcome,
            },
            Some(Payload::Proof(mark)) => {
                if mark.server == self.listener.store.server() {
                    self.hear_proof(mark.number);
                }
                self.end_gaps().await
            }
            Some(Payload::Table(payload)) => self.hear_table(payload).await?,
            Some(Payload::TableBegan(name)) => {
                self.is_look_due |= self.listener.store.served().iter().any(|served| *served.table.name == *name);
                Ok(())
            }
            // The epoch that is known.
            Some(_) => Ok(()),
            None => {
                let payload: String = payload.chars().take(FOREIGN_SHOWN_MAX).collect();
                tracing::warn!(payload, "skipped a notification that nothing of Rowcast sent");
                Ok(())
            }
        })
    }

    /// Takes note of the version of a row's change, or of its deletion.
    fn hear_version(&mut self, version: u64, row: impl Hash) {
        self.known.floor = self.known.floor.max(version);
        if self.known.versions.give(version, row) && !std::mem::replace(&mut self.known.is_given_twice, true) {
            self.is_look_due = true;
        }
    }

    /// Feeds the change that a payload tells of. One whose message cannot be had is lost, and its row is to be read.
    async fn forward(&self, notification: Notification, payload: String) -> Result<Result<(), Unwanted>, Lost> {
        let (is_whole, message) = match notification.message {
            MessageAt::Payload => (true, payload),
            MessageAt::Nowhere => (false, payload),
            MessageAt::Table => (true, self.oversize_message(notification.version).await?.of_product(&notification)?),
        };
        let change = Change {
            subject: notification.product_id.subject(),
            version: notification.version,
            body: ChangeBody::Encoded(message),
            is_whole,
            committed_at: std::time::Instant::now(),
        };
        Ok(self.send(SourceEvent::Change(change)).await)
    }

    /// Returns the message that stands under the version of an oversize change.
    async fn oversize_message(&self, version: u64) -> Result<Stored, Lost> {
        let mut tries = 1;
        loop {
            match self.listener.store.oversize_message(version).await {
                Ok(message) => return message.map(Stored).ok_or(Lost::Removed(version)),
                Err(error) if tries < OVERSIZE_TRIES => {
                    tries += 1;
                    tracing::warn!(version, %error, "a change was not read");
                }
                Err(error) => return Err(Lost::Unread(version, error)),
            }
        }
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Unwanted> {
        self.feed.send(event).await.map_err(|_| Unwanted)
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn answer(statement: &mut Option<Statement<'_>>) -> Result<Answer, Error> {
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
