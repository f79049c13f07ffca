//! Bodies of requests.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{MIB, forget_peak, peak_bytes, resident_bytes, size};
use crate::process::Running;
use crate::support::http2::{Http2, request};
use crate::support::patiently;
use crate::support::server::{Http, product_json};

/// All of a body of 1 MiB but its last byte.
fn unfinished() -> Bytes {
    let mut body = vec![b' '; MIB - 1];
    body[0] = b'{';
    body.into()
}

/// Sends the head of a request and what there is of its body, to be taken as far as there is a window.
async fn begin(http2: &mut Http2, path: &str, body: &Bytes) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let mut head = request("POST", path);
    head.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let (response, mut stream) = http2.start(head, false).await;
    // Fails where it is answered already.
    let _ = stream.send_data(body.clone(), false);
    (response, stream)
}

/// Sends a request over HTTP/1 whose body misses its last byte.
async fn begin_http1(address: SocketAddr, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /products/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {MIB}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A body that finds no room is answered before all of it is sent.
    let _ = stream.write_all(body).await;
    stream
}

#[tokio::test]
async fn bodies_that_nobody_asks_for_hold_nothing() {
    const CONNECTIONS: usize = 20;
    const STREAMS: usize = 128;
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--cores", "1"]).await;
    server.ignore_log();
    let (before, body) = (resident_bytes(&server), unfinished());
    forget_peak(&server);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut http2 = Http2::connect(server.address).await;
        let mut asked = Vec::new();
        for stream in 0..STREAMS {
            asked.push(begin(&mut http2, if stream % 2 == 0 { "/x" } else { "/readyz" }, &body).await);
        }
        connections.push((http2, asked));
    }
    for (_, asked) in &mut connections {
        for (stream, (response, _)) in asked.iter_mut().enumerate() {
            let status = patiently(response).await.unwrap().status();
            assert_eq!(status, if stream % 2 == 0 { 404 } else { 405 });
        }
    }
    let cost = peak_bytes(&server).saturating_sub(before);
    // 128 KiB for each 1 MiB that was offered, of which most is what HTTP/2 keeps of a stream.
    assert!(cost <= CONNECTIONS * STREAMS * MIB / 32, "{} MiB", cost / MIB);
}

#[tokio::test]
async fn all_bodies_together_have_a_budget_which_is_given_back() {
    const BUDGET_MIB: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let budget = (BUDGET_MIB * MIB).to_string();
    let mut server = Running::start(dir.path(), &["--cores", "1", "--max-bodies-bytes", &budget]).await;
    server.ignore_log();
    let (before, body) = (resident_bytes(&server), unfinished());
    forget_peak(&server);
    let mut connections = Vec::new();
    // Each may hold a quarter.
    for _ in 0..10 {
        let mut http2 = Http2::connect(server.address).await;
        let mut asked = Vec::new();
        for _ in 0..16 {
            asked.push(begin(&mut http2, "/products", &body).await);
        }
        connections.push((http2, asked));
    }
    let mut http = Http::connect(server.address).await;
    let refused = "rowcast_refused_total{limit=\"bodies_bytes\"}";
    // More come than fit; the others are refused and hold nothing.
    let all_others = async { while http.metric(refused).await < 10 * 16 - BUDGET_MIB as u64 {} };
    patiently(all_others).await;
    let cost = peak_bytes(&server).saturating_sub(before);
    assert!(cost <= (BUDGET_MIB + 24) * MIB, "{} MiB", cost / MIB);
    let mut large = product_json(1, 1);
    large.push_str(&" ".repeat(MIB - large.len()));
    // Bodies that came at once may have refused each other where one of them had room; further ones take it.
    let mut fillers = Vec::new();
    let full = async {
        loop {
            let reply = http.request("PUT", "/products/1", Some(&large)).await;
            if reply.status == 503 {
                return reply;
            }
            fillers.push(begin_http1(server.address, &body).await);
        }
    };
    let reply = patiently(full).await;
    assert_eq!(reply.header("retry-after"), "2", "{reply:?}");
    drop(fillers);
    // A body gives back what it held, also if it is reset or goes with its connection.
    let (_, mut first) = connections.remove(0);
    for (_, stream) in &mut first {
        stream.send_reset(h2::Reason::CANCEL);
    }
    let written = async { while http.request("PUT", "/products/1", Some(&large)).await.status == 503 {} };
    patiently(written).await;
    for (http2, _) in connections {
        http2.abort();
    }
    let have_room_at_once = async || {
        let mut all = Vec::new();
        while all.len() < BUDGET_MIB - 1 {
            all.push(begin_http1(server.address, &body).await);
        }
        for stream in &mut all {
            let mut status = [0; 12];
            // One that was refused may be cut before it is complete.
            let is_answered = stream.write_all(b" ").await.is_ok() && stream.read_exact(&mut status).await.is_ok();
            if !is_answered || &status != b"HTTP/1.1 400" {
                return false;
            }
        }
        true
    };
    // The connections that were cut may end a moment later.
    patiently(async { while !have_room_at_once().await {} }).await;
}

#[tokio::test]
async fn a_body_in_many_pieces_costs_what_it_has() {
    let (bodies, bytes) = (size(8, 40), size(MIB / 16, MIB));
    // The long form has 40 million pieces, which a server of a debug build reads in some minutes.
    let patience = Duration::from_mins(size(1, 40) as u64);
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--cores", "1", "--body-timeout-seconds", "3600"]).await;
    server.ignore_log();
    let head =
        "PUT /products/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let answered = async |bodies: usize| {
        let sending: Vec<_> = (0..bodies)
            .map(|_| {
                let address = server.address;
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.write_all(head.as_bytes()).await.unwrap();
                    stream.write_all("1\r\n{\r\n".repeat(bytes).as_bytes()).await.unwrap();
                    stream
                })
            })
            .collect();
        for stream in sending {
            let mut stream = stream.await.unwrap();
            stream.write_all(b"0\r\n\r\n").await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 400");
        }
    };
    // The code that it takes is mapped with the first.
    timeout(patience, answered(1)).await.unwrap();
    let before = resident_bytes(&server);
    forget_peak(&server);
    timeout(patience, answered(bodies)).await.unwrap();
    let cost = peak_bytes(&server).saturating_sub(before);
    // Twice the bodies, and some for the sockets.
    assert!(cost <= 2 * bodies * bytes + 4 * MIB, "{} KiB", cost / 1024);
}
