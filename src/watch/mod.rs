//! A reader in a terminal: shows rows and their changes by the crate `rowcast-client`, which comes back when its connection is
//! lost ([`watch`]).

mod line;
pub mod show;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rowcast_client::{Client, Error, Event, Options, Rows, Server, State, Status};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use self::line::line;
use self::show::{Format, Show, View};

/// The interval at which a table is drawn again, if anything changed.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// The code of a refusal of some rows, beside which the others are told.
const FORBIDDEN: &str = "forbidden";

/// The options of a watcher.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The server.
    pub server: Server,
    /// The options of its client.
    pub options: Options,
    /// The rows.
    pub rows: Rows,
    /// True if they are products, asked for by their ids.
    pub is_of_products: bool,
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
    let client = Client::new(config.server.clone(), config.options.clone());
    let follows = config.follows && !config.once;
    let show = Show::new(config.format, out, follows);
    let mut watcher = Watcher { client: client.clone(), show, changed: true, is_live: false, config };
    let result = watcher.follow().await;
    client.close();
    client.closed().await;
    match result {
        Err(error) if is_closed_pipe(&error) => Ok(()),
        result => result,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Watcher<W> {
    config: WatchConfig,
    client: Client,
    show: Show<W>,
    /// True if what is drawn is not what is known.
    changed: bool,
    is_live: bool,
}

impl<W: Write> Watcher<W> {
    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut events = self.client.subscribe(self.config.rows.clone());
        let mut statuses = self.client.statuses();
        let mut retry_at = None;
        let mut draws = interval(DRAW_INTERVAL);
        draws.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else { bail!(self.end()) };
                    self.take(event)?;
                    if self.config.once && self.is_live {
                        return self.draw();
                    }
                }
                _ = statuses.changed() => {
                    let status = statuses.borrow_and_update().clone();
                    look(&status, &mut retry_at)?;
                }
                _ = draws.tick(), if self.changed && self.show.draws() && !self.config.once => self.draw()?,
            }
        }
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Change(change) => self.show.message(&line(&change, self.config.is_of_products)),
            Event::Live | Event::Stale => {
                self.is_live = event == Event::Live;
                self.show.message(format!(r#"{{"live":{}}}"#, self.is_live).as_bytes())
            }
            Event::Refused(refusal) if refusal.code != FORBIDDEN || self.config.rows.are_all() => bail!("{refusal}"),
            Event::Refused(refusal) => {
                warn!("{refusal}");
                Ok(())
            }
            Event::Complete => return Ok(()),
        }
        .context("write the output")?;
        self.changed = true;
        Ok(())
    }

    fn end(&self) -> anyhow::Error {
        self.client.status().problem.map_or_else(|| anyhow!("the client has ended"), |problem| advised(&problem))
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        self.changed = false;
        let WatchConfig { server, rows, is_of_products, .. } = &self.config;
        let view = View {
            server: &server.name(),
            table: (!is_of_products).then_some(rows.table()),
            rows: &self.client.rows(rows.table()),
            is_live: self.is_live,
        };
        self.show.draw(&view).context("write the output")
    }
}

/// Says that it is not connected; ends where the server never was there.
fn look(status: &Status, retried_at: &mut Option<Instant>) -> anyhow::Result<()> {
    let Some((problem, retry_at)) = status.problem.as_ref().zip(status.retry_at) else { return Ok(()) };
    if status.state == State::Connecting && matches!(problem, Error::Unreachable { .. }) {
        bail!(advised(problem));
    }
    if retried_at.replace(retry_at) != Some(retry_at) {
        let retry_ms = retry_at.saturating_duration_since(Instant::now()).as_millis();
        warn!(reason = %problem, retry_ms, "not connected; what is shown may be old");
    }
    Ok(())
}

/// Returns what is wrong, and which option may mend it.
fn advised(error: &Error) -> anyhow::Error {
    match error {
        Error::Unauthorized { .. } => anyhow!("{error}; give one with --token or ROWCAST_TOKEN"),
        Error::TokenExpired => anyhow!("{error}; give another with --token"),
        Error::Tls { .. } => anyhow!("{error}; give its certificate with --ca, or look whether it speaks TLS"),
        Error::Unreachable { .. } => anyhow!("{error}; is the server running, and is --url right?"),
        error => anyhow!(error.clone()),
    }
}
