//! The commands of clients and the answers to them, in JSON: pure functions.
//!
//! ```json
//! {"command":"subscribe","productIDs":[1,2,3],"id":"optional, comes back in the reply"}
//! {"reply":"optional, …","ok":true,"subscribed":3}
//! {"reply":"optional, …","ok":false,"error":"…","code":"…"}
//! {"error":"…","code":"…"}
//! {"skipped":12}
//! {"reconnect":{"afterMs":850}}
//! ```

use std::fmt;

use serde_json::json;
use simd_json::{Buffers, Node, StaticNode, Tape};

use crate::auth::Grant;
use crate::fanout::Operation;
use crate::model::product::ProductId;
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

/// A client's request.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// If present, the client wants a reply that carries it.
    pub reply: Option<ReplyId>,
    /// Subscribe or unsubscribe.
    pub operation: Operation,
    /// The products, as listed, repetitions included.
    pub products: Vec<ProductId>,
}

/// A client's name for its command, sent back as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyId {
    /// A non-negative integer.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
}

impl ReplyId {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Unsigned(number) => json!(number),
            Self::Signed(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Text(text) => json!(text),
        }
    }
}

/// A command that cannot be carried out, with the answer to its sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The command's name for itself, if it could be read.
    pub reply: Option<ReplyId>,
    /// The reason.
    pub why: Why,
}

/// The reason for which a command cannot be carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// The message is not JSON, or not an object.
    NotAnObject,
    /// `command` is missing or unknown.
    UnknownCommand,
    /// `productIDs` is missing or not an array.
    NoProducts,
    /// The element of `productIDs` at this place is no product id.
    BadProduct(usize),
    /// `id` is neither a number nor a string.
    BadId,
    /// There would be more subscriptions than this connection may have.
    TooManySubscriptions {
        /// The most that it may have.
        limit: usize,
    },
    /// The token does not let its bearer read these; the command's other products are subscribed to.
    Forbidden {
        /// The first of them.
        products: Vec<ProductId>,
        /// The number of the others.
        more: usize,
    },
}

impl Why {
    const fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject => "not_json",
            Self::UnknownCommand => "unknown_command",
            Self::NoProducts | Self::BadProduct(_) => "bad_product_ids",
            Self::BadId => "bad_id",
            Self::TooManySubscriptions { .. } => "too_many_subscriptions",
            Self::Forbidden { .. } => "forbidden",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => {
                f.write_str(r#"a message is a JSON object like {"command":"subscribe","productIDs":[1,2]}"#)
            }
            Self::UnknownCommand => f.write_str(r#"command is "subscribe" or "unsubscribe""#),
            Self::NoProducts => f.write_str("productIDs is an array of product ids"),
            Self::BadProduct(place) => {
                write!(f, "productIDs[{place}] is not an integer from 0 to {}", ProductId::MAX)
            }
            Self::BadId => f.write_str("id is a number or a string"),
            Self::TooManySubscriptions { limit } => {
                write!(f, "a connection subscribes to at most {limit} products; nothing was subscribed")
            }
            Self::Forbidden { products, more } => {
                f.write_str("the token does not let you read ")?;
                for (place, product) in products.iter().enumerate() {
                    write!(f, "{}{product}", if place == 0 { "" } else { ", " })?;
                }
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                f.write_str("; the rest is subscribed to")
            }
        }
    }
}

/// The most products that an answer names of those that may not be read.
const FORBIDDEN_NAMED_MAX: usize = 10;

/// Takes the products that `grant` does not let its bearer read out of a command that subscribes; returns `None` if
/// there are none.
pub fn withhold(command: &mut Command, grant: &Grant) -> Option<Why> {
    if command.operation != Operation::Subscribe {
        return None;
    }
    let (readable, mut forbidden) = command.products.drain(..).partition(|&id| grant.may_read(id));
    command.products = readable;
    forbidden.sort_unstable();
    forbidden.dedup();
    let more = forbidden.len().saturating_sub(FORBIDDEN_NAMED_MAX);
    forbidden.truncate(FORBIDDEN_NAMED_MAX);
    (!forbidden.is_empty()).then_some(Why::Forbidden { products: forbidden, more })
}

