//! Other tokens while a client is connected: what they grant comes, and what they do not grant is gone.

use std::time::Duration;

use rowcast_client::{Action, Error, Event, Key, Options, Rows, State, Subscription, Token, connect};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::sleep_until;

use super::{client, next, open_websocket, read_head, say, until, until_change};
use crate::auth::tokens::{Issuer, bearer, guarded, now};
use crate::support::patiently;
use crate::support::server::TestServer;

const EPOCH: &str = r#"{"epoch":"k3m"}"#;

async fn put(server: &TestServer, issuer: &Issuer, key: i64, n: i64) {
    let writer = bearer(&issuer.granting(json!({"tables": {"orders": {"write": true}}})));
    let (path, row) = (format!("/tables/orders/{key}"), json!({"n": n}).to_string());
    let reply = server.request_with("PUT", &path, &[("authorization", &writer[..])], Some(&row)).await;
    assert!(reply.status.is_success(), "{reply:?}");
}

fn reading(keys: &Value) -> Value {
    json!({"tables": {"orders": {"read": keys}}})
}

fn keys(client: &rowcast_client::Client) -> Vec<Key> {
    client.rows("orders").into_iter().map(|entry| entry.key).collect()
}

/// Reads until a refusal; returns its code.
async fn until_refused(events: &mut Subscription) -> String {
    loop {
        if let Event::Refused(refusal) = next(events).await {
            return refusal.code;
        }
    }
}

#[tokio::test]
async fn a_token_that_is_renewed_in_time_keeps_the_connection_and_a_bad_one_changes_nothing() {
    let (server, issuer) = guarded(&[]).await;
    put(&server, &issuer, 1, 1).await;
    let expires_at = tokio::time::Instant::now() + Duration::from_secs(3);
    let first = json!({"exp": (now() + Duration::from_secs(3)).as_secs_f64(), "rowcast": reading(&json!("*"))});
    let client = client(&server, Options { token: Some(issuer.token(first).into()), ..Options::default() });
    let mut orders = client.subscribe(Rows::of("orders", [1]));
    until(&mut orders, &Event::Live).await;
    let mut statuses = client.statuses();
    client.set_token("none");
    let is_bad = |problem: &Option<Error>| matches!(problem, Some(Error::Token(_)));
    patiently(statuses.wait_for(|status| is_bad(&status.problem) && status.state == State::Live)).await.unwrap();
    let second = issuer.granting(reading(&json!("*")));
    client.set_token(Token::from_fn(move || {
        let token = second.clone();
        async move { Ok::<_, Error>(token) }
    }));
    patiently(statuses.wait_for(|status| status.problem.is_none())).await.unwrap();
    sleep_until(expires_at + Duration::from_secs(1)).await;
    put(&server, &issuer, 1, 2).await;
    assert!(matches!(next(&mut orders).await, Event::Change(_)), "it was live all the time");
    assert_eq!(server.metric("rowcast_connections_closed_total").await, 0);
}

#[tokio::test]
async fn what_a_new_token_does_not_grant_is_gone_and_what_it_grants_comes() {
    let (server, issuer) = guarded(&[]).await;
    for key in 1..=3 {
        put(&server, &issuer, key, key).await;
    }
    let token = issuer.granting(reading(&json!([1, 2])));
    let client = client(&server, Options { token: Some(token.into()), ..Options::default() });
    let mut some = client.subscribe(Rows::of("orders", [1, 2, 3]));
    let mut all = client.subscribe(Rows::all("orders"));
    assert_eq!(until_refused(&mut some).await, "forbidden");
    assert_eq!((until(&mut some, &Event::Live).await, until(&mut all, &Event::Live).await.len()), (vec![], 2));
    client.set_token(issuer.granting(reading(&json!([2, 3]))));
    let gone = until_change(&mut some, |change| change.row.is_none()).await;
    assert_eq!((gone.key, gone.action), (Key::from(1), Action::Absent));
    assert_eq!(until_refused(&mut some).await, "forbidden");
    until_change(&mut all, |change| change.key == Key::from(3) && change.row.is_some()).await;
    until(&mut all, &Event::Live).await;
    assert_eq!(keys(&client), [Key::from(2), Key::from(3)]);
    // A row that was away for the token alone comes back as it was.
    client.set_token(issuer.granting(reading(&json!([1, 2, 3]))));
    let back = until_change(&mut some, |change| change.key == Key::from(1)).await;
    assert_eq!(back.row, gone.previous);
    until(&mut all, &Event::Live).await;
    put(&server, &issuer, 1, 10).await;
    until_change(&mut some, |change| change.key == Key::from(1)).await;
    assert_eq!((keys(&client).len(), server.metric("rowcast_connections_closed_total").await), (3, 0));
}

