//! Frames that cost a client nothing and this side an answer: [`FloodGuard`] counts them as they are read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::Instant;

/// Frames that have to be answered or undo work. A browser that closes all of its streams sends a reset for each.
const BURDENS: Rate = Rate { at_once_max: 1024, per_second: 64 };
/// `WINDOW_UPDATE` frames beside those that [`SENT_BYTES_PER_UPDATE`] pays for.
const UPDATES: Rate = Rate { at_once_max: 16 * 1024, per_second: 256 };
/// Small DATA frames: messages of WebSockets, of which a connection may have many.
const SMALL_DATA: Rate = Rate { at_once_max: 8 * 1024, per_second: 4096 };

/// One `WINDOW_UPDATE` may come for so many bytes that were sent. A client that answers each DATA frame at once sends
/// two, and the DATA frame of a change has more than a hundred bytes.
const SENT_BYTES_PER_UPDATE: usize = 48;
/// A DATA frame with fewer bytes than this is small, unless it ends its stream.
const SMALL_BYTES: usize = 256;
/// After so many frames the core looks after others first.
const FRAMES_A_TURN: usize = 128;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

/// A client's stream, on which a flood is noticed.
///
/// Counted are the frames that have to be answered (SETTINGS, PING), those that undo work that was begun
/// (`RST_STREAM`), and those that mean nothing (PRIORITY, unknown types); `WINDOW_UPDATE`, against the bytes that were
/// sent; and small DATA frames, such as pings inside a WebSocket. HEADERS, CONTINUATION and other DATA have bounds of
/// their own in the h2 crate. Once too many have come, nothing is read any more.
pub(super) struct FloodGuard<S> {
    stream: S,
    frames: FrameCount,
    sign: FloodSign,
    /// Frames read since others had their turn.
    frames_of_turn: usize,
    /// The turn of others.
    turn_of_others: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Tells if there is a flood. All clones are one.
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
        let frames = FrameCount::new(Instant::now());
        (Self { stream, frames, sign: sign.clone(), frames_of_turn: 0, turn_of_others: None }, sign)
    }

    /// Lets others have their turn after many frames, since a connection reads as long as there is something to read.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn_of_others.is_none() && self.frames_of_turn >= FRAMES_A_TURN {
            self.turn_of_others = Some(Box::pin(yield_now()));
        }
        if let Some(turn) = &mut self.turn_of_others {
            ready!(turn.as_mut().poll(cx));
            self.turn_of_others = None;
            self.frames_of_turn = 0;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FloodGuard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sign.is_raised() {
            return Poll::Pending;
        }
        ready!(self.poll_turn(cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let frames_before = self.frames.heads;
        let is_calm = self.frames.read(&buffer.filled()[before..], Instant::now);
        self.frames_of_turn += self.frames.heads.wrapping_sub(frames_before);
        if is_calm {
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
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.frames.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.frames.sent(written);
        Poll::Ready(Ok(written))
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

/// Finds the heads of frames (RFC 9113, §4.1) in the bytes that are read, however they are cut, and counts those that
/// matter.
#[derive(Debug)]
struct FrameCount {
    /// Bytes that are no part of a head: the rest of the preface or of a payload.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Heads read.
    heads: usize,
    burdens: Allowance,
    updates: Allowance,
    small_data: Allowance,
    /// Bytes sent that have not paid for a `WINDOW_UPDATE` yet.
    sent_bytes: usize,
}

/// The most frames of a kind that may come at once, and each second after that.
#[derive(Clone, Copy, Debug)]
struct Rate {
    at_once_max: u32,
    per_second: u32,
}

/// The frames of a kind that may still come now.
#[derive(Debug)]
struct Allowance {
    rate: Rate,
    allowed: u32,
    /// The time at which it last grew by itself.
    grown: Instant,
}

impl Allowance {
    const fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, allowed: rate.at_once_max, grown: now }
    }

    fn grow(&mut self, frames: u32) {
        self.allowed = self.allowed.saturating_add(frames).min(self.rate.at_once_max);
    }

    /// Takes one frame; returns true if it may come.
    fn allow(&mut self, now: &impl Fn() -> Instant) -> bool {
        if self.allowed < self.rate.at_once_max / 2 {
            let now = now();
            let seconds = u32::try_from((now - self.grown).as_secs()).unwrap_or(u32::MAX);
            if seconds > 0 {
                self.grown = now;
                self.grow(seconds.saturating_mul(self.rate.per_second));
            }
        }
        let is_allowed = self.allowed > 0;
        self.allowed = self.allowed.saturating_sub(1);
        is_allowed
    }
}

impl FrameCount {
    const fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            heads: 0,
            burdens: Allowance::new(BURDENS, now),
            updates: Allowance::new(UPDATES, now),
            small_data: Allowance::new(SMALL_DATA, now),
            sent_bytes: 0,
        }
    }

    /// Takes how many bytes were sent.
    fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes;
        self.updates.grow(u32::try_from(self.sent_bytes / SENT_BYTES_PER_UPDATE).unwrap_or(u32::MAX));
        self.sent_bytes %= SENT_BYTES_PER_UPDATE;
    }

    /// Takes the bytes that were read; returns true if no more came than may.
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
            let [high, middle, low, kind, flags, ..] = self.head;
            self.head_bytes = 0;
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            self.heads = self.heads.wrapping_add(1);
            if self.counted(kind, flags).is_some_and(|allowance| !allowance.allow(&now)) {
                return false;
            }
        }
    }

    /// Returns the allowance that a frame counts against, by its type, its flags (RFC 9113, §6) and its length.
    fn counted(&mut self, kind: u8, flags: u8) -> Option<&mut Allowance> {
        const DATA: u8 = 0x0;
        const HEADERS: u8 = 0x1;
        const WINDOW_UPDATE: u8 = 0x8;
        const CONTINUATION: u8 = 0x9;
        const END_STREAM: u8 = 0x1;
        match kind {
            DATA if self.skip < SMALL_BYTES && flags & END_STREAM == 0 => Some(&mut self.small_data),
            DATA | HEADERS | CONTINUATION => None,
            WINDOW_UPDATE => Some(&mut self.updates),
            _ => Some(&mut self.burdens),
        }
    }
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
        BURDENS.at_once_max - frames.burdens.allowed
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
        assert_eq!(come(start), BURDENS.at_once_max as usize);
        assert_eq!(come(start + Duration::from_millis(999)), 0);
        assert_eq!(come(start + Duration::from_secs(2)), 2 * BURDENS.per_second as usize);
        assert_eq!(come(start + Duration::from_secs(10_000)), BURDENS.at_once_max as usize);
    }

    #[test]
    fn window_updates_are_paid_for_by_what_was_sent() {
        const WINDOW_UPDATE: u8 = 0x8;
        let now = Instant::now();
        let mut frames = FrameCount::new(now);
        assert!(frames.read(&[b'x'; PREFACE_BYTES], || now));
        let update = frame(WINDOW_UPDATE, 0);
        let come = |frames: &mut FrameCount| (0..100_000).take_while(|_| frames.read(&update, || now)).count();
        assert_eq!(come(&mut frames), UPDATES.at_once_max as usize);
        for _ in 0..100 {
            frames.sent(SENT_BYTES_PER_UPDATE / 2);
        }
        assert_eq!(come(&mut frames), 50);
        // A client that answers each change, of some hundred bytes, with two of them may go on for ever.
        frames.sent(1024 * 1024 * 1024);
        for _ in 0..100_000 {
            frames.sent(100);
            assert!(frames.read(&update, || now) && frames.read(&update, || now));
        }
    }

    #[test]
    fn small_data_is_counted_and_other_data_is_not() {
        let now = Instant::now();
        let mut frames = FrameCount::new(now);
        assert!(frames.read(&[b'x'; PREFACE_BYTES], || now));
        let mut ending = frame(DATA, 0);
        ending[4] = 0x1;
        let large = [&[0, 1, 0, DATA, 0, 0, 0, 0, 0][..], &[0; 256]].concat();
        for _ in 0..100_000 {
            assert!(frames.read(&large, || now) && frames.read(&ending, || now));
        }
        let small = frame(DATA, 6);
        assert_eq!((0..100_000).take_while(|_| frames.read(&small, || now)).count(), SMALL_DATA.at_once_max as usize);
    }
}
