//! What else may be on the socket of a stream.

use hyper::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::lists::long_product;
use crate::support::events::EventReader;
use crate::support::http2::{Http2, request};
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};

const ASK: &str = "GET /events?productIDs=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn connect(server: &TestServer) -> TcpStream {
    patiently(TcpStream::connect(server.address)).await.unwrap()
}

/// Reads one answer with a length; its body.
async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or_else(|| panic!("{head}"));
    let mut body = vec![0; length.parse().unwrap()];
    patiently(stream.read_exact(&mut body)).await.unwrap();
    body
}

async fn is_told(server: &TestServer, reader: &mut EventReader) {
    let put = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    assert_eq!(reader.next().await["version"], put.version());
}

#[tokio::test]
async fn answers_to_earlier_requests_come_before_the_stream() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut stream = connect(&server).await;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n{ASK}").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await, b"alive\n");
    let mut reader = EventReader::answered(stream).await;
    reader.until_reply().await;
    is_told(&server, &mut reader).await;
}

#[tokio::test]
async fn an_earlier_answer_that_is_read_late_is_whole() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let row = long_product(7, 900_000).to_string();
    assert_eq!(server.request("PUT", "/products/7", Some(&row)).await.status, StatusCode::CREATED);
    let wanted = server.get("/products/7").await.text;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = patiently(socket.connect(server.address)).await.unwrap();
    let list = "GET /products/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(format!("{}{ASK}", list.repeat(8)).as_bytes()).await.unwrap();
    // The stream is asked for, and the server has done what it can without a reader.
    for _ in 0..50 {
        server.get("/healthz").await;
    }
    for _ in 0..8 {
        assert!(answer(&mut stream).await == wanted.as_bytes());
    }
    let mut reader = EventReader::answered(stream).await;
    reader.until_reply().await;
    is_told(&server, &mut reader).await;
}

#[tokio::test]
async fn what_follows_the_request_is_ignored() {
    let server = TestServer::embedded(&["--cores", "1", "--commands-per-second", "0"]).await;
    let mut stream = connect(&server).await;
    let request =
        format!("GET /events?productIDs=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nsome body{ASK}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (reading, mut writing) = stream.into_split();
    let joined = tokio::io::join(reading, tokio::io::sink());
    let mut reader = EventReader::answered(joined).await;
    reader.until_reply().await;
    patiently(writing.write_all(&vec![b'x'; 10_000_000])).await.unwrap();
    is_told(&server, &mut reader).await;
    assert_eq!(server.metric("rowcast_connections").await, 1);
}

#[tokio::test]
async fn who_sends_much_after_its_request_is_not_read_beyond_its_rate() {
    let server = TestServer::embedded(&["--cores", "1", "--commands-per-second", "50"]).await;
    let mut stream = connect(&server).await;
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let (reading, mut writing) = stream.into_split();
    let mut reader = EventReader::answered(tokio::io::join(reading, tokio::io::sink())).await;
    reader.until_reply().await;
    let flood = tokio::spawn(async move { writing.write_all(&vec![b'x'; 100_000_000]).await });
    server.until_metric("rowcast_refused_total{limit=\"commands\"}", 1).await;
    is_told(&server, &mut reader).await;
    flood.abort();
}

#[tokio::test]
async fn a_body_on_http_2_is_ignored() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let (response, mut body) = http2.start(request("GET", "/events?productIDs=1"), false).await;
    let mut reader = EventReader::of(patiently(response).await.unwrap());
    reader.until_reply().await;
    body.send_data(vec![b'x'; 100_000].into(), false).unwrap();
    is_told(&server, &mut reader).await;
    body.send_data(bytes::Bytes::new(), true).unwrap();
    is_told(&server, &mut reader).await;
    assert_eq!(http2.request("GET", "/healthz", None).await.text, "alive\n");
}

#[tokio::test]
async fn http_1_0_is_answered_too() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /events?productIDs=1 HTTP/1.0\r\n\r\n").await.unwrap();
    let mut reader = EventReader::answered(stream).await;
    reader.until_reply().await;
    is_told(&server, &mut reader).await;
}
