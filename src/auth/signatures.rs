//! Signatures, which `jsonwebtoken` checks with `ring`, which TLS to a database already brings. Both back ends that the
//! crate has itself would add dozens of crates, or a second library of cryptography in C.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::hmac;
use ring::signature::{
    self as scheme, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static RING: CryptoProvider = CryptoProvider {
    // This server makes no tokens.
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |&algorithm, key| Ok(Box::new(Signature { algorithm, key: key.clone() })),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has every token of this process checked with `ring`. Doing it again does nothing.
pub(super) fn use_ring() {
    let _ = RING.install_default();
}

struct Signature {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Signature {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Signature {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.check(message, signature).ok_or_else(signature::Error::new)
    }
}

impl Signature {
    fn check(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        if self.key.family() != self.algorithm.family() {
            return None;
        }
        let key = match self.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => bytes,
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                return key.verify(rsa(self.algorithm)?, message, signature).ok();
            }
        };
        if self.algorithm == Algorithm::HS256 {
            return hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), message, signature).ok();
        }
        UnparsedPublicKey::new(public_key(self.algorithm)?, key).verify(message, signature).ok()
    }
}

fn public_key(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&scheme::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&scheme::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&scheme::ED25519),
        _ => rsa(algorithm).map(|rsa| rsa as &dyn VerificationAlgorithm),
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&scheme::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&scheme::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&scheme::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&scheme::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&scheme::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&scheme::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
