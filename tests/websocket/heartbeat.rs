//! Pings and what follows when nobody answers, on a clock that only moves when everybody waits.

use std::rc::Rc;

use rowcast::connection::Connections;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::paused;
use crate::support::socket::client_frame;

/// Runs `test` with the other end of an open WebSocket.
fn with_connection<F: Future<Output = ()> + 'static>(test: impl FnOnce(TcpStream, Rc<Connections>) -> F + 'static) {
    let open = |connections: &Rc<Connections>, socket: TcpStream, places| {
        connections.open(socket.into(), b"", places, None);
    };
    paused::with_connection(3, open, |peer, connections, _| test(peer, connections));
}

const PING: [u8; 2] = [0x89, 0];

#[test]
fn a_silent_peer_is_pinged_twice_and_closed() {
    with_connection(|mut peer, connections| async move {
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read[..4], [PING, PING].concat());
        assert_eq!(read[4], 0x88, "the third is the close");
        assert_eq!(u16::from_be_bytes([read[6], read[7]]), 1008);
        drop(peer);
        connections.close_all().await;
        assert!(connections.is_empty());
    });
}

#[test]
fn a_peer_that_answers_its_pings_stays() {
    with_connection(|mut peer, connections| async move {
        for _ in 0..20 {
            let mut ping = [0; 2];
            peer.read_exact(&mut ping).await.unwrap();
            assert_eq!(ping, PING);
            peer.write_all(&client_frame(0x8A, b"")).await.unwrap();
            peer.readable_again().await;
        }
        assert_eq!(connections.len(), 1);
    });
}

#[test]
fn a_peer_that_does_not_close_its_side_is_cut() {
    with_connection(|peer, connections| async move {
        connections.close_all().await;
        assert_eq!((connections.len(), connections.cut()), (0, 1));
        drop(peer);
    });
}

#[test]
fn a_peer_is_read_from_no_faster_than_it_may_send() {
    with_connection(|mut peer, _| async move {
        peer.write_all(&client_frame(0x89, b"x").repeat(10)).await.unwrap();
        let begun = tokio::time::Instant::now();
        for pongs in 1..=10_u32 {
            let mut pong = [0; 3];
            peer.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, [0x8A, 1, b'x']);
            // The clock moves on only when nobody has anything to do.
            let allowed = 3.0 + 3.0 * begun.elapsed().as_secs_f64();
            assert!(f64::from(pongs) <= allowed + 0.1, "{pongs} pongs of {allowed}");
        }
        assert!(begun.elapsed().as_millis() >= 2_300, "seven of them had to be waited for");
    });
}

trait ReadableAgain {
    async fn readable_again(&self);
}

impl ReadableAgain for TcpStream {
    /// Lets the connection's task read what was sent before the clock moves on.
    async fn readable_again(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}
