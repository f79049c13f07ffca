//! The options that say who may use the server: tokens and origins.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::ConfigError;
use crate::auth::{CurrentKeys, Expected};
use crate::http::origin::AllowedOrigins;

/// The rules of access.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessArgs {
    /// Key that tokens are signed with: a secret for HS256 (at least 32 bytes), a public key in PEM (RSA, EC P-256 or
    /// P-384, Ed25519), or a JWKS. Of several (repeat it, or separate them by commas) a token's kid chooses: the kid in
    /// the JWKS, or the file's name without its extension. Read again when
    /// one changes, and on SIGHUP
    #[arg(long, env = "ROWCAST_JWT_KEY", value_name = "FILE", value_delimiter = ',')]
    jwt_key: Vec<PathBuf>,

    /// What a token must have in its claim aud
    #[arg(long, env = "ROWCAST_JWT_AUDIENCE", value_name = "AUDIENCE")]
    jwt_audience: Option<String>,

    /// What a token must have as its claim iss
    #[arg(long, env = "ROWCAST_JWT_ISSUER", value_name = "ISSUER")]
    jwt_issuer: Option<String>,

    /// Origin whose pages may use the server beside its own: a scheme, a host, and a port where it is not the usual one.
    /// null (sandboxed frames and local files, which any site can make) and file:// (some devices) are taken to the letter,
    /// * is every origin. Several: repeat it, or separate them by commas
    #[arg(long, env = "ROWCAST_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allowed_origin: Vec<String>,
}

impl AccessArgs {
    pub(super) fn keys(&self) -> Result<Option<Arc<CurrentKeys>>, ConfigError> {
        let expected = Expected { audience: self.jwt_audience.clone(), issuer: self.jwt_issuer.clone() };
        if !self.jwt_key.is_empty() {
            return Ok(Some(Arc::new(CurrentKeys::read(self.jwt_key.clone(), expected)?)));
        }
        match (expected.audience, expected.issuer) {
            (None, None) => Ok(None),
            (Some(_), _) => Err(ConfigError::NoKeys("--jwt-audience")),
            (None, Some(_)) => Err(ConfigError::NoKeys("--jwt-issuer")),
        }
    }

    pub(super) fn origins(self) -> Result<AllowedOrigins, ConfigError> {
        AllowedOrigins::new(self.allowed_origin).map_err(ConfigError::Origin)
    }
}
