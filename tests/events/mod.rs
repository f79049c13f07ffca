//! `GET /events`: Server-Sent Events over HTTP/1 and HTTP/2.

mod curl;
mod ending;
mod heartbeat;
mod reading;
mod refusals;
mod slow;
mod sockets;

use crate::support::events::EventReader;
use crate::support::http2::Http2;
use crate::support::server::TestServer;

/// A reader over this version of HTTP.
async fn reader(server: &TestServer, version: u8, path: &str) -> EventReader {
    match version {
        1 => EventReader::connect(server.address, path).await,
        _ => EventReader::on(&mut Http2::connect(server.address).await, path, &[]).await,
    }
}

/// One reader over each version of HTTP.
async fn readers(server: &TestServer, path: &str) -> [EventReader; 2] {
    [reader(server, 1, path).await, reader(server, 2, path).await]
}
