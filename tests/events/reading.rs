//! What a reader is told: the states of what it asks for, and their changes.

use serde_json::{Value, json};

use super::{reader, readers};
use crate::support::events::EventReader;
use crate::support::http2::Http2;
use crate::support::postgres::Cluster;
use crate::support::server::{TestServer, product_json};
use crate::support::tls::Certificate;

async fn put(server: &TestServer, id: u64, units: i64) -> u64 {
    let reply = server.request("PUT", &format!("/products/{id}"), Some(&product_json(id, units))).await;
    assert!(reply.status.is_success(), "{reply:?}");
    reply.version()
}

/// The action, the version and the id of a message about a product.
fn brief(message: &Value) -> Value {
    json!([message["action"], message["version"], message["product"]["productId"]])
}

#[tokio::test]
async fn a_reader_is_told_the_states_then_each_change() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let first = put(&server, 1, 5).await;
    for http in [1, 2] {
        let mut reader = reader(&server, http, "/events?productIDs=1,2,1&productIDs=3").await;
        let states = reader.states().await;
        let row = states.iter().find(|it| it["action"] == "SNAPSHOT").unwrap_or_else(|| panic!("{states:?}"));
        assert_eq!(brief(row), json!(["SNAPSHOT", first, 1]));
        // What is remembered of a product may be its deletion.
        let deleted = states.iter().filter(|it| it["action"] == "DELETE").map(|it| &it["product"]["productId"]);
        let absent = states.iter().filter_map(|it| it["absent"].as_array()).flatten();
        let mut absent: Vec<u64> = absent.chain(deleted).map(|id| id.as_u64().unwrap()).collect();
        absent.sort_unstable();
        assert_eq!(absent, [2, 3]);
        for (id, action) in [(2, "INSERT"), (2, "UPDATE")] {
            let version = put(&server, id, 7).await;
            put(&server, 9, 7).await;
            let event = reader.event().await;
            assert_eq!(brief(&event.json()), json!([action, version, 2]));
            assert!(event.id.ends_with(&format!("-{version}")), "{event:?}");
        }
        server.request("DELETE", "/products/2", None).await;
        assert_eq!(reader.next().await["action"], "DELETE");
    }
}

#[tokio::test]
async fn the_head_of_the_answer_keeps_caches_and_proxies_from_holding_it_back() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let [http1, http2] = readers(&server, "/events?productIDs=1").await;
    assert!(http1.head.starts_with("HTTP/1.1 200 OK\r\n") && http1.head.contains("connection: close\r\n"));
    for reader in [&http1, &http2] {
        for header in ["cache-control: no-store", "x-accel-buffering: no", "x-content-type-options: nosniff", "date: "]
        {
            assert!(reader.head.contains(header), "{header}: {}", reader.head);
        }
        assert!(!reader.head.contains("content-length") && !reader.head.contains("transfer-encoding"));
    }
    assert!(!http2.head.contains("connection"));
    for reply in [
        server.request("HEAD", "/events?productIDs=1", None).await,
        Http2::connect(server.address).await.request("HEAD", "/events?productIDs=1", None).await,
    ] {
        assert_eq!((reply.status.as_u16(), reply.header("content-type"), &*reply.text), (200, "text/event-stream", ""));
        assert!(!reply.headers.contains_key("content-length"), "{reply:?}");
    }
    assert_eq!(server.metric("rowcast_connections").await, 2, "HEAD opens none");
}

#[tokio::test]
async fn a_reader_of_everything_is_told_what_is_there_and_what_comes() {
    let server = TestServer::embedded(&["--cores", "2", "--shards", "3"]).await;
    for id in 0..200 {
        put(&server, id, 1).await;
    }
    for (new, http) in [(1001, 1), (1002, 2)] {
        let mut reader = reader(&server, http, "/events?productIDs=*").await;
        let states = reader.states().await;
        let mut ids: Vec<u64> = states.iter().map(|it| it["product"]["productId"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..200).collect::<Vec<_>>());
        put(&server, new, 1).await;
        assert_eq!(reader.next().await["product"]["productId"], new);
        server.request("DELETE", &format!("/products/{new}"), None).await;
        assert_eq!(reader.next().await["action"], "DELETE");
    }
}

