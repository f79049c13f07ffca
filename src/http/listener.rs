//! From the listening socket to requests: one acceptor for all cores, and the work of each core on its sockets.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, info, warn};

use super::core::{CoreHttp, Peer};
use super::preface::{self, Version};
use super::problem::Problem;
use super::{Services, h1, h2};
use crate::metrics::{Limit, Metrics};
use crate::transport::admission::{CoreLoad, CountedSocket, Full, Place};
use crate::transport::socket;
use crate::transport::tls;

/// The most accepted sockets that wait for their core; the acceptor waits then, and the kernel's backlog keeps the
/// rest.
const SOCKETS_WAITING_MAX: usize = 1024;
/// The time that the acceptor waits after the process ran out of file descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A socket on its way to a core.
#[derive(Debug)]
pub struct AcceptedSocket {
    stream: std::net::TcpStream,
    address: IpAddr,
    counted: CountedSocket,
    /// Within the bound on sockets that are not WebSockets.
    place: Place,
    /// A server that stops waits for it also on its way.
    waited_for: TaskTrackerToken,
}

/// The acceptor's way to one core.
#[derive(Debug)]
pub struct CoreDoor {
    load: CoreLoad,
    sockets: mpsc::Sender<AcceptedSocket>,
}

impl CoreDoor {
    /// Returns a door, and the receiver at which the sockets come out. The core takes them until the door is dropped.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<AcceptedSocket>) {
        let (sockets, accepted) = mpsc::channel(SOCKETS_WAITING_MAX);
        (Self { load: CoreLoad::default(), sockets }, accepted)
    }
}

/// Accepts sockets until the server drains, and hands each to the core that serves the fewest. Survives a lack of file
/// descriptors: open sockets go on, and those that wait in the backlog are accepted when there are some.
pub async fn accept(listener: TcpListener, doors: Vec<CoreDoor>, services: Services, is_tls: bool) {
    let mut short = false;
    while let Some(accepted) = services.shutdown.draining.run_until_cancelled(listener.accept()).await {
        let result = match accepted {
            Ok((stream, peer)) => match services.admission.http_sockets.enter(peer.ip()) {
                Ok(place) => hand_over(stream, (peer.ip(), place), &doors, &services.shutdown.http).await,
                Err(full) => turn_away(stream, full, &services.metrics, is_tls),
            },
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

async fn hand_over(
    stream: TcpStream,
    (address, place): (IpAddr, Place),
    doors: &[CoreDoor],
    http: &TaskTracker,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let door = doors.iter().min_by_key(|door| door.load.sockets()).expect("there is a core");
    let accepted = AcceptedSocket {
        stream: stream.into_std()?,
        address,
        counted: door.load.count(),
        place,
        waited_for: http.token(),
    };
    // A core that has ended takes no more.
    let _ = door.sockets.send(accepted).await;
    Ok(())
}

/// Answers a socket beyond the bound with 503 and closes it. Nothing is waited for, so what it asks is not known; a
/// peer that sends its request afterwards may be told of a reset instead. Under TLS, where an answer would take a
/// handshake, it is an alert.
fn turn_away(stream: TcpStream, full: Full, metrics: &Metrics, is_tls: bool) -> io::Result<()> {
    let problem = match full {
        Full::InAll(max) => {
            metrics.refused(Limit::HttpSockets);
            Problem::unavailable(format!("this server has the {max} sockets that it may have; come back later"))
        }
        Full::OfAddress(max) => {
            metrics.refused(Limit::HttpSocketsPerAddress);
            Problem::unavailable(format!("your address has the {max} sockets that one may have; close one of them"))
        }
    };
    let mut stream = stream.into_std()?;
    // Reads the bytes that have come, since a socket that is closed over unread bytes takes its last answer back. A new
    // socket has room for the answer; neither call waits.
    let _ = stream.read(&mut [0; 4096]);
    let _ = if is_tls { stream.write(&tls::NO_ROOM) } else { stream.write(&problem.into_last_response()) };
    let _ = stream.shutdown(Shutdown::Write);
    Ok(())
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
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
    let AcceptedSocket { stream, address, counted, place, waited_for: _waited_for } = socket;
    let counted = Rc::new(counted);
    let stream = TcpStream::from_std(stream)?;
    let socket = stream.peer_addr().ok();
    let peer = |is_secure| Peer { counted, address, socket, is_secure };
    let draining = core.services.shutdown.draining.clone();
    socket::limit_writes(&stream, core.services.limits.write_timeout);
    let Some(tls) = core.tls.clone() else {
        let looking = timeout(core.services.limits.head_timeout, preface::version(&stream));
        let version = tokio::select! {
            biased;
            looked = looking => match looked {
                Ok(version) => version?,
                Err(too_slow) => {
                    core.services.metrics.refused(Limit::HeaderTimeout);
                    return Err(too_slow.into());
                }
            },
            () = core.services.shutdown.drains_after_a_look() => Version::Http1,
        };
        if version == Version::Http1 {
            return h1::serve(core, peer(false), stream, place).await;
        }
        socket::prepare_for_changes(&stream);
        serve_http2(&core, peer(false), stream, place);
        return Ok(());
    };
    let Some(accepted) = draining.run_until_cancelled(tls.accept(stream)).await else { return Ok(()) };
    let stream = accepted?;
    if stream.alpn_protocol() == Some(tls::ALPN_HTTP2) {
        socket::prepare_for_changes(stream.tcp());
        serve_http2(&core, peer(true), stream, place);
        return Ok(());
    }
    h1::serve(core, peer(true), stream, place).await
}

/// Serves an HTTP/2 connection on a stream that is no socket, with tasks on this thread. Public for the fuzz target
/// of HTTP/2, which has no other way to its frames: a socket would be slow, and its time could not be made to pass.
///
/// # Errors
/// The reason for which it ended early.
#[doc(hidden)]
pub async fn serve_http2_stream<S>(core: CoreHttp, counted: CountedSocket, stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let address = IpAddr::from([127, 0, 0, 1]);
    let peer = Peer { counted: Rc::new(counted), address, socket: None, is_secure: false };
    h2::serve(core, peer, stream).await
}

/// Serves an HTTP/2 connection in a task of its own, for which a stopping server waits only after the WebSockets on it.
fn serve_http2<S>(core: &CoreHttp, peer: Peer, stream: S, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let serving = h2::serve(core.clone(), peer, stream);
    tokio::task::spawn_local(core.carriers.track_future(async move {
        if let Err(error) = serving.await {
            debug!(%error, "an HTTP/2 connection ended early");
        }
        drop(place);
    }));
}
