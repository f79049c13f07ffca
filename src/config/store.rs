//! The options of the store.

use std::path::PathBuf;

use clap::Args;

use super::tables::TableArgs;
use super::{ConfigError, StoreConfig};
use crate::store::embedded::EmbeddedConfig;
use crate::store::postgres::config::PostgresConfig;

/// The store of the products.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Products")]
pub(super) struct StoreArgs {
    /// Directory of the embedded store, which is used when no database is given
    #[arg(long, env = "ROWCAST_DATA_DIR", value_name = "DIR", default_value = "rowcast-data")]
    data_dir: PathBuf,

    /// Tables of the embedded store, products among them: a row under a new name makes another as long as there are fewer
    #[arg(long, env = "ROWCAST_MAX_TABLES", value_name = "N", default_value = "256",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_tables: u16,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    tables: TableArgs,
}

/// Which database, if any.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Products")]
pub(super) struct DatabaseArgs {
    /// Postgres, as postgres://user:password@host:port/name?sslmode=…; `DATABASE_URL` does too
    #[arg(long, env = "ROWCAST_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
}

impl StoreArgs {
    pub(super) fn into_config(
        self,
        database_url: Option<String>,
        row_bytes_max: usize,
    ) -> Result<StoreConfig, ConfigError> {
        let specs = self.tables.into_specs()?;
        Ok(match self.database.postgres(database_url)? {
            Some(database) => StoreConfig::Postgres(database, specs),
            None => StoreConfig::Embedded(EmbeddedConfig {
                dir: self.data_dir,
                tables: specs.into_iter().map(|spec| spec.name).collect(),
                tables_max: self.max_tables,
                row_bytes_max,
            }),
        })
    }
}

impl DatabaseArgs {
    /// The database of the option, or else of `DATABASE_URL`. An empty variable is one that is not set.
    pub(super) fn postgres(self, fallback: Option<String>) -> Result<Option<Box<PostgresConfig>>, ConfigError> {
        let given = |url: &String| !url.trim().is_empty();
        let url = self.database_url.filter(given).or_else(|| fallback.filter(given));
        Ok(url.map(|url| PostgresConfig::parse(&url)).transpose()?.map(Box::new))
    }
}
