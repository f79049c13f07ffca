//! Clients that mean harm: each ends its own connection, and disturbs no other.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::http2::{Http2, StreamSocket};
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::{client_frame, server_frame};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const ENHANCE_YOUR_CALM: u32 = 0xB;

/// `GET /` with the authority `localhost`, in HPACK.
const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// An extended CONNECT for a WebSocket (RFC 8441, §5), in literals of HPACK.
fn websocket() -> Vec<u8> {
    let headers = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/websocket"),
        (":authority", "localhost"),
        ("sec-websocket-version", "13"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    headers.iter().flat_map(|(name, value)| [&[0][..], &text(name), &text(value)].concat()).collect()
}

/// Frames for the streams that a client may open: 1, 3, 5 …
fn each(streams: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..streams).flat_map(|n| frames(2 * n + 1)).collect()
}

/// A literal header that is not indexed, with a long value.
fn long_header(bytes: usize) -> Vec<u8> {
    let mut header = b"\x00\x01x".to_vec();
    // A length of 127 and more: the rest of it in seven bits a byte (RFC 7541, §5.1).
    header.push(0x7F);
    let mut rest = bytes - 127;
    while rest >= 128 {
        header.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    header.push(u8::try_from(rest).unwrap());
    header.resize(header.len() + bytes, b'v');
    header
}

/// Sends all of it while reading what comes: the error code of GOAWAY, where one comes before the end.
async fn flood(address: SocketAddr, bytes: Vec<u8>) -> Option<u32> {
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sending = tokio::spawn(async move {
        // The server stops reading, and ends the connection, somewhere in it.
        let _ = writing.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &bytes].concat()).await;
        writing
    });
    let mut read = Vec::new();
    // A reset ends it as well as an end.
    let _ = patiently(reading.read_to_end(&mut read)).await;
    drop(patiently(sending).await);
    let mut code = None;
    let mut rest = &read[..];
    while let Some(head) = rest.get(..9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(payload) = rest.get(9..9 + length) else { break };
        if head[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = &rest[9 + length..];
    }
    code
}

/// A server with one core, and somebody who is there before the floods and after them.
async fn with_a_bystander() -> (TestServer, Http2, StreamSocket) {
    let server =
        TestServer::embedded(&["--cores", "1", "--http2-max-streams", "100", "--commands-per-second", "0"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut socket = http2.websocket().await;
    socket.subscribe([1]).await;
    (server, http2, socket)
}

async fn goes_on(http2: &mut Http2, socket: &mut StreamSocket) {
    let version = http2.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    assert_eq!(socket.next().await["version"], version);
}

#[tokio::test]
async fn floods_end_their_own_connection() {
    let (server, mut http2, mut socket) = with_a_bystander().await;
    let reset = 8u32.to_be_bytes();
    let mut ended = 0;
    for (name, bytes) in [
        ("settings", frame(SETTINGS, 0, 0, b"").repeat(100_000)),
        ("pings", frame(PING, 0, 0, &[1; 8]).repeat(100_000)),
        ("unknown frames", frame(0xEE, 0, 0, b"").repeat(100_000)),
        (
            "rapid resets",
            each(50_000, |stream| {
                [frame(HEADERS, END_STREAM | END_HEADERS, stream, GET), frame(RST_STREAM, 0, stream, &reset)].concat()
            }),
        ),
        ("too many streams", each(50_000, |stream| frame(HEADERS, END_HEADERS, stream, GET))),
        (
            "pings in WebSockets",
            // With room for all pongs.
            frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes())
                .into_iter()
                .chain(each(16, |stream| frame(HEADERS, END_HEADERS, stream, &websocket())))
                // As many as the window of each stream has room for.
                .chain(each(16, |stream| frame(DATA, 0, stream, &client_frame(0x89, b"")).repeat(5000)))
                .collect(),
        ),
        (
            "headers without an end",
            [frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 0, 1, &long_header(16_000)).repeat(1000)].concat(),
        ),
    ] {
        assert_eq!(flood(server.address, bytes).await, Some(ENHANCE_YOUR_CALM), "{name}");
        ended += 1;
        server.until_metric("rowcast_refused_total{limit=\"http2_flood\"}", ended).await;
        server.until_metric("rowcast_http2_connections", 1).await;
        goes_on(&mut http2, &mut socket).await;
    }
}

