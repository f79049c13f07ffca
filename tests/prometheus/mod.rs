//! `docs/prometheus` with a real Prometheus: every query of the dashboard and of the rules has data of servers under load, and
//! alerts fire when their faults are made. Those that are not made here are in `rules.test.yml`, for `promtool`.

mod server;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::AbortHandle;

use self::server::{Prometheus, Rule, documented, program};
use crate::support::http2::{Http2, request, visit};
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::{Http, TestServer, product_json};
use crate::support::socket::Socket;
use crate::support::tls::Certificate;

/// Something that goes on until this is dropped.
struct Ongoing(AbortHandle);

impl Ongoing {
    fn new(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes one product again and again, with a name of so many bytes, and asks for it and for what is not there.
fn writing(server: &TestServer, name_bytes: usize) -> Ongoing {
    let address = server.address;
    Ongoing::new(async move {
        let mut http = Http::connect(address).await;
        for units in 0.. {
            let name = "n".repeat(name_bytes);
            let product = json!({"manufacturer": "", "pricePerUnit": "", "unitsAvailable": units, "productName": name});
            http.request("PUT", "/products/1", Some(&product.to_string())).await;
            http.request("GET", "/products/1", None).await;
            http.request("GET", "/products/2", None).await;
        }
    })
}

/// Reads all that comes.
fn reading(mut socket: Socket) -> Ongoing {
    Ongoing::new(async move {
        loop {
            socket.read().await;
        }
    })
}

#[test]
fn the_rules_are_in_order_and_each_is_tested_and_documented() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prometheus/rules.test.yml");
    for arguments in [["check", "rules", documented("rowcast.rules.yml").to_str().unwrap()], ["test", "rules", tests]] {
        let output = Command::new(program("promtool")).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{said:?}");
    }
    let rules = std::fs::read_to_string(documented("rowcast.rules.yml")).unwrap();
    let (tests, page) = (std::fs::read_to_string(tests).unwrap(), include_str!("../../docs/monitoring.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
        let row = format!("| <a id=\"{}\"></a>`{alert}` |", alert.to_lowercase());
        assert!(page.contains(&row), "{alert} is not in docs/monitoring.md");
    }
    assert_eq!(page.matches("<a id=\"rowcast").count(), alerts.len());
}

/// The queries of all panels, with variables as a reader of the dashboard would choose them.
fn dashboard_queries() -> Vec<String> {
    let text = std::fs::read_to_string(documented("rowcast.dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let chosen = |expression: &str| {
        let query = expression.replace("$__rate_interval", "10s").replace("$job", "rowcast").replace("$instance", ".*");
        assert!(!query.contains('$'), "{query}");
        query
    };
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}", "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(chosen(target["expr"].as_str().unwrap()));
        }
    }
    assert!(queries.len() > 40);
    queries
}

/// The selectors of a query: each name of a number, with what its labels have to match.
fn selectors(query: &str) -> BTreeSet<String> {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut found = BTreeSet::new();
    let mut rest = query;
    while let Some(start) = rest.find(is_of_name) {
        rest = &rest[start..];
        let end = rest.find(|character| !is_of_name(character)).unwrap_or(rest.len());
        let name = &rest[..end];
        let labels = rest[end..].strip_prefix('{').and_then(|labels| labels.find('}')).map_or(0, |length| length + 2);
        if name == "up" || ["rowcast_", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            found.insert(rest[..end + labels].to_owned());
        }
        rest = &rest[end + labels..];
    }
    found
}

#[test]
fn selectors_are_found_wherever_they_stand() {
    let query =
        "sum without (core) (rate(rowcast_a_total{x=~\"1|2\",y!=\"3\"}[5m])) > 0.05 * up and on (job) rowcast_b";
    let wanted = ["rowcast_a_total{x=~\"1|2\",y!=\"3\"}", "rowcast_b", "up"];
    assert_eq!(selectors(query).into_iter().collect::<Vec<_>>(), wanted);
}

