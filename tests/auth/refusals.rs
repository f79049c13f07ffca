//! Texts that are no token, and tokens that are not for this server.

use serde_json::{Value, json};

use super::tokens::{Issuer, bearer, everything, guarded, key_file, now, unsigned};
use crate::support::server::{Reply, TestServer};
use crate::support::socket::Socket;

/// 401 with a challenge that says why (RFC 6750, §3).
fn is_refused(reply: &Reply, part: &str) {
    assert_eq!(reply.status, 401, "{reply:?}");
    let challenge = reply.header("www-authenticate");
    assert!(challenge.starts_with(r#"Bearer error="invalid_token""#), "{challenge}");
    assert!(challenge.contains(part) && reply.text.contains(part), "{reply:?} does not say {part:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
}

fn authorization(value: &str) -> (&str, &str) {
    ("authorization", value)
}

fn subprotocol(value: &str) -> (&str, &str) {
    ("sec-websocket-protocol", value)
}

async fn get(server: &TestServer, token: &str) -> Reply {
    server.request_with("GET", "/products/1", &[("authorization", &bearer(token))], None).await
}

#[tokio::test]
async fn without_a_token_only_the_page_and_the_probes_answer() {
    let (server, issuer) = guarded(&[]).await;
    for (method, path) in [
        ("GET", "/products"),
        ("GET", "/products/1"),
        ("HEAD", "/products/1"),
        ("DELETE", "/products/1"),
        ("GET", "/metrics"),
        ("GET", "/websocket"),
    ] {
        let reply = server.request(method, path, None).await;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, "Bearer"), "{method} {path}");
    }
    let reply = server.request("PUT", "/products/1", Some("{}")).await;
    assert_eq!(reply.status, 401, "before the body is looked at");
    assert_eq!(server.refused_handshake("/websocket", &[]).await.status, 401);
    let basic = server.request_with("GET", "/products", &[("authorization", "Basic dTpw")], None).await;
    assert_eq!((basic.status.as_u16(), basic.header("www-authenticate")), (401, "Bearer"));
    for path in ["/", "/assets/app.js", "/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let nothing = bearer(&issuer.token(json!({})));
    let metrics = server.request_with("GET", "/metrics", &[("authorization", &nothing)], None).await;
    assert_eq!(metrics.status, 200, "a token that grants nothing shows the metrics");
}

#[tokio::test]
async fn garbage_is_refused() {
    let (server, issuer) = guarded(&[]).await;
    let good = issuer.granting(everything());
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let (first, rest) = signature.split_at(1);
    let changed = format!("{}{rest}", if first == "A" { "B" } else { "A" });
    for garbage in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        "\u{7f}".to_owned().replace('\u{7f}', "%00"),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{claims}.{changed}"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{}", &signature[1..]),
        format!("{claims}.{header}.{signature}"),
        format!("{} {good}", "x"),
    ] {
        let reply = get(&server, &garbage).await;
        assert_eq!(reply.status, 401, "{garbage:?}: {reply:?}");
    }
    assert_eq!(get(&server, &good).await.status, 404);
}

#[tokio::test]
async fn a_huge_token_is_refused() {
    let (server, issuer) = guarded(&[]).await;
    let ids: Vec<u64> = (0..).step_by(2).take(2000).collect();
    let huge = issuer.granting(json!({"read": ids}));
    assert!(huge.len() > 8192);
    is_refused(&get(&server, &huge).await, "longer than 8192 bytes");
    is_refused(&get(&server, &"x".repeat(15_000)).await, "longer than 8192 bytes");
    assert_eq!(get(&server, &"x".repeat(100_000)).await.status, 431, "no header is that long");
    let ids: Vec<u64> = (0..).step_by(2).take(1000).collect();
    let large = issuer.granting(json!({"read": ids}));
    assert_eq!(get(&server, &large).await.status, 403);
    let reply = server.request_with("GET", "/products/1998", &[("authorization", &bearer(&large))], None).await;
    assert_eq!(reply.status, 404, "what it grants may be read");
}

