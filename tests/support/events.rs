//! Readers of `GET /events`, over HTTP/1 and HTTP/2: a stream is read as WHATWG HTML, §9.2.6, says.

use std::net::SocketAddr;

use h2::RecvStream;
use hyper::Response;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http2::{Http2, request};
use super::patiently;
use super::socket::is_about_the_source;

/// What a reader comes upon in a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Event(Event),
    /// A time of reconnection, in milliseconds.
    Retry(u64),
    /// A line that means nothing.
    Comment,
}

/// An event as `EventSource` gives it to a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    /// Its type, `message` where none was given.
    pub(crate) kind: String,
    pub(crate) data: String,
    /// The last id that came.
    pub(crate) id: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Cuts the text of a stream into what it says.
#[derive(Default)]
struct Parser {
    unread: Vec<u8>,
    kind: String,
    data: Option<String>,
    id: String,
}

impl Parser {
    /// The next thing in the bytes that have come. Lines of the server end with LF alone.
    fn next(&mut self) -> Option<Found> {
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = std::str::from_utf8(&line[..end]).expect("a stream is UTF-8");
            assert!(!line.contains('\r'), "{line:?}");
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let kind = Some(std::mem::take(&mut self.kind)).filter(|kind| !kind.is_empty());
                    if let Some(data) = self.data.take() {
                        let kind = kind.unwrap_or_else(|| "message".to_owned());
                        return Some(Found::Event(Event { kind, data, id: self.id.clone() }));
                    }
                }
                "" => return Some(Found::Comment),
                "event" => value.clone_into(&mut self.kind),
                "data" => match &mut self.data {
                    Some(data) => data.extend(["\n", value]),
                    None => self.data = Some(value.to_owned()),
                },
                "id" => value.clone_into(&mut self.id),
                "retry" => return Some(Found::Retry(value.parse().expect("a time is a number"))),
                other => panic!("no field of an event: {other:?}"),
            }
        }
        None
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Source {
    Http1(Box<dyn Stream>),
    Http2(RecvStream),
}

/// A reader of one stream.
pub(crate) struct EventReader {
    source: Source,
    parser: Parser,
    /// The head of the answer: its first line, then its headers in lower case.
    pub(crate) head: String,
}

impl EventReader {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::connect_with(address, path, &[]).await
    }

    /// With these headers.
    pub(crate) async fn connect_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let stream = patiently(TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        Self::over(stream, path, headers).await
    }

    /// Over a connection of the caller's making.
    pub(crate) async fn over(
        mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut asked = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n");
        for (name, value) in headers {
            asked.extend([name, ": ", value, "\r\n"]);
        }
        asked.push_str("\r\n");
        patiently(stream.write_all(asked.as_bytes())).await.expect("the server reads");
        Self::answered(stream).await
    }

    /// On a connection on which the request was sent.
    pub(crate) async fn answered(mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let mut unread = Vec::new();
        let end = loop {
            if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(patiently(stream.read_buf(&mut unread)).await.expect("an answer") > 0, "{unread:?}");
        };
        let head = String::from_utf8(unread.drain(..end).collect()).expect("a head is text");
        let reader =
            Self { source: Source::Http1(Box::new(stream)), parser: Parser { unread, ..Parser::default() }, head };
        reader.checked()
    }

    /// On a stream of an HTTP/2 connection.
    pub(crate) async fn on(http2: &mut Http2, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut asked = request("GET", path);
        for (name, value) in headers {
            asked.headers_mut().insert(*name, value.parse().expect("a header is text"));
        }
        let response = http2.send(asked, None).await;
        Self::of(patiently(response).await.expect("the server answers"))
    }

    /// Of this answer.
    pub(crate) fn of(response: Response<RecvStream>) -> Self {
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let mut head = format!("HTTP/2 {status}\r\n");
        for (name, value) in &headers {
            head.extend([name.as_str(), ": ", value.to_str().expect("a header is text"), "\r\n"]);
        }
        Self { source: Source::Http2(body), parser: Parser::default(), head }.checked()
    }

    fn checked(self) -> Self {
        let status = self.head.lines().next().unwrap_or_default();
        assert!(status.contains(" 200 "), "{}", self.head);
        assert!(self.head.contains("content-type: text/event-stream\r\n"), "{}", self.head);
        self
    }

    /// What comes next; `None` at the end of the stream, which comes between two events.
    pub(crate) async fn find(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.parser.next() {
                return Some(found);
            }
            if !self.fill().await {
                assert_eq!(self.parser.unread, b"", "the stream ends with an event");
                return None;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        match &mut self.source {
            Source::Http1(stream) => {
                let read = patiently(stream.read_buf(&mut self.parser.unread)).await;
                read.is_ok_and(|read| read > 0)
            }
            Source::Http2(body) => {
                let Some(data) = patiently(body.data()).await else { return false };
                let data = data.expect("the stream is not reset");
                self.parser.unread.extend_from_slice(&data);
                body.flow_control().release_capacity(data.len()).expect("what was read is given back");
                true
            }
        }
    }

    /// The next event that is not about the source.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            match self.find().await.expect("the stream goes on") {
                Found::Event(event) if is_about_the_source(event.data.as_bytes()) => {}
                Found::Event(event) => return event,
                Found::Retry(_) | Found::Comment => {}
            }
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        let event = self.event().await;
        assert_eq!(event.kind, "message", "{event:?}");
        event.json()
    }

    /// The messages until the reader is up to date, and the reply that says so.
    pub(crate) async fn until_reply(&mut self) -> (Vec<Value>, Value) {
        let mut messages = Vec::new();
        loop {
            let message = self.next().await;
            if message["reply"] == "events" {
                return (messages, message);
            }
            messages.push(message);
        }
    }

    /// The messages until the reader is up to date, without the epoch that comes first.
    pub(crate) async fn states(&mut self) -> Vec<Value> {
        let (mut messages, reply) = self.until_reply().await;
        assert_eq!(reply["ok"], true, "{reply}");
        assert!(messages.remove(0)["epoch"].is_string());
        messages
    }

    /// Everything until the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Found> {
        let mut rest = Vec::new();
        while let Some(found) = self.find().await {
            rest.push(found);
        }
        rest
    }

    /// The code of the event that closes the stream, after which nothing comes.
    pub(crate) async fn closed(&mut self) -> u64 {
        match self.rest().await.pop() {
            Some(Found::Event(event)) if event.kind == "close" => event.json()["code"].as_u64().expect("a code"),
            other => panic!("{other:?}"),
        }
    }
}
