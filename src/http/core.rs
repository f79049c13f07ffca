//! The means by which a core answers requests, and the peer that asks.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::Services;
use crate::connection::Connections;
use crate::transport::admission::CountedSocket;
use crate::transport::tls::Tls;

/// The means by which a core answers requests.
#[derive(Clone)]
pub struct CoreHttp {
    /// The parts that all cores share.
    pub services: Services,
    /// The encryption of sockets, if they are encrypted.
    pub tls: Option<Arc<Tls>>,
    /// This core's WebSockets.
    pub connections: Rc<Connections>,
    /// This core's HTTP/2 connections, which carry WebSockets among others.
    pub carriers: TaskTracker,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its place in the core's count. Whatever the connection serves holds one of these too.
    pub(super) counted: Rc<CountedSocket>,
    /// The address by which it is counted.
    pub(super) address: IpAddr,
    /// The address that the log shows.
    pub(super) socket: Option<SocketAddr>,
    /// True if nobody between can read what is sent.
    pub(super) is_secure: bool,
}

impl Peer {
    /// Returns true while a request or a WebSocket of its connection is being served.
    pub(super) fn is_busy(&self) -> bool {
        Rc::strong_count(&self.counted) > 1
    }
}
