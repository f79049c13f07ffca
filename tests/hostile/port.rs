//! The address of strangers and of the good: a [`Port`] of the server, and the [`Line`]s to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::attacks::Dice;
use crate::support::server::Http;
use crate::support::socket::Socket;
use crate::support::tls::TlsClient;

/// A port of the server.
#[derive(Clone)]
pub(super) struct Port {
    pub(super) address: SocketAddr,
    pub(super) speaks: Speaks,
}

/// The protocol of a port.
#[derive(Clone)]
pub(super) enum Speaks {
    /// Just enough HTTP to send everybody on to https.
    Redirects,
    Http,
    /// HTTP over TLS, to this client.
    Tls(TlsClient),
}

impl Speaks {
    /// Returns its name in the count of visits.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Redirects => "redirect",
            Self::Http => "http",
            Self::Tls(_) => "https",
        }
    }
}

/// A connection, plain or under TLS.
pub(super) type Line = Box<dyn Stream>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Port {
    /// For a stranger: as the port expects it, TLS and all.
    pub(super) async fn connect(&self, dice: &mut Dice) -> io::Result<Line> {
        self.connect_as(b"http/1.1", dice).await
    }

    /// Likewise, for HTTP/2.
    pub(super) async fn connect_http2(&self, dice: &mut Dice) -> io::Result<Line> {
        self.connect_as(b"h2", dice).await
    }

    async fn connect_as(&self, protocol: &[u8], dice: &mut Dice) -> io::Result<Line> {
        let tcp = self.connect_tcp(dice).await?;
        let Speaks::Tls(client) = &self.speaks else { return Ok(tcp) };
        let mut client = client.clone();
        Arc::make_mut(&mut client.0).alpn_protocols = vec![protocol.to_vec()];
        let stream = client.over(tcp).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        Ok(Box::new(stream))
    }

    /// Without TLS, whatever the port speaks. It will end politely or with a reset.
    pub(super) async fn connect_tcp(&self, dice: &mut Dice) -> io::Result<Line> {
        let stream = TcpStream::connect(self.address).await?;
        if dice.below(2) == 0 {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(Box::new(stream))
    }

    /// Returns the first bytes of a client that means well.
    pub(super) fn client_hello(&self) -> Vec<u8> {
        let Speaks::Tls(client) = &self.speaks else { panic!("the port speaks no TLS") };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(&client.0), name).expect("a client");
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).expect("a vector takes it");
        hello
    }

    /// For the good: a connection for requests.
    pub(super) async fn http(&self) -> Http {
        match &self.speaks {
            Speaks::Tls(client) => Http::over(client.connect(self.address).await).await,
            _ => Http::connect(self.address).await,
        }
    }

    /// For the good: a WebSocket.
    pub(super) async fn socket(&self) -> Socket {
        match &self.speaks {
            Speaks::Tls(client) => Socket::over(client.connect(self.address).await).await,
            _ => Socket::connect(self.address).await,
        }
    }
}
