//! One connection on a core's runtime, whose clock only moves when everybody waits.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use rowcast::connection::{Connections, HeldPlaces};
use rowcast::fanout::{Core, Hub};
use rowcast::metrics::Metrics;
use rowcast::model::table::Tables;
use rowcast::session::SessionLimits;
use rowcast::session::queue::{SendQueueLimits, SlowConsumerPolicy};
use rowcast::transport::admission::{Bound, CoreLoad};
use tokio::net::{TcpListener, TcpStream};

/// Runs `test` with the other end of a connection that `open` has opened and that may cost so many units a second (zero: any
/// number).
pub(crate) fn with_connection<F: Future<Output = ()> + 'static>(
    units_per_second_max: u32,
    open: impl FnOnce(&Rc<Connections>, TcpStream, HeldPlaces) + 'static,
    test: impl FnOnce(TcpStream, Rc<Connections>, Arc<Metrics>) -> F + 'static,
) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(tokio::runtime::LocalOptions::default());
    runtime.unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peer, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
        let (hub, mut inboxes) = Hub::new(1, 1, Tables::new());
        let metrics = Arc::new(Metrics::new());
        let core_metrics = metrics.core(0, "drop");
        let core = Rc::new(RefCell::new(Core::new(inboxes.remove(0).core, hub, core_metrics.clone())));
        let queue = SendQueueLimits { frames_max: 8, bytes_max: 4096, policy: SlowConsumerPolicy::Drop };
        let limits = SessionLimits {
            queue,
            subscriptions_max: 10,
            message_bytes_max: 1024,
            units_per_second_max,
            ping_after: 25,
        };
        let connections = Connections::new(core, limits, core_metrics, Arc::clone(&metrics), None);
        tokio::task::spawn_local(Rc::clone(&connections).run());
        let places =
            (Bound::new(1, 0).enter(Ipv4Addr::LOCALHOST.into()).unwrap(), Rc::new(CoreLoad::default().count()));
        open(&connections, accepted.unwrap().0, places);
        test(peer.unwrap(), connections, metrics).await;
    });
}
