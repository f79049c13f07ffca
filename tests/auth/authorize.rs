//! Another token on an open socket: what it grants counts from then on, and what it does not is ended and said.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::Request;
use serde_json::{Value, json};

use super::tokens::{Issuer, bearer, everything, guarded, now};
use crate::support::http2::{Http2, StreamSocket, extended_connect};
use crate::support::server::{Http, TestServer, product_json};
use crate::support::socket::{Read, Socket};

const TEXT: u8 = 0x81;
const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// A server without bounds that these tests meet.
async fn roomy() -> (TestServer, Issuer) {
    guarded(&["--slow-consumer", "disconnect", "--send-queue-frames", "10000", "--max-subscriptions", "200000"]).await
}

/// A socket whose token grants this.
async fn open(server: &TestServer, issuer: &Issuer, rights: Value) -> Socket {
    let token = bearer(&issuer.granting(rights));
    Socket::connect_with(server.address, "/websocket", &[("authorization", &token)]).await.0
}

fn authorize(token: &str) -> String {
    json!({"command": "authorize", "token": token, "id": "a"}).to_string()
}

/// Takes messages until the reply with this id, which is the last of them.
async fn until_reply(socket: &mut Socket, id: &Value) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let message = socket.next().await;
        let is_last = message["reply"] == *id;
        messages.push(message);
        if is_last {
            return messages;
        }
    }
}

/// Has the socket authorized by a token that grants this; returns what it was told, the reply last.
async fn renew(socket: &mut Socket, issuer: &Issuer, rights: Value) -> Vec<Value> {
    socket.send(&authorize(&issuer.granting(rights))).await;
    until_reply(socket, &json!("a")).await
}

/// Sends a command on rows; returns its reply, before which only rows may come.
async fn ask(socket: &mut Socket, command: Value) -> Value {
    let mut command = command;
    command["id"] = json!("q");
    socket.send(&command.to_string()).await;
    until_reply(socket, &json!("q")).await.pop().unwrap()
}

fn ok(subscribed: usize) -> Value {
    json!({"reply": "a", "ok": true, "subscribed": subscribed})
}

/// Writes rows as whoever may do everything.
struct Writer {
    http: Http,
    token: String,
}

impl Writer {
    async fn new(address: SocketAddr, issuer: &Issuer) -> Self {
        let all = json!({"read": "*", "write": true, "tables": {
            "orders": {"read": "*", "write": true}, "notes": {"read": "*", "write": true}}});
        Self { http: Http::connect(address).await, token: bearer(&issuer.granting(all)) }
    }

    async fn put(&mut self, path: &str, body: &str) {
        let headers = [("authorization", &*self.token)];
        let reply = self.http.request_with("PUT", path, &headers, Some(body)).await;
        assert!(reply.status.is_success(), "{reply:?}");
    }

    async fn product(&mut self, id: u64, units: i64) {
        self.put(&format!("/products/{id}"), &product_json(id, units)).await;
    }
}

#[tokio::test]
async fn what_a_new_token_does_not_read_is_ended_and_said_and_the_rest_goes_on() {
    let (server, issuer) = roomy().await;
    let mut writer = Writer::new(server.address, &issuer).await;
    let mut socket = open(&server, &issuer, json!({"read": ["1-9"]})).await;
    socket.subscribe(1..=5).await;

    let told = renew(&mut socket, &issuer, json!({"read": [2, 4, 20]})).await;
    let [ended, reply] = &told[..] else { panic!("{told:?}") };
    let mut ids: Vec<u64> = serde_json::from_value(ended["unsubscribed"].clone()).unwrap();
    ids.sort_unstable();
    assert_eq!((ids, ended.as_object().unwrap().len(), reply), (vec![1, 3, 5], 1, &ok(2)));
    for id in 1..=5 {
        writer.product(id, 7).await;
    }
    assert_eq!(socket.next().await["product"]["productId"], 2);
    assert_eq!(socket.next().await["product"]["productId"], 4);

    // Commands are served under the new one.
    assert_eq!(socket.command("subscribe", [3]).await["code"], "forbidden");
    assert_eq!(socket.command("subscribe", [20]).await["subscribed"], 3);
    // One that reads more ends nothing; without an id nothing is answered.
    socket
        .send(&json!({"command": "authorize", "token": issuer.granting(json!({"read": ["1-30"]}))}).to_string())
        .await;
    assert_eq!(socket.command("subscribe", [3]).await, json!({"reply": "c", "ok": true, "subscribed": 4}));
    // What ends is said to those, too, who want no reply.
    socket.send(&json!({"command": "authorize", "token": issuer.granting(json!({"read": [2]}))}).to_string()).await;
    let mut ids: Vec<u64> = serde_json::from_value(socket.next().await["unsubscribed"].clone()).unwrap();
    ids.sort_unstable();
    assert_eq!(ids, [3, 4, 20]);
    assert_eq!(socket.command("subscribe", []).await["subscribed"], 1);
}

