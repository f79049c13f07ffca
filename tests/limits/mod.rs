//! Every limit: a client that meets it is told so, it is counted, and nobody else is disturbed.

mod answers;
mod descriptors;
mod messages;
mod requests;
mod sockets;

use crate::support::server::TestServer;

/// The count of times that a limit was met.
async fn refused(server: &TestServer, limit: &str) -> u64 {
    server.metric(&format!("rowcast_refused_total{{limit=\"{limit}\"}}")).await
}
