//! The command as its users run it: what it prints, what it refuses, and how it ends.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::{Http, product_json};
use crate::support::socket::{RawSocket, Socket};

/// The command, without the environment's settings.
pub(crate) fn rowcast(arguments: &[&str]) -> Command {
    let mut command = without_settings(env!("CARGO_BIN_EXE_rowcast"));
    command.args(arguments);
    command
}

/// The command, started by a shell that does this before.
pub(crate) fn rowcast_after(preparation: &str, arguments: &[&str]) -> Command {
    let mut shell = without_settings("/bin/sh");
    let script = format!(r#"{preparation}; exec "$0" "$@""#);
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_rowcast")]).args(arguments);
    shell
}

fn without_settings(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("DATABASE_URL").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROWCAST_")) {
        command.env_remove(name);
    }
    command
}

/// A server that has said where it listens.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: std::net::SocketAddr,
    greeting: BufReader<ChildStdout>,
    /// The panics that its log told of, where nobody else reads that.
    panics: Arc<Mutex<Vec<String>>>,
}

/// A panic is a fault of the server, whatever else the test looks at: a task that panics may end a connection alone.
impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(*self.panics.lock().unwrap(), [""; 0]);
        }
    }
}

impl Running {
    pub(crate) async fn start(data_dir: &Path, options: &[&str]) -> Self {
        let data_dir = data_dir.to_str().unwrap();
        Self::of(&mut rowcast(&[&["--listen", "127.0.0.1:0", "--data-dir", data_dir], options].concat())).await
    }

    /// A server at this address, with its data in this directory, whose log nobody reads.
    pub(crate) async fn serving(directory: &tempfile::TempDir, address: &str) -> Self {
        let data_dir = directory.path().to_str().unwrap();
        let mut server = Self::of(&mut rowcast(&["--listen", address, "--data-dir", data_dir])).await;
        server.ignore_log();
        server
    }

    pub(crate) async fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut greeting = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        patiently(greeting.read_line(&mut line)).await.unwrap();
        let address = line.trim_end().strip_prefix("Rowcast is live at ").and_then(|url| url.split_once("://"));
        let (_, address) = address.unwrap_or_else(|| panic!("{line:?}"));
        Self { address: address.parse().unwrap(), child, greeting, panics: Arc::default() }
    }

    /// Returns the address that only sends everybody on to https, as its second line says.
    pub(crate) async fn redirect(&mut self) -> std::net::SocketAddr {
        let mut line = String::new();
        patiently(self.greeting.read_line(&mut line)).await.unwrap();
        let address = line.strip_prefix("Requests to http://").and_then(|line| line.split_once(' '));
        address.unwrap_or_else(|| panic!("{line:?}")).0.parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Throws away what it logs but panics, so that a long log does not stop it.
    pub(crate) fn ignore_log(&mut self) {
        let mut log = BufReader::new(self.child.stderr.take().expect("piped")).split(b'\n');
        let panics = Arc::clone(&self.panics);
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_segment().await {
                let line = String::from_utf8_lossy(&line);
                if line.contains("panicked at") {
                    panics.lock().unwrap().push(line.into_owned());
                }
            }
        });
    }

    /// Sends a signal without waiting for another process to do it.
    pub(crate) fn kill(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Sends a signal, and returns how the process ended and what its log said.
    pub(crate) async fn signal(mut self, signal: &str) -> (ExitStatus, String) {
        send_signal(&self.child, signal).await;
        let mut log = String::new();
        patiently(self.child.stderr.take().unwrap().read_to_string(&mut log)).await.unwrap();
        (patiently(self.child.wait()).await.unwrap(), log)
    }
}

pub(crate) async fn send_signal(child: &Child, signal: &str) {
    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap().success());
}