#[tokio::test]
async fn rows_of_tables_are_ended_by_their_keys() {
    let (server, issuer) = roomy().await;
    let mut writer = Writer::new(server.address, &issuer).await;
    writer.put("/tables/orders/1", "{}").await;
    writer.put("/tables/notes/1", "{}").await;
    let mut socket =
        open(&server, &issuer, json!({"read": "*", "tables": {"orders": {"read": "*"}, "notes": {"read": "*"}}})).await;
    let orders =
        json!({"command": "subscribe", "table": "orders", "keys": [1, 17, "a-9", "b \"9\"", UUID, "9007199254740993"]});
    assert_eq!(ask(&mut socket, orders).await["subscribed"], 6);
    let notes = json!({"command": "subscribe", "table": "notes", "keys": [1, "x"], "snapshot": true});
    assert_eq!(ask(&mut socket, notes).await["subscribed"], 8);
    socket.subscribe([1, 2]).await;

    let rights = json!({"read": [2], "tables": {"orders": {"read": [17, UUID]}}});
    let mut told = renew(&mut socket, &issuer, rights).await;
    assert_eq!(told.pop(), Some(ok(3)));
    let mut ended: BTreeSet<String> = BTreeSet::new();
    for message in &told {
        let table = message.get("table").and_then(Value::as_str).unwrap_or("products");
        for key in message["unsubscribed"].as_array().unwrap() {
            assert!(ended.insert(format!("{table} {key}")), "{told:?}");
        }
    }
    let expected = [
        "notes \"x\"",
        "notes 1",
        "orders \"9007199254740993\"",
        "orders \"a-9\"",
        "orders \"b \\\"9\\\"\"",
        "orders 1",
        "products 1",
    ];
    assert_eq!(ended.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    for path in ["/tables/orders/1", "/tables/orders/a-9", "/tables/notes/1", "/tables/notes/x"] {
        writer.put(path, "{}").await;
    }
    writer.put(&format!("/tables/orders/{UUID}"), "{}").await;
    assert_eq!(socket.next().await["key"], UUID);
    let named = ask(&mut socket, json!({"command": "subscribe", "table": "notes", "keys": [1]})).await;
    assert_eq!(named["code"], "forbidden");
}

#[tokio::test]
async fn everything_stays_where_the_new_token_reads_the_same_and_is_ended_where_it_does_not() {
    let (server, issuer) = roomy().await;
    let mut writer = Writer::new(server.address, &issuer).await;
    writer.put("/tables/orders/1", "{}").await;
    let rights = |orders: Value| json!({"read": ["1-9"], "tables": {"orders": {"read": orders}}});
    let mut socket = open(&server, &issuer, rights(json!([1, 2, "a"]))).await;
    ask(&mut socket, json!({"command": "subscribe", "productIDs": "*"})).await;
    ask(&mut socket, json!({"command": "subscribe", "table": "orders", "keys": "*"})).await;
    ask(&mut socket, json!({"command": "subscribe", "table": "orders", "keys": [1, "a"]})).await;

    assert_eq!(renew(&mut socket, &issuer, rights(json!(["a", 2, 1, 1]))).await, [ok(4)], "it reads the same");
    writer.put("/tables/orders/2", "{}").await;
    assert_eq!(socket.next().await["key"], 2);

    let mut told = renew(&mut socket, &issuer, rights(json!([1, 2]))).await;
    assert_eq!(told.pop(), Some(ok(2)), "the products, and one order by its key");
    let told: BTreeSet<String> = told.iter().map(Value::to_string).collect();
    let expected = [r#"{"unsubscribed":"*","table":"orders"}"#, r#"{"unsubscribed":["a"],"table":"orders"}"#];
    let expected = expected.map(|text| serde_json::from_str::<Value>(text).unwrap().to_string());
    assert_eq!(told, BTreeSet::from(expected));
    for path in ["/tables/orders/a", "/tables/orders/2", "/tables/orders/1"] {
        writer.put(path, "{}").await;
    }
    writer.product(3, 1).await;
    assert_eq!(socket.next().await["key"], 1);
    assert_eq!(socket.next().await["product"]["productId"], 3);

    // Whoever subscribes anew has what the new one reads.
    let all = json!({"command": "subscribe", "table": "orders", "keys": "*", "snapshot": true, "id": 1});
    socket.send(&all.to_string()).await;
    let told = until_reply(&mut socket, &json!(1)).await;
    let keys: BTreeSet<i64> = told.iter().filter_map(|message| message["key"].as_i64()).collect();
    assert_eq!(keys, BTreeSet::from([1, 2]), "{told:?}");
    assert!(told.iter().all(|message| message["key"] != "a"), "{told:?}");

    let told = renew(&mut socket, &issuer, json!({"read": [1]})).await;
    assert!(told.contains(&json!({"unsubscribed": "*"})), "{told:?}");
    assert!(told.contains(&json!({"unsubscribed": "*", "table": "orders"})), "{told:?}");
    assert!(told.contains(&json!({"unsubscribed": [1], "table": "orders"})), "{told:?}");
    assert_eq!((told.len(), told.last()), (4, Some(&ok(0))));
}

#[tokio::test]
async fn a_hundred_thousand_subscriptions_are_narrowed_at_once() {
    const IDS: u64 = 100_000;
    let (server, issuer) = guarded(&["--slow-consumer", "disconnect"]).await;
    let mut writer = Writer::new(server.address, &issuer).await;
    let mut socket = open(&server, &issuer, json!({"read": "*"})).await;
    for first in (0..IDS).step_by(20_000) {
        socket.subscribe(first..first + 20_000).await;
    }
    let mut told = renew(&mut socket, &issuer, json!({"read": ["50000-50009"]})).await;
    assert_eq!(told.pop(), Some(ok(10)));
    let mut ended = BTreeSet::new();
    for message in &told {
        let ids: Vec<u64> = serde_json::from_value(message["unsubscribed"].clone()).unwrap();
        assert!(ids.len() <= 512);
        for id in ids {
            assert!(ended.insert(id), "{id} is said twice");
        }
    }
    assert!(ended.into_iter().eq((0..50_000).chain(50_010..IDS)));
    for id in [0, 49_999, 50_009, 99_999] {
        writer.product(id, 1).await;
    }
    assert_eq!(socket.next().await["product"]["productId"], 50_009);
    assert_eq!(
        writer.http.request_with("GET", "/metrics", &[("authorization", &writer.token)], None).await.status,
        200
    );
}

#[tokio::test]
async fn a_snapshot_that_is_due_has_no_row_that_the_new_token_does_not_read() {
    const IDS: u64 = 300;
    let (server, issuer) = roomy().await;
    let mut writer = Writer::new(server.address, &issuer).await;
    for id in 0..IDS {
        writer.product(id, 1).await;
    }
    let mut socket = open(&server, &issuer, json!({"read": "*"})).await;
    let ids: Vec<u64> = (0..IDS).collect();
    socket.send(&json!({"command": "subscribe", "productIDs": ids, "snapshot": true, "id": 1}).to_string()).await;
    let told = renew(&mut socket, &issuer, json!({"read": ["100-109"]})).await;
    let place = |wanted: &Value| told.iter().position(|message| message["reply"] == *wanted).unwrap();
    let first = &told[place(&json!(1))];
    assert_eq!(first, &json!({"reply": 1, "ok": true, "subscribed": IDS}));
    let is_ended = |message: &&Value| message.get("unsubscribed").is_some();
    assert!(told[..place(&json!(1))].iter().all(|message| !is_ended(&message)), "it is said after what came before");
    let ended: usize = told.iter().filter(is_ended).map(|it| it["unsubscribed"].as_array().unwrap().len()).sum();
    assert_eq!((ended, told.last()), (290, Some(&ok(10))));
    let shown = told.iter().filter_map(|message| message["product"]["productId"].as_u64());
    let shown: BTreeSet<u64> = shown.collect();
    assert!((100..110).all(|id| shown.contains(&id)), "{shown:?}");
    for id in 95..115 {
        writer.product(id, 2).await;
    }
    for id in 100..110 {
        assert_eq!(socket.next().await["product"]["productId"], id);
    }
}

#[tokio::test]
async fn the_socket_ends_with_its_new_token() {
    let (server, issuer) = guarded(&[]).await;
    let until = |seconds: u64| now() + Duration::from_secs(seconds);
    let of = |expires_at: Duration| issuer.token(json!({"exp": expires_at.as_secs_f64(), "rowcast": everything()}));
    let (soon, later) = (until(3), until(7));
    let headers = |token: &str| bearer(token);
    let (brief, long) = (headers(&of(soon)), headers(&of(until(3600))));
    let (mut extended, _) = Socket::connect_with(server.address, "/websocket", &[("authorization", &brief)]).await;
    let (mut shortened, _) = Socket::connect_with(server.address, "/websocket", &[("authorization", &long)]).await;
    let (mut both, _) = Socket::connect_with(server.address, "/websocket", &[("authorization", &long)]).await;
    for (socket, tokens) in [
        (&mut extended, vec![of(later)]),
        (&mut shortened, vec![of(soon)]),
        (&mut both, vec![of(soon), of(until(3600))]),
    ] {
        for token in tokens {
            socket.send(&authorize(&token)).await;
            assert_eq!(socket.next().await, ok(0));
        }
    }
    assert_eq!(shortened.read().await, Read::Close(4401));
    assert!(now() >= soon && now() < later, "at the end of the new one");
    assert_eq!(extended.read().await, Read::Close(4401));
    assert!(now() >= later, "not at the end of the old one");
    both.subscribe([1]).await;
}

#[tokio::test]
async fn a_token_that_is_refused_changes_nothing() {
    let (server, issuer) = roomy().await;
    let mut writer = Writer::new(server.address, &issuer).await;
    let mut socket = open(&server, &issuer, json!({"read": [1, 2]})).await;
    socket.subscribe([1, 2]).await;
    let other = Issuer::private("ES256").granting(everything());
    let expired = issuer.token(json!({"exp": now().as_secs() - 1, "rowcast": everything()}));
    let early = issuer.token(json!({"nbf": now().as_secs() + 60, "rowcast": everything()}));
    for (token, sentence) in [
        (Value::Null, "token is a string"),
        (json!(7), "token is a string"),
        (json!(["a.b.c"]), "token is a string"),
        (json!(""), "not a JWT"),
        (json!("garbage"), "not a JWT"),
        (json!(other), "no key of this server"),
        (json!(expired), "has expired"),
        (json!(early), "not valid yet"),
        (json!("x".repeat(8193)), "longer than 8192 bytes"),
        (json!("x".repeat(200_000)), "longer than 8192 bytes"),
        (json!(issuer.granting(json!({"read": "all"}))), "the claim rowcast"),
    ] {
        socket.send(&json!({"command": "authorize", "token": token, "id": 7}).to_string()).await;
        let reply = socket.next().await;
        assert_eq!((&reply["reply"], &reply["ok"], &reply["code"]), (&json!(7), &json!(false), &json!("bad_token")));
        assert!(reply["error"].as_str().unwrap().contains(sentence), "{reply}");
    }
    socket.send(r#"{"command":"authorize"}"#).await;
    let refused = socket.next().await;
    assert_eq!((&refused["code"], refused.get("reply")), (&json!("bad_token"), None));
    assert_eq!(socket.command("subscribe", [3]).await["code"], "forbidden", "the old one counts");
    writer.product(2, 1).await;
    assert_eq!(socket.next().await["product"]["productId"], 2, "and its subscriptions stay");
}

#[tokio::test]
async fn without_keys_a_token_means_nothing_here_either() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1, 2]).await;
    for token in [json!("garbage"), json!(""), Value::Null] {
        socket.send(&json!({"command": "authorize", "token": token, "id": "a"}).to_string()).await;
        assert_eq!(socket.next().await, ok(2));
    }
    assert_eq!(socket.command("subscribe", [3]).await["subscribed"], 3);
}

