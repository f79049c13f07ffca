//! The bounds on what one WebSocket sends.

use serde_json::json;

use super::refused;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::{RawSocket, Socket, client_frame};

#[tokio::test]
async fn a_message_above_the_limit_closes_with_1009() {
    let server = TestServer::embedded(&["--cores", "1", "--max-message-bytes", "1024"]).await;
    let mut socket = RawSocket::connect(server.address, &client_frame(0x81, &[b' '; 1024])).await;
    assert_eq!(socket.read_frame().await.unwrap().0, 0x81, "that one is only no command");
    socket.write(&client_frame(0x81, &[b' '; 1025])).await;
    let (first, payload) = socket.read_frame().await.unwrap();
    assert_eq!((first, &payload[..2]), (0x88, &1009u16.to_be_bytes()[..]));
    assert_eq!(refused(&server, "message_bytes").await, 1);
}

#[tokio::test]
async fn subscriptions_beyond_the_limit_are_counted() {
    let server = TestServer::embedded(&["--cores", "2", "--max-subscriptions", "2"]).await;
    let mut socket = Socket::connect(server.address).await;
    assert_eq!(socket.command("subscribe", 0..3).await["code"], "too_many_subscriptions");
    assert_eq!(refused(&server, "subscriptions").await, 1);
}

#[tokio::test]
async fn commands_beyond_the_rate_wait_and_are_all_carried_out_in_their_order() {
    let server = TestServer::embedded(&["--cores", "2", "--commands-per-second", "7"]).await;
    let command = |id| json!({"command": "subscribe", "productIDs": [id], "id": id}).to_string();
    let commands: Vec<u8> = (0..20).flat_map(|id| client_frame(0x81, command(id).as_bytes())).collect();
    let mut socket = RawSocket::connect(server.address, &commands).await;
    let mut other = Socket::connect(server.address).await;
    other.subscribe([100]).await;
    for id in 0..20 {
        let (_, reply) = socket.read_frame().await.unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply, json!({"reply": id, "ok": true, "subscribed": id + 1}));
    }
    assert!(refused(&server, "commands").await >= 2, "seven in each of at least two seconds");
    server.request("PUT", "/products/19", Some(&product_json(19, 1))).await;
    assert!(socket.read_frame().await.unwrap().1.starts_with(br#"{"action":"INSERT""#));
}
