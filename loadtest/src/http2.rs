//! WebSockets on the streams of HTTP/2 connections (RFC 8441): [`connect`], [`Connection::open`], [`Http2Stream`].
//!
//! A task reads and writes a connection. Whoever reads a stream is woken for it alone, and gives back at once the
//! window that it took.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, ensure};
use bytes::{Buf, Bytes};
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::client::{Client, PATIENCE, tcp};
use crate::table::Table;
use crate::target::{Stream, Target};
use crate::token::Token;

/// Windows as large as a browser's, or larger: the server waits for none of them, and what is measured is not how often
/// they are given back.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Likewise, for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// A connection, on which WebSockets are opened.
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    scheme: &'static str,
    token: Token,
}

/// Connects to a server, under this number, for as many WebSockets.
pub(crate) async fn connect(server: &Target, number: usize, streams: u32) -> anyhow::Result<Connection> {
    let address = server.address;
    let connecting = async {
        let tcp = tcp(address, number).await.with_context(|| format!("connect to {address}"))?;
        let server = server.in_http2();
        let stream = server.over(tcp).await.with_context(|| format!("the TLS handshake with {address}, for HTTP/2"))?;
        handshake(stream).await.with_context(|| format!("set up HTTP/2 with {address}; does it speak it?"))
    };
    let sender = timeout(PATIENCE, connecting).await.with_context(|| {
        format!("{address} did not say for {PATIENCE:?} that it opens WebSockets over HTTP/2 (RFC 8441)")
    })??;
    let streams_max = sender.current_max_send_streams();
    ensure!(
        streams as usize <= streams_max,
        "{address} allows {streams_max} streams on a connection: give --http2 fewer than {streams}, or the server more \
         (Rowcast: --http2-max-streams)"
    );
    Ok(Connection { sender, scheme: if server.is_tls() { "https" } else { "http" }, token: server.token.clone() })
}

/// Goes on until the server has said that it knows the extended CONNECT, without which none may be sent (RFC 8441, §3).
async fn handshake(stream: Stream) -> anyhow::Result<SendRequest<Bytes>> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let (sender, connection) = builder.handshake(stream).await?;
    let mut connection = Box::pin(connection);
    poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::Error::from(ErrorKind::UnexpectedEof).into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(anyhow::Error::from(error))),
        Poll::Pending if sender.is_extended_connect_protocol_enabled() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    // Its end is seen on each of its streams.
    spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

impl Connection {
    /// Opens the WebSocket with this number under this path.
    pub(crate) async fn open(&mut self, number: usize, path: &str) -> anyhow::Result<Client> {
        let opening = timeout(PATIENCE, self.extended_connect(path)).await;
        let stream = opening
            .with_context(|| format!("the server did not answer the CONNECT of socket {number} for {PATIENCE:?}"))?
            .with_context(|| format!("open socket {number} over HTTP/2"))?;
        Ok(Client { stream: Stream::Http2(stream), unread: Vec::new(), states: None, table: Table::Products })
    }

    async fn extended_connect(&mut self, path: &str) -> anyhow::Result<Http2Stream> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("{}://localhost{path}", self.scheme))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        if let Some(value) = self.token.value() {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(())?;
        poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, send) = self.sender.send_request(request, false)?;
        let response = response.await?;
        ensure!(response.status() == StatusCode::OK, "the server refused: {}; is --peer right?", response.status());
        Ok(Http2Stream { send, receive: response.into_body(), rest: Bytes::new() })
    }
}

/// The bytes of a WebSocket on a stream.
pub(crate) struct Http2Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// The bytes that [`AsyncRead`] had no room for.
    rest: Bytes,
}

impl Http2Stream {
    /// Returns the bytes that were read and not yet taken.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Returns the next bytes; `None` at the end of the stream. The server may send as many more.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(data) = ready!(self.receive.poll_data(cx)) else { return Poll::Ready(None) };
        Poll::Ready(Some(data.and_then(|data| {
            self.receive.flow_control().release_capacity(data.len())?;
            Ok(data)
        })))
    }
}

impl Write for Http2Stream {
    /// Keeps what the server's window has no room for; the commands of a client are few.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send.send_data(Bytes::copy_from_slice(bytes), false).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // An empty DATA frame is not the end.
        while self.rest.is_empty() {
            match ready!(self.poll_data(cx)) {
                Some(data) => self.rest = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..taken]);
        self.rest.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