/// The exit code of a command that ends by itself, and its standard output and error.
pub(crate) async fn ended(command: &mut Command) -> (i32, String, String) {
    let output = patiently(command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn it_says_where_to_look_and_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &[]).await;
    let mut lines = String::new();
    while !lines.contains("MacBook Pro") {
        patiently(server.greeting.read_line(&mut lines)).await.unwrap();
    }
    for part in [dir.path().to_str().unwrap(), "/websocket", "curl -X PUT http://127.0.0.1:"] {
        assert!(lines.contains(part), "{lines}");
    }
    let page = Http::connect(server.address).await.request("GET", "/", None).await;
    assert!(page.text.contains("<h1>Rowcast</h1>"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let script = Http::connect(server.address).await.request("GET", "/assets/app.js", None).await;
    assert_eq!((script.status.as_u16(), script.header("content-type")), (200, "text/javascript; charset=utf-8"));
}

#[tokio::test]
async fn a_signal_ends_it_cleanly_and_the_second_start_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    for (signal, units) in [("TERM", 1), ("INT", 2), ("TERM", 3)] {
        let server = Running::start(dir.path(), &["--cores", "2"]).await;
        let mut http = Http::connect(server.address).await;
        if units > 1 {
            assert_eq!(http.request("GET", "/products/1", None).await.json()["unitsAvailable"], units - 1);
        }
        let mut socket = Socket::connect(server.address).await;
        socket.subscribe([1]).await;
        http.request("PUT", "/products/1", Some(&product_json(1, units))).await;
        assert_eq!(socket.next().await["product"]["unitsAvailable"], units);
        let ((_, code), (status, log)) =
            tokio::join!(async move { socket.until_closed().await }, server.signal(signal));
        assert_eq!(code, 1012);
        assert!(status.success(), "{log}");
        assert!(
            log.contains(&format!("SIG{signal}")) && log.contains("stopped connections=1 connections_cut=0"),
            "{log}"
        );
    }
}

/// Begins to stop a server, and returns its log behind the line that says so.
async fn stop(server: &mut Running) -> Lines<BufReader<ChildStderr>> {
    send_signal(&server.child, "TERM").await;
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    while !patiently(log.next_line()).await.unwrap().unwrap().contains("SIGTERM") {}
    log
}

#[tokio::test]
async fn another_signal_after_a_second_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--cores", "1", "--drain-seconds", "3600"]).await;
    // A reader that never closes its side keeps the server waiting.
    let socket = RawSocket::connect(server.address, b"").await;
    let mut log = stop(&mut server).await;
    let last = loop {
        server.kill(Signal::TERM);
        if let Ok(line) = timeout(Duration::from_millis(100), log.next_line()).await {
            break line.unwrap();
        }
    };
    assert_eq!(last.unwrap(), "rowcast: exiting at once after a second signal (SIGTERM); what was open is cut");
    assert_eq!(patiently(server.child.wait()).await.unwrap().code(), Some(1));
    drop(socket);
}

#[tokio::test]
async fn a_signal_that_comes_twice_within_a_second_is_one() {
    for second in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Running::start(dir.path(), &["--cores", "1", "--drain-seconds", "1"]).await;
        let mut reader = Socket::connect(server.address).await;
        let mut log = stop(&mut server).await;
        server.kill(second);
        assert_eq!(reader.until_closed().await.1, 1012);
        drop(reader);
        let mut last = String::new();
        while let Some(line) = patiently(log.next_line()).await.unwrap() {
            last = line;
        }
        assert!(last.contains("stopped connections=1 connections_cut=0"), "{last}");
        assert!(patiently(server.child.wait()).await.unwrap().success());
    }
}

#[tokio::test]
async fn a_hangup_changes_nothing_without_a_certificate_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &["--cores", "1"]).await;
    let mut reader = Socket::connect(server.address).await;
    server.kill(Signal::HUP);
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    while !patiently(log.next_line()).await.unwrap().unwrap().contains("SIGHUP is ignored") {}
    reader.subscribe([1]).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for units in 0..5 {
        let server = Running::start(dir.path(), &[]).await;
        let writers = (0..8u64).map(|id| {
            let address = server.address;
            tokio::spawn(async move {
                let mut http = Http::connect(address).await;
                let mut versions = Vec::new();
                for _ in 0..20 {
                    let reply = http.request("PUT", &format!("/products/{id}"), Some(&product_json(id, units))).await;
                    versions.push(reply.version());
                }
                (id, versions)
            })
        });
        let mut versions_by_product = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            versions_by_product.push(writer.await.unwrap());
        }
        server.signal("KILL").await;
        let server = Running::start(dir.path(), &[]).await;
        let mut http = Http::connect(server.address).await;
        let mut greatest = 0;
        for (id, versions) in versions_by_product {
            let product = http.request("GET", &format!("/products/{id}"), None).await;
            assert_eq!(product.json()["unitsAvailable"], units);
            assert_eq!(product.version(), *versions.last().unwrap());
            greatest = greatest.max(product.version());
        }
        let next = http.request("PUT", "/products/0", Some(&product_json(0, units))).await.version();
        assert_eq!(next, greatest + 1, "versions go on where they stood");
        server.signal("KILL").await;
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(dir.path(), &[]).await;
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
    let (code, out, error) = ended(&mut rowcast(&arguments)).await;
    let holder = format!("is in use by process {}; ", server.child.id().unwrap());
    assert!(code == 1 && out.is_empty() && error.contains(&holder), "{error}");
}

/// Overwrites one text in a data file.
fn damage(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let found: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, at)| *at == text.as_bytes()).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at] = 0xFF;
    }
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_data_file_that_is_damaged_or_empty_stops_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(dir.path(), &[]).await;
    let mut http = Http::connect(server.address).await;
    for id in 1..=3 {
        http.request("PUT", &format!("/products/{id}"), Some(&product_json(id, 1))).await;
    }
    server.signal("TERM").await;
    let file = dir.path().join("products.redb");
    for part in ["is damaged", "is empty"] {
        if part == "is damaged" {
            damage(&file, "Maker 2");
        } else {
            std::fs::write(&file, "").unwrap();
        }
        let arguments = ["--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
        let (code, out, error) = ended(&mut rowcast(&arguments)).await;
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        assert!(error.contains(part) && error.contains("backup") && !error.contains("panicked"), "{error}");
        assert!(error.lines().last().unwrap().starts_with("rowcast: the data file "), "{error}");
    }
}

