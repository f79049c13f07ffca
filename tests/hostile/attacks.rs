//! The attacks of a stranger on a port: each [`Attack`] is one visit, of bounded length, chosen and coloured by [`Dice`].

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::port::{Line, Port, Speaks};
use crate::support::socket::{RawSocket, client_frame};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
/// The time for which a visitor waits for an answer.
const PATIENCE: Duration = Duration::from_millis(200);
const UPGRADE: &[u8] = b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Chance that can be repeated: the same seed throws the same numbers (`SplitMix64`).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn bytes(&mut self, length_max: usize) -> Vec<u8> {
        let length = self.below(length_max + 1);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn millis(&mut self, max: usize) -> Duration {
        Duration::from_millis(self.below(max + 1) as u64)
    }
}

/// One kind of visit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attack {
    /// Bytes that are no request, or hardly one.
    Noise,
    /// A socket on which nothing is said.
    HalfOpen,
    /// A handshake that is cut off, or whose answer nobody waits for.
    AbandonedHandshake,
    /// A head that comes byte by byte.
    SlowHead,
    /// A body that is announced and does not come.
    BodyCutOff,
    /// Many requests at once whose answers nobody reads.
    RequestFlood,
    /// Streams of HTTP/2 that are opened and reset, and frames that make no sense.
    Http2Frames,
    /// Frames that break RFC 6455, between frames that do not.
    BrokenFrames,
    /// Messages that are no commands.
    BadCommands,
    /// Pings whose pongs nobody reads.
    PingFlood,
    /// Thousands of subscriptions, left behind.
    SubscriptionFlood,
    /// A message that never ends.
    EndlessMessage,
    /// A subscriber of what changes most that does not read.
    StalledReader,
    /// A handshake of TLS that is cut off, spoilt, or none at all.
    BrokenTls,
}

impl Attack {
    /// Returns the attacks on a port that speaks this.
    pub(super) const fn all(speaks: &Speaks) -> &'static [Self] {
        let most = match speaks {
            Speaks::Redirects => Self::Http2Frames,
            Speaks::Http => Self::StalledReader,
            Speaks::Tls(_) => Self::BrokenTls,
        };
        Self::ALL.split_at(most as usize + 1).0
    }

    /// In the order of the variants: first what every port may be sent, then what is for a WebSocket, then for TLS.
    const ALL: [Self; 14] = [
        Self::Noise,
        Self::HalfOpen,
        Self::AbandonedHandshake,
        Self::SlowHead,
        Self::BodyCutOff,
        Self::RequestFlood,
        Self::Http2Frames,
        Self::BrokenFrames,
        Self::BadCommands,
        Self::PingFlood,
        Self::SubscriptionFlood,
        Self::EndlessMessage,
        Self::StalledReader,
        Self::BrokenTls,
    ];

    /// Returns its name in the count of visits.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::HalfOpen => "half-open",
            Self::AbandonedHandshake => "abandoned handshake",
            Self::SlowHead => "slow head",
            Self::BodyCutOff => "body cut off",
            Self::RequestFlood => "request flood",
            Self::Http2Frames => "HTTP/2 frames",
            Self::BrokenFrames => "broken frames",
            Self::BadCommands => "bad commands",
            Self::PingFlood => "ping flood",
            Self::SubscriptionFlood => "subscription flood",
            Self::EndlessMessage => "endless message",
            Self::StalledReader => "stalled reader",
            Self::BrokenTls => "broken TLS",
        }
    }

    /// Pays one visit. An error is the server's defence.
    pub(super) async fn visit(self, port: &Port, dice: &mut Dice) -> io::Result<()> {
        match self {
            Self::Noise => say(port.connect(dice).await?, &noise(dice)).await,
            Self::HalfOpen => half_open(port, dice).await,
            Self::AbandonedHandshake => abandoned_handshake(port, dice).await,
            Self::SlowHead => slow_head(port, dice).await,
            Self::BodyCutOff => say(port.connect(dice).await?, &cut_off_body(dice)).await,
            Self::RequestFlood => request_flood(port, dice).await,
            Self::Http2Frames => say(port.connect_http2(dice).await?, &http2_frames(dice)).await,
            Self::BrokenFrames => {
                let mut socket = open(port, dice).await?;
                socket.write(&broken_frames(dice)).await;
                until_closed(socket).await
            }
            Self::BadCommands => {
                let mut socket = open(port, dice).await?;
                for _ in 0..dice.below(50) {
                    socket.write_frame(TEXT, bad_command(dice).as_bytes()).await;
                }
                until_closed(socket).await
            }
            Self::PingFlood => ping_flood(port, dice).await,
            Self::SubscriptionFlood => subscription_flood(port, dice).await,
            Self::EndlessMessage => endless_message(port, dice).await,
            Self::StalledReader => stalled_reader(port, dice).await,
            Self::BrokenTls => say(port.connect_tcp(dice).await?, &broken_tls(port, dice)).await,
        }
    }
}

async fn open(port: &Port, dice: &mut Dice) -> io::Result<RawSocket<Line>> {
    Ok(RawSocket::over(port.connect(dice).await?, b"").await)
}

async fn half_open(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let _stream = port.connect(dice).await?;
    sleep(dice.millis(2000)).await;
    Ok(())
}

async fn abandoned_handshake(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut stream = port.connect(dice).await?;
    stream.write_all(&UPGRADE[..=dice.below(UPGRADE.len())]).await?;
    Ok(())
}

async fn slow_head(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut stream = port.connect(dice).await?;
    for byte in &UPGRADE[..dice.below(UPGRADE.len())] {
        stream.write_all(&[*byte]).await?;
        sleep(dice.millis(20)).await;
    }
    Ok(())
}

