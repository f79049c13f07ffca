//! A private Prometheus, with the rules of `docs/prometheus`: [`Prometheus::scraping`].

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::support::patiently;
use crate::support::postgres::free_port;
use crate::support::server::{Http, TestServer};

/// The interval at which servers are scraped and rules are evaluated, and at which this is asked how that went.
const INTERVAL: Duration = Duration::from_secs(1);

/// Ends Prometheus when the test does, however that ends: then the pipe closes.
const KEEPER: &str = r#""$@" >"$0" 2>&1 & read -r _; kill -KILL $!; wait"#;

/// The path of one of its two programs: unpacked by `scripts/prometheus.sh`, unless `ROWCAST_PROMETHEUS_BIN` or the `PATH`
/// says otherwise.
pub(super) fn program(name: &str) -> PathBuf {
    let given = std::env::var_os("ROWCAST_PROMETHEUS_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/prometheus/usr/bin");
    let directories = given.into_iter().chain(std::env::split_paths(&path)).chain([unpacked]);
    let mut found = directories.map(|directory| directory.join(name)).filter(|path| path.is_file());
    found.next().unwrap_or_else(|| panic!("there is no {name}: run scripts/prometheus.sh --install"))
}

/// The path of a file in `docs/prometheus`.
pub(super) fn documented(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prometheus").join(name)
}

/// A Prometheus that runs until it is dropped.
pub(super) struct Prometheus {
    directory: TempDir,
    address: SocketAddr,
    keeper: Child,
}

/// A rule, as Prometheus has read it.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) query: String,
    pub(super) annotations: Value,
}

impl Prometheus {
    /// Scrapes these servers under the job `rowcast`. A second stands for each minute of the rules, so that an alert need
    /// not be waited for.
    pub(super) async fn scraping(servers: &[&TestServer]) -> Self {
        let directory = tempfile::tempdir().expect("a directory is made");
        let rules = std::fs::read_to_string(documented("rowcast.rules.yml")).expect("the rules are there");
        let files = [("rules.yml", hastened(&rules)), ("prometheus.yml", configuration(servers))];
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("a file is written");
        }
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "log"]).arg(program("prometheus")).current_dir(directory.path());
        keeper.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]);
        keeper.arg(format!("--web.listen-address={address}"));
        let keeper = keeper.stdin(Stdio::piped()).spawn().expect("a shell runs");
        let prometheus = Self { directory, address, keeper };
        prometheus.until(async |this| TcpStream::connect(this.address).await.is_ok().then_some(())).await;
        prometheus.until(async |this| (this.get("/-/ready").await.1 == 200).then_some(())).await;
        prometheus
    }

    /// Waits until there is an answer, and returns it.
    pub(super) async fn until<T>(&self, answer: impl AsyncFn(&Self) -> Option<T>) -> T {
        patiently(self.answered(answer)).await
    }

    /// Waits until a query has data.
    pub(super) async fn until_has_data(&self, query: &str) {
        let has_data = async |this: &Self| (!this.query(query).await.is_empty()).then_some(());
        let waited = timeout(Duration::from_mins(1), self.answered(has_data)).await;
        waited.unwrap_or_else(|_| panic!("there is no data for {query}"));
    }

    async fn answered<T>(&self, answer: impl AsyncFn(&Self) -> Option<T>) -> T {
        let mut looks = interval(INTERVAL / 10);
        loop {
            looks.tick().await;
            if let Some(answer) = answer(self).await {
                return answer;
            }
        }
    }

    async fn get(&self, path: &str) -> (String, u16) {
        let reply = Http::connect(self.address).await.request("GET", path, None).await;
        (reply.text, reply.status.as_u16())
    }

    /// The data of an answer of its API.
    async fn ask(&self, path: &str) -> Value {
        let (text, _) = self.get(path).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The labels and the numbers of a query's result; what is not a number is left out.
    pub(super) async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let data = self.ask(&format!("/api/v1/query?query={query}")).await;
        let samples = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}"));
        let number = |sample: &Value| {
            sample["value"][1].as_str().expect("a sample has a value").parse().expect("it is a number")
        };
        let samples = samples.iter().map(|sample| (sample["metric"].clone(), number(sample)));
        samples.filter(|(_, value): &(Value, f64)| !value.is_nan()).collect()
    }

    /// All rules.
    pub(super) async fn rules(&self) -> Vec<Rule> {
        let data = self.ask("/api/v1/rules").await;
        let groups = data["groups"].as_array().expect("there are groups").iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().expect("a group has rules"));
        let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
        let rule = |rule: &Value| Rule {
            name: text(&rule["name"]),
            query: text(&rule["query"]),
            annotations: rule["annotations"].clone(),
        };
        rules.map(rule).collect()
    }

    /// The names of the alerts that fire for a server, with the labels that tell which.
    pub(super) async fn firing(&self, server: &TestServer) -> Vec<Value> {
        let firing = self.query(&format!("ALERTS{{alertstate=\"firing\",instance=\"{}\"}}", server.address)).await;
        firing.into_iter().map(|(labels, _)| labels).collect()
    }

    /// Waits until an alert fires for a server, and returns its labels.
    pub(super) async fn until_fires(&self, server: &TestServer, alert: &str) -> Value {
        let found = async |this: &Self| this.firing(server).await.into_iter().find(|it| it["alertname"] == alert);
        self.until(found).await
    }

    /// Waits until no alert fires for a server.
    pub(super) async fn until_quiet(&self, server: &TestServer) {
        self.until(async |this| this.firing(server).await.is_empty().then_some(())).await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        if thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("Prometheus said:\n{log}");
        }
    }
}

fn configuration(servers: &[&TestServer]) -> String {
    let milliseconds = INTERVAL.as_millis();
    let mut text = format!(
        "global: {{scrape_interval: {milliseconds}ms, scrape_timeout: {milliseconds}ms, evaluation_interval: {milliseconds}ms}}\n\
         rule_files: [rules.yml]\nscrape_configs:\n- job_name: rowcast\n  tls_config: {{insecure_skip_verify: true}}\n  static_configs:\n"
    );
    for server in servers {
        let (address, scheme) = (server.address, if server.is_tls() { "https" } else { "http" });
        let _ = writeln!(text, "  - {{targets: ['{address}'], labels: {{__scheme__: {scheme}}}}}");
    }
    text
}

/// Returns the rules with a second in the place of each minute.
fn hastened(rules: &str) -> String {
    let mut rules = rules.replace("[1h]", "[60s]");
    for minutes in [1, 2, 5, 10, 15, 30] {
        rules = rules.replace(&format!("[{minutes}m]"), &format!("[{minutes}s]"));
        rules = rules.replace(&format!("for: {minutes}m"), &format!("for: {minutes}s"));
    }
    let is_slow =
        |line: &&str| line.contains("m]") || line.contains("h]") || line.contains("for: ") && line.ends_with('m');
    assert_eq!(rules.lines().find(is_slow), None);
    rules
}
