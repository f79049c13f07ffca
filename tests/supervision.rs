//! A part of the server that ends before its time: the whole server ends, and names it.

use rowcast::store::Store;
use rowcast::supervisor::{Fault, end_of_main_thread};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::process::{ended, rowcast_after};
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::{RawSocket, Socket};
use crate::support::tls::Certificate;

/// Asserts that a server with these options ends when this part of it panics or returns.
async fn assert_ends(options: &[&str], part: &'static str) {
    for panics in [true, false] {
        let strikes = CancellationToken::new();
        let fault = Fault { part: part.into(), panics, strikes: strikes.clone() };
        let dir = tempfile::tempdir().unwrap();
        let data_dir = ["--data-dir", dir.path().to_str().unwrap()];
        let server = TestServer::faulty(&[&data_dir, options].concat(), fault).await;
        let address = server.address;
        let mut waiting = TcpStream::connect(address).await.unwrap();
        strikes.cancel();
        let failure = patiently(server.failure()).await.to_string();
        let how = if panics { "panicked (the log says where)" } else { "ended before its time" };
        assert!(failure.contains(part) && failure.contains(how), "{part}: {failure}");
        assert!(!panics || failure.starts_with(part), "{part} is the cause: {failure}");
        // Closed or reset, with the listening socket in whose backlog it may still be. The port may be another's by now.
        assert!(matches!(patiently(waiting.read(&mut [0])).await, Ok(0) | Err(_)), "{part}: nobody is let in any more");
    }
}

#[tokio::test]
async fn no_part_of_a_server_on_the_embedded_store_ends_alone() {
    for part in [
        "the thread of core 0",
        "the thread of core 1",
        "the fan-out of core 0",
        "the fan-out of core 1",
        "the heartbeats of core 1",
        "the requests of core 1",
        "ingest",
        "the acceptor",
    ] {
        assert_ends(&["--cores", "2"], part).await;
    }
}

#[tokio::test]
async fn no_part_of_a_server_with_a_certificate_ends_alone() {
    let certificate = Certificate::new();
    for part in ["the redirect to https", "the watch over the certificate"] {
        let options = ["--cores", "1", "--redirect-listen", "127.0.0.1:0"];
        assert_ends(&[&options[..], &certificate.options()].concat(), part).await;
    }
}

#[tokio::test]
async fn the_listener_of_the_database_does_not_end_alone() {
    let database = Cluster::shared().database().await;
    assert_ends(&["--cores", "1", "--database-url", database.url()], "the listener of the database").await;
}

#[tokio::test]
async fn the_thread_of_the_embedded_store_does_not_end_alone() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let Store::Embedded(store) = server.store.clone() else { panic!("it is the embedded one") };
    store.stop().await;
    let failure = patiently(server.failure()).await.to_string();
    assert!(failure.contains("the thread of the embedded store") && failure.contains("before its time"), "{failure}");
}

#[tokio::test]
async fn readers_of_the_cores_that_live_are_told_to_come_back() {
    let strikes = CancellationToken::new();
    let fault = Fault { part: "the thread of core 1".into(), panics: true, strikes: strikes.clone() };
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::faulty(&["--cores", "2", "--data-dir", dir.path().to_str().unwrap()], fault).await;
    // The acceptor gives each core one of them.
    let mut readers = [RawSocket::connect(server.address, b"").await, RawSocket::connect(server.address, b"").await];
    strikes.cancel();
    let mut closed = 0;
    for reader in &mut readers {
        while let Some((first, payload)) = reader.read_frame().await {
            closed += usize::from(first == 0x88 && payload.starts_with(&1012_u16.to_be_bytes()));
        }
    }
    assert_eq!(closed, 1, "one of the two");
    let failure = server.failure().await.to_string();
    assert!(failure.starts_with("the thread of core 1 panicked"), "{failure}");
}

#[tokio::test]
async fn a_part_that_panics_while_the_server_stops_is_a_failure_too() {
    let strikes = CancellationToken::new();
    let fault = Fault { part: "the fan-out of core 0".into(), panics: true, strikes: strikes.clone() };
    let dir = tempfile::tempdir().unwrap();
    let options = ["--cores", "1", "--drain-seconds", "3600", "--data-dir", dir.path().to_str().unwrap()];
    let mut server = TestServer::faulty(&options, fault).await;
    let mut reader = Socket::connect(server.address).await;
    reader.subscribe([1]).await;
    server.begin_stop();
    patiently(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    strikes.cancel();
    let failure = patiently(server.failure()).await.to_string();
    assert!(failure.starts_with("the fan-out of core 0 panicked"), "{failure}");
    drop(reader);
}

#[tokio::test]
async fn a_process_with_half_a_server_ends_with_a_sentence_and_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    // Files for the server and for some of its cores, each of which needs some.
    let options = ["--listen", "127.0.0.1:0", "--cores", "64", "--data-dir", dir.path().to_str().unwrap()];
    let (code, _, log) = ended(&mut rowcast_after("ulimit -n 60", &options)).await;
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(code, 1, "{log}");
    assert!(
        last.starts_with("rowcast: the thread of core ") && last.contains("panicked (the log says where)"),
        "{log}"
    );
    assert!(log.contains("a panic, which is a fault of this program"), "{log}");
}

#[test]
fn a_panic_of_the_main_thread_is_an_end_like_others() {
    let panicked = end_of_main_thread(|| panic!("a test")).unwrap_err().to_string();
    assert!(panicked.starts_with("the main thread panicked (the log says where)"), "{panicked}");
    assert_eq!(end_of_main_thread(|| anyhow::bail!("why")).unwrap_err().to_string(), "why");
    assert!(end_of_main_thread(|| Ok(())).is_ok());
}
