//! TLS as a client of servers like this one speaks it: [`client_config`].

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;

use super::any_name::AnyNameVerifier;
use super::roots::roots_in;

/// The certificates that a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those in this file (PEM), and what they have signed.
    File(&'a Path),
    /// Any.
    All,
}

/// Returns the configuration of a client that speaks HTTP/1.1 (RFC 7301).
///
/// # Errors
/// If there are no certificates to trust, the reason.
pub fn client_config(trust: Trust<'_>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of the default versions");
    let mut config = match trust {
        Trust::All => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyNameVerifier::new(None, provider)))
        }
        Trust::File(file) => builder.with_root_certificates(roots_in(file)?),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
