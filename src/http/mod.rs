//! The HTTP surface: which path answers what. Status codes are chosen here, and nowhere else.

pub mod listener;
pub mod origin;
pub mod redirect;

mod access;
mod h2;
mod ops;
mod page;
mod preconditions;
mod preface;
mod problem;
mod products;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use self::access::Access;
use self::origin::AllowedOrigins;
use self::problem::Problem;
use crate::auth::Keys;
use crate::ingest::Hearing;
use crate::metrics::{Limit, Metrics};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::transport::admission::Admission;

type Answer = Response<Full<Bytes>>;

/// What bounds each HTTP connection.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// How long a client has for the head of a request, and how long it may be silent between two.
    pub head_timeout: Duration,
    /// How long it has for the body.
    pub body_timeout: Duration,
    /// How long it may take nothing of an answer.
    pub write_timeout: Duration,
    /// The request line and the headers.
    pub head_bytes_max: usize,
    /// The body.
    pub body_bytes_max: usize,
    /// How many streams an HTTP/2 connection may have open at once.
    pub http2_streams_max: u32,
}

/// What requests are answered with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    /// Where products are.
    pub store: Store,
    /// Whether every change is cast.
    pub hearing: Hearing,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// What bounds a request.
    pub limits: HttpLimits,
    /// Whether the server stops.
    pub shutdown: Shutdown,
    /// What tokens are checked with; without keys everybody may do everything.
    pub keys: Option<Arc<Keys>>,
    /// Whose pages may use this server.
    pub allowed_origins: Arc<AllowedOrigins>,
}

/// Answers everything but the WebSocket, whatever the version of HTTP. Public for the fuzz target of requests.
#[doc(hidden)]
pub async fn answer<B>(services: &Services, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let sharing = access::Sharing::of(services, &request);
    let mut answer = finish(admitted(services, request).await.unwrap_or_else(Answer::from));
    sharing.tell(answer.headers_mut());
    answer
}

/// Adds what every answer says.
fn finish(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Answers whom the token and the origin let in; of the others not even the body is read.
async fn admitted<B>(services: &Services, request: Request<B>) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !access::is_safe(request.method()) {
        access::require_origin(services, &request)?;
    }
    if access::is_preflight(&request) {
        return Ok(access::preflight());
    }
    let access = access::admit(services, &request)?;
    route(services, &access, &with_body(services, request).await?).await
}

async fn route(services: &Services, access: &Access, request: &Request<Bytes>) -> Result<Answer, Problem> {
    let path = request.uri().path();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["products"] => products::collection(services, access, request).await,
        ["products", id] => products::one(services, access, id, request).await,
        ["metrics"] => only_get(request).map(|()| ops::metrics(services)),
        ["healthz"] => only_get(request).map(|()| ops::healthz()),
        ["readyz"] => {
            only_get(request)?;
            ops::readyz(services).await
        }
        [""] => only_get(request).map(|()| page::index()),
        ["assets", name] => {
            only_get(request)?;
            page::asset(name).ok_or_else(|| no_such_path(path))
        }
        _ => Err(no_such_path(path)),
    }
}

fn no_such_path(path: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}; the page is at /, the products at /products"),
    )
}

fn only_get(request: &Request<Bytes>) -> Result<(), Problem> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method_not_allowed("GET, HEAD")),
    }
}

/// A method that anybody could invent is not a label of a metric.
fn metric_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// Refuses a head above the limit. hyper stops reading at twice the limit, and answers 431 without a body then.
fn check_head<B>(services: &Services, request: &Request<B>) -> Result<(), Problem> {
    // What stands around a header: a colon, a space, the end of the line; in the request line, two spaces and the version.
    const AROUND_HEADER: usize = 4;
    const AROUND_REQUEST_LINE: usize = 12;
    let target = request.uri();
    let target_bytes = target.path_and_query().map_or(0, |path| path.as_str().len());
    let line = request.method().as_str().len() + target_bytes + AROUND_REQUEST_LINE;
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + AROUND_HEADER);
    let max = services.limits.head_bytes_max;
    if line + headers.sum::<usize>() > max {
        services.metrics.refused(Limit::HeaderBytes);
        let detail = format!("the request line and the headers have at most {max} bytes");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail));
    }
    Ok(())
}

/// Reads the body, which is bounded in bytes and in time.
async fn with_body<B>(services: &Services, request: Request<B>) -> Result<Request<Bytes>, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let max = services.limits.body_bytes_max;
    let too_large = || {
        services.metrics.refused(Limit::BodyBytes);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {max} bytes"))
    };
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let collected = timeout(services.limits.body_timeout, Limited::new(body, max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("the body was cut off")),
        Err(_) => {
            services.metrics.refused(Limit::BodyTimeout);
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"))
        }
    }
}
