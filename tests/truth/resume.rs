//! A resume: what differs from the versions that a reader knows, and nothing else.

use serde_json::json;

use super::{Reader, delete, on_postgres, put};
use crate::support::server::TestServer;

/// A version that no product reaches.
const UNREACHED: u64 = (1 << 53) - 1;

async fn a_resume_brings_what_differs(server: &TestServer) {
    for id in 1..=3 {
        put(server, id, 10).await;
    }
    let mut first = Reader::connect(server).await;
    first.snapshot(1..=4).await;

    let mut unchanged = first.reconnect(server).await;
    let (before, reply) = unchanged.resume(1..=3).await;
    assert_eq!((before, &reply["subscribed"]), (vec![json!({"epoch": first.epoch})], &json!(3)));

    put(server, 2, 20).await;
    delete(server, 3).await;
    put(server, 4, 40).await;
    // A writer has its answer before the readers of a Postgres hear of it.
    server.until_metric("rowcast_changes_total", 6).await;
    let mut changed = first.reconnect(server).await;
    let (before, _) = changed.resume(1..=4).await;
    assert_eq!(changed.units, [(1, 10), (2, 20), (4, 40)].into());
    assert_eq!(changed.received, 3, "1 has not changed: {before:?}");
    assert_eq!(changed.epoch, first.epoch);
    put(server, 1, 11).await;
    assert_eq!(changed.next().await["product"]["unitsAvailable"], 11);

    let mut elsewhere = first.reconnect(server).await;
    elsewhere.epoch = Some("another".to_owned());
    elsewhere.resume(1..=4).await;
    assert_eq!((elsewhere.received, &elsewhere.epoch), (4, &first.epoch), "of another epoch no version counts");
    assert_eq!(elsewhere.units, [(1, 11), (2, 20), (4, 40)].into());
}

#[tokio::test]
async fn embedded() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    a_resume_brings_what_differs(&server).await;
}

#[tokio::test]
async fn postgres() {
    let (_database, server) = on_postgres(&["--cores", "2"]).await;
    a_resume_brings_what_differs(&server).await;
}

async fn a_version_that_never_was_disturbs_only_its_reader(server: &TestServer) {
    put(server, 1, 10).await;
    put(server, 2, 20).await;
    let mut honest = Reader::connect(server).await;
    honest.snapshot([1, 2]).await;

    let mut liar = honest.reconnect(server).await;
    liar.versions.insert(1, UNREACHED);
    let (before, reply) = liar.resume([1, 2]).await;
    assert_eq!(reply["ok"], true);
    assert_ne!(liar.epoch, honest.epoch, "it is told an epoch of its own: {before:?}");
    assert_eq!(liar.units, [(1, 10), (2, 20)].into());
    assert_eq!(liar.versions, honest.versions, "and everything: {before:?}");

    let version = put(server, 1, 11).await;
    for reader in [&mut honest, &mut liar] {
        let change = reader.next().await;
        assert_eq!((&change["version"], &change["product"]["unitsAvailable"]), (&json!(version), &json!(11)));
    }
    // The epoch of its own is nobody else's.
    let mut back = liar.reconnect(server).await;
    back.resume([1, 2]).await;
    assert_eq!((back.received, &back.epoch), (2, &honest.epoch));
}

#[tokio::test]
async fn a_version_that_never_was_disturbs_only_its_reader_embedded() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    a_version_that_never_was_disturbs_only_its_reader(&server).await;
}

#[tokio::test]
async fn a_version_that_never_was_disturbs_only_its_reader_postgres() {
    let (_database, server) = on_postgres(&["--cores", "2"]).await;
    a_version_that_never_was_disturbs_only_its_reader(&server).await;
}
