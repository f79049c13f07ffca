//! HTTP/1.1 (RFC 9112), and 1.0: one connection, whose requests come one after the other. The socket of one that becomes a
//! WebSocket or an event stream is taken back from hyper.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::SystemTime;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::asked::Asked;
use super::body::{self, BodyError};
use super::core::{CoreHttp, Peer};
use super::opening::{self, Opening};
use super::{Answer, Services, check_head, finish, host, respond};
use crate::metrics::Limit;
use crate::transport::admission::Place;
use crate::transport::pace::PacedStream;
use crate::transport::socket::Socket;

/// hyper reads a head into a buffer that it does not let be smaller.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// Serves a connection until its client ends it or the server stops. `place` is given back where it becomes a
/// WebSocket or an event stream.
pub(super) async fn serve<S>(core: CoreHttp, peer: Peer, stream: S, place: Place) -> Result<(), Box<dyn Error>>
where
    S: AsyncRead + AsyncWrite + Into<Socket> + Unpin + 'static,
{
    let Services { limits, shutdown, .. } = &core.services;
    let state = State::default();
    let service = service_fn(|request| serve_request(&core, peer.clone(), &state, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    builder.max_buf_size((2 * limits.head_bytes_max).max(BUFFER_BYTES_MIN));
    let stream = PacedStream::new(stream, limits.write_timeout);
    let flushed = stream.flushed();
    let mut connection = Box::new(builder.serve_connection(TokioIo::new(stream), service));
    let mut is_draining = false;
    let ended = loop {
        let served = poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
            // Nothing of its answer is written; what was, to the requests before, has left.
            Poll::Pending if state.is_taken() && flushed.get() => Poll::Ready(Ok(())),
            polled => polled,
        });
        tokio::select! {
            biased;
            ended = served => break ended,
            () = shutdown.drains_after_a_look(), if !is_draining => {
                is_draining = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
        }
    };
    drop(place);
    if let Err(error) = ended {
        count_refusal(&core.services, &error, state.is_asked.get());
        return Err(error.into());
    }
    if let Some((opening, head)) = state.opened.take() {
        let Parts { io, read_buf, .. } = connection.into_parts();
        opening.begin(&core.connections, io.into_inner().into_inner().into(), &read_buf, head);
    }
    Ok(())
}

/// The state of a connection.
#[derive(Default)]
struct State {
    /// True once a request has come.
    is_asked: Cell<bool>,
    /// What the connection becomes, and the head with which an event stream begins.
    opened: RefCell<Option<(Opening, Vec<u8>)>>,
}

impl State {
    /// Returns whether nothing more is written in HTTP: an event stream writes its own head.
    fn is_taken(&self) -> bool {
        self.opened.borrow().as_ref().is_some_and(|(opening, _)| opening.is_event_stream())
    }
}

fn count_refusal(services: &Services, error: &hyper::Error, is_asked: bool) {
    let metrics = &services.metrics;
    if error.is_parse_too_large() {
        metrics.refused(Limit::HeaderBytes);
    } else if error.is_timeout() && !is_asked {
        metrics.refused(Limit::HeaderTimeout);
    } else if is_of_slow_client(error) {
        metrics.refused(Limit::WriteTimeout);
    }
}

/// Returns true if a client took its answer too slowly ([`PacedStream`]), or nothing of it, on which TCP gave up.
fn is_of_slow_client(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

async fn serve_request(
    core: &CoreHttp,
    peer: Peer,
    state: &State,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    state.is_asked.set(true);
    let services = &core.services;
    let asked = Asked::now(&request);
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    // A client that waits to be asked for a body has not sent it.
    let is_sent = !head.headers().contains_key(EXPECT);
    let mut body = body.map_err(BodyError::from);
    let mut opened = None;
    let answer = match check_head(services, &head).and_then(|()| host::require(&head)) {
        Ok(()) => {
            let open =
                |opens, head: &Request<()>, access| opening::open(core, peer, (opens, head, access), &mut opened);
            let body = Pin::new(&mut body);
            respond(services, head, body, open).await
        }
        Err(problem) => finish(problem.into()),
    };
    asked.answered(&services.metrics, answer.status());
    if let Some(opening) = opened {
        let is_event_stream = opening.is_event_stream();
        let head = if is_event_stream { head_of(&answer) } else { Vec::new() };
        state.opened.replace(Some((opening, head)));
        if is_event_stream {
            // The connection is taken as it is.
            std::future::pending::<()>().await;
        }
    } else if is_sent && !body.is_end_stream() {
        let draining = body::drain(body, services.limits.body_bytes_max);
        tokio::task::spawn_local(services.shutdown.http.track_future(draining));
    }
    Ok(answer)
}

/// Returns the head of an answer that ends with its connection (RFC 9112, §6.3).
fn head_of(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let (date, close) = (("date", date.as_bytes()), ("connection", &b"close"[..]));
    let headers = answer.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in headers.chain([date, close]) {
        head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}
