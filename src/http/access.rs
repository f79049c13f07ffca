//! Access: the token of a request, the origin of its page, and the headers that tell browsers of both (CORS,
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! A token never gets into an answer, but for the one that its sender offered as the only subprotocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_PROTOCOL, VARY, WWW_AUTHENTICATE,
};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use tracing::{debug, info};

use super::Services;
use super::origin::AllowedOrigins;
use super::problem::Problem;
use super::routes::{self, Who};
use crate::auth::{Grant, Run, TokenError};
use crate::model::key::Key;
use crate::model::table::Table;
use crate::store::RowId;

/// The subprotocol that a client offers beside the one that carries its token, and is answered with.
const SUBPROTOCOL: &str = "rowcast";
/// The prefix of a token that is offered as a subprotocol, the only header of a handshake that a page can choose.
const TOKEN_SUBPROTOCOL: &str = "bearer.";
/// The seconds for which a browser need not ask again.
const PREFLIGHT_SECONDS: &str = "600";

/// The rights of a request: those that its token grants, and all rights where the server has no keys.
#[derive(Clone, Debug)]
pub(super) struct Access(Option<Arc<Grant>>);

impl Access {
    /// Lets a request on if it has rights on the table with this name.
    ///
    /// # Errors
    /// 403, whether the table is there or not.
    pub(super) fn require_table(&self, name: &str) -> Result<(), Problem> {
        if self.0.as_ref().is_none_or(|grant| grant.names(name)) {
            return Ok(());
        }
        Err(forbidden(format!("the token gives no rights on the table {name:?}")))
    }

    /// Lets a request on if it may read this row.
    ///
    /// # Errors
    /// 403.
    pub(super) fn require_read(&self, table: &Table, key: &Key) -> Result<(), Problem> {
        if self.may_read(table, key) {
            return Ok(());
        }
        let id = RowId::of(table, key.clone());
        Err(forbidden(format!("the token does not let you read {id}")))
    }

    /// Lets a request on if it may read some row of this table.
    ///
    /// # Errors
    /// 403.
    pub(super) fn require_read_some(&self, table: &Table) -> Result<(), Problem> {
        if self.may_read_some(table) {
            return Ok(());
        }
        Err(forbidden(format!("the token does not let you read any row of {}", table.name)))
    }

    /// Lets a request on if it may write rows of the table with this name.
    ///
    /// # Errors
    /// 403.
    pub(super) fn require_write(&self, name: &str) -> Result<(), Problem> {
        let may = self.0.as_ref().is_none_or(|grant| grant.may_write_to(name));
        if may { Ok(()) } else { Err(forbidden("the token does not let you write")) }
    }

    /// Returns true if this row may be shown.
    pub(super) fn may_read(&self, table: &Table, key: &Key) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.may_read_row(table, key))
    }

    /// Returns true if some row of this table may be shown.
    pub(super) fn may_read_some(&self, table: &Table) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.may_read_some(table))
    }

    /// Returns the first run of a table's keys that may be shown, of those after this one, or of all.
    pub(super) fn next_run(&self, table: &Table, after: Option<&Key>) -> Option<Run> {
        match &self.0 {
            Some(grant) => grant.next_run(table, after),
            None => Some(Run::following(after)),
        }
    }

    /// Returns the part that a connection keeps.
    pub(super) fn into_grant(self) -> Option<Arc<Grant>> {
        self.0
    }
}

