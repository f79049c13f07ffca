//! The way to the server under test, plain or under TLS: [`Target`], and the streams that lead there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, anyhow};
use rowcast::transport::tls::{Trust, client_config};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http2::Http2Stream;
use crate::token::Token;

/// The least bytes that one read of a TLS socket takes, where there are so many.
const TLS_READ_BYTES: usize = 32 * 1024;

/// The server's address, and the way to speak to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The token that every request and handshake carries.
    pub(crate) token: Token,
}

impl Target {
    pub(crate) fn plain(address: SocketAddr, token: Token) -> Self {
        Self { address, tls: None, token }
    }

    /// Returns a server that has a certificate for `host`.
    pub(crate) fn tls(address: SocketAddr, host: &str, trust: Trust<'_>, token: Token) -> anyhow::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name"))?;
        let config = client_config(trust).map_err(|reason| match trust {
            Trust::File(file) => anyhow!("--ca {}: {reason}", file.display()),
            Trust::All => anyhow!(reason),
        })?;
        Ok(Self { address, tls: Some((Arc::new(config), name)), token })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the same server, to which every handshake is a new one.
    pub(crate) fn without_sessions(&self) -> Self {
        self.with(Resumption::disabled())
    }

    /// Returns the same server, with a memory of sessions that nobody else takes from.
    pub(crate) fn with_own_sessions(&self) -> Self {
        self.with(Resumption::in_memory_sessions(1))
    }

    /// Returns the same server, spoken to in HTTP/2: under TLS by ALPN, on plain TCP by prior knowledge.
    pub(crate) fn in_http2(&self) -> Self {
        let mut target = self.clone();
        if let Some((config, _)) = &mut target.tls {
            Arc::make_mut(config).alpn_protocols = vec![b"h2".to_vec()];
        }
        target
    }

    fn with(&self, resumption: Resumption) -> Self {
        let mut target = self.clone();
        if let Some((config, _)) = &mut target.tls {
            Arc::make_mut(config).resumption = resumption;
        }
        target
    }

    /// Goes on from a TCP connection.
    pub(crate) async fn over(&self, tcp: TcpStream) -> io::Result<Stream> {
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some((config, name)) => {
                let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await?;
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }
}

/// A stream while a connection is being set up.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Http2(Http2Stream),
}

impl Stream {
    /// Returns true if TLS took up an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Returns the stream outside of the runtime; the bytes that it had read and decrypted go to `unread`.
    pub(crate) fn into_ready(self, unread: &mut Vec<u8>) -> io::Result<ReadyStream> {
        match self {
            Self::Plain(stream) => Ok(ReadyStream::Plain(stream.into_std()?)),
            Self::Tls(stream) => {
                let (tcp, mut tls) = stream.into_inner();
                match tls.reader().read_to_end(unread) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
                Ok(ReadyStream::Tls(Box::new((tcp.into_std()?, tls))))
            }
            Self::Http2(mut stream) => {
                unread.extend_from_slice(&stream.take_rest());
                Ok(ReadyStream::Http2(stream))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A stream that is read when an epoll says so: nothing that it had is left behind after a read, so that the epoll
/// tells all. One of an HTTP/2 connection has no file of its own, and wakes the task that polls it.
pub(crate) enum ReadyStream {
    Plain(std::net::TcpStream),
    Tls(Box<(std::net::TcpStream, ClientConnection)>),
    Http2(Http2Stream),
}

impl ReadyStream {
    /// Returns the file that an epoll watches, if there is such a thing.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Plain(stream) => Some(stream.as_fd()),
            Self::Tls(stream) => Some(stream.0.as_fd()),
            Self::Http2(_) => None,
        }
    }
}

impl Read for ReadyStream {
    /// Reads into `buffer`, which has room for more than [`TLS_READ_BYTES`] and a record. Streams of HTTP/2 are polled
    /// instead.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (tcp, tls) = match self {
            Self::Plain(stream) => return stream.read(buffer),
            Self::Tls(stream) => &mut **stream,
            Self::Http2(_) => return Err(ErrorKind::WouldBlock.into()),
        };
        let mut filled = 0;
        while filled < TLS_READ_BYTES {
            match tls.read_tls(tcp) {
                Ok(0) => return Ok(filled),
                Err(error) if filled > 0 && error.kind() == ErrorKind::WouldBlock => return Ok(filled),
                result => result?,
            };
            tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            filled += match tls.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                result => result?,
            };
        }
        Ok(filled)
    }
}

impl Write for ReadyStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => {
                let (tcp, tls) = &mut **stream;
                let written = tls.writer().write(bytes)?;
                while tls.wants_write() {
                    tls.write_tls(tcp)?;
                }
                Ok(written)
            }
            Self::Http2(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
