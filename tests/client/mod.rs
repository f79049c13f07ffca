//! The crate `rowcast-client` against a server: what subscribers are told, and what is left of them on the server.

mod connection;
#[path = "../../clients/rust/examples/follow.rs"]
#[allow(dead_code)]
mod follow;
mod rows;
mod tokens;

use rowcast_client::{Change, Client, Event, Options, Row, Subscription, connect};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::patiently;
use crate::support::server::TestServer;

fn client(server: &TestServer, options: Options) -> Client {
    connect(&format!("http://{}", server.address), options).unwrap()
}

async fn put(server: &TestServer, key: &str, row: &str) {
    let reply = server.request("PUT", &format!("/tables/orders/{key}"), Some(row)).await;
    assert!(reply.status.is_success(), "{reply:?}");
}

/// Opens a WebSocket as a server does, and says this. Returns it, and the head of the request.
async fn open_websocket(mut stream: TcpStream, text: &str) -> (TcpStream, String) {
    let head = read_head(&mut stream).await;
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    say(&mut stream, text).await;
    (stream, head)
}

/// Reads the head of a request.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Says a message of less than 126 bytes, as a server does.
async fn say(stream: &mut TcpStream, text: &str) {
    let head = [0x81, u8::try_from(text.len()).unwrap()];
    stream.write_all(&[&head, text.as_bytes()].concat()).await.unwrap();
}

/// Returns the next event.
async fn next(events: &mut Subscription) -> Event {
    patiently(events.next()).await.expect("it goes on")
}

/// Reads until this; returns the changes until then.
async fn until(events: &mut Subscription, wanted: &Event) -> Vec<Change> {
    let mut changes = Vec::new();
    loop {
        match next(events).await {
            event if event == *wanted => return changes,
            Event::Change(change) => changes.push(change),
            Event::Refused(refusal) => panic!("{refusal}"),
            Event::Complete | Event::Live | Event::Stale => {}
        }
    }
}

/// Reads until a change that is wanted.
async fn until_change(events: &mut Subscription, is_wanted: impl Fn(&Change) -> bool) -> Change {
    loop {
        if let Event::Change(change) = next(events).await
            && is_wanted(&change)
        {
            return change;
        }
    }
}

/// Returns the key and the JSON of each row, where there is one.
fn shown(changes: &[Change]) -> Vec<(String, Option<&str>)> {
    changes.iter().map(|change| (change.key.to_string(), change.row.as_ref().map(Row::json))).collect()
}
