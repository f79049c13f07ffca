//! A reader in a terminal: shows rows and their changes, comes back when its connection is lost, and tells then what
//! it knows, so that it gets what it missed ([`watch`]).

pub mod message;
pub mod replica;
pub mod show;
pub mod socket;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

use self::message::{Message, Refused};
use self::replica::{Effect, Replica, Rows, Watched};
use self::show::{Format, Show};
use self::socket::{Lost, Server, Socket};
use crate::backoff::Backoff;
use crate::model::key::Key;

/// The messages that wait to be shown; while there is no room, nothing is read.
const MESSAGES_WAITING_MAX: usize = 256;
/// The interval at which a table is drawn again, if anything changed.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(10) };
/// The code of a server whose token has expired.
const TOKEN_EXPIRED: u16 = 4401;
/// The code of a refusal of some rows, beside which the others are told.
const FORBIDDEN: &str = "forbidden";

/// The options of a watcher.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The server.
    pub server: Server,
    /// The rows.
    pub watched: Watched,
    /// The form of the output.
    pub format: Format,
    /// True if it ends once the present state is shown.
    pub once: bool,
    /// True if a table is drawn again at each change.
    pub follows: bool,
}

/// Watches until the output is closed; once, until the present state is shown.
///
/// # Errors
/// A sentence for the user, where another try would not help: the server refuses, or was never there.
pub async fn watch(config: WatchConfig, out: impl Write) -> anyhow::Result<()> {
    let follows = config.follows && !config.once;
    let mut watcher = Watcher {
        replica: Replica::new(config.watched.clone()),
        show: Show::new(config.format, out, follows),
        changed: true,
        config,
    };
    let random = RandomState::new();
    let mut failures = 0;
    let mut was_open = false;
    loop {
        let lost = match watcher.connect_and_follow(&mut was_open, &mut failures).await {
            Ok(()) => return Ok(()),
            Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(Ended::Output(error)) => return Err(error).context("write the output"),
            Err(Ended::Lost(lost)) => lost,
            Err(Ended::Reconnect(after, lost)) => {
                sleep(after).await;
                lost
            }
        };
        watcher.lost()?;
        match lost {
            Lost::Refused(_) => bail!(lost),
            Lost::Closed { code: TOKEN_EXPIRED, .. } => bail!("the token has expired; give another with --token"),
            Lost::Away(_) if !was_open => bail!("{lost}; is the server running, and is --url right?"),
            Lost::Away(_) | Lost::Closed { .. } => {}
        }
        failures += 1;
        let delay = BACKOFF.after(failures, random.hash_one(Instant::now()));
        let retry_ms = delay.as_millis();
        warn!(reason = %lost, retry_ms, "not connected; what is shown may be old");
        sleep(delay).await;
    }
}

/// The reason for which a connection is followed no more.
enum Ended {
    Lost(Lost),
    /// The server said that it would close, and when to come back.
    Reconnect(Duration, Lost),
    Output(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Lost> for Ended {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

struct Watcher<W> {
    config: WatchConfig,
    replica: Replica,
    show: Show<W>,
    /// True if what is drawn is not what is known.
    changed: bool,
}

impl<W: Write> Watcher<W> {
    /// Follows one connection until it ends; returns if there is nothing more to show.
    async fn connect_and_follow(&mut self, was_open: &mut bool, failures: &mut u32) -> Result<(), Ended> {
        let mut socket = socket::open(&self.config.server).await?;
        *was_open = true;
        for command in self.replica.begin() {
            socket.send(&command).await?;
        }
        let mut reading = Reading::begin(socket);
        let mut draws = interval(DRAW_INTERVAL);
        draws.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reconnect = None;
        loop {
            let text = tokio::select! {
                text = reading.messages.recv() => text,
                _ = draws.tick(), if self.changed && self.show.draws() && !self.config.once => {
                    self.draw()?;
                    continue;
                }
            };
            let Some(text) = text else {
                let lost = reading.lost().await;
                return Err(match reconnect {
                    Some(after) => Ended::Reconnect(after, lost),
                    None => Ended::Lost(lost),
                });
            };
            match self.take(&text)? {
                Effect::Refused(refused) if self.is_final(&refused) => {
                    return Err(Lost::Refused(refused.sentence).into());
                }
                Effect::Live(true) | Effect::LiveWithout(_) => *failures = 0,
                Effect::Reconnect(after_ms) => reconnect = Some(Duration::from_millis(after_ms)),
                _ => {}
            }
            if self.config.once && self.replica.is_live() {
                return Ok(self.draw()?);
            }
        }
    }

    fn take(&mut self, text: &[u8]) -> Result<Effect, Ended> {
        let message = Message::parse(text).map_err(|error| {
            Lost::Refused(format!("{} speaks another protocol: {error}", self.config.server.name()))
        })?;
        let effect = self.replica.take(&message);
        match &effect {
            Effect::Changed => self.show.message(text)?,
            Effect::LiveWithout(gone) => {
                self.show.message(&absent(gone, self.config.watched.table.as_deref()))?;
                self.show.message(br#"{"live":true}"#)?;
            }
            Effect::Live(is_live) => self.show.message(format!(r#"{{"live":{is_live}}}"#).as_bytes())?,
            Effect::Refused(refused) => warn!("{refused}"),
            Effect::Nothing | Effect::Old | Effect::Reconnect(_) => return Ok(effect),
        }
        self.changed = true;
        Ok(effect)
    }

    /// Returns whether nothing will come after this refusal.
    fn is_final(&self, refused: &Refused) -> bool {
        let Watched { table, rows } = &self.config.watched;
        *rows == Rows::Everything || table.is_some() && refused.code != FORBIDDEN
    }

    fn draw(&mut self) -> io::Result<()> {
        self.changed = false;
        self.show.draw(&self.replica, &self.config.server.name())
    }

    fn lost(&mut self) -> anyhow::Result<()> {
        if self.replica.is_live() {
            self.show.message(br#"{"live":false}"#).context("write the output")?;
        }
        self.replica.lost();
        if self.config.follows && !self.config.once {
            self.draw().context("write the output")?;
        }
        Ok(())
    }
}

/// Returns the message that rows of a table are gone, and that it is not known since when.
fn absent(keys: &[Key], table: Option<&str>) -> Vec<u8> {
    let mut message = br#"{"absent":["#.to_vec();
    for (place, key) in keys.iter().enumerate() {
        if place > 0 {
            message.push(b',');
        }
        key.write_json(&mut message);
    }
    let versions = vec!["0"; keys.len()].join(",");
    message.extend_from_slice(format!(r#"],"versions":[{versions}]"#).as_bytes());
    if let Some(table) = table {
        message.extend_from_slice(format!(r#","table":{}"#, serde_json::json!(table)).as_bytes());
    }
    message.push(b'}');
    message
}

/// A task that reads a socket, since a read that was begun must go on to its end.
struct Reading {
    messages: mpsc::Receiver<Vec<u8>>,
    task: JoinHandle<Lost>,
}

impl Reading {
    fn begin(mut socket: Socket) -> Self {
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        let task = tokio::spawn(async move {
            loop {
                match socket.read().await {
                    Ok(text) => {
                        if sender.send(text).await.is_err() {
                            return Lost::Away("nobody reads".to_owned());
                        }
                    }
                    Err(lost) => return lost,
                }
            }
        });
        Self { messages, task }
    }

    /// Returns the end of a socket whose messages were all taken.
    async fn lost(self) -> Lost {
        self.task.await.unwrap_or_else(|error| Lost::Away(error.to_string()))
    }
}
