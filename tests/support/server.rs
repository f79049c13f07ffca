//! A server in this process, on a port of its own, and requests to it.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rowcast::config::{Cli, Task};
use rowcast::server::{Ended, Server};
use rowcast::store::Store;
use rowcast::supervisor::{Failure, Fault};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::tls::{Certificate, TlsClient};
use super::{answers, patiently};

/// Queues in which nothing has to give way, however slow this machine is.
pub(crate) const AMPLE_QUEUES: [&str; 8] = [
    "--cores",
    "2",
    "--slow-consumer",
    "disconnect",
    "--send-queue-frames",
    "100000",
    "--send-queue-bytes",
    "100000000",
];

/// A server that tests talk to over real sockets. It stops when it is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    /// The address that only sends everybody on to https.
    pub(crate) redirect: Option<SocketAddr>,
    /// The client for requests to a server that speaks TLS.
    tls: Option<TlsClient>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Ended, Failure>>>,
    /// The store of its products.
    pub(crate) store: Store,
    data_dir: Option<TempDir>,
}

impl TestServer {
    /// On the embedded store, in a directory of its own.
    pub(crate) async fn embedded(options: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory is made");
        let path = data_dir.path().to_str().expect("a temporary path is text").to_owned();
        let mut server = Self::start(&[&["--data-dir", &path], options].concat()).await;
        server.data_dir = Some(data_dir);
        server
    }

    /// The directory of its embedded store.
    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.as_ref().expect("it is on the embedded store").path()
    }

    /// On the embedded store, over TLS with this certificate.
    pub(crate) async fn https(certificate: &Certificate, options: &[&str]) -> Self {
        let mut server = Self::embedded(&[&certificate.options()[..], options].concat()).await;
        server.tls = Some(certificate.client());
        server
    }

    /// On this database. Returns when changes arrive.
    pub(crate) async fn postgres(url: &str, options: &[&str]) -> Self {
        let server = Self::start(&[&["--database-url", url], options].concat()).await;
        server.until_ready().await;
        server
    }

    async fn start(options: &[&str]) -> Self {
        Self::start_with(options, None).await
    }

    /// One of whose parts has this fault.
    pub(crate) async fn faulty(options: &[&str], fault: Fault) -> Self {
        Self::start_with(options, Some(fault)).await
    }

    async fn start_with(options: &[&str], fault: Option<Fault>) -> Self {
        // Most tests are over when they stop their server.
        let at_once: &[&str] = if options.contains(&"--drain-seconds") { &[] } else { &["--drain-seconds", "0"] };
        let arguments = [&["rowcast", "--listen", "127.0.0.1:0"], at_once, options].concat();
        let task = Cli::try_parse_from(arguments).expect("the options are right").into_task(None);
        let Ok(Task::Serve(config)) = task else { panic!("{task:?}") };
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, address) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime is built").block_on(async move {
                let server = Server::start_with(&config, fault).await.expect("the server starts");
                let facts = (server.address(), server.redirect_address(), server.store().clone());
                assert!(started.send(facts).is_ok(), "the test waits");
                server.run(async { drop(stopped.await) }).await
            })
        });
        let (address, redirect, store) = patiently(address).await.expect("the server started");
        Self { address, redirect, tls: None, stop: Some(stop), thread: Some(thread), store, data_dir: None }
    }

    /// Returns true if it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) async fn until_ready(&self) {
        let ready = async {
            while self.get("/readyz").await.status != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        };
        patiently(ready).await;
    }

    /// Begins to stop the server; [`TestServer::ended`] tells how it went.
    pub(crate) fn begin_stop(&mut self) {
        self.stop = None;
    }

    /// Stops it, and returns the outcome.
    pub(crate) async fn ended(mut self) -> Ended {
        self.begin_stop();
        self.outcome().await.expect("no part of it fails")
    }

    /// Returns the reason for an end without a stop.
    pub(crate) async fn failure(mut self) -> Failure {
        self.outcome().await.expect_err("a part of it fails")
    }

    async fn outcome(&mut self) -> Result<Ended, Failure> {
        let thread = self.thread.take().expect("it ends once");
        let (ended, outcome) = oneshot::channel();
        // On no thread of the runtime, which would wait for a server that hangs.
        thread::spawn(move || ended.send(thread.join()));
        patiently(outcome).await.unwrap().expect("the server does not panic")
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, None).await
    }

    /// A request on a connection of its own, with a body of JSON if there is one.
    pub(crate) async fn request(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        self.http().await.request(method, path, body).await
    }

    /// A connection for requests.
    pub(crate) async fn http(&self) -> Http {
        match &self.tls {
            None => Http::connect(self.address).await,
            Some(client) => Http::over(client.connect(self.address).await).await,
        }
    }

    /// A request on a connection of its own with these headers.
    pub(crate) async fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Reply {
        Http::connect(self.address).await.request_with(method, path, headers, body).await
    }

    /// Returns the answer to a handshake with these headers that is refused.
    pub(crate) async fn refused_handshake(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let upgrade = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let reply = self.request_with("GET", path, &[&upgrade, headers].concat(), None).await;
        assert_ne!(reply.status, StatusCode::SWITCHING_PROTOCOLS, "{reply:?}");
        reply
    }

    /// The sum of a counter or gauge over all its labels, or over those that `name` gives; zero where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        self.http().await.metric(name).await
    }

    /// Waits until a metric's sum is `wanted`.
    pub(crate) async fn until_metric(&self, name: &str, wanted: u64) {
        let reached = async {
            while self.metric(name).await != wanted {
                tokio::task::yield_now().await;
            }
        };
        patiently(reached).await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            // A panic of the server has failed the test already, by what the test did not get.
            let _ = thread.join();
        }
    }
}

