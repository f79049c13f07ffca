//! The options of `rowcast watch`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::cli::LogArgs;
use crate::transport::tls::Trust;
use crate::watch::WatchConfig;
use crate::watch::replica::Watched;
use crate::watch::show::Format;
use crate::watch::socket::Server;

/// The greatest product id.
const ID_MAX: u64 = crate::model::product::ProductId::MAX.get();

/// What to watch, and where.
#[derive(Clone, Args)]
#[command(next_help_heading = "Watching")]
pub struct WatchArgs {
    /// Ids of the products to watch, or '*' for all that the token may read
    #[arg(env = "ROWCAST_PRODUCTS", value_name = "ID", required = true, num_args = 1.., value_delimiter = ',')]
    products: Vec<String>,

    /// The server: ws://, wss://, http:// or https://, with the path under which it is served if there is one
    #[arg(long, env = "ROWCAST_URL", value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    url: String,

    /// Token, where the server wants one; better in the variable, since other users of this machine see command lines
    #[arg(long, env = "ROWCAST_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Certificates to trust under wss:// (PEM), such as the one that `rowcast cert` made [default: the system's]
    #[arg(long, env = "ROWCAST_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Under wss://, trust whatever certificate the server has
    #[arg(long, env = "ROWCAST_INSECURE", conflicts_with = "ca")]
    insecure: bool,

    /// How products are shown [default: table on a terminal, else json]
    #[arg(long, env = "ROWCAST_FORMAT", value_name = "FORMAT")]
    format: Option<Format>,

    /// Show the products as they are, and end
    #[arg(long, env = "ROWCAST_ONCE")]
    once: bool,

    #[command(flatten)]
    pub(super) log: LogArgs,
}

impl std::fmt::Debug for WatchArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the token.
        f.debug_struct("WatchArgs").field("products", &self.products).field("url", &self.url).finish_non_exhaustive()
    }
}

impl WatchArgs {
    pub(super) fn into_config(self) -> anyhow::Result<WatchConfig> {
        let trust = match &self.ca {
            Some(file) => Trust::File(file),
            None if self.insecure => Trust::All,
            None => Trust::System,
        };
        let is_terminal = io::stdout().is_terminal();
        let usual = if is_terminal { Format::Table } else { Format::Json };
        Ok(WatchConfig {
            server: Server::parse(&self.url, trust, self.token.as_deref())?,
            watched: watched(&self.products)?,
            format: self.format.unwrap_or(usual),
            once: self.once,
            follows: is_terminal,
        })
    }
}

fn watched(products: &[String]) -> anyhow::Result<Watched> {
    if products == ["*"] {
        return Ok(Watched::Everything);
    }
    let ids = products.iter().map(|product| {
        let id = product.parse().ok().filter(|id| *id <= ID_MAX);
        id.with_context(|| format!("{product}: not a product id, an integer from 0 to {ID_MAX}, and not '*' alone"))
    });
    ids.collect::<anyhow::Result<_>>().map(Watched::Ids)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn products_are_ids() {
        let watched = |products: &[&str]| watched(&products.iter().map(|&id| id.to_owned()).collect::<Vec<_>>());
        assert_eq!(watched(&["3", "1", "3"]).unwrap(), Watched::Ids(BTreeSet::from([1, 3])));
        assert_eq!(watched(&["*"]).unwrap(), Watched::Everything);
        for bad in [&["x"][..], &["-1"], &["1.5"], &["9007199254740992"], &["*", "1"], &[""]] {
            assert!(watched(bad).is_err(), "{bad:?}");
        }
    }
}
