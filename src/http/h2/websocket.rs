//! WebSockets on HTTP/2 (RFC 8441): from an extended CONNECT to a [`Connection`](crate::connection::Connection) on this
//! core, which then owns the stream.

use std::net::IpAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use hyper::{Method, Request, Response, StatusCode};
use tracing::debug;

use super::super::listener::{CoreHttp, Peer};
use super::super::problem::Problem;
use super::super::{Services, no_such_path, upgrade};
use super::request;
use crate::connection::admission::Place;
use crate::connection::h2_socket::H2Socket;
use crate::websocket::handshake::{self, HandshakeError};

/// A place for the WebSocket that a request asks for from this address, or why there is none.
pub(super) fn admit<B>(services: &Services, address: IpAddr, request: &Request<B>) -> Result<Place, Problem> {
    let path = request.uri().path();
    if path != "/websocket" {
        return Err(no_such_path(path));
    }
    match request.extensions().get::<Protocol>().map(Protocol::as_str) {
        Some("websocket") => handshake::accept_stream(request.headers())?,
        Some(_) => return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "the :protocol here is websocket")),
        None if request.method() == Method::GET => return Err(HandshakeError::NotAnUpgrade.into()),
        None => return Err(Problem::method_not_allowed("GET")),
    }
    upgrade::admit(services, address)
}

/// Accepts a WebSocket, and hands its stream to this core's connections.
pub(super) fn open(
    core: &CoreHttp,
    peer: Peer,
    place: Place,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    match respond.send_response(request::dated(Response::new(())), false) {
        Ok(stream) => {
            let socket = H2Socket::new(stream, request.into_body(), peer.socket);
            core.connections.open(socket.into(), &[], (place, peer.counted));
        }
        Err(error) => debug!(%error, "a WebSocket ended in its handshake"),
    }
}
