//! Tokens as their issuers make them, and what is no token.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use ring::{hmac, signature};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::support::server::TestServer;

/// The file of a key in `tests/auth/keys`.
pub(crate) fn key_file(name: &str) -> String {
    format!("{}/tests/auth/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A maker of tokens: a private key, and the algorithm that its headers name.
pub(crate) struct Issuer {
    pub(super) algorithm: &'static str,
    key: SigningKey,
}

enum SigningKey {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

#[expect(clippy::needless_pass_by_value, reason = "claims are written where they are given")]
impl Issuer {
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self { algorithm: "HS256", key: SigningKey::Secret(secret.to_owned()) }
    }

    /// By the name of the key's file and the algorithm.
    pub(crate) fn private(algorithm: &'static str) -> Self {
        let der = |name: &str| PrivatePkcs8KeyDer::from_pem_file(key_file(name)).unwrap().secret_pkcs8_der().to_owned();
        let random = SystemRandom::new();
        let key = match algorithm {
            "RS256" => SigningKey::Rsa(RsaKeyPair::from_pkcs8(&der("rsa.key.pem")).unwrap(), &RSA_PKCS1_SHA256),
            "PS256" => SigningKey::Rsa(RsaKeyPair::from_pkcs8(&der("rsa.key.pem")).unwrap(), &RSA_PSS_SHA256),
            "ES256" => {
                let (scheme, der) = (&ECDSA_P256_SHA256_FIXED_SIGNING, der("p256.key.pem"));
                SigningKey::Ec(EcdsaKeyPair::from_pkcs8(scheme, &der, &random).unwrap())
            }
            "ES384" => {
                let (scheme, der) = (&ECDSA_P384_SHA384_FIXED_SIGNING, der("p384.key.pem"));
                SigningKey::Ec(EcdsaKeyPair::from_pkcs8(scheme, &der, &random).unwrap())
            }
            "EdDSA" => SigningKey::Ed(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der("ed25519.key.pem")).unwrap()),
            other => panic!("{other}"),
        };
        Self { algorithm, key }
    }

    /// This issuer's public key in a JWKS.
    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            SigningKey::Secret(secret) => json!({"kty": "oct", "k": text(secret)}),
            SigningKey::Rsa(key, _) => {
                let key: signature::RsaPublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "n": text(&key.n), "e": text(&key.e), "alg": self.algorithm})
            }
            SigningKey::Ec(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
            }
            SigningKey::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
        }
    }

    /// A token with these claims, valid for an hour unless they say otherwise.
    pub(crate) fn token(&self, claims: Value) -> String {
        self.token_with(json!({"alg": self.algorithm, "typ": "JWT"}), claims)
    }

    /// A token that grants this, for an hour.
    pub(crate) fn granting(&self, rowcast: Value) -> String {
        self.token(json!({"rowcast": rowcast}))
    }

    /// A token with this header.
    pub(super) fn token_with(&self, header: Value, mut claims: Value) -> String {
        if claims.get("exp").is_none() {
            claims["exp"] = json!(now().as_secs() + 3600);
        }
        let message = unsigned(&header, &claims);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            SigningKey::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_owned()
            }
            SigningKey::Rsa(key, scheme) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*scheme, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            SigningKey::Ec(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_owned(),
            SigningKey::Ed(key) => key.sign(message).as_ref().to_owned(),
        }
    }
}

/// The part of a token that is signed.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Everything may be read and written.
pub(crate) fn everything() -> Value {
    json!({"read": "*", "write": true})
}

/// A server that knows the Ed25519 key, and the issuer of its tokens.
pub(crate) async fn guarded(options: &[&str]) -> (TestServer, Issuer) {
    let file = key_file("ed25519.pem");
    let server = TestServer::embedded(&[&["--cores", "2", "--jwt-key", &file], options].concat()).await;
    (server, Issuer::private("EdDSA"))
}
