//! Bytes that are not TLS, stop in the middle of it, or break it.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionTrafficSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::patiently;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::{RawSocket, Socket};
use crate::support::tls::{Certificate, TlsClient};

fn client_hello(client: &TlsClient) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::clone(&client.0), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends bytes; waits for the server to end the connection, and returns what it said.
async fn ended(server: &TestServer, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // A server that has seen enough resets the connection.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _ = patiently(stream.read_to_end(&mut said)).await;
    said
}

#[tokio::test]
async fn what_is_no_client_hello_is_refused_and_others_are_served() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let hello = client_hello(&certificate.client());
    let mut flipped = hello.clone();
    // The lengths after the random number.
    flipped[43..80].fill(0xFF);
    let record = |length: u16| [&[22, 3, 1], &length.to_be_bytes()[..]].concat();
    // A ClientHello that says that it goes on for 16 MiB, in records that never complete it.
    let endless = [
        record(16_000),
        vec![1, 0xFF, 0xFF, 0xFF],
        vec![0; 15_996],
        [record(16_000), vec![0; 16_000]].concat().repeat(4),
    ];
    let garbage: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 64],
        &vec![0xFF; 70_000],
        &[22, 3, 1, 0, 0],
        &[21, 3, 1, 0, 2, 2, 40],
        &[22, 3, 1, 0xFF, 0xFF, 1],
        &flipped,
        &endless.concat(),
    ];
    for bytes in garbage {
        let said = ended(&server, bytes).await;
        let begins = bytes.iter().take(8).collect::<Vec<_>>();
        assert!(said.is_empty() || said.starts_with(&[21, 3]), "{begins:?} was answered {said:?}");
    }
    server.until_metric("rowcast_tls_handshakes_total{outcome=\"failed\"}", garbage.len() as u64).await;
}

#[tokio::test]
async fn a_hello_that_is_cut_anywhere_harms_nobody() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let hello = client_hello(&certificate.client());
    for cut in 0..hello.len() {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&hello[..cut]).await.unwrap();
    }
    server.until_metric("rowcast_tls_handshakes_total{outcome=\"failed\"}", hello.len() as u64).await;
}

#[tokio::test]
async fn who_stops_in_the_handshake_is_cut_at_the_deadline() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1", "--tls-handshake-seconds", "1"]).await;
    let hello = client_hello(&certificate.client());
    for bytes in [&[][..], &hello[..7], &hello[..]] {
        let said = ended(&server, bytes).await;
        assert_eq!(said.is_empty(), bytes.len() < hello.len(), "only a whole hello is answered");
    }
    server.until_metric("rowcast_tls_handshakes_total{outcome=\"too_slow\"}", 3).await;
    assert_eq!(server.metric("rowcast_refused_total{limit=\"tls_handshake\"}").await, 3);
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_that_connection_with_an_alert() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    for garbage in [
        &[0xFF; 100][..],
        &[
            23, 3, 3, 0, 32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
            26, 27, 28, 29, 30, 31, 32,
        ],
        &[23, 3, 3, 0x50, 0, 1],
    ] {
        let mut socket = RawSocket::over(certificate.client().connect(server.address).await, b"").await;
        patiently(socket.stream.get_mut().0.write_all(garbage)).await.unwrap();
        let error = patiently(socket.stream.read(&mut [0])).await.expect_err("the server says what is wrong");
        assert!(error.to_string().contains("alert"), "{error}");
    }
    server.until_metric("rowcast_connections_closed_total{reason=\"vanished\"}", 3).await;
}

#[tokio::test]
async fn who_finds_no_room_is_told_so_by_an_alert() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1", "--max-http-sockets", "1"]).await;
    let client = certificate.client();
    // An idle one takes the only place.
    let mut first = client.connect(server.address).await;
    let error = client.connect_as("localhost", server.address).await.expect_err("there is no room");
    assert!(error.to_string().contains("InternalError"), "{error}");
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    patiently(first.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// A client's side of TLS 1.3 that writes any record, once the handshake is done by another.
struct Records {
    key: ring::aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Records {
    fn write(&mut self, content_type: u8, contents: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence += 1;
        let mut inner = [contents, &[content_type]].concat();
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, ring::aead::Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }
}

/// After the handshake and the upgrade: the bare connection, and what writes records for it.
async fn with_records(client: &TlsClient, server: &TestServer) -> (TcpStream, Records) {
    let socket = RawSocket::over(client.connect(server.address).await, b"").await;
    let (tcp, tls) = socket.stream.into_inner();
    let (sequence, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
    let (algorithm, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&ring::aead::AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&ring::aead::AES_256_GCM, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&ring::aead::CHACHA20_POLY1305, key, iv),
        _ => panic!("another cipher"),
    };
    let key = ring::aead::LessSafeKey::new(ring::aead::UnboundKey::new(algorithm, key.as_ref()).unwrap());
    (tcp, Records { key, iv: iv.as_ref().try_into().unwrap(), sequence })
}

#[tokio::test]
async fn half_a_message_of_tls_itself_stops_neither_reading_nor_writing() {
    const HANDSHAKE: u8 = 22;
    const CONTENTS: u8 = 23;
    // KeyUpdate that asks for no answer (RFC 8446, §4.6.3).
    const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    for cut in 1..KEY_UPDATE.len() {
        let (mut tcp, mut records) = with_records(&certificate.client(), &server).await;
        let subscribe = crate::support::socket::client_frame(0x81, br#"{"command":"subscribe","productIDs":[1]}"#);
        tcp.write_all(&records.write(CONTENTS, &subscribe)).await.unwrap();
        server.until_metric("rowcast_subscriptions", 1).await;
        tcp.write_all(&records.write(HANDSHAKE, &KEY_UPDATE[..cut])).await.unwrap();
        // The server writes while it holds the half.
        server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
        let mut header = [0; 5];
        patiently(tcp.read_exact(&mut header)).await.unwrap();
        assert_eq!(header[..3], [23, 3, 3], "a change goes out");
        // Bytes between the halves are against the rules, and are the end of this connection alone.
        tcp.write_all(&records.write(CONTENTS, &subscribe)).await.unwrap();
        patiently(tcp.read_to_end(&mut Vec::new())).await.ok();
        server.until_metric("rowcast_subscriptions", 0).await;
    }
}

#[tokio::test]
async fn keys_that_a_client_renews_are_followed() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let mut stream = certificate.client().connect(server.address).await;
    for _ in 0..5 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        patiently(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(b"alive\n") {
            let mut byte = [0];
            patiently(stream.read_exact(&mut byte)).await.unwrap();
            rest.push(byte[0]);
        }
    }
    let mut socket = Socket::over(stream).await;
    socket.subscribe([1]).await;
}
