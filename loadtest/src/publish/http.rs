//! Publishing over HTTP, on a connection that is kept: one request, its answer, the next.

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::message::{Message, leading_number};
use crate::peer::Peer;
use crate::target::{Stream, Target};
use crate::token::Token;

/// A connection that publishes as the server under test wants it.
pub(crate) struct HttpPublisher {
    peer: Peer,
    http: Http,
}

impl HttpPublisher {
    pub(super) async fn connect(peer: Peer, server: &Target) -> anyhow::Result<Self> {
        Ok(Self { peer, http: Http::connect(server).await? })
    }

    pub(super) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        let answer = self.http.request(&self.peer.publish_request(message, padding, &self.http.token)).await?;
        if self.peer.draws_versions() {
            answer.version.context("an answer without an ETag")
        } else {
            Ok(message.version)
        }
    }
}

/// A connection of HTTP/1.1.
pub(crate) struct Http {
    stream: Stream,
    /// The token that every request has to carry.
    pub(crate) token: Token,
    buffer: Vec<u8>,
}

/// The parts of an answer that are read.
pub(crate) struct Answer {
    /// The number in its `ETag`.
    version: Option<u64>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(server: &Target) -> anyhow::Result<Self> {
        let address = server.address;
        let tcp = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}; is the server started, and the port right?"))?;
        tcp.set_nodelay(true)?;
        let stream = server.over(tcp).await.context("the TLS handshake of a publisher")?;
        Ok(Self { stream, token: server.token.clone(), buffer: Vec::new() })
    }

    /// Sends a request and waits for a successful answer.
    pub(crate) async fn request(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await.context("send a request")?;
        self.stream.flush().await.context("send a request")?;
        self.buffer.clear();
        let end = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.buffer.len() < 64 * 1024, "the head of an answer has no end");
            self.fill().await?;
        };
        let head = Head::parse(&self.buffer[..end])?;
        while self.buffer.len() < end + head.body_bytes {
            self.fill().await?;
        }
        let body = &self.buffer[end..end + head.body_bytes];
        if !(200..300).contains(&head.status) {
            bail!("answered {}: {}", head.status, String::from_utf8_lossy(body));
        }
        Ok(Answer { version: head.version, body: body.to_vec() })
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.context("read an answer")?;
        ensure!(read > 0, "the server closed a publisher's connection");
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u64,
    body_bytes: usize,
    version: Option<u64>,
}

impl Head {
    fn parse(head: &[u8]) -> anyhow::Result<Self> {
        let status = head.get(9..12).map_or(0, leading_number);
        let mut body_bytes = (status == 204).then_some(0);
        let mut version = None;
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                body_bytes = usize::try_from(leading_number(value)).ok();
            } else if name.eq_ignore_ascii_case(b"etag") {
                version = value.strip_prefix(b"\"").map(leading_number);
            }
        }
        let body_bytes = body_bytes.with_context(|| {
            format!("an answer without Content-Length, which is not understood here: {}", String::from_utf8_lossy(head))
        })?;
        Ok(Self { status, body_bytes, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_head_its_status_length_and_version_are_read() {
        let head = b"HTTP/1.1 201 Created\r\nEtag: \"42\"\r\ncontent-length: 17\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap(), Head { status: 201, body_bytes: 17, version: Some(42) });
        let head = b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap(), Head { status: 204, body_bytes: 0, version: None });
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
