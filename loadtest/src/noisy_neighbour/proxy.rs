//! A way to a database that takes longer: [`delaying`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

/// The delay of everything that a client sends.
const DELAY: Duration = Duration::from_millis(10);
/// Pieces that are on their way at once; what is more waits in the socket.
const PIECES_MAX: usize = 1024;

/// A proxy, at work until it is dropped.
pub(super) struct Proxy {
    /// The database's URL with the proxy's address in it.
    pub(super) url: String,
    accepting: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on this machine and passes everything on to the database, all that goes there 10 ms late.
pub(super) async fn delaying(url: &str) -> anyhow::Result<Proxy> {
    let (before, host, after) = parts(url).context("--database-url is postgres://user:password@host:port/name")?;
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:5432") };
    let database = crate::cli::loopback(&with_port).context("--database-url")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen for the server's connections")?;
    let url = format!("{before}{}{after}", listener.local_addr()?);
    let accepting = spawn_local(async move {
        while let Ok((server, _)) = listener.accept().await {
            // The server sees its connection end.
            spawn_local(async move { drop(pass(server, database).await) });
        }
    });
    Ok(Proxy { url, accepting: accepting.abort_handle() })
}

/// Splits a URL into the part before host and port, these, and the part after them.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let scheme_end = url.find("://")? + 3;
    let end = url[scheme_end..].find(['/', '?']).map_or(url.len(), |at| scheme_end + at);
    let begin = url[..end].rfind('@').map_or(scheme_end, |at| at + 1);
    (begin < end).then(|| (&url[..begin], &url[begin..end], &url[end..]))
}

async fn pass(server: TcpStream, database: SocketAddr) -> anyhow::Result<()> {
    let database = TcpStream::connect(database).await?;
    server.set_nodelay(true)?;
    database.set_nodelay(true)?;
    let ((mut from_server, mut to_server), (mut from_database, to_database)) = (split(server), split(database));
    tokio::select! {
        result = late(&mut from_server, to_database) => result?,
        result = tokio::io::copy(&mut from_database, &mut to_server) => ensure!(result? > 0, "the database said nothing"),
    }
    Ok(())
}

/// Copies each piece when its time has come; reading goes on meanwhile.
async fn late(from: &mut (impl AsyncRead + Unpin), mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut pieces: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let due = pieces.front().map(|(due, _)| *due);
        tokio::select! {
            read = from.read(&mut buffer), if pieces.len() < PIECES_MAX => match read? {
                0 => return Ok(()),
                read => pieces.push_back((Instant::now() + DELAY, buffer[..read].to_vec())),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, piece)) = pieces.pop_front() {
                    to.write_all(&piece).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_found() {
        let url = "postgres://u:p@localhost:5433/name?sslmode=disable";
        assert_eq!(parts(url), Some(("postgres://u:p@", "localhost:5433", "/name?sslmode=disable")));
        assert_eq!(parts("postgres://localhost"), Some(("postgres://", "localhost", "")));
        assert_eq!(parts("localhost"), None);
    }
}
