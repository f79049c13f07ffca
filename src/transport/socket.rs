//! The socket that a [`Connection`](crate::connection::Connection) reads and writes: [`Socket`], with nothing that
//! blocks.
//!
//! A variant other than plain TCP stands behind a pointer, since a plain socket must not pay for it in memory.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::h2_stream::H2Stream;
use super::pace::PACE_BYTES;
use crate::transport::tls::TlsStream;

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The most unsent bytes that the kernel may hold before it says that a socket is full.
const NOTSENT_BYTES_MAX: u32 = 16 * 1024;
const _: () = assert!(NOTSENT_BYTES_MAX as usize <= PACE_BYTES, "a peer's pace is not hidden in the kernel");
/// The send buffer of a socket that closes, as the kernel counts it: with its own bookkeeping.
const LAST_BYTES_MAX: usize = 2 * 212_992;

/// The bytes of one WebSocket or event stream, below its frames.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Plain(TcpStream),
    /// A stream of an HTTP/2 connection.
    Http2(Box<H2Stream>),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

const _: () = assert!(size_of::<Socket>() <= size_of::<TcpStream>() + 8, "an idle plain socket pays for nothing else");

impl Socket {
    /// Prepares it for changes that go out as they come.
    pub(crate) fn prepare(&self) {
        match self {
            Self::Plain(stream) => prepare_for_changes(stream),
            Self::Tls(stream) => prepare_for_changes(stream.tcp()),
            // Its connection is prepared.
            Self::Http2(_) => {}
        }
    }

    /// Ends it once its peer has taken nothing of what was written for so long, also one whose host is gone. A stream of an
    /// HTTP/2 connection ends with that.
    pub(crate) fn give_up_after(&self, longest: Duration) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
            Self::Http2(_) => return,
        };
        // A socket that refuses it is given up later, by TCP's own patience.
        let _ = SockRef::from(stream).set_tcp_user_timeout(Some(longest));
    }

    /// Reads the bytes that have come; 0 is the end. If none have, the task of `cx` is woken when some do.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                ready!(stream.poll_read_ready(cx))?;
                match stream.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            },
            Self::Http2(stream) => stream.poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read_into(cx, buffer),
        }
    }

    /// Writes a part of `bytes`, all of it if it fits; returns `WouldBlock` if the socket takes nothing now. Bytes that
    /// were written may wait for [`Socket::poll_flush`].
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Http2(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Writes several pieces as [`Socket::try_write`] does, in order, with one system call.
    pub(crate) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write_vectored(slices),
            Self::Http2(stream) => stream.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Writes one frame past Tokio's bookkeeping of readiness, whose memory is not touched if the socket takes all;
    /// returns the number of bytes that it took. Only for a socket with nothing waiting; a caller whose frame was not
    /// taken whole goes on with [`Socket::try_write`], which keeps the books and returns the error.
    pub(crate) fn send_alone(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Plain(stream) => send(stream, bytes, SEND_FLAGS).unwrap_or(0),
            Self::Http2(stream) => stream.try_write(bytes).unwrap_or(0),
            Self::Tls(stream) => stream.send_alone(bytes),
        }
    }

    /// Returns whether no written bytes wait here for [`Socket::poll_flush`].
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            // An HTTP/2 connection's own task sends the bytes that it has taken.
            Self::Plain(_) | Self::Http2(_) => true,
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// Checks whether the socket may take more; if not, the task of `cx` is woken when it may.
    pub(crate) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_ready(cx),
            Self::Http2(stream) => stream.poll_write_ready(cx),
            Self::Tls(stream) => stream.tcp().poll_write_ready(cx),
        }
    }

    /// Sends the written bytes that are still here; otherwise the task of `cx` is woken when more can be sent.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Http2(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_flush_unsent(cx),
        }
    }

    /// Says that nothing follows the bytes that were written. Only after all of them are flushed.
    pub(crate) fn end_writing(&mut self) {
        let tcp = match self {
            Self::Plain(stream) => &*stream,
            Self::Tls(stream) => {
                stream.end_writing();
                stream.tcp()
            }
            Self::Http2(stream) => return stream.end_writing(),
        };
        // A peer that is gone has nothing to be told.
        let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
    }

    /// Makes the kernel take as many bytes as it may, because nothing follows them: the bytes that it has taken reach a
    /// peer that reads later, also after this process has ended.
    pub(crate) fn make_room_for_last(&self) {
        match self {
            Self::Plain(stream) => make_room_for_last(stream),
            Self::Tls(stream) => make_room_for_last(stream.tcp()),
            // It takes as much as the client's windows allow.
            Self::Http2(_) => {}
        }
    }

    /// Returns the peer's address.
    ///
    /// # Errors
    /// If the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr(),
            Self::Http2(stream) => stream.peer().ok_or_else(|| io::ErrorKind::NotConnected.into()),
            Self::Tls(stream) => stream.tcp().peer_addr(),
        }
    }
}

/// Bounds the time for which a peer may take nothing of the written bytes (`TCP_USER_TIMEOUT`, tcp(7)): its connection
/// ends then. Bounds the unsent bytes as well, so that the pace at which the socket takes bytes is the peer's
/// (`PACE_BYTES`).
/// A socket that carries changes has no such bound of time, since its queue and its heartbeat have theirs.
pub fn limit_writes(stream: &TcpStream, longest: Duration) {
    // A socket that refuses an option only waits longer, or is given up sooner.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(longest));
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_BYTES_MAX);
}

/// Prepares a connection that carries changes: old ones are not to hide in the kernel's buffer, and a slow reader is
/// not cut for its slowness.
pub fn prepare_for_changes(stream: &TcpStream) {
    // A socket that refuses an option only is less fresh, or ends sooner.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_BYTES_MAX);
    let _ = SockRef::from(stream).set_tcp_user_timeout(None);
}

/// Takes the bound of [`prepare_for_changes`] off, and makes the send buffer as large as an unprivileged process may
/// have it by default (twice `net.core.wmem_max`), if it is smaller.
fn make_room_for_last(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // A socket that refuses an option only takes less.
    let _ = socket.set_tcp_notsent_lowat(u32::MAX);
    if socket.send_buffer_size().is_ok_and(|bytes| bytes < LAST_BYTES_MAX) {
        let _ = socket.set_send_buffer_size(LAST_BYTES_MAX / 2);
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl From<H2Stream> for Socket {
    fn from(stream: H2Stream) -> Self {
        Self::Http2(Box::new(stream))
    }
}

impl From<Box<TlsStream>> for Socket {
    fn from(stream: Box<TlsStream>) -> Self {
        Self::Tls(stream)
    }
}
