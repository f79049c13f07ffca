//! The task of a client: the connection that comes back by itself ([`run`]).

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until, timeout};

use crate::backoff::delay;
use crate::client::Shared;
use crate::core::Core;
use crate::error::Error;
use crate::message::Message;
use crate::reads::read_owed;
use crate::server::Server;
use crate::socket::{self, Incoming, Reader, Socket, Writer};
use crate::token::Token;

/// The time that a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The time that a server has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects, and comes back, until the client ends or another try would not help.
pub(crate) async fn run(shared: Arc<Shared>, server: Server, silence: Duration) {
    let life = Life { shared, server, silence, random: RandomState::new() };
    let mut attempts = 0;
    while !life.is_ended() {
        life.shared.with(Core::connecting);
        let lost = life.connect_and_follow().await;
        if life.is_ended() {
            break;
        }
        let (is_settled, hint) = life.shared.with(|core| (core.is_settled(), core.hint()));
        attempts = if is_settled { 0 } else { attempts };
        if let Some(end) = life.end_of(&lost) {
            life.shared.with(|core| core.end(Some(end)));
            break;
        }
        // A token that has expired is no trouble of the server's.
        let hint = hint.or_else(|| (lost.is_expiry() && attempts == 0).then_some(Duration::ZERO));
        let wait = hint.unwrap_or_else(|| delay(attempts, lost.code(), life.chance()));
        attempts += 1;
        life.rest(lost, Instant::now() + wait).await;
    }
    life.shared.is_over.send_replace(true);
}

struct Life {
    shared: Arc<Shared>,
    server: Server,
    silence: Duration,
    random: RandomState,
}

impl Life {
    fn is_ended(&self) -> bool {
        self.shared.with(|core| core.is_ended())
    }

    /// Returns a number from 0 to 1.
    fn chance(&self) -> f64 {
        let random = u32::try_from(self.random.hash_one(Instant::now()) >> 32).unwrap_or(0);
        f64::from(random) / f64::from(u32::MAX)
    }

    /// Forgets a token that is not good. Returns the reason to end if another try would not help.
    fn end_of(&self, lost: &Error) -> Option<Error> {
        if !lost.is_of_token() {
            return lost.is_final().then(|| lost.clone());
        }
        let may_have_another = self.shared.with(Core::forget_token);
        (!may_have_another).then(|| if lost.is_expiry() { Error::TokenExpired } else { lost.clone() })
    }

    /// Waits for the next attempt, or the end.
    async fn rest(&self, lost: Error, until: Instant) {
        self.shared.with(|core| core.lost(lost, Some(until)));
        tokio::select! {
            () = sleep_until(until.into()) => {}
            () = until_called(&self.shared) => {}
        }
    }

    /// Returns the reason for which it is not connected any more.
    async fn connect_and_follow(&self) -> Error {
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = until_called(&self.shared) => return Error::Lost("it was called off".to_owned()),
        };
        match opened {
            Ok(socket) => self.follow(socket).await,
            Err(error) => error,
        }
    }

    async fn open(&self) -> Result<Socket, Error> {
        if let Some(source) = self.shared.with(|core| core.tokens().for_handshake()) {
            let token = ask(&source).await?;
            self.shared.with(|core| core.tokens().take(token.into()));
        }
        let token = self.shared.with(|core| core.tokens().good());
        socket::open(&self.server, token.as_deref()).await
    }

    async fn follow(&self, socket: Socket) -> Error {
        let (reader, writer) = socket.split();
        let line = Line { shared: &self.shared, heard: Mutex::new(Heard { at: Instant::now(), ping: None }) };
        self.shared.with(|core| core.opened(Instant::now()));
        tokio::select! {
            biased;
            lost = line.read(reader, &self.server) => lost,
            lost = line.write(writer, self.silence) => lost,
            never = read_owed(&self.shared, &self.server) => match never {},
            never = renew(&self.shared) => match never {},
        }
    }
}

