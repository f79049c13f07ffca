//! A way to Postgres that can be slow, fall silent with its connections open, and be cut: [`Proxy`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The name that a listener's connection gives itself in its first message.
const LISTENER: &[u8] = b"rowcast listener";
/// The pieces that may be under way on one connection in one direction.
const PIECES_MAX: usize = 1024;

/// The state of the way for connections of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// Nothing passes, on open connections and on new ones.
    pub(crate) is_stalled: bool,
    /// Open connections end, and so do new ones.
    pub(crate) is_cut: bool,
    /// Each byte takes so long, and as many pass as without.
    pub(crate) delay: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Links {
    listener: Link,
    others: Link,
}

impl Links {
    const fn of(&self, is_listener: bool) -> Link {
        if is_listener { self.listener } else { self.others }
    }
}

/// A TCP proxy that knows the connection of a server's listener from the others.
pub(crate) struct Proxy {
    address: SocketAddr,
    links: watch::Sender<Links>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (links, state) = watch::channel(Links::default());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await {
                        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                        let is_listener = Arc::new(watch::Sender::new(false));
                        let there = Pump { is_listener: Arc::clone(&is_listener), links: state.clone() };
                        let back = Pump { is_listener, links: state };
                        tokio::join!(there.run(near_read, far_write), back.run(far_read, near_write));
                    }
                });
            }
        });
        Self { address, links }
    }

    /// Returns a database's URL by this way.
    pub(crate) fn url_of(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a cluster's URL");
        let (_, path) = after.split_once('/').expect("a cluster's URL");
        format!("{before}@{}/{path}", self.address)
    }

    /// Sets the way of the listener's connection.
    pub(crate) fn set_listener(&self, link: Link) {
        self.links.send_modify(|links| links.listener = link);
    }

    /// Sets the way of all other connections.
    pub(crate) fn set_others(&self, link: Link) {
        self.links.send_modify(|links| links.others = link);
    }
}

/// One direction of one connection.
struct Pump {
    is_listener: Arc<watch::Sender<bool>>,
    links: watch::Receiver<Links>,
}

impl Pump {
    async fn run(self, mut from: OwnedReadHalf, to: OwnedWriteHalf) {
        let (pieces, arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
        let is_listener = Arc::clone(&self.is_listener);
        let reading = async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                let piece = &buffer[..read];
                if piece.windows(LISTENER.len()).take(512).any(|window| window == LISTENER) {
                    is_listener.send_replace(true);
                }
                if pieces.send((Instant::now(), piece.to_vec())).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.write(arriving, to) => {}
            () = async { reading.await; std::future::pending().await } => {}
            () = self.until_cut() => {}
        }
    }

    /// Returns the state of the way for what this connection is known to be.
    fn link(&self) -> Link {
        self.links.borrow().of(*self.is_listener.borrow())
    }

    /// Waits until the way is cut, or what the connection turns out to be is on one that is.
    async fn until_cut(&self) {
        let (mut links, mut is_listener) = (self.links.clone(), self.is_listener.subscribe());
        while !self.link().is_cut {
            tokio::select! {
                Ok(()) = links.changed() => {}
                Ok(()) = is_listener.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    async fn write(&self, mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
        let mut links = self.links.clone();
        let passes = |links: &Links| !links.of(*self.is_listener.borrow()).is_stalled;
        while let Some((sent_at, piece)) = arriving.recv().await {
            sleep_until(sent_at + self.link().delay).await;
            if links.wait_for(passes).await.is_err() || to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }
}
