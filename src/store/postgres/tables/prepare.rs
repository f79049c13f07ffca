//! Brings a database to the shape in which a server casts its tables: [`prepare`].

use std::fmt;

use tokio_postgres::Client;

use super::install::{Done, check_columns, find_installed, install};
use super::{HiddenColumn, InstalledTable, TableError, TableSpec, inspection};
use crate::store::postgres::config::PostgresConfig;
use crate::store::postgres::migrate::{Lacking, MigrateError, find_migrated, migrate, migrate_without_products};

/// The tables of a database that are to be cast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedTables {
    /// Those beside the built-in products.
    pub specs: Vec<TableSpec>,
    /// Their columns that nobody is shown.
    pub hidden: Vec<HiddenColumn>,
    /// True if products are not wanted.
    pub without_products: bool,
}

/// A database whose tables can be cast.
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
    /// Something is missing that is not to be made.
    #[error("{database}: {lacking}; --no-migrate leaves that to `{command}`, run with the URL of a role that may")]
    Lacking {
        /// The database.
        database: String,
        /// The missing things.
        lacking: String,
        /// The command that makes them.
        command: MigrateCommand,
    },
}

/// The command line that prepares a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateCommand {
    specs: Vec<TableSpec>,
    without_products: bool,
}

impl fmt::Display for MigrateCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rowcast migrate")?;
        if self.without_products {
            f.write_str(" --no-products")?;
        }
        for spec in &self.specs {
            let spec = spec.to_string();
            let is_plain = spec.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:".contains(&byte));
            if is_plain {
                write!(f, " --table {spec}")?;
            } else {
                write!(f, " --table '{}'", spec.replace('\'', r"'\''"))?;
            }
        }
        f.write_str(" --database-url …")
    }
}

/// Applies the migrations and installs Rowcast on the tables. Products are made unless they are not wanted, or a table that
/// has their name, and is somebody else's, is among the tables.
///
/// # Errors
/// See [`PrepareError`].
pub async fn prepare(config: &PostgresConfig, wanted: &WantedTables) -> Result<Prepared, PrepareError> {
    let has_products = has_products(config, wanted).await?;
    let applied = if has_products { migrate(config).await? } else { migrate_without_products(config).await? };
    check_columns(config, &wanted.specs, &wanted.hidden).await?;
    let tables = install(config, &wanted.specs, &wanted.hidden).await?;
    Ok(Prepared { applied, tables, has_products })
}

/// Finds a database as [`prepare`] leaves it, and changes nothing.
///
/// # Errors
/// See [`PrepareError`].
pub async fn find_prepared(config: &PostgresConfig, wanted: &WantedTables) -> Result<Prepared, PrepareError> {
    let has_products = has_products(config, wanted).await?;
    let lacking = |lacking, specs: Vec<TableSpec>| {
        let command = MigrateCommand { specs, without_products: wanted.without_products };
        Err(PrepareError::Lacking { database: config.to_string(), lacking, command })
    };
    if let Some(Lacking(migrations)) = find_migrated(config, has_products).await? {
        return lacking(format!("the database lacks {}", migrations.join(", ")), wanted.specs.clone());
    }
    check_columns(config, &wanted.specs, &wanted.hidden).await?;
    let (mut tables, mut missing) = (Vec::new(), Vec::new());
    for found in find_installed(config, &wanted.specs, &wanted.hidden).await? {
        match found {
            Ok(table) => tables.push((table, Done::Nothing)),
            Err(spec) => missing.push(spec),
        }
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|spec| spec.name.as_str()).collect();
        return lacking(
            format!("what tells the changes of {} is missing or of another form", names.join(", ")),
            missing,
        );
    }
    Ok(Prepared { applied: Vec::new(), tables, has_products })
}

/// Returns true if the built-in products are to be cast: they are wanted, and none of the tables has their name and is
/// somebody else's.
async fn has_products(config: &PostgresConfig, wanted: &WantedTables) -> Result<bool, TableError> {
    let Some(first) = wanted.specs.first() else { return Ok(!wanted.without_products) };
    let failed = |source| TableError::Database { name: first.name.clone(), doing: "connect", source };
    let (client, connection) = config.connect().await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let are_theirs = is_among(&client, &wanted.specs).await;
    drop(client);
    // An error of the connection is one of the query that waited for it.
    let _ = connection.await;
    Ok(!are_theirs? && !wanted.without_products)
}

async fn is_among(client: &Client, specs: &[TableSpec]) -> Result<bool, TableError> {
    for spec in specs {
        if inspection::has_name_of_products(client, &spec.name).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prepares a table once more that is not as it was: as at the start, or, where that is not to be done, only if it has all that
/// it needs. The same columns are hidden.
///
/// # Errors
/// See [`TableError`].
pub(crate) async fn prepare_again(
    config: &PostgresConfig,
    before: &InstalledTable,
    installs: bool,
) -> Result<InstalledTable, TableError> {
    let InstalledTable { name, given_key, hidden, .. } = before;
    let spec = [TableSpec { name: name.clone(), key: given_key.clone() }];
    let installed = if installs {
        install(config, &spec, &[]).await?.remove(0).0
    } else {
        let found = find_installed(config, &spec, &[]).await?.remove(0);
        found.map_err(|spec| TableError::NotInstalled { name: spec.name })?
    };
    Ok(InstalledTable { hidden: hidden.clone(), ..installed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let command = |tables, without_products| {
            MigrateCommand { specs: TableSpec::parse_list(tables).unwrap(), without_products }.to_string()
        };
        assert_eq!(
            command("orders,shop.customers:no", false),
            "rowcast migrate --table orders --table shop.customers:no --database-url …"
        );
        assert_eq!(
            command(r#""it's"."Order Lines""#, true),
            r#"rowcast migrate --no-products --table '"it'\''s"."Order Lines"' --database-url …"#
        );
    }
}
