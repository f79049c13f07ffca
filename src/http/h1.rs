//! HTTP/1.1 (RFC 9112), and 1.0: one connection, whose requests come one after the other.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::asked::Asked;
use super::body::{self, BodyError};
use super::core::{CoreHttp, Peer};
use super::{Answer, Services, check_head, finish, host, respond, upgrade};
use crate::metrics::Limit;
use crate::transport::admission::Place;
use crate::transport::pace::PacedStream;

/// hyper reads a head into a buffer that it does not let be smaller.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// Serves a connection until its client ends it or the server stops. `place` is given back where it becomes a
/// WebSocket.
pub(super) async fn serve(
    core: CoreHttp,
    peer: Peer,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: Place,
) -> Result<(), Box<dyn Error>> {
    let Services { limits, shutdown, metrics, .. } = &core.services;
    let asked = Cell::new(false);
    let service = service_fn(|request| {
        asked.set(true);
        serve_request(&core, peer.clone(), request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    builder.max_buf_size((2 * limits.head_bytes_max).max(BUFFER_BYTES_MIN));
    let connection =
        builder.serve_connection(TokioIo::new(PacedStream::new(stream, limits.write_timeout)), service).with_upgrades();
    let mut connection = Box::pin(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.drains_after_a_look() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    drop(place);
    let Err(error) = ended else { return Ok(()) };
    if error.is_parse_too_large() {
        metrics.refused(Limit::HeaderBytes);
    } else if error.is_timeout() && !asked.get() {
        metrics.refused(Limit::HeaderTimeout);
    } else if is_of_slow_client(&error) {
        metrics.refused(Limit::WriteTimeout);
    }
    Err(error.into())
}

/// Returns true if a client took its answer too slowly ([`PacedStream`]), or nothing of it, on which TCP gave up.
fn is_of_slow_client(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

async fn serve_request(core: &CoreHttp, peer: Peer, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let services = &core.services;
    let asked = Asked::now(&request);
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    // A client that waits to be asked for a body has not sent it.
    let is_sent = !head.headers().contains_key(EXPECT);
    let mut body = body.map_err(BodyError::from);
    let answer = match check_head(services, &head).and_then(|()| host::require(&head)) {
        Ok(()) => {
            let open = |head, access| upgrade::upgrade(core, peer, head, access);
            let body = Pin::new(&mut body);
            respond(services, head, body, open).await
        }
        Err(problem) => finish(problem.into()),
    };
    if is_sent && !body.is_end_stream() {
        let draining = body::drain(body, services.limits.body_bytes_max);
        tokio::task::spawn_local(services.shutdown.http.track_future(draining));
    }
    asked.answered(&services.metrics, answer.status());
    Ok(answer)
}
