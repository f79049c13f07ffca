//! Tokens and keys stay where they are: the log at its most talkative, answers and metrics show nothing of them.

use hyper::Request;
use serde_json::json;

use super::tokens::{Issuer, bearer, everything, now};
use crate::process::{Running, rowcast, send_signal};
use crate::support::http2::{Http2, extended_connect, request};
use crate::support::patiently;
use crate::support::server::{Http, product_json};
use crate::support::socket::{Read, Socket};

/// The head of the answer to a request with these headers.
async fn http2_answer(http2: &mut Http2, mut request: Request<()>, headers: &[(&'static str, &str)]) -> String {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let response = http2.send(request, None).await;
    format!("{:?}", patiently(response).await.expect("the server answers"))
}

#[tokio::test]
async fn no_part_of_a_token_or_a_secret_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "correct-horse-battery-staple-and-more";
    let key = dir.path().join("key");
    std::fs::write(&key, secret).unwrap();
    let options = ["--listen", "127.0.0.1:0", "--drain-seconds", "0", "--data-dir", dir.path().to_str().unwrap()];
    let mut command = rowcast(&[&options[..], &["--jwt-key", key.to_str().unwrap()]].concat());
    // A file takes all of it while the server runs.
    let log = dir.path().join("log");
    command.env("RUST_LOG", "trace").stderr(std::fs::File::create(&log).unwrap());
    let mut server = Running::of(&mut command).await;

    let issuer = Issuer::secret(secret.as_bytes());
    let mut tokens = vec![
        issuer.granting(everything()),
        issuer.granting(json!({"read": [1]})),
        issuer.token(json!({"exp": 1, "rowcast": everything()})),
        issuer.token(json!({"rowcast": {"read": "everything"}})),
        Issuer::secret(b"another secret of enough bytes to be one").granting(everything()),
        "Garb4ge.n0token.n0n3at4ll".to_owned(),
    ];
    let mut shown = Vec::new();
    let mut http = Http::connect(server.address).await;
    let mut http2 = Http2::connect(server.address).await;
    for token in &tokens {
        let (header, protocol) = (bearer(token), format!("rowcast, bearer.{token}"));
        for (path, headers) in [
            ("/products/1".to_owned(), vec![("authorization", &header[..])]),
            ("/products/2".to_owned(), vec![("authorization", &header[..])]),
            ("/websocket".to_owned(), vec![("sec-websocket-protocol", &protocol[..])]),
            (format!("/products?token={token}"), vec![]),
            (format!("/products?tokens={token}&token={token}"), vec![]),
            (format!("/nothing?token={token}"), vec![]),
            (format!("/products/1?token={token}"), vec![("authorization", "Bearer other")]),
            ("/metrics".to_owned(), vec![("authorization", &header[..])]),
        ] {
            shown.push(format!("{:?}", http.request_with("GET", &path, &headers, None).await));
            for request in [request("GET", &path), extended_connect(&path, "websocket")] {
                shown.push(http2_answer(&mut http2, request, &headers).await);
            }
        }
        shown.push(format!(
            "{:?}",
            http.request_with("PUT", "/products/1", &[("authorization", &header)], Some("{")).await
        ));
    }
    let headers = [("sec-websocket-protocol", &*format!("rowcast, bearer.{}", tokens[0]))];
    let (mut open, _) = Socket::connect_with(server.address, "/websocket", &headers).await;
    open.subscribe([1]).await;
    for token in &tokens {
        open.send(&json!({"command": "authorize", "token": token, "id": "a"}).to_string()).await;
        open.send(&json!({"command": "authorise", "token": token, "id": {"token": token}}).to_string()).await;
        loop {
            let told = open.next().await;
            shown.push(told.to_string());
            if told["code"] == "bad_id" {
                break;
            }
        }
    }
    open.send(&json!({"command": "authorize", "token": tokens[0]}).to_string()).await;
    let brief = issuer.token(json!({"exp": now().as_secs() + 3, "rowcast": everything()}));
    let (mut short, _) = Socket::connect_with(server.address, &format!("/websocket?token={brief}"), &[]).await;
    tokens.push(brief);
    shown.push(format!("{:?}", short.command("subscribe", [1]).await));
    let writer = bearer(&tokens[0]);
    let body = product_json(1, 1);
    shown.push(format!(
        "{:?}",
        http.request_with("PUT", "/products/1", &[("authorization", &writer)], Some(&body)).await
    ));
    assert!(matches!(short.read().await, Read::Message(_)));
    assert_eq!(short.read().await, Read::Close(4401));
    drop(short);
    shown.push(format!("{:?}", http.request_with("GET", "/metrics", &[("authorization", &writer)], None).await));
    let shown = shown.join("\n");
    assert!(shown.contains("rowcast_http_responses"), "{shown}");

    send_signal(&server.child, "TERM").await;
    while open.read().await != Read::Close(1012) {}
    drop(open);
    assert!(patiently(server.child.wait()).await.unwrap().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("a token was refused"), "the log talks: {log}");
    for text in [&shown, &log] {
        assert!(!text.contains(secret));
        for token in &tokens {
            for part in token.split('.').filter(|part| part.len() > 3) {
                // The header of a token is the same in all, and no secret; it too has no business there.
                assert!(!text.contains(part), "{part} is in {text}");
            }
        }
    }
}
