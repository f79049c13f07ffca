//! Brings a database to the shape in which a server casts its tables: [`prepare`].

use tokio_postgres::Client;

use super::install::{Done, install};
use super::{HiddenColumn, InstalledTable, TableError, TableSpec, inspection};
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::migrate::{MigrateError, migrate, migrate_without_products};

/// What was done to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The migrations that were applied.
    pub applied: Vec<&'static str>,
    /// The tables, in their order.
    pub tables: Vec<(InstalledTable, Done)>,
    /// True if the built-in table of products is cast.
    pub has_products: bool,
}

/// The reason for which a database could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A migration.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Applies the migrations and installs Rowcast on the tables. Products are made unless they are not wanted, or a table that
/// has their name, and is somebody else's, is among the tables.
///
/// # Errors
/// See [`PrepareError`].
pub async fn prepare(
    config: &PostgresConfig,
    specs: &[TableSpec],
    hidden: &[HiddenColumn],
    wants_products: bool,
) -> Result<Prepared, PrepareError> {
    let has_products = wants_products && !are_theirs(config, specs).await?;
    let applied = if has_products { migrate(config).await? } else { migrate_without_products(config).await? };
    let tables = install(config, specs, hidden).await?;
    Ok(Prepared { applied, tables, has_products })
}

/// Returns true if one of the tables has the name of products, and is not Rowcast's.
async fn are_theirs(config: &PostgresConfig, specs: &[TableSpec]) -> Result<bool, TableError> {
    let Some(first) = specs.first() else { return Ok(false) };
    let failed = |source| TableError::Database { name: first.name.clone(), doing: "connect", source };
    let (client, connection) = config.connect().await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let are_theirs = is_among(&client, specs).await;
    drop(client);
    // An error of the connection is one of the query that waited for it.
    let _ = connection.await;
    are_theirs
}

async fn is_among(client: &Client, specs: &[TableSpec]) -> Result<bool, TableError> {
    for spec in specs {
        if inspection::has_name_of_products(client, &spec.name).await? {
            return Ok(true);
        }
    }
    Ok(false)
}
