//! WebSockets on HTTP/2 (RFC 8441): from an extended CONNECT to a [`Connection`](crate::connection::Connection) on this
//! core, which then owns the stream.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::{Method, Request, Response, StatusCode};
use tracing::debug;

use super::super::listener::{CoreHttp, Peer};
use super::super::problem::Problem;
use super::super::{Services, access, no_such_path, upgrade};
use super::request;
use crate::auth::Grant;
use crate::transport::admission::Place;
use crate::transport::h2_stream::H2Stream;
use crate::wire::websocket::handshake::{self, HandshakeError};

/// What a WebSocket is opened with.
#[derive(Debug)]
pub(super) struct Admission {
    place: Place,
    grant: Option<Rc<Grant>>,
    subprotocol: Option<HeaderValue>,
}

/// Whether a request for a WebSocket from this address is let in, or why not.
pub(super) fn admit<B>(services: &Services, address: IpAddr, request: &Request<B>) -> Result<Admission, Problem> {
    let path = request.uri().path();
    if path != "/websocket" {
        return Err(no_such_path(path));
    }
    let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
    if protocol.is_none() && request.method() != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    access::require_origin(services, request)?;
    let grant = access::admit(services, request)?.into_grant();
    match protocol {
        Some("websocket") => handshake::accept_stream(request.headers())?,
        Some(_) => return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "the :protocol here is websocket")),
        None => return Err(HandshakeError::NotAnUpgrade.into()),
    }
    let subprotocol = access::subprotocol(request.headers());
    Ok(Admission { place: upgrade::admit(services, address)?, grant, subprotocol })
}

/// Accepts a WebSocket, and hands its stream to this core's connections.
pub(super) fn open(
    core: &CoreHttp,
    peer: Peer,
    admission: Admission,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let Admission { place, grant, subprotocol } = admission;
    let mut accepted = request::dated(Response::new(()));
    if let Some(subprotocol) = subprotocol {
        accepted.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    match respond.send_response(accepted, false) {
        Ok(stream) => {
            let socket = H2Stream::new(stream, request.into_body(), peer.socket);
            core.connections.open(socket.into(), &[], (place, peer.counted), grant);
        }
        Err(error) => debug!(%error, "a WebSocket ended in its handshake"),
    }
}
