//! One reader in a storm: its commands, and what comes until the last reply ([`Exchange`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Ears, Heard};
use crate::client::Client;
use crate::frames::{CLOSE, PING, PONG, TEXT, client_frame, close_reason, next_frame};
use crate::peer::Subscribing;

/// The most bytes that one read takes.
const READ_BYTES: usize = 256 * 1024;

/// What all readers of a storm share: the judge, and the buffer into which each reads in turn.
pub(super) struct Judge<L> {
    pub(super) ledger: L,
    scratch: Vec<u8>,
}

impl<L: Ears> Judge<L> {
    pub(super) fn new(ledger: L) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { ledger, scratch: Vec::new() }))
    }
}

/// A reader with its commands.
pub(super) struct Exchange {
    number: usize,
    client: Client,
    /// The frames that are to be sent.
    unsent: Vec<u8>,
    /// The bytes of them that were sent.
    sent: usize,
    replies_due: usize,
}

impl Exchange {
    pub(super) fn new(number: usize, client: Client, commands: &Subscribing) -> Self {
        let unsent = commands.messages.iter().flat_map(|text| client_frame(TEXT, text.as_bytes())).collect();
        Self { number, client, unsent, sent: 0, replies_due: commands.answers }
    }

    /// Returns a reader that sends these commands, and takes what comes until the connection ends.
    pub(super) fn lasting(number: usize, client: Client, commands: &Subscribing) -> Self {
        Self { replies_due: usize::MAX, ..Self::new(number, client, commands) }
    }

    /// Returns whether it asks for anything.
    pub(super) fn asks(&self) -> bool {
        self.replies_due > 0
    }

    /// Sends the commands and takes what comes, until the last of them is answered.
    pub(super) async fn run(mut self, judge: Rc<RefCell<Judge<impl Ears>>>) -> anyhow::Result<Client> {
        poll_fn(|cx| self.poll(cx, &judge)).await.with_context(|| format!("socket {}", self.number))?;
        self.client.unread.shrink_to_fit();
        Ok(self.client)
    }

    /// Goes on in both directions: a server reads no more commands of a reader that does not take its answers.
    fn poll(&mut self, cx: &mut Context<'_>, judge: &RefCell<Judge<impl Ears>>) -> Poll<anyhow::Result<()>> {
        while self.replies_due > 0 {
            self.send(cx)?;
            ready!(self.poll_receive(cx, judge))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends as much as the socket takes.
    fn send(&mut self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let mut stream = Pin::new(&mut self.client.stream);
        while self.sent < self.unsent.len() {
            match stream.as_mut().poll_write(cx, &self.unsent[self.sent..]).map_err(|error| anyhow!("send: {error}"))? {
                Poll::Ready(sent) => self.sent += sent,
                Poll::Pending => return Ok(()),
            }
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        let _: Poll<()> = stream.poll_flush(cx)?;
        Ok(())
    }

    /// Reads once, and takes the frames that are whole.
    fn poll_receive(&mut self, cx: &mut Context<'_>, judge: &RefCell<Judge<impl Ears>>) -> Poll<anyhow::Result<()>> {
        let Judge { ledger, scratch } = &mut *judge.borrow_mut();
        let kept = self.client.unread.len();
        if scratch.len() < kept + READ_BYTES {
            scratch.resize(kept + READ_BYTES, 0);
        }
        let mut buffer = ReadBuf::new(&mut scratch[kept..]);
        ready!(Pin::new(&mut self.client.stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Err(anyhow!("the server ended the connection")));
        }
        scratch[..kept].copy_from_slice(&self.client.unread);
        let bytes = &scratch[..kept + read];
        let walked = self.take(bytes, ledger)?;
        self.client.unread.clear();
        self.client.unread.extend_from_slice(&bytes[walked..]);
        Poll::Ready(Ok(()))
    }

    /// Takes whole frames; returns how many bytes they are.
    fn take(&mut self, bytes: &[u8], ledger: &mut impl Ears) -> anyhow::Result<usize> {
        let mut walked = 0;
        while let Some(frame) = next_frame(&bytes[walked..]) {
            walked += frame.bytes;
            match frame.opcode {
                CLOSE => bail!("the server closed: {}", close_reason(frame.payload)),
                PING => self.unsent.extend(client_frame(PONG, frame.payload)),
                PONG => {}
                _ => {
                    let Heard { replies, answer } = ledger.take(self.number, frame.payload)?;
                    self.replies_due = self.replies_due.saturating_sub(replies);
                    self.unsent.extend(answer.map(|text| client_frame(TEXT, text)).unwrap_or_default());
                }
            }
        }
        Ok(walked)
    }
}
