//! `GET /websocket` and `GET /events`: from a request to a [`Connection`](crate::connection::Connection) on this core, which
//! then owns the socket.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Method, Request, StatusCode, Version};

use super::access::{self, Access};
use super::core::{CoreHttp, Peer};
use super::problem::Problem;
use super::{Answer, Services, events};
use crate::auth::Grant;
use crate::connection::{Connections, HeldPlaces};
use crate::metrics::Limit;
use crate::session::command::Command;
use crate::transport::admission::{Full, Place};
use crate::transport::socket::Socket;
use crate::wire::websocket::handshake::{self, HandshakeError};

/// The detail for a handshake in HTTP/1.0, which has no upgrades (RFC 9110, §7.8): only proxies send one.
const OLD_HTTP: &str = "this came in HTTP/1.0, which cannot become a WebSocket: have the proxy in front pass it on in \
    HTTP/1.1 with its headers Upgrade and Connection (nginx: proxy_http_version 1.1; proxy_set_header Upgrade \
    $http_upgrade; proxy_set_header Connection \"upgrade\";)";

/// What a request may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    WebSocket,
    EventStream,
}

/// A connection that may be opened, with its place.
pub(super) struct Opening {
    places: HeldPlaces,
    grant: Option<Arc<Grant>>,
    /// The first command of an event stream; none of a WebSocket.
    command: Option<Command>,
}

impl Opening {
    /// Takes a place for a WebSocket.
    ///
    /// # Errors
    /// 503.
    pub(super) fn of_websocket(services: &Services, peer: Peer, grant: Option<Arc<Grant>>) -> Result<Self, Problem> {
        Ok(Self { places: (take_place(services, peer.address)?, peer.counted), grant, command: None })
    }

    /// Returns whether it is an event stream, whose head nobody but the connection writes.
    pub(super) const fn is_event_stream(&self) -> bool {
        self.command.is_some()
    }

    /// Hands the socket to this core's connections, with the bytes that were read from it; an event stream begins with
    /// `head`.
    pub(super) fn begin(self, connections: &Rc<Connections>, socket: Socket, already_read: &[u8], head: Vec<u8>) {
        let Self { places, grant, command } = self;
        match command {
            None => connections.open(socket, already_read, places, grant),
            Some(command) => connections.open_events(socket, head, command, places, grant),
        }
    }
}

/// Answers a request that opens something, if its sender may and there is room, and puts into `opened` what its socket is
/// to become.
///
/// # Errors
/// The reason for the refusal.
pub(super) fn open(
    core: &CoreHttp,
    peer: Peer,
    (opens, head, access): (Opens, &Request<()>, Access),
    opened: &mut Option<Opening>,
) -> Result<Answer, Problem> {
    let services = &core.services;
    let (answer, command) = match opens {
        Opens::WebSocket => (accept_websocket(head)?, None),
        Opens::EventStream => {
            let command = events::command(services, head, &access, core.connections.limits().subscriptions_max)?;
            (events::answer(), Some(command))
        }
    };
    if head.method() == Method::HEAD {
        return Ok(answer);
    }
    let opening = Opening::of_websocket(services, peer, access.into_grant())?;
    *opened = Some(Opening { command, ..opening });
    Ok(answer)
}

/// Accepts a WebSocket on HTTP/1.1.
fn accept_websocket(head: &Request<()>) -> Result<Answer, Problem> {
    match head.version() {
        Version::HTTP_11 => {}
        Version::HTTP_2 => return Err(HandshakeError::NotAnUpgrade.into()),
        _ => return Err(upgrade_required(OLD_HTTP)),
    }
    let mut accepted = handshake::accept(head).map_err(Problem::from)?;
    if let Some(subprotocol) = access::subprotocol(head.headers()) {
        accepted.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    Ok(accepted.map(|_| Bytes::new().into()))
}

/// Takes a place for one more WebSocket or event stream from this address, if the server goes on and no limit is met.
fn take_place(services: &Services, address: IpAddr) -> Result<Place, Problem> {
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
