//! WebSockets to a server under test: one that speaks the protocol, through an implementation that is not ours, and one
//! that sends any bytes.

use std::net::SocketAddr;

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload};
use http_body_util::Empty;
use hyper::Request;
use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::patiently;

/// A client of the protocol.
pub(crate) struct Socket {
    socket: FragmentCollector<TokioIo<Upgraded>>,
}

/// A message, or the end, as a client reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Read {
    Message(Value),
    /// The server closed, with this code.
    Close(u16),
}

struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

impl Socket {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = patiently(TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        Self::over(stream).await
    }

    /// Over a connection of the caller's making.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::shake_hands(stream, "/websocket", &[]).await.0
    }

    /// With this path and these headers; the socket, and the subprotocol that the server chose.
    pub(crate) async fn connect_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (Self, String) {
        let stream = patiently(TcpStream::connect(address)).await.expect("the server listens");
        Self::shake_hands(stream, path, headers).await
    }

    async fn shake_hands(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Self, String) {
        let mut request = Request::get(path)
            .header("host", "localhost")
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
            .header("sec-websocket-key", fastwebsockets::handshake::generate_key())
            .header("sec-websocket-version", "13");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request is built");
        let (socket, response) =
            patiently(fastwebsockets::handshake::client(&Spawn, request, stream)).await.expect("a WebSocket opens");
        let subprotocol = response.headers().get("sec-websocket-protocol");
        let subprotocol = subprotocol.map_or("", |value| value.to_str().expect("a header is text")).to_owned();
        (Self { socket: FragmentCollector::new(socket) }, subprotocol)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        let frame = Frame::text(Payload::Borrowed(text.as_bytes()));
        patiently(self.socket.write_frame(frame)).await.expect("the server reads");
    }

    /// The next message, or how the server closed.
    pub(crate) async fn read(&mut self) -> Read {
        let mut frame = patiently(self.socket.read_frame()).await.expect("the server sends frames");
        while is_about_the_source(&frame.payload) {
            frame = patiently(self.socket.read_frame()).await.expect("the server sends frames");
        }
        match frame.opcode {
            OpCode::Text => Read::Message(serde_json::from_slice(&frame.payload).expect("messages are JSON")),
            OpCode::Close => Read::Close(u16::from_be_bytes([frame.payload[0], frame.payload[1]])),
            opcode => panic!("{opcode:?}"),
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        match self.read().await {
            Read::Message(message) => message,
            Read::Close(code) => panic!("closed with {code}"),
        }
    }

    /// Reads until the server closes; returns the messages, and the code that it closes with.
    pub(crate) async fn until_closed(&mut self) -> (Vec<Value>, u16) {
        let mut messages = Vec::new();
        loop {
            match self.read().await {
                Read::Message(message) => messages.push(message),
                Read::Close(code) => return (messages, code),
            }
        }
    }

    /// Sends a command and waits for its reply, before which nothing else may come.
    pub(crate) async fn command(&mut self, command: &str, products: impl IntoIterator<Item = u64>) -> Value {
        let products: Vec<u64> = products.into_iter().collect();
        self.send(&json!({"command": command, "productIDs": products, "id": "c"}).to_string()).await;
        let reply = self.next().await;
        assert_eq!(reply["reply"], "c", "{reply}");
        reply
    }

    /// Subscribes, and waits until it is.
    pub(crate) async fn subscribe(&mut self, products: impl IntoIterator<Item = u64>) {
        let reply = self.command("subscribe", products).await;
        assert_eq!(reply["ok"], true, "{reply}");
    }
}

/// A WebSocket byte by byte.
pub(crate) struct RawSocket<S = TcpStream> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl RawSocket {
    /// Opens a WebSocket; `early` are bytes that are sent together with the handshake.
    pub(crate) async fn connect(address: SocketAddr, early: &[u8]) -> Self {
        let stream = patiently(TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        Self::over(stream, early).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawSocket<S> {
    /// Likewise, over a connection of the caller's making.
    pub(crate) async fn over(stream: S, early: &[u8]) -> Self {
        let mut socket = Self { stream, unread: Vec::new() };
        let request = b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write(&[request, early].concat()).await;
        let head = loop {
            if let Some(end) = socket.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break socket.unread.drain(..end + 4).collect::<Vec<u8>>();
            }
            assert!(socket.fill().await, "closed in the handshake");
        };
        let head = String::from_utf8(head).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        socket
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // A server that has closed resets the connection; what it said before is still read.
        let _ = patiently(self.stream.write_all(bytes)).await;
    }

    /// Writes a frame as a client has to, with a mask.
    pub(crate) async fn write_frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&client_frame(first, payload)).await;
    }

    /// The next frame: its first byte and its payload; `None` at the end of the stream.
    pub(crate) async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, payload, length)) = server_frame(&self.unread) {
                self.unread.drain(..length);
                if is_about_the_source(&payload) {
                    continue;
                }
                return Some((first, payload));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The bytes that were read and are no whole frame.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    async fn fill(&mut self) -> bool {
        let read = patiently(self.stream.read_buf(&mut self.unread)).await;
        read.is_ok_and(|read| read > 0)
    }
}

/// True for `{"live":…}` of all tables, which clients here do not read: a server that has just begun may not have heard its source.
pub(crate) fn is_about_the_source(payload: &[u8]) -> bool {
    payload.starts_with(br#"{"live":"#) && !payload.windows(7).any(|part| part == br#""table""#)
}

/// A masked frame with the shortest head.
pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=65_535 => {
            frame.push(0x80 | 0x7E);
            frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0x80 | 0x7F);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The frame at the front of `bytes`, and its length; it must not be masked.
pub(crate) fn server_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (length, head) = match second {
        126 => (usize::from(u16::from_be_bytes(*bytes[2..].first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes[2..].first_chunk()?)).unwrap(), 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(head..head + length)?;
    Some((first, payload.to_vec(), head + length))
}