/// Returns the rights of a request, by its token. Without keys no token is asked for, nor on a route that is open to
/// everybody.
///
/// # Errors
/// 401 and 400, as RFC 6750, §3, has them.
pub(super) fn authorize<B>(services: &Services, request: &Request<B>, who: Who) -> Result<Access, Problem> {
    let Some(keys) = services.keys.as_ref().filter(|_| who == Who::TokenHolders) else { return Ok(Access(None)) };
    let token = token(request)?.ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "this needs a token: send it as Authorization: Bearer …, as the WebSocket subprotocol bearer.…, or as ?token=…",
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    })?;
    match keys.verify(&token, now()) {
        Ok(grant) => Ok(Access(Some(Arc::new(grant)))),
        Err(error) => Err(refused(error)),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the token of a request, from wherever it stands.
fn token<B>(request: &Request<B>) -> Result<Option<String>, Problem> {
    let mut tokens = bearer_tokens(request.headers());
    tokens.extend(subprotocols(request.headers()).filter_map(|offered| offered.strip_prefix(TOKEN_SUBPROTOCOL)));
    let mut tokens: Vec<_> = tokens.into_iter().map(str::to_owned).collect();
    let query = form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes());
    tokens.extend(query.filter(|(name, _)| name == "token").map(|(_, token)| token.into_owned()));
    tokens.dedup();
    if tokens.len() > 1 {
        let challenge = HeaderValue::from_static(r#"Bearer error="invalid_request""#);
        let problem = Problem::bad_request("the request has two different tokens; send one");
        return Err(problem.with_header(WWW_AUTHENTICATE, challenge));
    }
    Ok(tokens.pop())
}

/// Returns the tokens after `Bearer`, whose case does not matter (RFC 9110, §11.1). A header that is not text has no
/// token.
fn bearer_tokens(headers: &HeaderMap) -> Vec<&str> {
    let texts = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    texts
        .filter_map(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .collect()
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// Returns the subprotocol to answer a handshake with, one of those that were offered (RFC 6455, §4.2.2). A browser
/// gives up a WebSocket that is answered with none of them, so the one with the token is answered where there is no
/// other.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    if subprotocols(headers).any(|offered| offered == SUBPROTOCOL) {
        return Some(HeaderValue::from_static(SUBPROTOCOL));
    }
    let offered = subprotocols(headers).find(|offered| offered.starts_with(TOKEN_SUBPROTOCOL))?;
    let mut value = HeaderValue::from_str(offered).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn refused(error: TokenError) -> Problem {
    debug!(%error, "a token was refused");
    let challenge = format!(r#"Bearer error="invalid_token", error_description="{error}""#);
    let challenge = HeaderValue::try_from(challenge).expect("the sentences are text");
    Problem::new(StatusCode::UNAUTHORIZED, error.to_string()).with_header(WWW_AUTHENTICATE, challenge)
}

fn forbidden(detail: impl Into<String>) -> Problem {
    let challenge = HeaderValue::from_static(r#"Bearer error="insufficient_scope""#);
    Problem::new(StatusCode::FORBIDDEN, detail).with_header(WWW_AUTHENTICATE, challenge)
}

/// Refuses a request from a page of another origin. A request that no page sent has no origin.
///
/// # Errors
/// 403.
pub(super) fn require_origin<B>(services: &Services, request: &Request<B>) -> Result<(), Problem> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    if is_allowed(&services.allowed_origins, origin, request) {
        return Ok(());
    }
    tell_refused(origin);
    let detail = "pages of this origin may not use this server; it is started with --allowed-origin for those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Logs a refused origin, at most one in a second, so that nobody fills a disk with them.
fn tell_refused(origin: &HeaderValue) {
    static SECOND_TOLD: AtomicU64 = AtomicU64::new(0);
    let second = now().as_secs();
    if SECOND_TOLD.swap(second, Ordering::Relaxed) != second {
        let origin = shown(origin);
        info!(origin, "a page of this origin was refused; --allowed-origin names those that may use the server");
    }
}

/// Writes an origin as the log may show it: short, and without characters that are no visible ASCII.
fn shown(origin: &HeaderValue) -> String {
    const CHARACTERS_MAX: usize = 128;
    let visible = |&byte: &u8| if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
    let mut shown: String = origin.as_bytes().iter().take(CHARACTERS_MAX).map(visible).collect();
    if origin.len() > CHARACTERS_MAX {
        shown.push('…');
    }
    shown
}

fn is_allowed<B>(allowed: &AllowedOrigins, origin: &HeaderValue, request: &Request<B>) -> bool {
    // HTTP/2 has the host in the target, as HTTP/1.1 may.
    let host = request.uri().authority().map(Authority::as_str);
    let host = host.or_else(|| request.headers().get(HOST).and_then(|host| host.to_str().ok()));
    origin.to_str().is_ok_and(|origin| allowed.allows(origin, host))
}

/// The headers that tell a browser to let its page read an answer.
#[derive(Debug)]
pub(super) struct Sharing {
    /// True if the answer is one of the resource: only that is shared.
    applies: bool,
    with: Option<HeaderValue>,
}

impl Sharing {
    pub(super) fn of<B>(services: &Services, request: &Request<B>) -> Self {
        let applies = routes::is_shared(request.uri().path());
        let origin = request.headers().get(ORIGIN).filter(|_| applies);
        let with = origin.filter(|origin| is_allowed(&services.allowed_origins, origin, request)).cloned();
        Self { applies, with }
    }

    pub(super) fn tell(self, headers: &mut HeaderMap) {
        if self.applies {
            // Also where there was no origin: a cache must not give that answer to one.
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = self.with {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag, Location, WWW-Authenticate"));
        }
    }
}

/// Tells a browser that asks before its page sends something (a preflight) which requests the page may send. It asks
/// without the page's token.
pub(super) fn describe_sharing(headers: &mut HeaderMap) {
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID"),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_shown_short_and_in_one_line() {
        for (origin, wanted) in [
            (&b"https://evil.example"[..], "https://evil.example".to_owned()),
            (b"a b\tc\xFFd", "a?b?c?d".to_owned()),
            (&[b'x'; 5000], format!("{}…", "x".repeat(128))),
        ] {
            assert_eq!(shown(&HeaderValue::from_bytes(origin).unwrap()), wanted);
        }
    }
}
