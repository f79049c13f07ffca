//! From the listening socket to requests: one acceptor for all cores, and what each core does with its sockets.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::preface::{self, Version};
use super::{Answer, Services, answer, finish, h2, metric_label, upgrade};
use crate::connection::admission::{CoreLoad, CountedSocket};
use crate::connection::{Connections, socket};
use crate::tls::{self, Tls};

/// How many accepted sockets may wait for their core; the acceptor waits then, and the kernel's backlog keeps the rest.
const SOCKETS_WAITING_MAX: usize = 1024;
/// How long a client has for the head of a request, and how long it may be silent between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the acceptor waits after the process ran out of file descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A socket on its way to a core.
#[derive(Debug)]
pub struct AcceptedSocket {
    stream: std::net::TcpStream,
    counted: CountedSocket,
}

/// The acceptor's way to one core.
#[derive(Debug)]
pub struct CoreDoor {
    load: CoreLoad,
    sockets: mpsc::Sender<AcceptedSocket>,
}

impl CoreDoor {
    /// A door, and where the sockets come out. The core takes them until the door is dropped.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<AcceptedSocket>) {
        let (sockets, accepted) = mpsc::channel(SOCKETS_WAITING_MAX);
        (Self { load: CoreLoad::default(), sockets }, accepted)
    }
}

/// Accepts sockets until `draining`, and hands each to the core that serves the fewest. Survives a lack of file
/// descriptors: what is open goes on, and what waits in the backlog is accepted when there are some.
pub async fn accept(listener: TcpListener, doors: Vec<CoreDoor>, draining: CancellationToken) {
    let mut short = false;
    while let Some(accepted) = draining.run_until_cancelled(listener.accept()).await {
        let result = match accepted {
            Ok((stream, _)) => hand_over(stream, &doors).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) if short => {
                short = false;
                info!("accepting again");
            }
            Ok(()) => {}
            Err(error) if is_of_the_peer(&error) => debug!(%error, "a socket ended before it was accepted"),
            Err(error) => {
                if !short {
                    short = true;
                    warn!(%error, "cannot accept sockets; raise the limit of open files if it is that");
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn hand_over(stream: TcpStream, doors: &[CoreDoor]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let door = doors.iter().min_by_key(|door| door.load.sockets()).expect("there is a core");
    let accepted = AcceptedSocket { stream: stream.into_std()?, counted: door.load.count() };
    // A core that has ended takes no more.
    let _ = door.sockets.send(accepted).await;
    Ok(())
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

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
    pub(super) address: Option<SocketAddr>,
    /// Whether nobody between can read what is sent.
    pub(super) is_secure: bool,
}

impl Peer {
    /// Whether a request or a WebSocket of its connection is being served.
    pub(super) fn is_busy(&self) -> bool {
        Rc::strong_count(&self.counted) > 1
    }
}

/// Serves the sockets of a core, each in a task of its own, until the acceptor ends.
pub async fn serve(core: CoreHttp, mut accepted: mpsc::Receiver<AcceptedSocket>) {
    while let Some(socket) = accepted.recv().await {
        let core = core.clone();
        let http = core.services.shutdown.http.clone();
        tokio::task::spawn_local(http.track_future(async move {
            if let Err(error) = serve_socket(core, socket).await {
                debug!(%error, "an HTTP connection ended early");
            }
        }));
    }
}

async fn serve_socket(core: CoreHttp, socket: AcceptedSocket) -> Result<(), Box<dyn std::error::Error>> {
    let counted = Rc::new(socket.counted);
    let stream = TcpStream::from_std(socket.stream)?;
    let address = stream.peer_addr().ok();
    let draining = core.services.shutdown.draining.clone();
    let Some(tls) = core.tls.clone() else {
        let looking = timeout(HEAD_TIMEOUT, preface::version(&stream));
        let version = match draining.run_until_cancelled(looking).await {
            Some(version) => version??,
            None => Version::Http1,
        };
        if version == Version::Http1 {
            return serve_http1(core, stream, counted).await;
        }
        socket::keep_fresh(&stream);
        serve_http2(&core, Peer { counted, address, is_secure: false }, stream);
        return Ok(());
    };
    let Some(accepted) = draining.run_until_cancelled(tls.accept(stream)).await else { return Ok(()) };
    let stream = accepted?;
    if stream.alpn_protocol() == Some(tls::ALPN_HTTP2) {
        socket::keep_fresh(stream.tcp());
        serve_http2(&core, Peer { counted, address, is_secure: true }, stream);
        return Ok(());
    }
    serve_http1(core, stream, counted).await
}

/// Serves an HTTP/2 connection in a task of its own, for which a stopping server waits only after the WebSockets on it.
fn serve_http2<S>(core: &CoreHttp, peer: Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let serving = h2::serve(core.clone(), peer, stream);
    tokio::task::spawn_local(core.carriers.track_future(async move {
        if let Err(error) = serving.await {
            debug!(%error, "an HTTP/2 connection ended early");
        }
    }));
}

async fn serve_http1(
    core: CoreHttp,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    counted: Rc<CountedSocket>,
) -> Result<(), Box<dyn std::error::Error>> {
    let draining = core.services.shutdown.draining.clone();
    let service = service_fn(|request| respond(&core, &counted, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = Box::pin(connection);
    if let Some(ended) = draining.run_until_cancelled(connection.as_mut()).await {
        return Ok(ended?);
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

async fn respond(
    core: &CoreHttp,
    counted: &Rc<CountedSocket>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let method = metric_label(request.method());
    let answer = if request.uri().path() == "/websocket" {
        upgrade::upgrade(&core.services, &core.connections, Rc::clone(counted), request)
            .unwrap_or_else(|problem| finish(problem.into()))
    } else {
        answer(&core.services, request).await
    };
    core.services.metrics.responded(method, answer.status().as_u16());
    Ok(answer)
}
