//! Brings a database to the shape that this build needs: [`migrate`].

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::config::PostgresConfig;

/// One step, applied once per database and never changed afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its place in the order, from 1.
    pub version: i32,
    /// The name of its file.
    pub name: &'static str,
    /// Its statements, of which there may be several, but none that ends the transaction.
    pub sql: &'static str,
}

/// The migrations of this build, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_products.sql", sql: include_str!("../../../migrations/0001_products.sql") },
    Migration {
        version: 2,
        name: "0002_conditional_writes.sql",
        sql: include_str!("../../../migrations/0002_conditional_writes.sql"),
    },
    Migration { version: 3, name: "0003_streams.sql", sql: include_str!("../../../migrations/0003_streams.sql") },
    Migration { version: 4, name: "0004_tables.sql", sql: include_str!("../../../migrations/0004_tables.sql") },
    Migration { version: 5, name: "0005_table_rows.sql", sql: include_str!("../../../migrations/0005_table_rows.sql") },
    Migration { version: 6, name: "0006_whole_rows.sql", sql: include_str!("../../../migrations/0006_whole_rows.sql") },
    Migration {
        version: 7,
        name: "0007_table_epochs.sql",
        sql: include_str!("../../../migrations/0007_table_epochs.sql"),
    },
    Migration {
        version: 8,
        name: "0008_written_columns.sql",
        sql: include_str!("../../../migrations/0008_written_columns.sql"),
    },
    Migration { version: 9, name: "0009_true_rows.sql", sql: include_str!("../../../migrations/0009_true_rows.sql") },
    Migration {
        version: 10,
        name: "0010_changed_tables.sql",
        sql: include_str!("../../../migrations/0010_changed_tables.sql"),
    },
    Migration {
        version: 11,
        name: "0011_oversize_messages.sql",
        sql: include_str!("../../../migrations/0011_oversize_messages.sql"),
    },
    Migration {
        version: 12,
        name: "0012_truncated_files.sql",
        sql: include_str!("../../../migrations/0012_truncated_files.sql"),
    },
    Migration {
        version: 13,
        name: "0013_true_products.sql",
        sql: include_str!("../../../migrations/0013_true_products.sql"),
    },
    Migration {
        version: 14,
        name: "0014_versions_below.sql",
        sql: include_str!("../../../migrations/0014_versions_below.sql"),
    },
    Migration {
        version: 15,
        name: "0015_told_columns.sql",
        sql: include_str!("../../../migrations/0015_told_columns.sql"),
    },
    Migration {
        version: 16,
        name: "0016_untold_changes.sql",
        sql: include_str!("../../../migrations/0016_untold_changes.sql"),
    },
    Migration {
        version: 17,
        name: "0017_true_readers.sql",
        sql: include_str!("../../../migrations/0017_true_readers.sql"),
    },
    Migration { version: 18, name: "0018_home.sql", sql: include_str!("../../../migrations/0018_home.sql") },
];

/// The first step of a database without products, in the place of those that make them.
pub const WITHOUT_PRODUCTS: Migration = Migration {
    version: 0,
    name: "0000_without_products.sql",
    sql: include_str!("../../../migrations/0000_without_products.sql"),
};
/// The last of the migrations that make the products.
const LAST_OF_PRODUCTS: i32 = 3;

/// One server migrates a database at a time; those that start with it wait here. The bytes of "rowcast".
pub(super) const ADVISORY_LOCK: i64 = 0x72_6f_77_63_61_73_74;

/// The reason for which a database could not be brought to this build's shape. The text never contains a password.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database did not do the step.
    #[error("migrate {database}: {doing}")]
    Database {
        /// The database.
        database: String,
        /// The attempt: `connect`, or the name of a migration.
        doing: String,
        /// The database's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The role lacks a right.
    #[error(
        "migrate {database}: {doing}: {reason}; run `rowcast migrate` with the URL of a role that may create tables, and \
         as that role, for the server: {}",
        grants(role, true)
    )]
    NotAllowed {
        /// The database.
        database: String,
        /// The attempt.
        doing: String,
        /// The database's reason.
        reason: String,
        /// The server's role.
        role: String,
    },
    /// Something of the database has a name that a migration needs.
    #[error(
        "migrate {database}: {doing}: {reason}, and not by Rowcast; rename that, or give Rowcast a schema of its own: \
         CREATE SCHEMA rowcast, and ?options=-c%20search_path%3Drowcast at the end of the database URL"
    )]
    Occupied {
        /// The database.
        database: String,
        /// The migration.
        doing: String,
        /// The database's reason.
        reason: String,
    },
    /// There is a table of somebody else where products belong.
    #[error(
        "migrate {database}: there is a table products, and not by Rowcast; give --table products to cast it like any \
         other, or --no-products to leave it alone; or rename it, or give Rowcast a schema of its own: CREATE SCHEMA \
         rowcast, and ?options=-c%20search_path%3Drowcast at the end of the database URL"
    )]
    ProductsTaken {
        /// The database.
        database: String,
    },
    /// Products are wanted of a database that was set up without.
    #[error(
        "migrate {database}: this database was set up without products, which cannot be added; give --no-products, or \
         give Rowcast with products a schema of its own: CREATE SCHEMA rowcast, and \
         ?options=-c%20search_path%3Drowcast at the end of the database URL"
    )]
    NoProducts {
        /// The database.
        database: String,
    },
    /// Others use the database in a way that the migration would break.
    #[error("migrate {database}: {doing}: {reason}; stop it first, then start this one")]
    InUse {
        /// The database.
        database: String,
        /// The migration.
        doing: String,
        /// The database's reason, which names the others' sessions.
        reason: String,
    },
    /// A file differs from the one that was applied under its number.
    #[error(
        "{name} was changed after it had been applied to this database; restore it and put the change into a new \
         migration"
    )]
    Changed {
        /// The file.
        name: &'static str,
    },
    /// The database has migrations that this build does not know.
    #[error("this database was migrated by a newer Rowcast ({name} is unknown here); start that version or newer")]
    Newer {
        /// The file that is unknown.
        name: String,
    },
}

