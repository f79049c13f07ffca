//! The log of a server while standard error takes nothing: its lines are lost and counted, and nothing else happens.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::process::{Running, rowcast, send_signal};
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::{Http, product_json};
use crate::support::socket::{RawSocket, Socket};

/// Standard errors that take nothing. The reader of a pipe that is full, and stays so, comes with its writer.
fn mute() -> [(&'static str, Stdio, Option<PipeReader>); 3] {
    let (_, closed) = pipe().unwrap();
    let disk = File::options().write(true).open("/dev/full").unwrap();
    let (reader, full) = full_pipe();
    [("closed pipe", closed.into(), None), ("full disk", disk.into(), None), ("full pipe", full.into(), Some(reader))]
}

/// A pipe that takes nothing as long as its reader lives.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut full) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'\n'; 4096]).is_ok() {}
    while full.write(b"\n").is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    (reader, full)
}

/// Has every core of the server log that a WebSocket broke the protocol.
async fn provoke_cores(server: &Running) {
    for _ in 0..4 {
        let mut socket = RawSocket::connect(server.address, b"").await;
        // A reserved bit.
        socket.write_frame(0xF1, b"{}").await;
        while socket.read_frame().await.is_some() {}
    }
}

/// The server still casts to all its cores, counts what its log lost, and ends as it should.
async fn serves_on(mut server: Running, what: &str) {
    let mut http = Http::connect(server.address).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = Socket::connect(server.address).await;
        reader.subscribe([1]).await;
        readers.push(reader);
    }
    assert_eq!(http.request("PUT", "/products/1", Some(&product_json(1, 7))).await.status, 201, "{what}");
    for reader in &mut readers {
        assert_eq!(reader.next().await["product"]["unitsAvailable"], 7, "{what}");
    }
    assert!(http.metric("rowcast_log_lines_lost_total").await > 0, "{what}");
    send_signal(&server.child, "TERM").await;
    for reader in &mut readers {
        assert_eq!(reader.until_closed().await.1, 1012, "{what}");
    }
    drop(http);
    assert!(patiently(server.child.wait()).await.unwrap().success(), "{what}");
}

#[tokio::test]
async fn a_log_that_takes_nothing_ends_no_server_on_the_embedded_store() {
    for (what, standard_error, _reader) in mute() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().to_str().unwrap();
        let mut command =
            rowcast(&["--listen", "127.0.0.1:0", "--cores", "2", "--data-dir", data_dir, "--drain-seconds", "1"]);
        let server = Running::of(command.env("RUST_LOG", "debug").stderr(standard_error)).await;
        provoke_cores(&server).await;
        serves_on(server, what).await;
    }
}

#[tokio::test]
async fn a_log_that_takes_nothing_ends_no_listener_of_postgres() {
    for (what, standard_error, _reader) in mute() {
        let database = Cluster::shared().database().await;
        let client = database.connect().await;
        let options =
            ["--listen", "127.0.0.1:0", "--cores", "2", "--drain-seconds", "1", "--database-url", database.url()];
        let server = Running::of(rowcast(&options).stderr(standard_error)).await;
        let mut http = Http::connect(server.address).await;
        let ready = async { while http.request("GET", "/readyz", None).await.status != 200 {} };
        patiently(ready).await;
        client.batch_execute("SELECT pg_notify(channel, 'of another program') FROM rowcast_stream").await.unwrap();
        provoke_cores(&server).await;
        serves_on(server, what).await;
    }
}

#[tokio::test]
async fn output_that_nobody_reads_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let closed = || pipe().unwrap().1;
    let out = dir.path().to_str().unwrap();
    for (files_are_there, code) in [(false, 0), (true, 1)] {
        let mut command = rowcast(&["cert", "--out", out]);
        let mut child = command.stdout(closed()).stderr(closed()).spawn().unwrap();
        assert_eq!(patiently(child.wait()).await.unwrap().code(), Some(code), "{files_are_there}");
    }
}

#[tokio::test]
async fn a_greeting_that_nobody_takes_does_not_hold_up_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (_reader, full) = full_pipe();
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
    let mut child = rowcast(&arguments).stdout(full).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    // It catches signals before it opens the store.
    let opened = async {
        while !dir.path().join("products.redb").exists() {
            tokio::task::yield_now().await;
        }
    };
    patiently(opened).await;
    send_signal(&child, "TERM").await;
    let mut last = String::new();
    while let Some(line) = patiently(log.next_line()).await.unwrap() {
        last = line;
    }
    assert!(last.contains("stopped"), "{last}");
    assert!(patiently(child.wait()).await.unwrap().success());
}
