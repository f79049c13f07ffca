//! Every kind of key, and which tokens it is asked about.

use std::io::Write;

use serde_json::json;
use tempfile::NamedTempFile;

use super::tokens::{Issuer, bearer, everything, key_file};
use crate::support::server::TestServer;

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

async fn status(server: &TestServer, token: &str) -> u16 {
    let reply = server.request_with("GET", "/products", &[("authorization", &bearer(token))], None).await;
    reply.status.as_u16()
}

#[tokio::test]
async fn a_key_of_each_kind_lets_its_tokens_in_and_no_others() {
    let secret = b"a secret that has thirty-two bytes";
    let secret_file = file(&[&secret[..], b"\n"].concat());
    let issuers = [
        (secret_file.path().to_str().unwrap().to_owned(), Issuer::secret(secret)),
        (key_file("rsa.pem"), Issuer::private("RS256")),
        (key_file("p256.pem"), Issuer::private("ES256")),
        (key_file("p384.pem"), Issuer::private("ES384")),
        (key_file("ed25519.pem"), Issuer::private("EdDSA")),
    ];
    for (own, (path, _)) in issuers.iter().enumerate() {
        let server = TestServer::embedded(&["--cores", "1", "--jwt-key", path]).await;
        for (place, (_, issuer)) in issuers.iter().enumerate() {
            let expected = if place == own { 200 } else { 401 };
            assert_eq!(status(&server, &issuer.granting(everything())).await, expected, "{path}: {}", issuer.algorithm);
        }
    }
}

#[tokio::test]
async fn the_keys_of_a_set_are_chosen_by_kid() {
    let issuers = [
        ("h", Issuer::secret(&[7; 32])),
        ("r", Issuer::private("PS256")),
        ("e", Issuer::private("ES256")),
        ("f", Issuer::private("ES384")),
        ("d", Issuer::private("EdDSA")),
    ];
    let keys = issuers.iter().map(|(kid, issuer)| {
        let mut jwk = issuer.jwk();
        jwk["kid"] = json!(kid);
        jwk
    });
    let set = file(json!({"keys": keys.collect::<Vec<_>>()}).to_string().as_bytes());
    let server = TestServer::embedded(&["--cores", "1", "--jwt-key", set.path().to_str().unwrap()]).await;
    for (kid, issuer) in &issuers {
        for (named, expected) in [(*kid, 200), ("x", 401), ("", 401), (if *kid == "h" { "r" } else { "h" }, 401)] {
            let header = json!({"alg": issuer.algorithm, "kid": named});
            let token = issuer.token_with(header, json!({"rowcast": everything()}));
            assert_eq!(status(&server, &token).await, expected, "{} as {named:?}", issuer.algorithm);
        }
        assert_eq!(status(&server, &issuer.granting(everything())).await, 200, "{} without kid", issuer.algorithm);
    }
}

#[tokio::test]
async fn a_file_is_named_by_itself_and_a_single_one_by_whatever_the_token_says() {
    let issuer = Issuer::private("ES256");
    let named = |kid: &str| issuer.token_with(json!({"alg": "ES256", "kid": kid}), json!({"rowcast": everything()}));
    let (p256, rsa) = (key_file("p256.pem"), key_file("rsa.pem"));
    let both = TestServer::embedded(&["--cores", "1", "--jwt-key", &rsa, "--jwt-key", &p256]).await;
    for (kid, expected) in [("p256", 200), ("rsa", 401), ("p256.pem", 401), ("other", 401)] {
        assert_eq!(status(&both, &named(kid)).await, expected, "{kid}");
    }
    let single = TestServer::embedded(&["--cores", "1", "--jwt-key", &p256]).await;
    assert_eq!(status(&single, &named("other")).await, 200);
}
