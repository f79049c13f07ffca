//! `floor`: a server that does nothing but send, on one thread: no server on the same machine can be cheaper.
//!
//! Every WebSocket gets every change. A change is the body of `PUT /products/{id}`; it becomes one frame, and each
//! socket gets one `send` of it, or of a batch of frames that were prepared together. What clients say is ignored.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, ensure};
use hyper::Request;
use hyper::header::HeaderName;
use memchr::memmem;
use rowcast::open_files;
use rowcast::wire::websocket::handshake;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::frames::server_frame;
use crate::message::leading_number;

/// The token of the listener; peers have the numbers of their places.
const LISTENER: u64 = u64::MAX;
/// A batch that does not fill goes out after this time without anything to do.
const BATCH_WAITS: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// A request is not longer than this.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Serves until the process is ended.
pub(crate) fn serve(address: SocketAddr, batch: u32) -> anyhow::Result<()> {
    let _ = open_files::raise();
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    let mut floor = Floor::new(listener, batch)?;
    writeln!(std::io::stdout(), "the floor is at ws://{address}/websocket; changes go to PUT /products/{{id}}")?;
    loop {
        floor.turn()?;
    }
}

struct Floor {
    epoll: OwnedFd,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    events: Vec<Event>,
    scratch: Vec<u8>,
    batch: u32,
    frames: Vec<u8>,
    frames_count: u32,
}

struct Peer {
    stream: TcpStream,
    request: Vec<u8>,
    is_websocket: bool,
}

impl Floor {
    fn new(listener: TcpListener, batch: u32) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, listener.as_fd(), EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            peers: Vec::new(),
            events: Vec::with_capacity(256),
            scratch: vec![0; 64 * 1024],
            batch,
            frames: Vec::new(),
            frames_count: 0,
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.events.clear();
        let timeout = (self.frames_count > 0).then_some(&BATCH_WAITS);
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for sockets"),
        }
        if self.events.is_empty() {
            self.send();
        }
        for place in 0..self.events.len() {
            match self.events[place].data.u64() {
                LISTENER => self.accept()?,
                number => self.read(usize::try_from(number)?)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let number = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
            epoll::add(&self.epoll, stream.as_fd(), EventData::new_u64(number as u64), EventFlags::IN)?;
            let peer = Peer { stream, request: Vec::new(), is_websocket: false };
            if number == self.peers.len() {
                self.peers.push(Some(peer));
            } else {
                self.peers[number] = Some(peer);
            }
        }
        Ok(())
    }

    fn read(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[number] else { return Ok(()) };
        match peer.stream.read(&mut self.scratch) {
            Ok(read) if read > 0 => {
                if !peer.is_websocket {
                    peer.request.extend_from_slice(&self.scratch[..read]);
                    self.answer(number)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.peers[number] = None,
        }
        Ok(())
    }

    /// Answers the request of a peer, once all of it is there.
    fn answer(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[number] else { return Ok(()) };
        let Some(head_end) = memmem::find(&peer.request, b"\r\n\r\n").map(|end| end + 4) else { return Ok(()) };
        let end = head_end + content_length(&peer.request[..head_end]);
        ensure!(end < REQUEST_BYTES_MAX, "a request of {end} bytes");
        if peer.request.len() < end {
            return Ok(());
        }
        if peer.request.starts_with(b"PUT ") {
            let frame = server_frame(&peer.request[head_end..end]);
            peer.request.drain(..end);
            peer.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            self.frames.extend_from_slice(&frame);
            self.frames_count += 1;
            if self.frames_count == self.batch {
                self.send();
            }
            return Ok(());
        }
        if let Some(accepted) = upgrade(&peer.request[..head_end]) {
            peer.is_websocket = true;
            peer.request = Vec::new();
            peer.stream.write_all(&accepted)?;
        } else {
            peer.stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            peer.request.drain(..end);
        }
        Ok(())
    }

    /// Makes one `send` to each WebSocket.
    fn send(&mut self) {
        for place in &mut self.peers {
            if let Some(peer) = place
                && peer.is_websocket
                && send_all(&peer.stream, &self.frames).is_err()
            {
                *place = None;
            }
        }
        self.frames.clear();
        self.frames_count = 0;
    }
}

/// Sends everything, and waits where the socket takes no more: the floor loses nothing.
fn send_all(mut stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn header_lines(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

fn content_length(head: &[u8]) -> usize {
    let length = header_lines(head).find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
    length.map_or(0, |(_, value)| usize::try_from(leading_number(value)).unwrap_or(REQUEST_BYTES_MAX))
}

/// Returns the answer that accepts a WebSocket, if the request asks for one.
fn upgrade(head: &[u8]) -> Option<Vec<u8>> {
    let mut request = Request::new(());
    for (name, value) in header_lines(head) {
        request.headers_mut().append(HeaderName::from_bytes(name).ok()?, value.try_into().ok()?);
    }
    let response = handshake::accept(&request).ok()?;
    let mut text = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in response.headers() {
        text.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_as_the_rfc_says() {
        let head = b"GET /websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let answer = String::from_utf8(upgrade(head).unwrap()).unwrap();
        assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert_eq!(upgrade(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), None);
        assert_eq!(content_length(b"PUT / HTTP/1.1\r\ncontent-length: 12\r\n\r\n"), 12);
    }
}
