//! Sends every message back, on the codec and the handshake of the server: what conformance suites talk to.
//!
//! ```sh
//! cargo run --release --example ws_echo -- 127.0.0.1:9001
//! ```
//!
//! Unlike the server it takes binary messages, and messages of up to 64 MiB.

use std::convert::Infallible;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rowcast::session::close::CloseReason;
use rowcast::wire::frame::Frame;
use rowcast::wire::websocket::Opcode;
use rowcast::wire::websocket::{Decoder, Received, handshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The longest message that is echoed.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is read from a socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How long a peer has for its side of the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("say where to listen: ws_echo 127.0.0.1:9001")?;
    let listener = TcpListener::bind(&address).await.with_context(|| format!("listen on {address}"))?;
    writeln!(io::stdout(), "echoing on ws://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await.context("accept a socket")?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new());
            let connection = http.serve_connection(TokioIo::new(stream), service_fn(respond)).with_upgrades();
            if let Err(error) = connection.await {
                let _ = writeln!(io::stderr(), "a handshake failed: {error}");
            }
        });
    }
}

/// Answers the handshake, and has the socket echo after it.
async fn respond(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match handshake::accept(&request) {
        Ok(accepted) => {
            tokio::spawn(echo(hyper::upgrade::on(&mut request)));
            accepted.map(|_| Full::default())
        }
        Err(error) => {
            let mut response = Response::new(error.to_string().into());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    })
}

async fn echo(on_upgrade: OnUpgrade) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        unreachable!("TCP streams are served");
    };
    // An error is a peer that is gone.
    let _ = echo_messages(io.into_inner(), read_buf.to_vec()).await;
}

/// Echoes until either side closes; `input` was read together with the handshake.
async fn echo_messages(mut stream: TcpStream, mut input: Vec<u8>) -> io::Result<()> {
    let (mut reader, writer) = stream.split();
    let mut writer = BufWriter::new(writer);
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let mut length = input.len();
    input.resize(length.max(READ_BYTES), 0);
    loop {
        let mut rest = &mut input[..length];
        while !rest.is_empty() {
            let answer = match decoder.decode(rest) {
                Ok((taken, received)) => {
                    let answer = received.map_or(Answer::Nothing, answer);
                    rest = &mut rest[taken..];
                    answer
                }
                Err(error) => Answer::Last(CloseReason::from(error).frame()),
            };
            match answer {
                Answer::Nothing => {}
                Answer::More(frame) => writer.write_all(&frame).await?,
                Answer::Last(frame) => {
                    writer.write_all(&frame).await?;
                    writer.flush().await?;
                    // Closing with bytes unread would reset the connection, and the peer might not see the frame.
                    writer.shutdown().await?;
                    let unread = timeout(CLOSE_TIMEOUT, async {
                        while reader.read(&mut input).await? > 0 {}
                        io::Result::Ok(())
                    });
                    return unread.await.unwrap_or(Ok(()));
                }
            }
        }
        decoder.release();
        writer.flush().await?;
        length = reader.read(&mut input).await?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// What a message or control frame is answered with.
enum Answer {
    Nothing,
    More(Frame),
    Last(Frame),
}

fn answer(received: Received<'_>) -> Answer {
    match received {
        Received::Text(text) => Answer::More(Frame::new(Opcode::Text, text)),
        Received::Binary(bytes) => Answer::More(Frame::new(Opcode::Binary, bytes)),
        Received::Ping(payload) => Answer::More(Frame::new(Opcode::Pong, payload)),
        Received::Pong(_) => Answer::Nothing,
        Received::Close(status) => Answer::Last(CloseReason::Peer(status.map(|(code, _)| code)).frame()),
    }
}
