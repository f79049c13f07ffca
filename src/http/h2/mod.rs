//! HTTP/2 (RFC 9113): one connection, its requests, and their bounds.
//!
//! A connection is one task, which alone reads and writes its stream; each request is another, so that a slow one holds
//! up no other. What a client can make this side keep is bounded by [`STREAM_WINDOW_BYTES`] and [`SEND_BUFFER_BYTES`]
//! for each stream, and by [`HttpLimits`] for its head. Frames that cost more to answer than to send are counted by
//! [`FloodGuard`].

mod flood;
mod push;
mod request;
mod websocket;

use std::io;
use std::pin::pin;

use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Reason, RecvStream};
use hyper::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::debug;

use self::flood::{FloodGuard, FloodSign};
use self::request::Exchange;
use super::HttpLimits;
use super::core::{CoreHttp, Peer};
use crate::metrics::Limit;

/// The most bytes that a client may send on a stream before it is read. A stream that is not read keeps as much, and
/// since the connection's window is that of all its streams together, it takes nothing from the others.
const STREAM_WINDOW_BYTES: u32 = 32 * 1024;
/// The most bytes that may wait on a stream for the client's window, or for TCP. The rest stays with whoever sends: a
/// WebSocket's changes in its send queue, under its policy.
const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// The most streams that the client may have reset before anybody looked at them.
const RESETS_UNSEEN_MAX: usize = 64;
/// The most streams that this side may have had to reset because the client broke a rule, or opened more than it may.
const ERRORS_MAX: usize = 256;
/// The most streams that are remembered after this side reset them, so that what was on its way is ignored.
const RESETS_REMEMBERED_MAX: usize = 64;
/// The time that a client has to end a connection that has nothing more to do.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that `--http2-max-streams` allows: the window of a connection has 31 bits.
pub(super) const STREAMS_MAX: u32 = 10_000;
const _: () = assert!(STREAMS_MAX as u64 * (STREAM_WINDOW_BYTES as u64) < 1 << 31);

/// Serves a connection until its client ends it, breaks the protocol or floods it, or until the server stops and what
/// is in flight on it has ended.
///
/// # Errors
/// The reason for which it ended early.
pub(super) async fn serve<S>(mut core: CoreHttp, peer: Peer, stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    core.services.shared = core.services.shared.for_connection();
    let (stream, flood) = FloodGuard::new(stream);
    let limits = core.services.limits;
    let handshake = timeout(limits.head_timeout, builder(&limits).handshake(stream)).await;
    let Ok(handshake) = handshake else {
        core.services.metrics.refused(Limit::HeaderTimeout);
        return Err(io::ErrorKind::TimedOut.into());
    };
    let connection = handshake.map_err(io::Error::other)?;
    let metrics = core.services.metrics.clone();
    metrics.http.http2_connections.inc();
    let served = Box::pin(serve_requests(core, peer, connection, &flood)).await;
    metrics.http.http2_connections.dec();
    if flood.is_raised() || served.as_ref().is_err_and(|error| error.reason() == Some(Reason::ENHANCE_YOUR_CALM)) {
        metrics.refused(Limit::Http2Flood);
    }
    served.map_err(io::Error::other)
}

fn builder(limits: &HttpLimits) -> Builder {
    let streams_max = limits.http2_streams_max.min(STREAMS_MAX);
    // Twice, as on HTTP/1, so that a head that is not much above the limit is answered by us.
    let head_bytes_max = u32::try_from(2 * limits.head_bytes_max).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams_max)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size((streams_max * STREAM_WINDOW_BYTES).max(u16::MAX.into()))
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(head_bytes_max)
        .max_pending_accept_reset_streams(RESETS_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .max_concurrent_reset_streams(RESETS_REMEMBERED_MAX)
        .enable_connect_protocol();
    builder
}

async fn serve_requests<S>(
    core: CoreHttp,
    peer: Peer,
    mut connection: Connection<FloodGuard<S>, Bytes>,
    flood: &FloodSign,
) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let draining = core.services.shutdown.draining.clone();
    let idle_timeout = core.services.limits.head_timeout;
    let mut phase = Phase::Open;
    let mut look_again = pin!(sleep(idle_timeout));
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let pushes_max = connection.max_concurrent_send_streams();
                start(&core, &peer, Exchange { request, respond, pushes_max });
                again_in(look_again.as_mut(), phase.patience(idle_timeout));
            }
            () = draining.cancelled(), if phase == Phase::Open => {
                phase = Phase::Ending;
                connection.graceful_shutdown();
                again_in(look_again.as_mut(), phase.patience(idle_timeout));
            }
            () = flood.raised(), if phase != Phase::Flooded => {
                phase = Phase::Flooded;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                again_in(look_again.as_mut(), phase.patience(idle_timeout));
            }
            () = look_again.as_mut() => {
                match phase {
                    _ if peer.is_busy() && phase != Phase::Flooded => {}
                    Phase::Open => {
                        phase = Phase::Ending;
                        connection.graceful_shutdown();
                    }
                    Phase::Ending | Phase::Flooded => {
                        debug!("an HTTP/2 connection was cut, since its client did not end it");
                        return Ok(());
                    }
                }
                again_in(look_again.as_mut(), phase.patience(idle_timeout));
            }
        }
    }
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client was told to open no more streams; those that are open go on.
    Ending,
    /// The client was told that it floods; nothing is read any more.
    Flooded,
}

impl Phase {
    /// Returns the longest time in which nothing may happen.
    const fn patience(self, idle_timeout: Duration) -> Duration {
        match self {
            Self::Open => idle_timeout,
            Self::Ending | Self::Flooded => GOODBYE_TIMEOUT,
        }
    }
}

fn again_in(look_again: std::pin::Pin<&mut Sleep>, patience: Duration) {
    look_again.reset(Instant::now() + patience);
}

/// Serves a request in a task of its own, which counts as one that a stopping server waits for.
fn start(core: &CoreHttp, peer: &Peer, exchange: Exchange) {
    let serving = request::serve(core.clone(), peer.clone(), exchange);
    tokio::task::spawn_local(core.services.shutdown.http.track_future(serving));
}

/// Returns true if a request asks for a WebSocket, or for another protocol that nobody speaks here (RFC 8441, §4).
fn is_extended_connect(request: &Request<RecvStream>) -> bool {
    request.extensions().get::<h2::ext::Protocol>().is_some()
}
