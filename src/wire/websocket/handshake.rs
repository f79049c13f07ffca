//! The opening handshake (RFC 6455, §4.2): the check of a request for a WebSocket, and the answer to it.

use bytes::Bytes;
use fastwebsockets::WebSocketError;
use http_body_util::Empty;
use hyper::header::SEC_WEBSOCKET_VERSION;
use hyper::{HeaderMap, Method, Request, Response};

/// The reason for which a request does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It is an ordinary request.
    #[error(
        "this address speaks WebSocket: open it with new WebSocket(…), or send Connection: Upgrade and Upgrade: websocket"
    )]
    NotAnUpgrade,
    /// It asks for another version than 13 (§4.4).
    #[error("Sec-WebSocket-Version is 13 here")]
    Version,
    /// The key is missing or not 16 bytes in base64 (§4.2.1).
    #[error("Sec-WebSocket-Key is 16 random bytes in base64")]
    Key,
}

/// Checks a request for a WebSocket and returns the response that accepts it.
///
/// # Errors
/// The fault in the request.
pub fn accept<B>(request: &Request<B>) -> Result<Response<Empty<Bytes>>, HandshakeError> {
    if request.method() != Method::GET || !fastwebsockets::upgrade::is_upgrade_request(request) {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if !request.headers().get("sec-websocket-key").is_some_and(|key| is_key(key.as_bytes())) {
        return Err(HandshakeError::Key);
    }
    // The crate takes the upgrade out of the request that it is given, and makes a WebSocket of it that would read;
    // given the headers alone it only answers.
    let mut headers = Request::new(());
    *headers.headers_mut() = request.headers().clone();
    match fastwebsockets::upgrade::upgrade(&mut headers) {
        Ok((response, _)) => Ok(response),
        Err(WebSocketError::MissingSecWebSocketKey) => Err(HandshakeError::Key),
        Err(_) => Err(HandshakeError::Version),
    }
}

/// Checks an extended CONNECT for a WebSocket (RFC 8441, §5), which needs neither key nor upgrade.
///
/// # Errors
/// If it asks for another version.
pub fn accept_stream(headers: &HeaderMap) -> Result<(), HandshakeError> {
    match headers.get(SEC_WEBSOCKET_VERSION) {
        Some(version) if version == "13" => Ok(()),
        _ => Err(HandshakeError::Version),
    }
}

/// 16 bytes are 22 characters of base64, and two of padding.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_base64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    const UPGRADE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let response = accept(&request(&UPGRADE)).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_stream_needs_the_version_alone() {
        assert_eq!(accept_stream(request(&[("sec-websocket-version", "13")]).headers()), Ok(()));
        for headers in [&[][..], &[("sec-websocket-version", "8")], &UPGRADE[..2]] {
            assert_eq!(accept_stream(request(headers).headers()), Err(HandshakeError::Version));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |place: usize| {
            let mut headers = UPGRADE.to_vec();
            headers.remove(place);
            accept(&request(&headers)).map(|_| ())
        };
        assert_eq!(without(0), Err(HandshakeError::NotAnUpgrade));
        assert_eq!(without(1), Err(HandshakeError::NotAnUpgrade));
        assert_eq!(without(2), Err(HandshakeError::Version));
        assert_eq!(without(3), Err(HandshakeError::Key));
        let mut headers = UPGRADE;
        headers[3].1 = "c2hvcnQ=";
        assert_eq!(accept(&request(&headers)).map(|_| ()), Err(HandshakeError::Key));
        let mut post = request(&UPGRADE);
        *post.method_mut() = Method::POST;
        assert_eq!(accept(&post).map(|_| ()), Err(HandshakeError::NotAnUpgrade));
    }
}
