//! The live page, which is a part of the binary.

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LINK,
};

use super::problem::Problem;
use super::routes::{Call, no_such_path};
use super::{Answer, AnswerBody};
use crate::session::queue::SlowConsumerPolicy;

/// The page loads nothing but its own files, and talks to nobody but this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The assets that a browser needs to show the page, and asks for as soon as it has read its head.
pub(super) const NEEDED_ASSETS: [&str; 2] = ["/assets/style.css", "/assets/app.js"];

/// [`NEEDED_ASSETS`] as hints (RFC 8288; <https://html.spec.whatwg.org/#link-type-preload>). A module is asked for in
/// CORS mode, so its hint has to say so, or the browser asks twice. Relative to the page, since a proxy may serve it
/// under a path of its own.
pub(super) const NEEDED_ASSETS_LINK: HeaderValue = HeaderValue::from_static(
    "<assets/style.css>; rel=preload; as=style, <assets/app.js>; rel=preload; as=script; crossorigin",
);

macro_rules! assets {
    ($directory:literal: $($name:literal: $content_type:expr),* $(,)?) => {
        &[$(($name, $content_type, include_str!(concat!($directory, $name)))),*]
    };
}

/// Name, content type, content.
type Asset = (&'static str, &'static str, &'static str);

/// The JavaScript client, for the page and for those of every other origin ([`ANY_ORIGIN`]).
const CLIENT: &[Asset] = assets! {
    "../../clients/js/":
    "backoff.js": JAVASCRIPT,
    "client.js": JAVASCRIPT,
    "connection.js": JAVASCRIPT,
    "events.js": JAVASCRIPT,
    "pieces.js": JAVASCRIPT,
    "reads.js": JAVASCRIPT,
    "replica.js": JAVASCRIPT,
    "subscription.js": JAVASCRIPT,
    "table.js": JAVASCRIPT,
};

/// The page's own files.
const PAGE: &[Asset] = assets! {
    "page/":
    "style.css": "text/css; charset=utf-8",
    "favicon.svg": "image/svg+xml",
    "any-rows.js": JAVASCRIPT,
    "any-table.js": JAVASCRIPT,
    "api.js": JAVASCRIPT,
    "app.js": JAVASCRIPT,
    "arrange.js": JAVASCRIPT,
    "cell.js": JAVASCRIPT,
    "columns.js": JAVASCRIPT,
    "confirm.js": JAVASCRIPT,
    "controls.js": JAVASCRIPT,
    "editor.js": JAVASCRIPT,
    "following.js": JAVASCRIPT,
    "named.js": JAVASCRIPT,
    "order.js": JAVASCRIPT,
    "products.js": JAVASCRIPT,
    "rate.js": JAVASCRIPT,
    "row.js": JAVASCRIPT,
    "rows.js": JAVASCRIPT,
    "samples.js": JAVASCRIPT,
    "search.js": JAVASCRIPT,
    "shelf.js": JAVASCRIPT,
    "sorting.js": JAVASCRIPT,
    "status.js": JAVASCRIPT,
    "text.js": JAVASCRIPT,
    "token.js": JAVASCRIPT,
    "values.js": JAVASCRIPT,
    "viewport.js": JAVASCRIPT,
};

/// The page is asked for anew each time, so that it is that of the server which runs.
const PAGE_KEPT: HeaderValue = HeaderValue::from_static("no-cache");
/// Assets are kept just long enough that a browser which was hinted at one does not ask for it again for the page.
pub(super) const ASSET_KEPT: HeaderValue = HeaderValue::from_static("max-age=10");

/// Modules are loaded in CORS mode, so that a page of another origin imports the client only if it is told so. It is the
/// same for everybody, without token or cookie, and public; that a Rowcast is here, `<script>` and `<img>` tell any page
/// without it. What the client then asks for needs an allowed origin and a token as ever.
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// The place in the page where it finds what becomes of changes that it is too slow for.
const SLOW_CONSUMER: &str = r#"data-slow-consumer="conflate""#;

/// Returns the page of a server with this policy: where changes are lost, the page asks for everything anew.
pub(super) fn index(policy: SlowConsumerPolicy) -> Answer {
    let slow_consumer = format!(r#"data-slow-consumer="{}""#, policy.label());
    let content = include_str!("page/index.html").replacen(SLOW_CONSUMER, &slow_consumer, 1);
    let mut answer = file("text/html; charset=utf-8", PAGE_KEPT, content);
    answer.headers_mut().insert(LINK, NEEDED_ASSETS_LINK);
    answer
}

pub(super) fn asset(call: &Call<'_>) -> Result<Answer, Problem> {
    find(call.segments[0]).ok_or_else(|| no_such_path(call.head.uri().path()))
}

fn find(name: &str) -> Option<Answer> {
    let named = |assets: &'static [Asset]| {
        let (_, content_type, content) = assets.iter().find(|(known, ..)| *known == name)?;
        Some(file(content_type, ASSET_KEPT, *content))
    };
    let of_client = named(CLIENT).map(|mut answer| {
        answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
        answer
    });
    of_client.or_else(|| named(PAGE))
}

fn file(content_type: &'static str, kept: HeaderValue, content: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(AnswerBody::from(content));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, kept);
    answer
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_page_knows_if_the_server_loses_changes_of_slow_readers() {
        for policy in [SlowConsumerPolicy::Conflate, SlowConsumerPolicy::Drop, SlowConsumerPolicy::Disconnect] {
            let page = index(policy).into_body().collect().await.unwrap().to_bytes();
            let told = format!(r#"<body data-slow-consumer="{}">"#, policy.label());
            assert!(String::from_utf8_lossy(&page).contains(&told), "{policy:?}");
        }
    }

    #[test]
    fn what_the_page_needs_is_named_in_its_head_and_in_its_hints() {
        for path in NEEDED_ASSETS {
            let relative = path.strip_prefix('/').unwrap();
            assert!(include_str!("page/index.html").contains(&format!("\"{relative}\"")), "{path}");
            assert!(NEEDED_ASSETS_LINK.to_str().unwrap().contains(&format!("<{relative}>; rel=preload")), "{path}");
            assert!(find(path.strip_prefix("/assets/").unwrap()).is_some(), "{path}");
        }
    }

    #[test]
    fn every_file_of_the_page_and_the_client_is_served() {
        let page = served_from("src/http/page", |name| !matches!(name, "index.html" | "package.json"));
        assert_eq!(names(PAGE), page);
        // React is whoever's that uses it.
        let client = served_from("clients/js", |name| is_module(name) && name != "react.js");
        assert_eq!(names(CLIENT), client);
        assert!(page.iter().all(|name| !client.contains(name)), "all names are of one directory to a browser");
    }

    #[test]
    fn every_module_is_preloaded() {
        // Few pages need event streams.
        let is_preloaded = |name: &String| is_module(name) && !matches!(name.as_str(), "app.js" | "events.js");
        let modules = names(CLIENT).into_iter().chain(names(PAGE)).filter(is_preloaded);
        for name in modules {
            let link = format!(r#"<link rel="modulepreload" href="assets/{name}">"#);
            assert!(include_str!("page/index.html").contains(&link), "{name}");
        }
    }

    fn is_module(name: &str) -> bool {
        Path::new(name).extension().is_some_and(|extension| extension == "js")
    }

    fn served_from(directory: &str, is_served: impl Fn(&str) -> bool) -> Vec<String> {
        let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| is_served(name));
        names.sort();
        names
    }

    fn names(assets: &[Asset]) -> Vec<String> {
        let mut names: Vec<_> = assets.iter().map(|&(name, ..)| name.to_owned()).collect();
        names.sort();
        names
    }
}
