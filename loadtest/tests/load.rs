//! The load generator against a server: it finds nothing wrong where nothing is, and says so where something is.
#![allow(clippy::unwrap_used)] // the lint knows tests by their attribute, not their helpers

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "the server's tests use the rest")]
mod support;

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use support::patiently;
use support::server::{TestServer, product_json};
use support::tls::{Certificate, text};

fn rowcast_load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast-load"));
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROWCAST_")) {
        command.env_remove(name);
    }
    command
}

async fn run(arguments: &[&str]) -> Output {
    patiently(rowcast_load(arguments).output()).await.unwrap()
}

/// `fanout` on a server of the test's own.
const FANOUT: [&str; 2] = ["fanout", "--overwrite-products"];

#[tokio::test]
async fn a_run_with_slow_readers_and_churn_finds_every_change() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let directory = tempfile::tempdir().unwrap();
    let (json, svg) = (directory.path().join("run.json"), directory.path().join("run.svg"));
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "40", "--ids-per-connection", "3", "--products", "10", "--publishers", "8"];
    let trouble = ["--slow", "3", "--churn", "50", "--warm-up", "0.1", "--duration", "0.5"];
    let files = ["--json", json.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let output = run(&[&FANOUT[..], &["--url", &url], &load[..], &trouble[..], &files[..]].concat()).await;

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("every change arrived in order, or was named as skipped\n"), "{said}");
    let outcome: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert!(outcome["deliveries"].is_u64(), "{outcome}");
    assert!(server.metric("rowcast_frames_sent_total").await > 0, "{outcome}");
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg "));
}

#[tokio::test]
async fn runs_go_over_tls_too() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let url = format!("wss://localhost:{}", server.address.port());
    let target = ["--url", &url, "--ca", text(&certificate.files.certificate)];
    let load = ["--connections", "20", "--ids-per-connection", "3", "--products", "10", "--payload-bytes", "20000"];
    let trouble = ["--slow", "2", "--churn", "20", "--warm-up", "0.1", "--duration", "0.5"];
    let output = run(&[&FANOUT[..], &target, &load, &trouble].concat()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("every change arrived in order, or was named as skipped\n"), "{said}");

    let output = run(&["handshakes", "--url", &url, "--insecure", "--duration", "0.2"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("full") && said.contains("resumed"), "{said}");

    let output = run(&["memory", "--url", &url, "--pid", "1"]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && error.contains("--ca") && error.contains("--insecure"), "{error}");
}

/// Runs `fanout` with seven WebSockets on each connection, and looks meanwhile whether the server has them so.
async fn fanout_over_http2(server: &TestServer, target: &[&str]) {
    let load = ["--connections", "20", "--http2", "7", "--ids-per-connection", "3", "--products", "10"];
    let spans = ["--payload-bytes", "20000", "--warm-up", "0.1", "--duration", "0.5"];
    let running = rowcast_load(&[&FANOUT[..], target, &load[..], &spans[..]].concat()).spawn().unwrap();
    server.until_metric("rowcast_http2_connections", 3).await;
    let output = patiently(running.wait_with_output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("every change arrived in order, or was named as skipped\n"), "{said}");
    // Not those in the measured span, which are none on a machine with much else to do.
    assert!(server.metric("rowcast_frames_sent_total").await > 0, "{said}");
}

#[tokio::test]
async fn readers_share_http2_connections() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let url = format!("ws://{}", server.address);
    fanout_over_http2(&server, &["--url", &url]).await;

    let pid = std::process::id().to_string();
    let memory = ["memory", "--url", &url, "--pid", &pid, "--connections", "20"];
    let output = run(&[&memory[..], &["--http2", "7"]].concat()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("with 20 open"), "{said}");

    for (arguments, why) in [
        (["--http2", "200", "--connections", "1"], "--http2-max-streams"),
        (["--http2", "7", "--slow", "1"], "--http2 goes without --slow"),
    ] {
        let output = run(&[&FANOUT[..], &["--url", &url], &arguments[..]].concat()).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn readers_share_http2_connections_over_tls() {
    let certificate = Certificate::new();
    let server = TestServer::https(&certificate, &["--cores", "2"]).await;
    let url = format!("wss://localhost:{}", server.address.port());
    fanout_over_http2(&server, &["--url", &url, "--ca", text(&certificate.files.certificate)]).await;
}

#[tokio::test]
async fn a_change_that_was_not_published_is_named() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "5", "--rate", "20", "--warm-up", "0", "--duration", "1"];
    let mut running = rowcast_load(&[&FANOUT[..], &["--url", &url], &load[..]].concat()).spawn().unwrap();
    server.until_metric("rowcast_subscriptions", 5).await;
    let stranger = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await;
    assert!(stranger.status.is_success());

    let status = patiently(running.wait()).await.unwrap();
    let output = running.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED: 5 faults") && said.contains("socket 4, product 1: "), "{said}");
}

#[tokio::test]
async fn storms_end_when_the_server_holds_nothing() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "20", "--ids-per-connection", "1500", "--products", "5000"];
    let output = run(&[&["subscribe", "--url", &url], &load[..]].concat()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("30000 ids in ").count(), 4, "{said}");
    server.until_metric("rowcast_subscriptions", 0).await;
}

