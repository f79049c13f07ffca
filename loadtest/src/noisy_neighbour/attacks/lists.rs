//! Long answers that are hardly taken.

use std::future::{pending, poll_fn};
use std::time::Duration;

use anyhow::ensure;
use futures_util::future::{join_all, try_join_all};
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::Scene;
use super::http2::connect;
use crate::client::tcp;
use crate::publish::Http;
use crate::target::Target;

/// Rows that are listed, which is as many as a list has at most.
const ROWS: usize = 1_000;
/// The length of each row's name.
const NAME_BYTES: usize = 1_000_000;
/// Connections that write the rows.
const WRITERS: usize = 4;
/// The bytes that are read of an answer each time, and the wait of a reader before it reads again.
const READ_BYTES: usize = 64 * 1024;
const READ_EVERY: Duration = Duration::from_millis(50);

/// Writes the rows that are listed.
pub(in crate::noisy_neighbour) async fn write_rows(server: &Target) -> anyhow::Result<()> {
    let name = &"n".repeat(NAME_BYTES);
    let writer = |first| async move {
        let mut http = Http::connect(server).await?;
        for id in (first..=ROWS).step_by(WRITERS) {
            let body =
                format!(r#"{{"manufacturer":"Load","pricePerUnit":"1EUR","unitsAvailable":6,"productName":"{name}"}}"#);
            let length = body.len();
            let request = format!(
                "PUT /products/{id} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            );
            http.request(request.as_bytes()).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((1..=WRITERS).map(writer)).await?;
    Ok(())
}

/// Has every client ask for all rows over HTTP/1, and read a little at a time.
pub(super) async fn slow_readers(scene: &Scene) -> anyhow::Result<()> {
    let request = format!("GET /products?limit={ROWS} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let client = |number| {
        let request = &request;
        scene.again(move || async move {
            let mut stream = scene.server.over(tcp(scene.server.address, number).await?).await?;
            stream.write_all(request.as_bytes()).await?;
            scene.add(1);
            let mut buffer = vec![0; READ_BYTES];
            loop {
                ensure!(stream.read(&mut buffer).await? > 0, "the server closed");
                sleep(READ_EVERY).await;
            }
        })
    };
    join_all((0..scene.clients).map(client)).await;
    Ok(())
}

/// Has as many streams on one HTTP/2 connection ask for all rows, and allow the server to send none of them.
pub(super) async fn streams_without_window(scene: &Scene) -> anyhow::Result<()> {
    let mut connection = connect(scene, 0, 0).await?;
    let mut responses = Vec::new();
    for _ in 0..scene.clients {
        poll_fn(|cx| connection.poll_ready(cx)).await?;
        let request = Request::get(format!("http://localhost/products?limit={ROWS}")).body(())?;
        responses.push(connection.send_request(request, true)?.0);
        scene.add(1);
    }
    // Kept, so that the streams stay open: their bodies come, or wait.
    let _answered = join_all(responses).await;
    pending().await
}