#[tokio::test]
async fn what_is_not_http_2_after_all_ends_its_own_connection() {
    let (server, mut http2, mut socket) = with_a_bystander().await;
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..],
        b"PRI / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[PREFACE, &frame(SETTINGS, 0, 0, b"12345")].concat(),
        &[PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(HEADERS, END_HEADERS, 1, b"\xFF\xFF\xFF\xFF\xFF\xFF")].concat(),
        &[PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(HEADERS, END_HEADERS, 2, GET)].concat(),
        &[PREFACE, &[0xFF; 100]].concat(),
    ] {
        let mut stream = patiently(TcpStream::connect(server.address)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = patiently(stream.read_to_end(&mut Vec::new())).await;
        goes_on(&mut http2, &mut socket).await;
    }
    server.until_metric("rowcast_http2_connections", 1).await;
}

#[tokio::test]
async fn a_head_above_the_limit_is_refused_and_the_connection_goes_on() {
    let (server, ..) = with_a_bystander().await;
    let mut http2 = Http2::connect(server.address).await;
    let mut request = crate::support::http2::request("GET", "/");
    request.headers_mut().insert("x", "v".repeat(20 * 1024).parse().unwrap());
    let response = http2.send(request, None).await;
    assert_eq!(patiently(response).await.unwrap().status(), 431);
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200);
}

/// A client that opens the windows again after each DATA frame, as far as it took of them.
struct Fast {
    reading: BufReader<OwnedReadHalf>,
    writing: OwnedWriteHalf,
    updates: usize,
}

impl Fast {
    /// Opens WebSockets on so many streams, each subscribed to product 1.
    async fn open(address: SocketAddr, streams: u32) -> Self {
        let (reading, mut writing) = patiently(TcpStream::connect(address)).await.unwrap().into_split();
        let subscribe = client_frame(0x81, br#"{"command":"subscribe","productIDs":[1],"id":1}"#);
        let opening = each(streams, |stream| {
            [frame(HEADERS, END_HEADERS, stream, &websocket()), frame(DATA, 0, stream, &subscribe)].concat()
        });
        writing.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &opening].concat()).await.unwrap();
        let mut client = Self { reading: BufReader::new(reading), writing, updates: 0 };
        for _ in 0..streams {
            assert!(client.message().await.starts_with(br#"{"reply":1,"ok":true"#));
        }
        client
    }

    /// The next message of any stream.
    async fn message(&mut self) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            patiently(self.reading.read_exact(&mut head)).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            patiently(self.reading.read_exact(&mut payload)).await.unwrap();
            assert_ne!(head[3], GOAWAY, "{payload:?} after {} updates", self.updates);
            if head[3] == DATA {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let update = |stream| frame(WINDOW_UPDATE, 0, stream, &length.to_be_bytes());
                self.writing.write_all(&[update(stream), update(0)].concat()).await.unwrap();
                self.updates += 2;
                return server_frame(&payload).expect("a message in each DATA frame").1;
            }
        }
    }
}

#[tokio::test]
async fn a_fast_reader_of_small_changes_is_no_flood() {
    const STREAMS: u32 = 50;
    let (server, mut http2, mut socket) = with_a_bystander().await;
    let mut fast = Fast::open(server.address, STREAMS).await;
    // More updates than may come without what was sent.
    while fast.updates < 2 * 16_384 {
        let version = http2.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
        for _ in 0..STREAMS {
            let change: serde_json::Value = serde_json::from_slice(&fast.message().await).unwrap();
            assert_eq!(change["version"], version);
        }
        assert_eq!(socket.next().await["version"], version);
    }
    assert_eq!(server.metric("rowcast_refused_total{limit=\"http2_flood\"}").await, 0);
}
