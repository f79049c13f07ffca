//! Certificates of our own, and clients that trust them, through an implementation of the client's side that is not ours.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rowcast::transport::tls::{TlsFiles, write_self_signed};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::patiently;

/// A certificate for this machine and its key, in a directory of their own.
pub(crate) struct Certificate {
    dir: TempDir,
    pub(crate) files: TlsFiles,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory is made");
        let files = write_self_signed(&["localhost".to_owned()], dir.path(), false).expect("a certificate is made");
        Self { dir, files }
    }

    /// The one that `rowcast cert` wrote below `dir`.
    pub(crate) fn of(dir: TempDir, files: &Path) -> Self {
        Self { dir, files: TlsFiles { certificate: files.join("cert.pem"), key: files.join("key.pem") } }
    }

    /// Puts another certificate, for the same name, in the place of this one.
    pub(crate) fn renew(&self) {
        write_self_signed(&["localhost".to_owned()], self.dir.path(), true).expect("a certificate is made");
    }

    /// The server's options that name it.
    pub(crate) fn options(&self) -> [&str; 4] {
        ["--tls-cert", text(&self.files.certificate), "--tls-key", text(&self.files.key)]
    }

    /// A client that trusts the certificate as it is now, and no other.
    pub(crate) fn client(&self) -> TlsClient {
        self.client_of(rustls::DEFAULT_VERSIONS)
    }

    /// Likewise, with these versions of TLS.
    pub(crate) fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.files.certificate).expect("PEM")).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring has these")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.enable_secret_extraction = true;
        TlsClient(Arc::new(config))
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

/// A client with a memory of its sessions; clones share it.
#[derive(Clone)]
pub(crate) struct TlsClient(pub(crate) Arc<ClientConfig>);

impl TlsClient {
    pub(crate) async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let tcp = patiently(TcpStream::connect(address)).await.expect("the server listens");
        tcp.set_nodelay(true).expect("a socket takes its options");
        self.over(tcp).await.expect("the handshake succeeds")
    }

    /// Asks for the certificate of a host.
    pub(crate) async fn connect_as(&self, host: &str, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let tcp = patiently(TcpStream::connect(address)).await.expect("the server listens");
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        patiently(TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp)).await
    }

    pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from("localhost").expect("a name");
        patiently(TlsConnector::from(Arc::clone(&self.0)).connect(name, stream)).await
    }

    /// The same client, without a memory of its sessions.
    pub(crate) fn without_sessions(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }
}
