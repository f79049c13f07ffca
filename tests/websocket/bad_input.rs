//! Every row of the table of bad input, byte for byte, and cut in two at every byte.

use serde_json::Value;

use crate::support::server::TestServer;
use crate::support::socket::{RawSocket, client_frame};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const CLOSE: u8 = 0x88;

/// Sends these bytes; returns the messages of the server, and the code that it closes with.
async fn answers(server: &TestServer, pieces: &[&[u8]]) -> (Vec<Value>, u16) {
    let mut socket = RawSocket::connect(server.address, b"").await;
    for piece in pieces {
        socket.write(piece).await;
    }
    let mut messages = Vec::new();
    while let Some((first, payload)) = socket.read_frame().await {
        match first {
            TEXT => messages.push(serde_json::from_slice(&payload).unwrap()),
            CLOSE => {
                socket.write_frame(CLOSE, &payload[..2]).await;
                assert_eq!(socket.read_frame().await, None, "nothing comes after a close");
                return (messages, u16::from_be_bytes([payload[0], payload[1]]));
            }
            other => panic!("{other:#x}"),
        }
    }
    panic!("no close; {messages:?}");
}

/// The same, whole and cut in two at every byte (of the first 40 where there are more).
async fn answers_however_cut(server: &TestServer, bytes: &[u8]) -> (Vec<Value>, u16) {
    let whole = answers(server, &[bytes]).await;
    for cut in 1..bytes.len().min(40) {
        assert_eq!(answers(server, &[&bytes[..cut], &bytes[cut..]]).await, whole, "cut at {cut}");
    }
    whole
}

/// A normal close, so that what comes before it is answered first.
fn bye() -> Vec<u8> {
    client_frame(CLOSE, &1000u16.to_be_bytes())
}

#[tokio::test]
async fn a_breach_of_the_framing_closes_with_1002() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut unmasked = client_frame(TEXT, b"{}");
    unmasked[1] &= 0x7F;
    for bytes in [
        unmasked,
        client_frame(0xC1, b"{}"),
        client_frame(0xA1, b"{}"),
        client_frame(0x91, b"{}"),
        client_frame(0x83, b""),
        client_frame(0x8F, b""),
        client_frame(PING, &[b'x'; 126]),
        client_frame(0x09, b""),
        client_frame(0x08, b""),
        client_frame(0x80, b"{}"),
        [client_frame(0x01, b"{"), client_frame(TEXT, b"}")].concat(),
        client_frame(CLOSE, b"x"),
        client_frame(CLOSE, &1005u16.to_be_bytes()),
    ] {
        assert_eq!(answers_however_cut(&server, &bytes).await, (vec![], 1002), "{bytes:x?}");
    }
    server.until_metric("rowcast_connections", 0).await;
    assert!(server.metric("rowcast_connections_closed_total{reason=\"protocol\"}").await >= 13);
}

#[tokio::test]
async fn a_binary_message_closes_with_1003() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    assert_eq!(answers_however_cut(&server, &client_frame(0x82, b"ab")).await, (vec![], 1003));
    let fragments = [client_frame(0x02, b"a"), client_frame(0x80, b"b")].concat();
    assert_eq!(answers_however_cut(&server, &fragments).await, (vec![], 1003));
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    assert_eq!(answers_however_cut(&server, &client_frame(TEXT, b"\xFF")).await, (vec![], 1007));
    let fragments = [client_frame(0x01, b"\xC3"), client_frame(0x80, b"")].concat();
    assert_eq!(answers_however_cut(&server, &fragments).await, (vec![], 1007));
}

