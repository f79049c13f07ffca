//! The server under test, as it is named on the command line: [`TargetArgs`]. It is on this machine.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use rowcast::transport::tls::Trust;
use serde::Serialize;

use crate::peer::Peer;
use crate::target::Target;
use crate::token::{Secret, Token};

/// The server under test.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct TargetArgs {
    /// The server under test, on this machine
    #[arg(long, env = "ROWCAST_LOAD_URL", value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub(crate) url: String,

    /// Under wss://, trust whatever certificate the server has
    #[arg(long, env = "ROWCAST_LOAD_INSECURE")]
    pub(crate) insecure: bool,

    /// Under wss://, trust the certificates in this file (PEM), such as the one that `rowcast cert` made
    #[arg(long, env = "ROWCAST_LOAD_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The token that the server wants, which may write and read the products; better in the variable, since other users
    /// of this machine see command lines
    #[arg(long, env = "ROWCAST_LOAD_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    #[serde(skip)]
    pub(crate) token: Option<Secret>,

    /// What kind of server it is
    #[arg(long, env = "ROWCAST_LOAD_PEER", value_name = "KIND", default_value = "rowcast")]
    pub(crate) peer: Peer,

    /// Process ids of the server, separated by commas, to measure its CPU and memory
    #[arg(long, env = "ROWCAST_LOAD_PID", value_name = "PID", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,

    /// Write everything that was measured to this file, as JSON
    #[arg(long, env = "ROWCAST_LOAD_JSON", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl TargetArgs {
    /// Returns the server in `--url`, which has to be on this machine.
    pub(crate) fn server(&self) -> anyhow::Result<Target> {
        let (is_tls, rest) = match self.url.split_once("://") {
            Some(("ws" | "http", rest)) => (false, rest),
            Some(("wss" | "https", rest)) => (true, rest),
            _ => bail!("--url {}: begins with ws:// or wss://, as in ws://127.0.0.1:8080", self.url),
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        let address = loopback(authority).with_context(|| format!("--url {}", self.url))?;
        let token = Token::given(self.token.as_ref())?;
        if !is_tls {
            return Ok(Target::plain(address, token));
        }
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
        match &self.ca {
            Some(file) => Target::tls(address, host, Trust::File(file), token),
            None if self.insecure => Target::tls(address, host, Trust::All, token),
            None => bail!("--url {}: add --ca cert.pem (the server's certificate), or --insecure", self.url),
        }
    }
}

/// Reads an address and refuses any that is not this machine: the runs made here would be an attack elsewhere.
pub(crate) fn loopback(text: &str) -> anyhow::Result<SocketAddr> {
    let mut found = text.to_socket_addrs().context("not an address and a port, such as 127.0.0.1:8080")?;
    let address = found.next().context("not an address")?;
    ensure!(
        address.ip().to_canonical().is_loopback(),
        "{address} is not on this machine; run the generator beside the server, and give 127.0.0.1"
    );
    Ok(address)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn only_this_machine_is_loaded() {
        for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80"] {
            assert!(loopback(address).is_ok(), "{address}");
        }
        for address in ["192.0.2.1:80", "0.0.0.0:80", "[::ffff:192.0.2.1]:80", "127.0.0.1", ""] {
            assert!(loopback(address).is_err(), "{address}");
        }
    }

    #[test]
    fn tls_needs_to_be_told_whom_to_trust() {
        let server = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["rowcast-load", "handshakes"], args].concat()).unwrap();
            let Command::Handshakes(args) = cli.command else { panic!("{cli:?}") };
            args.target.server()
        };
        for (args, is_tls) in [
            (&["--url", "ws://127.0.0.1:80"][..], Some(false)),
            (&["--url", "http://127.0.0.1:80/x"], Some(false)),
            (&["--url", "wss://localhost:443", "--insecure"], Some(true)),
            (&["--url", "https://[::1]:443/x", "--insecure"], Some(true)),
            (&["--url", "wss://127.0.0.1:443"], None),
            (&["--url", "wss://127.0.0.1:443", "--ca", "/nowhere"], None),
            (&["--url", "wss://192.0.2.1:443", "--insecure"], None),
            (&["--url", "ftp://127.0.0.1:443"], None),
        ] {
            assert_eq!(server(args).map(|server| server.is_tls()).ok(), is_tls, "{args:?}");
        }
    }
}
