//! Bodies that are sent but for their end.

use std::future::{pending, poll_fn};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::task::spawn_local;

use super::Scene;
use super::http2::{connect, send_all};
use crate::client::tcp;

/// The greatest body that a server takes by default.
const BODY_BYTES: usize = 1024 * 1024;
/// As many as a server allows on a connection by default.
const STREAMS: usize = 128;

/// Gives every client 128 streams on its HTTP/2 connection, each with a body of 1 MiB but its last byte.
pub(super) async fn on_streams(scene: &Scene, method: &Method, path: &str) -> anyhow::Result<()> {
    let body = &Bytes::from(vec![b' '; BODY_BYTES - 1]);
    scene.begin();
    let client = |number| async move {
        let mut connection = connect(scene, number, 64 * 1024).await?;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let uri = format!("http://localhost{path}");
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .header("content-type", "application/json")
                .header("content-length", BODY_BYTES);
            poll_fn(|cx| connection.poll_ready(cx)).await?;
            let (response, mut send) = connection.send_request(request.body(())?, false)?;
            let (body, scene) = (body.clone(), scene.clone());
            streams.push(spawn_local(async move {
                // Cut by the server, sooner or later or never.
                let _ = send_all(&mut send, body).await;
                scene.add(1);
                let answer = response.await;
                if answer.is_ok() {
                    scene.cut();
                }
            }));
        }
        join_all(streams).await;
        anyhow::Ok(())
    };
    join_all((0..scene.clients).map(client)).await;
    pending().await
}

/// Gives every client one body of 1 MiB in chunks of one byte, which never ends (RFC 9112, §7.1).
pub(super) async fn in_chunks(scene: &Scene) -> anyhow::Result<()> {
    const CHUNKS_AT_ONCE: usize = 4096;
    let chunks = &b"1\r\n \r\n".repeat(CHUNKS_AT_ONCE);
    scene.begin();
    let client = |number| async move {
        let stream = scene.server.over(tcp(scene.server.address, number).await?).await?;
        let (mut read, mut write) = split(stream);
        let head = format!(
            "PUT /products/{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            number + 1
        );
        let writing = async {
            write.write_all(head.as_bytes()).await?;
            for _ in 0..BODY_BYTES / CHUNKS_AT_ONCE {
                write.write_all(chunks).await?;
            }
            scene.add(1);
            pending().await
        };
        let mut answer = [0; 1024];
        tokio::select! {
            result = writing => result,
            // An answer before the end, or the end of the connection.
            _ = read.read(&mut answer) => {
                scene.cut();
                anyhow::Ok(())
            }
        }
    };
    join_all((0..scene.clients).map(client)).await;
    pending().await
}
