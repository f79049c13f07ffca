//! A subscription to every product.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Line, Reader, delete, on_postgres, put};
use crate::auth::tokens::{bearer, everything, guarded};
use crate::support::http2::Http2;
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::Socket;

impl Reader {
    /// Subscribes to everything, and drops what was not named by the reply; returns the messages before it, and it.
    async fn everything(&mut self) -> (Vec<Value>, Value) {
        let newest = self.versions.values().max().copied().unwrap_or(0);
        let epoch = self.epoch.clone().unwrap_or_default();
        let command = json!({"command": "subscribe", "productIDs": "*", "snapshot": true, "id": 7,
                             "epoch": epoch, "newest": newest});
        let before = std::mem::take(&mut self.units);
        self.send(&command).await;
        let answer = self.until_reply().await;
        let named: BTreeSet<u64> = (answer.0.iter())
            .flat_map(|message| {
                let absent = message["absent"].as_array().into_iter().flatten();
                absent.chain([&message["product"]["productId"]]).filter_map(Value::as_u64)
            })
            .collect();
        for id in before.into_keys().filter(|id| !named.contains(id)) {
            self.versions.remove(&id);
        }
        answer
    }

    /// Reads until it shows these rows.
    async fn until_shows(&mut self, rows: &BTreeMap<u64, i64>) {
        patiently(async {
            while self.units != *rows {
                self.next().await;
            }
        })
        .await;
    }
}

async fn whoever_subscribes_to_everything_is_told_everything_once(server: &TestServer, reader: &mut Reader) {
    let mut witness = Reader::connect(server).await;
    witness.snapshot(1..=3).await;
    for id in [1, 2, 3] {
        put(server, id, 10).await;
        witness.next().await;
    }
    delete(server, 3).await;
    witness.next().await;
    // Subscribed to one of them, and to one that is not there.
    reader.send(&json!({"command": "subscribe", "productIDs": [2, 77], "id": 1})).await;
    assert_eq!(reader.until_reply().await.1["subscribed"], 2);
    let (before, reply) = reader.everything().await;
    assert_eq!(reply, json!({"reply": 7, "ok": true, "subscribed": 3}));
    assert_eq!(reader.units, [(1, 10), (2, 10)].into(), "{before:?}");
    let mut rows: Vec<u64> = before.iter().filter_map(|message| message["product"]["productId"].as_u64()).collect();
    rows.sort_unstable();
    assert_eq!(rows, [1, 2], "each once");
    assert!(before[0]["epoch"].is_string(), "{before:?}");

    for (id, units) in [(2, 11), (50, 50), (77, 70), (1, 12)] {
        let version = put(server, id, units).await;
        let change = reader.next().await;
        assert_eq!((&change["version"], &change["product"]["productId"]), (&json!(version), &json!(id)), "each once");
    }
    delete(server, 50).await;
    assert_eq!(reader.next().await["action"], "DELETE");
    // Its own subscriptions come and go beside it, and change nothing.
    reader.send(&json!({"command": "unsubscribe", "productIDs": [2, 77], "id": 2})).await;
    assert_eq!(reader.until_reply().await.1["subscribed"], 1);
    put(server, 2, 12).await;
    assert_eq!(reader.next().await["product"]["unitsAvailable"], 12);
    let (again, reply) = reader.everything().await;
    assert_eq!(reply["subscribed"], 1);
    assert_eq!(reader.units, [(1, 12), (2, 12), (77, 70)].into(), "{again:?}");

    reader.send(&json!({"command": "unsubscribe", "productIDs": "*", "id": 3})).await;
    assert_eq!(reader.until_reply().await.1, json!({"reply": 3, "ok": true, "subscribed": 0}));
    put(server, 1, 13).await;
    reader.send(&json!({"command": "subscribe", "productIDs": [2], "id": 4})).await;
    assert_eq!(reader.until_reply().await, (vec![], json!({"reply": 4, "ok": true, "subscribed": 1})));
    put(server, 1, 14).await;
    put(server, 2, 15).await;
    assert_eq!(reader.next().await["product"]["unitsAvailable"], 15, "nothing of the first came");
}

