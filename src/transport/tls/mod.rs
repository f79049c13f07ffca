//! HTTPS: the certificate and its key ([`TlsFiles`]), the state that all handshakes share ([`Tls`]), and the encrypted
//! stream ([`TlsStream`]).
//!
//! The certificate is read again when its files change, and on SIGHUP. Open connections go on; a new certificate that
//! cannot be used is logged, and the old one kept.

mod any_name;
mod certificate;
mod client;
mod roots;
mod self_signed;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use self::any_name::AnyNameVerifier;
pub use self::certificate::{TlsError, TlsFiles};
pub use self::client::{Trust, client_config};
pub(crate) use self::roots::{roots_in, system_roots};
pub use self::self_signed::{SelfSignedError, write_self_signed};
pub use self::stream::TlsStream;
use crate::metrics::{Handshake, Metrics};
use crate::shutdown::Hangups;
use crate::watched_files::WatchedFiles;

/// The protocols on top of TLS, most preferred first (RFC 7301).
pub const ALPN_PROTOCOLS: &[&[u8]] = &[ALPN_HTTP2, b"http/1.1"];
/// HTTP/2 over TLS (RFC 9113, §3.2).
pub const ALPN_HTTP2: &[u8] = b"h2";
/// The bytes that a client gets in place of a handshake that there is no room for: the alert `internal_error` (RFC
/// 8446, §6.2), since TLS has no word for "come back later".
pub const NO_ROOM: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// The number of sessions remembered for clients of TLS 1.2 that take no tickets, some 300 bytes each; the oldest gives
/// way.
const SESSIONS_MAX: usize = 4096;

/// TLS as the server speaks it. Cheap to share; all cores have the same.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    watched: WatchedFiles,
    certificate: Arc<CurrentCertificate>,
    config: Arc<ServerConfig>,
    handshake_timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Tls {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// One sentence that names the fault and the file.
    ///
    /// # Panics
    /// Never: ring has cipher suites for both versions.
    pub fn load(files: TlsFiles, handshake_timeout: Duration, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let watched = WatchedFiles::new(vec![files.certificate.clone(), files.key.clone()]);
        let (certificate, ends_at) = files.load(SystemTime::now())?;
        metrics.tls.serves_until(ends_at);
        let certificate = Arc::new(CurrentCertificate(ArcSwap::new(certificate)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = ALPN_PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
        // Tickets are encrypted under keys that change every 6 hours and are kept nowhere else; the client keeps its
        // session.
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|_| TlsError::Random)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Self { files, watched, certificate, config: Arc::new(config), handshake_timeout, metrics })
    }

    /// Carries a handshake out, within its deadline.
    ///
    /// # Errors
    /// If the client breaks it, ends it, or takes too long.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Box<TlsStream>> {
        let accepted = timeout(self.handshake_timeout, TlsStream::accept(tcp, Arc::clone(&self.config))).await;
        let (outcome, result) = match accepted {
            Ok(Ok(stream)) if stream.is_resumed() => (Handshake::Resumed, Ok(stream)),
            Ok(Ok(stream)) => (Handshake::Full, Ok(stream)),
            Ok(Err(error)) => (Handshake::Failed, Err(error)),
            Err(_) => (Handshake::TooSlow, Err(io::ErrorKind::TimedOut.into())),
        };
        self.metrics.tls_handshake(outcome);
        result
    }

    /// Keeps the certificate fresh until `draining`: reads the files when they have changed, and on each of `hangups`.
    pub async fn keep_fresh(self: Arc<Self>, hangups: Hangups, draining: CancellationToken) {
        self.watched.clone().keep_fresh(hangups, draining, || self.reload()).await;
    }

    /// Reads the files, and serves the new certificate to clients that connect from here on.
    fn reload(&self) {
        let loaded = self.files.load(SystemTime::now());
        self.metrics.tls.certificate_reads.count(loaded.is_ok());
        match loaded {
            Ok((certificate, ends_at)) => {
                self.certificate.0.store(certificate);
                self.metrics.tls.serves_until(ends_at);
                info!("the TLS certificate was read again and is in use");
            }
            Err(error) => error!(%error, "the new TLS certificate cannot be used; the old one stays in use"),
        }
    }
}

/// The certificate of the next handshake.
#[derive(Debug)]
struct CurrentCertificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
