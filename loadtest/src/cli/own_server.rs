//! The arguments of the runs that start a server themselves: [`OwnServerArgs`].

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// The store of the server that is started, and the file for what was measured.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct OwnServerArgs {
    /// Where the server's data directory is made, to be removed with it [default: the directory for temporary files]
    #[arg(long, env = "ROWCAST_LOAD_DATA_PARENT", value_name = "DIR")]
    data_parent: Option<PathBuf>,

    /// A Postgres on this machine as the server's store, in the place of its own; it gets the tables of a server, and
    /// products 1 to P are written, over whatever they are
    #[arg(long, env = "ROWCAST_LOAD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    #[serde(skip)]
    pub(crate) database_url: Option<String>,

    /// With --database-url, let it be written to; it is not touched without it
    #[arg(long, env = "ROWCAST_LOAD_OVERWRITE_PRODUCTS")]
    pub(crate) overwrite_products: bool,

    /// Write everything that was measured to this file, as JSON
    #[arg(long, env = "ROWCAST_LOAD_JSON", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl OwnServerArgs {
    /// Returns the directory in which data directories are made.
    pub(crate) fn directory(&self) -> PathBuf {
        self.data_parent.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Returns true if nothing is written that somebody may need.
    pub(super) const fn is_harmless(&self) -> bool {
        self.overwrite_products || self.database_url.is_none()
    }
}