#[tokio::test]
async fn embedded() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut reader = Reader::connect(&server).await;
    whoever_subscribes_to_everything_is_told_everything_once(&server, &mut reader).await;
}

#[tokio::test]
async fn postgres() {
    let (_database, server) = on_postgres(&["--cores", "2"]).await;
    let mut reader = Reader::connect(&server).await;
    whoever_subscribes_to_everything_is_told_everything_once(&server, &mut reader).await;
}

#[tokio::test]
async fn over_http2() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut reader = Reader::new(Line::Http2(http2.websocket().await));
    whoever_subscribes_to_everything_is_told_everything_once(&server, &mut reader).await;
}

#[tokio::test]
async fn a_table_of_several_pages_is_told_while_it_changes_and_after_a_gap() {
    let (database, server) = on_postgres(&["--cores", "2"]).await;
    let client = database.connect().await;
    let insert = "INSERT INTO products SELECT n, 'm', '1EUR', 0, 'n' FROM generate_series(1, 25000) n";
    client.batch_execute(insert).await.unwrap();
    let writer = database.connect().await;
    let writing = tokio::spawn(async move {
        for round in 1..=40 {
            let write = format!(
                "UPDATE products SET units_available = {round} WHERE product_id % 97 = {round}; \
                 DELETE FROM products WHERE product_id % 499 = {round}; \
                 INSERT INTO products VALUES ({round} + 100000, 'm', '1EUR', {round}, 'n')"
            );
            writer.batch_execute(&write).await.unwrap();
        }
    });
    let mut reader = Reader::connect(&server).await;
    let (_, reply) = reader.everything().await;
    assert_eq!(reply["ok"], true, "{reply}");
    writing.await.unwrap();
    let table = || async {
        let rows = client.query("SELECT product_id, units_available FROM products", &[]).await.unwrap();
        rows.iter().map(|row| (row.get::<_, i64>(0).cast_unsigned(), row.get(1))).collect::<BTreeMap<u64, i64>>()
    };
    reader.until_shows(&table().await).await;

    let killed = "SELECT coalesce(bool_or(pg_terminate_backend(pid, 60000)), false) FROM pg_stat_activity \
                  WHERE datname = current_database() AND application_name = 'rowcast listener'";
    while !client.query_one(killed, &[]).await.unwrap().get::<_, bool>(0) {}
    let missed = "UPDATE products SET units_available = 1000 WHERE product_id < 10; \
                  DELETE FROM products WHERE product_id BETWEEN 20 AND 30; \
                  INSERT INTO products SELECT n, 'm', '1EUR', 7, 'n' FROM generate_series(200001, 200010) n";
    client.batch_execute(missed).await.unwrap();
    reader.until_shows(&table().await).await;
    server.until_ready().await;

    // Who resumes with what it knows shows what is true as well, also what went meanwhile.
    let mut other = reader.reconnect(&server).await;
    drop(reader);
    client.batch_execute("DELETE FROM products WHERE product_id BETWEEN 40 AND 50").await.unwrap();
    other.everything().await;
    other.until_shows(&table().await).await;
}

