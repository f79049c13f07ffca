//! The load generator against a server: it finds nothing wrong where nothing is, and says so where something is.
#![allow(clippy::unwrap_used)] // the lint knows tests by their attribute, not their helpers

mod centrifugo;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "the server's tests use the rest")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use centrifugo::{Centrifugo, TROUBLED, Trouble};
use support::patiently;
use support::postgres::Cluster;
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
async fn readers_of_event_streams_find_every_change() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "20", "--ids-per-connection", "3", "--products", "10", "--publishers", "4"];
    let trouble = ["--event-streams", "--churn", "20", "--slow", "2", "--warm-up", "0.1", "--duration", "0.5"];
    for rows in [&["--verify-state"][..], &["--table", "orders", "--keys", "text", "--verify-state"]] {
        let output = run(&[&FANOUT[..], &["--url", &url], &load[..], &trouble[..], rows].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.ends_with("every change arrived in order, or was named as skipped\n"), "{said}");
    }
}

#[tokio::test]
async fn rows_of_any_table_are_followed_like_products() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "20", "--ids-per-connection", "3", "--products", "10", "--publishers", "4"];
    let trouble = ["--churn", "20", "--verify-state", "--warm-up", "0.1", "--duration", "0.5"];
    for (table, rows) in [
        ("orders", &["--keys", "text", "--columns", "12", "--payload-bytes", "300"][..]),
        ("shop.stock", &["--columns", "3"]),
    ] {
        let table = ["--url", &url, "--table", table];
        let output = run(&[&FANOUT[..], &table, rows, &load, &trouble].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let states = said.lines().find_map(|line| line.strip_prefix("states as in the store")).expect(&said);
        // A connection that has just left at the end has none.
        let (alike, all) = states.trim().split_once(" of ").unwrap();
        assert!(alike == all && all.parse::<u32>().unwrap() > 0, "{said}");
    }
    let row = server.get("/tables/orders/k1").await.json();
    assert_eq!((&row["id"], row.as_object().unwrap().len()), (&"k1".into(), 12), "{row}");
    assert_eq!(server.get("/products").await.json()["products"], serde_json::json!([]));
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

/// Runs a command that starts servers, against the one at this address: a process that stands in for each is started and
/// ended in its place.
async fn with_stand_in(address: SocketAddr, directory: &Path, arguments: &[&str]) -> Output {
    let data = directory.join("data");
    std::fs::create_dir(&data).unwrap();
    let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_in.sh");
    let mut command = rowcast_load(&[arguments, &["--server", stand_in, "--data-parent", text(&data)]].concat());
    let pid = directory.join("pid");
    command.env("STAND_IN_ADDRESS", address.to_string()).env("STAND_IN_PID", &pid);
    let output = patiently(command.output()).await.unwrap();

    let pids = std::fs::read_to_string(pid).unwrap();
    assert!(pids.lines().all(|pid| !Path::new("/proc").join(pid).exists()), "a process was not ended");
    assert_eq!(std::fs::read_dir(data).unwrap().count(), 0, "a data directory was left");
    output
}

/// Measures attacks on a server of this process.
async fn attack(server: &TestServer, directory: &Path, options: &[&str]) -> Output {
    let spans = ["--readers", "5", "--rounds", "2", "--seconds", "0.2", "--settle", "0"];
    with_stand_in(server.address, directory, &[&["noisy-neighbour"], &spans[..], options].concat()).await
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

/// Two commands for each of 30 readers, which share products.
const STORM: [&str; 6] = ["--connections", "10", "--ids-per-connection", "1500", "--products", "2000"];

/// Runs a storm, which has to find nothing wrong, and returns what it measured.
async fn storm(server: &TestServer, arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let arguments = [arguments, &STORM, &["--json", text(&json)]].concat();
    let output = with_stand_in(server.address, directory.path(), &arguments).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("every reader knows what the store has, and was told nothing that it knew\n"), "{said}");
    server.until_metric("rowcast_subscriptions", 0).await;
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

/// The ids and the states of a round.
fn ids_and_states(outcome: &Value, round: usize) -> (u64, u64) {
    let phase = &outcome["phases"][round];
    let reply = &phase["last_reply"];
    assert!(reply["p50_us"].as_f64() > Some(0.0) && reply["p50_us"].as_f64() <= reply["max_us"].as_f64(), "{phase}");
    (phase["ids"].as_u64().unwrap(), phase["states"].as_u64().unwrap())
}

#[tokio::test]
async fn readers_that_come_back_are_told_what_changed() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let outcome = storm(&server, &["resume"]).await;
    assert_eq!([0, 1].map(|round| ids_and_states(&outcome, round)), [(15_000, 15_000), (15_000, 0)], "{outcome}");
    assert_eq!(outcome["phases"][1]["rows_read"], 0, "what was told once is remembered: {outcome}");

    let outcome = storm(&server, &["resume", "--changed", "10"]).await;
    let (ids, states) = ids_and_states(&outcome, 1);
    assert!(ids == 15_000 && (1..ids / 2).contains(&states), "{outcome}");
    let outcome = storm(&server, &["resume", "--changed", "100", "--http2", "7"]).await;
    assert_eq!(ids_and_states(&outcome, 1), (15_000, 15_000), "{outcome}");
}

#[tokio::test]
async fn readers_that_come_back_are_told_what_changed_in_postgres() {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let store = ["--database-url", database.url(), "--overwrite-products"];
    let outcome = storm(&server, &[&["resume", "--changed", "10"], &store[..]].concat()).await;
    let (ids, states) = ids_and_states(&outcome, 1);
    assert!(ids == 15_000 && (1..ids / 2).contains(&states), "{outcome}");
    let outcome = storm(&server, &[&["snapshot"], &store[..]].concat()).await;
    assert_eq!(ids_and_states(&outcome, 2), (15_000, 15_000), "{outcome}");
}

#[tokio::test]
async fn snapshots_come_from_the_store_and_then_from_memory() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let outcome = storm(&server, &["snapshot", "--payload-bytes", "1000"]).await;
    let rounds = [0, 1, 2].map(|round| ids_and_states(&outcome, round));
    assert_eq!(rounds, [(2000, 2000), (15_000, 15_000), (15_000, 15_000)], "{outcome}");
    let rows_read = [0, 1, 2].map(|round| outcome["phases"][round]["rows_read"].as_u64().unwrap());
    assert_eq!(rows_read, [2000, 0, 0], "{outcome}");
}