/// Reads one text message, which it uses as working space. `buffers` are reused from message to message.
///
/// # Errors
/// The refusal to send to the sender; the connection stays.
pub fn parse(text: &mut [u8], buffers: &mut Buffers) -> Result<Command, Refusal> {
    let unread = |_| Refusal { reply: None, why: Why::NotAnObject };
    let tape = simd_json::to_tape_with_buffers(text, buffers).map_err(unread)?;
    let fields = Fields::of(&tape)?;
    let reply = match fields.id {
        None => None,
        Some(node) => Some(reply_id(node).ok_or(Refusal { reply: None, why: Why::BadId })?),
    };
    let refuse = |why| Refusal { reply: reply.clone(), why };
    let operation = match fields.command {
        Some(Node::String("subscribe")) => Operation::Subscribe,
        Some(Node::String("unsubscribe")) => Operation::Unsubscribe,
        _ => return Err(refuse(Why::UnknownCommand)),
    };
    let nodes = fields.products.ok_or_else(|| refuse(Why::NoProducts))?;
    let products = nodes.iter().enumerate().map(|(place, node)| product_id(node).ok_or(Why::BadProduct(place)));
    let products = products.collect::<Result<_, _>>().map_err(refuse)?;
    Ok(Command { reply, operation, products })
}

/// The members of a message that mean something. Others are ignored, so that a newer client can talk to an older
/// server; of a repeated one the last counts, as in JavaScript.
#[derive(Default)]
struct Fields<'t, 'i> {
    command: Option<&'t Node<'i>>,
    id: Option<&'t Node<'i>>,
    /// The elements of `productIDs`, if it is an array.
    products: Option<&'t [Node<'i>]>,
}

impl<'t, 'i> Fields<'t, 'i> {
    fn of(tape: &'t Tape<'i>) -> Result<Self, Refusal> {
        let Some((Node::Object { .. }, mut rest)) = tape.0.split_first() else {
            return Err(Refusal { reply: None, why: Why::NotAnObject });
        };
        let mut fields = Self::default();
        while let [Node::String(name), value, tail @ ..] = rest {
            let inner = match value {
                Node::Array { count, .. } | Node::Object { count, .. } => *count,
                Node::String(_) | Node::Static(_) => 0,
            };
            let (elements, after) = tail.split_at(inner);
            match *name {
                "command" => fields.command = Some(value),
                "id" => fields.id = Some(value),
                "productIDs" => fields.products = matches!(value, Node::Array { .. }).then_some(elements),
                _ => {}
            }
            rest = after;
        }
        Ok(fields)
    }
}

fn reply_id(node: &Node<'_>) -> Option<ReplyId> {
    match *node {
        Node::String(text) => Some(ReplyId::Text(text.to_owned())),
        Node::Static(StaticNode::U64(number)) => Some(ReplyId::Unsigned(number)),
        Node::Static(StaticNode::I64(number)) => {
            Some(u64::try_from(number).map_or(ReplyId::Signed(number), ReplyId::Unsigned))
        }
        Node::Static(StaticNode::F64(number)) => Some(ReplyId::Float(number)),
        _ => None,
    }
}

fn product_id(node: &Node<'_>) -> Option<ProductId> {
    match *node {
        Node::Static(StaticNode::U64(number)) => ProductId::new(number),
        Node::Static(StaticNode::I64(number)) => ProductId::new(u64::try_from(number).ok()?),
        _ => None,
    }
}

