//! A server that stops: what is in flight is finished, and then the connection ends.

use bytes::Bytes;

use crate::support::http2::{Http2, reply, request};
use crate::support::patiently;
use crate::support::server::{TestServer, product_json};

#[tokio::test]
async fn requests_in_flight_are_answered_and_the_connection_ends() {
    let mut server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut put = request("PUT", "/products/1");
    put.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let (response, mut stream) = http2.start(put, false).await;
    // Answered, so the server has the request before this one too.
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200);
    server.begin_stop();
    // The client opens no stream after it was told to go away.
    while let Ok(mut sender) = patiently(http2.sender.clone().ready()).await
        && let Ok((response, _)) = sender.send_request(request("GET", "/healthz"), true)
        && patiently(response).await.is_ok()
    {}
    stream.send_data(Bytes::from(product_json(1, 1)), true).unwrap();
    assert_eq!(reply(patiently(response).await.unwrap()).await.status, 201);
    http2.ended().await.expect("it ends without an error");
    let ended = server.ended().await;
    assert!(!ended.requests_cut);
}

#[tokio::test]
async fn sockets_are_closed_after_what_was_committed() {
    let mut server = TestServer::embedded(&["--cores", "2"]).await;
    let mut http2 = Http2::connect(server.address).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = http2.websocket().await;
        socket.subscribe([1]).await;
        sockets.push(socket);
    }
    let version = http2.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    server.begin_stop();
    for socket in &mut sockets {
        assert_eq!(socket.next().await["version"], version);
        assert_eq!(socket.closed().await, 1012);
        socket.close(1012);
        assert_eq!(socket.read_frame().await, None);
    }
    drop(sockets);
    http2.ended().await.expect("it ends without an error");
    let ended = server.ended().await;
    assert_eq!((ended.connections, ended.connections_cut, ended.requests_cut), (5, 0, false));
}
