//! curl, as people read a stream.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::patiently;
use crate::support::server::{TestServer, product_json};

async fn curl_is_told_each_change(options: &[&str]) {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let url = format!("http://{}/events?productIDs=1", server.address);
    let mut curl = Command::new("curl");
    curl.args(["--no-buffer", "--silent", "--show-error", "--fail"]).args(options).arg(url);
    let mut child = curl.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("curl is installed");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        loop {
            let line = patiently(lines.next_line()).await.unwrap().expect("curl goes on");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    };
    while next().await["reply"] != "events" {}
    for units in 0..3 {
        let version = server.request("PUT", "/products/1", Some(&product_json(1, units))).await.version();
        let change = loop {
            let message = next().await;
            if message.get("live").is_none() {
                break message;
            }
        };
        assert_eq!(
            (change["version"].as_u64(), change["product"]["unitsAvailable"].as_i64()),
            (Some(version), Some(units))
        );
    }
    drop(server);
    let status = patiently(child.wait()).await.unwrap();
    assert!(status.success(), "the stream ends as an answer should: {status}");
}

#[tokio::test]
async fn curl_is_told_each_change_over_http_1() {
    curl_is_told_each_change(&["--http1.1"]).await;
}

#[tokio::test]
async fn curl_is_told_each_change_over_http_2() {
    curl_is_told_each_change(&["--http2-prior-knowledge"]).await;
}
