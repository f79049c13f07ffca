//! Subscribing, unsubscribing, and what comes of it.

use serde_json::json;

use crate::support::server::{TestServer, product_json};
use crate::support::socket::Socket;

#[tokio::test]
async fn a_change_is_cast_as_it_commits() {
    let server = TestServer::embedded(&["--cores", "2", "--shards", "5"]).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1, 2, 3]).await;
    let version = server.request("PUT", "/products/2", Some(&product_json(2, 6))).await.version();
    let product: serde_json::Value = serde_json::from_str(&product_json(2, 6)).unwrap();
    assert_eq!(socket.next().await, json!({"action": "INSERT", "version": version, "product": product}));
    server.request("PUT", "/products/9", Some(&product_json(9, 1))).await;
    let version = server.request("PATCH", "/products/2", Some(r#"{"unitsAvailable":5}"#)).await.version();
    let change = socket.next().await;
    assert_eq!((&change["action"], change["version"].as_u64()), (&json!("UPDATE"), Some(version)));
    assert_eq!(change["product"]["unitsAvailable"], 5);
    server.request("DELETE", "/products/2", None).await;
    let change = socket.next().await;
    assert_eq!((&change["action"], &change["product"]["unitsAvailable"]), (&json!("DELETE"), &json!(5)));
}

#[tokio::test]
async fn replies_count_and_come_only_where_they_are_asked_for() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let mut socket = Socket::connect(server.address).await;
    socket.send(r#"{"command":"subscribe","productIDs":[1,2,2,3]}"#).await;
    assert_eq!(socket.command("subscribe", [3, 4]).await, json!({"reply": "c", "ok": true, "subscribed": 4}));
    assert_eq!(socket.command("subscribe", [3, 4]).await["subscribed"], 4, "twice is once");
    assert_eq!(socket.command("unsubscribe", [4, 4, 5]).await["subscribed"], 3);
    assert_eq!(socket.command("subscribe", []).await["subscribed"], 3);
    socket.send(r#"{"command":"subscribe","productIDs":"1","id":-5}"#).await;
    let reply = socket.next().await;
    assert_eq!((&reply["reply"], &reply["ok"], &reply["code"]), (&json!(-5), &json!(false), &json!("bad_product_ids")));
}

#[tokio::test]
async fn unsubscribing_ends_this_connections_subscription_only() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let (mut first, mut second) = (Socket::connect(server.address).await, Socket::connect(server.address).await);
    first.subscribe([1, 2]).await;
    second.subscribe([1, 2]).await;
    assert_eq!(first.command("unsubscribe", [1]).await["subscribed"], 1);
    server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    server.request("PUT", "/products/2", Some(&product_json(2, 1))).await;
    assert_eq!(first.next().await["product"]["productId"], 2);
    assert_eq!(second.next().await["product"]["productId"], 1);
    assert_eq!(second.next().await["product"]["productId"], 2);
}

#[tokio::test]
async fn the_limit_of_subscriptions_is_exact_and_names_itself() {
    let server = TestServer::embedded(&["--cores", "2", "--max-subscriptions", "1000"]).await;
    let mut socket = Socket::connect(server.address).await;
    assert_eq!(socket.command("subscribe", 0..999).await["subscribed"], 999);
    let refused = socket.command("subscribe", 990..1001).await;
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("too_many_subscriptions")));
    assert!(refused["error"].as_str().unwrap().contains("1000"), "{refused}");
    assert_eq!(socket.command("unsubscribe", []).await["subscribed"], 999, "nothing was subscribed");
    assert_eq!(socket.command("subscribe", 990..1000).await["subscribed"], 1000, "what is subscribed counts once");
    assert_eq!(socket.command("subscribe", (0..1000).chain(0..1000)).await["subscribed"], 1000);
    assert_eq!(socket.command("unsubscribe", 0..500).await["subscribed"], 500);
    assert_eq!(socket.command("subscribe", 5000..5500).await["subscribed"], 1000);
}

#[tokio::test]
async fn commands_are_carried_out_in_their_order() {
    let server = TestServer::embedded(&["--cores", "2", "--shards", "7"]).await;
    let mut socket = Socket::connect(server.address).await;
    for round in 0..200 {
        socket
            .send(&json!({"command": "subscribe", "productIDs": [round, round + 1], "id": round * 2}).to_string())
            .await;
        socket.send(&json!({"command": "unsubscribe", "productIDs": [round], "id": round * 2 + 1}).to_string()).await;
    }
    for round in 0..200 {
        let (first, second) = (socket.next().await, socket.next().await);
        assert_eq!((&first["reply"], &first["subscribed"]), (&json!(round * 2), &json!(2)));
        assert_eq!((&second["reply"], &second["subscribed"]), (&json!(round * 2 + 1), &json!(1)));
    }
}

#[tokio::test]
async fn an_ordinary_request_is_told_how_to_open_a_websocket() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let reply = server.get("/websocket").await;
    assert_eq!((reply.status.as_u16(), reply.header("upgrade")), (426, "websocket"));
    assert_eq!(server.request("POST", "/websocket", None).await.status, 405);
}

#[tokio::test]
async fn a_stop_closes_every_socket_with_1012_after_all_changes() {
    let mut server = TestServer::embedded(&["--cores", "2"]).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = Socket::connect(server.address).await;
        socket.subscribe([1]).await;
        sockets.push(socket);
    }
    let version = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    server.begin_stop();
    for mut socket in sockets {
        assert_eq!(socket.next().await["version"], version);
        assert_eq!(socket.until_closed().await.1, 1012);
    }
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut, ended.requests_cut), (20, 0, false));
}