/// A server on Postgres with a named table, and one with TLS, in which all has happened that has a number only then.
async fn servers() -> (TestServer, TestServer) {
    let database = Cluster::shared().database().await;
    let writer = database.connect().await;
    writer.batch_execute("CREATE TABLE orders (id int PRIMARY KEY)").await.unwrap();
    let options = ["--cores", "2", "--table", "orders", "--max-connections", "2"];
    let plain = TestServer::postgres(database.url(), &options).await;
    let certificate = Certificate::new();
    let secure = TestServer::https(&certificate, &["--cores", "1"]).await;
    let mut http2 = Http2::with_tls(secure.address, &certificate, &h2::client::Builder::new()).await;
    let (page, pushed) = visit(&mut http2, request("GET", "/")).await;
    assert!(page.status.is_success() && !pushed.is_empty());
    (plain, secure)
}

#[tokio::test]
async fn every_query_has_data_of_servers_under_load() {
    let (plain, secure) = servers().await;
    let mut reader = Socket::connect(plain.address).await;
    reader.subscribe([1]).await;
    let second = Socket::connect(plain.address).await;
    assert_eq!(plain.refused_handshake("/websocket", &[]).await.status, 503);
    let _load = (reading(reader), reading(second), writing(&plain, 10));
    let prometheus = Prometheus::scraping(&[&plain, &secure]).await;
    for query in dashboard_queries() {
        prometheus.until_has_data(&query).await;
    }
    // A rule has nothing to say without its fault; what it looks at is there.
    let rules = prometheus.rules().await;
    assert!(rules.len() > 20);
    for Rule { name, query, annotations } in rules {
        prometheus.query(&query).await;
        let selectors = selectors(&query);
        assert!(!selectors.is_empty(), "{query}");
        for selector in selectors {
            prometheus.until_has_data(&selector).await;
        }
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        assert_eq!(annotations["docs"], format!("docs/monitoring.md#{}", name.to_lowercase()));
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_an_alert_until_it_is_back() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let prometheus = Prometheus::scraping(&[&server]).await;
    prometheus.until(async |it| (it.query("min(rowcast_live)").await.first()?.1 > 0.5).then_some(())).await;
    assert_eq!(prometheus.firing(&server).await, Vec::<Value>::new());

    cluster.stop();
    let alert = prometheus.until_fires(&server, "RowcastNotLive").await;
    assert_eq!(alert["severity"], "critical", "{alert}");
    let obstacle = prometheus.until_fires(&server, "RowcastSourceObstacle").await;
    assert_eq!(obstacle["obstacle"], "connection", "{obstacle}");
    let names: Vec<Value> =
        prometheus.firing(&server).await.into_iter().map(|alert| alert["alertname"].clone()).collect();
    assert!(!names.iter().any(|name| *name == "RowcastSourceLags"), "{names:?}");

    cluster.start_again();
    prometheus.until_quiet(&server).await;
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_an_alert_until_it_is_gone() {
    let options = ["--cores", "1", "--slow-consumer", "conflate", "--send-queue-frames", "16", "--ping-seconds", "120"];
    let server = TestServer::embedded(&options).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream: TcpStream = patiently(socket.connect(server.address)).await.unwrap();
    let mut stalled = Socket::over(stream).await;
    stalled.subscribe([1]).await;
    let _load = writing(&server, 20_000);
    let prometheus = Prometheus::scraping(&[&server]).await;
    prometheus.until_fires(&server, "RowcastSlowReaders").await;
    let names: Vec<Value> =
        prometheus.firing(&server).await.into_iter().map(|alert| alert["alertname"].clone()).collect();
    assert!(!names.iter().any(|name| *name == "RowcastNotLive" || *name == "RowcastRefused"), "{names:?}");

    drop(stalled);
    prometheus.until_quiet(&server).await;
}

#[tokio::test]
async fn a_server_that_is_full_is_an_alert_until_nobody_is_turned_away() {
    let server = TestServer::embedded(&["--cores", "1", "--max-connections", "1"]).await;
    server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    let prometheus = Prometheus::scraping(&[&server]).await;
    prometheus.until_has_data("rowcast_refused_total").await;
    let _only = Socket::connect(server.address).await;
    assert_eq!(server.refused_handshake("/websocket", &[]).await.status, 503);
    let alert = prometheus.until_fires(&server, "RowcastRefused").await;
    assert_eq!((&alert["limit"], &alert["severity"]), (&json!("connections"), &json!("warning")), "{alert}");
    prometheus.until_quiet(&server).await;
}
