//! The parts that tests share.

pub(crate) mod answers;
pub(crate) mod events;
pub(crate) mod http2;
pub(crate) mod paused;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod tls;

use std::time::Duration;

/// Waits for what must come; what does not come fails the test rather than stopping it.
pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect("what is awaited comes")
}
