//! `GET /websocket`: from a request to a [`Connection`](crate::connection::Connection) on this core.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use super::access::{self, Access};
use super::core::{CoreHttp, Peer};
use super::problem::Problem;
use super::{Answer, Services};
use crate::auth::Grant;
use crate::connection::{Connections, HeldPlaces};
use crate::metrics::Limit;
use crate::transport::admission::{Full, Place};
use crate::transport::pace::PacedStream;
use crate::transport::socket::Socket;
use crate::transport::tls::TlsStream;
use crate::wire::websocket::handshake::{self, HandshakeError};

/// The detail for a handshake in HTTP/1.0, which has no upgrades (RFC 9110, §7.8): only proxies send one.
const OLD_HTTP: &str = "this came in HTTP/1.0, which cannot become a WebSocket: have the proxy in front pass it on in \
    HTTP/1.1 with its headers Upgrade and Connection (nginx: proxy_http_version 1.1; proxy_set_header Upgrade \
    $http_upgrade; proxy_set_header Connection \"upgrade\";)";

/// Accepts a WebSocket from a client that may open one, if there is room, and hands its socket to the core's
/// connections once the answer is sent.
pub(super) fn upgrade(core: &CoreHttp, peer: Peer, mut head: Request<()>, access: Access) -> Result<Answer, Problem> {
    let services = &core.services;
    if head.version() < Version::HTTP_11 {
        return Err(upgrade_required(OLD_HTTP));
    }
    let mut accepted = handshake::accept(&head).map_err(Problem::from)?;
    if let Some(subprotocol) = access::subprotocol(head.headers()) {
        accepted.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let place = take_place(services, peer.address)?;
    let on_upgrade = hyper::upgrade::on(&mut head);
    let open = open(on_upgrade, Rc::clone(&core.connections), (place, peer.counted), access.into_grant());
    tokio::task::spawn_local(services.shutdown.http.track_future(open));
    Ok(accepted.map(|_| Bytes::new().into()))
}

/// Takes a place for one more WebSocket from this address, if the server goes on and no limit is met.
pub(super) fn take_place(services: &Services, address: IpAddr) -> Result<Place, Problem> {
    if services.shutdown.draining.is_cancelled() {
        return Err(Problem::unavailable("the server stops; come back soon"));
    }
    if let Some(handshakes) = &services.admission.handshakes {
        handshakes.take(Instant::now()).map_err(|wait| {
            services.metrics.refused(Limit::Handshakes);
            let seconds = wait.as_secs() + 1;
            Problem::unavailable_for(seconds, "too many WebSockets open at this moment; come back later")
        })?;
    }
    services.admission.connections.enter(address).map_err(|full| match full {
        Full::InAll(max) => {
            services.metrics.refused(Limit::Connections);
            Problem::unavailable(format!("this server has the {max} WebSockets that it may have; come back later"))
        }
        Full::OfAddress(max) => {
            services.metrics.refused(Limit::ConnectionsPerAddress);
            Problem::unavailable(format!("your address has the {max} WebSockets that one may have; close one of them"))
        }
    })
}

async fn open(on_upgrade: OnUpgrade, connections: Rc<Connections>, places: HeldPlaces, grant: Option<Rc<Grant>>) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!(%error, "a WebSocket ended in its handshake"),
    };
    let (socket, read) = match upgraded.downcast::<TokioIo<PacedStream<TcpStream>>>() {
        Ok(Parts { io, read_buf, .. }) => (Socket::from(io.into_inner().into_inner()), read_buf),
        Err(upgraded) => match upgraded.downcast::<TokioIo<PacedStream<Box<TlsStream>>>>() {
            Ok(Parts { io, read_buf, .. }) => (Socket::from(io.into_inner().into_inner()), read_buf),
            Err(_) => unreachable!("the listener serves TCP, plain or under TLS"),
        },
    };
    connections.open(socket, &read, places, grant);
}

/// Makes a 426 (RFC 9110, §15.5.22).
fn upgrade_required(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
        .with_header(UPGRADE, HeaderValue::from_static("websocket"))
        .with_header(CONNECTION, HeaderValue::from_static("upgrade"))
}

impl From<HandshakeError> for Problem {
    fn from(error: HandshakeError) -> Self {
        let problem = |status| Self::new(status, error.to_string());
        match error {
            HandshakeError::NotAnUpgrade => upgrade_required(error.to_string()),
            HandshakeError::Version => {
                problem(StatusCode::UPGRADE_REQUIRED).with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
            }
            HandshakeError::Key => problem(StatusCode::BAD_REQUEST),
        }
    }
}
