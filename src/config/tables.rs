//! The options that say which tables of a database are cast.

use clap::Args;

use super::ConfigError;
use crate::store::postgres::tables::{HiddenColumn, TableSpec};

/// The tables beside the products.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tables")]
pub(super) struct TableArgs {
    #[allow(clippy::doc_markdown)] // help is read as it stands
    /// Table of the database, beside products, whose rows are cast; may be given several times, and as a list with commas.
    /// Its key is its primary key unless a column is named that is NOT NULL and unique, as in shop.customers:customer_no. Names
    /// are as in SQL, double quotes included. Postgres adds a column `rowcast_version` and three triggers to it
    #[arg(id = "tables", long = "table", env = "ROWCAST_TABLES", value_name = "TABLE[:COLUMN]")]
    tables: Vec<String>,
}

/// The built-in table.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tables")]
pub(super) struct ProductArgs {
    /// Neither make nor serve the built-in table products, which is otherwise there without being named. A table of yours
    /// with that name is cast by --table products, and is then one like any other
    #[arg(long, env = "ROWCAST_NO_PRODUCTS")]
    pub(super) no_products: bool,
}

/// The options of tables that only a server has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tables")]
pub(super) struct ServedArgs {
    #[allow(clippy::doc_markdown)] // help is read as it stands
    /// Column of a table that never leaves the server, as in users.password_hash: neither by change nor by read nor in the
    /// answer of a write; may be given several times, and as a list with commas. Not the key. It can still be written
    #[arg(long, env = "ROWCAST_HIDE", value_name = "TABLE.COLUMN")]
    hide: Vec<String>,

    /// Change nothing in the database at the start: where a migration, or a part of a table, is missing, say which
    /// `rowcast migrate` makes it, and end. For a server whose role may not
    #[arg(long, env = "ROWCAST_NO_MIGRATE")]
    pub(super) no_migrate: bool,
}

impl ServedArgs {
    /// The hidden columns, as they were named. An empty variable is one that is not set.
    pub(super) fn hidden(&self) -> Result<Vec<HiddenColumn>, ConfigError> {
        let mut columns = Vec::new();
        for text in self.hide.iter().filter(|text| !text.is_empty()) {
            columns.extend(HiddenColumn::parse_list(text).map_err(|error| ConfigError::Hide(text.clone(), error))?);
        }
        Ok(columns)
    }
}

impl TableArgs {
    /// The tables, as they were named. An empty variable is one that is not set.
    pub(super) fn into_specs(self) -> Result<Vec<TableSpec>, ConfigError> {
        let mut specs = Vec::new();
        for text in self.tables.iter().filter(|text| !text.is_empty()) {
            specs.extend(TableSpec::parse_list(text).map_err(|error| ConfigError::Table(text.clone(), error))?);
        }
        Ok(specs)
    }
}
