//! A snapshot: each product as it is, then the reply, then changes.

use serde_json::json;

use super::{Line, Reader, delete, on_postgres, put};
use crate::support::http2::Http2;
use crate::support::server::TestServer;
use crate::support::socket::Socket;
use crate::support::tls::Certificate;

async fn a_snapshot_tells_what_is_and_what_is_not(server: &TestServer, reader: &mut Reader) {
    let version = put(server, 1, 10).await;
    put(server, 2, 20).await;
    put(server, 3, 30).await;
    delete(server, 3).await;
    // With Postgres a write is answered before it is heard, and what is heard later comes beside the snapshot.
    server.until_metric("rowcast_changes_total", 4).await;
    let (before, reply) = reader.snapshot(1..=4).await;
    assert!(before[0]["epoch"].is_string(), "{before:?}");
    assert_eq!(reply, json!({"reply": 7, "ok": true, "subscribed": 4}));
    assert_eq!(reader.units, [(1, 10), (2, 20)].into());
    assert_eq!(reader.versions[&1], version);
    assert!(reader.versions.contains_key(&3) && reader.versions.contains_key(&4), "what is absent is told");
    assert_eq!(reader.received, 4, "each comes once: {before:?}");

    for (id, units) in [(1, 11), (4, 40)] {
        let version = put(server, id, units).await;
        let change = reader.next().await;
        assert_eq!((&change["version"], &change["product"]["unitsAvailable"]), (&json!(version), &json!(units)));
    }
    delete(server, 2).await;
    assert_eq!(reader.next().await["action"], "DELETE");

    // Also where it is subscribed to already: the last change of each, as it was sent.
    let (again, _) = reader.snapshot([1, 4]).await;
    let mut actions: Vec<&str> = again.iter().filter_map(|message| message["action"].as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["INSERT", "UPDATE"], "{again:?}");
    assert_eq!(reader.units, [(1, 11), (4, 40)].into());
}

#[tokio::test]
async fn embedded() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut reader = Reader::connect(&server).await;
    a_snapshot_tells_what_is_and_what_is_not(&server, &mut reader).await;
}

#[tokio::test]
async fn postgres() {
    let (_database, server) = on_postgres(&["--cores", "2"]).await;
    let mut reader = Reader::connect(&server).await;
    a_snapshot_tells_what_is_and_what_is_not(&server, &mut reader).await;
}

#[tokio::test]
async fn over_http2() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut reader = Reader::new(Line::Http2(http2.websocket().await));
    a_snapshot_tells_what_is_and_what_is_not(&server, &mut reader).await;
}

#[tokio::test]
async fn over_tls() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let socket = Socket::over(certificate.client().connect(server.address).await).await;
    let mut reader = Reader::new(Line::Http1(socket));
    a_snapshot_tells_what_is_and_what_is_not(&server, &mut reader).await;
}

/// More than may be in progress at once: those that wait go on as the states of the others come.
async fn every_command_of_many_is_answered(server: &TestServer, reader: &mut Reader) {
    put(server, 7, 70).await;
    for id in 0..200 {
        reader.send(&json!({"command": "subscribe", "productIDs": [id], "snapshot": true, "id": id})).await;
    }
    for id in 0..200 {
        let (_, reply) = reader.until_reply().await;
        assert_eq!(reply, json!({"reply": id, "ok": true, "subscribed": id + 1}));
    }
    assert_eq!(reader.units, [(7, 70)].into());
}

#[tokio::test]
async fn of_many_commands_at_once() {
    for cores in ["1", "2"] {
        let server = TestServer::embedded(&["--cores", cores]).await;
        every_command_of_many_is_answered(&server, &mut Reader::connect(&server).await).await;
        let (_database, server) = on_postgres(&["--cores", cores]).await;
        every_command_of_many_is_answered(&server, &mut Reader::connect(&server).await).await;
        let mut http2 = Http2::connect(server.address).await;
        every_command_of_many_is_answered(&server, &mut Reader::new(Line::Http2(http2.websocket().await))).await;
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_and_disturbs_nothing() {
    let server = TestServer::embedded(&[]).await;
    let mut reader = Reader::connect(&server).await;
    for (asked, code) in [
        (json!({"snapshot": "yes"}), "bad_snapshot"),
        (json!({"versions": [1]}), "bad_versions"),
        (json!({"versions": [1, -1]}), "bad_versions"),
        (json!({"versions": [1, 2], "epoch": 5}), "bad_epoch"),
    ] {
        let mut command = json!({"command": "subscribe", "productIDs": [1, 2], "id": 9});
        command.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        reader.send(&command).await;
        let (before, reply) = reader.until_reply().await;
        assert_eq!((before.len(), &reply["ok"], &reply["code"]), (0, &json!(false), &json!(code)), "{reply}");
    }
    put(&server, 1, 5).await;
    let (_, reply) = reader.snapshot([1]).await;
    assert_eq!((&reply["subscribed"], reader.units[&1]), (&json!(1), 5));
}
