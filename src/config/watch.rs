//! The options of `rowcast watch`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use hyper::header::HeaderValue;
use rowcast_client::{Error, Options, Rows, Server};

use super::cli::LogArgs;
use crate::model::key::{KeyKind, SAFE_INTEGER_MAX};
use crate::transport::tls::{Trust, client_config};
use crate::watch::WatchConfig;
use crate::watch::show::Format;

/// What to watch, and where.
#[derive(Clone, Args)]
#[command(next_help_heading = "Watching")]
pub struct WatchArgs {
    /// Ids of the products to watch, or '*' for all that the token may read; with --table the keys of its rows, each as it
    /// is: 17, a-9, 67e55044-10b1-426f-9247-bb680e5fe0c8
    #[arg(env = "ROWCAST_PRODUCTS", value_name = "ID", required = true, num_args = 1.., allow_negative_numbers = true)]
    products: Vec<String>,

    /// The table whose rows these are, by the name that the server has for it, as in: watch --table shop.orders '*'
    /// [default: products, by their ids]
    #[arg(long, env = "ROWCAST_TABLE", value_name = "NAME")]
    table: Option<String>,

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

    /// How rows are shown [default: table on a terminal, else json]
    #[arg(long, env = "ROWCAST_FORMAT", value_name = "FORMAT")]
    format: Option<Format>,

    /// Show the rows as they are, and end
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
            Some(file) => Some(Trust::File(file)),
            None if self.insecure => Some(Trust::All),
            None => None,
        };
        let tls = trust.map(|trust| client_config(trust).map(Arc::new)).transpose();
        let tls = tls.map_err(|reason| match &self.ca {
            Some(file) => anyhow!("--ca {}: {reason}", file.display()),
            None => anyhow!(reason),
        })?;
        if let Some(token) = &self.token {
            HeaderValue::try_from(token).context("--token: it has characters that no token has")?;
        }
        let is_terminal = io::stdout().is_terminal();
        let usual = if is_terminal { Format::Table } else { Format::Json };
        Ok(WatchConfig {
            server: Server::parse(&self.url, tls).map_err(|error| match error {
                Error::Roots(_) => anyhow!("{error}; give the server's with --ca cert.pem"),
                error => anyhow!("--url {error}"),
            })?,
            options: Options { token: self.token.map(Into::into), ..Options::default() },
            is_of_products: self.table.is_none(),
            rows: rows(&self.products, self.table.as_deref())?,
            format: self.format.unwrap_or(usual),
            once: self.once,
            follows: is_terminal,
        })
    }
}

/// The word for all rows.
const EVERYTHING: &str = "*";

fn rows(keys: &[String], table: Option<&str>) -> anyhow::Result<Rows> {
    match table {
        None if keys == [EVERYTHING] => Ok(Rows::all_products()),
        None => ids_of_products(keys).map(Rows::products),
        Some(table) if keys == [EVERYTHING] => Ok(Rows::all(table)),
        Some(table) => keys_of_rows(keys).map(|keys| Rows::of(table, keys)),
    }
}

/// Reads ids, which may have commas between them.
fn ids_of_products(products: &[String]) -> anyhow::Result<Vec<i64>> {
    let ids = products.iter().flat_map(|products| products.split(',')).map(|product| {
        let id = product.parse().ok().filter(|id| (0..=SAFE_INTEGER_MAX).contains(id));
        id.with_context(|| {
            format!("{product}: not a product id, an integer from 0 to {SAFE_INTEGER_MAX}, and not '*' alone")
        })
    });
    ids.collect()
}

/// Reads keys of a table, which only the server knows the kind of: a text asks for an integer too.
fn keys_of_rows(keys: &[String]) -> anyhow::Result<Vec<&str>> {
    let keys = keys.iter().map(|key| {
        ensure!(key != EVERYTHING, "'*' is for all rows of the table, and stands alone");
        KeyKind::Text.of_text(key).with_context(|| key.chars().take(80).collect::<String>())?;
        Ok(key.as_str())
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    #[test]
    fn products_are_ids() {
        let rows = |products: &[&str]| rows(&texts(products), None);
        assert_eq!(rows(&["3", "1", "3"]).unwrap(), Rows::products([1, 3]));
        assert_eq!(rows(&["3,1", "007"]).unwrap(), Rows::products([1, 3, 7]));
        assert_eq!(rows(&["*"]).unwrap(), Rows::all_products());
        for bad in [&["x"][..], &["-1"], &["1.5"], &["9007199254740992"], &["*", "1"], &[""]] {
            assert!(rows(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_of_a_table_are_taken_as_they_are() {
        let rows = |keys: &[&str]| rows(&texts(keys), Some("orders"));
        let keys = ["17", "-17", "a,b", "", ".", "007"];
        assert_eq!(rows(&keys).unwrap(), Rows::of("orders", keys));
        assert!(rows(&["*"]).unwrap().are_all());
        for (bad, part) in [(&["*", "17"][..], "stands alone"), (&[&"a".repeat(257)], "at most 256 bytes")] {
            let error = rows(bad).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
