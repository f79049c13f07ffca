//! Pings while nothing happens, and the end of a reader that takes nothing, on a clock that only moves when everybody
//! waits.

use std::rc::Rc;
use std::sync::Arc;

use rowcast::connection::Connections;
use rowcast::fanout::Operation;
use rowcast::metrics::Metrics;
use rowcast::session::command::{Command, States};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::paused::with_connection;

/// Runs `test` with the other end of a stream that begins with these bytes.
fn with_stream<F: Future<Output = ()> + 'static>(
    head: Vec<u8>,
    test: impl FnOnce(TcpStream, Rc<Connections>, Arc<Metrics>) -> F + 'static,
) {
    let open = move |connections: &Rc<Connections>, socket: TcpStream, places| {
        let topics = rowcast::model::topic::Subjects::default();
        let command =
            Command { reply: None, operation: Operation::Subscribe, topics, states: Some(States::All { epoch: None }) };
        connections.open_events(socket.into(), head, command, places, None);
    };
    with_connection(0, open, test);
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
