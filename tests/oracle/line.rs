//! A reader's way to a server: a WebSocket over HTTP/1 or HTTP/2, with TLS or without ([`Line`]). What fails here is the
//! server's end, which is one of the faults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client;
use h2::{RecvStream, SendStream};
use rowcast_client::Server;
use rowcast_client::socket::{self, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::support::http2::extended_connect;
use crate::support::socket::{client_frame, server_frame};
use crate::support::tls::TlsClient;

const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const CLOSE: u8 = 0x88;

/// Any connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The protocol below a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// The place of a server.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsClient>,
}

impl Place {
    /// Opens a connection for one protocol.
    pub(super) async fn connect(&self, http: Http) -> Option<Box<dyn Stream>> {
        let tcp = TcpStream::connect(self.address).await.ok()?;
        tcp.set_nodelay(true).ok()?;
        let Some(client) = &self.tls else { return Some(Box::new(tcp)) };
        let mut client = client.clone();
        if http == Http::Two {
            Arc::make_mut(&mut client.0).alpn_protocols = vec![b"h2".to_vec()];
        }
        Some(Box::new(client.over(tcp).await.ok()?))
    }

    /// Returns the server as the client has it.
    pub(super) fn server(&self) -> Server {
        let Some(client) = &self.tls else { return Server::parse(&format!("ws://{}", self.address), None).unwrap() };
        let url = format!("wss://localhost:{}", self.address.port());
        Server::parse(&url, Some(Arc::clone(&client.0))).unwrap()
    }
}

/// An open WebSocket.
pub(super) enum Line {
    One(Box<Socket>),
    Two(Box<OnStream>),
}

/// A WebSocket on a stream of an HTTP/2 connection of its own.
pub(super) struct OnStream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    unread: BytesMut,
    connection: AbortHandle,
}

impl Line {
    /// Opens a WebSocket. Over HTTP/2, `window` is the most bytes that the server may send ahead of what is read.
    pub(super) async fn open(place: &Place, http: Http, window: u32) -> Option<Self> {
        match http {
            Http::One => socket::open(&place.server(), None).await.ok().map(|socket| Self::One(Box::new(socket))),
            Http::Two => {
                let opened = timeout(OPEN_TIMEOUT, OnStream::open(place, window)).await.ok()?;
                opened.map(|stream| Self::Two(Box::new(stream)))
            }
        }
    }

    /// Sends a message; returns whether the line stands.
    pub(super) async fn send(&mut self, text: &str) -> bool {
        match self {
            Self::One(socket) => socket.send(text).await.is_ok(),
            Self::Two(stream) => stream.write(TEXT, text.as_bytes()),
        }
    }

    /// Returns the next message, or `None` at the end. Not cancel-safe.
    pub(super) async fn read(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::One(socket) => socket.read().await.ok(),
            Self::Two(stream) => stream.read().await,
        }
    }
}

impl OnStream {
    async fn open(place: &Place, window: u32) -> Option<Self> {
        let stream = place.connect(Http::Two).await?;
        let mut builder = client::Builder::new();
        // The crate ends a connection of which some hundred small DATA frames are unread, as those of a reader that stops are.
        builder.enable_push(false).initial_window_size(window).data_frame_budget(usize::MAX);
        let (mut sender, connection) = builder.handshake::<_, Bytes>(stream).await.ok()?;
        let connection = tokio::spawn(connection).abort_handle();
        // Until the server has said that it knows it (RFC 8441, §3).
        while !sender.is_extended_connect_protocol_enabled() {
            sender = sender.ready().await.ok()?;
            tokio::task::yield_now().await;
        }
        let (response, send) = sender.send_request(extended_connect("/websocket", "websocket"), false).ok()?;
        let response = response.await.ok()?;
        let status = response.status();
        let opened = Self { send, receive: response.into_body(), unread: BytesMut::new(), connection };
        (status == 200).then_some(opened)
    }

    fn write(&mut self, first: u8, payload: &[u8]) -> bool {
        self.send.send_data(client_frame(first, payload).into(), false).is_ok()
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((first, payload, length)) = server_frame(&self.unread) {
                drop(self.unread.split_to(length));
                match first {
                    TEXT => return Some(payload),
                    PING if !self.write(PONG, &payload) => return None,
                    CLOSE => return None,
                    _ => continue,
                }
            }
            let data = self.receive.data().await?.ok()?;
            self.unread.extend_from_slice(&data);
            self.receive.flow_control().release_capacity(data.len()).ok()?;
        }
    }
}

impl Drop for OnStream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
