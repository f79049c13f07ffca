//! New keys while the server runs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStderr;

use super::tokens::{Issuer, bearer, everything, key_file, now};
use crate::process::{Running, send_signal};
use crate::support::patiently;
use crate::support::server::{Http, TestServer, product_json};
use crate::support::socket::{Read, Socket};

const SECRETS: [&str; 3] = [
    "the first secret of a server, of enough bytes",
    "the second one, which has enough of them too",
    "the third, for whoever comes after the second",
];

fn issuers() -> [Issuer; 3] {
    SECRETS.map(|secret| Issuer::secret(secret.as_bytes()))
}

/// Puts a file in its place as a whole, as those who rotate keys should.
fn put(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(next, path).unwrap();
}

/// The status of a request with this token.
async fn status(address: SocketAddr, token: &str) -> u16 {
    let headers = [("authorization", &*bearer(token))];
    Http::connect(address).await.request_with("GET", "/products", &headers, None).await.status.as_u16()
}

/// Writes product 1, and asserts that an open socket is told.
async fn assert_lives(socket: &mut Socket, address: SocketAddr, token: &str, units: i64) {
    let headers = [("authorization", &*bearer(token))];
    let body = product_json(1, units);
    let reply = Http::connect(address).await.request_with("PUT", "/products/1", &headers, Some(&body)).await;
    assert!(reply.status.is_success(), "{reply:?}");
    assert_eq!(socket.next().await["product"]["unitsAvailable"], units);
}

async fn until_accepted(address: SocketAddr, token: &str) {
    let accepted = async {
        while status(address, token).await != 200 {
            tokio::task::yield_now().await;
        }
    };
    patiently(accepted).await;
}

#[tokio::test]
async fn changed_keys_are_read_again_and_what_is_open_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, SECRETS[0]).unwrap();
    let server = TestServer::embedded(&["--cores", "2", "--jwt-key", key.to_str().unwrap()]).await;
    let address = server.address;
    let [old, new] = [0, 1].map(|at| issuers()[at].granting(everything()));
    let (mut socket, _) = Socket::connect_with(address, "/websocket", &[("authorization", &bearer(&old))]).await;
    socket.subscribe([1]).await;
    assert_eq!(status(address, &new).await, 401);
    assert_lives(&mut socket, address, &old, 1).await;

    put(&key, SECRETS[1]);
    until_accepted(address, &new).await;
    assert_eq!(status(address, &old).await, 401, "the old key is gone");
    let handshake = server.refused_handshake("/websocket", &[("authorization", &bearer(&old))]).await;
    assert_eq!(handshake.status, 401);
    assert_lives(&mut socket, address, &new, 2).await;
    socket.subscribe([2, 3]).await;
}

/// A server in a process of its own, its log, and the files of its two keys: a secret, and a public key.
struct Rotating {
    server: Running,
    log: Lines<BufReader<ChildStderr>>,
    secret: std::path::PathBuf,
    public: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Rotating {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (secret, public) = (dir.path().join("secret"), dir.path().join("public.pem"));
        fs::write(&secret, SECRETS[0]).unwrap();
        fs::copy(key_file("ed25519.pem"), &public).unwrap();
        let keys = ["--jwt-key", secret.to_str().unwrap(), "--jwt-key", public.to_str().unwrap()];
        let mut server = Running::start(&dir.path().join("data"), &[&["--cores", "1"], &keys[..]].concat()).await;
        let log = BufReader::new(server.child.stderr.take().unwrap()).lines();
        Self { server, log, secret, public, _dir: dir }
    }

    /// Sends SIGHUP, and waits until the log has this; returns the line.
    async fn hang_up(&mut self, part: &str) -> String {
        send_signal(&self.server.child, "HUP").await;
        loop {
            let line = patiently(self.log.next_line()).await.unwrap().expect("the server runs");
            assert!(!SECRETS.iter().any(|secret| line.contains(&secret[..10])), "{line}");
            if line.contains(part) {
                return line;
            }
        }
    }
}

const USED: &str = "the keys of tokens were read again and are in use";
const KEPT: &str = "the new keys of tokens cannot be used; the old ones stay in use";

