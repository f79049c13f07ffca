//! What a core answers requests with, and who asks.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::Services;
use crate::connection::Connections;
use crate::transport::admission::CountedSocket;
use crate::transport::tls::Tls;

/// What a core answers requests with.
#[derive(Clone)]
pub struct CoreHttp {
    /// What all cores share.
    pub services: Services,
    /// How sockets are encrypted, if they are.
    pub tls: Option<Arc<Tls>>,
    /// This core's WebSockets.
    pub connections: Rc<Connections>,
    /// This core's HTTP/2 connections, which carry WebSockets among others.
    pub carriers: TaskTracker,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its place in the core's count. Whatever the connection serves holds one of these too.
    pub(super) counted: Rc<CountedSocket>,
    /// By which it is counted.
    pub(super) address: IpAddr,
    /// What the log says.
    pub(super) socket: Option<SocketAddr>,
    /// Whether nobody between can read what is sent.
    pub(super) is_secure: bool,
}

impl Peer {
    /// Whether a request or a WebSocket of its connection is being served.
    pub(super) fn is_busy(&self) -> bool {
        Rc::strong_count(&self.counted) > 1
    }
}
