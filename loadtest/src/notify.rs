//! The delay of a notification at a WebSocket against a bare `LISTEN` client: [`run`].
//!
//! One notification at a time, so that nothing waits for anything else: both ways are measured from the moment before
//! the statement is sent to the moment at which the generator has read it.

use std::time::Duration;

use anyhow::{Context, ensure};
use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_postgres::AsyncMessage;

use crate::cli::NotifyArgs;
use crate::client::{self, Client};
use crate::clock::Clock;
use crate::latency::{Latencies, Recorder};
use crate::message::Message;
use crate::peer::Peer;
use crate::publish::{NotifyPublisher, database};
use crate::report::{Rows, duration};

/// Nothing on this machine takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The product that is notified, which nobody else should be using.
pub(crate) const PRODUCT: u32 = u32::MAX;

/// Both ways.
pub(crate) struct Outcome {
    listen: Latencies,
    socket: Latencies,
}

impl Outcome {
    pub(crate) fn table(&self) -> String {
        let mut rows = Rows(String::new());
        rows.add("notifications", self.listen.count);
        for (way, latencies) in [("LISTEN", &self.listen), ("WebSocket", &self.socket)] {
            for percentile in [50.0, 99.0] {
                rows.add(&format!("{way} p{percentile}"), duration(latencies.at(percentile)));
            }
        }
        rows.add("difference of the medians", duration(self.socket.at(50.0) - self.listen.at(50.0)));
        rows.0
    }
}

/// Notifies, and waits each time until both have it.
pub(crate) async fn run(args: &NotifyArgs) -> anyhow::Result<Outcome> {
    let clock = Clock::start();
    let mut socket = client::open_subscribed(Peer::Rowcast, &args.target.server()?, 0, &[PRODUCT]).await?;
    let mut listener = listen(&args.database_url, clock).await?;
    let mut publisher = NotifyPublisher::connect(&args.database_url).await?;
    let (mut by_listen, mut by_socket) = (Recorder::new(), Recorder::new());
    let mut ticks = interval(Duration::from_secs_f64(1.0 / args.rate));
    for number in 0..(args.rate * args.duration) as u64 {
        ticks.tick().await;
        // Versions that no run before has used: what the server compares them with only grows.
        let message = Message { product: PRODUCT, version: number + 1, due_ns: clock.now_ns() };
        let both = async {
            let (sent, at_listener, at_socket) =
                tokio::join!(publisher.publish(&message, 0), listener.recv(), arrival(&mut socket, clock));
            sent?;
            anyhow::Ok((at_listener.context("the LISTEN connection ended")?, at_socket?))
        };
        let (at_listener, at_socket) = timeout(PATIENCE, both)
            .await
            .context("a notification did not arrive; does the server use the database of --database-url?")??;
        by_listen.record(at_listener - message.due_ns);
        by_socket.record(at_socket - message.due_ns);
    }
    by_listen.end_interval(args.duration);
    by_socket.end_interval(args.duration);
    Ok(Outcome { listen: by_listen.summary(), socket: by_socket.summary() })
}

/// Returns the times at which a client that only listens has read a notification of [`PRODUCT`].
async fn listen(url: &str, clock: Clock) -> anyhow::Result<mpsc::Receiver<u64>> {
    let (client, mut connection) = database::open(url).await?;
    let (arrivals, received) = mpsc::channel(16);
    let is_ours = format!("\"productId\":{PRODUCT},");
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message
                && notification.payload().contains(&is_ours)
                && arrivals.send(clock.now_ns()).await.is_err()
            {
                return;
            }
        }
    });
    let channel: String = client.query_one("SELECT channel FROM rowcast_stream", &[]).await?.get(0);
    client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
    // Dropping the client would end the connection.
    tokio::spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    Ok(received)
}

/// Returns the time at which the next change was read.
async fn arrival(client: &mut Client, clock: Clock) -> anyhow::Result<u64> {
    loop {
        let mut bytes = [0; 4096];
        let read = client.stream.read(&mut bytes).await?;
        let at_ns = clock.now_ns();
        ensure!(read > 0, "the server closed the WebSocket");
        if memmem::find(&bytes[..read], b"\"version\":").is_some() {
            return Ok(at_ns);
        }
    }
}
