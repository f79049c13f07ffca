//! Pings while nothing happens, and the end of a reader that takes nothing, on a clock that only moves when everybody
//! waits.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use rowcast::connection::Connections;
use rowcast::fanout::{Core, Hub, Operation};
use rowcast::metrics::Metrics;
use rowcast::model::table::Tables;
use rowcast::session::SessionLimits;
use rowcast::session::command::{Command, States};
use rowcast::session::queue::{SendQueueLimits, SlowConsumerPolicy};
use rowcast::transport::admission::{Bound, CoreLoad};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Runs `test` on a core's runtime with one stream that begins with these bytes, whose other end it is given.
fn with_stream<F: Future<Output = ()> + 'static>(
    head: Vec<u8>,
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
            units_per_second_max: 0,
            ping_after: 25,
        };
        let connections = Connections::new(core, limits, core_metrics, Arc::clone(&metrics), None);
        tokio::task::spawn_local(Rc::clone(&connections).run());
        let places =
            (Bound::new(1, 0).enter(Ipv4Addr::LOCALHOST.into()).unwrap(), Rc::new(CoreLoad::default().count()));
        let topics = rowcast::model::topic::Subjects::default();
        let command = Command { reply: None, operation: Operation::Subscribe, topics, states: Some(States::All) };
        connections.open_events(accepted.unwrap().0.into(), head, command, places, None);
        test(peer.unwrap(), connections, metrics).await;
    });
}

const PING: &[u8] = b":\nevent: ping\ndata:\n\n";

#[test]
fn a_reader_of_a_quiet_stream_is_sent_pings_and_stays() {
    with_stream(b"head".to_vec(), |mut peer, connections, _| async move {
        let mut read = [0; 4];
        peer.read_exact(&mut read).await.unwrap();
        assert_eq!(read, *b"head");
        let begun = Instant::now();
        for beat in 1..=20 {
            let mut ping = [0; PING.len()];
            peer.read_exact(&mut ping).await.unwrap();
            assert_eq!(ping, PING);
            let seconds = begun.elapsed().as_secs();
            assert!((beat * 25 - 2..=beat * 25 + 2).contains(&seconds), "{beat} after {seconds} s");
        }
        assert_eq!(connections.len(), 1, "who says nothing is there as long as it takes what is written");
    });
}

/// More than the kernel holds for a peer that does not read.
const MUCH: usize = 32 * 1024 * 1024;

#[test]
fn a_reader_that_takes_nothing_is_closed() {
    with_stream(vec![b'x'; MUCH], |peer, connections, metrics| async move {
        let begun = Instant::now();
        while !connections.is_empty() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let seconds = begun.elapsed().as_secs();
        assert!((75..=85).contains(&seconds), "{seconds}");
        assert!(metrics.encode().contains("rowcast_connections_closed_total{reason=\"silence\"} 1"));
        drop(peer);
    });
}

#[test]
fn a_reader_that_takes_little_stays() {
    with_stream(vec![b'x'; MUCH], |mut peer, connections, _| async move {
        let mut taken = vec![0; 1024 * 1024];
        for _ in 0..10 {
            tokio::time::sleep(std::time::Duration::from_secs(50)).await;
            peer.read_exact(&mut taken).await.unwrap();
        }
        assert_eq!(connections.len(), 1);
    });
}
