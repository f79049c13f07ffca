//! Opening many WebSockets at once, and the effect on the server's memory.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::client::{Client, open, open_subscribed};
use crate::http2;
use crate::peer::{Joining, Peer};
use crate::process::rss_kib;
use crate::progress::Progress;
use crate::target::Target;
use crate::workload::Workload;

/// The number of handshakes that are under way at once; fewer than a usual backlog of connections holds.
const AT_ONCE: usize = 64;
/// The time that a server has after the last answer, before its memory is read.
const SETTLING: Duration = Duration::from_millis(500);

/// The server's memory, before and after.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_open_kib: u64,
    pub(crate) kib_per_connection: f64,
}

/// Opened connections.
pub(crate) struct Opened {
    pub(crate) clients: Vec<(usize, Client)>,
    pub(crate) seconds: f64,
    /// `None` unless the server's process is known.
    pub(crate) memory: Option<Memory>,
}

/// Opens and subscribes all WebSockets of a workload, `http2` of them on each TCP connection if it is given.
pub(crate) async fn open_all(
    joining: impl Into<Joining>,
    server: &Target,
    http2: Option<u32>,
    workload: &Workload,
    pids: &[u32],
) -> anyhow::Result<Opened> {
    let joining = joining.into();
    let rss_before_kib = rss_kib(pids)?;
    let progress = Progress::new("opening connections", Some(workload.connections as u64));
    let began = Instant::now();
    let clients = match http2 {
        None => {
            let open = |number| async move {
                anyhow::Ok((number, open_subscribed(joining, server, number, workload.ids(number)).await?))
            };
            let opening = stream::iter(0..workload.connections).map(open).buffer_unordered(AT_ONCE);
            opening.inspect_ok(|_| progress.add(1)).try_collect().await?
        }
        Some(streams) => {
            let sharing = Sharing { joining, server, streams, workload, progress: &progress };
            let connections = workload.connections.div_ceil(streams as usize);
            let opening = stream::iter(0..connections).map(|number| sharing.open(number)).buffer_unordered(AT_ONCE);
            opening.try_concat().await?
        }
    };
    progress.finish();
    let seconds = began.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLING).await;
    let memory =
        if pids.is_empty() { None } else { Some(memory(rss_before_kib, rss_kib(pids)?, workload.connections)) };
    Ok(Opened { clients, seconds, memory })
}

/// Opens the WebSockets with these numbers, without subscriptions: in their order, `http2` of them on each TCP connection
/// if it is given. Each is begun, where the server wants that, as soon as it is open.
pub(crate) async fn open_idle(
    peer: Peer,
    server: &Target,
    http2: Option<u32>,
    numbers: Range<usize>,
) -> anyhow::Result<Vec<Client>> {
    let path = &peer.path(&[]);
    let Some(streams) = http2 else {
        let open = |number| begun(peer, server, number, path);
        return stream::iter(numbers).map(open).buffered(AT_ONCE).try_collect().await;
    };
    let on_one_connection = |first: usize| {
        let numbers = first..numbers.end.min(first + streams as usize);
        async move {
            let mut connection = http2::connect(server, first, streams).await?;
            let mut clients = Vec::with_capacity(numbers.len());
            for number in numbers {
                clients.push(connection.open(number, path).await?);
            }
            anyhow::Ok(clients)
        }
    };
    let firsts = numbers.clone().step_by(streams as usize);
    stream::iter(firsts).map(on_one_connection).buffered(AT_ONCE).try_concat().await
}

/// Opens the WebSocket with this number, and begins it as the server wants.
async fn begun(peer: Peer, server: &Target, number: usize, path: &str) -> anyhow::Result<Client> {
    let mut client = open(server, number, path).await?;
    if let Some(command) = peer.begin() {
        client.command(&command).await.with_context(|| format!("begin socket {number}"))?;
    }
    Ok(client)
}

/// WebSockets that share TCP connections.
struct Sharing<'a> {
    joining: Joining,
    server: &'a Target,
    /// On each connection; the last may have fewer.
    streams: u32,
    workload: &'a Workload,
    progress: &'a Progress,
}

impl Sharing<'_> {
    /// Opens the connection with this number, and the WebSockets on it one after the other.
    async fn open(&self, number: usize) -> anyhow::Result<Vec<(usize, Client)>> {
        let mut connection = http2::connect(self.server, number, self.streams).await?;
        let first = number * self.streams as usize;
        let end = self.workload.connections.min(first + self.streams as usize);
        let mut clients = Vec::with_capacity(end - first);
        for number in first..end {
            let ids = self.workload.ids(number);
            let client = connection.open(number, &self.joining.peer.path(ids)).await?;
            clients.push((number, client.subscribed(self.joining, number, ids).await?));
            self.progress.add(1);
        }
        Ok(clients)
    }
}

fn memory(rss_before_kib: u64, rss_open_kib: u64, connections: usize) -> Memory {
    let kib_per_connection = (rss_open_kib as f64 - rss_before_kib as f64) / connections.max(1) as f64;
    Memory { rss_before_kib, rss_open_kib, kib_per_connection }
}
