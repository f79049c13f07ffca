//! The body of a request, which its handler asks for, and the end of one that nobody asks for.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use tokio::time::timeout;

use super::Services;
use super::budget::Lease;
use super::problem::Problem;
use crate::metrics::Limit;

/// The reason for which a body ended early.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;
/// A body of either HTTP version.
pub(super) type DynBody<'a> = Pin<&'a mut (dyn Body<Data = Bytes, Error = BodyError> + 'a)>;

/// The time for which the rest of a body that nobody asks for is read and thrown away, so that its client finds the
/// answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The most pieces of it that are read.
const DRAINED_PIECES_MAX: usize = 1024;

/// The body of a request, not yet read.
pub(super) struct RequestBody<'a> {
    services: &'a Services,
    headers: &'a HeaderMap,
    /// Nothing where the route takes no body.
    body: Option<DynBody<'a>>,
}

impl<'a> RequestBody<'a> {
    pub(super) fn new(services: &'a Services, head: &'a Request<()>, body: Option<DynBody<'a>>) -> Self {
        Self { services, headers: head.headers(), body }
    }

    /// Reads the body as the text of a JSON object, with its lease from the budget for bodies; no more of it is read than
    /// its first byte. Its type must say that it is one: a page of another site can send anything else to this server
    /// without asking it first (<https://fetch.spec.whatwg.org/#cors-safelisted-request-header>).
    ///
    /// # Errors
    /// 415, 413, 408, 400, and 503 where the budget is held by others.
    pub(super) async fn object(self) -> Result<(Vec<u8>, Lease), Problem> {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if !matches!(essence.as_str(), "application/json" | "application/merge-patch+json") {
            let detail = "send JSON, and Content-Type: application/json with it";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let (bytes, lease) = self.read().await?;
        // serde would take the fields of a struct from an array as well.
        if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
            return Err(Problem::bad_request("the body is not a JSON object"));
        }
        Ok((bytes, lease))
    }

    /// Reads the body, which is bounded in bytes and in time.
    async fn read(self) -> Result<(Vec<u8>, Lease), Problem> {
        let Self { services, body, .. } = self;
        let body = body.expect("the handler of a route that takes JSON reads it");
        if let Ok(read) = timeout(services.limits.body_timeout, read_within(services, body)).await {
            return read;
        }
        services.metrics.refused(Limit::BodyTimeout);
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"))
    }
}

async fn read_within(services: &Services, mut body: DynBody<'_>) -> Result<(Vec<u8>, Lease), Problem> {
    let max = services.limits.body_bytes_max;
    let too_large = || {
        services.metrics.refused(Limit::BodyBytes);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {max} bytes"))
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let (mut bytes, mut lease) = (Vec::new(), Lease::default());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Problem::bad_request("the body was cut off"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if piece.len() > max - bytes.len() {
            return Err(too_large());
        }
        lease.join(make_room(services, &mut bytes, piece.len())?);
        // A piece may be a byte of a buffer of many, so it is copied rather than kept.
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, lease))
}

/// Makes room for so many more bytes of a body: for twice as many as there was room for, but for no more than a body
/// may have. What the buffer gains is taken from the budget first.
fn make_room(services: &Services, bytes: &mut Vec<u8>, more: usize) -> Result<Lease, Problem> {
    let wanted = bytes.len() + more;
    if wanted <= bytes.capacity() {
        return Ok(Lease::default());
    }
    let capacity = (2 * bytes.capacity()).min(services.limits.body_bytes_max).max(wanted);
    let lease = services.shared.budgets.bodies.try_take(capacity - bytes.capacity()).ok_or_else(|| {
        services.metrics.refused(Limit::BodiesBytes);
        Problem::unavailable("as many bytes of bodies are on their way as may; try again soon")
    })?;
    bytes.reserve_exact(capacity - bytes.len());
    Ok(lease)
}

/// Reads and throws away the rest of a body, bounded in bytes, pieces and time. A socket that is closed over unread
/// bytes is reset, and its client may not find the answer then.
pub(super) async fn drain(mut body: impl Body<Data = Bytes> + Unpin, bytes_max: usize) {
    let draining = async {
        let mut bytes = 0;
        for _ in 0..DRAINED_PIECES_MAX {
            let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { return };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > bytes_max {
                return;
            }
        }
    };
    // The part that does not come in time is left; hyper ends the connection then.
    let _ = timeout(DRAIN_TIMEOUT, draining).await;
}
