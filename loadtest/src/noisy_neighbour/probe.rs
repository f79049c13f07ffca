//! The others, whose latencies an attack may raise: readers of one product, and a steady writer of it ([`Probe`]).

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::client::{Client, open_subscribed};
use crate::clock::{Alarm, Clock};
use crate::frames::{CLOSE, PING, PONG, client_frame, close_reason, next_frame};
use crate::message::{Message, MessageFinder, skipped};
use crate::peer::Peer;
use crate::percentiles::Percentiles;
use crate::publish::Http;
use crate::target::Target;

/// The product that is changed, which no attack uses.
pub(super) const PRODUCT: u32 = 4_000_000_007;
/// Connections that write in turn. While a write waits for its answer, the next are not late: at 50 changes per second
/// there are as many as fall due in 1.3 s.
const WRITERS: u64 = 64;
/// The longest time that changes written in a round may take. Those that have not come then count as having taken this
/// long.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval at which an incomplete round is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Readers and writers, at work until it is dropped.
pub(super) struct Probe {
    clock: Clock,
    period_ns: u64,
    readers: usize,
    seen: Rc<RefCell<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Writes the product once, on a server that has no readers.
pub(super) async fn write_once(server: &Target) -> anyhow::Result<()> {
    let message = Message { product: PRODUCT, version: 0, due_ns: 0 };
    let request = Peer::Rowcast.publish_request(&message, 0, &server.token);
    Http::connect(server).await?.request(&request).await?;
    Ok(())
}

/// Everything that came, as times of the run: when a change was due, and when it was there.
#[derive(Default)]
struct Seen {
    deliveries: Vec<(u64, u64)>,
    answers: Vec<(u64, u64)>,
    /// Changes that gave way to newer ones, as the server told.
    skipped: u64,
    failures: Vec<String>,
}

/// The results of one round.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// The time from when a write was due until a reader had its change.
    pub(super) delivery: Percentiles,
    /// The time from when a write was due until it was answered.
    pub(super) write: Percentiles,
    /// Changes that had not come ten seconds later.
    pub(super) missing: u64,
    /// Changes that gave way to newer ones.
    pub(super) skipped: u64,
    /// Readers that were closed, and writes that failed.
    pub(super) failures: Vec<String>,
}