#[tokio::test]
async fn a_message_above_256_kib_closes_with_1009() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let limit = 256 * 1024;
    let too_big = client_frame(TEXT, &vec![b' '; limit + 1]);
    assert_eq!(answers(&server, &[&too_big[..14]]).await, (vec![], 1009), "at its announcement");
    let fragments = [client_frame(0x01, &vec![b' '; limit]), client_frame(0x80, b" ")].concat();
    assert_eq!(answers(&server, &[&fragments]).await, (vec![], 1009));
    let just = [client_frame(TEXT, &vec![b' '; limit]), bye()].concat();
    let (messages, code) = answers(&server, &[&just]).await;
    assert_eq!((messages[0]["code"].as_str(), code), (Some("not_json"), 1000));
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_answered_and_the_connection_stays() {
    let server = TestServer::embedded(&["--cores", "2", "--max-subscriptions", "2"]).await;
    for (text, code) in [
        ("", "not_json"),
        ("subscribe", "not_json"),
        (r#"["subscribe"]"#, "not_json"),
        (r#"{"command":"publish","productIDs":[1]}"#, "unknown_command"),
        (r#"{"productIDs":[1]}"#, "unknown_command"),
        (r#"{"command":"subscribe","productIDs":["1"]}"#, "bad_product_ids"),
        (r#"{"command":"subscribe","productIDs":[1,1.5]}"#, "bad_product_ids"),
        (r#"{"command":"subscribe","productIDs":[-1]}"#, "bad_product_ids"),
        (r#"{"command":"subscribe","productIDs":[9007199254740992]}"#, "bad_product_ids"),
        (r#"{"command":"subscribe"}"#, "bad_product_ids"),
        (r#"{"command":"subscribe","productIDs":[1,2,3]}"#, "too_many_subscriptions"),
    ] {
        let still_works = client_frame(TEXT, br#"{"command":"subscribe","productIDs":[8,9],"id":1}"#);
        let bytes = [client_frame(TEXT, text.as_bytes()), still_works, bye()].concat();
        let (messages, close) = answers_however_cut(&server, &bytes).await;
        assert_eq!(messages[0]["code"], code, "{text}");
        assert!(messages[0]["error"].is_string() && messages[0].get("reply").is_none());
        assert_eq!(messages[1], serde_json::json!({"reply": 1, "ok": true, "subscribed": 2}), "{text}");
        assert_eq!((messages.len(), close), (2, 1000));
    }
    server.until_metric("rowcast_subscriptions", 0).await;
}

#[tokio::test]
async fn what_comes_together_with_the_handshake_is_read_first() {
    let server = TestServer::embedded(&["--cores", "1", "--commands-per-second", "0"]).await;
    let early = client_frame(TEXT, br#"{"command":"subscribe","productIDs":[1],"id":7}"#);
    for cut in 0..=early.len() {
        let mut socket = RawSocket::connect(server.address, &early[..cut]).await;
        socket.write(&early[cut..]).await;
        let (_, payload) = socket.read_frame().await.unwrap();
        assert_eq!(payload, br#"{"reply":7,"ok":true,"subscribed":1}"#);
    }
    let much: Vec<u8> = early.repeat(4000);
    let mut socket = RawSocket::connect(server.address, &much).await;
    for _ in 0..4000 {
        assert_eq!(socket.read_frame().await.unwrap().1, br#"{"reply":7,"ok":true,"subscribed":1}"#);
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_its_bytes_also_inside_a_message() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut socket = RawSocket::connect(server.address, b"").await;
    socket.write_frame(PING, b"a").await;
    assert_eq!(socket.read_frame().await, Some((PONG, b"a".to_vec())));
    socket.write_frame(0x01, br#"{"command":"subscribe","#).await;
    socket.write_frame(PING, &[b'b'; 125]).await;
    socket.write_frame(PONG, b"nobody asked").await;
    socket.write_frame(0x80, br#""productIDs":[1],"id":1}"#).await;
    assert_eq!(socket.read_frame().await, Some((PONG, vec![b'b'; 125])));
    assert_eq!(socket.read_frame().await.unwrap().0, TEXT);
}

#[tokio::test]
async fn a_reader_that_only_writes_is_not_read_for_ever() {
    // Nothing of what is answered is read, so the server must stop reading, rather than keep the answers.
    let server = TestServer::embedded(&["--cores", "1", "--commands-per-second", "0"]).await;
    let socket = RawSocket::connect(server.address, b"").await;
    let pings = client_frame(PING, &[b'x'; 125]).repeat(1000);
    let mut written: usize = 0;
    // More than the kernel's buffers of both sides hold.
    while written < 64 * 1024 * 1024 {
        if let Ok(bytes) = socket.stream.try_write(&pings) {
            written += bytes;
            continue;
        }
        // The server answers a request on its only core, so it has done what it could with the pings.
        server.get("/healthz").await;
        if socket.stream.try_write(&pings).is_err() {
            return;
        }
    }
    panic!("all was read");
}
