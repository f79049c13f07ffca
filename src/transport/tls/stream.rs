//! TLS over a TCP socket: [`TlsStream`], which keeps no buffer while it is idle.
//!
//! rustls carries out the protocol and does no I/O. All bytes read and written go through [`Scratch`], which all
//! streams of a thread share; a stream keeps bytes of its own only while a record is incomplete, its reader had no room
//! for decrypted bytes, or the socket took a part of a record.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes that one call writes: one full record (RFC 8446, §5.1). It bounds the bytes that a slow reader's
/// stream keeps.
const WRITE_BYTES_MAX: usize = 16 * 1024;
/// The most bytes that are kept of incomplete messages. A record has at most 18 KiB; a `ClientHello` may be spread over
/// several, but no honest one is so long.
const UNDECRYPTED_BYTES_MAX: usize = 32 * 1024;
/// The bytes that are read at once, beside those that were kept.
const READ_BYTES_MAX: usize = 64 * 1024;
/// The bytes that are read at once if the reader has less room.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The bytes that a record adds to its contents, for all cipher suites; a guess that only has to be good.
const RECORD_OVERHEAD_BYTES: usize = 64;
const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The buffers that the streams of a thread share; none of them holds anything between two calls.
struct Scratch {
    incoming: Box<[u8]>,
    gathered: Vec<u8>,
    outgoing: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; UNDECRYPTED_BYTES_MAX + READ_BYTES_MAX].into_boxed_slice(),
        gathered: Vec::with_capacity(WRITE_BYTES_MAX),
        outgoing: Vec::with_capacity(WRITE_BYTES_MAX + RECORD_OVERHEAD_BYTES),
    });
}

/// The server's side of a TLS connection.
pub struct TlsStream {
    tcp: TcpStream,
    tls: UnbufferedServerConnection,
    /// Read, and not decrypted: the start of a message, or the bytes after contents that found no room.
    undecrypted: Vec<u8>,
    /// Decrypted, and not read by the user of this stream.
    unread: Vec<u8>,
    /// Encrypted, and not taken by the socket.
    unsent: Vec<u8>,
    /// True if nothing more is read: the peer has said so, ended TCP, or broke the protocol.
    is_ended: bool,
    is_failed: bool,
}

/// The destination of decrypted bytes: first the reader's buffer.
struct Decrypted<'a> {
    buffer: &'a mut [u8],
    filled: usize,
    is_full: bool,
}

impl<'a> Decrypted<'a> {
    fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, filled: 0, is_full: false }
    }

    fn push(&mut self, bytes: &[u8], unread: &mut Vec<u8>) {
        let taken = bytes.len().min(self.buffer.len() - self.filled);
        self.buffer[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        unread.extend_from_slice(&bytes[taken..]);
        self.is_full = self.filled == self.buffer.len();
    }
}

