//! The writing side of a connection, and the changes that its core pushes to it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use super::Connection;
use crate::fanout::{CastRun, Listed, Pulled, Subscriber};
use crate::model::epoch::Epoch;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Subjects, Topic};
use crate::session::{Event, Given};
use crate::wire::frame::{Frame, FrameRun};

/// The most pieces that go to the kernel in one call.
const SLICES_MAX: usize = 64;

impl Connection {
    /// Writes the waiting bytes, as far as the socket takes them.
    pub(super) fn flush_session(&mut self) {
        if !self.session.is_blocked() && self.session.ended().is_none() {
            match self.write_waiting() {
                Err(_) => self.on(Event::Gone),
                Ok(Poll::Pending) => self.on(Event::Blocked),
                Ok(Poll::Ready(())) if self.session.is_closing() => self.on(Event::Flushed),
                Ok(Poll::Ready(())) => {}
            }
        }
        if self.session.wants_pulls(&self.shared.limits) || self.session.wants_page() || self.session.wants_to_say() {
            // The task makes them: the core may be what calls.
            self.waker.wake_by_ref();
        }
        self.report_waiting(self.session.waiting());
    }

    /// Writes the last bytes that the peer gets, also if the socket was full: it makes room for them as far as it can.
    pub(super) fn write_last(&mut self) {
        self.socket.make_room_for_last();
        self.on(Event::Writable);
        self.flush_session();
    }

    fn write_waiting(&mut self) -> io::Result<Poll<()>> {
        while self.session.has_output() {
            match self.try_write() {
                Ok(bytes) => self.taken(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut cx = Context::from_waker(&self.waker);
                    if self.socket.poll_write_ready(&mut cx).is_pending() {
                        return Ok(Poll::Pending);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        match self.socket.poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(flushed) => flushed.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn taken(&mut self, bytes: usize) {
        let frames = self.session.taken(bytes);
        self.shared.metrics.frames_sent.inc_by(frames);
        self.shared.metrics.bytes_sent.inc_by(bytes as u64);
    }

    /// Writes the waiting bytes, up to [`SLICES_MAX`] pieces of them, with one system call.
    fn try_write(&mut self) -> io::Result<usize> {
        if let Some(bytes) = self.session.only() {
            return self.socket.try_write(bytes);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let used = self.session.fill(&mut slices);
        self.socket.try_write_vectored(&slices[..used])
    }

    /// Tells the metrics the number of frames that wait, and the number of their bytes.
    pub(super) fn report_waiting(&self, (frames, bytes): (usize, usize)) {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (frames, bytes) = (small(frames), small(bytes));
        let (frames_before, bytes_before) = self.reported.replace((frames, bytes));
        if (frames, bytes) != (frames_before, bytes_before) {
            self.shared.metrics.queue_frames.inc_by(i64::from(frames) - i64::from(frames_before));
            self.shared.metrics.queue_bytes.inc_by(i64::from(bytes) - i64::from(bytes_before));
        }
    }

    /// Adds a change to a queue that may be full.
    fn push_one(&mut self, subject: &Subject, version: u64, frame: Frame) {
        let limits = &self.shared.limits;
        if self.session.push(subject, &FrameRun::one(version, frame.clone()), limits) {
            return;
        }
        // A burst fills the queue of a reader that is fast as well.
        self.flush_session();
        let given =
            Given { now: self.shared.wheel.borrow().now(), limits: &self.shared.limits, tables: &self.shared.tables };
        let effects = self.session.push_by_policy(subject, version, frame, &given);
        self.follow(effects);
    }
}

impl Subscriber for Connection {
    fn push(&mut self, run: &CastRun) {
        let frames = self.session.form(run);
        if self.session.push(&run.subject, &frames, &self.shared.limits) {
            return;
        }
        if let Some(effects) = self.session.give_way(&run.subject, &frames, &self.shared.limits) {
            self.follow(effects);
            return;
        }
        let mut rest = Some(frames.into_owned());
        while let Some(frames) = rest {
            let ((version, frame), after) = frames.split_first();
            self.push_one(&run.subject, version, frame);
            rest = after;
        }
    }

    fn flush(&mut self) {
        self.flush_session();
    }

    fn push_and_flush(&mut self, run: &CastRun) {
        let frames = self.session.form(run);
        let sent = if self.session.is_clear() && frames.frames() == 1 { self.socket.send_alone(&frames) } else { 0 };
        if sent == frames.len() {
            self.shared.metrics.frames_sent.inc();
            self.shared.metrics.bytes_sent.inc_by(sent as u64);
            if !self.socket.is_flushed() {
                self.flush_session();
            }
            return;
        }
        self.push(run);
        self.taken(sent);
        self.flush_session();
    }

    /// Wakes the task, which writes the answers, and goes on reading: those of a batch go out with one write.
    fn applied(&mut self, number: u32, topics: usize) {
        self.on(Event::Applied { number, topics });
        self.waker.wake_by_ref();
    }

    fn refused(&mut self, number: u32) {
        self.on(Event::Refused { number });
        self.waker.wake_by_ref();
    }

    fn revoked(&mut self, revoked: Subjects) {
        self.on(Event::Revoked(revoked));
    }

    fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        self.on(Event::Differ(number, topics));
    }

    /// Wakes the task, which pulls the topics.
    fn listed(&mut self, listed: Listed) {
        self.on(Event::Listed(listed));
        self.waker.wake_by_ref();
    }

    fn awaits(&self, answer: &Pulled) -> bool {
        self.session.awaits(answer)
    }

    /// Wakes the task if a command is done, since those behind it may go on.
    fn pulled(&mut self, answer: Pulled) {
        let before = self.session.commands();
        self.on(Event::Pulled(answer));
        if self.session.commands() < before {
            self.waker.wake_by_ref();
        }
    }

    fn live(&mut self, is_live: bool) {
        self.on(Event::Live(is_live));
    }

    /// Wakes the task, since commands may wait for the epoch.
    fn epoch(&mut self, epoch: Epoch) {
        self.on(Event::Epoch(epoch));
        self.waker.wake_by_ref();
    }

    fn table_live(&mut self, table: TableId, is_live: bool) {
        self.on(Event::TableLive(table, is_live));
    }

    /// Wakes the task, since topics whose pulls were under way are to be pulled again.
    fn table_epoch(&mut self, table: TableId, epoch: Epoch) {
        self.on(Event::TableEpoch(table, epoch));
        self.waker.wake_by_ref();
    }
}
