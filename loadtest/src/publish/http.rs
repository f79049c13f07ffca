//! Publishing over HTTP, on a connection that is kept: one request, its answer, the next.

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::message::{Message, leading_number};
use crate::peer::{Peer, put_request};
use crate::table::Table;
use crate::target::{Stream, Target};
use crate::token::Token;

/// A connection that publishes as the server under test wants it.
pub(crate) struct HttpPublisher {
    peer: Peer,
    table: Table,
    http: Http,
}

impl HttpPublisher {
    pub(super) async fn connect(peer: Peer, table: Table, server: &Target) -> anyhow::Result<Self> {
        Ok(Self { peer, table, http: Http::connect(server).await? })
    }

    pub(super) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        let token = &self.http.token;
        let request = match self.table {
            Table::Products => self.peer.publish_request(message, padding, token),
            table @ Table::Named(_) => put_request(table, message, padding, token),
        };
        let answer = self.http.request(&request).await?;
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
        let body = match head.body {
            Body::Bytes(bytes) => {
                self.fill_to(end + bytes).await?;
                self.buffer[end..end + bytes].to_vec()
            }
            Body::Chunks => self.chunks(end).await?,
        };
        if !(200..300).contains(&head.status) {
            bail!("answered {}: {}", head.status, String::from_utf8_lossy(&body));
        }
        Ok(Answer { version: head.version, body })
    }

    /// Reads a body in chunks (RFC 9112, section 7.1) that begins at `at`, and has no trailers.
    async fn chunks(&mut self, mut at: usize) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_bytes = loop {
                if let Some(bytes) = memmem::find(&self.buffer[at..], b"\r\n") {
                    break bytes;
                }
                self.fill().await?;
            };
            let bytes = chunk_bytes(&self.buffer[at..at + line_bytes])?;
            at += line_bytes + 2;
            self.fill_to(at + bytes + 2).await?;
            body.extend_from_slice(&self.buffer[at..at + bytes]);
            at += bytes + 2;
            if bytes == 0 {
                return Ok(body);
            }
        }
    }

    async fn fill_to(&mut self, bytes: usize) -> anyhow::Result<()> {
        while self.buffer.len() < bytes {
            self.fill().await?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.context("read an answer")?;
        ensure!(read > 0, "the server closed a publisher's connection");
        Ok(())
    }
}

/// Returns the length of the chunk that a line begins, in hexadecimal digits before any extension.
fn chunk_bytes(line: &[u8]) -> anyhow::Result<usize> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    usize::from_str_radix(digits, 16).with_context(|| format!("a chunk of an answer begins with {text:?}"))
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u64,
    body: Body,
    version: Option<u64>,
}

/// The way in which the end of a body is known.
#[derive(Debug, PartialEq)]
enum Body {
    Bytes(usize),
    Chunks,
}

impl Head {
    fn parse(head: &[u8]) -> anyhow::Result<Self> {
        let status = head.get(9..12).map_or(0, leading_number);
        let mut body = (status == 204).then_some(Body::Bytes(0));
        let mut version = None;
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                body = usize::try_from(leading_number(value)).ok().map(Body::Bytes);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") {
                body = Some(Body::Chunks);
            } else if name.eq_ignore_ascii_case(b"etag") {
                version = value.strip_prefix(b"\"").map(leading_number);
            }
        }
        let body = body.with_context(|| {
            format!("an answer whose end is not understood here: {}", String::from_utf8_lossy(head))
        })?;
        Ok(Self { status, body, version })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn of_a_head_its_status_length_and_version_are_read() {
        let head = b"HTTP/1.1 201 Created\r\nEtag: \"42\"\r\ncontent-length: 17\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap(), Head { status: 201, body: Body::Bytes(17), version: Some(42) });
        let head = b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap(), Head { status: 204, body: Body::Bytes(0), version: None });
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap(), Head { status: 200, body: Body::Chunks, version: None });
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_body_in_chunks_is_joined_wherever_the_stream_is_split() {
        let answer =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nab\r\nc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Target::plain(listener.local_addr().unwrap(), Token::default());
        let splits = (1..answer.len()).step_by(3);
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            for split in splits {
                assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
                for part in [&answer[..split], &answer[split..]] {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut http = Http::connect(&server).await.unwrap();
        for _ in (1..answer.len()).step_by(3) {
            let answer = http.request(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_eq!(answer.body, b"ab\r\nc0123456789");
        }
        serving.await.unwrap();
    }

    #[test]
    fn what_begins_no_chunk_is_named() {
        assert_eq!(chunk_bytes(b"1f").unwrap(), 31);
        assert!(chunk_bytes(b"xyz").unwrap_err().to_string().contains("xyz"));
    }
}
