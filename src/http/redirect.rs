//! The plain listener beside HTTPS: every request is told where it would be answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::host;
use super::problem::Problem;

type Answer = Response<Full<Bytes>>;

/// The most sockets that are answered at once; the kernel's backlog keeps the rest.
const SOCKETS_MAX: usize = 256;
/// The time that a client has for its request and for taking the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the acceptor waits after the process ran out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Answers requests with a redirect to https at this port, until `draining`. One request per connection.
pub async fn redirect(listener: TcpListener, https_port: u16, draining: CancellationToken) {
    let sockets = Arc::new(Semaphore::new(SOCKETS_MAX));
    while let Ok(place) = Arc::clone(&sockets).acquire_owned().await {
        let Some(accepted) = draining.run_until_cancelled(listener.accept()).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let draining = draining.clone();
                tokio::spawn(async move {
                    let served = draining.run_until_cancelled(timeout(ANSWER_TIMEOUT, serve(stream, https_port)));
                    if let Some(Ok(Err(error))) = served.await {
                        debug!(%error, "a redirect ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept sockets to redirect");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, https_port: u16) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(ANSWER_TIMEOUT).keep_alive(false);
    let service =
        service_fn(
            |request| async move { Ok::<_, Infallible>(answer(&request, https_port).unwrap_or_else(Answer::from)) },
        );
    builder.serve_connection(TokioIo::new(stream), service).await
}

/// Answers 308, so that a method and its body are kept (RFC 9110, §15.4.9).
fn answer<B>(request: &Request<B>, https_port: u16) -> Result<Answer, Problem> {
    let host = host::of(request)?;
    let host = host.host();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let location = match https_port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    let location = HeaderValue::try_from(location).map_err(|_| Problem::bad_request("the path is not a path"))?;
    let mut answer = Response::new(Bytes::from_static(b"This server speaks https.\n").into());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, location);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use hyper::header::HOST;

    use super::*;

    fn location(host: &str, target: &str, port: u16) -> Result<String, Problem> {
        let request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
        answer(&request, port).map(|answer| {
            assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
            answer.headers()[LOCATION].to_str().unwrap().to_owned()
        })
    }

    #[test]
    fn the_way_to_https_keeps_host_path_and_query() {
        for (host, target, port, wanted) in [
            ("shop.example", "/products?limit=1&after=2", 443, "https://shop.example/products?limit=1&after=2"),
            ("shop.example:80", "/", 8443, "https://shop.example:8443/"),
            ("127.0.0.1:8080", "//elsewhere.example/", 443, "https://127.0.0.1//elsewhere.example/"),
            ("[::1]:8080", "/a", 8443, "https://[::1]:8443/a"),
            ("[::1]", "*", 443, "https://[::1]/"),
            ("shop.example", "http://elsewhere.example/a", 443, "https://shop.example/a"),
        ] {
            assert_eq!(location(host, target, port).unwrap(), wanted);
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        let long = "a".repeat(256);
        for host in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@shop.example",
            "shop.example:80x",
            "shop.example:8080800",
            "[::1",
            "[::1]x",
            "[]",
            "[shop]",
            "a:1:2",
            "shop.example#",
            "shop.example?",
            "shop.example\\",
            ".",
            "ü",
            &long,
        ] {
            let problem = location(host, "/", 443).map(|found| panic!("{host:?} became {found}"));
            assert!(problem.is_err());
        }
        let request = Request::builder().uri("/").body(()).unwrap();
        assert!(answer(&request, 443).is_err(), "no Host at all");
        let request = Request::builder().uri("/").header(HOST, "a").header(HOST, "b").body(()).unwrap();
        assert!(answer(&request, 443).is_err(), "two of them");
    }
}
