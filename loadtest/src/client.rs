//! Opening WebSockets, and event streams: from an address to a subscribed socket ([`open`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::frames::{CLOSE, PING, PONG, TEXT, client_frame, close_reason, next_frame};
use crate::peer::{Joining, Subscribing};
use crate::table::Table;
use crate::target::{Stream, Target};

/// Nothing on this machine takes longer; a server that does has hung.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The most sockets that leave from one source address: half of the ports that Linux gives out by default.
pub(crate) const SOCKETS_PER_SOURCE: usize = 14_000;

/// A WebSocket while it is being set up.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// The bytes that were read and not yet understood.
    pub(crate) unread: Vec<u8>,
    /// The products and versions that came before the answers to the subscription, if it asked for states.
    pub(crate) states: Option<Vec<(u32, u64)>>,
    /// The table of its rows.
    pub(crate) table: Table,
}

/// Opens the WebSocket with this number to a server, under this path.
pub(crate) async fn open(server: &Target, number: usize, path: &str) -> anyhow::Result<Client> {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: cm93Y2FzdC1sb2FkLWdlbg==\r\n";
    open_with(server, number, (path, UPGRADE), " 101 ").await
}

/// Opens a socket by a request for this path with these headers, which is answered with this status.
async fn open_with(
    server: &Target,
    number: usize,
    request: (&str, &str),
    status: &'static str,
) -> anyhow::Result<Client> {
    timeout(PATIENCE, handshake(server, number, request, status)).await.with_context(|| {
        format!("{} did not answer the handshake of socket {number} for {PATIENCE:?}", server.address)
    })?
}

async fn handshake(
    server: &Target,
    number: usize,
    (path, headers): (&str, &str),
    accepted: &str,
) -> anyhow::Result<Client> {
    let address = server.address;
    let tcp = tcp(address, number).await.with_context(|| format!("connect socket {number} to {address}"))?;
    let mut stream = server.over(tcp).await.with_context(|| format!("the TLS handshake of socket {number}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{}\r\n", server.token.line());
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut unread = Vec::new();
    let end = loop {
        if let Some(end) = memmem::find(&unread, b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(unread.len() < 16 * 1024, "the answer to the handshake has no end");
        ensure!(stream.read_buf(&mut unread).await? > 0, "{address} closed socket {number} in its handshake");
    };
    let head = String::from_utf8_lossy(&unread[..end]);
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(accepted), "{address} refused socket {number}: {status}; is --peer right?");
    unread.drain(..end);
    unread.shrink_to_fit();
    Ok(Client { stream, unread, states: None, table: Table::Products })
}

/// Opens the TCP connection with this number to a server.
pub(crate) async fn tcp(server: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = match server.ip() {
        IpAddr::V4(_) => {
            let socket = TcpSocket::new_v4()?;
            let source = u8::try_from(number / SOCKETS_PER_SOURCE + 1).unwrap_or(u8::MAX);
            if source > 1 {
                socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0)))?;
            }
            socket
        }
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a WebSocket or an event stream that is subscribed to these products.
pub(crate) async fn open_subscribed(
    joining: impl Into<Joining>,
    server: &Target,
    number: usize,
    ids: &[u32],
) -> anyhow::Result<Client> {
    let joining = joining.into();
    let path = joining.path(ids);
    let client = if joining.has_events {
        open_with(server, number, (&path, "Accept: text/event-stream\r\n"), " 200 ").await?
    } else {
        open(server, number, &path).await?
    };
    client.subscribed(joining, number, ids).await
}

impl Client {
    /// Subscribes the WebSocket with this number to these products.
    pub(crate) async fn subscribed(mut self, joining: Joining, number: usize, ids: &[u32]) -> anyhow::Result<Self> {
        self.states = joining.asks_states.then(Vec::new);
        self.table = joining.table;
        self.command(&joining.subscribe(ids)).await.with_context(|| format!("subscribe socket {number}"))?;
        Ok(self)
    }

    /// Sends commands and waits for their answers.
    pub(crate) async fn command(&mut self, commands: &Subscribing) -> anyhow::Result<()> {
        for message in &commands.messages {
            self.stream.write_all(&client_frame(TEXT, message.as_bytes())).await?;
        }
        self.stream.flush().await?;
        timeout(PATIENCE, self.answers(commands)).await.context("the server does not answer commands")?
    }

    async fn answers(&mut self, commands: &Subscribing) -> anyhow::Result<()> {
        let mut answers = 0;
        let mut finder = self.table.finder();
        while answers < commands.answers {
            let mut walked = 0;
            let mut pongs = Vec::new();
            while answers < commands.answers
                && let Some(frame) = next_frame(&self.unread[walked..])
            {
                match frame.opcode {
                    CLOSE => bail!("the server closed: {}", close_reason(frame.payload)),
                    PING => pongs.extend(client_frame(PONG, frame.payload)),
                    _ => answers += memmem::find_iter(frame.payload, commands.answer).count(),
                }
                if let Some(states) = &mut self.states
                    && let Some(state) = finder.find(frame.payload)
                {
                    states.push((state.product, state.version));
                } else if memmem::find(frame.payload, b"\"error\":").is_some() {
                    bail!("the server refused: {}", String::from_utf8_lossy(frame.payload));
                }
                walked += frame.bytes;
            }
            self.unread.drain(..walked);
            self.stream.write_all(&pongs).await?;
            self.stream.flush().await?;
            if answers < commands.answers {
                ensure!(self.stream.read_buf(&mut self.unread).await? > 0, "the server ended the connection");
            }
        }
        self.unread.shrink_to_fit();
        Ok(())
    }
}
