//! The way to a server and the WebSocket there: [`Server`], [`open`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocketError};
use http_body_util::Empty;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::transport::tls::{Trust, client_config};

/// The time that a connection, TLS and the handshake may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The silence after which a connection is taken for dead: a server pings every 25 s.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// A server, as it is named on the command line.
#[derive(Clone, Debug)]
pub struct Server {
    host: String,
    port: u16,
    path: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    token: Option<HeaderValue>,
}

/// The reason for which a WebSocket did not open, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The server refused the handshake in a way that another try does not change.
    #[error("{0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Away(String),
    /// The server closed, with this code.
    #[error("the server closed with {code}: {sentence}")]
    Closed {
        /// The code (RFC 6455, §7.4.1).
        code: u16,
        /// Its sentence.
        sentence: String,
    },
}

impl Server {
    /// Reads the address of a server: `ws://`, `wss://`, `http://` or `https://`, and the path under which it is served
    /// if that is not the root.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn parse(url: &str, trust: Trust<'_>, token: Option<&str>) -> anyhow::Result<Self> {
        let example = "as in ws://127.0.0.1:8080 or https://shop.example";
        let uri: Uri = url.parse().with_context(|| format!("--url {url}: not a URL, {example}"))?;
        let (is_tls, port) = match uri.scheme_str() {
            Some("ws" | "http") => (false, 80),
            Some("wss" | "https") => (true, 443),
            _ => bail!("--url {url}: begins with ws://, wss://, http:// or https://, {example}"),
        };
        let host = uri.host().with_context(|| format!("--url {url}: names no host, {example}"))?.to_owned();
        let prefix = uri.path().trim_end_matches('/').trim_end_matches("/websocket");
        let token = token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let token = token.transpose().context("--token: it has characters that no token has")?;
        let tls = if is_tls {
            let name = host.trim_matches(['[', ']']).to_owned();
            let name =
                ServerName::try_from(name).with_context(|| format!("--url {url}: no certificate names {host}"))?;
            Some((Arc::new(client_config(trust).map_err(|reason| named(trust, &reason))?), name))
        } else {
            None
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { host, port, path: format!("{prefix}/websocket"), tls, token })
    }

    /// Returns its host and port.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::get(&self.path)
            .header(HOST, self.name())
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "upgrade")
            .header(SEC_WEBSOCKET_KEY, fastwebsockets::handshake::generate_key())
            .header(SEC_WEBSOCKET_VERSION, "13");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        request.body(Empty::new()).expect("a checked address makes a request")
    }
}

/// Returns the sentence of a client that found no certificates to trust.
fn named(trust: Trust<'_>, reason: &str) -> anyhow::Error {
    match trust {
        Trust::File(file) => anyhow!("--ca {}: {reason}", file.display()),
        Trust::System | Trust::All => {
            anyhow!("the certificates that this system trusts: {reason}; give the server's with --ca cert.pem")
        }
    }
}

/// An open WebSocket.
pub struct Socket(FragmentCollector<TokioIo<Upgraded>>);

struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

/// Opens a WebSocket.
///
/// # Errors
/// The reason.
pub async fn open(server: &Server) -> Result<Socket, Lost> {
    timeout(OPEN_TIMEOUT, connect(server))
        .await
        .unwrap_or_else(|_| Err(Lost::Away(format!("{} does not answer", server.name()))))
}

async fn connect(server: &Server) -> Result<Socket, Lost> {
    let away = |error: io::Error| Lost::Away(format!("{}: {error}", server.name()));
    let host = server.host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, server.port)).await.map_err(away)?;
    tcp.set_nodelay(true).map_err(away)?;
    match &server.tls {
        None => shake_hands(server, tcp).await,
        Some((config, name)) => {
            let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
            // A certificate that is not trusted is no outage.
            let tls = tls.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => Lost::Refused(format!(
                    "TLS with {}: {error}; give its certificate with --ca, or look whether it speaks TLS",
                    server.name()
                )),
                _ => away(error),
            })?;
            shake_hands(server, tls).await
        }
    }
}

