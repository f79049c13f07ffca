//! Many sockets with many subscriptions while many clients write: each socket gets exactly its products' changes.

use std::collections::HashMap;
use std::fmt::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::support::patiently;
use crate::support::postgres::{Cluster, psql};
use crate::support::server::{AMPLE_QUEUES, Http, TestServer, product_json};
use crate::support::socket::Socket;

const SOCKETS: u64 = 200;
const SUBSCRIPTIONS: u64 = 1024;
const PRODUCTS: u64 = 10_000;
const CHANGES: u64 = 20_000;

/// A change as its writer knows it: product and version.
type Written = (u64, u64);

/// The products of a socket: every one of them is on some sockets, and no two sockets have the same.
fn products_of(socket: u64) -> impl Iterator<Item = u64> {
    (0..SUBSCRIPTIONS).map(move |step| (socket * 131 + step * 3) % PRODUCTS)
}

/// Numbers that spread, the same in every run.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) % PRODUCTS
}

/// The messages that every socket received, in order.
struct Readers {
    received_by_socket: Vec<mpsc::Receiver<Written>>,
    count: Arc<AtomicUsize>,
    progress: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Readers {
    async fn open(server: &TestServer) -> Self {
        let mut readers = Self {
            received_by_socket: Vec::new(),
            count: Arc::default(),
            progress: Arc::default(),
            tasks: JoinSet::new(),
        };
        for number in 0..SOCKETS {
            let mut socket = Socket::connect(server.address).await;
            socket.subscribe(products_of(number)).await;
            let (sender, receiver) = mpsc::channel(usize::try_from(CHANGES).unwrap());
            readers.received_by_socket.push(receiver);
            let (count, progress) = (Arc::clone(&readers.count), Arc::clone(&readers.progress));
            readers.tasks.spawn(async move {
                loop {
                    let message = socket.next().await;
                    let product = message["product"]["productId"].as_u64().unwrap_or_else(|| panic!("{message}"));
                    sender.try_send((product, message["version"].as_u64().unwrap())).expect("nothing comes twice");
                    count.fetch_add(1, Ordering::Relaxed);
                    progress.notify_one();
                }
            });
        }
        readers
    }

    /// Checks that each socket receives exactly what was written to its products, versions growing.
    async fn check(&mut self, server: &TestServer, written: &[Written]) {
        let mut versions_by_product: HashMap<u64, Vec<u64>> = HashMap::new();
        for &(product, version) in written {
            versions_by_product.entry(product).or_default().push(version);
        }
        for versions in versions_by_product.values_mut() {
            versions.sort_unstable();
        }
        let of = |product: u64| versions_by_product.get(&product).cloned().unwrap_or_default();
        let expected: usize = (0..SOCKETS).flat_map(products_of).map(|product| of(product).len()).sum();
        while self.count.load(Ordering::Relaxed) < expected {
            patiently(self.progress.notified()).await;
        }
        for (number, receiver) in (0..SOCKETS).zip(&mut self.received_by_socket) {
            let mut received: HashMap<u64, Vec<u64>> = HashMap::new();
            while let Ok((product, version)) = receiver.try_recv() {
                received.entry(product).or_default().push(version);
            }
            let expected: HashMap<u64, Vec<u64>> =
                products_of(number).map(|product| (product, of(product))).filter(|(_, all)| !all.is_empty()).collect();
            assert_eq!(received, expected, "socket {number}");
        }
        assert_eq!(server.metric("rowcast_frames_sent_total").await, expected as u64, "nothing was sent twice");
        assert_eq!(server.metric("rowcast_subscriptions").await, SOCKETS * SUBSCRIPTIONS);
    }
}

/// Writes some changes through REST: puts, patches, deletes and inserts.
async fn write_by_rest(server: &TestServer, changes: std::ops::Range<u64>, writers: u64) -> Vec<Written> {
    let tasks = (0..writers).map(|writer| {
        let (address, changes) = (server.address, changes.clone());
        tokio::spawn(async move {
            let mut http = Http::connect(address).await;
            let mut written = Vec::new();
            for change in changes.filter(|change| change % writers == writer) {
                let product = scattered(change);
                let path = format!("/products/{product}");
                let put = product_json(product, change.cast_signed());
                let mut reply = match change % 10 {
                    0 => http.request("DELETE", &path, None).await,
                    1..=4 => http.request("PATCH", &path, Some(&format!("{{\"unitsAvailable\":{change}}}"))).await,
                    _ => http.request("PUT", &path, Some(&put)).await,
                };
                if reply.status == 404 {
                    reply = http.request("PUT", &path, Some(&put)).await;
                }
                let version = reply.header("etag").trim_matches('"').parse();
                written.push((product, version.unwrap_or_else(|_| panic!("{reply:?}"))));
            }
            written
        })
    });
    let mut written = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        written.extend(task.await.unwrap());
    }
    written
}

/// Writes changes through `psql`, several to a transaction; it tells the versions that they got.
async fn write_by_psql(url: &str, changes: std::ops::Range<u64>) -> Vec<Written> {
    let mut child = Command::new(psql())
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut script = String::new();
    for change in changes {
        if change % 8 == 0 {
            script.push_str(if script.is_empty() { "BEGIN;\n" } else { "COMMIT; BEGIN;\n" });
        }
        let product = scattered(change);
        let _ = writeln!(
            script,
            "INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name) \
             VALUES ({product}, 'psql', '1EUR', {change}, 'n') \
             ON CONFLICT (product_id) DO UPDATE SET units_available = {change};\n\
             SELECT product_id, version FROM products WHERE product_id = {product};"
        );
    }
    script.push_str("COMMIT;\n");
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move { stdin.write_all(script.as_bytes()).await.unwrap() });
    let output = child.wait_with_output().await.unwrap();
    feeding.await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    text.lines().map(|line| line.split_once('|').map(|(id, version)| (number(id), number(version))).unwrap()).collect()
}

/// Closes all sockets, after which nothing may be left of them.
async fn close(server: &TestServer, readers: Readers) {
    drop(readers);
    server.until_metric("rowcast_connections", 0).await;
    server.until_metric("rowcast_subscriptions", 0).await;
}

#[tokio::test]
async fn every_socket_gets_exactly_its_changes_from_the_embedded_store() {
    let server = TestServer::embedded(&AMPLE_QUEUES).await;
    let mut readers = Readers::open(&server).await;
    let written = write_by_rest(&server, 0..CHANGES, 32).await;
    assert_eq!(written.len() as u64, CHANGES);
    readers.check(&server, &written).await;
    close(&server, readers).await;
}

#[tokio::test]
async fn every_socket_gets_exactly_its_changes_from_postgres() {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &AMPLE_QUEUES).await;
    let mut readers = Readers::open(&server).await;
    let half = CHANGES / 2;
    // One psql, since two whose transactions write the same products would wait for each other in a circle.
    let (by_rest, by_psql) =
        tokio::join!(write_by_rest(&server, 0..half, 12), write_by_psql(database.url(), half..CHANGES));
    assert_eq!((by_rest.len() as u64, by_psql.len() as u64), (half, CHANGES - half));
    readers.check(&server, &[by_rest, by_psql].concat()).await;
    close(&server, readers).await;
}
