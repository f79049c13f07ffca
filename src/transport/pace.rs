//! The pace at which a client has to take an answer: [`Pace`], and a stream whose peer is held to it, [`PacedStream`].
//!
//! A bound on the time in which a client takes nothing is no bound on an answer: one byte before each end of it keeps
//! the answer, and its part of a budget, for ever.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The bytes that a client has to take in each timeout, if so many wait for it: 546 a second where that is 30 s.
pub(crate) const PACE_BYTES: usize = 16 * 1024;

/// The pace of one client: [`PACE_BYTES`] in each timeout.
#[derive(Debug)]
pub(crate) struct Pace {
    timeout: Duration,
    /// The bytes taken since the deadline was set.
    taken: usize,
    /// None as long as nothing waits for the client.
    deadline: Option<Instant>,
}

impl Pace {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self { timeout, taken: 0, deadline: None }
    }

    /// Counts bytes that the client took.
    pub(crate) const fn took(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken >= PACE_BYTES {
            self.rest();
        }
    }

    /// Stops the clock, because nothing waits for the client.
    pub(crate) const fn rest(&mut self) {
        (self.taken, self.deadline) = (0, None);
    }

    /// Returns the time at which a client that takes nothing at this moment has been too slow.
    pub(crate) fn deadline(&mut self) -> Instant {
        *self.deadline.get_or_insert_with(|| Instant::now() + self.timeout)
    }
}

/// A stream that fails with [`TimedOut`](io::ErrorKind::TimedOut) where its peer does not keep the pace. What is flushed
/// has been taken.
#[derive(Debug)]
pub(crate) struct PacedStream<S> {
    stream: S,
    pace: Pace,
    /// Waits for the deadline. Boxed because few peers make one wait.
    timer: Option<Pin<Box<Sleep>>>,
    is_flushed: Rc<Cell<bool>>,
}

impl<S> PacedStream<S> {
    pub(crate) fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, pace: Pace::new(timeout), timer: None, is_flushed: Rc::new(Cell::new(true)) }
    }

    /// Returns the place that says whether everything was flushed that whoever writes had to write.
    pub(crate) fn flushed(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.is_flushed)
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_flushed.set(false);
        match written {
            Poll::Ready(Ok(bytes)) => self.pace.took(bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => ready!(self.poll_deadline(cx))?,
        }
        written
    }

    /// Fails once the peer has been too slow.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = self.pace.deadline();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() {
            return self.poll_deadline(cx);
        }
        self.pace.rest();
        self.timer = None;
        self.is_flushed.set(true);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Returns the outcome of an answer whose client takes so many bytes a moment before each timeout.
    async fn taken_by(bytes: usize) -> io::Result<()> {
        let (server, mut client) = duplex(1024);
        let mut server = PacedStream::new(server, TIMEOUT);
        let reading = tokio::spawn(async move {
            let mut part = vec![0; bytes];
            loop {
                sleep(Duration::from_millis(29_999)).await;
                if client.read_exact(&mut part).await.is_err() {
                    return;
                }
            }
        });
        let written = async {
            server.write_all(&vec![0; 5 * PACE_BYTES]).await?;
            server.flush().await
        };
        let written = written.await;
        drop(server);
        reading.await.unwrap();
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_the_pace_gets_its_answer_however_long_it_takes() {
        taken_by(PACE_BYTES).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_now_and_then_is_too_slow() {
        for bytes in [1, PACE_BYTES / 2] {
            assert_eq!(taken_by(bytes).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_for_which_nothing_waits_may_take_its_time() {
        let (server, mut client) = duplex(1024);
        let mut server = PacedStream::new(server, TIMEOUT);
        for _ in 0..5 {
            server.write_all(&[0; 1000]).await.unwrap();
            server.flush().await.unwrap();
            sleep(2 * TIMEOUT).await;
            client.read_exact(&mut [0; 1000]).await.unwrap();
        }
    }
}
