//! The options of the store.

use std::path::PathBuf;

use clap::Args;

use super::tables::{ProductArgs, ServedArgs, TableArgs};
use super::{ConfigError, DatabaseConfig, StoreConfig};
use crate::store::embedded::EmbeddedConfig;
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::tables::prepare::WantedTables;

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
    #[command(flatten)]
    served: ServedArgs,
    #[command(flatten)]
    products: ProductArgs,
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
        let (specs, hidden) = (self.tables.into_specs()?, self.served.hidden()?);
        let without_products = self.products.no_products;
        let Some(database) = self.database.postgres(database_url)? else {
            // The embedded store makes what it needs, and knows of no columns but those of products.
            let of_databases = [
                ("--hide", !hidden.is_empty()),
                ("--no-products", without_products),
                ("--no-migrate", self.served.no_migrate),
            ];
            if let Some((option, _)) = of_databases.into_iter().find(|(_, is_given)| *is_given) {
                return Err(ConfigError::NoDatabase(option));
            }
            return Ok(StoreConfig::Embedded(EmbeddedConfig {
                dir: self.data_dir,
                tables: specs.into_iter().map(|spec| spec.name).collect(),
                tables_max: self.max_tables,
                row_bytes_max,
            }));
        };
        let tables = WantedTables { specs, hidden, without_products };
        Ok(StoreConfig::Postgres(DatabaseConfig { database, tables, migrates: !self.served.no_migrate }))
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
