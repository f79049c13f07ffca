//! The table of routes: a path that is not in it does not exist, and a route that does not say that it is open needs a
//! token.

use std::fmt::Write;
use std::pin::Pin;

use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::access::{self, Access};
use super::body::RequestBody;
use super::opening::Opens;
use super::problem::Problem;
use super::{Answer, Services, ops, page, products, reference, tables};

/// One row of the table.
#[derive(Debug)]
pub(super) struct Route {
    /// The path. A segment in braces stands for any one segment; at most two do.
    pub(super) path: &'static str,
    pub(super) methods: &'static [Method],
    pub(super) who: Who,
    body: WantedBody,
    /// True if pages of other origins may read the answers, where `--allowed-origin` names them.
    is_shared: bool,
    pub(super) handler: Handler,
}

/// The requests that may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Everybody.
    Anyone,
    /// Those with a token, where the server has keys; all where it has none.
    TokenHolders,
}

/// The body that a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedBody {
    /// None; a body that is sent is not read.
    None,
    /// JSON, up to `--max-body-bytes`.
    Json,
}

/// The function that answers a route.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handler {
    /// Answers at once.
    Now(fn(&Call<'_>) -> Result<Answer, Problem>),
    /// Answers when the store has.
    Later(for<'a> fn(Call<'a>) -> Answering<'a>),
    /// Opens something, in the way of the HTTP version.
    Opens(Opens),
}

/// The future of a handler's answer.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + 'a>>;

/// A request that may be answered, as its handler is given it.
pub(super) struct Call<'a> {
    pub(super) services: &'a Services,
    pub(super) access: Access,
    pub(super) head: &'a Request<()>,
    /// The segments that stand for the braces of the route's path, or nothing.
    pub(super) segments: Segments<'a>,
    pub(super) body: RequestBody<'a>,
}

/// The segments in place of a path's braces, percent-encoded as they came; empty where it has fewer.
pub(super) type Segments<'a> = [&'a str; 2];

const READ: &[Method] = &[Method::GET, Method::HEAD];

const TABLE: &str = "/tables/{table}";
const ROW: &str = "/tables/{table}/{key}";

pub(super) static ROUTES: [Route; 25] = [
    Route::new("/", READ, Handler::Now(|call| Ok(page::index(call.services.slow_consumer)))).open(),
    Route::new("/assets/{name}", READ, Handler::Now(page::asset)).open(),
    Route::new("/healthz", READ, Handler::Now(|_| Ok(ops::healthz()))).open(),
    Route::new("/readyz", READ, Handler::Later(|call| Box::pin(ops::readyz(call)))).open(),
    Route::new("/metrics", READ, Handler::Later(|call| Box::pin(ops::metrics(call)))),
    Route::new("/openapi.json", READ, Handler::Now(|_| Ok(reference::openapi()))).open().shared(),
    Route::new("/asyncapi.json", READ, Handler::Now(|_| Ok(reference::asyncapi()))).open().shared(),
    Route::new("/products", READ, Handler::Later(|call| Box::pin(products::list(call)))).shared(),
    Route::new("/products", &[Method::POST], Handler::Later(|call| Box::pin(products::create(call)))).json().shared(),
    Route::new("/products/{id}", READ, Handler::Later(|call| Box::pin(products::read(call)))).shared(),
    Route::new("/products/{id}", &[Method::PUT], Handler::Later(|call| Box::pin(products::put(call)))).json().shared(),
    Route::new("/products/{id}", &[Method::PATCH], Handler::Later(|call| Box::pin(products::patch(call))))
        .json()
        .shared(),
    Route::new("/products/{id}", &[Method::DELETE], Handler::Later(|call| Box::pin(products::delete(call)))).shared(),
    Route::new("/tables", READ, Handler::Now(|call| Ok(tables::all(call)))).shared(),
    Route::new(TABLE, READ, Handler::Later(|call| Box::pin(tables::list(call)))).shared(),
    Route::new(TABLE, &[Method::POST], Handler::Later(|call| Box::pin(tables::create(call)))).json().shared(),
    Route::new(TABLE, &[Method::PUT], Handler::Later(|call| Box::pin(tables::put(call)))).json().shared(),
    Route::new(TABLE, &[Method::PATCH], Handler::Later(|call| Box::pin(tables::patch(call)))).json().shared(),
    Route::new(TABLE, &[Method::DELETE], Handler::Later(|call| Box::pin(tables::delete(call)))).shared(),
    Route::new(ROW, READ, Handler::Later(|call| Box::pin(tables::read(call)))).shared(),
    Route::new(ROW, &[Method::PUT], Handler::Later(|call| Box::pin(tables::put(call)))).json().shared(),
    Route::new(ROW, &[Method::PATCH], Handler::Later(|call| Box::pin(tables::patch(call)))).json().shared(),
    Route::new(ROW, &[Method::DELETE], Handler::Later(|call| Box::pin(tables::delete(call)))).shared(),
    Route::new("/events", READ, Handler::Opens(Opens::EventStream)).shared(),
    Route::new("/websocket", &[Method::GET], Handler::Opens(Opens::WebSocket)),
];

