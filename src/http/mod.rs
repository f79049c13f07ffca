//! The HTTP surface: which path answers what. Status codes are chosen here, and nowhere else.

pub mod listener;
pub mod redirect;

mod h2;
mod ops;
mod page;
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
use tokio::sync::watch;
use tokio::time::timeout;

use self::problem::Problem;
use crate::connection::admission::ConnectionsBound;
use crate::metrics::Metrics;
use crate::product::Product;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How long a client has for the body of its request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

/// What requests are answered with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    /// Where products are.
    pub store: Store,
    /// Whether changes are arriving.
    pub source_up: watch::Receiver<bool>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// How many WebSockets there may be.
    pub connections_bound: ConnectionsBound,
    /// How many streams an HTTP/2 connection may have open at once.
    pub http2_streams_max: u32,
    /// Whether the server stops.
    pub shutdown: Shutdown,
}

/// Answers everything but the WebSocket, whatever the version of HTTP.
async fn answer<B>(services: &Services, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let answer = match with_body(request).await {
        Ok(request) => route(services, &request).await,
        Err(problem) => Err(problem),
    };
    finish(answer.unwrap_or_else(Answer::from))
}

/// Adds what every answer says.
fn finish(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

async fn route(services: &Services, request: &Request<Bytes>) -> Result<Answer, Problem> {
    let path = request.uri().path();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["products"] => products::collection(services, request).await,
        ["products", id] => products::one(services, id, request).await,
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

/// Reads the body, which is bounded in bytes and in time.
async fn with_body<B>(request: Request<B>) -> Result<Request<Bytes>, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        let limit = Product::JSON_BYTES_MAX;
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {limit} bytes"))
    };
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > Product::JSON_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let collected = timeout(BODY_TIMEOUT, Limited::new(body, Product::JSON_BYTES_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("the body was cut off")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}
