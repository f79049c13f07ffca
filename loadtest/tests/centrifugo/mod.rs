//! A stand-in for a Centrifugo whose channels recover from a cache of the last publication ([`Centrifugo`]).
//! <https://centrifugal.dev/docs/transports/client_protocol>

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The most WebSockets that may be open without their first command: a Centrifugo bears them for ten seconds, and readers
/// that first open all and then begin each need longer on a slow machine.
const NOT_BEGUN_MAX: usize = 64;

/// The channel with the trouble.
pub(crate) const TROUBLED: &str = "7";

/// The fault of the channel [`TROUBLED`], for readers that come back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    NotRecovered,
    ToldAgain,
    AnsweredTwice,
}

pub(crate) struct Centrifugo {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    trouble: Option<Trouble>,
    offsets_by_channel: HashMap<String, u64>,
    not_begun: usize,
    /// The number of subscriptions in each message that had some.
    batches: Vec<usize>,
}

impl Centrifugo {
    pub(crate) async fn start(trouble: Option<Trouble>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { trouble, ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// Returns the number of subscriptions in each message that had some.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.state.lock().unwrap().batches.clone()
    }
}

/// Answers the requests of a publisher, or a reader, until it leaves.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let head = head(&mut stream).await?;
        if head.starts_with("GET /connection/websocket ") {
            let accept = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            state.lock().unwrap().not_begun += 1;
            stream.write_all(accept.as_bytes()).await.ok()?;
            return read(stream, state).await;
        }
        assert!(head.starts_with("POST /api/publish "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.ok()?;
        let publication: Value = serde_json::from_slice(&body).unwrap();
        let channel = publication["channel"].as_str().unwrap().to_owned();
        *state.lock().unwrap().offsets_by_channel.entry(channel).or_default() += 1;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.ok()?;
    }
}

/// Reads a request up to its body; `None` if there is none.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Answers the commands of a reader, a line for each, all that came in one message in one message.
async fn read(stream: BufReader<TcpStream>, state: Arc<Mutex<State>>) -> Option<()> {
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(stream, Role::Server));
    let mut has_begun = false;
    loop {
        let frame = socket.read_frame().await.ok()?;
        if frame.opcode != OpCode::Text {
            return None;
        }
        let text = String::from_utf8(frame.payload.to_vec()).unwrap();
        let answer = state.lock().unwrap().answer(&text, &mut has_begun);
        let frame = match &answer {
            Some(text) => Frame::text(Payload::Borrowed(text.as_bytes())),
            None => Frame::close(3502, b"stale"),
        };
        socket.write_frame(frame).await.ok()?;
        answer?;
    }
}

impl State {
    /// Returns the replies to commands; `None` if too many have not begun.
    fn answer(&mut self, text: &str, has_begun: &mut bool) -> Option<String> {
        let commands = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut replies = Vec::new();
        for command in commands {
            let id = &command["id"];
            if command["connect"].is_object() {
                assert!(!std::mem::replace(has_begun, true), "a connection begins once");
                if self.not_begun > NOT_BEGUN_MAX {
                    return None;
                }
                self.not_begun -= 1;
                replies.push(json!({"id": id, "connect": {"client": "x", "ping": 25, "pong": true}}));
                continue;
            }
            assert!(*has_begun, "the first command is that which begins the connection");
            let subscribe = &command["subscribe"];
            assert!(subscribe["recover"] == true, "{command}");
            let reply = json!({"id": id, "subscribe": self.recover(subscribe)});
            if self.has(Trouble::AnsweredTwice, subscribe) {
                replies.push(reply.clone());
            }
            replies.push(reply);
        }
        let subscriptions = text.matches(r#""subscribe":"#).count();
        self.batches.extend((subscriptions > 0).then_some(subscriptions));
        Some(replies.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"))
    }

    /// Tells a reader the last publication of a channel, unless its position is that one's.
    fn recover(&self, subscribe: &Value) -> Value {
        let channel = subscribe["channel"].as_str().unwrap();
        let (epoch, offset) = (format!("of {channel}"), self.offsets_by_channel[channel]);
        let knows_it = subscribe["epoch"] == *epoch && subscribe["offset"] == offset;
        let mut answer = json!({"recoverable": true, "epoch": epoch, "positioned": true, "was_recovering": true});
        if knows_it {
            answer["offset"] = json!(offset);
        }
        if !knows_it || self.has(Trouble::ToldAgain, subscribe) {
            answer["publications"] = json!([{"data": {}, "offset": offset, "epoch": epoch}]);
        }
        if !self.has(Trouble::NotRecovered, subscribe) {
            answer["recovered"] = json!(true);
        }
        answer
    }

    /// Returns whether this trouble is that of this subscription.
    fn has(&self, trouble: Trouble, subscribe: &Value) -> bool {
        let comes_back = subscribe["offset"].is_u64();
        self.trouble == Some(trouble) && comes_back && subscribe["channel"] == TROUBLED
    }
}