impl Route {
    /// Makes a route for those who have a token, which takes no body and is shared with no other origin.
    const fn new(path: &'static str, methods: &'static [Method], handler: Handler) -> Self {
        Self { path, methods, who: Who::TokenHolders, body: WantedBody::None, is_shared: false, handler }
    }

    const fn open(mut self) -> Self {
        self.who = Who::Anyone;
        self
    }

    const fn json(mut self) -> Self {
        self.body = WantedBody::Json;
        self
    }

    const fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// Returns the segments in place of the braces, if this path is the route's.
    fn segments<'a>(&self, path: &'a str) -> Option<Segments<'a>> {
        let (mut segments, mut found) = (Segments::default(), 0);
        let mut given = path.split('/');
        for wanted in self.path.split('/') {
            let given = given.next()?;
            if wanted.starts_with('{') {
                segments[found] = given;
                found += 1;
            } else if wanted != given {
                return None;
            }
        }
        given.next().is_none().then_some(segments)
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    pub(super) const fn takes_json(&self) -> bool {
        matches!(self.body, WantedBody::Json)
    }
}

/// Returns the rows of a path, which stand together in the table.
fn rows(path: &str) -> &'static [Route] {
    let Some(first) = ROUTES.iter().position(|route| route.segments(path).is_some()) else { return &[] };
    let rows = &ROUTES[first..];
    &rows[..rows.iter().take_while(|route| route.path == rows[0].path).count()]
}

/// Returns the path of the rows of a path, as a label of `/metrics`. A path that anybody could invent is not one.
pub(super) fn label(path: &str) -> &'static str {
    rows(path).first().map_or("other", |route| route.path)
}

/// Returns true if a path is that of a resource which pages of allowed origins may read.
pub(super) fn is_shared(path: &str) -> bool {
    rows(path).iter().any(|route| route.is_shared)
}

/// The destination of a request.
#[derive(Debug)]
pub(super) enum Way<'a> {
    /// Nowhere: this is its answer.
    Answered(Answer),
    /// To the handler of this route, with the segments in place of its braces.
    Route(&'static Route, Segments<'a>, Access),
}

/// Finds the way of a request by its path, method, origin and token, in this order. Its body is not looked at.
///
/// # Errors
/// 404, 405, 403, and 401 or 400 for the token.
pub(super) fn find<'a>(services: &Services, head: &'a Request<()>) -> Result<Way<'a>, Problem> {
    let (path, method) = (head.uri().path(), head.method());
    if *method == Method::OPTIONS && path == "*" {
        return Ok(Way::Answered(allowed(&ROUTES)));
    }
    let rows = rows(path);
    if rows.is_empty() {
        return Err(no_such_path(path));
    }
    let route = rows.iter().find(|route| route.takes(method));
    let opens = route.is_some_and(|route| matches!(route.handler, Handler::Opens(_)));
    // A page may read from anywhere; its browser keeps from it the answers that are not its own. No browser does so for
    // a WebSocket, and an event stream takes a place.
    if opens || !matches!(*method, Method::GET | Method::HEAD) {
        access::require_origin(services, head)?;
    }
    if *method == Method::OPTIONS {
        let mut answer = allowed(rows);
        if rows.iter().any(|route| route.is_shared) {
            access::describe_sharing(answer.headers_mut());
        }
        return Ok(Way::Answered(answer));
    }
    let route = route.ok_or_else(|| Problem::method_not_allowed(&methods(rows)))?;
    let segments = route.segments(path).unwrap_or_default();
    Ok(Way::Route(route, segments, access::authorize(services, head, route.who)?))
}

