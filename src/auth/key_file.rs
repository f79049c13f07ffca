//! Files of keys: a secret, a public key in PEM, or a set of keys in JSON, told apart by their content.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use memchr::memmem;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1};
use x509_cert::der::oid::db::rfc8410::ID_ED_25519;
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::pem::{self, Content};

/// The shortest secret: an HMAC's key has at least as many bytes as its hash (RFC 7518, §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The lengths of an RSA modulus: at least 2048 bits (RFC 7518, §3.3), and at most what ring checks signatures with.
const RSA_BYTES: RangeInclusive<usize> = 2048 / 8..=8192 / 8;

/// A key, and the one algorithm that it is for: the algorithm that a token names never decides the check.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The name that a token's `kid` is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyId {
    /// The `kid` in a set of keys.
    Given(String),
    /// A key without a `kid`: the name of its file, without the part after the last dot.
    File(String),
}

impl KeyId {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Given(name) | Self::File(name) => name,
        }
    }
}

/// The reason for which a file of keys cannot be used; its text names the remedy.
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
    /// The file holds nothing.
    #[error("the file is empty")]
    Empty,
    /// The key that makes tokens does not belong here.
    #[error("this is a private key; give the public one: openssl pkey -in PRIVATE.pem -pubout")]
    Private,
    /// The key of a certificate is wanted, without the rest of it.
    #[error("this is a certificate; give its public key: openssl x509 -in CERT.pem -pubkey -noout")]
    Certificate,
    /// A request for a certificate.
    #[error("this is a request for a certificate; give its public key: openssl req -in REQUEST.pem -pubkey -noout")]
    Request,
    /// A public key in the form that is RSA's own.
    #[error("this is a public key in PKCS #1; convert it: openssl rsa -RSAPublicKey_in -in KEY.pem -pubout")]
    Pkcs1,
    /// PEM, but of something else.
    #[error("this is PEM, but not of a public key; one begins with -----BEGIN PUBLIC KEY-----")]
    Pem,
    /// A public key that was cut off or changed.
    #[error("this public key is damaged (its base64 or its last line); get it again")]
    Damaged,
    /// A public key, but not one of those that are supported.
    #[error("this public key is none of RSA (2048 to 8192 bits), EC (P-256, P-384) and Ed25519")]
    Unsupported,
    /// A key in some form that would otherwise count as a secret, although everybody may know it.
    #[error(
        "this looks like a key in DER or OpenSSH form; give it in PEM: openssl pkey -pubin -inform DER -in KEY.der"
    )]
    NotPem,
    /// Likewise.
    #[error("this is text in UTF-16; save it in UTF-8")]
    Utf16,
    /// Not a set of keys.
    #[error("this is JSON, but not a set of keys (RFC 7517) such as {{\"keys\":[…]}}")]
    Set,
    /// A set of keys that are all of other kinds.
    #[error("no key of this set is for signatures with RSA (2048 to 8192 bits), EC (P-256, P-384), Ed25519 or HS256")]
    EmptySet,
}

/// Reads the keys in a file; at least one.
pub(super) fn read(path: &Path) -> Result<Vec<Key>, KeyError> {
    let content = pem::read(path)?;
    let id = KeyId::File(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    parse(&content, id)
}

fn parse(content: &[u8], file: KeyId) -> Result<Vec<Key>, KeyError> {
    let trimmed = content.trim_ascii();
    let (algorithm, decoding) = match Content::of(content) {
        Content::Other if trimmed.starts_with(b"{") => return key_set(trimmed, &file),
        Content::Other => secret(trimmed)?,
        Content::PublicKey => public_key(content)?,
        Content::PrivateKey | Content::EncryptedKey => return Err(KeyError::Private),
        Content::Certificate => return Err(KeyError::Certificate),
        Content::Request => return Err(KeyError::Request),
        Content::RsaPublicKey => return Err(KeyError::Pkcs1),
        Content::OtherPem => return Err(KeyError::Pem),
        Content::Der | Content::Pkcs12 => return Err(KeyError::NotPem),
        Content::Utf16 => return Err(KeyError::Utf16),
        Content::Nothing => return Err(KeyError::Empty),
    };
    Ok(vec![Key { id: file, algorithm, decoding }])
}

fn secret(text: &[u8]) -> Result<(Algorithm, DecodingKey), KeyError> {
    if [&b"ssh-"[..], b"ecdsa-"].iter().any(|start| text.starts_with(start)) {
        return Err(KeyError::NotPem);
    }
    // A PEM file that lost a line, say.
    if memmem::find(text, b"-----BEGIN").is_some() {
        return Err(KeyError::Pem);
    }
    if text.len() < SECRET_BYTES_MIN {
        return Err(KeyError::WeakSecret(text.len()));
    }
    Ok((Algorithm::HS256, DecodingKey::from_secret(text)))
}

fn public_key(pem: &[u8]) -> Result<(Algorithm, DecodingKey), KeyError> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::Damaged)?;
    of_info(&info).ok_or(KeyError::Unsupported)
}