impl Probe {
    /// Opens this many readers, and begins to write `rate` changes per second.
    pub(super) async fn open(server: &Target, readers: usize, rate: f64) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let open = |number| open_subscribed(Peer::Rowcast, server, number, &[PRODUCT]);
        let clients = try_join_all((0..readers).map(open)).await.context("open the readers")?;
        let mut tasks = Vec::new();
        for client in clients {
            let seen = Rc::clone(&seen);
            tasks.push(spawn_local(async move {
                let error = match read(client, clock, &seen).await {
                    Ok(()) => "a reader was closed".to_owned(),
                    Err(error) => format!("a reader: {error:#}"),
                };
                seen.borrow_mut().failures.push(error);
            }));
        }
        let period_ns = (1e9 / rate) as u64;
        let first_ns = clock.now_ns() + period_ns;
        for number in 0..WRITERS {
            let (server, seen) = (server.clone(), Rc::clone(&seen));
            let due_ns = (0..).map(move |turn| first_ns + (turn * WRITERS + number) * period_ns);
            tasks.push(spawn_local(async move {
                if let Err(error) = write(&server, clock, due_ns, &seen).await {
                    seen.borrow_mut().failures.push(format!("a writer stopped: {error:#}"));
                }
            }));
        }
        Ok(Self { clock, period_ns, readers, seen, tasks })
    }

    /// Watches what is written from now on, for `seconds` or a little more, until all of it has come.
    pub(super) async fn round(&self, seconds: f64) -> Round {
        let changes = ((seconds * 1e9) as u64 / self.period_ns).max(1);
        let from_ns = self.clock.now_ns();
        let to_ns = from_ns + changes * self.period_ns;
        *self.seen.borrow_mut() = Seen::default();
        sleep(Duration::from_nanos(to_ns - from_ns)).await;
        let due_ns = from_ns..to_ns;
        let expected = changes * self.readers as u64;
        let give_up_ns = to_ns + PATIENCE.as_nanos() as u64;
        while !self.seen.borrow().has_all(&due_ns, expected, changes) && self.clock.now_ns() < give_up_ns {
            sleep(LOOK_EVERY).await;
        }
        std::mem::take(&mut *self.seen.borrow_mut()).round(&due_ns, expected)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Seen {
    fn has_all(&self, due_ns: &Range<u64>, deliveries: u64, answers: u64) -> bool {
        let of_round = |times| latencies(times, due_ns).count() as u64;
        of_round(&self.deliveries) + self.skipped >= deliveries && of_round(&self.answers) >= answers
    }

    fn round(self, due_ns: &Range<u64>, expected: u64) -> Round {
        let mut delivery: Vec<u64> = latencies(&self.deliveries, due_ns).collect();
        let missing = expected.saturating_sub(delivery.len() as u64 + self.skipped);
        delivery.extend((0..missing).map(|_| PATIENCE.as_nanos() as u64));
        Round {
            delivery: Percentiles::of(delivery),
            write: Percentiles::of(latencies(&self.answers, due_ns).collect()),
            missing,
            skipped: self.skipped,
            failures: self.failures,
        }
    }
}

/// Returns the time that each entry took that was due in a round.
fn latencies(times: &[(u64, u64)], due_ns: &Range<u64>) -> impl Iterator<Item = u64> {
    times.iter().filter(|(due, _)| due_ns.contains(due)).map(|(due, there)| there.saturating_sub(*due))
}

/// Reads a WebSocket until it is closed.
async fn read(mut client: Client, clock: Clock, seen: &RefCell<Seen>) -> anyhow::Result<()> {
    let mut finder = MessageFinder::new();
    loop {
        let now_ns = clock.now_ns();
        let (mut walked, mut pongs) = (0, Vec::new());
        while let Some(frame) = next_frame(&client.unread[walked..]) {
            walked += frame.bytes;
            match frame.opcode {
                PING => pongs.extend(client_frame(PONG, frame.payload)),
                CLOSE => anyhow::bail!("closed: {}", close_reason(frame.payload)),
                _ => {
                    let mut seen = seen.borrow_mut();
                    if let Some(message) = finder.find(frame.payload) {
                        seen.deliveries.push((message.due_ns, now_ns));
                    }
                    seen.skipped += skipped(frame.payload).unwrap_or(0);
                }
            }
        }
        client.unread.drain(..walked);
        if !pongs.is_empty() {
            client.stream.write_all(&pongs).await?;
        }
        if client.stream.read_buf(&mut client.unread).await? == 0 {
            return Ok(());
        }
    }
}

/// Writes whenever it is due, on one connection, and on another after a failure.
async fn write(
    server: &Target,
    clock: Clock,
    due_ns: impl Iterator<Item = u64>,
    seen: &RefCell<Seen>,
) -> anyhow::Result<()> {
    let alarm = Alarm::new(clock)?;
    let mut kept = None;
    for due_ns in due_ns {
        alarm.until(due_ns).await?;
        let message = Message { product: PRODUCT, version: 0, due_ns };
        let request = Peer::Rowcast.publish_request(&message, 0, &server.token);
        let answered = async {
            let mut http = match kept.take() {
                Some(http) => http,
                None => Http::connect(server).await?,
            };
            http.request(&request).await?;
            anyhow::Ok(http)
        };
        match answered.await {
            Ok(http) => {
                kept = Some(http);
                seen.borrow_mut().answers.push((due_ns, clock.now_ns()));
            }
            Err(error) => seen.borrow_mut().failures.push(format!("a write: {error:#}")),
        }
    }
    Ok(())
}
