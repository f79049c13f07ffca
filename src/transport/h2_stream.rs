//! A WebSocket or an event stream that is a stream of an HTTP/2 connection (RFC 8441): [`H2Stream`].
//!
//! Nothing is written that the stream has no room for: within the client's windows for the stream and for the
//! connection, and within the connection's send buffer. The bytes that do not fit wait in the send queue, as they do
//! for TCP, so a stream without a window is a socket that would block. The stream asks for room only while something
//! waits, because the part of the connection's window that one stream has been given is not there for the others.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};

/// The room that a stream that waits asks for.
const ROOM_BYTES: usize = 16 * 1024;

/// A stream of an HTTP/2 connection, both ways.
#[derive(Debug)]
pub struct H2Stream {
    send: SendStream<Bytes>,
    /// The other half; none of a request that is ended, whose answer this is.
    receive: Option<RecvStream>,
    /// The part of the last DATA frame that did not fit into the reader's buffer.
    unread: Bytes,
    writing: Writing,
    peer: Option<SocketAddr>,
}

/// The progress of the written bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The client has ended the stream.
    Broken,
    /// All of it is on its way.
    Ended,
    /// All of it is written, but the client had no room for it.
    Stalled,
}

impl H2Stream {
    /// Joins the two halves of a stream, with the address of the peer at the other end of its connection.
    #[must_use]
    pub const fn new(send: SendStream<Bytes>, receive: RecvStream, peer: Option<SocketAddr>) -> Self {
        Self { send, receive: Some(receive), unread: Bytes::new(), writing: Writing::Open, peer }
    }

    /// Returns the stream of an answer, whose reader has nothing more to say.
    #[must_use]
    pub const fn of_answer(send: SendStream<Bytes>, peer: Option<SocketAddr>) -> Self {
        Self { send, receive: None, unread: Bytes::new(), writing: Writing::Open, peer }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(receive) = &mut self.receive else { return self.poll_end(cx).map(|()| Ok(0)) };
        while self.unread.is_empty() {
            match ready!(receive.poll_data(cx)) {
                Some(data) => self.unread = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(0)),
            }
        }
        let read = self.unread.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.unread.split_to(read));
        // Fails only if the stream has ended.
        let _ = receive.flow_control().release_capacity(read);
        Poll::Ready(Ok(read))
    }

    /// Waits for the end of an answer: until all of it is on its way, or the client does not want it any more.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.writing {
            Writing::Ended | Writing::Broken => Poll::Ready(()),
            Writing::Open | Writing::Stalled => self.send.poll_reset(cx).map(drop),
        }
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room_for(bytes.len())?;
        self.write(Bytes::copy_from_slice(&bytes[..room]))
    }

    /// Writes one DATA frame, since each has a head and costs the connection's lock.
    pub(super) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = self.room_for(slices.iter().map(|slice| slice.len()).sum())?;
        let mut joined = BytesMut::with_capacity(room);
        for slice in slices {
            joined.extend_from_slice(&slice[..slice.len().min(room - joined.len())]);
        }
        self.write(joined.freeze())
    }

    /// Returns the number of bytes, of so many, that may be written now. If there is no room, it is asked for; if
    /// there is room for all, nothing is kept back from the other streams.
    fn room_for(&mut self, bytes: usize) -> io::Result<usize> {
        if self.writing != Writing::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.send.reserve_capacity(bytes.min(ROOM_BYTES));
        match self.send.capacity() {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => Ok(room.min(bytes)),
        }
    }

    fn write(&mut self, bytes: Bytes) -> io::Result<usize> {
        let written = bytes.len();
        self.send.send_data(bytes, false).map_err(io::Error::other)?;
        Ok(written)
    }

    /// Waits for room after a write that would have blocked, which has asked for it.
    pub(super) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.send.capacity() > 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(Ok(_)) = ready!(self.send.poll_capacity(cx)) {
            return Poll::Ready(Ok(()));
        }
        // The next write says so.
        self.writing = Writing::Broken;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Ends this side of the stream, behind all bytes that were written.
    pub(super) fn end_writing(&mut self) {
        if self.writing == Writing::Open {
            self.send.reserve_capacity(1);
            self.writing = if self.send.capacity() == 0 { Writing::Stalled } else { Writing::Ended };
            // Fails only if the client has ended the stream.
            let _ = self.send.send_data(Bytes::new(), true);
        }
    }

    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl Drop for H2Stream {
    /// Tells a client that takes the bytes sent that they were all. With one that takes nothing, the stream would stay
    /// until the connection ends, so it is ended at once.
    fn drop(&mut self) {
        self.end_writing();
        if self.writing == Writing::Stalled {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