#[tokio::test]
async fn only_this_machine_is_loaded() {
    let output = run(&["fanout", "--overwrite-products", "--url", "ws://192.0.2.1:80"]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not on this machine"));
}

#[tokio::test]
async fn products_are_overwritten_only_on_request() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let url = format!("ws://{}", server.address);
    let before = server.request("PUT", "/products/1", Some(&product_json(1, 7))).await;
    let output = run(&["fanout", "--url", &url, "--connections", "3", "--duration", "0.2", "--warm-up", "0"]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && error.contains("--overwrite-products"), "{error}");
    let after = server.get("/products/1").await;
    assert_eq!((after.version(), after.json()["unitsAvailable"].as_i64()), (before.version(), Some(7)));
}

/// May read and write everything until 2100, where the key is [`KEY`].
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsInJvd2Nhc3QiOnsicmVhZCI6IioiLCJ3cml0ZSI6dHJ1ZX19\
                     .Meq7f_0htiFogiP_ftjA5LLxbkge1MX5hmTKGWEtY3w";
const KEY: &[u8] = b"a secret that has thirty-two bytes";

#[tokio::test]
async fn a_token_goes_with_every_request_and_is_shown_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let (key, json) = (directory.path().join("key"), directory.path().join("run.json"));
    std::fs::write(&key, KEY).unwrap();
    let server = TestServer::embedded(&["--cores", "1", "--jwt-key", text(&key)]).await;
    let url = format!("ws://{}", server.address);
    let spans = ["--connections", "6", "--warm-up", "0", "--duration", "0.3", "--json", text(&json)];
    let fanout = [&FANOUT[..], &["--url", &url], &spans].concat();
    let subscribe = ["subscribe", "--url", &url, "--connections", "3", "--json", text(&json)];
    for arguments in
        [&[&fanout[..], &["--churn", "20"]].concat()[..], &[&fanout[..], &["--http2", "3"]].concat(), &subscribe]
    {
        let output = patiently(rowcast_load(arguments).env("ROWCAST_LOAD_TOKEN", TOKEN).output()).await.unwrap();
        let said = [&output.stdout[..], &output.stderr, &std::fs::read(&json).unwrap()].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && !said.contains(TOKEN), "{arguments:?}: {said}");
    }
    for (token, why) in [(None, "401"), (Some("not a token"), "--token is no token")] {
        let mut command = rowcast_load(&fanout);
        let output = patiently(command.envs(token.map(|token| ("ROWCAST_LOAD_TOKEN", token))).output()).await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let is_silent = token.is_none_or(|token| !error.contains(token));
        assert!(output.status.code() == Some(64) && error.contains(why) && is_silent, "{error}");
    }
    let help = patiently(rowcast_load(&["fanout", "--help"]).env("ROWCAST_LOAD_TOKEN", TOKEN).output()).await.unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains(TOKEN));
}

/// Measures attacks on a server of this process; a process that stands in for it is started and ended in its place.
async fn attack(server: &TestServer, directory: &Path, options: &[&str]) -> Output {
    let data = directory.join("data");
    std::fs::create_dir(&data).unwrap();
    let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_in.sh");
    let files = ["--server", stand_in, "--data-parent", text(&data)];
    let spans = ["--readers", "5", "--rounds", "2", "--seconds", "0.2", "--settle", "0"];
    let mut command = rowcast_load(&[&["noisy-neighbour"], &files[..], &spans, options].concat());
    let pid = directory.join("pid");
    command.env("STAND_IN_ADDRESS", server.address.to_string()).env("STAND_IN_PID", &pid);
    let output = patiently(command.output()).await.unwrap();

    let pids = std::fs::read_to_string(pid).unwrap();
    assert!(pids.lines().all(|pid| !Path::new("/proc").join(pid).exists()), "a process was not ended");
    assert_eq!(std::fs::read_dir(data).unwrap().count(), 0, "a data directory was left");
    output
}

#[tokio::test]
async fn attacks_are_measured_and_leave_nothing_behind() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let attacks = ["--attack", "packed-commands,window-updates,stream-pings", "--json", text(&json)];
    let output = attack(&server, directory.path(), &attacks).await;

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let outcome: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rows = outcome["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "packed commands for one core and for two, and the others: {outcome}");
    for row in rows {
        assert!(row["done"].as_u64() > Some(0), "{row}");
        for others in [&row["without"], &row["beside"], &row["with"]] {
            assert!(others["delivery"]["p50_us"].as_f64() > Some(0.0) && others["missing"] == 0, "{row}");
        }
    }
}

#[tokio::test]
async fn a_server_that_takes_too_much_memory_is_ended() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let directory = tempfile::tempdir().unwrap();
    // Less than any process has.
    let output = attack(&server, directory.path(), &["--attack", "window-updates", "--memory-max-mib", "1"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("FAILED: window-updates") && said.contains("MiB resident at most"), "{said}");
}

#[tokio::test]
async fn a_server_that_cannot_be_started_is_named() {
    let data = tempfile::tempdir().unwrap();
    let files = ["--server", "/nowhere/rowcast", "--data-parent", text(data.path())];
    let output = run(&[&["noisy-neighbour", "--attack", "readyz"], &files[..]].concat()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && said.contains("/nowhere/rowcast; build it"), "{said}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "a data directory was left");
}