/// Returns the reply to a command that was carried out and has an id.
#[must_use]
pub fn accepted(reply: &ReplyId, subscriptions: usize) -> Frame {
    let reply = reply.to_json();
    text(&format!(r#"{{"reply":{reply},"ok":true,"subscribed":{subscriptions}}}"#))
}

/// Returns the answer to a command that cannot be carried out.
#[must_use]
pub fn refused(refusal: &Refusal) -> Frame {
    let error = json!(refusal.why.to_string());
    let code = refusal.why.code();
    match &refusal.reply {
        Some(reply) => {
            let reply = reply.to_json();
            text(&format!(r#"{{"reply":{reply},"ok":false,"error":{error},"code":"{code}"}}"#))
        }
        None => text(&format!(r#"{{"error":{error},"code":"{code}"}}"#)),
    }
}

/// Returns the message to a reader that lost this many frames since it was last told.
#[must_use]
pub fn skipped(frames: u64) -> Frame {
    text(&format!(r#"{{"skipped":{frames}}}"#))
}

/// Returns the message to a reader whose connection is about to be closed and that should come back after that time.
#[must_use]
pub fn reconnect(after_ms: u64) -> Frame {
    text(&format!(r#"{{"reconnect":{{"afterMs":{after_ms}}}}}"#))
}

fn text(json: &str) -> Frame {
    Frame::new(Opcode::Text, json.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Command, Refusal> {
        parse(&mut text.as_bytes().to_vec(), &mut Buffers::default())
    }

    fn ids(numbers: &[u64]) -> Vec<ProductId> {
        numbers.iter().map(|&number| ProductId::new(number).unwrap()).collect()
    }

    #[test]
    fn commands_are_read_whatever_the_order_of_their_members() {
        let products = ids(&[1, 2, 9_007_199_254_740_991]);
        let subscribe = Command { reply: None, operation: Operation::Subscribe, products: products.clone() };
        assert_eq!(parse_text(r#"{"command":"subscribe","productIDs":[1,2,9007199254740991]}"#), Ok(subscribe.clone()));
        assert_eq!(
            parse_text(
                r#" { "x" : [ { "command" : "no" } , 1 ] , "productIDs" : [ 1 , 2 , 9007199254740991 ] ,
                  "command" : "subscribe", "y" : { "id" : 3 } } "#
            ),
            Ok(subscribe)
        );
        assert_eq!(
            parse_text(r#"{"command":"unsubscribe","productIDs":[],"id":-3}"#),
            Ok(Command { reply: Some(ReplyId::Signed(-3)), operation: Operation::Unsubscribe, products: vec![] })
        );
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_with_its_id() {
        let not_an_object = Refusal { reply: None, why: Why::NotAnObject };
        for text in ["", "x", "[1]", "1", "null", "{", r#"{"command":}"#, "\u{0}", r#"{"command":"subscribe"}}"#] {
            assert_eq!(parse_text(text), Err(not_an_object.clone()), "{text}");
        }
        for (text, why) in [
            (r#"{"id":"a"}"#, Why::UnknownCommand),
            (r#"{"id":"a","command":1}"#, Why::UnknownCommand),
            (r#"{"id":"a","command":"publish","productIDs":[]}"#, Why::UnknownCommand),
            (r#"{"id":"a","command":"subscribe"}"#, Why::NoProducts),
            (r#"{"id":"a","command":"subscribe","productIDs":{"1":2}}"#, Why::NoProducts),
            (r#"{"id":"a","command":"subscribe","productIDs":"1"}"#, Why::NoProducts),
            (r#"{"id":"a","command":"subscribe","productIDs":[1,"2"]}"#, Why::BadProduct(1)),
            (r#"{"id":"a","command":"subscribe","productIDs":[1.5]}"#, Why::BadProduct(0)),
            (r#"{"id":"a","command":"subscribe","productIDs":[-1]}"#, Why::BadProduct(0)),
            (r#"{"id":"a","command":"subscribe","productIDs":[9007199254740992]}"#, Why::BadProduct(0)),
            (r#"{"id":"a","command":"subscribe","productIDs":[1,18446744073709551616]}"#, Why::BadProduct(1)),
            (r#"{"id":"a","command":"subscribe","productIDs":[-9223372036854775809]}"#, Why::BadProduct(0)),
            (r#"{"id":"a","command":"subscribe","productIDs":[1,[2]]}"#, Why::BadProduct(1)),
            (r#"{"id":"a","command":"subscribe","productIDs":[1,null]}"#, Why::BadProduct(1)),
        ] {
            let reply = Some(ReplyId::Text("a".into()));
            assert_eq!(parse_text(text), Err(Refusal { reply, why }), "{text}");
        }
        let bad_id = Refusal { reply: None, why: Why::BadId };
        assert_eq!(parse_text(r#"{"id":[1],"command":"subscribe","productIDs":[1]}"#), Err(bad_id));
    }

    fn json(frame: &Frame) -> String {
        String::from_utf8(frame[if frame[1] == 126 { 4 } else { 2 }..].to_vec()).unwrap()
    }

    #[test]
    fn answers_are_the_json_of_the_protocol() {
        for (id, shown) in [
            (ReplyId::Unsigned(7), "7"),
            (ReplyId::Signed(-7), "-7"),
            (ReplyId::Float(1.5), "1.5"),
            (ReplyId::Text("a\"b".into()), r#""a\"b""#),
        ] {
            assert_eq!(json(&accepted(&id, 3)), format!(r#"{{"reply":{shown},"ok":true,"subscribed":3}}"#));
        }
        let why = Why::TooManySubscriptions { limit: 10 };
        let reply = Some(ReplyId::Unsigned(1));
        assert_eq!(
            json(&refused(&Refusal { reply, why: why.clone() })),
            r#"{"reply":1,"ok":false,"error":"a connection subscribes to at most 10 products; nothing was subscribed","code":"too_many_subscriptions"}"#
        );
        assert_eq!(
            json(&refused(&Refusal { reply: None, why: Why::UnknownCommand })),
            r#"{"error":"command is \"subscribe\" or \"unsubscribe\"","code":"unknown_command"}"#
        );
        assert_eq!(json(&skipped(12)), r#"{"skipped":12}"#);
        assert_eq!(json(&reconnect(850)), r#"{"reconnect":{"afterMs":850}}"#);
    }
}