#[tokio::test]
async fn the_header_of_a_token_does_not_choose_the_algorithm() {
    let public = std::fs::read(key_file("rsa.pem")).unwrap();
    let server = TestServer::embedded(&["--cores", "1", "--jwt-key", &key_file("rsa.pem")]).await;
    let claims = json!({"exp": now().as_secs() + 3600, "rowcast": everything()});
    // The public key, which everybody has, as the secret of an HMAC.
    for secret in [&public[..], public.trim_ascii()] {
        is_refused(&get(&server, &Issuer::secret(secret).token(claims.clone())).await, "signature");
        let as_rsa = Issuer::secret(secret).token_with(json!({"alg": "RS256"}), claims.clone());
        is_refused(&get(&server, &as_rsa).await, "signature");
    }
    let rsa = Issuer::private("RS256");
    for algorithm in ["none", "None", "NONE", ""] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{signature}", unsigned(&json!({"alg": algorithm}), &claims));
            is_refused(&get(&server, &token).await, "not a JWT");
        }
    }
    for algorithm in ["PS256", "RS512", "HS256", "ES256", "EdDSA"] {
        is_refused(&get(&server, &rsa.token_with(json!({"alg": algorithm}), claims.clone())).await, "signature");
    }
    is_refused(&get(&server, &rsa.token_with(json!({"typ": "JWT"}), claims.clone())).await, "not a JWT");
    let critical = json!({"alg": "RS256", "crit": ["b64"], "b64": false});
    is_refused(&get(&server, &rsa.token_with(critical, claims.clone())).await, "not a JWT");
    // A key that the token brings along is not used.
    let other = Issuer::private("ES256");
    let own_key = json!({"alg": "ES256", "jwk": other.jwk(), "jku": "https://evil.example/keys"});
    is_refused(&get(&server, &other.token_with(own_key, claims.clone())).await, "signature");
    assert_eq!(get(&server, &rsa.token(claims)).await.status, 404);
}

#[tokio::test]
async fn what_a_token_says_of_itself_must_fit() {
    let (server, issuer) = guarded(&["--jwt-audience", "shop", "--jwt-issuer", "https://id.example"]).await;
    let seconds = now().as_secs();
    let with = |changes: Value| {
        let mut claims = json!({"aud": "shop", "iss": "https://id.example", "rowcast": everything()});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        issuer.token(claims)
    };
    for (changes, part) in [
        (json!({"aud": "other"}), "another audience"),
        (json!({"aud": ["a", "b"]}), "another audience"),
        (json!({"aud": null}), "another audience"),
        (json!({"aud": 7}), "another audience"),
        (json!({"iss": "https://evil.example"}), "another issuer"),
        (json!({"iss": null}), "another issuer"),
        (json!({"exp": seconds - 60}), "expired"),
        (json!({"exp": seconds}), "expired"),
        (json!({"exp": "never"}), "exp"),
        (json!({"exp": -1}), "exp"),
        (json!({"nbf": seconds + 60}), "not valid yet"),
        (json!({"nbf": "soon"}), "exp"),
        (json!({"rowcast": {"read": "all"}}), "the claim rowcast"),
        (json!({"rowcast": {"read": ["5-1"]}}), "the claim rowcast"),
        (json!({"rowcast": "*"}), "the claim rowcast"),
    ] {
        is_refused(&get(&server, &with(changes)).await, part);
    }
    for changes in [json!({}), json!({"aud": ["other", "shop"]}), json!({"nbf": seconds + 2}), json!({"sub": 7})] {
        assert_eq!(get(&server, &with(changes.clone())).await.status, 404, "{changes}");
    }
    let without_exp = issuer.token(json!({"aud": "shop", "iss": "https://id.example", "exp": null}));
    is_refused(&get(&server, &without_exp).await, "exp");
}

