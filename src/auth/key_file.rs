//! Files of keys: a secret, a public key in PEM, or a set of keys in JSON. What is in the file says which of them it is.

use std::io;
use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// The shortest secret: an HMAC's key has at least as many bytes as its hash (RFC 7518, §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The shortest RSA modulus (RFC 7518, §3.3).
const RSA_BYTES_MIN: usize = 2048 / 8;

/// A key, and the one algorithm that it is for: what a token says of its algorithm never chooses how it is checked.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// What a token's `kid` is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyId {
    /// The `kid` in a set of keys.
    Given(String),
    /// A key without a `kid`: the name of its file, without what follows the last dot.
    File(String),
}

impl KeyId {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Given(name) | Self::File(name) => name,
        }
    }
}

/// Why a file of keys cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A secret that can be guessed.
    #[error(
        "a secret has at least {SECRET_BYTES_MIN} bytes, and this one has {0}; make one with: openssl rand -base64 48"
    )]
    WeakSecret(usize),
    /// The key that makes tokens does not belong here.
    #[error("this is a private key; give the public one: openssl pkey -in PRIVATE.pem -pubout")]
    Private,
    /// PEM, but of something else.
    #[error(
        "no public key in PEM; of a certificate, make one with: openssl x509 -in CERT.pem -pubkey -noout, of a PKCS #1 key with: openssl rsa -RSAPublicKey_in -in KEY.pem -pubout"
    )]
    Pem,
    /// A public key, but not one of those that are supported.
    #[error("this public key is none of RSA (2048 to 8192 bits), EC (P-256, P-384) and Ed25519")]
    Unsupported,
    /// A key in some form that would otherwise count as a secret, although everybody may know it.
    #[error(
        "this looks like a key in DER or OpenSSH form; give it in PEM: openssl pkey -pubin -inform DER -in KEY.der"
    )]
    NotPem,
    /// Not a set of keys.
    #[error("this is JSON, but not a set of keys (RFC 7517) such as {{\"keys\":[…]}}")]
    Set,
    /// A set of keys that are all of other kinds.
    #[error("no key of this set is for signatures with RSA (2048 to 8192 bits), EC (P-256, P-384), Ed25519 or HS256")]
    EmptySet,
}

/// The keys in a file; at least one.
pub(super) fn read(path: &Path) -> Result<Vec<Key>, KeyError> {
    let content = std::fs::read(path)?;
    let id = KeyId::File(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    parse(&content, id)
}

fn parse(content: &[u8], file: KeyId) -> Result<Vec<Key>, KeyError> {
    let trimmed = content.trim_ascii();
    if trimmed.first() == Some(&b'{') {
        return key_set(trimmed, &file);
    }
    let (algorithm, decoding) =
        if has(content, b"-----BEGIN") { public_key(content)? } else { secret(trimmed, content)? };
    Ok(vec![Key { id: file, algorithm, decoding }])
}

fn has(content: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(content, part).is_some()
}

fn secret(trimmed: &[u8], content: &[u8]) -> Result<(Algorithm, DecodingKey), KeyError> {
    let is_openssh = [&b"ssh-"[..], b"ecdsa-"].iter().any(|start| trimmed.starts_with(start));
    if is_openssh || is_der(content) {
        return Err(KeyError::NotPem);
    }
    if trimmed.len() < SECRET_BYTES_MIN {
        return Err(KeyError::WeakSecret(trimmed.len()));
    }
    Ok((Algorithm::HS256, DecodingKey::from_secret(trimmed)))
}

/// Whether this is one DER sequence, as keys and certificates are: its length is that of the file.
fn is_der(content: &[u8]) -> bool {
    let (length, rest) = match *content {
        [0x30, 0x81, length, ref rest @ ..] | [0x30, length @ ..=0x7F, ref rest @ ..] => (u16::from(length), rest),
        [0x30, 0x82, high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
        _ => return false,
    };
    usize::from(length) == rest.len()
}

fn public_key(pem: &[u8]) -> Result<(Algorithm, DecodingKey), KeyError> {
    if has(pem, b"PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)?;
    of_info(&info).ok_or(KeyError::Unsupported)
}

/// Reads a `SubjectPublicKeyInfo` (RFC 5280, §4.1.2.7). Of the kinds that are supported, all but the length of an RSA
/// key stands before the key byte for byte (RFC 8410, §4; RFC 5480, §2.1.1; RFC 3279, §2.3.1).
fn of_info(info: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    const P256: &[u8] =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
    const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    if let Some(key) = info.strip_prefix(ED25519) {
        return Some((Algorithm::EdDSA, DecodingKey::from_ed_der(key)));
    }
    if let Some(key) = info.strip_prefix(P256) {
        return Some((Algorithm::ES256, DecodingKey::from_ec_der(key)));
    }
    if let Some(key) = info.strip_prefix(P384) {
        return Some((Algorithm::ES384, DecodingKey::from_ec_der(key)));
    }
    // A length in one byte is that of a modulus below 2048 bits.
    let [0x30, 0x82, _, _, rest @ ..] = info else { return None };
    let [0x03, 0x82, _, _, 0x00, key @ ..] = rest.strip_prefix(RSA)? else { return None };
    (key.len() > RSA_BYTES_MIN).then(|| (Algorithm::RS256, DecodingKey::from_rsa_der(key)))
}

/// Takes the keys of a set that are for signatures and supported; providers of identities have others in theirs.
fn key_set(json: &[u8], file: &KeyId) -> Result<Vec<Key>, KeyError> {
    let set: JwkSet = serde_json::from_slice(json).map_err(|_| KeyError::Set)?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let Some(algorithm) = algorithm_of(jwk) else { continue };
        let Some(decoding) = DecodingKey::from_jwk(jwk).ok().filter(|key| is_sound(algorithm, key)) else { continue };
        if let (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) = (algorithm, decoding.kind())
            && secret.len() < SECRET_BYTES_MIN
        {
            return Err(KeyError::WeakSecret(secret.len()));
        }
        let id = jwk.common.key_id.clone().map_or_else(|| file.clone(), KeyId::Given);
        keys.push(Key { id, algorithm, decoding });
    }
    if keys.is_empty() { Err(KeyError::EmptySet) } else { Ok(keys) }
}

/// The algorithm of a key: that of its kind; an RSA key, which several fit, may name one.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let named = jwk.common.key_algorithm.map(Algorithm::try_from).transpose().ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {
            let named = named.unwrap_or(Algorithm::RS256);
            return (named.family() == AlgorithmFamily::Rsa).then_some(named);
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Algorithm::ES384,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        _ => return None,
    };
    named.is_none_or(|named| named == algorithm).then_some(algorithm)
}