impl TlsStream {
    /// Carries the handshake out. It has no deadline of its own.
    ///
    /// # Errors
    /// If the peer ends or breaks it; the peer was told the reason, if TLS has an alert for it.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Box<Self>> {
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = Box::new(Self {
            tcp,
            tls,
            undecrypted: Vec::new(),
            unread: Vec::new(),
            unsent: Vec::new(),
            is_ended: false,
            is_failed: false,
        });
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// Returns the protocol that both sides speak on top (RFC 7301), if the client offered any.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Returns whether the handshake took up an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns the socket below.
    #[must_use]
    pub const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush_unsent(cx))?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.is_ended {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_decrypt(cx, &mut Decrypted::new(&mut [])))?;
        }
    }

    /// Reads the bytes that have come; 0 is the end, announced by the peer or not. `buffer` has room.
    ///
    /// # Errors
    /// If the peer breaks the protocol, or its socket fails.
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.unread.is_empty() {
            let taken = self.unread.len().min(buffer.len());
            buffer[..taken].copy_from_slice(&self.unread[..taken]);
            self.unread = self.unread.split_off(taken);
            return Poll::Ready(Ok(taken));
        }
        let mut decrypted = Decrypted::new(buffer);
        while decrypted.filled == 0 && !self.is_ended {
            // TLS has answers of its own. They wait for the socket like everything else, and reading does not wait for
            // them.
            if let Poll::Ready(Err(error)) = self.poll_flush_unsent(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_decrypt(cx, &mut decrypted))?;
        }
        let _ = self.poll_flush_unsent(cx);
        Poll::Ready(Ok(decrypted.filled))
    }

    /// Decrypts the bytes that were left over, if that can be, or else the socket's.
    fn poll_decrypt(&mut self, cx: &mut Context<'_>, decrypted: &mut Decrypted<'_>) -> Poll<io::Result<()>> {
        if has_whole_record(&self.undecrypted) {
            let mut records = std::mem::take(&mut self.undecrypted);
            let taken = self.process(&mut records, decrypted)?;
            self.undecrypted = records.split_off(taken);
            if taken > 0 || decrypted.filled > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        SCRATCH.with_borrow_mut(|Scratch { incoming, .. }| {
            let kept = self.undecrypted.len();
            let room = decrypted.buffer.len().clamp(READ_BYTES_MIN, READ_BYTES_MAX);
            let read = loop {
                ready!(self.tcp.poll_read_ready(cx))?;
                match self.tcp.try_read(&mut incoming[kept..kept + room]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => break result?,
                }
            };
            if read == 0 {
                self.is_ended = true;
                return Poll::Ready(Ok(()));
            }
            let records = &mut incoming[..kept + read];
            records[..kept].copy_from_slice(&self.undecrypted);
            let taken = self.process(records, decrypted)?;
            let rest = &records[taken..];
            if rest.len() > UNDECRYPTED_BYTES_MAX {
                return Poll::Ready(Err(self.fail("a TLS message is above 32 KiB")));
            }
            // A vector without bytes owns no memory.
            self.undecrypted = rest.to_vec();
            Poll::Ready(Ok(()))
        })
    }

    /// Takes messages from the front of `records` until nothing whole is left or `decrypted` is full; returns the
    /// number of their bytes.
    fn process(&mut self, records: &mut [u8], decrypted: &mut Decrypted<'_>) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut records[taken..]);
            let mut is_over = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        decrypted.push(record.payload, &mut self.unread);
                    }
                    is_over = decrypted.is_full;
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(&mut self.unsent, 0, |room| message.encode(room))?;
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(_) => is_over = true,
                Err(error) => {
                    self.take_alert(&mut records[taken + discard..]);
                    return Err(self.fail(error));
                }
            }
            taken += discard;
            if is_over {
                return Ok(taken);
            }
        }
    }

    /// Takes from rustls the alert that tells the peer of an error, and not one record more of `records`.
    fn take_alert(&mut self, records: &mut [u8]) {
        while self.tls.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut alert)) = self.tls.process_tls_records(records).state
        {
            let _ = append(&mut self.unsent, 0, |room| alert.encode(room));
        }
    }

    /// Ends this side; the peer is told the reason if its socket takes that at once.
    fn fail(&mut self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
        self.is_ended = true;
        self.is_failed = true;
        let _ = self.tcp.try_write(&self.unsent);
        self.unsent = Vec::new();
        self.undecrypted = Vec::new();
        invalid(error)
    }

    /// Writes a part of `bytes`, at most a record: the bytes that the socket does not take wait here for
    /// [`TlsStream::poll_flush_unsent`].
    ///
    /// # Errors
    /// `WouldBlock` if the socket has not taken the bytes written before; others if the connection has ended.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush_unsent()?;
        SCRATCH.with_borrow_mut(|Scratch { outgoing, .. }| self.write(bytes, outgoing, TcpStream::try_write))
    }

    /// Writes several pieces as [`TlsStream::try_write`] does, in order, as one record.
    ///
    /// # Errors
    /// The same as there.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_flush_unsent()?;
        SCRATCH.with_borrow_mut(|Scratch { gathered, outgoing, .. }| {
            gathered.clear();
            for slice in slices {
                let room = WRITE_BYTES_MAX - gathered.len();
                gathered.extend_from_slice(&slice[..slice.len().min(room)]);
                if gathered.len() == WRITE_BYTES_MAX {
                    break;
                }
            }
            self.write(gathered, outgoing, TcpStream::try_write)
        })
    }

    /// Writes past Tokio's bookkeeping of readiness, whose memory is not touched if the socket takes all; returns the
    /// number of `bytes` that were taken, at most a record. Check [`TlsStream::is_flushed`] after it.
    pub fn send_alone(&mut self, bytes: &[u8]) -> usize {
        if !self.unsent.is_empty() {
            return 0;
        }
        let sent = SCRATCH.with_borrow_mut(|Scratch { outgoing, .. }| {
            // The bytes that a failing socket does not take wait, and the flush that follows learns the reason.
            self.write(bytes, outgoing, |tcp, record| Ok(send(tcp, record, SEND_FLAGS).unwrap_or(0)))
        });
        sent.unwrap_or(0)
    }

    fn write(
        &mut self,
        bytes: &[u8],
        outgoing: &mut Vec<u8>,
        give: impl FnOnce(&TcpStream, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        outgoing.clear();
        self.encrypt(outgoing, Message::Contents(bytes))?;
        let sent = match give(&self.tcp, outgoing) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        if sent < outgoing.len() {
            self.unsent = outgoing[sent..].to_vec();
        }
        Ok(bytes.len())
    }

    /// Appends a message to `out`, after the bytes that TLS itself has to send.
    fn encrypt(&mut self, out: &mut Vec<u8>, message: Message<'_>) -> io::Result<()> {
        if self.is_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            // With the bytes that were kept, since rustls has noted where in them a message stands.
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut self.undecrypted);
            let mut is_done = false;
            let state = match state {
                Ok(state) => state,
                Err(error) => return Err(self.fail(error)),
            };
            match state {
                ConnectionState::WriteTraffic(mut traffic) => {
                    match message {
                        Message::Contents(bytes) => {
                            let room = bytes.len() + RECORD_OVERHEAD_BYTES;
                            append(out, room, |room| traffic.encrypt(bytes, room))?;
                        }
                        Message::CloseNotify => {
                            append(out, RECORD_OVERHEAD_BYTES, |room| traffic.queue_close_notify(room))?;
                        }
                    }
                    is_done = true;
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        self.unread.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut message) => append(out, 0, |room| message.encode(room))?,
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.is_ended = true,
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            self.undecrypted.drain(..discard);
            if is_done {
                return Ok(());
            }
        }
    }

    /// Returns whether the socket has taken all bytes that were written.
    #[must_use]
    pub const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Gives the socket the bytes that it has not taken; if it does not take all, the task of `cx` is woken when it
    /// takes more.
    ///
    /// # Errors
    /// The errors of the socket.
    pub fn poll_flush_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.try_flush_unsent() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.tcp.poll_write_ready(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    fn try_flush_unsent(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let sent = self.tcp.try_write(&self.unsent)?;
            // Leaves no memory behind once all is sent.
            self.unsent = self.unsent.split_off(sent);
        }
        Ok(())
    }

    /// Sends `close_notify`, and does not wait for a socket that does not take it at once.
    pub fn end_writing(&mut self) {
        self.write_close_notify();
        let _ = self.try_flush_unsent();
    }

    /// Adds `close_notify` (RFC 8446, §6.1), once, to the waiting bytes; nothing may follow it.
    fn write_close_notify(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        // A connection that has failed has sent its alert.
        let _ = self.encrypt(&mut unsent, Message::CloseNotify);
        self.unsent = unsent;
    }
}

