//! The receiving side: all sockets behind one epoll, one buffer for all of them, frames read where they lie.
//!
//! No socket costs a task or a buffer; a socket keeps bytes only while a frame is incomplete. That is what lets one
//! thread take several million messages a second. Only the streams of HTTP/2 connections, which share a TCP socket,
//! have a task each ([`read_stream`]); what they receive goes the same way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, ready};

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::accounts::Accounts;
use crate::client::Client;
use crate::clock::Clock;
use crate::envelope;
use crate::frames::{CLOSE, PING, PONG, TEXT, client_frame, next_frame};
use crate::known::{Compared, Known};
use crate::latency::Recorder;
use crate::message::{MessageFinder, skipped};
use crate::peer::Envelope;
use crate::rows::Rows;
use crate::target::ReadyStream;
use crate::workload::Workload;

/// The most bytes that one read takes: several hundred messages.
const SCRATCH_BYTES: usize = 256 * 1024;
/// The most events that one look at the epoll takes.
const EVENTS_MAX: usize = 512;

/// One socket.
struct Socket {
    stream: ReadyStream,
    /// The beginning of a frame.
    unread: Vec<u8>,
    /// The beginning of an operation, where frames are cut anywhere.
    unread_operation: Vec<u8>,
}

/// All sockets, and what they received.
pub(crate) struct Readers {
    epoll: OwnedFd,
    events: Vec<Event>,
    scratch: Vec<u8>,
    sockets: Vec<Option<Socket>>,
    sink: Sink,
    /// Sockets that the server closed.
    pub(crate) closed: u64,
    /// The first ones, up to this number, may be closed: they are slow on purpose.
    slow: usize,
}

/// The destination of messages: accounts, and latencies while they are measured.
pub(crate) struct Sink {
    pub(crate) workload: Workload,
    pub(crate) accounts: Accounts,
    /// The versions that the readers know, if they are to be compared with the store.
    pub(crate) known: Option<Known>,
    pub(crate) recorder: Recorder,
    /// Latencies of what was due in this span are recorded.
    pub(crate) measured_ns: std::ops::Range<u64>,
    envelope: Envelope,
    /// Finds the changes of the table that is read.
    pub(crate) finder: MessageFinder,
    clock: Clock,
}

impl Readers {
    pub(crate) fn new(
        workload: Workload,
        accounts: Accounts,
        envelope: Envelope,
        clock: Clock,
        slow: usize,
    ) -> anyhow::Result<Self> {
        let sockets = (0..workload.connections).map(|_| None).collect();
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("create an epoll")?,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
            sockets,
            sink: Sink {
                workload,
                accounts,
                known: None,
                recorder: Recorder::new(),
                measured_ns: 0..0,
                envelope,
                finder: MessageFinder::new(),
                clock,
            },
            closed: 0,
            slow,
        })
    }

    /// Returns a second handle of the epoll, which is readable while some socket is.
    pub(crate) fn readiness(&self) -> anyhow::Result<OwnedFd> {
        self.epoll.try_clone().context("duplicate the epoll")
    }

    /// Compares what the open readers know with the store, if they remember it; each difference is a fault.
    pub(crate) fn compare(&mut self, rows: &Rows) -> Option<Compared> {
        let Sink { known, workload, accounts, .. } = &mut self.sink;
        let is_open = |number: usize| self.sockets[number].is_some();
        known.as_ref().map(|known| known.compare(workload, rows, is_open, &mut accounts.faults))
    }

    pub(crate) fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }

    /// Takes an open socket; it is read at once unless it is one of the slow ones.
    pub(crate) fn add(&mut self, number: usize, client: Client) -> anyhow::Result<()> {
        for (product, version) in client.states.unwrap_or_default() {
            let place = self.sink.workload.place(number, product);
            self.sink.learn(place, version);
        }
        let mut unread = client.unread;
        let stream = client.stream.into_ready(&mut unread)?;
        self.sockets[number] = Some(Socket { stream, unread, unread_operation: Vec::new() });
        if number < self.slow { Ok(()) } else { self.resume(number) }
    }

    /// Begins to read the slow ones.
    pub(crate) fn resume_slow(&mut self) -> anyhow::Result<()> {
        (0..self.slow).try_for_each(|number| self.resume(number))
    }

    fn resume(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(socket) = &mut self.sockets[number] else { return Ok(()) };
        if let Some(file) = socket.stream.file() {
            epoll::add(&self.epoll, file, EventData::new_u64(number as u64), EventFlags::IN)?;
        }
        // The bytes that came together with the answer to the subscription make no socket readable.
        let early = std::mem::take(&mut socket.unread);
        let rest = early.len() - self.sink.walk(number, socket, &early);
        socket.unread = early[early.len() - rest..].to_vec();
        Ok(())
    }

    /// Ends a socket, whose place another may take.
    pub(crate) fn remove(&mut self, number: usize) {
        self.sockets[number] = None;
        self.sink.accounts.reopen(number, &self.sink.workload);
        if let Some(known) = &mut self.sink.known {
            known.forget(&self.sink.workload, number);
        }
    }

    /// Reads every socket that is readable, once, and says how many were.
    pub(crate) fn turn(&mut self) -> anyhow::Result<usize> {
        self.events.clear();
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for sockets"),
        }
        for place in 0..self.events.len() {
            let number = usize::try_from(self.events[place].data.u64()).expect("the number of a socket");
            if !self.read(number) {
                self.lose(number);
            }
        }
        Ok(self.events.len())
    }

    /// Counts a socket that the server closed, which is held to what it saw before.
    fn lose(&mut self, number: usize) {
        self.remove(number);
        self.closed += 1;
        if number >= self.slow {
            self.sink.accounts.faults.add(number, 0, || "the server closed the socket".to_owned());
        }
    }

    /// Reads what a socket has, and answers whether it is still open.
    fn read(&mut self, number: usize) -> bool {
        let Some(socket) = &mut self.sockets[number] else { return true };
        let kept = socket.unread.len();
        if self.scratch.len() < kept + SCRATCH_BYTES / 2 {
            self.scratch.resize(kept + SCRATCH_BYTES, 0);
        }
        self.scratch[..kept].copy_from_slice(&socket.unread);
        let read = match socket.stream.read(&mut self.scratch[kept..]) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let bytes = &self.scratch[..kept + read];
        let walked = self.sink.walk(number, socket, bytes);
        socket.unread.clear();
        socket.unread.extend_from_slice(&bytes[walked..]);
        true
    }

    /// Reads what a stream of an HTTP/2 connection has; ready once it is closed.
    fn poll_stream(&mut self, number: usize, cx: &mut std::task::Context<'_>) -> Poll<()> {
        loop {
            let Some(socket) = &mut self.sockets[number] else { return Poll::Ready(()) };
            let ReadyStream::Http2(stream) = &mut socket.stream else { return Poll::Ready(()) };
            let Some(Ok(data)) = ready!(stream.poll_data(cx)) else {
                self.lose(number);
                return Poll::Ready(());
            };
            if socket.unread.is_empty() {
                let walked = self.sink.walk(number, socket, &data);
                socket.unread.extend_from_slice(&data[walked..]);
            } else {
                let mut joined = std::mem::take(&mut socket.unread);
                joined.extend_from_slice(&data);
                let walked = self.sink.walk(number, socket, &joined);
                joined.drain(..walked);
                socket.unread = joined;
            }
        }
    }
}

