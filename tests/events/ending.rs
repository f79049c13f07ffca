//! The end of a stream, by either side.

use std::time::Duration;

use serde_json::json;

use super::readers;
use crate::auth::tokens::{bearer, everything, guarded, now};
use crate::support::events::{Event, EventReader, Found};
use crate::support::http2::{Http2, roomy};
use crate::support::patiently;
use crate::support::server::TestServer;
use crate::support::tls::Certificate;

#[tokio::test]
async fn a_reader_that_leaves_gives_its_place_and_its_subscriptions_back() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let closed = r#"rowcast_connections_closed_total{reason="peer"}"#;
    for (times, mut reader) in (1..).zip(readers(&server, "/events?productIDs=1,2").await) {
        reader.until_reply().await;
        drop(reader);
        server.until_metric(closed, times).await;
    }
    let mut http2 = Http2::connect(server.address).await;
    let mut reader = EventReader::on(&mut http2, "/events?productIDs=*", &[]).await;
    reader.until_reply().await;
    http2.abort();
    server.until_metric(closed, 3).await;
    server.until_metric("rowcast_connections", 0).await;
    server.until_metric("rowcast_subscriptions", 0).await;
}

/// Checks what a server that stops says last: when to come back, and that it stops.
fn check_farewell(rest: &[Found]) {
    let [.., Found::Retry(retry), Found::Event(hint), Found::Event(close)] = rest else { panic!("{rest:?}") };
    assert!((100..2_100).contains(retry), "{retry}");
    assert_eq!(hint.json(), json!({"reconnect": {"afterMs": retry}}));
    let Event { kind, .. } = close;
    assert_eq!((&**kind, &close.json()["code"]), ("close", &json!(1012)));
}

#[tokio::test]
async fn a_server_that_stops_says_when_to_come_back() {
    let mut server = TestServer::embedded(&["--cores", "2", "--drain-seconds", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(EventReader::connect(server.address, "/events?productIDs=1").await);
        streams.push(EventReader::on(&mut http2, "/events?productIDs=1", &[]).await);
    }
    for reader in &mut streams {
        reader.until_reply().await;
    }
    server.begin_stop();
    for mut reader in streams {
        check_farewell(&reader.rest().await);
    }
    patiently(http2.ended()).await.unwrap();
    let ended = server.ended().await;
    assert_eq!((ended.connections_cut, ended.requests_cut), (0, false), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_stops_says_so_over_tls_too() {
    let certificate = Certificate::new();
    let mut server = TestServer::https(&certificate, &["--cores", "1", "--drain-seconds", "1"]).await;
    let stream = certificate.client().connect(server.address).await;
    let mut http1 = EventReader::over(stream, "/events?productIDs=1", &[]).await;
    let mut connection = Http2::with_tls(server.address, &certificate, &roomy()).await;
    let mut http2 = EventReader::on(&mut connection, "/events?productIDs=1", &[]).await;
    http1.until_reply().await;
    http2.until_reply().await;
    server.begin_stop();
    for mut reader in [http1, http2] {
        check_farewell(&reader.rest().await);
    }
}

#[tokio::test]
async fn streams_are_closed_when_their_token_expires() {
    let (server, issuer) = guarded(&[]).await;
    let expires_at = now() + Duration::from_secs(3);
    let token = bearer(&issuer.token(json!({"exp": expires_at.as_secs_f64(), "rowcast": everything()})));
    let authorization = [("authorization", &*token)];
    let mut connection = Http2::connect(server.address).await;
    let http1 = EventReader::connect_with(server.address, "/events?productIDs=1", &authorization).await;
    let http2 = EventReader::on(&mut connection, "/events?productIDs=*", &authorization).await;
    for mut reader in [http1, http2] {
        assert_eq!(reader.closed().await, 4401);
        assert!(now() >= expires_at, "not before it expires");
    }
    let again = server.request_with("GET", "/events?productIDs=1", &authorization, None).await;
    assert_eq!(again.status, 401, "on which EventSource gives up");
}