impl std::fmt::Debug for TlsStream {
    /// Leaves out the secrets that the two sides share.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Message<'a> {
    Contents(&'a [u8]),
    CloseNotify,
}

/// Returns whether a record stands at the front (RFC 8446, §5.1: type, version, length).
fn has_whole_record(bytes: &[u8]) -> bool {
    let length = bytes.get(3..5).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    length.is_some_and(|length| bytes.len() >= 5 + length)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// An error of rustls about a buffer that it was given.
trait Insufficient: std::error::Error + Send + Sync + 'static {
    fn required_bytes(&self) -> Option<usize>;
}

impl Insufficient for EncodeError {
    fn required_bytes(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Insufficient for EncryptError {
    fn required_bytes(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Appends the bytes that `write` writes, in room for `expected_bytes`, or as much as it then asks for.
fn append<E: Insufficient>(
    out: &mut Vec<u8>,
    expected_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> io::Result<()> {
    let start = out.len();
    out.resize(start + expected_bytes, 0);
    let mut written = write(&mut out[start..]);
    if let Some(bytes) = written.as_ref().err().and_then(Insufficient::required_bytes) {
        out.resize(start + bytes, 0);
        written = write(&mut out[start..]);
    }
    out.truncate(start + *written.as_ref().unwrap_or(&0));
    written.map(|_| ()).map_err(io::Error::other)
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(self.poll_read_into(cx, buffer.initialize_unfilled()))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush_unsent(cx))?;
        Poll::Ready(self.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush_unsent(cx))?;
        Poll::Ready(self.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_unsent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_close_notify();
        ready!(self.poll_flush_unsent(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
