//! The handles of a client: [`Client`], [`Subscription`].

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use rustls::ClientConfig;
use tokio::sync::{Notify, watch};

use crate::core::{Core, State, Status};
use crate::error::Error;
use crate::event::{Entry, Event, Row};
use crate::key::Key;
use crate::rows::Rows;
use crate::run::run;
use crate::server::Server;
use crate::table::Follower;
use crate::token::Token;

/// The options of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// The token, where the server wants one: a text, or [`Token::from_fn`]. [`Client::set_token`] sets another.
    pub token: Option<Token>,
    /// TLS, under `wss://` and `https://`; by default that which trusts what the system does.
    pub tls: Option<Arc<ClientConfig>>,
    /// The silence after which a server is asked whether it is there (30 s); it has a third of that to answer.
    pub silence: Duration,
    /// True if the server runs with `--slow-consumer drop`: what it says to have skipped is asked for anew.
    pub loses_changes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { token: None, tls: None, silence: Duration::from_secs(30), loses_changes: false }
    }
}

/// What the handles and the connection share. The core is locked for as long as something is taken or told, no longer.
pub(crate) struct Shared {
    core: Mutex<Core>,
    statuses: watch::Sender<Status>,
    /// Wakes the connection: there is something to say, or nothing more, or will be at another time.
    pub(crate) changed: Notify,
    /// Wakes whoever reads the rows that are owed.
    pub(crate) owed: Notify,
    /// Wakes whoever gives the server tokens.
    pub(crate) renewed: Notify,
    /// True once the socket is closed for good.
    pub(crate) is_over: watch::Sender<bool>,
}

impl Shared {
    fn new(core: Core) -> Self {
        let (statuses, is_over) = (watch::Sender::default(), watch::Sender::new(false));
        let [changed, owed, renewed] = [(); 3].map(|()| Notify::new());
        Self { core: Mutex::new(core), statuses, changed, owed, renewed, is_over }
    }

    /// Does something with the core, and wakes whom it concerns.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let wake_at = core.wake_at();
        let result = work(&mut core);
        let has_news = core.has_news() || core.wake_at() != wake_at;
        let (is_owed, woken) = (core.is_owed(), core.woken());
        let status = core.status();
        // In the order of the states.
        self.statuses.send_if_modified(|told| {
            let is_other = *told != status;
            *told = status;
            is_other
        });
        drop(core);
        if has_news {
            self.changed.notify_one();
        }
        if is_owed {
            self.owed.notify_one();
        }
        // Not under the lock: what is woken, or dropped by that, may take it.
        woken.into_iter().for_each(Waker::wake);
        result
    }
}

/// Ends the client with the last of its handles.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(|core| core.end(None));
    }
}

/// A client of a server: it connects, and comes back by itself. Clones are handles of the same one; it ends when they
/// and all subscriptions are dropped.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

impl Client {
    /// Returns a client of this server, which connects at once. [`Options::tls`] is the server's already.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(server: Server, options: Options) -> Self {
        let Options { token, silence, loses_changes, tls: _ } = options;
        let shared = Arc::new(Shared::new(Core::new(token, loses_changes)));
        tokio::spawn(run(Arc::clone(&shared), server, silence));
        Self(Arc::new(Handle(shared)))
    }

    /// Follows rows: returns the stream of what they are and become. It is told first what others follow already.
    #[must_use = "it ends when it is dropped"]
    pub fn subscribe(&self, rows: Rows) -> Subscription {
        let number = self.shared().with(|core| core.subscribe(rows));
        Subscription { number, handle: Arc::clone(&self.0) }
    }

    /// Sets another token. The server is given it at once, by the connection that is open, or by another where that or
    /// the server does not allow for it.
    ///
    /// Rows that it does not grant are told as [`Absent`](crate::Action::Absent), and [`Event::Refused`] to whoever
    /// named them; all rows of a table that it grants others of are [`Event::Stale`] until those have come; what was
    /// forbidden before is asked for again. One that an open connection's server does not take is [`Status::problem`],
    /// as is one that cannot be had, and the one before counts until it expires.
    pub fn set_token(&self, token: impl Into<Token>) {
        self.shared().with(|core| core.set_token(token.into()));
        self.shared().renewed.notify_one();
    }

    /// Returns a row, as far as somebody follows it here; none if it does not exist, or is not known yet.
    #[must_use]
    pub fn get(&self, table: &str, key: impl Into<Key>) -> Option<Row> {
        let key = key.into();
        self.shared().with(|core| core.get(table, &key))
    }

    /// Returns the rows of a table that are followed here, in the order of their keys.
    #[must_use]
    pub fn rows(&self, table: &str) -> Vec<Entry> {
        self.shared().with(|core| core.rows(table))
    }

    /// Returns whether what is known of a table is its present state, as far as the server knows.
    #[must_use]
    pub fn is_live(&self, table: &str) -> bool {
        self.shared().with(|core| core.is_live(table))
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> State {
        self.status().state
    }

    /// Returns the state, and what is in the way of a better one.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared().statuses.borrow().clone()
    }

    /// Returns the states from here on: the newest one is always there.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Status> {
        self.shared().statuses.subscribe()
    }

    /// Ends everything: subscriptions tell what waits, and end. What was known stays readable.
    pub fn close(&self) {
        self.shared().with(|core| core.end(None));
    }

    /// Waits until it has ended and its socket is closed. Returns the reason, unless it was asked to.
    pub async fn closed(&self) -> Option<Error> {
        let _ = self.shared().is_over.subscribe().wait_for(|is_over| *is_over).await;
        self.status().problem
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.status()).finish()
    }
}

/// The stream of what happens to the rows that were subscribed to; dropped, it ends that. Whoever reads it slowly holds
/// nobody up, and is told of each row the newest state: beyond 64 changes one at most waits of each row.
pub struct Subscription {
    number: Follower,
    handle: Arc<Handle>,
}

impl Subscription {
    /// Returns the next event; none once the client has ended, whose [`Client::status`] has the reason. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.handle.0.with(|core| core.poll_event(self.number, context.waker()))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.0.with(|core| core.unsubscribe(self.number));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.number).finish()
    }
}