#[tokio::test]
async fn products_may_take_longer_to_write_than_a_connection_may_be_silent() {
    let server = TestServer::embedded(&["--cores", "1", "--header-timeout-seconds", "1"]).await;
    let directory = tempfile::tempdir().unwrap();
    let load = ["resume", "--connections", "1", "--ids-per-connection", "1", "--products", "20000"];
    let output = with_stand_in(server.address, directory.path(), &load).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Lets readers of 20 channels each come back to a Centrifugo, whose process another one stands in for.
async fn resume_from(centrifugo: &Centrifugo, readers: &str, json: &Path) -> Output {
    let process = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
    let (url, pid) = (format!("ws://{}", centrifugo.address), process.id().unwrap().to_string());
    let server = ["resume", "--peer", "centrifugo", "--url", &url, "--pid", &pid, "--json", text(json)];
    run(&[&server[..], &["--connections", readers, "--ids-per-connection", "20", "--products", "30"]].concat()).await
}

#[tokio::test]
async fn readers_of_centrifugo_recover_what_they_know() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let centrifugo = Centrifugo::start(None).await;
    let output = resume_from(&centrifugo, "150", &json).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let outcome: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!([0, 1].map(|round| ids_and_states(&outcome, round)), [(3000, 3000), (3000, 0)], "{outcome}");
    assert_eq!(centrifugo.batches(), [20; 300], "each reader subscribes twice, each time with one message");
}

