//! The whole server while its database is down, and after.

use crate::support::postgres::Cluster;
use crate::support::server::{Reply, TestServer, product_json};
use crate::support::socket::Socket;

fn is_unavailable(reply: &Reply) {
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (503, "application/problem+json"), "{reply:?}");
    assert!(!reply.header("retry-after").is_empty());
}

#[tokio::test]
async fn everything_heals_after_the_database_was_down() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1]).await;
    let before = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    assert_eq!(socket.next().await["version"], before);

    cluster.stop();
    is_unavailable(&server.get("/readyz").await);
    is_unavailable(&server.get("/products").await);
    is_unavailable(&server.get("/products/1").await);
    is_unavailable(&server.request("PUT", "/products/1", Some(&product_json(1, 2))).await);
    is_unavailable(&server.request("DELETE", "/products/1", None).await);
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(socket.command("subscribe", [2]).await["subscribed"], 2, "sockets stay open and are answered");

    cluster.start_again();
    server.until_ready().await;
    let after = server.request("PUT", "/products/1", Some(&product_json(1, 3))).await;
    assert_eq!(after.status, 200);
    // What the outage hid comes first: there is no product 2.
    let change = loop {
        let message = socket.next().await;
        if message["action"] == "UPDATE" {
            break message;
        }
        assert_eq!(message["absent"][0], 2, "{message}");
    };
    assert_eq!((change["version"].as_u64(), &change["product"]["unitsAvailable"]), (Some(after.version()), &3.into()));
    assert!(after.version() > before);
    assert_eq!(server.metric("rowcast_connections_closed_total").await, 0);
}

#[tokio::test]
async fn two_servers_that_start_at_once_share_a_new_database() {
    let database = Cluster::shared().database().await;
    let (first, second) = tokio::join!(
        TestServer::postgres(database.url(), &["--cores", "1"]),
        TestServer::postgres(database.url(), &["--cores", "1"])
    );
    let mut sockets = [Socket::connect(first.address).await, Socket::connect(second.address).await];
    for socket in &mut sockets {
        socket.subscribe([1]).await;
    }
    let versions = [
        first.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version(),
        second.request("PUT", "/products/1", Some(&product_json(1, 2))).await.version(),
    ];
    for socket in &mut sockets {
        for version in versions {
            assert_eq!(socket.next().await["version"], version);
        }
    }
}