/// Sends bytes, and returns what comes until the server closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = patiently(TcpStream::connect(address)).await.expect("the server listens");
    // A server that has enough resets the connection; what it said before is still read.
    let _ = patiently(stream.write_all(bytes)).await;
    let mut answer = Vec::new();
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).expect("answers are text")
}

/// An HTTP connection.
pub(crate) struct Http {
    sender: SendRequest<Full<Bytes>>,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(patiently(TcpStream::connect(address)).await.expect("the server listens")).await
    }

    /// Over a connection of the caller's making.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection is set up");
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn request(&mut self, method: &str, path: &str, body: Option<&str>) -> Reply {
        self.request_with(method, path, &[], body).await
    }

    /// A request with these headers too.
    pub(crate) async fn request_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Full::from(body.unwrap_or("").to_owned())).expect("a request is built")).await
    }

    /// The sum of a counter or gauge over all its labels, or over those that `name` gives; zero where it is not there.
    pub(crate) async fn metric(&mut self, name: &str) -> u64 {
        let text = self.request("GET", "/metrics", None).await.text;
        let is_named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(is_named).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Reply {
        request.headers_mut().entry("host").or_insert(HeaderValue::from_static("localhost"));
        let (method, target) = (request.method().to_string(), request.uri().to_string());
        let response = patiently(self.sender.send_request(request)).await.expect("the server answers");
        let (head, body) = response.into_parts();
        let body = patiently(body.collect()).await.expect("the answer is whole").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("answers are text");
        let reply = Reply { status: head.status, headers: head.headers, text };
        answers::write_down(&method, &target, &reply);
        reply
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header is text"))
    }

    pub(crate) fn version(&self) -> u64 {
        self.json()["version"].as_u64().unwrap_or_else(|| panic!("no version in {self:?}"))
    }
}

/// The JSON of a product as a writer sends it.
pub(crate) fn product_json(id: u64, units: i64) -> String {
    format!(
        r#"{{"productId":{id},"manufacturer":"Maker {id}","pricePerUnit":"{id}EUR","unitsAvailable":{units},"productName":"Name {id}"}}"#
    )
}