#[tokio::test]
async fn a_channel_that_centrifugo_does_not_recover_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for (trouble, why) in [
        (Trouble::NotRecovered, "not recovered"),
        (Trouble::ToldAgain, "1 publications"),
        (Trouble::AnsweredTwice, "answered again"),
    ] {
        let centrifugo = Centrifugo::start(Some(trouble)).await;
        let output = resume_from(&centrifugo, "5", &directory.path().join("run.json")).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("FAILED: ") && said.contains(&format!(", product {TROUBLED}: {why}\n")), "{said}");
    }
}

/// Returns the address of a way to a server on which one text becomes another of its length, once in what is read at
/// a time, on WebSockets only.
async fn falsifying(server: SocketAddr, from: &'static [u8], to: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let (mut bytes, mut is_websocket) = (vec![0; 64 * 1024], false);
                    while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                        is_websocket |= bytes.starts_with(b"HTTP/1.1 101");
                        let found = bytes[..read].windows(from.len()).position(|text| text == from);
                        if let Some(place) = found.filter(|_| is_websocket) {
                            bytes[place..place + to.len()].copy_from_slice(to);
                        }
                        to_client.write_all(&bytes[..read]).await?;
                    }
                    std::io::Result::Ok(())
                };
                // Either end may close.
                let _ = tokio::join!(up, down);
            });
        }
    });
    address
}

#[tokio::test]
async fn a_row_that_the_store_does_not_have_is_named() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let address = falsifying(server.address, b"t000000000000007~", b"t000000000000008~").await;
    let load = ["--connections", "4", "--ids-per-connection", "10", "--products", "10"];
    for command in ["resume", "snapshot"] {
        let directory = tempfile::tempdir().unwrap();
        let output = with_stand_in(address, directory.path(), &[&[command], &load[..]].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("FAILED: ") && said.contains(" with t8, and the store has "), "{said}");
    }
}

/// Loses the source of a server's readers, at this address, with the outcome.
async fn healing(database_url: &str, address: SocketAddr, options: &[&str]) -> (Output, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let store = ["healing", "--database-url", database_url, "--overwrite-products", "--pause", "0.2"];
    let output = with_stand_in(address, directory.path(), &[&store, options, &["--json", text(&json)]].concat()).await;
    let outcome = std::fs::read(json).map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap());
    (output, outcome)
}

#[tokio::test]
async fn readers_know_what_the_store_has_however_often_the_source_was_lost() {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let load = ["--connections", "20", "--ids-per-connection", "10", "--products", "50"];
    for (options, kills) in [
        (&["--kills", "2", "--rate", "300"][..], 2),
        (
            &["--kills", "1", "--rate", "300", "--publisher", "sql", "--batch", "7", "--changed", "30", "--http2", "7"],
            1,
        ),
        (&["--kills", "1", "--changed", "100", "--snapshot"], 1),
    ] {
        let (output, outcome) = healing(database.url(), server.address, &[&load, options].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.ends_with("every reader knows what the store has\n"), "{said}");
        let measured = outcome["kills"].as_array().unwrap();
        assert_eq!((measured.len(), &outcome["states"]["subscriptions"]), (kills, &200.into()), "{outcome}");
        for kill in measured {
            let moments = [&kill["lost_s"][0], &kill["lost_s"][1], &kill["heard_s"], &kill["live_s"][1]];
            let moments = moments.map(|moment| moment.as_f64().unwrap());
            assert!(moments[0] > 0.0 && moments[0] <= moments[1] && moments[0] < moments[2], "{kill}");
            assert!(moments[1] < moments[3], "{kill}");
            assert!(kill["told"]["newer"].as_u64() > Some(0), "what was missed is told: {kill}");
        }
        let has_written = outcome["written"]["changes"].as_u64() > Some(0);
        assert_eq!(has_written, options.contains(&"--rate"), "{outcome}");
    }
}

