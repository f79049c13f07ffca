//! `handshakes`: TLS handshakes one after the other on several connections, each followed by one request, and their
//! cost to the server.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::HandshakesArgs;
use crate::process::Cpu;
use crate::report::Rows;
use crate::target::Target;

/// Nothing on this machine takes longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// A new session's tickets come with the answer, and the server ends the connection after it.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The cost of one kind of handshake.
#[derive(Clone, Copy, Debug, Serialize)]
struct Phase {
    name: &'static str,
    handshakes: u64,
    seconds: f64,
    handshakes_per_s: f64,
    /// With the request that follows each handshake; `None` unless the server's process is known.
    server_cpu_us_per_handshake: Option<f64>,
}

/// Both kinds.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    parameters: HandshakesArgs,
    phases: Vec<Phase>,
}

impl Outcome {
    pub(crate) fn table(&self) -> String {
        let mut rows = Rows::default();
        for Phase { name, handshakes, seconds, handshakes_per_s, server_cpu_us_per_handshake } in &self.phases {
            let cpu = server_cpu_us_per_handshake.map_or(String::new(), |us| format!(", server CPU {us:.0} µs each"));
            rows.add(name, format!("{handshakes} in {seconds:.2} s, {handshakes_per_s:.0}/s{cpu}"));
        }
        rows.0
    }
}

/// Makes full handshakes, then resumed ones.
pub(crate) async fn run(args: &HandshakesArgs) -> anyhow::Result<Outcome> {
    let server = args.target.server()?;
    ensure!(server.is_tls(), "handshakes needs a server that speaks TLS: --url wss://127.0.0.1:8443 --insecure");
    let lanes = |target: fn(&Target) -> Target| (0..args.at_once).map(|_| target(&server)).collect::<Vec<_>>();
    let full = phase(args, "full", &lanes(Target::without_sessions), false).await?;
    let lanes = lanes(Target::with_own_sessions);
    // The first of each lane brings it its tickets.
    try_join_all(lanes.iter().map(handshake)).await?;
    let resumed = phase(args, "resumed", &lanes, true).await?;
    Ok(Outcome { parameters: args.clone(), phases: vec![full, resumed] })
}

async fn phase(args: &HandshakesArgs, name: &'static str, lanes: &[Target], is_resumed: bool) -> anyhow::Result<Phase> {
    let pids = &args.target.pid;
    let (began, cpu) = (Instant::now(), Cpu::of(pids)?);
    let handshakes = Cell::new(0u64);
    let one_after_the_other = async |server| {
        while began.elapsed().as_secs_f64() < args.duration {
            let found = timeout(PATIENCE, handshake(server)).await.context("a handshake took a minute")??;
            ensure!(found == is_resumed, "a handshake that should be {name} was not; does the server give tickets?");
            handshakes.set(handshakes.get() + 1);
        }
        anyhow::Ok(())
    };
    try_join_all(lanes.iter().map(one_after_the_other)).await?;
    let (handshakes, seconds) = (handshakes.get(), began.elapsed().as_secs_f64());
    let each = |us: f64| us / handshakes.max(1) as f64;
    let server_cpu_us_per_handshake =
        if pids.is_empty() { None } else { Some(each(Cpu::of(pids)?.since(&cpu).total_us)) };
    Ok(Phase { name, handshakes, seconds, handshakes_per_s: handshakes as f64 / seconds, server_cpu_us_per_handshake })
}

/// Makes one connection from its beginning to its end; returns true if its session was an earlier one.
async fn handshake(server: &Target) -> anyhow::Result<bool> {
    let tcp = TcpStream::connect(server.address).await.with_context(|| format!("connect to {}", server.address))?;
    tcp.set_nodelay(true)?;
    let mut stream = server.over(tcp).await.context("the TLS handshake")?;
    let is_resumed = stream.is_resumed();
    stream.write_all(REQUEST).await?;
    stream.flush().await?;
    // It does not matter here if the server ends TLS before TCP.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Ok(is_resumed)
}