/// Finds the way of an extended CONNECT (RFC 8441, §4), which is to a WebSocket or nowhere.
///
/// # Errors
/// 404, 403, and 401 or 400 for the token.
pub(super) fn find_websocket<B>(services: &Services, head: &Request<B>) -> Result<Access, Problem> {
    let path = head.uri().path();
    let route = rows(path).iter().find(|route| matches!(route.handler, Handler::Opens(Opens::WebSocket)));
    let route = route.ok_or_else(|| no_such_path(path))?;
    access::require_origin(services, head)?;
    access::authorize(services, head, route.who)
}

/// Returns the answer to OPTIONS (RFC 9110, §9.3.7).
fn allowed(rows: &[Route]) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ALLOW, HeaderValue::try_from(methods(rows)).expect("methods are text"));
    answer
}

/// Returns the methods of these rows, each once, and OPTIONS, which every path has.
fn methods(rows: &[Route]) -> String {
    let mut found: Vec<&Method> = Vec::new();
    for method in rows.iter().flat_map(|route| route.methods) {
        if !found.contains(&method) {
            found.push(method);
        }
    }
    found.into_iter().fold(String::new(), |mut list, method| {
        let _ = write!(list, "{method}, ");
        list
    }) + "OPTIONS"
}

/// Makes a 404.
pub(super) fn no_such_path(path: &str) -> Problem {
    let detail =
        format!("there is nothing at {path}; the page is at /, the products at /products, all tables at /tables");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_methods_of_its_rows() {
        for (path, wanted) in [
            ("/", "GET, HEAD, OPTIONS"),
            ("/assets/app.js", "GET, HEAD, OPTIONS"),
            ("/products", "GET, HEAD, POST, OPTIONS"),
            ("/products/1", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("/products/", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("/tables", "GET, HEAD, OPTIONS"),
            ("/tables/orders", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            ("/tables/orders/17", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("/tables//", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("/events", "GET, HEAD, OPTIONS"),
            ("/websocket", "GET, OPTIONS"),
        ] {
            assert_eq!(methods(rows(path)), wanted, "{path}");
        }
        for path in [
            "",
            "//",
            "/product",
            "/products/1/2",
            "/tables/a/b/c",
            "/table/a",
            "/assets",
            "/assets/a/b",
            "/websocket/",
            "/events/",
            "/metrics/x",
            "*",
        ] {
            assert!(rows(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn braces_stand_for_the_segments_as_they_came() {
        let segments = |path| rows(path)[0].segments(path).unwrap();
        assert_eq!(segments("/tables/a%2Fb/%2e"), ["a%2Fb", "%2e"]);
        assert_eq!(segments("/products/7"), ["7", ""]);
        assert_eq!(segments("/products"), ["", ""]);
    }

    #[test]
    fn a_label_is_a_path_of_the_table_whatever_was_asked_for() {
        for (path, wanted) in [
            ("/", "/"),
            ("/products/", "/products/{id}"),
            ("/products/1%2F2", "/products/{id}"),
            ("/tables/orders", "/tables/{table}"),
            ("/tables/orders/17", "/tables/{table}/{key}"),
            ("/tables/orders/17/", "other"),
            ("/wp-login.php", "other"),
            ("*", "other"),
            ("", "other"),
        ] {
            assert_eq!(label(path), wanted, "{path}");
        }
    }

    #[test]
    fn open_is_what_the_page_and_the_probes_need_and_the_reference() {
        let open = ROUTES.iter().filter(|route| route.who == Who::Anyone).map(|route| route.path);
        let expected = ["/", "/assets/{name}", "/healthz", "/readyz", "/openapi.json", "/asyncapi.json"];
        assert_eq!(open.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_rows_of_a_path_stand_together() {
        let paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
        for (at, path) in paths.iter().enumerate() {
            let before = &paths[..at];
            assert!(before.last() == Some(path) || !before.contains(path), "{path}");
        }
    }

    #[test]
    fn no_two_rows_answer_the_same_request() {
        for (at, route) in ROUTES.iter().enumerate() {
            for other in ROUTES[..at].iter().filter(|other| other.path == route.path) {
                assert!(!other.methods.iter().any(|method| route.takes(method)), "{}", route.path);
            }
        }
    }
}