#[tokio::test]
async fn rows_of_a_table_are_named_by_their_keys() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    for key in ["17", "a,b%20c", "%C3%A9"] {
        let body = format!(r#"{{"key":"{key}"}}"#);
        assert_eq!(server.request("PUT", &format!("/tables/orders/{key}"), Some(&body)).await.status, 201);
    }
    for (http, state) in [(1, "paid"), (2, "sent")] {
        let mut reader = reader(&server, http, "/events?table=orders&key=17&key=a,b+c&key=none").await;
        let states = reader.states().await;
        let mut told: Vec<String> = states.iter().map(|it| format!("{}{}", it["key"], it["absent"])).collect();
        told.sort_unstable();
        assert_eq!(told, [r#""a,b c"null"#, "17null", r#"null["none"]"#]);
        server.request("PUT", "/tables/orders/%C3%A9", Some("{}")).await;
        server.request("PUT", "/tables/orders/17", Some(&json!({"state": state}).to_string())).await;
        let change = reader.next().await;
        assert_eq!(
            (&change["table"], &change["key"], &change["row"]),
            (&json!("orders"), &json!(17), &json!({"state": state}))
        );
    }
    for mut reader in readers(&server, "/events?table=orders&key=*").await {
        assert_eq!(reader.states().await.len(), 3);
    }
    for mut reader in readers(&server, "/events?table=products&key=4").await {
        assert_eq!(reader.states().await[0]["absent"], json!([4]));
    }
}

/// The rest of what a reader with this id is told until it is up to date.
async fn resumed(server: &TestServer, path: &str, id: &str) -> Vec<Value> {
    EventReader::connect_with(server.address, path, &[("last-event-id", id)]).await.states().await
}

#[tokio::test]
async fn the_last_event_id_spares_the_one_row_that_has_not_changed() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    put(&server, 1, 1).await;
    put(&server, 2, 1).await;
    let (one, two) = ("/events?productIDs=1", "/events?productIDs=1,2");
    let mut reader = EventReader::connect(server.address, one).await;
    reader.until_reply().await;
    put(&server, 1, 2).await;
    let id = reader.event().await.id;
    let epoch = id.split('-').next().unwrap();
    assert_eq!(resumed(&server, one, &id).await, Vec::<Value>::new(), "it has that row");
    let mut http2 = Http2::connect(server.address).await;
    let mut again = EventReader::on(&mut http2, one, &[("last-event-id", &id)]).await;
    assert_eq!(again.states().await, Vec::<Value>::new());
    assert_eq!(resumed(&server, two, &id).await.len(), 2, "one version says nothing of two rows");
    assert_eq!(resumed(&server, "/events?productIDs=*", &id).await.len(), 2);
    for nothing in
        ["", "7", "-", &format!("{epoch}-"), &format!("{epoch}-x"), &format!("other-{}", &id[epoch.len() + 1..])]
    {
        assert_eq!(resumed(&server, one, nothing).await.len(), 1, "{nothing:?}");
    }

    let version = put(&server, 1, 3).await;
    let told = resumed(&server, one, &id).await;
    assert_eq!(told.iter().map(brief).collect::<Vec<_>>(), [json!(["UPDATE", version, 1])]);
    server.request("DELETE", "/products/1", None).await;
    let gone = until_gone(&mut reader).await;
    assert_eq!(resumed(&server, one, &gone).await, Vec::<Value>::new(), "it knows that the row is gone");
}

/// Reads until its row is deleted; the id of that event.
async fn until_gone(reader: &mut EventReader) -> String {
    loop {
        let event = reader.event().await;
        if event.json()["action"] == "DELETE" {
            return event.id;
        }
    }
}

#[tokio::test]
async fn a_version_that_never_was_is_answered_with_an_epoch_of_its_own() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let version = put(&server, 1, 1).await;
    let mut honest = EventReader::connect(server.address, "/events?productIDs=1").await;
    let epoch = honest.next().await["epoch"].as_str().unwrap().to_owned();
    honest.until_reply().await;
    let id = format!("{epoch}-{}", version + 100);
    let mut reader = EventReader::connect_with(server.address, "/events?productIDs=1", &[("last-event-id", &id)]).await;
    let (messages, reply) = reader.until_reply().await;
    assert_eq!((&messages[0]["epoch"], &reply["ok"]), (&json!(epoch), &json!(true)));
    let own = messages[1]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(brief(&messages[2]), json!(["SNAPSHOT", version, 1]), "{messages:?}");
    let version = put(&server, 1, 2).await;
    assert_eq!(reader.event().await.id, format!("{own}-{version}"));
    assert_eq!(honest.event().await.id, format!("{epoch}-{version}"), "whatever another reader claims");
}

#[tokio::test]
async fn ends_of_lines_in_the_json_of_a_column_come_as_lines() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE TABLE notes (id int PRIMARY KEY, body json)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--cores", "1", "--table", "notes"]).await;
    let body = "E'{\\n \"a\":\\r\\n[1,\\r2]\\n\\n}'";
    owner.batch_execute(&format!("INSERT INTO notes VALUES (1, {body})")).await.unwrap();
    for http in [1, 2] {
        let mut reader = reader(&server, http, "/events?table=notes&key=1&key=2").await;
        let snapshot = loop {
            let event = reader.event().await;
            if event.json()["key"] == 1 {
                break event;
            }
        };
        assert!(snapshot.data.contains("{\n \"a\":\n[1,\n2]\n\n}"), "{snapshot:?}");
        assert_eq!(snapshot.json()["row"], json!({"id": 1, "body": {"a": [1, 2]}}));
        reader.until_reply().await;
        owner
            .batch_execute(&format!("INSERT INTO notes VALUES (2, {body}); DELETE FROM notes WHERE id = 2"))
            .await
            .unwrap();
        let change = reader.event().await;
        assert_eq!(change.json()["row"], json!({"id": 2, "body": {"a": [1, 2]}}));
        assert_eq!(reader.next().await["action"], "DELETE");
    }
}

#[tokio::test]
async fn a_reader_over_tls_is_told_the_same() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    put(&server, 1, 1).await;
    let stream = certificate.client().connect(server.address).await;
    let http1 = EventReader::over(stream, "/events?productIDs=1", &[]).await;
    let mut http2 = Http2::with_tls(server.address, &certificate, &crate::support::http2::roomy()).await;
    let http2 = EventReader::on(&mut http2, "/events?productIDs=1", &[]).await;
    for mut reader in [http1, http2] {
        assert_eq!(reader.states().await.len(), 1);
        put(&server, 1, 2).await;
        assert_eq!(reader.next().await["product"]["unitsAvailable"], 2);
    }
}
