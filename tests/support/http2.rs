//! A client of HTTP/2 (the h2 crate's), and WebSockets on its streams (RFC 8441).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::thread;

use bytes::{Bytes, BytesMut};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use hyper::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use super::server::Reply;
use super::socket::{client_frame, is_about_the_source, server_frame};
use super::tls::Certificate;
use super::{answers, patiently};

/// Runs the clients' connections, so that they end as they should also while a test waits for its server to stop.
static CONNECTIONS: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime is built");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// A client that refuses pushes, and whose connection has a window so large that a stream which is not read stops no other.
pub(crate) fn roomy() -> client::Builder {
    let mut builder = client::Builder::new();
    builder.enable_push(false).initial_connection_window_size(64 * 1024 * 1024);
    builder
}

/// An HTTP/2 connection.
pub(crate) struct Http2 {
    pub(crate) sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    /// On plain TCP, as a [`roomy`] client.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &roomy()).await
    }

    pub(crate) async fn with(address: SocketAddr, builder: &client::Builder) -> Self {
        let connecting = CONNECTIONS.spawn(async move {
            let stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("a socket takes its options");
            stream
        });
        Self::over(patiently(connecting).await.expect("the client does not panic"), builder).await
    }

    /// Over TLS, by ALPN.
    pub(crate) async fn with_tls(address: SocketAddr, certificate: &Certificate, builder: &client::Builder) -> Self {
        let mut client = certificate.client();
        Arc::make_mut(&mut client.0).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connecting = CONNECTIONS.spawn(async move { client.connect(address).await });
        let stream = patiently(connecting).await.expect("the client does not panic");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream, builder).await
    }

    /// Over a connection of the caller's making.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        builder: &client::Builder,
    ) -> Self {
        let (sender, connection) = patiently(builder.handshake(stream)).await.expect("a connection is set up");
        Self { sender, connection: CONNECTIONS.spawn(connection) }
    }

    pub(crate) async fn request(&mut self, method: &str, path: &str, body: Option<&str>) -> Reply {
        let mut request = request(method, path);
        if body.is_some() {
            request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        }
        let body = body.map(|body| Bytes::copy_from_slice(body.as_bytes()));
        let reply = reply(patiently(self.send(request, body).await).await.expect("the server answers")).await;
        answers::write_down(method, path, &reply);
        reply
    }

    /// Sends a request whole.
    pub(crate) async fn send(&mut self, request: Request<()>, body: Option<Bytes>) -> ResponseFuture {
        let (response, mut stream) = self.start(request, body.is_none()).await;
        if let Some(body) = body {
            // Fails where the server has answered without asking for it.
            let _ = stream.send_data(body, true);
        }
        response
    }

    /// Sends the head of a request.
    pub(crate) async fn start(&mut self, request: Request<()>, is_end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = patiently(self.sender.clone().ready()).await.expect("the connection is open");
        self.sender.send_request(request, is_end).expect("the request is well formed")
    }

    /// Opens a WebSocket on a stream of this connection.
    pub(crate) async fn websocket(&mut self) -> StreamSocket {
        self.websocket_with(extended_connect("/websocket", "websocket")).await.0
    }

    /// Likewise, with this request; the socket, and the headers that accept it.
    pub(crate) async fn websocket_with(&mut self, request: Request<()>) -> (StreamSocket, HeaderMap) {
        let (response, send) = self.connect_stream(request).await;
        assert_eq!(response.status(), 200);
        let (head, receive) = response.into_parts();
        (StreamSocket { send, receive, unread: BytesMut::new() }, head.headers)
    }

    /// Sends an extended CONNECT, once the server has said that it knows it.
    pub(crate) async fn connect_stream(&mut self, request: Request<()>) -> (Response<RecvStream>, SendStream<Bytes>) {
        let known = async {
            while !self.sender.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
        };
        patiently(known).await;
        let (response, send) = self.start(request, false).await;
        (patiently(response).await.expect("the server answers"), send)
    }

    /// Ends the TCP connection without a word.
    pub(crate) fn abort(self) {
        self.connection.abort();
    }

    /// Waits for the end of the connection, and returns its outcome.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.sender);
        match patiently(self.connection).await.expect("the client does not panic") {
            // The client's last word, to which nobody listens once the server has ended what it had to.
            Err(error) if error.get_io().is_some_and(is_after_the_end) => Ok(()),
            result => result,
        }
    }
}