#[tokio::test]
async fn a_change_that_is_not_told_after_the_source_was_lost_is_named() {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "1"]).await;
    let load =
        ["--connections", "3", "--ids-per-connection", "9", "--products", "9", "--kills", "1", "--changed", "100"];
    for (from, to, why) in [
        (&b"\"productId\":7,"[..], &b"\"productId\":5,"[..], "product 7: knows version "),
        (b"t000001000000007~", b"t000001000000008~", " with t1000000008, and the store has t1000000007\n"),
    ] {
        let address = falsifying(server.address, from, to).await;
        let (output, outcome) = healing(database.url(), address, &load).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("FAILED: ") && said.contains(why), "{said}");
        assert!(said.contains("readers as the store      0 of 3\n"), "{said}");
        assert_eq!(outcome["different_readers"], 3, "{outcome}");
    }
}

#[tokio::test]
async fn only_a_source_on_this_machine_is_lost() {
    let database = ["--database-url", "postgres://postgres@192.0.2.1/rowcast", "--overwrite-products"];
    let output = run(&[&["healing"], &database[..], &["--server", "/nowhere"]].concat()).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && error.contains("is not on this machine"), "{error}");
}

#[tokio::test]
async fn a_database_is_not_touched_without_leave() {
    for command in ["resume", "snapshot", "healing"] {
        let output = run(&[command, "--database-url", "postgres://127.0.0.1:1/none", "--server", "/nowhere"]).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && error.contains("--overwrite-products"), "{error}");
    }
}

#[tokio::test]
async fn changes_that_several_publishers_notify_all_arrive() {
    let database = Cluster::shared().database().await;
    let server = TestServer::postgres(database.url(), &["--cores", "2"]).await;
    let url = format!("ws://{}", server.address);
    let spans = ["--warm-up", "0.1", "--duration", "0.5", "--publisher", "notify", "--database-url", database.url()];
    let load = ["--connections", "20", "--ids-per-connection", "3", "--products", "40", "--publishers", "4"];
    for batch in ["1", "50"] {
        let output = run(&[&FANOUT[..], &["--url", &url, "--batch", batch], &load, &spans].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let many = ["--products", "3", "--publishers", "4"];
    let output = run(&[&FANOUT[..], &["--url", &url], &many, &spans].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains("no more --publishers than --products"), "{said}");
}

#[tokio::test]
async fn at_the_end_every_reader_knows_what_the_store_has() {
    let server = TestServer::embedded(&["--cores", "2"]).await;
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "40", "--ids-per-connection", "3", "--products", "10", "--publishers", "8"];
    let spans = ["--verify-state", "--warm-up", "0.1", "--duration", "0.5", "--payload-bytes", "20000"];
    for trouble in [&["--slow", "3", "--churn", "50"][..], &["--http2", "7"]] {
        let output = run(&[&FANOUT[..], &["--url", &url], &load, &spans, trouble].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let compared = said.lines().find_map(|line| line.strip_prefix("states as in the store")).unwrap_or(&said);
        let (good, all) = compared.trim().split_once(" of ").unwrap();
        // One that is being opened again when the run ends has none.
        assert!(good == all && all.parse::<u32>().unwrap() >= 39 * 3, "{said}");
    }
}

#[tokio::test]
async fn a_reader_that_does_not_know_what_the_store_has_is_named() {
    // Under this policy the newest change of a product may be the one that is lost.
    let drop = ["--slow-consumer", "drop", "--send-queue-frames", "2", "--ping-seconds", "120"];
    let server = TestServer::embedded(&[&["--cores", "1"], &drop[..]].concat()).await;
    let url = format!("ws://{}", server.address);
    let load = ["--connections", "2", "--ids-per-connection", "40", "--products", "40", "--publishers", "8"];
    let spans = ["--verify-state", "--slow", "1", "--payload-bytes", "900000", "--warm-up", "0", "--duration", "3"];
    let output = run(&[&FANOUT[..], &["--url", &url], &load, &spans].concat()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("  socket 0, product ") && said.contains(": knows version "), "{said}");
    assert!(!said.contains("socket 1, "), "the other one is prompt: {said}");
}
