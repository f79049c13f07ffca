//! A token that expires takes its sockets with it.

use std::time::Duration;

use serde_json::json;

use super::tokens::{bearer, everything, guarded, now};
use crate::support::server::product_json;
use crate::support::socket::{Read, Socket};

#[tokio::test]
async fn sockets_are_closed_with_4401_when_their_token_expires() {
    let (server, issuer) = guarded(&[]).await;
    let expires_at = now() + Duration::from_secs(3);
    let short = bearer(&issuer.token(json!({"exp": expires_at.as_secs_f64(), "rowcast": everything()})));
    let long = bearer(&issuer.granting(everything()));
    let (short, long) = ([("authorization", &short[..])], [("authorization", &long[..])]);
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(Socket::connect_with(server.address, "/websocket", &short).await.0);
    }
    let (mut stays, _) = Socket::connect_with(server.address, "/websocket", &long).await;
    for socket in &mut sockets {
        socket.subscribe([1]).await;
    }
    stays.subscribe([1]).await;
    for socket in &mut sockets {
        assert_eq!(socket.read().await, Read::Close(4401));
        assert!(now() >= expires_at, "not before it expires");
    }
    assert_eq!(server.refused_handshake("/websocket", &short).await.status, 401);
    drop(sockets);
    let closed = r#"rowcast_connections_closed_total{reason="token_expired"} 10"#;
    while !server.request_with("GET", "/metrics", &long, None).await.text.contains(closed) {
        tokio::task::yield_now().await;
    }
    server.request_with("PUT", "/products/1", &long, Some(&product_json(1, 1))).await;
    assert_eq!(stays.next().await["product"]["productId"], 1, "whose token is valid stays");
}
