//! The keys of this server, and the tokens that one of them has signed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};

use super::claims::Claims;
use super::key_file::{self, Key, KeyError, KeyId};
use super::{Grant, TOKEN_BYTES_MAX, TokenError, signatures};

/// The keys that tokens are checked with.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<Key>,
    expected: Expected,
}

/// The claims that every token must have, where they are set.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// One of the token's `aud`.
    pub audience: Option<String>,
    /// The token's `iss`.
    pub issuer: Option<String>,
}

/// A file of keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Its content.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: KeyError,
    },
    /// Two keys for the same tokens.
    #[error("two keys are named {0:?}; a token's kid could not choose between them")]
    Twice(String),
}

impl Keys {
    /// Reads the keys in these files.
    ///
    /// # Errors
    /// A sentence for the user, which shows nothing of a key.
    pub fn read(paths: &[impl AsRef<Path>], expected: Expected) -> Result<Self, KeysError> {
        signatures::use_ring();
        let mut keys: Vec<Key> = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            let read = key_file::read(path).map_err(|error| KeysError::File { path: path.to_owned(), error })?;
            for key in read {
                let is_same = |other: &&Key| other.id.name() == key.id.name() && other.algorithm == key.algorithm;
                if let Some(other) = keys.iter().find(is_same) {
                    return Err(KeysError::Twice(other.id.name().to_owned()));
                }
                keys.push(key);
            }
        }
        Ok(Self { keys, expected })
    }

    /// Returns the grant of a token at `now`, since 1970.
    ///
    /// # Errors
    /// The reason for which it is not accepted.
    pub fn verify(&self, token: &str, now: Duration) -> Result<Grant, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        // `none` and other algorithms that are not known end here.
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            // Extensions that must be understood (RFC 7515, §4.1.11), and none is.
            return Err(TokenError::Malformed);
        }
        for key in self.candidates(&header) {
            match self.claims(token, key) {
                Ok(claims) => return claims.grant(now),
                Err(TokenError::Signature) => {}
                Err(error) => return Err(error),
            }
        }
        Err(TokenError::Signature)
    }

    /// Returns the keys that may have signed a token: those that its `kid` names, or all where it has none; and of
    /// these the ones for its algorithm. A single key that has no `kid` of its own is one whatever the token calls it.
    fn candidates(&self, header: &Header) -> impl Iterator<Item = &Key> {
        let is_only = matches!(&self.keys[..], [Key { id: KeyId::File(_), .. }]);
        self.keys.iter().filter(move |key| {
            let is_named = header.kid.as_deref().is_none_or(|kid| kid == key.id.name());
            key.algorithm == header.alg && (is_named || is_only)
        })
    }

    /// Returns the claims of a token that this key has signed.
    fn claims(&self, token: &str, key: &Key) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(key.algorithm);
        // The times are checked with the claims, under the clock that the caller reads.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = self.expected.audience.is_some();
        if let Some(audience) = &self.expected.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &self.expected.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        let decoded = decode::<Claims>(token, &key.decoding, &validation);
        decoded.map(|token| token.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
            ErrorKind::InvalidAudience => TokenError::Audience,
            ErrorKind::InvalidIssuer => TokenError::Issuer,
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::Audience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
            _ => TokenError::Malformed,
        })
    }
}