/// Applies the migrations that the database lacks, each in a transaction, and answers their names. Any number of
/// servers may do so at once.
///
/// # Errors
/// See [`MigrateError`]; the migrations that were applied before the error stay.
pub async fn migrate(config: &PostgresConfig) -> Result<Vec<&'static str>, MigrateError> {
    apply_chosen(config, |done| with_products(config, done)).await
}

/// Does as [`migrate`], but makes no products where there are none yet.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_without_products(config: &PostgresConfig) -> Result<Vec<&'static str>, MigrateError> {
    apply_chosen(config, |done| Ok(without_products(done))).await
}

/// The names of migrations that a database lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking(pub Vec<&'static str>);

/// Finds the migrations that [`migrate`] would apply, or [`migrate_without_products`], and applies none.
///
/// # Errors
/// As [`migrate`].
pub async fn find_migrated(config: &PostgresConfig, has_products: bool) -> Result<Option<Lacking>, MigrateError> {
    let find = async |client: &mut Client| {
        let read = |source| failed(config, "read rowcast_migrations", source);
        let done =
            if exists(client).await.map_err(read)? { read_done(client).await.map_err(read)? } else { Vec::new() };
        let migrations = if has_products { with_products(config, &done)? } else { without_products(&done) };
        let lacking: Vec<_> =
            lacking(config, client, &done, &migrations).await?.into_iter().map(|(it, _)| it.name).collect();
        Ok((!lacking.is_empty()).then_some(Lacking(lacking)))
    };
    connected(config, find).await
}

fn with_products(config: &PostgresConfig, done: &[Done]) -> Result<Vec<Migration>, MigrateError> {
    match done {
        [Done { version: 0, .. }, ..] => Err(MigrateError::NoProducts { database: config.to_string() }),
        _ => Ok(MIGRATIONS.to_vec()),
    }
}

fn without_products(done: &[Done]) -> Vec<Migration> {
    if done.first().is_some_and(|first| first.version > WITHOUT_PRODUCTS.version) {
        return MIGRATIONS.to_vec();
    }
    let others = MIGRATIONS.iter().filter(|migration| migration.version > LAST_OF_PRODUCTS);
    std::iter::once(&WITHOUT_PRODUCTS).chain(others).copied().collect()
}

/// Does as [`migrate`], with a given list.
///
/// # Errors
/// As [`migrate`].
pub async fn apply(config: &PostgresConfig, migrations: &[Migration]) -> Result<Vec<&'static str>, MigrateError> {
    apply_chosen(config, |_| Ok(migrations.to_vec())).await
}

/// Applies those of a list that is chosen by what the database has, by its order.
async fn apply_chosen(
    config: &PostgresConfig,
    choose: impl FnOnce(&[Done]) -> Result<Vec<Migration>, MigrateError>,
) -> Result<Vec<&'static str>, MigrateError> {
    connected(config, async |client| apply_locked(config, client, choose).await).await
}

/// Does something on a connection of its own.
async fn connected<T>(
    config: &PostgresConfig,
    task: impl AsyncFnOnce(&mut Client) -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let (mut client, connection) = config.connect().await.map_err(|source| failed(config, "connect", source))?;
    // Ends when the client is dropped, which also gives the advisory lock back.
    let connection = tokio::spawn(connection);
    let settings = config.settings(Duration::ZERO);
    let outcome = match client.batch_execute(&settings).await {
        Ok(()) => task(&mut client).await,
        Err(source) => Err(failed(config, "connect", source)),
    };
    drop(client);
    // An error of the connection was an error of the query that waited for it.
    let _ = connection.await;
    outcome
}

async fn apply_locked(
    config: &PostgresConfig,
    client: &mut Client,
    choose: impl FnOnce(&[Done]) -> Result<Vec<Migration>, MigrateError>,
) -> Result<Vec<&'static str>, MigrateError> {
    let done = lock_and_read(client).await.map_err(|source| failed(config, "read rowcast_migrations", source))?;
    let migrations = choose(&done)?;
    let mut applied = Vec::new();
    for (migration, checksum) in lacking(config, client, &done, &migrations).await? {
        apply_one(client, &migration, &checksum).await.map_err(|source| failed(config, migration.name, source))?;
        applied.push(migration.name);
    }
    Ok(applied)
}

