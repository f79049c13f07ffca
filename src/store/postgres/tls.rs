//! TLS towards Postgres, by libpq's `sslmode` (<https://www.postgresql.org/docs/15/libpq-ssl.html>).

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ConfigError;
use crate::transport::tls::{AnyNameVerifier, roots_in, system_roots};

/// The stream of a connection that may be encrypted.
pub(crate) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The extent to which the server's identity is verified; `prefer` falls back to plain text, the others after it do
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// Returns the mode for tokio-postgres: it asks for TLS or not, and insists or not.
    pub(super) const fn negotiation(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// The certificates to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(String),
}

impl Roots {
    /// Reads the value of `sslrootcert`.
    pub(super) fn parse(value: &str) -> Self {
        if value == "system" { Self::System } else { Self::File(value.to_owned()) }
    }

    fn load(&self) -> Result<RootCertStore, ConfigError> {
        let loaded = match self {
            Self::System => system_roots(),
            Self::File(path) => roots_in(Path::new(path)),
        };
        loaded.map_err(|reason| ConfigError::RootCertificates {
            path: match self {
                Self::System => "the system".to_owned(),
                Self::File(path) => path.clone(),
            },
            reason,
        })
    }
}

/// Returns the connector that opens the TLS of a connection in this mode.
pub(super) fn connector(mode: TlsMode, roots: &Roots) -> Result<MakeRustlsConnect, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of the default versions");
    let mut config = if mode == TlsMode::VerifyFull {
        builder.with_root_certificates(roots.load()?).with_no_client_auth()
    } else {
        let roots = if verifies_chain(mode, roots) { Some(roots.load()?) } else { None };
        let verifier = Arc::new(AnyNameVerifier::new(roots, provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    // The protocol that a server from 17 on asks for when TLS comes first:
    // https://www.postgresql.org/docs/17/protocol-flow.html
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// Returns true if the mode verifies the chain: `verify-ca` does, and so does `require` where certificates to trust are
/// given, as in libpq.
fn verifies_chain(mode: TlsMode, roots: &Roots) -> bool {
    mode == TlsMode::VerifyCa || mode == TlsMode::Require && matches!(roots, Roots::File(_))
}
