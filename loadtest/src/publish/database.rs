//! Connections to the database of the server under test, which has to be on this machine.

use anyhow::{Context, ensure};
use tokio_postgres::config::Host;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

/// Opens a connection; the caller drives it.
pub(crate) async fn open(url: &str) -> anyhow::Result<(Client, Connection<Socket, NoTlsStream>)> {
    let config: Config = url.parse().context("--database-url")?;
    for host in config.get_hosts() {
        let Host::Tcp(name) = host else { continue };
        let is_here = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        ensure!(is_here, "--database-url: {name} is not on this machine; give 127.0.0.1");
    }
    config.connect(NoTls).await.context("connect to Postgres as --database-url says")
}

/// Opens a connection and drives it in a task.
pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = open(url).await?;
    tokio::spawn(async move {
        // Its end is told to whoever uses the client.
        let _ = connection.await;
    });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_elsewhere_is_refused() {
        for url in ["postgres://u@192.0.2.1/d", "postgres://u@db.example/d", "host=127.0.0.1,192.0.2.1 user=u"] {
            let Err(error) = open(url).await else { panic!("{url}") };
            assert!(error.to_string().contains("is not on this machine"), "{error}");
        }
    }
}
