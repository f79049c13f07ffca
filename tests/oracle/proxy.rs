//! A way to Postgres that can be slow, and can fall silent with its connections open: [`Proxy`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    is_stalled: AtomicBool,
    delay_ms: AtomicU64,
    changed: Notify,
}

/// A TCP proxy.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await {
                        let (near_read, near_write) = near.into_split();
                        let (far_read, far_write) = far.into_split();
                        tokio::join!(pump(near_read, far_write, &state), pump(far_read, near_write, &state));
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Holds back all bytes, on open connections and on new ones, until it is told otherwise.
    pub(super) fn stall(&self, is_stalled: bool) {
        self.state.is_stalled.store(is_stalled, Ordering::SeqCst);
        self.state.changed.notify_waiters();
    }

    /// Holds back each piece for so long.
    pub(super) fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, state: &State) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let delay = state.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        loop {
            let changed = state.changed.notified();
            if !state.is_stalled.load(Ordering::SeqCst) {
                break;
            }
            changed.await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
