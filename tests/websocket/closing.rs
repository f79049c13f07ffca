//! What a reader gets before the server closes, and that nothing comes after the close, whatever it was doing meanwhile.

use std::io;
use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

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

/// Everything until the end of the connection, which is not an error.
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
    let mut writers = tokio::task::JoinSet::new();
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
async fn read_after_the_server<S: AsyncRead + AsyncWrite + Unpin>(server: TestServer, mut socket: RawSocket<S>) {
    burst(async || server.http().await, 80).await;
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut), (1, 1));
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

/// Whether commands were in progress when the server stopped or not: replies in their order, the hint, the close, the end.
#[tokio::test]
async fn commands_in_progress_are_answered_before_the_close_or_not_at_all() {
    const SOCKETS: usize = 20;
    let mut server = TestServer::embedded(&["--cores", "2"]).await;
    let commands: Vec<u8> = (0..12)
        .flat_map(|id| {
            let products: Vec<u64> = (0..3000).map(|product| product * (id + 1)).collect();
            let command = json!({"command": "subscribe", "productIDs": products, "id": id}).to_string();
            client_frame(0x81, command.as_bytes())
        })
        .collect();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(RawSocket::connect(server.address, b"").await);
    }
    let mut readers = tokio::task::JoinSet::new();
    for mut socket in sockets {
        let commands = commands.clone();
        readers.spawn(async move {
            socket.write(&commands).await;
            until_end_closing(&mut socket).await
        });
    }
    server.begin_stop();
    while let Some(read) = readers.join_next().await {
        let frames = read.unwrap().expect("no connection is reset");
        let Some(((CLOSE, _), [replies @ .., (0x81, hint)])) = frames.split_last() else { panic!("{frames:?}") };
        assert!(hint.starts_with(br#"{"reconnect""#), "{}", String::from_utf8_lossy(hint));
        for (number, (_, reply)) in replies.iter().enumerate() {
            assert!(reply.starts_with(format!(r#"{{"reply":{number},"ok":true"#).as_bytes()));
        }
    }
    assert_eq!(server.ended().await.connections, SOCKETS);
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
