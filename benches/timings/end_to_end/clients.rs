//! A writer and subscribers on blocking sockets, with as little of their own as they can have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::fixtures::client_frame;

const PRODUCT: &str =
    r#"{"manufacturer":"Apple","pricePerUnit":"500EUR","unitsAvailable":6,"productName":"MacBook Pro"}"#;
const HANDSHAKE: &[u8] = b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cm93Y2FzdCBiZW5jaG1rcw==\r\n\r\n";
/// What does not come within this time fails the bench.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes product 1, over one connection.
pub(crate) struct Writer {
    socket: Socket,
    request: String,
}

impl Writer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let length = PRODUCT.len();
        let request = format!(
            "PUT /products/1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{PRODUCT}"
        );
        Self { socket: Socket::connect(address), request }
    }

    /// Returns when the server has answered that the change is committed.
    pub(crate) fn put(&mut self) {
        self.socket.write(self.request.as_bytes());
        let head = self.socket.read_head();
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        self.socket.take(length.expect("the answer says how long it is"));
    }
}

/// Subscribes to product 1.
pub(crate) struct Subscriber(Socket);

impl Subscriber {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut socket = Socket::connect(address);
        socket.write(HANDSHAKE);
        let head = socket.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        socket.write(&client_frame(0x81, br#"{"command":"subscribe","productIDs":[1],"id":1}"#));
        let mut subscriber = Self(socket);
        subscriber.read_frame();
        subscriber
    }

    /// Waits until a whole change has come.
    pub(crate) fn read_change(&mut self) {
        self.read_frame();
    }

    fn read_frame(&mut self) {
        let head = self.0.peek(4);
        let length = match head[1] {
            126 => 4 + usize::from(u16::from_be_bytes([head[2], head[3]])),
            short => 2 + usize::from(short),
        };
        self.0.take(length);
    }
}

/// A socket, and what was read from it but not yet looked at.
struct Socket {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Socket {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes its options");
        Self { stream, unread: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.take(end + 4)).expect("a head is text");
            }
            self.read_more();
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.peek(length);
        self.unread.drain(..length).collect()
    }

    /// What is unread, once it is at least this long.
    fn peek(&mut self, length: usize) -> &[u8] {
        while self.unread.len() < length {
            self.read_more();
        }
        &self.unread
    }

    fn read_more(&mut self) {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer).expect("the server writes");
        assert!(read > 0, "the server closed");
        self.unread.extend_from_slice(&buffer[..read]);
    }
}
