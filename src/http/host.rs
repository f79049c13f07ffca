//! The Host header (RFC 9112, §3.2).

use std::net::Ipv6Addr;

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Version};

use super::problem::Problem;

/// Refuses a request of HTTP/1.1 without exactly one well-formed Host header, and one of HTTP/1.0 whose header is not.
///
/// # Errors
/// 400.
pub(super) fn require<B>(request: &Request<B>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        // A target without an authority has an empty one (RFC 9112, §3.2).
        (Some(host), None) if host.is_empty() || host.to_str().ok().and_then(parse).is_some() => Ok(()),
        (Some(_), None) => Err(malformed()),
        _ => Err(Problem::bad_request("a request has one Host header (RFC 9112, §3.2)")),
    }
}

/// Returns the one host that a request names, which is not empty.
///
/// # Errors
/// 400.
pub(super) fn of<B>(request: &Request<B>) -> Result<Authority, Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Problem::bad_request("a request has one Host header (RFC 9112, §3.2)"));
    };
    host.to_str().ok().and_then(parse).ok_or_else(malformed)
}

fn malformed() -> Problem {
    Problem::bad_request("the Host header is not a name or an address, with or without a port")
}

/// Reads a name or an address, with or without a port, and nothing else.
fn parse(value: &str) -> Option<Authority> {
    const BYTES_MAX: usize = 255;
    let authority: Authority = value.parse().ok()?;
    let host = authority.host();
    let is_address = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let is_name =
        !host.starts_with('.') && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let port = &value[value.rfind(host)? + host.len()..];
    let is_port = port.is_empty() || port == ":" || authority.port_u16().is_some();
    let is_whole = value.len() == host.len() + port.len();
    (!host.is_empty() && host.len() <= BYTES_MAX && (is_name || is_address().is_some()) && is_port && is_whole)
        .then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().version(version).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, hyper::header::HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        request
    }

    #[test]
    fn a_request_has_one_host() {
        for host in ["", "localhost", "localhost:8080", "[::1]:8080", "[::1]", "192.0.2.1", "a_b.example", "shop:"] {
            assert!(require(&request(Version::HTTP_11, &[host])).is_ok(), "{host}");
        }
        let long = "a".repeat(256);
        for wrong in [
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
            "a,b",
            "shop:99999",
            "\u{7f}",
            &long,
        ] {
            // Some are not even a header's value.
            let Ok(value) = hyper::header::HeaderValue::from_bytes(wrong.as_bytes()) else { continue };
            let mut asking = request(Version::HTTP_11, &[]);
            asking.headers_mut().insert(HOST, value);
            assert!(require(&asking).is_err(), "{wrong:?}");
            assert!(of(&asking).is_err(), "{wrong:?}");
        }
        assert!(require(&request(Version::HTTP_11, &[])).is_err(), "none");
        assert!(require(&request(Version::HTTP_11, &["a", "a"])).is_err(), "two");
        assert!(require(&request(Version::HTTP_10, &[])).is_ok());
        assert!(require(&request(Version::HTTP_10, &["a", "b"])).is_err());
        assert!(of(&request(Version::HTTP_11, &[""])).is_err(), "an empty one leads nowhere");
    }
}