#[tokio::test]
async fn sighup_reads_them_at_once() {
    let mut rotating = Rotating::start().await;
    let address = rotating.server.address;
    let [old, new] = [0, 1].map(|at| issuers()[at].granting(everything()));
    // Nothing has changed, so that only the signal can be why they are read.
    rotating.hang_up(USED).await;
    assert_eq!([status(address, &old).await, status(address, &new).await], [200, 401]);
    put(&rotating.secret, SECRETS[1]);
    rotating.hang_up(USED).await;
    assert_eq!([status(address, &old).await, status(address, &new).await], [401, 200]);
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_told_and_all_old_ones_stay() {
    let mut rotating = Rotating::start().await;
    let address = rotating.server.address;
    let [first, second, third] = issuers().map(|issuer| issuer.granting(everything()));
    let public = Issuer::private("EdDSA").granting(everything());
    let (mut socket, _) = Socket::connect_with(address, "/websocket", &[("authorization", &bearer(&first))]).await;
    socket.subscribe([1]).await;

    // One file is good, and new; the other is not.
    put(&rotating.secret, SECRETS[1]);
    let mut units = 0;
    for (content, fault) in [
        (None, "No such file"),
        (Some(""), "the file is empty"),
        (Some("too short"), "at least 32 bytes, and this one has 9"),
        (Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "this is a private key"),
        (Some("{\"keys\":["), "not a set of keys"),
    ] {
        match content {
            None => fs::remove_file(&rotating.public).unwrap(),
            Some(content) => put(&rotating.public, content),
        }
        let line = rotating.hang_up(KEPT).await;
        assert!(line.contains("ERROR") && line.contains("public.pem") && line.contains(fault), "{line}");
        for (token, expected) in [(&first, 200), (&public, 200), (&second, 401), (&third, 401)] {
            assert_eq!(status(address, token).await, expected, "{content:?}");
        }
        units += 1;
        assert_lives(&mut socket, address, &first, units).await;
    }
    let headers = [("authorization", &*bearer(&first))];
    let metrics = Http::connect(address).await.request_with("GET", "/metrics", &headers, None).await.text;
    assert!(metrics.contains("rowcast_token_key_reads_total{outcome=\"refused\"}"), "{metrics}");

    // Any further look may have read them once more meanwhile.
    fs::copy(key_file("ed25519.pem"), &rotating.public).unwrap();
    put(&rotating.secret, SECRETS[2]);
    rotating.hang_up(USED).await;
    for (token, expected) in [(&first, 401), (&public, 200), (&second, 401), (&third, 200)] {
        assert_eq!(status(address, token).await, expected);
    }
    assert_lives(&mut socket, address, &third, 9).await;
}

#[tokio::test]
async fn a_socket_whose_key_is_gone_ends_when_its_token_expires() {
    let mut rotating = Rotating::start().await;
    let address = rotating.server.address;
    let expires_at = now() + Duration::from_secs(4);
    let brief = issuers()[0].token(json!({"exp": expires_at.as_secs_f64(), "rowcast": everything()}));
    let new = issuers()[1].granting(everything());
    let (mut socket, _) = Socket::connect_with(address, "/websocket", &[("authorization", &bearer(&brief))]).await;
    socket.subscribe([1]).await;
    put(&rotating.secret, SECRETS[1]);
    rotating.hang_up(USED).await;
    assert_lives(&mut socket, address, &new, 1).await;
    assert_eq!(socket.read().await, Read::Close(4401));
    assert!(now() >= expires_at, "not before it expires");
}

#[tokio::test]
async fn a_pipe_is_read_once_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = pipe.clone();
    let writing = tokio::task::spawn_blocking(move || fs::write(writer, SECRETS[0]).unwrap());
    let options = ["--cores", "1", "--jwt-key", pipe.to_str().unwrap()];
    let mut server = Running::start(&dir.path().join("data"), &options).await;
    patiently(writing).await.unwrap();
    send_signal(&server.child, "HUP").await;
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    while !patiently(log.next_line()).await.unwrap().unwrap().contains("no file that can be read again") {}
    assert_eq!(status(server.address, &issuers()[0].granting(everything())).await, 200);
}
