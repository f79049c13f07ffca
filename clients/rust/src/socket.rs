//! A WebSocket of a server, for whoever keeps rows in a way of their own: [`open`], [`Socket`].

use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::error::Error;
use crate::server::Server;

/// The time that a connection, TLS and the handshake may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The time after which a server that takes nothing is given up.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// The code of a client that leaves (RFC 6455, §7.4.1).
const CLOSE_NORMAL: u16 = 1000;

/// An open WebSocket.
pub struct Socket {
    reader: Reader,
    writer: Writer,
}

/// The half that is read.
pub(crate) struct Reader(FragmentCollectorRead<ReadHalf<TokioIo<Upgraded>>>);

/// The half that is written.
pub(crate) struct Writer(WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>);

/// What comes.
pub(crate) enum Incoming {
    Text(Vec<u8>),
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    Other,
}

/// Opens a WebSocket.
///
/// # Errors
/// The reason.
pub async fn open(server: &Server, token: Option<&str>) -> Result<Socket, Error> {
    let handshake = timeout(OPEN_TIMEOUT, shake_hands(server, token));
    handshake.await.unwrap_or_else(|_| Err(unreachable(server, "it does not answer".to_owned())))
}

async fn shake_hands(server: &Server, token: Option<&str>) -> Result<Socket, Error> {
    let request = request(server, token)?;
    let opened = fastwebsockets::handshake::client(&TokioExecutor::new(), request, server.connect().await?).await;
    let (mut socket, _) = opened.map_err(|error| match error {
        WebSocketError::InvalidStatusCode(status) => refusal(server, status),
        error => unreachable(server, error.to_string()),
    })?;
    // Pings are answered here, and are what tells that the server is there.
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    let (reader, writer) = socket.split(tokio::io::split);
    Ok(Socket { reader: Reader(FragmentCollectorRead::new(reader)), writer: Writer(writer) })
}

fn request(server: &Server, token: Option<&str>) -> Result<Request<Empty<Bytes>>, Error> {
    let mut request = Request::get(server.path("websocket"))
        .header(HOST, server.name())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header(SEC_WEBSOCKET_KEY, fastwebsockets::handshake::generate_key())
        .header(SEC_WEBSOCKET_VERSION, "13");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, bearer(token)?);
    }
    Ok(request.body(Empty::new()).expect("a checked address makes a request"))
}

/// Returns the header that has a token.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| Error::Token("it has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unreachable(server: &Server, reason: String) -> Error {
    Error::Unreachable { server: server.name(), reason }
}

fn refusal(server: &Server, status: u16) -> Error {
    match status {
        401 | 403 => Error::Unauthorized { server: server.name(), status },
        400..=499 if status != 429 => {
            Error::NoWebSocket { server: server.name(), path: server.path("websocket"), status }
        }
        _ => unreachable(server, format!("it opens no WebSocket now (HTTP {status})")),
    }
}

impl Socket {
    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn send(&mut self, text: &str) -> Result<(), Error> {
        self.writer.text(text).await?;
        self.writer.flush().await
    }

    /// Returns the next text message. Not cancel-safe.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn read(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            match self.reader.read().await? {
                Incoming::Text(text) => return Ok(text),
                Incoming::Ping(payload) => self.writer.pong(payload).await?,
                Incoming::Other => {}
            }
        }
    }

    pub(crate) fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

impl Reader {
    /// Returns what comes next. Not cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<Incoming, Error> {
        let mut send = |_: Frame<'_>| async { Ok::<(), WebSocketError>(()) };
        let frame = self.0.read_frame(&mut send).await.map_err(lost)?;
        match frame.opcode {
            OpCode::Text => Ok(Incoming::Text(frame.payload.to_vec())),
            OpCode::Ping => Ok(Incoming::Ping(frame.payload.to_vec())),
            OpCode::Close => Err(closed(&frame.payload)),
            OpCode::Binary | OpCode::Continuation | OpCode::Pong => Ok(Incoming::Other),
        }
    }
}

impl Writer {
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), Error> {
        self.write(Frame::text(Payload::Owned(text.into()))).await
    }

    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        self.write(Frame::new(true, OpCode::Ping, None, Payload::Owned(Vec::new()))).await?;
        self.flush().await
    }

    pub(crate) async fn pong(&mut self, payload: Vec<u8>) -> Result<(), Error> {
        self.write(Frame::pong(Payload::Owned(payload))).await?;
        self.flush().await
    }

    /// Says that the client leaves.
    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        self.write(Frame::close(CLOSE_NORMAL, &[])).await?;
        self.flush().await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        in_time(self.0.flush()).await
    }

    async fn write(&mut self, frame: Frame<'static>) -> Result<(), Error> {
        in_time(self.0.write_frame(frame)).await
    }
}

async fn in_time(writing: impl Future<Output = Result<(), WebSocketError>>) -> Result<(), Error> {
    let written = timeout(WRITE_TIMEOUT, writing).await;
    written.map_err(|_| Error::Lost("the server reads nothing".to_owned()))?.map_err(lost)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn lost(error: WebSocketError) -> Error {
    Error::Lost(format!("the connection was lost: {error}"))
}

fn closed(payload: &[u8]) -> Error {
    match payload {
        [high, low, reason @ ..] => Error::Closed {
            code: u16::from_be_bytes([*high, *low]),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        _ => Error::Lost("the server closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_nowhere() {
        let server = Server::parse("ws://a", None).unwrap();
        assert!(!format!("{:?}", request(&server, Some("secret")).unwrap()).contains("secret"));
        assert!(matches!(request(&server, Some("a\nb")), Err(Error::Token(_))));
    }

    #[test]
    fn only_what_another_try_may_change_is_tried_again() {
        let server = Server::parse("ws://a", None).unwrap();
        for (status, is_of_token, is_final) in [
            (401, true, false),
            (403, true, false),
            (404, false, true),
            (426, false, true),
            (429, false, false),
            (503, false, false),
        ] {
            let error = refusal(&server, status);
            assert_eq!((error.is_of_token(), error.is_final()), (is_of_token, is_final), "{status}");
        }
    }
}
