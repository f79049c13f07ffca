//! A request: method, path, query, headers and body, through every route up to the store, which is away. No answer but
//! those that docs/protocol.md lists may come, and none may cost more memory than its request.

#![no_main]

use std::sync::OnceLock;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Builder;
use hyper::{Method, Request};
use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::http::{self, Answer, Services};
use rowcast::wire::websocket::handshake;
use rowcast_fuzz::server::{config, services};
use rowcast_fuzz::within;
use serde_json::Value;
use tokio::runtime::Runtime;

/// The page and its assets are the longest answers.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(request) = request(data) else { return Corpus::Reject };
    let _ = handshake::accept(&request);
    let Servers { runtime, open, with_keys } = servers();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    for services in [open, with_keys] {
        let request = request.clone();
        let bytes_max = 2 * ANSWER_BYTES_MAX + 16 * data.len();
        let response = within(bytes_max, || runtime.block_on(http::answer(services, request)));
        check(runtime, &method, &path, response);
    }
    Corpus::Keep
});

/// The request that these lines describe: `METHOD target`, `name: value` for each header, an empty line, the body.
fn request(data: &[u8]) -> Option<Request<Full<Bytes>>> {
    let (first, mut rest) = line(data);
    let mut words = first.splitn(2, |byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut builder: Builder = Request::builder().method(method).uri(target);
    while !rest.is_empty() {
        let (header, after) = line(rest);
        rest = after;
        if header.is_empty() {
            break;
        }
        let colon = header.iter().position(|byte| *byte == b':')?;
        builder = builder.header(&header[..colon], header[colon + 1..].trim_ascii());
    }
    builder.body(Full::new(Bytes::copy_from_slice(rest))).ok()
}

fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

struct Servers {
    runtime: Runtime,
    /// Everybody may do everything.
    open: Services,
    /// What a token that is signed with `jwt-secret` allows.
    with_keys: Services,
}

fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| Servers {
        runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime is built"),
        open: services(&config(&[])),
        with_keys: services(&config(&[
            concat!("--jwt-key=", env!("CARGO_MANIFEST_DIR"), "/jwt-secret"),
            "--allowed-origin=https://shop.example",
        ])),
    })
}

fn check(runtime: &Runtime, method: &Method, path: &str, response: Answer) {
    let (head, body) = response.into_parts();
    let body = runtime.block_on(body.collect()).expect("no answer breaks off").to_bytes();
    let status = head.status.as_u16();
    assert!(
        matches!(status, 200 | 204 | 400 | 401 | 403 | 404 | 405 | 413 | 415 | 426 | 503),
        "{status} for {method} {path}"
    );
    assert_eq!(head.headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(!head.headers.contains_key(LOCATION), "nothing was made");
    if matches!(status, 200 | 204) {
        assert!(body.len() <= ANSWER_BYTES_MAX && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS));
        return;
    }
    assert_eq!(head.headers[CONTENT_TYPE], "application/problem+json");
    let problem: Value = serde_json::from_slice(&body).expect("a problem is JSON");
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    assert_eq!(status == 503, head.headers.contains_key(RETRY_AFTER));
}
