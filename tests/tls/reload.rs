//! A new certificate while the server runs.

use std::fs;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::process::{Running, send_signal};
use crate::support::patiently;
use crate::support::server::{Http, TestServer, product_json};
use crate::support::socket::Socket;
use crate::support::tls::{Certificate, TlsClient};

/// Asserts that a change reaches an open socket.
async fn assert_lives(socket: &mut Socket, http: &mut Http, units: i64) {
    assert!(http.request("PUT", "/products/1", Some(&product_json(1, units))).await.status.is_success());
    assert_eq!(socket.next().await["product"]["unitsAvailable"], units);
}

/// Waits until the server shows the certificate that this client trusts.
async fn until_trusted(client: &TlsClient, server: &TestServer) {
    let trusted = async {
        while client.connect_as("localhost", server.address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    patiently(trusted).await;
}

#[tokio::test]
async fn changed_files_are_read_again_and_what_is_open_lives_on() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let old = certificate.client();
    let mut socket = Socket::over(old.connect(server.address).await).await;
    socket.subscribe([1]).await;
    let mut http = server.http().await;
    assert_lives(&mut socket, &mut http, 1).await;

    certificate.renew();
    until_trusted(&certificate.client(), &server).await;
    let fresh_old = old.without_sessions();
    assert!(fresh_old.connect_as("localhost", server.address).await.is_err(), "the old one is no longer shown");
    assert_lives(&mut socket, &mut http, 2).await;
}

#[tokio::test]
async fn a_broken_new_file_is_counted_and_the_old_certificate_stays() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let client = certificate.client();
    let mut socket = Socket::over(client.connect(server.address).await).await;
    socket.subscribe([1]).await;
    fs::write(&certificate.files.certificate, "no certificate").unwrap();
    server.until_metric("rowcast_tls_certificate_reads_total{outcome=\"refused\"}", 1).await;
    let stream = client.without_sessions().connect(server.address).await;
    assert_lives(&mut socket, &mut Http::over(stream).await, 1).await;

    fs::remove_file(&certificate.files.certificate).unwrap();
    server.until_metric("rowcast_tls_certificate_reads_total{outcome=\"refused\"}", 2).await;
    certificate.renew();
    until_trusted(&certificate.client(), &server).await;
    assert_lives(&mut socket, &mut server.http().await, 2).await;
}

#[tokio::test]
async fn sighup_reads_them_at_once_and_the_log_says_why_they_are_refused() {
    let certificate = Certificate::new();
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &certificate.options()).await;
    let client = certificate.client();
    let mut socket = Socket::over(client.connect(server.address).await).await;
    socket.subscribe([1]).await;
    let mut http = Http::over(client.connect(server.address).await).await;
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let mut until_said = async |part: &str| loop {
        let line = patiently(log.next_line()).await.unwrap().expect("the server runs");
        assert!(!line.contains("PRIVATE KEY"), "{line}");
        if line.contains(part) {
            break line;
        }
    };
    // Nothing has changed, so that only the signal can be why they are read.
    send_signal(&server.child, "HUP").await;
    until_said("is in use").await;
    assert_lives(&mut socket, &mut http, 1).await;

    let other = Certificate::new();
    fs::copy(&other.files.key, &certificate.files.key).unwrap();
    send_signal(&server.child, "HUP").await;
    let line = until_said("the old one stays in use").await;
    assert!(line.contains("does not belong to the certificate"), "{line}");
    assert_lives(&mut socket, &mut http, 2).await;
    assert!(client.without_sessions().connect_as("localhost", server.address).await.is_ok());
}
