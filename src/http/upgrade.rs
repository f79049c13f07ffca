//! `GET /websocket`: from a request to a [`Connection`](crate::connection::Connection) on this core.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use super::problem::Problem;
use super::{Answer, Services, access};
use crate::auth::Grant;
use crate::connection::{Admitted, Connections};
use crate::metrics::Limit;
use crate::transport::admission::{CountedSocket, Full, Place};
use crate::transport::socket::Socket;
use crate::transport::tls::TlsStream;
use crate::wire::websocket::handshake::{self, HandshakeError};

/// Accepts a WebSocket, if its sender may open one and there is room, and hands its socket to `connections` once the
/// answer is sent.
pub(super) fn upgrade(
    services: &Services,
    connections: &Rc<Connections>,
    (counted, address): (Rc<CountedSocket>, IpAddr),
    mut request: Request<Incoming>,
) -> Result<Answer, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    access::require_origin(services, &request)?;
    let grant = access::admit(services, &request)?.into_grant();
    let mut accepted = handshake::accept(&request).map_err(Problem::from)?;
    if let Some(subprotocol) = access::subprotocol(request.headers()) {
        accepted.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let place = admit(services, address)?;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let open = open(on_upgrade, Rc::clone(connections), (place, counted), grant);
    tokio::task::spawn_local(services.shutdown.http.track_future(open));
    Ok(accepted.map(|_| Bytes::new().into()))
}

/// A place for one more WebSocket from this address, if the server goes on and no limit is met.
pub(super) fn admit(services: &Services, address: IpAddr) -> Result<Place, Problem> {
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

async fn open(on_upgrade: OnUpgrade, connections: Rc<Connections>, admitted: Admitted, grant: Option<Rc<Grant>>) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!(%error, "a WebSocket ended in its handshake"),
    };
    let (socket, read) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(Parts { io, read_buf, .. }) => (Socket::from(io.into_inner()), read_buf),
        Err(upgraded) => match upgraded.downcast::<TokioIo<Box<TlsStream>>>() {
            Ok(Parts { io, read_buf, .. }) => (Socket::from(io.into_inner()), read_buf),
            Err(_) => unreachable!("the listener serves TCP, plain or under TLS"),
        },
    };
    connections.open(socket, &read, admitted, grant);
}

impl From<HandshakeError> for Problem {
    fn from(error: HandshakeError) -> Self {
        let problem = |status| Self::new(status, error.to_string());
        match error {
            HandshakeError::NotAnUpgrade => problem(StatusCode::UPGRADE_REQUIRED)
                .with_header(UPGRADE, HeaderValue::from_static("websocket"))
                .with_header(CONNECTION, HeaderValue::from_static("upgrade")),
            HandshakeError::Version => {
                problem(StatusCode::UPGRADE_REQUIRED).with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
            }
            HandshakeError::Key => problem(StatusCode::BAD_REQUEST),
        }
    }
}
