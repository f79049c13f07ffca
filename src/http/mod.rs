//! The HTTP surface: paths and their answers (`routes` is the table). Status codes are chosen here, and nowhere else.

pub mod core;
pub mod listener;
pub mod origin;
pub mod redirect;

mod access;
mod answer;
mod asked;
mod bodies;
mod body;
mod budget;
mod cursor;
mod events;
mod form;
mod h1;
mod h2;
mod host;
mod opening;
mod ops;
mod page;
mod preconditions;
mod preface;
mod problem;
mod products;
mod readiness;
mod reference;
mod resource;
mod routes;
mod row;
mod rows;
mod tables;
mod turns;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, StatusCode};

use self::access::{Access, Sharing};
pub use self::answer::{Answer, AnswerBody, Broken};
use self::body::{BodyError, DynBody, RequestBody};
use self::budget::Budgets;
use self::opening::Opens;
use self::origin::AllowedOrigins;
use self::problem::Problem;
use self::readiness::Readiness;
use self::routes::{Call, Handler, Way};
use self::turns::Turns;
use crate::auth::CurrentKeys;
use crate::fanout::Hub;
use crate::ingest::Hearing;
use crate::metrics::{Limit, Metrics};
use crate::session::queue::SlowConsumerPolicy;
use crate::shutdown::Shutdown;
use crate::source::Health;
use crate::store::Store;
use crate::transport::admission::Admission;
use crate::wire::websocket::handshake::HandshakeError;

/// The bounds of each HTTP connection.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// The time that a client has for the head of a request, and the time for which it may be silent between two.
    pub head_timeout: Duration,
    /// The time that it has for the body.
    pub body_timeout: Duration,
    /// The time in which it must take 16 KiB of an answer, or the rest of it.
    pub write_timeout: Duration,
    /// The request line and the headers.
    pub head_bytes_max: usize,
    /// The body.
    pub body_bytes_max: usize,
    /// All bodies of the process together.
    pub bodies_bytes_max: usize,
    /// All rows of the process together that wait until their readers take them.
    pub answers_bytes_max: usize,
    /// The most streams that an HTTP/2 connection may have open at once.
    pub http2_streams_max: u32,
}

/// The state that requests share: budgets, turns, and the known state of the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared {
    budgets: Budgets,
    turns: Turns,
    readiness: Readiness,
    /// Held by the answer that gathers the numbers of `/metrics`.
    scrape: Arc<tokio::sync::Mutex<()>>,
}

impl Shared {
    /// Makes the state of a server that holds nothing and knows nothing yet.
    #[must_use]
    pub fn new(limits: &HttpLimits) -> Self {
        Self {
            budgets: Budgets::new(limits.bodies_bytes_max, limits.answers_bytes_max),
            turns: Turns::new(),
            readiness: Readiness::default(),
            scrape: Arc::default(),
        }
    }

    /// Returns the same for one core, whose answers take turns among themselves.
    #[must_use]
    pub fn for_core(&self) -> Self {
        Self { turns: Turns::new(), ..self.clone() }
    }

    /// Returns the same for one connection that has many requests at once, which has a part of the budgets.
    fn for_connection(&self) -> Self {
        Self { budgets: self.budgets.share(), ..self.clone() }
    }
}

/// The means by which requests are answered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    /// The state that they share.
    pub shared: Shared,
    /// The store of the rows.
    pub store: Store,
    /// Tells if every change is cast.
    pub hearing: Hearing,
    /// The cores' hub, which knows whether all that was missed has been told.
    pub hub: Hub,
    /// The obstacle between the source and its changes.
    pub health: Health,
    /// The figures that `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The admission of connections.
    pub admission: Arc<Admission>,
    /// The bounds of a request.
    pub limits: HttpLimits,
    /// Tells if the server stops.
    pub shutdown: Shutdown,
    /// The keys that tokens are checked with; without keys everybody may do everything.
    pub keys: Option<Arc<CurrentKeys>>,
    /// The origins whose pages may use this server.
    pub allowed_origins: Arc<AllowedOrigins>,
    /// The fate of changes that a reader is too slow for, which the page has to know.
    pub slow_consumer: SlowConsumerPolicy,
}

/// Answers everything, whatever the version of HTTP, but opens nothing. Public for the fuzz target of requests.
#[doc(hidden)]
pub async fn answer<B>(services: &Services, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    let (head, body) = request.into_parts();
    let body = pin!(body.map_err(Into::into));
    respond(services, Request::from_parts(head, ()), body, |opens, head, access| {
        open_nothing(services, opens, head, &access)
    })
    .await
}

/// Answers a request by its row in the table of routes. `open` answers a request that may open something.
async fn respond(
    services: &Services,
    head: Request<()>,
    body: DynBody<'_>,
    open: impl FnOnce(Opens, &Request<()>, Access) -> Result<Answer, Problem>,
) -> Answer {
    let sharing = Sharing::of(services, &head);
    let answered = match routes::find(services, &head) {
        Ok(Way::Answered(answer)) => Ok(answer),
        Ok(Way::Route(route, segments, access)) => {
            let body = RequestBody::new(services, &head, route.takes_json().then_some(body));
            match route.handler {
                Handler::Now(answer) => answer(&Call { services, access, head: &head, segments, body }),
                Handler::Later(answer) => answer(Call { services, access, head: &head, segments, body }).await,
                Handler::Opens(opens) => open(opens, &head, access),
            }
        }
        Err(problem) => Err(problem),
    };
    let mut answer = finish(answered.unwrap_or_else(Answer::from));
    sharing.tell(answer.headers_mut());
    answer
}

/// Answers a request as if it came without a connection.
fn open_nothing(services: &Services, opens: Opens, head: &Request<()>, access: &Access) -> Result<Answer, Problem> {
    match opens {
        Opens::WebSocket => Err(HandshakeError::NotAnUpgrade.into()),
        Opens::EventStream => events::command(services, head, access, usize::MAX).map(|_| events::answer()),
    }
}

/// Adds the headers of every answer.
fn finish(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Refuses a head above the limit. hyper stops reading at twice the limit, and answers 431 without a body then.
fn check_head<B>(services: &Services, request: &Request<B>) -> Result<(), Problem> {
    // The bytes around a header: a colon, a space, the end of the line; in the request line, two spaces and the
    // version.
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
