//! A process that has run out of file descriptors.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::patiently;
use crate::support::server::{Http, product_json};
use crate::support::socket::Socket;

#[tokio::test]
async fn who_is_in_goes_on_and_who_waits_is_served_when_there_are_some_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"ulimit -n 64; exec "$0" --listen 127.0.0.1:0 --cores 1 --data-dir "$1""#;
    let mut server = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_rowcast")])
        .arg(dir.path())
        .env_remove("DATABASE_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut greeting = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let line = patiently(greeting.next_line()).await.unwrap().unwrap();
    let address = line.strip_prefix("Rowcast is live at http://").unwrap().parse().unwrap();

    let mut socket = Socket::connect(address).await;
    socket.subscribe([1]).await;
    let mut http = Http::connect(address).await;
    assert_eq!(http.request("GET", "/healthz", None).await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(patiently(TcpStream::connect(address)).await.unwrap());
    }
    while !patiently(log.next_line()).await.unwrap().unwrap().contains("cannot accept sockets") {}

    let version = http.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    assert_eq!(socket.next().await["version"], version, "changes are cast all the same");
    let waiting = crowd.pop().unwrap();
    drop(crowd);
    while !patiently(log.next_line()).await.unwrap().unwrap().contains("accepting again") {}
    let mut late = Socket::over(waiting).await;
    late.subscribe([1]).await;
    http.request("PUT", "/products/1", Some(&product_json(1, 2))).await;
    assert_eq!(late.next().await["product"]["unitsAvailable"], 2);
    assert_eq!(socket.next().await["product"]["unitsAvailable"], 2);
}
