//! Access: tokens, the keys that they are checked with, and the rights that they give. Pure: no HTTP, no clock.
//!
//! A token is a JWT (RFC 7519) in the compact form of a JWS (RFC 7515). Its `exp` is required, and its claim `rowcast`
//! lists its rights:
//!
//! ```json
//! {"exp": 1789000000, "rowcast": {"read": [1, 2, "100-199"], "write": false}}
//! ```
//!
//! No text that is made here contains any part of a token.

mod claims;
mod coverage;
mod current_keys;
mod grant;
mod key_file;
mod keys;
mod signatures;

pub use self::coverage::Coverage;
pub use self::current_keys::CurrentKeys;
pub use self::grant::{Grant, Run};
pub use self::key_file::KeyError;
pub use self::keys::{Expected, Keys, KeysError};

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The reason for which a token is not accepted. The sentences go into a quoted string of a header (RFC 6750, §3), so
/// they have neither quotes nor backslashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Above [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not a JWT, or one without a signature, or with an algorithm or an extension that is not known here.
    #[error("the token is not a JWT that is signed with an algorithm of this server")]
    Malformed,
    /// No key made the signature under the algorithm that the key is for.
    #[error("no key of this server has made the signature of the token")]
    Signature,
    /// After `exp`.
    #[error("the token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    NotYet,
    /// `aud` is not the value of `--jwt-audience`.
    #[error("the token is for another audience")]
    Audience,
    /// `iss` is not the value of `--jwt-issuer`.
    #[error("the token is from another issuer")]
    Issuer,
    /// A time is missing or is none.
    #[error("the token needs the claim exp, and exp and nbf are seconds since 1970")]
    Times,
    /// The claim `rowcast` cannot be read.
    #[error(
        "the claim rowcast has a member read, which is * or a list of product ids and of ranges such as 100-199, and a member write, which is true or false"
    )]
    Rights,
}