#[tokio::test]
async fn a_row_that_a_wider_token_grants_again_comes_although_it_has_not_changed() {
    // Neither pings nor silence wake the client meanwhile.
    let (server, issuer) = guarded(&["--ping-seconds", "120"]).await;
    put(&server, &issuer, 1, 1).await;
    let [wide, narrow] = [json!([1, 2]), json!([2])].map(|keys| issuer.granting(reading(&keys)));
    let silence = Duration::from_mins(10);
    let client = client(&server, Options { token: Some(wide.clone().into()), silence, ..Options::default() });
    let mut orders = client.subscribe(Rows::of("orders", [1, 2]));
    until(&mut orders, &Event::Live).await;
    client.set_token(narrow);
    assert_eq!(until_refused(&mut orders).await, "forbidden");
    client.set_token(wide);
    until(&mut orders, &Event::Live).await;
    assert_eq!(keys(&client), [Key::from(1)]);
}

/// A server of a version that knows no `authorize`.
#[tokio::test]
async fn a_server_that_takes_no_token_on_an_open_connection_is_connected_to_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = connect(&url, Options { token: Some("old".into()), ..Options::default() }).unwrap();
    let (mut first, head) = open_websocket(listener.accept().await.unwrap().0, EPOCH).await;
    assert!(head.contains("Bearer old\r\n"), "{head}");
    patiently(client.statuses().wait_for(|status| status.state == State::Live)).await.unwrap();
    client.set_token("new");
    let length = patiently(async { [first.read_u8().await.unwrap(), first.read_u8().await.unwrap()][1] & 0x7F }).await;
    // A mask, and then the command.
    first.read_exact(&mut vec![0; usize::from(length) + 4]).await.unwrap();
    say(&mut first, r#"{"reply":1,"ok":false,"error":"no","code":"unknown_command"}"#).await;
    let (_second, head) = open_websocket(patiently(listener.accept()).await.unwrap().0, EPOCH).await;
    assert!(head.contains("Bearer new\r\n"), "{head}");
}

#[tokio::test]
async fn a_client_that_waits_connects_at_once_with_another_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = connect(&url, Options { token: Some("old".into()), ..Options::default() }).unwrap();
    // It is to come back in ten minutes.
    let hint = r#"{"reconnect":{"afterMs":600000}}"#;
    drop(open_websocket(listener.accept().await.unwrap().0, hint).await);
    patiently(client.statuses().wait_for(|status| status.retry_at.is_some())).await.unwrap();
    client.set_token("new");
    let (_second, head) = open_websocket(patiently(listener.accept()).await.unwrap().0, EPOCH).await;
    assert!(head.contains("Bearer new\r\n"), "{head}");
}

/// Its server does not answer the handshake.
#[tokio::test]
async fn a_client_that_is_connecting_connects_anew_with_another_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = connect(&url, Options { token: Some("old".into()), ..Options::default() }).unwrap();
    let (mut first, _) = patiently(listener.accept()).await.unwrap();
    assert!(patiently(read_head(&mut first)).await.contains("Bearer old\r\n"));
    client.set_token("new");
    let second = patiently(listener.accept()).await.unwrap().0;
    let problem = client.status().problem;
    assert!(matches!(problem, Some(Error::Lost(_))), "the handshake's time is not waited out: {problem:?}");
    let (_second, head) = open_websocket(second, EPOCH).await;
    assert!(head.contains("Bearer new\r\n"), "{head}");
    assert_eq!(patiently(first.read(&mut [0])).await.unwrap(), 0, "it is left");
}