async fn request_flood(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut stream = port.connect(dice).await?;
    stream.write_all(&b"GET /products HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500)).await?;
    sleep(dice.millis(500)).await;
    Ok(())
}

async fn ping_flood(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut socket = open(port, dice).await?;
    let pings = client_frame(PING, &[b'x'; 125]).repeat(1000);
    for _ in 0..8 {
        // It may be full: the server reads no further when its pongs are not read.
        let _ = timeout(PATIENCE, socket.stream.write_all(&pings)).await;
        sleep(dice.millis(50)).await;
    }
    Ok(())
}

async fn subscription_flood(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut socket = open(port, dice).await?;
    for command in ["subscribe", "subscribe", "unsubscribe", "subscribe"] {
        let first = 1_000_000 + dice.below(1_000_000);
        socket.write_frame(TEXT, command_with(command, first..first + 1000).as_bytes()).await;
    }
    Ok(())
}

async fn endless_message(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut socket = open(port, dice).await?;
    socket.write_frame(0x01, b"{").await;
    for _ in 0..10 {
        socket.write_frame(0x00, &vec![b' '; dice.below(24_000)]).await;
        sleep(dice.millis(50)).await;
    }
    Ok(())
}

async fn stalled_reader(port: &Port, dice: &mut Dice) -> io::Result<()> {
    let mut socket = open(port, dice).await?;
    socket.write_frame(TEXT, command_with("subscribe", 0..100).as_bytes()).await;
    sleep(dice.millis(3000)).await;
    Ok(())
}

fn command_with(command: &str, products: Range<usize>) -> String {
    let ids: Vec<String> = products.map(|id| id.to_string()).collect();
    format!(r#"{{"command":"{command}","productIDs":[{}]}}"#, ids.join(","))
}

fn cut_off_body(dice: &mut Dice) -> Vec<u8> {
    let head = b"PUT /products/1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 900000\r\n\r\n{";
    [head, &vec![b' '; dice.below(800_000)][..]].concat()
}

/// Says all of it, and hears what comes for a moment.
async fn say(mut stream: Line, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, (&mut stream).take(1 << 20).read_to_end(&mut answer)).await;
    Ok(())
}

async fn until_closed(mut socket: RawSocket<Line>) -> io::Result<()> {
    let _ = timeout(PATIENCE, async { while socket.read_frame().await.is_some() {} }).await;
    Ok(())
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    let rest = dice.bytes(3000);
    let start: &[u8] = match dice.below(8) {
        0 => b"",
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
        2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        3 => b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        4 => b"PUT /products/1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        5 => b"POST /products HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        6 => return [b"GET /", &vec![b'a'; 200_000][..], b" HTTP/1.1\r\n\r\n"].concat(),
        _ => return [b"GET / HTTP/1.1\r\n", &b"x: y\r\n".repeat(500)[..], b"\r\n"].concat(),
    };
    [start, &rest].concat()
}

/// A `ClientHello` that stops somewhere, or is spoilt, or something else in its place.
fn broken_tls(port: &Port, dice: &mut Dice) -> Vec<u8> {
    let mut hello = port.client_hello();
    match dice.below(3) {
        0 => return noise(dice),
        1 => hello.truncate(dice.below(hello.len() + 1)),
        _ => {
            let spoilt = dice.below(hello.len());
            hello[spoilt] ^= 1 << dice.below(8);
            hello.extend(dice.bytes(3000));
        }
    }
    hello
}

/// A connection of HTTP/2 (RFC 9113) on which requests are reset as soon as they are made, with other frames between.
fn http2_frames(dice: &mut Dice) -> Vec<u8> {
    const GET_ROOT: &[u8] = &[0x82, 0x86, 0x84];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(http2_frame(4, 0, 0, b""));
    let requests = u32::try_from(dice.below(500)).expect("few");
    for stream in (1..).step_by(2).take(requests as usize) {
        bytes.extend(http2_frame(1, 5, stream, GET_ROOT));
        bytes.extend(http2_frame(3, 0, stream, &8u32.to_be_bytes()));
        if dice.below(100) == 0 {
            let [kind, flags, ..] = dice.next().to_be_bytes();
            bytes.extend(http2_frame(kind % 12, flags, stream, &dice.bytes(100)));
        }
    }
    bytes
}

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn broken_frames(dice: &mut Dice) -> Vec<u8> {
    let good = client_frame(TEXT, br#"{"command":"subscribe","productIDs":[1]}"#).repeat(dice.below(3));
    let broken = match dice.below(8) {
        0 => dice.bytes(300),
        1 => client_frame(TEXT, b"\xFF\xFE"),
        2 => client_frame(0x82, b"binary"),
        3 => client_frame(0xF1, b"{}"),
        4 => client_frame(0x80, b"{}"),
        5 => client_frame(PING, &[0; 126]),
        6 => client_frame(TEXT, &vec![b' '; 300_000])[..dice.below(300_000)].to_vec(),
        _ => client_frame(0x88, &[3]),
    };
    [good, broken].concat()
}

fn bad_command(dice: &mut Dice) -> String {
    match dice.below(5) {
        0 => "[".repeat(dice.below(5000)),
        1 => String::from_utf8_lossy(&dice.bytes(200)).into_owned(),
        2 => format!(r#"{{"command":"subscribe","productIDs":[{}]}}"#, "1e999,".repeat(dice.below(100))),
        3 => format!(r#"{{"id":"{}","command":"publish"}}"#, "x".repeat(dice.below(10_000))),
        _ => r#"{"command":"subscribe","productIDs":[-1]}"#.to_owned(),
    }
}