fn is_after_the_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://localhost{path}")).body(()).expect("a request is built")
}

pub(crate) fn extended_connect(path: &str, protocol: &'static str) -> Request<()> {
    let mut request = request("CONNECT", path);
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request
}

/// Reads an answer whole.
pub(crate) async fn reply(response: Response<RecvStream>) -> Reply {
    let (head, mut body) = response.into_parts();
    let mut text = Vec::new();
    while let Some(data) = patiently(body.data()).await {
        let data = data.expect("the answer is whole");
        text.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).expect("what was read is given back");
    }
    Reply { status: head.status, headers: head.headers, text: String::from_utf8(text).expect("answers are text") }
}

/// The page, and what was pushed with it: path and answer.
pub(crate) async fn visit(http2: &mut Http2, request: Request<()>) -> (Reply, Vec<(String, Reply)>) {
    let mut response = http2.send(request, None).await;
    let mut promises = response.push_promises();
    let page = reply(patiently(response).await.unwrap()).await;
    let mut pushed = Vec::new();
    while let Some(promise) = patiently(promises.push_promise()).await {
        let (request, response) = promise.unwrap().into_parts();
        assert_eq!((request.method().as_str(), request.uri().authority().unwrap().as_str()), ("GET", "localhost"));
        pushed.push((request.uri().path().to_owned(), reply(patiently(response).await.unwrap()).await));
    }
    (page, pushed)
}

/// A WebSocket on a stream.
pub(crate) struct StreamSocket {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) receive: RecvStream,
    unread: BytesMut,
}

impl StreamSocket {
    /// Writes a frame as a client has to, with a mask.
    pub(crate) fn write_frame(&mut self, first: u8, payload: &[u8]) {
        self.send.send_data(client_frame(first, payload).into(), false).expect("the stream is open");
    }

    /// Answers the server's close, and ends this side.
    pub(crate) fn close(&mut self, code: u16) {
        self.send.send_data(client_frame(0x88, &code.to_be_bytes()).into(), true).expect("the stream is open");
    }

    /// The next frame: its first byte and its payload; `None` at the end of the stream.
    pub(crate) async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, payload, length)) = server_frame(&self.unread) {
                drop(self.unread.split_to(length));
                if is_about_the_source(&payload) {
                    continue;
                }
                return Some((first, payload));
            }
            let data = patiently(self.receive.data()).await?.expect("the stream is not reset");
            self.unread.extend_from_slice(&data);
            self.receive.flow_control().release_capacity(data.len()).expect("what was read is given back");
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        let (first, payload) = self.read_frame().await.expect("the stream goes on");
        assert_eq!(first, 0x81, "{payload:?}");
        serde_json::from_slice(&payload).expect("messages are JSON")
    }

    /// Subscribes, and waits until it is.
    pub(crate) async fn subscribe(&mut self, products: impl IntoIterator<Item = u64>) {
        let products: Vec<u64> = products.into_iter().collect();
        let command = json!({"command": "subscribe", "productIDs": products, "id": 1});
        self.write_frame(0x81, command.to_string().as_bytes());
        let reply = self.next().await;
        assert_eq!(reply["ok"], true, "{reply}");
    }

    /// Waits for the server's close frame, and returns its code.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.read_frame().await.expect("a close comes before the end") {
                (0x88, payload) => return u16::from_be_bytes([payload[0], payload[1]]),
                (0x81, _) => {}
                (other, _) => panic!("{other:#x}"),
            }
        }
    }
}
