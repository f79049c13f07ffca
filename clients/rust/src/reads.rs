//! The rows that are too large for a message, of which the key alone is told: [`read_owed`].

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use crate::backoff::pause;
use crate::client::Shared;
use crate::key::Key;
use crate::server::Server;
use crate::socket::bearer;

const TIMEOUT: Duration = Duration::from_secs(15);

/// A list as HTTP answers it.
#[derive(Deserialize)]
struct List {
    rows: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    version: u64,
    row: Box<RawValue>,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Reads what is owed, for as long as it is polled.
pub(crate) async fn read_owed(shared: &Shared, server: &Server) -> Infallible {
    let mut failures = 0;
    loop {
        let (owed, token) = shared.with(|core| (core.owed(), core.tokens().good()));
        if owed.is_empty() {
            failures = 0;
            shared.owed.notified().await;
            continue;
        }
        for (table, key) in &owed {
            // What fails is read again; if the row is gone, the server says so.
            let read = timeout(TIMEOUT, read(server, token.as_deref(), table, key)).await;
            if let Ok(Ok(Some(Listed { version, row }))) = read {
                shared.with(|core| core.fill(table, key, version, row.into()));
            }
        }
        let is_left = shared.with(|core| core.owed().iter().any(|it| owed.contains(it)));
        if is_left {
            sleep(pause(failures)).await;
            failures += 1;
        }
    }
}

async fn read(server: &Server, token: Option<&str>, table: &str, key: &Key) -> Result<Option<Listed>, AnyError> {
    let path = server.path(&format!("tables/{}?key={}", encoded(table), encoded(&key.to_string())));
    let mut request = Request::get(path).header(HOST, server.name());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, bearer(token)?);
    }
    let (mut sender, connection) = handshake(TokioIo::new(server.connect().await?)).await?;
    let asking = async {
        let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        let list: List = serde_json::from_slice(&body)?;
        Ok(list.rows.into_iter().next())
    };
    tokio::select! {
        answer = asking => answer,
        Err(error) = connection => Err(error.into()),
    }
}

/// Returns a text as a part of a URL (RFC 3986, §2.1).
fn encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_no_part_of_the_path() {
        assert_eq!(encoded("a-9_Z"), "a-9_Z");
        assert_eq!(encoded("../a b&ä"), "%2E%2E%2Fa%20b%26%C3%A4");
    }
}
