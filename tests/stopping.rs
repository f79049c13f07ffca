//! The stop of a server: the order in which it sends its readers away, and the work that it finishes first.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::patiently;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::{RawSocket, Read, Socket};

/// Sends bytes, and waits until what came in answer ends like this.
async fn exchange(stream: &mut TcpStream, bytes: &str, end: &str) {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        assert!(patiently(stream.read_buf(&mut answer)).await.unwrap() > 0, "{answer:?}");
    }
}

/// A write that is in flight: its head has been read, and its body is waited for.
struct InFlight {
    stream: TcpStream,
    body: String,
}

impl InFlight {
    async fn begin(address: SocketAddr, target: &str, body: String) -> Self {
        let mut stream = patiently(TcpStream::connect(address)).await.unwrap();
        let length = body.len();
        let head = format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        exchange(&mut stream, &head, "HTTP/1.1 100 Continue\r\n\r\n").await;
        Self { stream, body }
    }

    /// Sends the body; the answer, after which the server closes.
    async fn finish(mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        rest_of(self.stream).await
    }
}

/// Reads everything that comes until the server closes.
async fn rest_of(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    patiently(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn until_refused(address: SocketAddr) {
    patiently(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

/// A change or a close at the WebSocket of this number.
enum Event {
    Change(usize),
    Closed(usize, u64),
}

/// Tells the events of a socket, until it is closed.
async fn watch(number: usize, mut socket: Socket, events: mpsc::Sender<Event>) {
    let mut hint = None;
    loop {
        let event = match socket.read().await {
            Read::Message(message) if message["reconnect"].is_object() => {
                assert_eq!(hint, None, "one hint");
                hint = message["reconnect"]["afterMs"].as_u64();
                continue;
            }
            Read::Message(message) => {
                assert!(message["action"] == "INSERT" && hint.is_none(), "{message}");
                Event::Change(number)
            }
            Read::Close(code) => {
                assert_eq!(code, 1012);
                Event::Closed(number, hint.expect("the hint comes before the close"))
            }
        };
        let is_last = matches!(event, Event::Closed(..));
        events.send(event).await.unwrap();
        if is_last {
            return;
        }
    }
}

#[tokio::test]
async fn sockets_are_closed_one_after_the_other_and_have_every_change_until_then() {
    const SOCKETS: usize = 40;
    let mut server = TestServer::embedded(&["--cores", "2", "--drain-seconds", "3"]).await;
    let (events, mut happened) = mpsc::channel(2 * SOCKETS);
    for number in 0..SOCKETS {
        let mut socket = Socket::connect(server.address).await;
        socket.subscribe([1]).await;
        tokio::spawn(watch(number, socket, events.clone()));
    }
    drop(events);
    let writing = InFlight::begin(server.address, "PUT /products/1", product_json(1, 7)).await;
    // The rest of its head is still to come when the stop begins.
    let mut asking = patiently(TcpStream::connect(server.address)).await.unwrap();
    asking.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    exchange(&mut idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "alive\n").await;

    server.begin_stop();
    let Some(Event::Closed(first, hint)) = patiently(happened.recv()).await else { panic!("there was no change") };
    until_refused(server.address).await;
    assert_eq!(rest_of(idle).await, "", "a connection without a request ends");
    asking.write_all(b"\r\n").await.unwrap();
    assert!(rest_of(asking).await.starts_with("HTTP/1.1 503 "), "it is not ready");
    assert!(writing.finish().await.starts_with("HTTP/1.1 201 "), "a request in flight is answered");

    let (mut closed, mut changed, mut hints) = (vec![first], Vec::new(), vec![hint]);
    while let Some(event) = patiently(happened.recv()).await {
        match event {
            Event::Change(number) => changed.push(number),
            Event::Closed(number, hint) => {
                closed.push(number);
                hints.push(hint);
            }
        }
    }
    assert_eq!(closed.len(), SOCKETS);
    assert!(!changed.contains(&first) && changed.contains(closed.last().unwrap()), "{closed:?}, {changed:?}");
    assert!(hints.iter().all(|hint| (100..2_100).contains(hint)), "{hints:?}");
    assert!(hints.iter().any(|hint| *hint != hints[0]), "they do not all come back at once");
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut, ended.requests_cut), (SOCKETS, 0, false));
}

#[tokio::test]
async fn where_nobody_is_left_there_is_nothing_to_wait_for() {
    let server = TestServer::embedded(&["--drain-seconds", "60000"]).await;
    assert_eq!(server.ended().await.connections, 0);

    let mut server = TestServer::embedded(&["--cores", "1", "--drain-seconds", "60000"]).await;
    let mut first = Socket::connect(server.address).await;
    let second = Socket::connect(server.address).await;
    server.begin_stop();
    assert_eq!(first.until_closed().await.1, 1012);
    drop((first, second));
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut), (2, 0));
}

#[tokio::test]
async fn what_does_not_end_is_cut_and_counted() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut deaf = RawSocket::connect(server.address, b"").await;
    let mut polite = Socket::connect(server.address).await;
    let unfinished = InFlight::begin(server.address, "PUT /products/1", product_json(1, 7)).await;
    server.until_metric("rowcast_connections", 2).await;
    let (ended, (_, code)) = tokio::join!(server.ended(), async move { polite.until_closed().await });
    assert_eq!((ended.connections, ended.connections_cut, ended.requests_cut, code), (2, 1, true, 1012));
    let (first, payload) = deaf.read_frame().await.unwrap();
    assert!(first == 0x81 && payload.starts_with(br#"{"reconnect":{"afterMs":"#), "{payload:?}");
    assert_eq!(deaf.read_frame().await.unwrap().0, 0x88);
    assert_eq!(deaf.read_frame().await, None);
    drop(unfinished);
}
