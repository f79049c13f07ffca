//! Connections: tokens, refusals, what ends a client, and what a client leaves behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rowcast_client::{Error, Event, Options, Rows, State, Token, connect};
use serde_json::json;
use tokio::net::TcpListener;

use super::{client, next, open_websocket, put, until, until_change};
use crate::auth::tokens::{Issuer, bearer, everything, guarded, now};
use crate::support::patiently;
use crate::support::server::TestServer;

#[tokio::test]
async fn a_token_is_asked_for_anew_when_it_has_expired_and_no_row_is_lost() {
    let (server, issuer) = guarded(&[]).await;
    let grant = json!({"read": "*", "write": true, "tables": {"orders": {"read": "*", "write": true}}});
    let writer = bearer(&issuer.granting(grant.clone()));
    let write = async |row: &str| {
        let headers = [("authorization", &writer[..])];
        let reply = server.request_with("PUT", "/tables/orders/1", &headers, Some(row)).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    write("{}").await;
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let ask = move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let expires_at = now() + Duration::from_secs(if number == 1 { 4 } else { 3600 });
        let token = Issuer::private("EdDSA").token(json!({"exp": expires_at.as_secs_f64(), "rowcast": grant}));
        // The first time it cannot be had.
        async move { if number == 0 { Err("the issuer sleeps") } else { Ok(token) } }
    };
    let client = client(&server, Options { token: Some(Token::from_fn(ask)), ..Options::default() });
    let mut orders = client.subscribe(Rows::of("orders", [1]));
    let mut statuses = client.statuses();
    let failed = Error::Token("the issuer sleeps".to_owned());
    patiently(statuses.wait_for(|status| status.problem == Some(failed.clone()))).await.unwrap();
    until(&mut orders, &Event::Live).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    write(r#"{"n":1}"#).await;
    until_change(&mut orders, |_| true).await;
    until(&mut orders, &Event::Stale).await;
    write(r#"{"n":2}"#).await;
    let change = until_change(&mut orders, |_| true).await;
    assert_eq!(change.row.unwrap().json(), r#"{"n":2}"#);
    patiently(statuses.wait_for(|status| status.state == State::Live)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_another_try_does_not_change_ends_it_with_the_reason() {
    let (server, issuer) = guarded(&[]).await;
    let url = format!("ws://{}", server.address);
    let good = issuer.granting(everything());
    let name = server.address.to_string();
    let path = "/nothing/websocket".to_owned();
    for (url, token, expected) in [
        (url.clone(), None, Error::Unauthorized { server: name.clone(), status: 401 }),
        (url.clone(), Some("x"), Error::Unauthorized { server: name.clone(), status: 401 }),
        (url.clone(), Some("a\nb"), Error::Token("it has characters that no token has".to_owned())),
        (format!("{url}/nothing"), Some(&*good), Error::NoWebSocket { server: name.clone(), path, status: 404 }),
    ] {
        let options = Options { token: token.map(Token::from), ..Options::default() };
        let client = connect(&url, options).unwrap();
        let mut products = client.subscribe(Rows::products([1]));
        patiently(async { while products.next().await.is_some() {} }).await;
        assert_eq!((patiently(client.closed()).await, client.state()), (Some(expected), State::Closed));
    }
}

#[tokio::test]
async fn a_token_that_nobody_renews_ends_it_when_it_expires() {
    let (server, issuer) = guarded(&[]).await;
    let expires_at = (now() + Duration::from_secs(4)).as_secs_f64();
    let token = issuer.token(json!({"exp": expires_at, "rowcast": everything()}));
    let client = client(&server, Options { token: Some(token.into()), ..Options::default() });
    assert_eq!(patiently(client.closed()).await, Some(Error::TokenExpired));
}

#[tokio::test]
async fn who_is_no_server_of_this_protocol_is_not_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _opened = open_websocket(stream, "not JSON").await;
        std::future::pending::<()>().await;
    });
    let client = connect(&url, Options::default()).unwrap();
    let error = patiently(client.closed()).await;
    assert!(matches!(error, Some(Error::Protocol { .. })), "{error:?}");
}

#[tokio::test]
async fn what_a_token_does_not_grant_is_refused_and_the_rest_is_followed() {
    let (server, issuer) = guarded(&[]).await;
    let writer = bearer(&issuer.granting(json!({"tables": {"orders": {"write": true}}})));
    let headers = [("authorization", &writer[..])];
    let reply = server.request_with("PUT", "/tables/orders/3", &headers, Some("{}")).await;
    assert!(reply.status.is_success(), "{reply:?}");
    let token = issuer.granting(json!({"tables": {"orders": {"read": [1]}}}));
    let client = client(&server, Options { token: Some(token.into()), ..Options::default() });
    let mut orders = client.subscribe(Rows::of("orders", [1, 2]));
    let mut others = client.subscribe(Rows::of("orders", [1]));
    let Event::Refused(refusal) = next(&mut orders).await else { panic!("a refusal comes first") };
    assert_eq!(refusal.code, "forbidden");
    assert_eq!((next(&mut orders).await, next(&mut orders).await), (Event::Complete, Event::Live));
    // They went in one command.
    assert!(matches!(next(&mut others).await, Event::Refused(_)));
}

#[tokio::test]
async fn many_subscriptions_of_a_row_are_one_which_ends_with_the_last_and_so_does_the_socket() {
    let server = TestServer::embedded(&[]).await;
    put(&server, "3", "{}").await;
    let client = client(&server, Options::default());
    let mut many: Vec<_> = (0..100).map(|_| client.subscribe(Rows::of("orders", ["1"]))).collect();
    let other = client.subscribe(Rows::of("orders", ["2"]));
    for events in &mut many {
        until(events, &Event::Live).await;
    }
    assert_eq!(server.metric("rowcast_subscriptions").await, 2);
    let last = many.pop().unwrap();
    drop((many, other));
    server.until_metric("rowcast_subscriptions", 1).await;
    put(&server, "1", "{}").await;
    drop(client);
    let mut last = last;
    until_change(&mut last, |change| change.row.is_some()).await;
    drop(last);
    server.until_metric(r#"rowcast_connections_closed_total{reason="peer"}"#, 1).await;
    server.until_metric("rowcast_connections", 0).await;
}

#[tokio::test]
async fn a_client_that_is_closed_leaves_and_tells_nothing_more() {
    let server = TestServer::embedded(&[]).await;
    put(&server, "1", "{}").await;
    let client = client(&server, Options::default());
    let mut orders = client.subscribe(Rows::all("orders"));
    until(&mut orders, &Event::Live).await;
    client.close();
    assert_eq!(patiently(client.closed()).await, None);
    assert_eq!(next(&mut orders).await, Event::Stale);
    assert_eq!((patiently(orders.next()).await, client.state()), (None, State::Closed));
    assert!(client.get("orders", 1).is_some(), "what was known stays");
    server.until_metric("rowcast_connections", 0).await;
    // Nobody connects where nothing is wanted any more.
    let late = client.subscribe(Rows::all("orders"));
    drop(late);
    assert_eq!(server.metric("rowcast_connections_closed_total").await, 1);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let accepted = tokio::spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            streams.push(open_websocket(stream, r#"{"epoch":"k3m"}"#).await);
        }
    });
    let client = connect(&url, Options { silence: Duration::from_millis(150), ..Options::default() }).unwrap();
    patiently(accepted).await.unwrap();
    assert_ne!(client.state(), State::Closed, "it comes back");
}
