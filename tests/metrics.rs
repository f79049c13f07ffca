//! The numbers of `/metrics`, after what they count has happened to a server.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rustix::process::Signal;

use crate::process::Running;
use crate::support::http2::Http2;
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::{Http, TestServer, exchange, product_json};
use crate::support::socket::Socket;
use crate::support::tls::Certificate;

/// All series by their names and labels.
pub(crate) async fn series(server: &TestServer) -> BTreeMap<String, f64> {
    parse(&server.get("/metrics").await.text)
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    lines.map(|line| sample(line).expect("a line is a name and a value")).collect()
}

/// Waits until a number is as it is wanted, and returns it.
async fn until(server: &TestServer, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let reached = async {
        loop {
            match series(server).await.get(name) {
                Some(&value) if wanted(value) => return value,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    patiently(reached).await
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn is(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() < f64::EPSILON
}

/// A request: method, path and body; and the route, method and status under which it is counted.
type Counted = (&'static str, &'static str, Option<&'static str>, &'static str, &'static str, u16);

/// None is counted under the path that was asked for.
const REQUESTS: [Counted; 8] = [
    ("GET", "/products/1", None, "/products/{id}", "GET", 404),
    ("PUT", "/products/1", Some("{}"), "/products/{id}", "PUT", 400),
    ("HEAD", "/products?limit=1", None, "/products", "HEAD", 200),
    ("GET", "/tables/orders/secret-key", None, "/tables/{table}/{key}", "GET", 404),
    ("DELETE", "/readyz", None, "/readyz", "DELETE", 405),
    ("GET", "/secret-path", None, "other", "GET", 404),
    ("BREW", "/secret-path", None, "other", "other", 404),
    ("GET", "/websocket", None, "/websocket", "GET", 426),
];

#[tokio::test]
async fn requests_of_both_versions_are_counted_by_route_and_never_by_path() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let (mut http1, mut http2) = (Http::connect(server.address).await, Http2::connect(server.address).await);
    for (method, path, body, ..) in REQUESTS {
        http1.request(method, path, body).await;
        http2.request(method, path, body).await;
    }
    let (_http1, _http2) = (Socket::connect(server.address).await, http2.websocket().await);
    let long =
        format!("GET /products/2?secret={} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "x".repeat(17_000));
    assert!(exchange(server.address, long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let text = server.get("/metrics").await.text;
    assert!(!text.contains("secret") && !text.contains("BREW"), "{text}");
    let shown = parse(&text);
    let responses = |route: &str, method: &str, status: u16| {
        let name = format!("rowcast_http_responses_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}");
        shown.get(&name).copied().unwrap_or_default()
    };
    for (.., route, method, status) in REQUESTS {
        assert!(is(responses(route, method, status), 2.0), "{method} {route} {status}: {text}");
    }
    assert!(is(responses("/websocket", "GET", 101), 1.0) && is(responses("/websocket", "CONNECT", 200), 1.0), "{text}");
    assert!(is(responses("/products/{id}", "GET", 431), 1.0), "{text}");
    // Each answer has its place in the latencies.
    let all: f64 =
        shown.iter().filter(|(name, _)| name.starts_with("rowcast_http_responses_total")).map(|it| it.1).sum();
    let timed = shown.iter().filter(|(name, _)| name.starts_with("rowcast_http_request_seconds_count"));
    assert!(is(timed.map(|it| it.1).sum(), all), "{text}");
    let took = shown["rowcast_http_request_seconds_sum{route=\"/products\",method=\"HEAD\"}"];
    assert!(took > 0.0 && took < 60.0, "{took}");
}

#[tokio::test]
async fn the_process_is_shown_as_the_kernel_has_it() {
    const SOCKETS: usize = 50;
    let (dir, before) = (tempfile::tempdir().unwrap(), now());
    let mut server = Running::start(dir.path(), &["--cores", "1"]).await;
    server.ignore_log();
    let mut http = Http::connect(server.address).await;
    let first = parse(&http.request("GET", "/metrics", None).await.text);
    let started_at = first["process_start_time_seconds"];
    assert!((before - 1.0..=now()).contains(&started_at), "{started_at}");
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(Socket::connect(server.address).await);
    }
    let second = parse(&http.request("GET", "/metrics", None).await.text);
    #[allow(clippy::cast_precision_loss)]
    let opened = SOCKETS as f64;
    assert!(is(second["process_open_fds"] - first["process_open_fds"], opened), "{first:?} {second:?}");
    assert!(second["process_open_fds"] < second["process_max_fds"]);
    assert!(second["process_cpu_seconds_total"] >= first["process_cpu_seconds_total"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
    };
    let ratio = second["process_resident_memory_bytes"] / 1024.0 / kib("VmRSS:");
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    assert!(second["process_virtual_memory_bytes"] > second["process_resident_memory_bytes"]);
    // A burst of work takes CPU.
    while parse(&http.request("GET", "/metrics", None).await.text)["process_cpu_seconds_total"] < 0.1 {
        http.request("GET", "/", None).await;
    }
    server.kill(Signal::TERM);
}

#[tokio::test]
async fn an_outage_of_the_database_is_seen_from_its_beginning_to_the_heal() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let barrier = until(&server, "rowcast_source_barrier_timestamp_seconds", |at| at > 0.0).await;
    assert!((now() - 60.0..=now()).contains(&barrier), "{barrier}");
    let shown = series(&server).await;
    for (name, value) in [
        ("rowcast_source_up", 1.0),
        ("rowcast_live{core=\"0\"}", 1.0),
        ("rowcast_live{core=\"1\"}", 1.0),
        ("rowcast_source_gaps_total", 0.0),
        ("rowcast_heals_total", 1.0),
        ("rowcast_source_oldest_change_seconds", 0.0),
    ] {
        assert!(is(shown[name], value), "{name} {}", shown[name]);
    }
    assert!((0.0..1.0).contains(&shown["rowcast_notification_queue_usage_ratio"]));
    // The next sign of life, which comes without a reader.
    until(&server, "rowcast_source_barrier_timestamp_seconds", |at| at > barrier).await;

    cluster.stop();
    until(&server, "rowcast_source_up", |up| is(up, 0.0)).await;
    until(&server, "rowcast_live{core=\"1\"}", |live| is(live, 0.0)).await;
    let lag = until(&server, "rowcast_source_lag_seconds", |lag| lag > 0.5).await;
    until(&server, "rowcast_source_lag_seconds", |later| later > lag).await;

    cluster.start_again();
    until(&server, "rowcast_heals_total", |heals| is(heals, 2.0)).await;
    until(&server, "rowcast_source_lag_seconds", |later| later < lag).await;
    let shown = series(&server).await;
    for (name, value) in [
        ("rowcast_source_up", 1.0),
        ("rowcast_live{core=\"0\"}", 1.0),
        ("rowcast_live{core=\"1\"}", 1.0),
        ("rowcast_source_gaps_total", 1.0),
    ] {
        assert!(is(shown[name], value), "{name} {}", shown[name]);
    }
}

#[tokio::test]
async fn a_named_table_has_its_own_gaps_and_is_seen_to_be_lost() {
    let database = Cluster::shared().database().await;
    let writer = database.connect().await;
    writer
        .batch_execute("CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE parcels (id int PRIMARY KEY)")
        .await
        .unwrap();
    let options = ["--cores", "1", "--table", "orders", "--table", "parcels"];
    let server = TestServer::postgres(database.url(), &options).await;
    let shown = series(&server).await;
    for table in ["orders", "parcels"] {
        assert!(is(shown[&format!("rowcast_table_live{{table=\"{table}\"}}")], 1.0), "{table}");
        assert!(is(shown[&format!("rowcast_table_gaps_total{{table=\"{table}\"}}")], 0.0), "{table}");
    }
    writer.batch_execute("TRUNCATE orders").await.unwrap();
    until(&server, "rowcast_table_gaps_total{table=\"orders\"}", |gaps| gaps >= 1.0).await;
    writer.batch_execute("ALTER TABLE orders DISABLE TRIGGER USER").await.unwrap();
    until(&server, "rowcast_table_live{table=\"orders\"}", |live| is(live, 0.0)).await;
    let shown = series(&server).await;
    assert!(is(shown["rowcast_table_live{table=\"parcels\"}"], 1.0) && is(shown["rowcast_source_up"], 1.0));
    assert!(is(shown["rowcast_table_gaps_total{table=\"parcels\"}"], 0.0));
    // Rows of clients' making are no labels.
    server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    assert_eq!(series(&server).await.keys().filter(|name| name.contains("table=\"")).count(), 4);
}

#[tokio::test]
async fn the_end_of_the_certificate_is_shown() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    let ends_at = series(&server).await["rowcast_tls_certificate_not_after_timestamp_seconds"];
    let days = (ends_at - now()) / 86400.0;
    assert!((390.0..398.0).contains(&days), "{days}");
    let plain = TestServer::embedded(&["--cores", "1"]).await;
    assert!(is(series(&plain).await["rowcast_tls_certificate_not_after_timestamp_seconds"], 0.0));
}
