//! WebSockets on HTTP/2 (RFC 8441): from an extended CONNECT to a [`Connection`](crate::connection::Connection) on this
//! core, which then owns the stream.

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::{Request, Response, StatusCode};
use tracing::debug;

use super::super::core::{CoreHttp, Peer};
use super::super::opening::Opening;
use super::super::problem::Problem;
use super::super::{Services, access, routes};
use super::request;
use crate::transport::h2_stream::H2Stream;
use crate::wire::websocket::handshake;

/// The parts of a WebSocket's opening.
pub(super) struct Accepted {
    opening: Opening,
    subprotocol: Option<HeaderValue>,
}

/// Accepts an extended CONNECT from this peer, if its sender may open a WebSocket and there is room.
///
/// # Errors
/// The reason for the refusal.
pub(super) fn accept<B>(services: &Services, peer: Peer, request: &Request<B>) -> Result<Accepted, Problem> {
    let grant = routes::find_websocket(services, request)?.into_grant();
    if request.extensions().get::<Protocol>().is_none_or(|protocol| protocol.as_str() != "websocket") {
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "the :protocol here is websocket"));
    }
    handshake::accept_stream(request.headers())?;
    let subprotocol = access::subprotocol(request.headers());
    Ok(Accepted { opening: Opening::of_websocket(services, peer, grant)?, subprotocol })
}

/// Answers that a WebSocket is accepted, and hands its stream to this core's connections.
pub(super) fn open(
    core: &CoreHttp,
    peer: &Peer,
    accepted: Accepted,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let Accepted { opening, subprotocol } = accepted;
    let mut answer = request::dated(Response::new(()));
    if let Some(subprotocol) = subprotocol {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    match respond.send_response(answer, false) {
        Ok(stream) => {
            let socket = H2Stream::new(stream, request.into_body(), peer.socket);
            opening.begin(&core.connections, socket.into(), &[], Vec::new());
        }
        Err(error) => debug!(%error, "a WebSocket ended in its handshake"),
    }
}