fn is_sound(algorithm: Algorithm, key: &DecodingKey) -> bool {
    match (algorithm, key.kind()) {
        (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => n.len() >= RSA_BYTES_MIN,
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => point.len() == 1 + 2 * 32,
        (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => point.len() == 1 + 2 * 48,
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => key.len() == 32,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(content: &[u8]) -> Result<Vec<Key>, KeyError> {
        parse(content, KeyId::File("file".into()))
    }

    #[test]
    fn a_secret_is_long_enough_and_no_key_of_another_form() {
        let secret = [b'x'; 32];
        assert_eq!(parsed(&secret).unwrap()[0].algorithm, Algorithm::HS256);
        assert_eq!(parsed(&[&secret[..], b"\n"].concat()).unwrap()[0].decoding.try_get_as_bytes().unwrap(), secret);
        assert!(matches!(parsed(&secret[1..]), Err(KeyError::WeakSecret(31))));
        assert!(matches!(parsed(&[&secret[1..], b"\r\n\n "].concat()), Err(KeyError::WeakSecret(31))));
        assert!(matches!(parsed(b""), Err(KeyError::WeakSecret(0))));
        for known in [
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxpa2UgYSBzZWNyZXQ".to_vec(),
            [&[0x30, 42][..], &[7; 42]].concat(),
            [&[0x30, 0x81, 200][..], &[7; 200]].concat(),
            [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat(),
        ] {
            assert!(matches!(parsed(&known), Err(KeyError::NotPem)));
        }
    }

    #[test]
    fn what_is_no_public_key_is_named() {
        let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert!(matches!(parsed(pem(label).as_bytes()), Err(KeyError::Private)), "{label}");
        }
        for label in ["CERTIFICATE", "RSA PUBLIC KEY"] {
            assert!(matches!(parsed(pem(label).as_bytes()), Err(KeyError::Pem)), "{label}");
        }
        assert!(matches!(parsed(pem("PUBLIC KEY").as_bytes()), Err(KeyError::Unsupported)));
        assert!(matches!(parsed(b"-----BEGIN PUBLIC KEY-----\n!"), Err(KeyError::Pem)));
    }

    #[test]
    fn of_a_set_the_usable_keys_are_taken() {
        let point = "A".repeat(43);
        let json = format!(
            r#"{{"keys":[
              {{"kty":"OKP","crv":"Ed25519","x":"{point}","kid":"a"}},
              {{"kty":"EC","crv":"P-256","x":"{point}","y":"{point}"}},
              {{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA","kid":"short"}},
              {{"kty":"EC","crv":"P-256","x":"{point}","y":"{point}","alg":"ES384","kid":"contradiction"}},
              {{"kty":"EC","crv":"secp256k1","x":"{point}","y":"{point}","kid":"curve"}},
              {{"kty":"RSA","n":"AAAA","e":"AQAB","kid":"weak"}},
              {{"kty":"RSA","n":"{modulus}","e":"AQAB","alg":"PS384","kid":"b"}},
              {{"kty":"RSA","n":"{modulus}","e":"AQAB","use":"enc","kid":"encryption"}},
              {{"kty":"RSA","n":"{modulus}","e":"AQAB","alg":"HS256","kid":"confusion"}},
              {{"kty":"oct","k":"{point}","kid":"c"}}
            ]}}"#,
            modulus = "A".repeat(342)
        );
        let keys: Vec<_> =
            parsed(json.as_bytes()).unwrap().into_iter().map(|key| (key.id.name().to_owned(), key.algorithm)).collect();
        let expected =
            [("a", Algorithm::EdDSA), ("file", Algorithm::ES256), ("b", Algorithm::PS384), ("c", Algorithm::HS256)];
        assert_eq!(keys, expected.map(|(name, algorithm)| (name.to_owned(), algorithm)));
    }

    #[test]
    fn a_set_without_a_usable_key_is_refused() {
        for json in ["{", "{}", r#"{"keys":7}"#, r#"{"kty":"oct"}"#] {
            assert!(matches!(parsed(json.as_bytes()), Err(KeyError::Set)), "{json}");
        }
        assert!(matches!(parsed(br#" {"keys":[]}"#), Err(KeyError::EmptySet)));
        assert!(matches!(parsed(br#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#), Err(KeyError::WeakSecret(5))));
    }
}