#[tokio::test]
async fn a_token_may_stand_in_three_places_and_is_the_same_in_all() {
    let (server, issuer) = guarded(&[]).await;
    let (good, other) = (issuer.granting(json!({"read": [1]})), issuer.granting(json!({"read": [2]})));
    let (header, protocol) = (bearer(&good), format!("rowcast, bearer.{good}"));
    let (other_header, other_protocol) = (bearer(&other), format!("bearer.{other}"));
    let query = |path: &str| format!("{path}?token={good}");
    let lower = format!("bearer  {good}");

    for (path, headers) in [
        ("/products/1".to_owned(), vec![authorization(&header)]),
        ("/products/1".to_owned(), vec![authorization(&lower)]),
        ("/products/1".to_owned(), vec![subprotocol(&protocol)]),
        (query("/products/1"), vec![]),
        (query("/products/1"), vec![authorization(&header), subprotocol(&protocol)]),
        (format!("/products/1?x=y&token={}", good.replace('.', "%2E")), vec![]),
    ] {
        let reply = server.request_with("GET", &path, &headers, None).await;
        assert_eq!(reply.status, 404, "{path} {headers:?}: {reply:?}");
        let (mut socket, _) =
            Socket::connect_with(server.address, &path.replace("/products/1", "/websocket"), &headers).await;
        socket.subscribe([1]).await;
    }
    assert_eq!(server.get(&format!("{}&limit=5", query("/products"))).await.status, 200);

    for (path, headers) in [
        (query("/products/1"), vec![authorization(&other_header)]),
        (query("/products/1"), vec![subprotocol(&other_protocol)]),
        (format!("{}&token={other}", query("/products/1")), vec![]),
        ("/products/1".to_owned(), vec![authorization(&header), subprotocol(&other_protocol)]),
        ("/products/1".to_owned(), vec![authorization(&header), authorization(&other_header)]),
        ("/products/1".to_owned(), vec![subprotocol(&protocol), subprotocol(&other_protocol)]),
    ] {
        let rest = server.request_with("GET", &path, &headers, None).await;
        let handshake = server.refused_handshake(&path.replace("/products/1", "/websocket"), &headers).await;
        for reply in [rest, handshake] {
            assert_eq!(reply.status, 400, "{path} {headers:?}: {reply:?}");
            assert_eq!(reply.header("www-authenticate"), r#"Bearer error="invalid_request""#);
        }
    }
    is_refused(&server.get("/products/1?token=").await, "not a JWT");
}

#[tokio::test]
async fn a_handshake_is_refused_before_the_upgrade() {
    let (server, issuer) = guarded(&[]).await;
    let expired = issuer.token(json!({"exp": now().as_secs() - 1, "rowcast": everything()}));
    is_refused(&server.refused_handshake(&format!("/websocket?token={expired}"), &[]).await, "expired");
    is_refused(&server.refused_handshake("/websocket", &[("authorization", "Bearer x")]).await, "not a JWT");
    let protocol = format!("rowcast, bearer.{expired}");
    is_refused(&server.refused_handshake("/websocket", &[("sec-websocket-protocol", &protocol)]).await, "expired");
}

#[tokio::test]
async fn the_subprotocol_that_is_answered_is_one_that_was_offered() {
    let (server, issuer) = guarded(&[]).await;
    let token = issuer.granting(json!({"read": "*"}));
    for (offered, chosen) in [
        (format!("rowcast, bearer.{token}"), "rowcast".to_owned()),
        (format!("bearer.{token},x , rowcast"), "rowcast".to_owned()),
        (format!("bearer.{token}"), format!("bearer.{token}")),
        (format!("graphql-ws, bearer.{token}"), format!("bearer.{token}")),
    ] {
        let headers = [("sec-websocket-protocol", &offered[..])];
        let (mut socket, found) = Socket::connect_with(server.address, "/websocket", &headers).await;
        assert_eq!(found, chosen);
        socket.subscribe([1]).await;
    }
    let open = TestServer::embedded(&["--cores", "1"]).await;
    for (offered, chosen) in [("rowcast", "rowcast"), ("bearer.x", "bearer.x"), ("graphql-ws", "")] {
        let headers = [("sec-websocket-protocol", offered)];
        assert_eq!(Socket::connect_with(open.address, "/websocket", &headers).await.1, chosen);
    }
}
