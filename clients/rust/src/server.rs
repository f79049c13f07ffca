//! The way to a server: [`Server`].

use std::io;
use std::sync::Arc;

use hyper::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::Error;

/// A server, by its address.
#[derive(Clone, Debug)]
pub struct Server {
    host: String,
    port: u16,
    /// The path under which it is served, without a slash at its end.
    prefix: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A connection, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Server {
    /// Reads the address of a server: `ws://`, `wss://`, `http://` or `https://`, and the path under which it is served
    /// if that is not the root. Under TLS the certificates that the system trusts are, unless `tls` says otherwise; by
    /// ALPN that may offer HTTP/1.1 alone, or nothing.
    ///
    /// # Errors
    /// If it is no such address, or there are no certificates to trust.
    pub fn parse(url: &str, tls: Option<Arc<ClientConfig>>) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Address { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let (is_tls, port) = match uri.scheme_str() {
            Some("ws" | "http") => (false, 80),
            Some("wss" | "https") => (true, 443),
            _ => return Err(bad("begins with ws://, wss://, http:// or https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("names no host"))?.to_owned();
        let prefix = uri.path().trim_end_matches('/').trim_end_matches("/websocket").to_owned();
        let tls = if is_tls {
            let name = host.trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(name).map_err(|_| bad("no certificate names that host"))?;
            Some((tls.map_or_else(system_tls, Ok)?, name))
        } else {
            None
        };
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), prefix, tls })
    }

    /// Returns its host and port.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns the path of something that it serves.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.prefix)
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, Error> {
        let unreachable = |error: io::Error| Error::Unreachable { server: self.name(), reason: error.to_string() };
        let host = self.host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, self.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let Some((config, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
        // A certificate that is not trusted is no outage.
        let tls = tls.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Error::Tls { server: self.name(), reason: error.to_string() },
            _ => unreachable(error),
        })?;
        Ok(Box::new(tls))
    }
}

/// Returns a configuration that trusts the certificates that the system does.
fn system_tls() -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some of a system's many certificates may well be unreadable; none that can be read is an error.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::Roots(found.errors.first().map_or("there are none".to_owned(), ToString::to_string)));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of the default versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_its_page_or_as_its_websocket() {
        for (url, name, path) in [
            ("ws://127.0.0.1:8080", "127.0.0.1:8080", "/websocket"),
            ("http://localhost/", "localhost:80", "/websocket"),
            ("http://shop.example/live/", "shop.example:80", "/live/websocket"),
            ("ws://[::1]:9/websocket", "[::1]:9", "/websocket"),
        ] {
            let server = Server::parse(url, None).unwrap();
            assert_eq!((server.name(), server.path("websocket")), (name.to_owned(), path.to_owned()), "{url}");
        }
        for bad in ["127.0.0.1:8080", "ftp://a", "", "ws://", "ws:///websocket"] {
            assert!(matches!(Server::parse(bad, None), Err(Error::Address { .. })), "{bad}");
        }
    }
}
