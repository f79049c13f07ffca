//! The version of HTTP that a client speaks on plain TCP, from its first bytes.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// The versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1, and 1.0.
    Http1,
    /// HTTP/2, by prior knowledge (RFC 9113, §3.3).
    Http2,
}

/// The first bytes of the preface of HTTP/2 (RFC 9113, §3.4). No method of HTTP/1 begins so: `PRI` is reserved for
/// this.
const BEGINNING: &[u8; 4] = b"PRI ";

/// Looks at the first bytes that a client sends, and leaves them where they are. Waits for them; the deadline is the
/// caller's.
pub(super) async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; BEGINNING.len()];
    let mut seen_before = 0;
    loop {
        let seen = stream.peek(&mut first).await?;
        if let Some(version) = version_of(&first[..seen]) {
            return Ok(version);
        }
        if seen == seen_before {
            // The client has ended its sending side.
            return Ok(Version::Http1);
        }
        seen_before = seen;
        // The bytes that were looked at are still there, and would be looked at again at once: say that there is
        // nothing, and wait for those that come after them.
        let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// Returns the version that these first bytes show, or `None` while it could be either.
fn version_of(first: &[u8]) -> Option<Version> {
    if first == BEGINNING {
        return Some(Version::Http2);
    }
    (!BEGINNING.starts_with(first) || first.is_empty()).then_some(Version::Http1)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (first, version) in [
            ("P", None),
            ("PR", None),
            ("PRI", None),
            ("PRI ", Some(Version::Http2)),
            ("GET ", Some(Version::Http1)),
            ("PUT ", Some(Version::Http1)),
            ("PRO", Some(Version::Http1)),
            ("\0", Some(Version::Http1)),
            ("", Some(Version::Http1)),
        ] {
            assert_eq!(version_of(first.as_bytes()), version, "{first:?}");
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_preface_that_comes_byte_by_byte_is_waited_for_and_left_there() {
        let (mut client, mut server) = pair().await;
        let looking = tokio::spawn(async move {
            let version = version(&server).await.unwrap();
            (version, server.read_u8().await.unwrap())
        });
        for byte in b"PRI " {
            client.write_all(&[*byte]).await.unwrap();
            // The other task sees a part.
            tokio::task::yield_now().await;
        }
        assert_eq!(looking.await.unwrap(), (Version::Http2, b'P'));
    }

    #[tokio::test]
    async fn a_client_that_ends_within_it_is_left_to_http_1() {
        for sent in ["", "P", "PRI"] {
            let (mut client, server) = pair().await;
            client.write_all(sent.as_bytes()).await.unwrap();
            drop(client);
            assert_eq!(version(&server).await.unwrap(), Version::Http1, "{sent:?}");
        }
    }
}