#[tokio::test]
async fn a_token_costs_more_than_another_command() {
    let (server, issuer) = guarded(&["--commands-per-second", "30"]).await;
    let all = bearer(&issuer.granting(everything()));
    let held = async || {
        let metrics = server.request_with("GET", "/metrics", &[("authorization", &all)], None).await.text;
        let line = metrics.lines().find(|line| line.starts_with("rowcast_refused_total{limit=\"commands\"}")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let mut socket = open(&server, &issuer, json!({"read": "*"})).await;
    for _ in 0..5 {
        socket.subscribe([1]).await;
    }
    assert_eq!(held().await, 0);
    for _ in 0..3 {
        assert_eq!(renew(&mut socket, &issuer, json!({"read": "*"})).await, [ok(1)]);
    }
    assert!(held().await > 0, "three signatures are more than thirty commands");
}

/// Opens a WebSocket on a stream of HTTP/2, with a token that grants this.
async fn open_on_http2(http2: &mut Http2, issuer: &Issuer, rights: Value) -> StreamSocket {
    let mut request: Request<()> = extended_connect("/websocket", "websocket");
    request.headers_mut().insert("authorization", bearer(&issuer.granting(rights)).parse().unwrap());
    http2.websocket_with(request).await.0
}

#[tokio::test]
async fn a_socket_on_http2_is_authorized_likewise() {
    let (server, issuer) = roomy().await;
    let mut writer = Writer::new(server.address, &issuer).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = open_on_http2(&mut http2, &issuer, json!({"read": "*"})).await;
        socket.subscribe([1, 2]).await;
        sockets.push(socket);
    }
    let narrow = authorize(&issuer.granting(json!({"read": [2]})));
    sockets[0].write_frame(TEXT, narrow.as_bytes());
    assert_eq!(sockets[0].next().await, json!({"unsubscribed": [1]}));
    assert_eq!(sockets[0].next().await, ok(1));
    writer.product(1, 1).await;
    writer.product(2, 1).await;
    assert_eq!(sockets[0].next().await["product"]["productId"], 2);
    assert_eq!(sockets[1].next().await["product"]["productId"], 1, "the other stream has its own");
}
