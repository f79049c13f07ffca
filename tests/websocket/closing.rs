//! Everything before a close can be read, and nothing comes after it, whatever the reader was doing meanwhile.

use std::io;
use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::process::Running;
use crate::support::patiently;
use crate::support::server::{Http, TestServer};
use crate::support::socket::{RawSocket, client_frame, server_frame};
use crate::support::tls::Certificate;

const CLOSE: u8 = 0x88;
const CHANGE_BYTES: usize = 8 * 1024;

/// A TCP connection with a small receive buffer, so that a reader that does not read soon holds the server up.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    patiently(socket.connect(address)).await.unwrap()
}

async fn subscribed<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> RawSocket<S> {
    let mut socket = RawSocket::over(stream, b"").await;
    socket.write_frame(0x81, br#"{"command":"subscribe","productIDs":[1],"id":1}"#).await;
    assert!(socket.read_frame().await.unwrap().1.starts_with(br#"{"reply":1,"ok":true"#));
    socket
}

/// Reads everything until the end of the connection, which is not an error.
async fn until_end<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut RawSocket<S>) -> io::Result<Vec<(u8, Vec<u8>)>> {
    let mut bytes = socket.take_unread();
    patiently(socket.stream.read_to_end(&mut bytes)).await?;
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((first, payload, length)) = server_frame(&bytes[at..]) {
        frames.push((first, payload));
        at += length;
    }
    assert_eq!(at, bytes.len(), "the last frame is whole");
    Ok(frames)
}

/// Writes product 1 so many times, from several connections at once, so that changes are joined.
async fn burst(http: impl AsyncFn() -> Http, changes: usize) {
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let mut http = http().await;
        writers.spawn(async move {
            for units in 0..changes / 8 {
                let text = "x".repeat(CHANGE_BYTES);
                let product = json!({"manufacturer": text, "pricePerUnit": "", "unitsAvailable": units * writer,
                    "productName": ""});
                let reply = http.request("PUT", "/products/1", Some(&product.to_string())).await;
                assert!(reply.status.is_success(), "{reply:?}");
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
}

/// The close's code, if the close is the last of these frames and only changes and the hint come before it.
fn code_behind_changes(frames: &[(u8, Vec<u8>)]) -> u16 {
    let Some(((CLOSE, payload), before)) = frames.split_last() else { panic!("{:?}", frames.last()) };
    assert!(before.iter().all(|(first, _)| *first == 0x81), "nothing follows a close");
    let versions: Vec<u64> = before
        .iter()
        .map(|(_, text)| serde_json::from_slice::<serde_json::Value>(text).unwrap())
        .filter_map(|change| change["version"].as_u64())
        .collect();
    assert!(!versions.is_empty() && versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
    u16::from_be_bytes([payload[0], payload[1]])
}

const DISCONNECT: [&str; 6] = ["--cores", "2", "--slow-consumer", "disconnect", "--send-queue-frames", "16"];

/// The reader begins to read when the server has given it up.
async fn read_after_it_is_given_up<S: AsyncRead + AsyncWrite + Unpin>(server: &TestServer, mut socket: RawSocket<S>) {
    burst(async || server.http().await, 240).await;
    server.until_metric("rowcast_connections_closed_total{reason=\"slow_consumer\"}", 1).await;
    let frames = until_end(&mut socket).await.expect("the connection is not reset");
    assert_eq!(code_behind_changes(&frames), 1013);
}

#[tokio::test]
async fn a_reader_that_is_given_up_can_read_the_close_later_and_nothing_after_it() {
    let server = TestServer::embedded(&DISCONNECT).await;
    let socket = subscribed(narrow(server.address).await).await;
    read_after_it_is_given_up(&server, socket).await;
}

#[tokio::test]
async fn so_can_a_reader_over_tls() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &DISCONNECT).await;
    let stream = certificate.client().over(narrow(server.address).await).await.unwrap();
    let socket = subscribed(stream).await;
    read_after_it_is_given_up(&server, socket).await;
}

/// The reader begins to read when the server has ended.
async fn read_after_the_server<S: AsyncRead + AsyncWrite + Unpin>(server: TestServer, socket: RawSocket<S>) {
    burst(async || server.http().await, 80).await;
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut), (1, 1));
    read_all_before_the_end(socket).await;
}

async fn read_all_before_the_end<S: AsyncRead + AsyncWrite + Unpin>(mut socket: RawSocket<S>) {
    let frames = until_end(&mut socket).await.expect("the connection is not reset");
    assert_eq!(code_behind_changes(&frames), 1012);
    let (_, hint) = &frames[frames.len() - 2];
    assert!(hint.starts_with(br#"{"reconnect":{"afterMs":"#), "{}", String::from_utf8_lossy(hint));
}

#[tokio::test]
async fn a_reader_can_read_everything_after_the_server_has_stopped() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let socket = subscribed(narrow(server.address).await).await;
    read_after_the_server(server, socket).await;
}

#[tokio::test]
async fn so_can_a_reader_over_tls_after_the_server_has_stopped() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let stream = certificate.client().over(narrow(server.address).await).await.unwrap();
    let socket = subscribed(stream).await;
    read_after_the_server(server, socket).await;
}

#[tokio::test]
async fn a_reader_can_read_everything_after_the_process_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(dir.path(), &["--cores", "2", "--drain-seconds", "1"]).await;
    let socket = subscribed(narrow(server.address).await).await;
    burst(async || Http::connect(server.address).await, 80).await;
    let (status, log) = server.signal("TERM").await;
    assert!(status.success() && log.contains("stopped connections=1 connections_cut=1"), "{log}");
    read_all_before_the_end(socket).await;
}

/// Commands that are in progress when the server stops: replies in their order, the hint, the close, the end.
#[tokio::test]
async fn commands_in_progress_are_answered_before_the_close_or_not_at_all() {
    const SOCKETS: usize = 20;
    const COMMANDS: u64 = 12;
    let mut server = TestServer::embedded(&["--cores", "2", "--ping-seconds", "120"]).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(RawSocket::connect(server.address, b"").await);
    }
    let (tell, mut first_reply) = mpsc::channel(SOCKETS);
    let mut readers = JoinSet::new();
    for mut socket in sockets {
        let tell = tell.clone();
        readers.spawn(async move {
            socket.write(&commands(COMMANDS)).await;
            let first = socket.read_frame().await.expect("the first command is answered");
            tell.send(()).await.unwrap();
            (first, until_end_closing(&mut socket).await)
        });
    }
    patiently(first_reply.recv()).await.unwrap();
    server.begin_stop();
    let mut replies_in_all = 0;
    while let Some(read) = readers.join_next().await {
        let (first, frames) = read.unwrap();
        let frames = [vec![first], frames.expect("no connection is reset")].concat();
        let Some(((CLOSE, _), [replies @ .., (0x81, hint)])) = frames.split_last() else { panic!("{frames:?}") };
        assert!(hint.starts_with(br#"{"reconnect""#), "{}", String::from_utf8_lossy(hint));
        for (number, (_, reply)) in replies.iter().enumerate() {
            assert!(reply.starts_with(format!(r#"{{"reply":{number},"ok":true"#).as_bytes()));
        }
        replies_in_all += replies.len();
    }
    assert!(replies_in_all < SOCKETS * usize::try_from(COMMANDS).unwrap(), "some were in progress");
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut), (SOCKETS, 0));
}

/// Commands that take a while: each subscribes to 3,000 products.
fn commands(count: u64) -> Vec<u8> {
    let command = |id| {
        let products: Vec<u64> = (0..3000).map(|product| product * (id + 1)).collect();
        let command = json!({"command": "subscribe", "productIDs": products, "id": id}).to_string();
        client_frame(0x81, command.as_bytes())
    };
    (0..count).flat_map(command).collect()
}

#[tokio::test]
async fn bytes_behind_a_close_do_not_take_the_servers_words_back() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut socket = RawSocket::connect(server.address, b"").await;
    let subscribe = client_frame(0x81, br#"{"command":"subscribe","productIDs":[1],"id":1}"#);
    let close = client_frame(CLOSE, &1000u16.to_be_bytes());
    // More than the server reads at once.
    let behind = client_frame(0x8A, b"").repeat(2000);
    socket.write(&[subscribe, close, behind].concat()).await;
    let frames = until_end(&mut socket).await.expect("the connection is not reset");
    let [(0x81, reply), (CLOSE, code)] = &frames[..] else { panic!("{frames:?}") };
    assert!(reply.starts_with(br#"{"reply":1,"ok":true"#) && code.starts_with(&1000u16.to_be_bytes()), "{frames:?}");
    server.until_metric("rowcast_connections", 0).await;
    assert!(socket.stream.take_error().unwrap().is_none(), "nor is it afterwards");
}

/// Reads until the server's close, answers it, and reads until the end.
async fn until_end_closing(socket: &mut RawSocket) -> io::Result<Vec<(u8, Vec<u8>)>> {
    let mut frames = Vec::new();
    loop {
        let frame = socket.read_frame().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        let is_close = frame.0 == CLOSE;
        frames.push(frame);
        if is_close {
            break;
        }
    }
    socket.write_frame(CLOSE, &1012u16.to_be_bytes()).await;
    frames.extend(until_end(socket).await?);
    Ok(frames)
}
