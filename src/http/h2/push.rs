//! The assets of the page, before its client asks: pushed (RFC 9113, §8.4) to a client that allows it, named in 103
//! Early Hints (RFC 8297) to one that does not.
//!
//! A cookie remembers for as long as the client may keep the pushed assets, so that they are not pushed again.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{SendPushedResponse, SendResponse};
use http_body_util::Empty;
use hyper::header::{CACHE_CONTROL, COOKIE, HeaderValue, LINK, SET_COOKIE};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use tracing::debug;

use super::super::page::{NEEDED_ASSETS, NEEDED_ASSETS_LINK};
use super::super::{Answer, Services, answer};
use super::request;

const COOKIE_NAME: &str = "assetspushed";
/// The time for which a client may keep the pushed assets, and its cookie: the two go together.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=3600");
const SET: HeaderValue = HeaderValue::from_static("assetspushed=1; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax");
const SET_SECURE: HeaderValue =
    HeaderValue::from_static("assetspushed=1; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax; Secure");

/// The assets that were promised together with the page.
#[derive(Debug, Default)]
pub(super) struct Promised(Vec<(Uri, SendPushedResponse<Bytes>)>);

/// Promises the assets of the page, if this request is for the page; or hints at them, to a client that refuses pushes.
/// Has to come before the page, which names the same things (RFC 9113, §8.4.1).
pub(super) fn promise(respond: &mut SendResponse<Bytes>, request: &Request<RecvStream>, pushes_max: usize) -> Promised {
    let mut promised = Promised::default();
    if request.method() != Method::GET || request.uri().path() != "/" {
        return promised;
    }
    if pushes_max < NEEDED_ASSETS.len() {
        hint(respond);
        return promised;
    }
    if has_cookie(request) {
        return promised;
    }
    for path in NEEDED_ASSETS {
        let Some(asset) = request_for(request.uri(), path) else { break };
        let uri = asset.uri().clone();
        match respond.push_request(asset) {
            Ok(response) => promised.0.push((uri, response)),
            // The client has said SETTINGS_ENABLE_PUSH=0; anything else ends the stream, and is told where it matters.
            Err(_) => break,
        }
    }
    if promised.0.is_empty() {
        hint(respond);
    }
    promised
}

fn hint(respond: &mut SendResponse<Bytes>) {
    let mut hints = Response::new(());
    *hints.status_mut() = StatusCode::EARLY_HINTS;
    hints.headers_mut().insert(LINK, NEEDED_ASSETS_LINK);
    if let Err(error) = respond.send_informational(hints) {
        debug!(%error, "hints were not sent");
    }
}

fn has_cookie<B>(request: &Request<B>) -> bool {
    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut names = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.split_once('='));
    names.any(|(name, _)| name.trim() == COOKIE_NAME)
}

/// Returns the request that a client would make for `path` of the page at `page`.
fn request_for(page: &Uri, path: &'static str) -> Option<Request<()>> {
    let mut parts = page.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    let has_origin = parts.scheme.is_some() && parts.authority.is_some();
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).ok().filter(|_| has_origin)?;
    Some(request)
}

impl Promised {
    /// Has the client remember that the page's assets were pushed to it.
    pub(super) fn mark(&self, page: &mut Answer, is_secure: bool) {
        if !self.0.is_empty() {
            page.headers_mut().append(SET_COOKIE, if is_secure { SET_SECURE } else { SET });
        }
    }

    /// Sends the promised assets, one after the other.
    pub(super) async fn send(self, services: &Services) {
        for (uri, mut response) in self.0 {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = uri;
            let mut answer = answer(services, request).await;
            answer.headers_mut().insert(CACHE_CONTROL, KEPT);
            match request::send(services, |head, is_end| response.send_response(head, is_end), answer, false).await {
                Ok(()) => drop(services.metrics.http.http2_pushes.inc()),
                Err(error) => debug!(%error, "what was pushed was not taken"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        for (cookies, is_found) in [
            (&["assetspushed=1"][..], true),
            (&["a=b; assetspushed="], true),
            (&["a=b", "c=d;assetspushed=x; e=f"], true),
            (&[], false),
            (&["assetspushed"], false),
            (&["a=assetspushed=1"], false),
            (&["xassetspushed=1; assetspushedx=1"], false),
        ] {
            let mut request = Request::new(());
            for cookie in cookies {
                request.headers_mut().append(COOKIE, HeaderValue::from_static(cookie));
            }
            assert_eq!(has_cookie(&request), is_found, "{cookies:?}");
        }
        let mut request = Request::new(());
        request.headers_mut().append(COOKIE, HeaderValue::from_bytes(b"assetspushed=\xFF").unwrap());
        assert!(!has_cookie(&request));
    }

    #[test]
    fn a_promised_request_has_the_origin_of_the_page() {
        let promised = request_for(&Uri::from_static("https://a.example:1/?q"), "/assets/style.css").unwrap();
        assert_eq!(*promised.uri(), "https://a.example:1/assets/style.css");
        assert!(request_for(&Uri::from_static("/"), "/assets/style.css").is_none());
    }

    #[test]
    fn the_cookie_lives_as_long_as_what_was_pushed() {
        for set in [SET, SET_SECURE] {
            let set = set.to_str().unwrap().to_lowercase();
            assert!(set.starts_with(&format!("{COOKIE_NAME}=1; {}; ", KEPT.to_str().unwrap())), "{set}");
        }
    }
}