/// Reads the WebSocket with this number, on a stream of an HTTP/2 connection, until it is closed.
pub(crate) async fn read_stream(readers: Rc<RefCell<Readers>>, number: usize) {
    poll_fn(|cx| readers.borrow_mut().poll_stream(number, cx)).await;
}

impl Sink {
    /// Takes the whole frames in `bytes`, and answers how many bytes they are. The clock is read once for all of them.
    #[inline]
    fn walk(&mut self, number: usize, socket: &mut Socket, bytes: &[u8]) -> usize {
        let mut now_ns = None;
        let mut walked = 0;
        while let Some(frame) = next_frame(&bytes[walked..]) {
            walked += frame.bytes;
            match frame.opcode {
                PING => reply(&mut socket.stream, PONG, frame.payload),
                PONG | CLOSE => {}
                _ => {
                    let now_ns = *now_ns.get_or_insert_with(|| self.clock.now_ns());
                    self.unpack(number, socket, frame.payload, now_ns);
                }
            }
        }
        walked
    }

    #[inline]
    fn unpack(&mut self, number: usize, socket: &mut Socket, payload: &[u8], now_ns: u64) {
        match self.envelope {
            Envelope::Bare => self.take(number, payload, now_ns),
            Envelope::Lines => envelope::lines(payload, |line| {
                if line == b"{}" {
                    // Centrifugo's ping, answered alike.
                    return reply(&mut socket.stream, TEXT, b"{}");
                }
                self.take(number, line, now_ns);
            }),
            Envelope::Nats => self.unpack_nats(number, socket, payload, now_ns),
        }
    }

    fn unpack_nats(&mut self, number: usize, socket: &mut Socket, payload: &[u8], now_ns: u64) {
        let mut joined = std::mem::take(&mut socket.unread_operation);
        let stream = if joined.is_empty() {
            payload
        } else {
            joined.extend_from_slice(payload);
            &joined
        };
        let walked = envelope::nats(stream, |message| self.take(number, message, now_ns));
        if walked.pinged {
            reply(&mut socket.stream, TEXT, b"PONG\r\n");
        }
        socket.unread_operation = stream[walked.bytes..].to_vec();
    }

    #[inline]
    fn learn(&mut self, place: Option<usize>, version: u64) {
        if let Some(known) = &mut self.known
            && let Some(place) = place
        {
            known.learn(place, version);
        }
    }

    /// Takes one message.
    #[inline]
    fn take(&mut self, number: usize, text: &[u8], now_ns: u64) {
        if let Some(message) = self.finder.find(text) {
            let place = self.workload.place(number, message.product);
            self.accounts.receive(number, place, message.product, message.version);
            self.learn(place, message.version);
            if self.measured_ns.contains(&message.due_ns) {
                self.recorder.record(now_ns.saturating_sub(message.due_ns));
            }
        } else if let Some(count) = skipped(text) {
            self.accounts.skip(number, count);
        } else if text.starts_with(br#"{"error""#) {
            self.accounts.faults.add(number, 0, || format!("the server said {}", String::from_utf8_lossy(text)));
        }
    }
}

/// Answers a ping. A socket so full that it takes no few bytes is closed by the server sooner or later, which is
/// counted.
fn reply(stream: &mut ReadyStream, opcode: u8, payload: &[u8]) {
    let _ = stream.write(&client_frame(opcode, payload));
}
