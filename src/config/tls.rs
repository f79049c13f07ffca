//! The options of HTTPS.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::serve::socket_address;
use super::{ConfigError, TlsConfig};
use crate::transport::tls::TlsFiles;

/// HTTPS, if it is spoken.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTPS")]
pub(super) struct TlsArgs {
    /// Certificate (PEM), followed by its issuers': serve https and wss. Read again when it changes, and on SIGHUP
    #[arg(long, env = "ROWCAST_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, env = "ROWCAST_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Seconds that a client has for its TLS handshake
    #[arg(long, env = "ROWCAST_TLS_HANDSHAKE_SECONDS", value_name = "N", default_value = "10")]
    tls_handshake_seconds: NonZeroU16,

    /// Listen here too, without TLS, and send every request on to https
    #[arg(long, env = "ROWCAST_REDIRECT_LISTEN", value_name = "ADDRESS:PORT", requires = "tls_cert")]
    redirect_listen: Option<String>,
}

impl TlsArgs {
    pub(super) fn into_config(self) -> Result<Option<TlsConfig>, ConfigError> {
        let (Some(certificate), Some(key)) = (self.tls_cert, self.tls_key) else { return Ok(None) };
        let redirect = |text: String| socket_address(&text).ok_or(ConfigError::RedirectListen(text));
        Ok(Some(TlsConfig {
            files: TlsFiles { certificate, key },
            handshake_timeout: Duration::from_secs(self.tls_handshake_seconds.get().into()),
            redirect_listen: self.redirect_listen.map(redirect).transpose()?,
        }))
    }
}