/// Returns a token of a source.
async fn ask(source: &Token) -> Result<String, Error> {
    let asked = timeout(TOKEN_TIMEOUT, source.ask()).await;
    asked.unwrap_or_else(|_| Err("it does not come".to_owned())).map_err(Error::Token)
}

/// Has the server given a token of each source that is set, for as long as it is polled.
async fn renew(shared: &Shared) -> Infallible {
    loop {
        match shared.with(|core| core.tokens().for_renewal()) {
            Some(source) => {
                let token = ask(&source).await;
                shared.with(|core| core.renew(token));
            }
            None => shared.renewed.notified().await,
        }
    }
}

/// Waits, without a connection, until the client ends or is to connect at once. Nobody hears the commands, but what
/// nobody follows is forgotten.
async fn until_called(shared: &Shared) {
    while !shared.with(|core| {
        core.commands();
        core.is_ended() || core.wants_handshake()
    }) {
        shared.changed.notified().await;
    }
}

/// An open connection. It is read and written at once, and neither is broken off.
struct Line<'a> {
    shared: &'a Shared,
    heard: Mutex<Heard>,
}

struct Heard {
    /// The time at which anything came last.
    at: Instant,
    /// The ping to be answered.
    ping: Option<Vec<u8>>,
}

impl Line<'_> {
    fn heard<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(&self, mut reader: Reader, server: &Server) -> Error {
        loop {
            let incoming = match reader.read().await {
                Ok(incoming) => incoming,
                Err(lost) => return lost,
            };
            let now = Instant::now();
            self.heard(|heard| heard.at = now);
            match incoming {
                Incoming::Text(text) => match Message::parse(&text) {
                    Ok(message) => self.shared.with(|core| core.take(message, now)),
                    Err(error) => return Error::Protocol { server: server.name(), reason: error.to_string() },
                },
                Incoming::Ping(payload) => {
                    self.heard(|heard| heard.ping = Some(payload));
                    self.shared.changed.notify_one();
                }
                Incoming::Other => {}
            }
        }
    }

    /// Says what there is to say, until the connection is lost or the client has ended.
    async fn write(&self, mut writer: Writer, silence: Duration) -> Error {
        let mut asked_at = None;
        loop {
            if let Err(lost) = self.say(&mut writer).await {
                return lost;
            }
            if self.shared.with(|core| core.is_ended() || core.wants_handshake()) {
                return leave(writer).await;
            }
            let (wake_at, is_owed) = self.shared.with(|core| (core.wake_at(), core.is_owed_a_reply()));
            let heard_at = self.heard(|heard| heard.at);
            let silent_at = match asked_at {
                Some(asked_at) if asked_at > heard_at => asked_at + silence / 3,
                // A server that is busy with an answer is not asked for another.
                _ if is_owed => heard_at + silence * 2,
                _ => heard_at + silence,
            };
            let until = wake_at.map_or(silent_at, |wake_at| wake_at.min(silent_at));
            tokio::select! {
                () = self.shared.changed.notified() => continue,
                () = sleep_until(until.into()) => {}
            }
            let now = Instant::now();
            self.shared.with(|core| core.tick(now));
            if now < silent_at || self.heard(|heard| heard.at) != heard_at {
                continue;
            }
            if is_owed || asked_at.is_some_and(|asked_at| asked_at > heard_at) {
                return Error::Lost("nothing is heard of the server".to_owned());
            }
            asked_at = Some(now);
            if let Err(lost) = writer.ping().await {
                return lost;
            }
        }
    }

    async fn say(&self, writer: &mut Writer) -> Result<(), Error> {
        if let Some(payload) = self.heard(|heard| heard.ping.take()) {
            writer.pong(payload).await?;
        }
        for command in self.shared.with(Core::commands) {
            writer.text(&command).await?;
        }
        writer.flush().await
    }
}

/// Closes; the answer ends the half that is read.
async fn leave(mut writer: Writer) -> Error {
    if let Err(lost) = writer.close().await {
        return lost;
    }
    sleep(CLOSE_TIMEOUT).await;
    Error::Lost("the server does not answer a close".to_owned())
}
