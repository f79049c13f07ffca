//! One request on an HTTP/2 connection: to the same handler as those of HTTP/1, and its answer back.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout_at;
use tracing::debug;

use super::super::asked::Asked;
use super::super::body::BodyError;
use super::super::core::{CoreHttp, Peer};
use super::super::opening::{self, Opening};
use super::super::{Answer, AnswerBody, Services, check_head, finish, respond as answer_with};
use super::push::{self, Promised};
use super::{SEND_BUFFER_BYTES, is_extended_connect, websocket};
use crate::metrics::Limit;
use crate::transport::h2_stream::H2Stream;
use crate::transport::pace::Pace;

/// A request, and the way to answer it.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    /// The most streams that the client lets this side open.
    pub(super) pushes_max: usize,
}

/// Serves a request until its answer is sent. A client that resets its stream is not answered.
pub(super) async fn serve(core: CoreHttp, peer: Peer, exchange: Exchange) {
    let Exchange { mut request, mut respond, pushes_max } = exchange;
    name_host(&mut request);
    let asked = Asked::now(&request);
    let is_head = request.method() == Method::HEAD;
    let (mut pushed, mut opened) = (Promised::default(), None);
    let mut answer = if let Err(problem) = check_head(&core.services, &request) {
        finish(problem.into())
    } else if is_extended_connect(&request) {
        match websocket::accept(&core.services, peer.clone(), &request) {
            Ok(accepted) => {
                asked.answered(&core.services.metrics, StatusCode::OK);
                return websocket::open(&core, &peer, accepted, request, respond);
            }
            Err(problem) => finish(problem.into()),
        }
    } else {
        pushed = push::promise(&mut respond, &request, pushes_max);
        let bytes_told = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let (head, stream) = request.into_parts();
        let body = pin!(RequestBody { stream, bytes_told }.map_err(BodyError::from));
        let open =
            |opens, head: &Request<()>, access| opening::open(&core, peer.clone(), (opens, head, access), &mut opened);
        tokio::select! {
            answer = answer_with(&core.services, Request::from_parts(head, ()), body, open) => answer,
            reset = poll_fn(|cx| respond.poll_reset(cx)) => {
                return debug!(?reset, "a client does not want its answer");
            }
        }
    };
    asked.answered(&core.services.metrics, answer.status());
    if let Some(opening) = opened {
        return begin(&core, &peer, opening, answer, respond);
    }
    pushed.mark(&mut answer, peer.is_secure);
    let sending = send(&core.services, |head, is_end| respond.send_response(head, is_end), answer, is_head);
    let (sent, ()) = tokio::join!(sending, pushed.send(&core.services));
    if let Err(error) = sent {
        debug!(%error, "an answer was not taken");
    }
}

/// Sends the head of an answer that is an event stream, which the core's connections go on with.
fn begin(core: &CoreHttp, peer: &Peer, opening: Opening, answer: Answer, mut respond: SendResponse<Bytes>) {
    let head = head_of(answer.map(drop), None);
    match respond.send_response(head, false) {
        Ok(stream) => {
            let socket = H2Stream::of_answer(stream, peer.socket);
            opening.begin(&core.connections, socket.into(), &[], Vec::new());
        }
        Err(error) => debug!(%error, "an event stream was not taken"),
    }
}

/// Makes the authority of a request its host, wherever the client wrote it (RFC 9113, §8.3.1).
fn name_host(request: &mut Request<RecvStream>) {
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
}