#[tokio::test]
async fn a_token_for_some_products_sees_those() {
    let (server, issuer) = guarded(&[]).await;
    let all = bearer(&issuer.granting(everything()));
    let put = async |id: u64, units: i64| {
        let (path, headers) = (format!("/products/{id}"), [("authorization", all.as_str())]);
        let reply = server.request_with("PUT", &path, &headers, Some(&product_json(id, units))).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    for id in 0..10 {
        put(id, 1).await;
    }
    let token = bearer(&issuer.granting(json!({"read": [1, "3-5", 20]})));
    let (socket, _) = Socket::connect_with(server.address, "/websocket", &[("authorization", &token)]).await;
    let mut reader = Reader::new(Line::Http1(socket));
    let (before, reply) = reader.everything().await;
    assert_eq!(reply["ok"], true);
    assert_eq!(reader.units, [(1, 1), (3, 1), (4, 1), (5, 1)].into(), "{before:?}");
    // Also one change alone, and several that come together.
    for id in [2, 3, 19, 20, 21, 6, 4] {
        put(id, 2).await;
    }
    for id in [3, 20, 4] {
        assert_eq!(reader.next().await["product"]["productId"], id);
    }
    reader.send(&json!({"command": "unsubscribe", "productIDs": "*", "id": 3})).await;
    assert_eq!(reader.until_reply().await, (vec![], json!({"reply": 3, "ok": true, "subscribed": 0})));
}

#[tokio::test]
async fn more_rows_than_the_server_keeps_are_refused_and_can_be_named() {
    let server = TestServer::embedded(&["--cores", "2", "--wildcard-rows", "3"]).await;
    for id in 1..=3 {
        put(&server, id, 1).await;
    }
    let mut early = Reader::connect(&server).await;
    assert_eq!(early.everything().await.1["ok"], true);
    put(&server, 4, 1).await;
    assert_eq!(early.next().await["product"]["productId"], 4, "who is subscribed stays");
    let mut late = Reader::connect(&server).await;
    let (before, reply) = late.everything().await;
    assert_eq!((&reply["ok"], &reply["code"]), (&json!(false), &json!("too_many_rows")), "it has grown: {before:?}");
    assert_eq!(early.everything().await.1["ok"], true);
    assert_eq!(early.units, [(1, 1), (2, 1), (3, 1), (4, 1)].into());
    delete(&server, 4).await;
    assert_eq!(early.next().await["action"], "DELETE");
    let mut other = Reader::connect(&server).await;
    // A deletion is told before the row is counted out.
    patiently(async { while other.everything().await.1["ok"] != true {} }).await;
    put(&server, 4, 1).await;
    early.next().await;
    drop((early, other, late));
    server.until_metric("rowcast_connections", 0).await;
    let mut late = Reader::connect(&server).await;
    let (before, reply) = late.everything().await;
    assert_eq!((&reply["ok"], &reply["code"]), (&json!(false), &json!("too_many_rows")), "{before:?}");
    put(&server, 1, 2).await;
    assert_eq!(late.snapshot([1]).await.1, json!({"reply": 7, "ok": true, "subscribed": 1}));
    // A write is answered as soon as it is committed: its change may come behind the snapshot.
    late.until_shows(&[(1, 2)].into()).await;
    assert!(server.metric(r#"rowcast_refused_total{limit="wildcard_rows"}"#).await >= 2);
}

#[tokio::test]
async fn what_is_not_everything_is_refused() {
    let server = TestServer::embedded(&[]).await;
    let mut reader = Reader::connect(&server).await;
    for (asked, code) in [
        (json!({"productIDs": "all"}), "bad_product_ids"),
        (json!({"productIDs": ["*"]}), "bad_product_ids"),
        (json!({"versions": []}), "bad_versions"),
        (json!({"snapshot": 1}), "bad_snapshot"),
        (json!({"epoch": 1}), "bad_epoch"),
        (json!({"newest": "1"}), "bad_newest"),
        (json!({"newest": -1}), "bad_newest"),
        (json!({"newest": 9_007_199_254_740_992_u64}), "bad_newest"),
    ] {
        let mut command = json!({"command": "subscribe", "productIDs": "*", "id": 9});
        command.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        reader.send(&command).await;
        let (before, reply) = reader.until_reply().await;
        assert_eq!((before.len(), &reply["ok"], &reply["code"]), (0, &json!(false), &json!(code)), "{reply}");
    }
}

#[tokio::test]
async fn a_version_that_no_row_has_disturbs_nobody_but_who_claims_it() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    put(&server, 1, 1).await;
    let (mut honest, mut other) = (Reader::connect(&server).await, Reader::connect(&server).await);
    honest.everything().await;
    other.epoch = honest.epoch.clone();
    other.versions.insert(5, 9_007_199_254_740_991);
    let (before, _) = other.everything().await;
    assert!(before.iter().any(|message| message["epoch"].is_string()), "it begins anew: {before:?}");
    assert_ne!(other.epoch, honest.epoch);
    assert_eq!(other.units, [(1, 1)].into());
    put(&server, 1, 2).await;
    assert_eq!(honest.next().await["product"]["unitsAvailable"], 2);
    assert_eq!(other.next().await["product"]["unitsAvailable"], 2);
}
