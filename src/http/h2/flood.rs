//! Frames that cost a client nothing and this side an answer: [`FloodGuard`] counts them as they are read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many such frames may come at once. A browser that closes all of its streams sends a reset for each.
const FRAMES_AT_ONCE_MAX: u32 = 1024;
/// How many may come each second after that.
const FRAMES_PER_SECOND_MAX: u32 = 64;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

/// A client's stream, on which a flood is noticed.
///
/// Counted are the frames that have to be answered (SETTINGS, PING), those that undo work that was begun (`RST_STREAM`),
/// and those that mean nothing (PRIORITY, unknown types). HEADERS, CONTINUATION and DATA have bounds of their own in the h2
/// crate. Once too many have come, nothing is read any more.
#[derive(Debug)]
pub(super) struct FloodGuard<S> {
    stream: S,
    frames: FrameCount,
    sign: FloodSign,
}

/// Says whether there is a flood. All clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct FloodSign(Rc<Cell<bool>>);

impl FloodSign {
    pub(super) fn is_raised(&self) -> bool {
        self.0.get()
    }

    /// Waits for it, in the task that reads the stream: that task is woken when it is raised.
    pub(super) async fn raised(&self) {
        std::future::poll_fn(|_| if self.is_raised() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl<S> FloodGuard<S> {
    pub(super) fn new(stream: S) -> (Self, FloodSign) {
        let sign = FloodSign::default();
        (Self { stream, frames: FrameCount::new(Instant::now()), sign: sign.clone() }, sign)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FloodGuard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sign.is_raised() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.frames.read(&buffer.filled()[before..], Instant::now) {
            return Poll::Ready(Ok(()));
        }
        self.sign.0.set(true);
        buffer.set_filled(before);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FloodGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Finds the heads of frames (RFC 9113, §4.1) in what is read, however it is cut, and counts those that matter.
#[derive(Debug)]
struct FrameCount {
    /// Bytes that are no part of a head: what is left of the preface or of a payload.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// How many more may come now.
    allowed: u32,
    /// When the allowance last grew.
    grown: Instant,
}

impl FrameCount {
    const fn new(now: Instant) -> Self {
        let allowed = FRAMES_AT_ONCE_MAX;
        Self { skip: PREFACE_BYTES, head: [0; HEAD_BYTES], head_bytes: 0, allowed, grown: now }
    }

    /// Takes what was read; whether no more came than may.
    fn read(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> bool {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..][..taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes < HEAD_BYTES {
                return true;
            }
            let [high, middle, low, kind, ..] = self.head;
            self.head_bytes = 0;
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if is_counted(kind) && !self.allow(&now) {
                return false;
            }
        }
    }

    fn allow(&mut self, now: &impl Fn() -> Instant) -> bool {
        if self.allowed < FRAMES_AT_ONCE_MAX / 2 {
            let now = now();
            let seconds = u32::try_from((now - self.grown).as_secs()).unwrap_or(u32::MAX);
            if seconds > 0 {
                self.grown = now;
                let more = seconds.saturating_mul(FRAMES_PER_SECOND_MAX);
                self.allowed = self.allowed.saturating_add(more).min(FRAMES_AT_ONCE_MAX);
            }
        }
        let is_allowed = self.allowed > 0;
        self.allowed = self.allowed.saturating_sub(1);
        is_allowed
    }
}

/// By the type of a frame (RFC 9113, §6).
const fn is_counted(kind: u8) -> bool {
    const DATA: u8 = 0x0;
    const HEADERS: u8 = 0x1;
    const WINDOW_UPDATE: u8 = 0x8;
    const CONTINUATION: u8 = 0x9;
    !matches!(kind, DATA | HEADERS | WINDOW_UPDATE | CONTINUATION)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DATA: u8 = 0x0;
    const PING: u8 = 0x6;

    fn frame(kind: u8, payload_bytes: u8) -> Vec<u8> {
        // The payload looks like heads of frames that would count.
        let mut frame = vec![0, 0, payload_bytes, kind, 0, 0, 0, 0, 0];
        frame.resize(HEAD_BYTES + usize::from(payload_bytes), PING);
        frame
    }

    fn counted(bytes: &[u8], piece: usize) -> u32 {
        let now = Instant::now();
        let mut frames = FrameCount::new(now);
        assert!(frames.read(&[b'x'; PREFACE_BYTES], || now));
        for piece in bytes.chunks(piece) {
            assert!(frames.read(piece, || now));
        }
        FRAMES_AT_ONCE_MAX - frames.allowed
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes = [frame(PING, 8), frame(DATA, 200), frame(0x4, 0), frame(0x1, 40), frame(0x3, 4), frame(0x8, 4)];
        let bytes = bytes.concat();
        for piece in 1..=bytes.len() {
            assert_eq!(counted(&bytes, piece), 3, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_may_come_grows_with_time_up_to_its_bound() {
        let start = Instant::now();
        let mut frames = FrameCount::new(start);
        assert!(frames.read(&[b'x'; PREFACE_BYTES], || start));
        // Without a payload, whose rest would be left of a frame that is one too many.
        let ping = frame(PING, 0);
        let mut come = |at: Instant| (0..10_000).take_while(|_| frames.read(&ping, || at)).count();
        assert_eq!(come(start), FRAMES_AT_ONCE_MAX as usize);
        assert_eq!(come(start + Duration::from_millis(999)), 0);
        assert_eq!(come(start + Duration::from_secs(2)), 2 * FRAMES_PER_SECOND_MAX as usize);
        assert_eq!(come(start + Duration::from_secs(10_000)), FRAMES_AT_ONCE_MAX as usize);
    }
}