/// Sends an answer as far as the client takes it, without its body where that is not wanted. A body that breaks off
/// resets the stream.
pub(super) async fn send(
    services: &Services,
    send_head: impl FnOnce(Response<()>, bool) -> Result<SendStream<Bytes>, h2::Error>,
    answer: Answer,
    is_head: bool,
) -> Result<(), h2::Error> {
    let (head, mut body) = answer.into_parts();
    let head = head_of(Response::from_parts(head, ()), body.size_hint().exact());
    let is_end = is_head || body.is_end_stream();
    let mut stream = send_head(head, is_end)?;
    if is_end {
        return Ok(());
    }
    let sent = send_body(services, &mut stream, &mut body).await;
    if let Err(Unsent::Reset(reason)) = sent {
        stream.send_reset(reason);
    }
    match sent {
        Err(Unsent::Lost(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Adds the headers that hyper adds to an answer of HTTP/1, and removes those that only HTTP/1 may have (RFC 9113,
/// §8.2.2).
fn head_of(mut response: Response<()>, body_bytes: Option<u64>) -> Response<()> {
    let has_body = response.status() != StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    if let Some(bytes) = body_bytes.filter(|_| has_body) {
        headers.insert(CONTENT_LENGTH, bytes.into());
    }
    dated(response)
}

/// Adds when it was made (RFC 9110, §6.6.1).
pub(super) fn dated(mut response: Response<()>) -> Response<()> {
    let date = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())).expect("a date is text");
    response.headers_mut().insert(DATE, date);
    response
}

/// The reason for which a body was not sent whole.
enum Unsent {
    /// The client has reset the stream, or the connection has ended.
    Lost(h2::Error),
    /// The stream is to be reset.
    Reset(Reason),
}

impl From<h2::Error> for Unsent {
    fn from(error: h2::Error) -> Self {
        Self::Lost(error)
    }
}

/// Sends the pieces of a body, each of which is made when the stream has room.
async fn send_body(services: &Services, stream: &mut SendStream<Bytes>, body: &mut AnswerBody) -> Result<(), Unsent> {
    let mut pace = Pace::new(services.limits.write_timeout);
    loop {
        wait_for_room(services, stream, &mut pace, 1).await?;
        // While a piece is made, other streams have the connection's window.
        stream.reserve_capacity(0);
        let Some(frame) = body.frame().await else {
            return Ok(stream.send_data(Bytes::new(), true)?);
        };
        let mut piece = frame.map_err(|_| Unsent::Reset(Reason::INTERNAL_ERROR))?.into_data().unwrap_or_default();
        // The time in which a piece is made is not the client's.
        pace.rest();
        while !piece.is_empty() {
            let room = wait_for_room(services, stream, &mut pace, piece.len()).await?;
            let part = piece.split_to(room.min(piece.len()));
            pace.took(part.len());
            let is_end = piece.is_empty() && body.is_end_stream();
            stream.send_data(part, is_end)?;
            if is_end {
                return Ok(());
            }
        }
    }
}

/// Waits until the client takes some of so many bytes; returns their number.
async fn wait_for_room(
    services: &Services,
    stream: &mut SendStream<Bytes>,
    pace: &mut Pace,
    bytes: usize,
) -> Result<usize, Unsent> {
    stream.reserve_capacity(bytes.min(SEND_BUFFER_BYTES));
    match stream.capacity() {
        0 => match timeout_at(pace.deadline(), poll_fn(|cx| stream.poll_capacity(cx))).await {
            Ok(Some(capacity)) => Ok(capacity?),
            // The stream has ended.
            Ok(None) => Err(Unsent::Reset(Reason::CANCEL)),
            Err(_) => {
                services.metrics.refused(Limit::WriteTimeout);
                Err(Unsent::Reset(Reason::CANCEL))
            }
        },
        capacity => Ok(capacity),
    }
}

/// The body of a request. Its window grows again by the bytes that are read of it.
struct RequestBody {
    stream: RecvStream,
    /// Its `Content-Length`.
    bytes_told: Option<u64>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(data) = ready!(self.stream.poll_data(cx)) else { return Poll::Ready(None) };
        let data = data?;
        // Fails only where the stream has ended.
        let _ = self.stream.flow_control().release_capacity(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.bytes_told.unwrap_or(0));
        hint
    }
}