/// A disk that is full, as far as one process can be made to see it: its files may not grow.
#[tokio::test]
async fn a_disk_that_was_full_is_written_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    // Without the signal, the write has an error.
    let mut shell = rowcast_after("trap '' XFSZ", &["--listen", "127.0.0.1:0", "--data-dir", data_dir]);
    let mut server = Running::of(&mut shell).await;
    server.ignore_log();
    let may_grow_to = async |size: &str| {
        let pid = server.pid().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={size}:unlimited")]).status().await;
        assert!(status.unwrap().success());
    };
    let mut http = Http::connect(server.address).await;
    http.request("PUT", "/products/0", Some(&product_json(0, 1))).await;
    let size = std::fs::metadata(dir.path().join("products.redb")).unwrap().len();
    may_grow_to(&size.to_string()).await;
    let large = |id| product_json(id, 1).replace("Maker", &"m".repeat(900_000));
    let mut written = Vec::new();
    let refused = loop {
        let id = written.len() as u64 + 1;
        let reply = http.request("PUT", &format!("/products/{id}"), Some(&large(id))).await;
        if reply.status != 201 {
            break reply;
        }
        written.push(id);
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    let reading = http.request("GET", "/products/0", None).await;
    assert_eq!((reading.status.as_u16(), reading.json()["unitsAvailable"].as_i64()), (200, Some(1)), "reads go on");

    may_grow_to("unlimited").await;
    let ready = async { while http.request("GET", "/readyz", None).await.status != 200 {} };
    patiently(ready).await;
    let id = written.len() as u64 + 1;
    assert_eq!(http.request("PUT", &format!("/products/{id}"), Some(&large(id))).await.status, 201);
    for id in written.into_iter().chain([id]) {
        assert_eq!(http.request("GET", &format!("/products/{id}"), None).await.status, 200, "product {id}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, error) =
        ended(&mut rowcast(&["--listen", &address, "--data-dir", dir.path().to_str().unwrap()])).await;
    assert!(code == 1 && error.contains(&format!("listen on {address}: ")) && error.contains("--listen"), "{error}");
}

#[tokio::test]
async fn a_wrong_configuration_stops_with_a_sentence() {
    let secret = "postgres://user:hunter2@db/shop?sslmode=sometimes";
    for (arguments, code, part) in [
        (&["--listen", "0.0.0.0:0"][..], 64, "--allow-anonymous"),
        (&["--listen", "nowhere"], 64, "127.0.0.1:8080"),
        (&["--database-url", "mysql://localhost/shop"], 64, "--database-url"),
        (&["--database-url", secret], 64, "sslmode"),
        (&["migrate"], 64, "DATABASE_URL"),
        (&["--database-url", "postgres://nobody:hunter2@127.0.0.1:1/shop?connect_timeout=1"], 1, "127.0.0.1:1"),
        (&["--cores", "none"], 2, "--cores"),
        (&["--slow-consumer", "wait"], 2, "conflate, drop, disconnect"),
        (&["--colour"], 2, "--colour"),
    ] {
        let (found, out, error) = ended(&mut rowcast(arguments)).await;
        assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {error}");
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("hunter2"), "a secret is shown: {error}");
    }
}

#[tokio::test]
async fn a_variable_does_what_its_option_does_and_help_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = rowcast(&[]);
    command.env("ROWCAST_LISTEN", "127.0.0.1:0").env("ROWCAST_DATA_DIR", dir.path()).env("ROWCAST_LOG_FORMAT", "json");
    let server = Running::of(&mut command).await;
    let (status, log) = server.signal("TERM").await;
    assert!(status.success());
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["level"].is_string(), "{line}");
    }
    let mut help = rowcast(&["--help"]);
    let (code, text, _) = ended(help.env("ROWCAST_DATABASE_URL", "postgres://u:hunter2@h/d")).await;
    assert!(code == 0 && text.contains("ROWCAST_DATABASE_URL") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn migrate_prepares_the_database_and_does_it_once() {
    let database = Cluster::shared().database().await;
    let (code, out, error) = ended(&mut rowcast(&["migrate", "--database-url", database.url()])).await;
    assert!(
        code == 0
            && out
                .contains("applied 0001_products.sql\napplied 0002_conditional_writes.sql\napplied 0003_streams.sql\n")
            && out.contains("is up to date"),
        "{out}{error}"
    );
    let mut again = rowcast(&["migrate"]);
    let (code, out, _) = ended(again.env("DATABASE_URL", database.url())).await;
    assert!(code == 0 && !out.contains("applied") && out.contains("is up to date"), "{out}");
}