/// Reads a `SubjectPublicKeyInfo` (RFC 5280, §4.1.2.7).
fn of_info(info: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    let info = SubjectPublicKeyInfoRef::from_der(info).ok()?;
    let (algorithm, key) = (info.algorithm, info.subject_public_key.as_bytes()?);
    let (algorithm, decoding) = match algorithm.oid {
        ID_ED_25519 => (Algorithm::EdDSA, DecodingKey::from_ed_der(key)),
        RSA_ENCRYPTION => (Algorithm::RS256, rsa(key)?),
        ID_EC_PUBLIC_KEY => match algorithm.parameters_oid().ok()? {
            SECP_256_R_1 => (Algorithm::ES256, DecodingKey::from_ec_der(key)),
            SECP_384_R_1 => (Algorithm::ES384, DecodingKey::from_ec_der(key)),
            _ => return None,
        },
        _ => return None,
    };
    is_sound(algorithm, &decoding).then_some((algorithm, decoding))
}

/// Reads an `RSAPublicKey`, its modulus and its exponent (RFC 8017, appendix A.1.1).
fn rsa(key: &[u8]) -> Option<DecodingKey> {
    let modulus_bytes = SliceReader::new(key).ok()?.sequence(|numbers| {
        let modulus = UintRef::decode(numbers)?;
        UintRef::decode(numbers)?;
        Ok(modulus.as_bytes().len())
    });
    let modulus_bytes = modulus_bytes.ok()?;
    RSA_BYTES.contains(&modulus_bytes).then(|| DecodingKey::from_rsa_der(key))
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

/// Returns the algorithm of a key: that of its kind; an RSA key, which several fit, may name one.
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
        (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => RSA_BYTES.contains(&n.len()),
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
        assert!(matches!(parsed(b" \n"), Err(KeyError::Empty)));
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
        assert!(matches!(parsed(pem("CERTIFICATE").as_bytes()), Err(KeyError::Certificate)));
        assert!(matches!(parsed(pem("CERTIFICATE REQUEST").as_bytes()), Err(KeyError::Request)));
        assert!(matches!(parsed(pem("RSA PUBLIC KEY").as_bytes()), Err(KeyError::Pkcs1)));
        assert!(matches!(parsed(pem("DH PARAMETERS").as_bytes()), Err(KeyError::Pem)));
        assert!(matches!(parsed(pem("PUBLIC KEY").as_bytes()), Err(KeyError::Unsupported)));
        assert!(matches!(parsed(pem("PUBLIC KEY").replace("AAAA", "!").as_bytes()), Err(KeyError::Damaged)));
        assert!(matches!(parsed(b"-----BEGIN PUBLIC KEY-----\nAAAA\n"), Err(KeyError::Damaged)));
        // A first line that is no longer one is no secret either.
        assert!(matches!(parsed(b"x -----BEGIN PUBLIC KEY----- and nothing else"), Err(KeyError::Pem)));
    }

    #[test]
    fn a_public_key_in_utf_16_is_no_secret() {
        let text = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        for content in [
            text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ] {
            assert!(matches!(parsed(&content), Err(KeyError::Utf16)));
        }
    }

    #[test]
    fn the_length_of_an_rsa_modulus_is_that_of_its_number() {
        // SEQUENCE { INTEGER modulus, INTEGER 65537 }, the modulus with the zero before a first bit that is set.
        let key = |bytes: u16| {
            let modulus = [&[0x02, 0x82][..], &(bytes + 1).to_be_bytes(), &[0, 0x80], &vec![7; usize::from(bytes) - 1]];
            let numbers = [&modulus.concat()[..], &[0x02, 0x03, 1, 0, 1]].concat();
            let length = u16::try_from(numbers.len()).unwrap();
            [&[0x30, 0x82][..], &length.to_be_bytes(), &numbers].concat()
        };
        for (bytes, is_taken) in [(255, false), (256, true), (1024, true), (1025, false)] {
            assert_eq!(rsa(&key(bytes)).is_some(), is_taken, "{bytes}");
        }
        assert!(rsa(&key(256)[..200]).is_none());
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
