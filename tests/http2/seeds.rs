//! The seeds of the fuzz target of HTTP/2: connections of the h2 crate's client, as it sent them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::http2::{Http2, roomy};
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};

/// The preface (RFC 9113, §3.4), which the target does not read from its input.
const PREFACE_BYTES: usize = 24;
/// The target's first byte: what follows are the bytes as they are sent, or frames as the target describes them, of which
/// each is sent when the server has dealt with the one before.
const AS_THEY_ARE: u8 = 0;
const FRAMED: u8 = 2 + 4;

#[tokio::test]
#[ignore = "writes fuzz/seeds/h2_path: cargo test record_the_seeds -- --ignored"]
async fn record_the_seeds() {
    let server = TestServer::embedded(&[]).await;

    let (mut http2, sent) = recorded(server.address).await;
    http2.request("GET", "/", None).await;
    keep("get", http2, sent).await;

    let (mut http2, sent) = recorded(server.address).await;
    http2.request("PUT", "/products/1", Some(&product_json(1, 2))).await;
    keep("put", http2, sent).await;

    let (mut http2, sent) = recorded(server.address).await;
    let mut socket = http2.websocket().await;
    socket.subscribe([1, 2]).await;
    socket.close(1000);
    socket.closed().await;
    drop(socket);
    keep("websocket", http2, sent).await;
}

/// A connection, and what was sent on it once it has ended.
async fn recorded(address: SocketAddr) -> (Http2, JoinHandle<Vec<u8>>) {
    let (near, far) = duplex(64 * 1024);
    let server = TcpStream::connect(address).await.unwrap();
    let sent = tokio::spawn(relay(far, server));
    (Http2::over(near, &roomy()).await, sent)
}

async fn relay(client: DuplexStream, mut server: TcpStream) -> Vec<u8> {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = server.split();
    let mut sent = Vec::new();
    let record = async {
        loop {
            let before = sent.len();
            if from_client.read_buf(&mut sent).await.unwrap() == 0 {
                break;
            }
            to_server.write_all(&sent[before..]).await.unwrap();
        }
        to_server.shutdown().await.unwrap();
    };
    let _ = tokio::join!(record, copy(&mut from_server, &mut to_client));
    sent
}

async fn keep(name: &str, http2: Http2, sent: JoinHandle<Vec<u8>>) {
    http2.ended().await.unwrap();
    let sent = patiently(sent).await.unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/h2_path");
    fs::create_dir_all(&directory).unwrap();
    let frames = &sent[PREFACE_BYTES..];
    fs::write(directory.join(name), [&[AS_THEY_ARE], frames].concat()).unwrap();
    fs::write(directory.join(format!("{name}-framed")), [&[FRAMED], &described(frames)[..]].concat()).unwrap();
}

/// The frames by type, flags, stream and length, a byte each, and payload; all of them are short.
fn described(mut frames: &[u8]) -> Vec<u8> {
    let mut described = Vec::new();
    while let [0, 0, length, kind, flags, 0, 0, 0, stream, rest @ ..] = frames {
        let (payload, after) = rest.split_at(usize::from(*length));
        described.extend_from_slice(&[*kind, *flags, *stream, *length]);
        described.extend_from_slice(payload);
        frames = after;
    }
    assert!(frames.is_empty(), "a frame is longer than a byte says");
    described
}
