//! The differences between the servers that are compared: paths, subscribing, publishing ([`Peer`]). Pure.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::commands::{States, commands, commands_on, join};
use crate::message::{self, Message};
use crate::table::Table;
use crate::token::Token;

/// The server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// Rowcast itself
    Rowcast,
    /// `rowcast-load floor`: bare sends
    Floor,
    /// loadtest/compare/bun: uWebSockets in Bun
    Bun,
    /// loadtest/compare/ws: the package ws on Node.js
    Ws,
    /// NATS, over its WebSocket port
    Nats,
    /// nginx with Nchan
    Nchan,
    /// Centrifugo
    Centrifugo,
}

/// The layout of messages in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// One message a frame.
    Bare,
    /// Messages between newlines.
    Lines,
    /// A stream of NATS operations, cut into frames anywhere.
    Nats,
}

/// The messages by which a client subscribes, the text of an answer, and the number of answers.
pub(crate) struct Subscribing {
    pub(crate) messages: Vec<String>,
    pub(crate) answer: &'static str,
    pub(crate) answers: usize,
}

/// The way in which readers subscribe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joining {
    pub(crate) peer: Peer,
    /// True if they ask for the state of each product first, which only Rowcast tells.
    pub(crate) asks_states: bool,
    /// The table of the rows; any but products is for Rowcast alone.
    pub(crate) table: Table,
    /// True if they have event streams, which only Rowcast has.
    pub(crate) has_events: bool,
}

impl From<Peer> for Joining {
    fn from(peer: Peer) -> Self {
        Self { peer, asks_states: false, table: Table::Products, has_events: false }
    }
}

impl Joining {
    /// Returns the path under which a client of these products is opened.
    pub(crate) fn path(self, ids: &[u32]) -> String {
        if self.has_events { self.table.events_path(ids) } else { self.peer.path(ids) }
    }

    /// Returns the messages by which a client subscribes to these products.
    pub(crate) fn subscribe(self, ids: &[u32]) -> Subscribing {
        if self.has_events {
            // By the request itself.
            return Subscribing { messages: Vec::new(), answer: r#""ok":true"#, answers: 1 };
        }
        match (self.asks_states, self.table) {
            (true, table) => commands_on(table, "subscribe", ids, States::All),
            (false, Table::Products) => self.peer.subscribe(ids),
            (false, table) => commands_on(table, "subscribe", ids, States::None),
        }
    }
}

impl Peer {
    /// Returns the path under which this client opens its WebSocket.
    pub(crate) fn path(self, ids: &[u32]) -> String {
        match self {
            Self::Nats => "/".to_owned(),
            Self::Nchan => format!("/subscribe?ids={}", joined(ids)),
            Self::Centrifugo => "/connection/websocket".to_owned(),
            Self::Rowcast | Self::Floor | Self::Bun | Self::Ws => "/websocket".to_owned(),
        }
    }

    /// Returns the layout of its messages in frames.
    pub(crate) fn envelope(self) -> Envelope {
        match self {
            Self::Nats => Envelope::Nats,
            Self::Centrifugo => Envelope::Lines,
            _ => Envelope::Bare,
        }
    }

    /// Returns the command that begins a connection, if the server wants one: it closes those on which it does not come.
    pub(crate) fn begin(self) -> Option<Subscribing> {
        let is_wanted = self == Self::Centrifugo;
        let answer = r#""connect":{"#;
        is_wanted.then(|| Subscribing { messages: vec![CENTRIFUGO_CONNECT.to_owned()], answer, answers: 1 })
    }

    fn subscribe(self, ids: &[u32]) -> Subscribing {
        match self {
            // Subscribed by the handshake itself.
            Self::Nchan | Self::Floor => Subscribing { messages: Vec::new(), answer: "", answers: 0 },
            Self::Nats => nats_subscribe(ids),
            Self::Centrifugo => centrifugo_subscribe(ids),
            Self::Rowcast | Self::Bun | Self::Ws => commands("subscribe", ids, States::None),
        }
    }

    /// Returns true if the server gives changes their versions; otherwise the publisher does.
    pub(crate) fn draws_versions(self) -> bool {
        self == Self::Rowcast
    }

    /// Returns the HTTP request that publishes this change of a product.
    pub(crate) fn publish_request(self, message: &Message, padding: usize, token: &Token) -> Vec<u8> {
        let request = |method, path: &str, body: &str| request(method, path, token, body);
        let product = message.product;
        let change = || message::change_json(message, padding);
        match self {
            Self::Rowcast => put_request(Table::Products, message, padding, token),
            Self::Nchan => request("POST", &format!("/publish?id={product}"), &change()),
            Self::Centrifugo => {
                request("POST", "/api/publish", &format!(r#"{{"channel":"{product}","data":{}}}"#, change()))
            }
            Self::Floor | Self::Bun | Self::Ws | Self::Nats => {
                request("PUT", &format!("/products/{product}"), &change())
            }
        }
    }
}

/// Returns the HTTP request that writes this row of a table to Rowcast.
pub(crate) fn put_request(table: Table, message: &Message, padding: usize, token: &Token) -> Vec<u8> {
    request("PUT", &table.path(message.product), token, &table.row_json(message, padding))
}

fn joined(ids: &[u32]) -> String {
    let mut text = String::new();
    join(&mut text, ids);
    text
}

/// Returns the operations of NATS that subscribe: a ping at the end is answered once all before it is done.
fn nats_subscribe(ids: &[u32]) -> Subscribing {
    let mut text = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n".to_owned();
    for (number, id) in ids.iter().enumerate() {
        let _ = write!(text, "SUB p.{id} {}\r\n", number + 1);
    }
    text.push_str("PING\r\n");
    Subscribing { messages: vec![text], answer: "PONG", answers: 1 }
}

/// The first command to a Centrifugo.
const CENTRIFUGO_CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// Commands are lines too, and so are the replies.
fn centrifugo_subscribe(ids: &[u32]) -> Subscribing {
    let mut text = CENTRIFUGO_CONNECT.to_owned();
    for (number, id) in ids.iter().enumerate() {
        let _ = write!(text, "\n{{\"id\":{},\"subscribe\":{{\"channel\":\"{id}\"}}}}", number + 2);
    }
    Subscribing { messages: vec![text], answer: r#""subscribe":{"#, answers: ids.len() }
}

fn request(method: &str, path: &str, token: &Token, body: &str) -> Vec<u8> {
    let (length, authorization) = (body.len(), token.line());
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_told_the_same_message() {
        let message = Message { product: 7, version: 3, due_ns: 5 };
        let json = message::change_json(&message, 4);
        for peer in [Peer::Floor, Peer::Bun, Peer::Ws, Peer::Nchan, Peer::Centrifugo] {
            let request = String::from_utf8(peer.publish_request(&message, 4, &Token::default())).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(body.contains(&json), "{peer:?}: {body}");
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        }
        let rowcast = String::from_utf8(Peer::Rowcast.publish_request(&message, 4, &Token::default())).unwrap();
        assert!(rowcast.starts_with("PUT /products/7 ") && !rowcast.contains("version"));
    }
}
