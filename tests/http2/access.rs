//! Tokens and origins on HTTP/2.

use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;

use crate::auth::tokens::{bearer, guarded};
use crate::support::http2::{Http2, extended_connect, reply, request};
use crate::support::patiently;

#[tokio::test]
async fn a_socket_needs_a_token_and_an_origin_and_reads_what_it_grants() {
    let (server, issuer) = guarded(&[]).await;
    let token = issuer.granting(json!({"read": [1], "write": false}));
    let subprotocols = format!("rowcast, bearer.{token}");
    let mut http2 = Http2::connect(server.address).await;
    for (headers, status) in [
        (&[][..], 401),
        (&[("sec-websocket-protocol", "bearer.nonsense")], 401),
        (&[("sec-websocket-protocol", &*subprotocols), ("origin", "https://evil.example")], 403),
    ] {
        let mut asking = extended_connect("/websocket", "websocket");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            asking.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let (response, _send) = http2.connect_stream(asking).await;
        assert_eq!(reply(response).await.status, status, "{headers:?}");
    }
    let mut asking = extended_connect("/websocket", "websocket");
    asking.headers_mut().insert("sec-websocket-protocol", subprotocols.parse().unwrap());
    asking.headers_mut().insert("origin", "http://localhost".parse().unwrap());
    let (mut socket, accepted) = http2.websocket_with(asking).await;
    assert_eq!(accepted["sec-websocket-protocol"], "rowcast");
    socket.subscribe([1]).await;
    socket.write_frame(0x81, br#"{"command":"subscribe","productIDs":[2],"id":2}"#);
    assert_eq!(socket.next().await["ok"], false);
}

#[tokio::test]
async fn a_request_needs_a_token_and_the_page_does_not() {
    let (server, issuer) = guarded(&[]).await;
    let mut http2 = Http2::connect(server.address).await;
    assert_eq!(http2.request("GET", "/products", None).await.status, 401);
    assert_eq!(http2.request("GET", "/", None).await.status, 200);
    let mut asking = request("GET", "/products");
    let token = bearer(&issuer.granting(json!({"read": "*"})));
    asking.headers_mut().insert("authorization", token.parse().unwrap());
    let response = http2.send(asking, None).await;
    assert_eq!(patiently(response).await.unwrap().status(), 200);
}
