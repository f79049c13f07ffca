//! Opening many WebSockets at once, and what that did to the server's memory.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::client::{Client, open_subscribed};
use crate::peer::Peer;
use crate::process::rss_kib;
use crate::progress::Progress;
use crate::target::Target;
use crate::workload::Workload;

/// How many handshakes are under way at once; fewer than a usual backlog of connections holds.
const AT_ONCE: usize = 64;
/// What a server may still do after the last answer, before its memory is read.
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
    /// Where the server's process is known.
    pub(crate) memory: Option<Memory>,
}

/// Opens and subscribes all connections of a workload.
pub(crate) async fn open_all(peer: Peer, server: &Target, workload: &Workload, pids: &[u32]) -> anyhow::Result<Opened> {
    let rss_before_kib = rss_kib(pids)?;
    let progress = Progress::new("opening connections", Some(workload.connections as u64));
    let began = Instant::now();
    let open = |number| async move {
        anyhow::Ok((number, open_subscribed(peer, server, number, workload.ids(number)).await?))
    };
    let clients: Vec<(usize, Client)> = stream::iter(0..workload.connections)
        .map(open)
        .buffer_unordered(AT_ONCE)
        .inspect_ok(|_| progress.add(1))
        .try_collect()
        .await?;
    progress.finish();
    let seconds = began.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLING).await;
    let memory =
        if pids.is_empty() { None } else { Some(memory(rss_before_kib, rss_kib(pids)?, workload.connections)) };
    Ok(Opened { clients, seconds, memory })
}

fn memory(rss_before_kib: u64, rss_open_kib: u64, connections: usize) -> Memory {
    let kib_per_connection = (rss_open_kib as f64 - rss_before_kib as f64) / connections.max(1) as f64;
    Memory { rss_before_kib, rss_open_kib, kib_per_connection }
}