/// Returns those of these migrations that are not done, with their checksums.
async fn lacking(
    config: &PostgresConfig,
    client: &Client,
    done: &[Done],
    migrations: &[Migration],
) -> Result<Vec<(Migration, String)>, MigrateError> {
    check_known(done, migrations)?;
    let mut lacking = Vec::new();
    for migration in migrations {
        let checksum = checksum(client, migration).await.map_err(|source| failed(config, migration.name, source))?;
        match done.iter().find(|done| done.version == migration.version) {
            Some(done) if done.checksum == checksum => {}
            Some(_) => return Err(MigrateError::Changed { name: migration.name }),
            None => lacking.push((*migration, checksum)),
        }
    }
    Ok(lacking)
}

/// A migration that the database has.
struct Done {
    version: i32,
    name: String,
    checksum: String,
}

async fn lock_and_read(client: &Client) -> Result<Vec<Done>, tokio_postgres::Error> {
    client.execute("SELECT pg_advisory_lock($1)", &[&ADVISORY_LOCK]).await?;
    // Not `IF NOT EXISTS`, which needs the right to create even where nothing is created.
    if !exists(client).await? {
        client
            .batch_execute(
                "CREATE TABLE rowcast_migrations (version int PRIMARY KEY, name text NOT NULL, \
                 checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    read_done(client).await
}

async fn exists(client: &Client) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_one("SELECT to_regclass('rowcast_migrations') IS NOT NULL", &[]).await?.get(0))
}

async fn read_done(client: &Client) -> Result<Vec<Done>, tokio_postgres::Error> {
    let rows = client.query("SELECT version, name, checksum FROM rowcast_migrations ORDER BY version", &[]).await?;
    Ok(rows.iter().map(|row| Done { version: row.get(0), name: row.get(1), checksum: row.get(2) }).collect())
}

fn check_known(done: &[Done], migrations: &[Migration]) -> Result<(), MigrateError> {
    let is_known = |done: &&Done| migrations.iter().any(|migration| migration.version == done.version);
    match done.iter().find(|done| !is_known(done)) {
        Some(unknown) => Err(MigrateError::Newer { name: unknown.name.clone() }),
        None => Ok(()),
    }
}

async fn checksum(client: &Client, migration: &Migration) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one("SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')", &[&migration.sql]).await?;
    Ok(row.get(0))
}

async fn apply_one(client: &mut Client, migration: &Migration, checksum: &str) -> Result<(), tokio_postgres::Error> {
    let transaction: Transaction<'_> = client.transaction().await?;
    transaction.batch_execute(migration.sql).await?;
    transaction
        .execute(
            "INSERT INTO rowcast_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            &[&migration.version, &migration.name, &checksum],
        )
        .await?;
    transaction.commit().await
}

fn failed(config: &PostgresConfig, doing: &str, source: tokio_postgres::Error) -> MigrateError {
    const OCCUPIED: [SqlState; 3] =
        [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_FUNCTION];
    let (database, doing) = (config.to_string(), doing.to_owned());
    match source.as_db_error() {
        Some(error) if *error.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            MigrateError::NotAllowed { database, doing, reason: error.message().to_owned(), role: config.role() }
        }
        Some(error) if *error.code() == SqlState::OBJECT_IN_USE => {
            MigrateError::InUse { database, doing, reason: error.message().to_owned() }
        }
        Some(error) if doing == MIGRATIONS[0].name && error.message().contains("\"products\"") => {
            MigrateError::ProductsTaken { database }
        }
        Some(error) if OCCUPIED.contains(error.code()) => {
            MigrateError::Occupied { database, doing, reason: error.message().to_owned() }
        }
        _ => MigrateError::Database { database, doing, source },
    }
}

/// Returns the rights that a server's role needs once all is applied.
pub(crate) fn grants(role: &str, has_products: bool) -> String {
    let role = if role.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
        role.to_owned()
    } else {
        format!("\"{}\"", role.replace('"', "\"\""))
    };
    let products = if has_products {
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON products TO {role}; ")
    } else {
        String::new()
    };
    let tombstones = if has_products { "product_tombstones, " } else { "" };
    format!(
        "GRANT SELECT ON rowcast_migrations TO {role}; {products}\
         GRANT SELECT, UPDATE, DELETE ON {tombstones}oversize_changes TO {role}; \
         GRANT SELECT ON SEQUENCE product_versions TO {role}; GRANT SELECT ON rowcast_stream TO {role}; \
         GRANT EXECUTE ON FUNCTION rowcast_renew_epoch TO {role}; \
         GRANT SELECT ON rowcast_tables, rowcast_served TO {role}; GRANT EXECUTE ON FUNCTION rowcast_note TO {role}; \
         GRANT SELECT, UPDATE, DELETE ON rowcast_tombstones TO {role}"
    )
}
