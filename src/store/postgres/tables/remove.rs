//! Takes from tables what was installed on them: [`remove`].

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::form::{Form, ident};
use super::install::Tries;
use super::{Session, TableError, inspection};
use crate::store::postgres::config::PostgresConfig;

/// Takes the triggers, the functions, the column, and all that is known of these tables away, each in one transaction. A column or a trigger
/// of that name that is somebody else's stays. All are looked for before the first is touched. Nothing else is dropped with them, but for what tables that are gone have left.
///
/// # Errors
/// See [`TableError`]; the tables that were done before the error stay without.
pub async fn remove(config: &PostgresConfig, names: &[String]) -> Result<(), TableError> {
    let Some(first) = names.first() else { return Ok(()) };
    let mut session = Session::open(config, first).await?;
    session.tidy().await.map_err(|error| failed(first, error))?;
    let mut installed = Vec::new();
    for name in names {
        installed.push(session.find_installed(name).await?);
    }
    for (name, table) in names.iter().zip(installed) {
        session.remove(name, &table).await?;
    }
    session.close().await;
    Ok(())
}

/// A table that Rowcast is on.
struct Removal {
    id: i32,
    /// The name with its schema.
    qualified: String,
    /// True if it has the column of the version, and Rowcast made that.
    has_column: bool,
    /// Rowcast's triggers.
    triggers: Vec<String>,
}

impl Session {
    /// Takes away what is left of tables that were dropped, whose names nobody knows any more.
    async fn tidy(&mut self) -> Result<(), tokio_postgres::Error> {
        const GONE: &str = "SELECT id FROM rowcast_tables WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = relation)";
        for row in self.client.query(GONE, &[]).await? {
            let statements = forget(row.get(0), &ident(&self.schema));
            let transaction = self.client.transaction().await?;
            transaction.batch_execute(&statements).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Finds a table that Rowcast is on.
    async fn find_installed(&self, name: &str) -> Result<Removal, TableError> {
        const INSTALLED: &str = "SELECT id, format('%I.%I', nspname, relname) AS qualified FROM rowcast_tables \
             JOIN pg_class ON pg_class.oid = relation JOIN pg_namespace ON pg_namespace.oid = relnamespace \
             WHERE relation = $1::oid";
        let absent = || TableError::Unfit { name: name.to_owned(), reason: super::Unfit::Absent };
        let oid = inspection::oid(&self.client, name).await?.ok_or_else(absent)?;
        let row = self.client.query_opt(INSTALLED, &[&oid]).await.map_err(|error| failed(name, error))?;
        let row = row.ok_or_else(|| TableError::NotInstalled { name: name.to_owned() })?;
        let has_column = inspection::version_column(&self.client, name, oid).await?.is_ours();
        let named = inspection::named_triggers(&self.client, name, oid).await?;
        let triggers = named.into_iter().filter(|trigger| trigger.is_ours).map(|trigger| trigger.name).collect();
        Ok(Removal { id: row.get("id"), qualified: row.get("qualified"), has_column, triggers })
    }

    async fn remove(&mut self, name: &str, table: &Removal) -> Result<(), TableError> {
        let mut tries = Tries::default();
        while let Err(error) = take(&mut self.client, table, &self.schema).await {
            tries.another(name, error).await.map_err(|error| match error {
                TableError::Database { source, .. } => failed(name, source),
                error => error,
            })?;
        }
        Ok(())
    }
}

async fn take(client: &mut Client, table: &Removal, schema: &str) -> Result<(), tokio_postgres::Error> {
    let Removal { id, qualified, has_column, triggers } = table;
    let triggers = triggers.iter().map(|name| format!("DROP TRIGGER IF EXISTS \"{name}\" ON {qualified}; "));
    let column = format!("ALTER TABLE {qualified} DROP COLUMN IF EXISTS rowcast_version; ");
    let statements = format!(
        "SET LOCAL lock_timeout = '1s'; {} {} {}",
        triggers.collect::<String>(),
        if *has_column { &column } else { "" },
        forget(*id, &ident(schema))
    );
    let transaction = client.transaction().await?;
    transaction.batch_execute(&statements).await?;
    transaction.commit().await
}

/// Returns the statements that take away what is not on the table itself.
fn forget(id: i32, schema: &str) -> String {
    let functions = Form::function_names(id).map(|name| format!("DROP FUNCTION IF EXISTS {schema}.{name}(); "));
    format!(
        "{} DROP SEQUENCE IF EXISTS {schema}.rowcast_deletes_{id}; \
         DELETE FROM rowcast_tombstones WHERE table_id = {id}; DELETE FROM rowcast_tables WHERE id = {id}",
        functions.concat()
    )
}

fn failed(name: &str, source: tokio_postgres::Error) -> TableError {
    let name = name.to_owned();
    match source.as_db_error() {
        Some(error) if *error.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST => {
            let dependents = error.detail().unwrap_or(error.message()).replace('\n', "; ");
            TableError::InTheWay { name, dependents }
        }
        Some(error) if *error.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            TableError::NotAllowed { name, reason: error.message().to_owned() }
        }
        _ => TableError::Database { name, doing: "take Rowcast off it", source },
    }
}