async fn shake_hands<S>(server: &Server, stream: S) -> Result<Socket, Lost>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opened = fastwebsockets::handshake::client(&Spawn, server.request(), stream).await;
    let (mut socket, _) = opened.map_err(|error| match error {
        WebSocketError::InvalidStatusCode(status) => refusal(server, status),
        error => Lost::Away(format!("{}: {error}", server.name())),
    })?;
    // Pings are answered here, and are what tells that the server is there.
    socket.set_auto_pong(false);
    Ok(Socket(FragmentCollector::new(socket)))
}

fn refusal(server: &Server, status: u16) -> Lost {
    let name = server.name();
    match status {
        401 => Lost::Refused(format!("{name} wants another token than this; give one with --token or ROWCAST_TOKEN")),
        404 | 405 => Lost::Refused(format!("{name} has no WebSocket at {}", server.path)),
        400..=499 if status != 429 => Lost::Refused(format!("{name} refuses to open a WebSocket (HTTP {status})")),
        _ => Lost::Away(format!("{name} opens no WebSocket now (HTTP {status})")),
    }
}

impl Socket {
    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn send(&mut self, text: &str) -> Result<(), Lost> {
        self.write(Frame::text(Payload::Borrowed(text.as_bytes()))).await
    }

    /// Returns the next text message. Not cancel-safe.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn read(&mut self) -> Result<Vec<u8>, Lost> {
        loop {
            let read = timeout(SILENCE_MAX, self.0.read_frame()).await;
            let frame = read
                .map_err(|_| Lost::Away(format!("nothing was heard for {} s", SILENCE_MAX.as_secs())))?
                .map_err(|error| Lost::Away(error.to_string()))?;
            match frame.opcode {
                OpCode::Text => return Ok(frame.payload.to_vec()),
                OpCode::Ping => {
                    let payload = frame.payload.to_vec();
                    self.write(Frame::pong(Payload::Owned(payload))).await?;
                }
                OpCode::Close => return Err(closed(&frame.payload)),
                OpCode::Binary | OpCode::Continuation | OpCode::Pong => {}
            }
        }
    }

    async fn write(&mut self, frame: Frame<'_>) -> Result<(), Lost> {
        let written = timeout(SILENCE_MAX, self.0.write_frame(frame)).await;
        written
            .map_err(|_| Lost::Away("the server reads nothing".to_owned()))?
            .map_err(|error| Lost::Away(error.to_string()))
    }
}

fn closed(payload: &[u8]) -> Lost {
    match payload {
        [high, low, sentence @ ..] => Lost::Closed {
            code: u16::from_be_bytes([*high, *low]),
            sentence: String::from_utf8_lossy(sentence).into_owned(),
        },
        _ => Lost::Away("the server closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_its_page_or_as_its_websocket() {
        for (url, name, path) in [
            ("ws://127.0.0.1:8080", "127.0.0.1:8080", "/websocket"),
            ("http://localhost/", "localhost:80", "/websocket"),
            ("https://shop.example/live/", "shop.example:443", "/live/websocket"),
            ("wss://[::1]:9/websocket", "[::1]:9", "/websocket"),
        ] {
            let server = Server::parse(url, Trust::All, None).unwrap();
            assert_eq!((server.name().as_str(), server.path.as_str()), (name, path), "{url}");
        }
        for bad in ["127.0.0.1:8080", "ftp://a", "", "ws://", "ws:///websocket"] {
            let error = Server::parse(bad, Trust::All, None).unwrap_err();
            assert!(format!("{error:#}").contains("--url"), "{bad}: {error:#}");
        }
    }

    #[test]
    fn a_token_is_shown_nowhere() {
        let server = Server::parse("ws://a", Trust::All, Some("secret")).unwrap();
        assert!(!format!("{server:?} {:?}", server.request()).contains("secret"));
        assert!(Server::parse("ws://a", Trust::All, Some("a\nb")).is_err());
    }

    #[test]
    fn only_what_another_try_may_change_is_tried_again() {
        let server = Server::parse("ws://a", Trust::All, None).unwrap();
        for (status, is_final) in [(401, true), (403, true), (404, true), (426, true), (429, false), (503, false)] {
            assert_eq!(matches!(refusal(&server, status), Lost::Refused(_)), is_final, "{status}");
        }
    }
}
