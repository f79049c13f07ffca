//! Gives tables what Rowcast needs of them: [`install`].

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use super::error::{TableError, Unfit};
use super::form::{Form, Function, trigger_names, trigger_types};
use super::hidden::HiddenColumns;
use super::inspection::{FoundTable, VersionColumn, find, find_hidden};
use super::spec::{HiddenColumn, TableSpec};
use super::{InstalledTable, Session};
use crate::store::postgres::config::PostgresConfig;

/// The tries of a table's lock, each of a second: whoever comes after this one waits for it meanwhile.
const LOCK_TRIES: u32 = 30;
/// The time between two tries, for those that wait.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// What was done to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It had nothing of Rowcast.
    Installed,
    /// It had another form.
    Updated,
    /// Nothing.
    Nothing,
}

/// Installs Rowcast on tables that have nothing of it, brings those up to date that have another form, and leaves the
/// others alone. All are looked at before the first is touched, and whether the columns to hide are theirs. The database
/// must be migrated. Any number of servers may do so at once; a table that others hold is tried again for some time.
///
/// # Errors
/// See [`TableError`]; the tables that were installed before the error stay so.
pub async fn install(
    config: &PostgresConfig,
    specs: &[TableSpec],
    hidden: &[HiddenColumn],
) -> Result<Vec<(InstalledTable, Done)>, TableError> {
    let Some(first) = specs.first() else { return Ok(Vec::new()) };
    let mut session = Session::open(config, &first.name).await?;
    let mut installed = Vec::new();
    for (spec, (found, hidden)) in specs.iter().zip(session.find_all(specs, hidden).await?) {
        installed.push(session.install(spec, found, hidden).await?);
    }
    session.close().await;
    Ok(installed)
}

/// Finds the tables as [`install`] leaves them, and changes nothing: in their order, those that have all of it, and of the
/// others the specifications.
///
/// # Errors
/// See [`TableError`].
pub async fn find_installed(
    config: &PostgresConfig,
    specs: &[TableSpec],
    hidden: &[HiddenColumn],
) -> Result<Vec<Result<InstalledTable, TableSpec>>, TableError> {
    let Some(first) = specs.first() else { return Ok(Vec::new()) };
    let session = Session::open(config, &first.name).await?;
    let mut installed = Vec::new();
    for (spec, (found, hidden)) in specs.iter().zip(session.find_all(specs, hidden).await?) {
        let state = State::of(&session.client, found.oid).await.map_err(|source| failed(&spec.name, source))?;
        let id = session.whole(&found, &state);
        installed.push(id.map(|id| session.as_installed(spec, found, id, hidden)).ok_or_else(|| spec.clone()));
    }
    session.close().await;
    Ok(installed)
}

/// Checks that no row of these tables is shown by the name of something else, which may be renamed without the row's being
/// told. Of a table that is installed already, a column that is shown so is only logged. Changes nothing.
///
/// # Errors
/// See [`TableError`].
pub(super) async fn check_columns(
    config: &PostgresConfig,
    specs: &[TableSpec],
    hidden: &[HiddenColumn],
) -> Result<(), TableError> {
    const NAMING: &str = "SELECT name, type FROM rowcast_naming_column($1::oid, $2::text[]) WHERE name IS NOT NULL";
    let Some(first) = specs.first() else { return Ok(()) };
    let session = Session::open(config, &first.name).await?;
    for (spec, (found, hidden)) in specs.iter().zip(session.find_all(specs, hidden).await?) {
        let hidden: Vec<&str> = hidden.names().collect();
        let column = session.client.query_opt(NAMING, &[&found.oid, &hidden]).await;
        let Some(row) = column.map_err(|source| failed(&spec.name, source))? else { continue };
        let state = State::of(&session.client, found.oid).await.map_err(|source| failed(&spec.name, source))?;
        let error = TableError::Unfit {
            name: spec.name.clone(),
            reason: Unfit::Naming { column: row.get(0), kind: row.get(1) },
        };
        if state.id.is_none() {
            return Err(error);
        }
        tracing::warn!("{error}; until then, rows may be shown with names of before");
    }
    session.close().await;
    Ok(())
}

impl Session {
    /// Finds the tables, each once, and their columns that are to be hidden.
    async fn find_all(
        &self,
        specs: &[TableSpec],
        hidden: &[HiddenColumn],
    ) -> Result<Vec<(FoundTable, HiddenColumns)>, TableError> {
        let mut found: Vec<FoundTable> = Vec::new();
        for spec in specs {
            let table = find(&self.client, spec).await?;
            if let Some(twin) = found.iter().position(|other| other.oid == table.oid) {
                let reason = Unfit::Twice(specs[twin].name.clone());
                return Err(TableError::Unfit { name: spec.name.clone(), reason });
            }
            found.push(table);
        }
        let hidden = find_hidden(&self.client, hidden, &found).await?;
        let with_hidden = |table: FoundTable| {
            let names = hidden.iter().filter(|(oid, _)| *oid == table.oid).map(|(_, name)| name.as_str());
            let hidden = HiddenColumns::new(names);
            (table, hidden)
        };
        Ok(found.into_iter().map(with_hidden).collect())
    }

    /// Returns the number of a table that has all that it needs, in this build's form.
    fn whole(&self, found: &FoundTable, state: &State) -> Option<i32> {
        let has_functions =
            |id: &i32| state.functions == Form::new(found, &self.schema, *id, self.is_utf8).functions.map(Some);
        let is_marked = found.version == VersionColumn::Marked;
        state.id.filter(|_| is_marked && state.has_triggers).filter(has_functions)
    }

    fn as_installed(&self, spec: &TableSpec, found: FoundTable, id: i32, hidden: HiddenColumns) -> InstalledTable {
        let qualified = Form::new(&found, &self.schema, id, self.is_utf8).table;
        let FoundTable { oid, key, kind, .. } = found;
        let TableSpec { name, key: given_key } = spec.clone();
        InstalledTable { name, given_key, oid, id, qualified, key, kind, hidden }
    }

    async fn install(
        &mut self,
        spec: &TableSpec,
        found: FoundTable,
        hidden: HiddenColumns,
    ) -> Result<(InstalledTable, Done), TableError> {
        let state = State::of(&self.client, found.oid).await.map_err(|source| failed(&spec.name, source))?;
        let (schema, is_utf8) = (self.schema.clone(), self.is_utf8);
        let form = |id| Form::new(&found, &schema, id, is_utf8);
        let (id, done) = if let Some(id) = self.whole(&found, &state) {
            (id, Done::Nothing)
        } else {
            self.check_owner(&spec.name).await?;
            let mut tries = Tries::default();
            let id = loop {
                match give(&mut self.client, &found, &state, form).await {
                    Ok(id) => break id,
                    Err(error) => tries.another(&spec.name, error).await?,
                }
            };
            (
                id,
                if state.id.is_some() || found.version != VersionColumn::Missing {
                    Done::Updated
                } else {
                    Done::Installed
                },
            )
        };
        Ok((self.as_installed(spec, found, id, hidden), done))
    }

    /// Checks that functions of this role may use Rowcast's own tables.
    async fn check_owner(&self, name: &str) -> Result<(), TableError> {
        const OWNER: &str = "SELECT relowner::regrole::text, pg_has_role(relowner, 'USAGE') FROM pg_class \
             WHERE oid = 'rowcast_tables'::regclass";
        let row = self.client.query_one(OWNER, &[]).await.map_err(|error| failed(name, error))?;
        if row.get(1) { Ok(()) } else { Err(TableError::NotOwner { name: name.to_owned(), owner: row.get(0) }) }
    }
}

/// The tries of a step that others who hold the table may keep from being done.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Returns once there may be another try after this error.
    ///
    /// # Errors
    /// If there is to be none.
    pub(super) async fn another(&mut self, name: &str, error: tokio_postgres::Error) -> Result<(), TableError> {
        const FOR_OTHERS: [SqlState; 2] = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        self.0 += 1;
        match error.code() {
            Some(code) if !FOR_OTHERS.contains(code) => Err(failed(name, error)),
            None => Err(failed(name, error)),
            Some(_) if self.0 == LOCK_TRIES => Err(TableError::Locked { name: name.to_owned(), tries: LOCK_TRIES }),
            Some(_) => {
                sleep(LOCK_PAUSE).await;
                Ok(())
            }
        }
    }
}

/// Gives the table what it lacks, in one transaction: nobody writes between the column and the triggers. What needs the
/// table's lock comes last, in one message with the commit: however slow this process is, writers do not wait for it.
async fn give(
    client: &mut Client,
    found: &FoundTable,
    state: &State,
    form: impl Fn(i32) -> Form,
) -> Result<i32, tokio_postgres::Error> {
    const NOTE: &str = "UPDATE rowcast_tables SET key = $2::text, is_marked = true \
         WHERE id = $1 AND (key <> $2 OR NOT is_marked)";
    let transaction = client.transaction().await?;
    let id: i32 = if let Some(id) = state.id {
        id
    } else {
        let insert = "INSERT INTO rowcast_tables (relation, key) VALUES ($1::oid, $2::text) RETURNING id";
        transaction.query_one(insert, &[&found.oid, &found.key]).await?.get(0)
    };
    let form = form(id);
    transaction.execute(NOTE, &[&id, &found.key]).await?;
    transaction.batch_execute(&(form.sequence() + &form.create_functions())).await?;
    let mut locking = "SET LOCAL lock_timeout = '1s'; ".to_owned();
    match found.version {
        VersionColumn::Missing => {
            let version: i64 = transaction.query_one("SELECT nextval('product_versions')", &[]).await?.get(0);
            locking += &form.column(version);
        }
        VersionColumn::Unmarked => locking += &form.mark(),
        VersionColumn::Marked | VersionColumn::Changed | VersionColumn::Theirs => {}
    }
    if !state.has_triggers {
        locking += &form.triggers();
    }
    // The transaction that begins is empty, and is there for the client's to end.
    transaction.batch_execute(&(locking + "COMMIT; BEGIN")).await?;
    transaction.commit().await?;
    Ok(id)
}

/// What a table has of Rowcast.
struct State {
    /// Its number, if it is known.
    id: Option<i32>,
    /// Its functions.
    functions: [Option<Function>; 2],
    /// True if it has all triggers, and they call its functions whatever the writer's settings are.
    has_triggers: bool,
}

impl State {
    async fn of(client: &impl GenericClient, oid: u32) -> Result<Self, tokio_postgres::Error> {
        const ID: &str = "SELECT id FROM rowcast_tables WHERE relation = $1::oid";
        const FUNCTION: &str = "SELECT prosrc, coalesce(proconfig, '{}') FROM pg_proc WHERE proname = $1::text AND pronargs = 0 AND pronamespace = \
             (SELECT relnamespace FROM pg_class WHERE oid = 'rowcast_tables'::regclass)";
        const TRIGGERS: &str = "SELECT count(*) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid \
             JOIN unnest($2::text[], $3::text[], $4::smallint[]) AS wanted (trigger, function, type) \
                 ON tgname = trigger AND proname = function AND tgtype = type \
             WHERE tgrelid = $1 AND tgenabled = 'A' AND tgqual IS NULL";
        let Some(row) = client.query_opt(ID, &[&oid]).await? else {
            return Ok(Self { id: None, functions: [None, None], has_triggers: false });
        };
        let id: i32 = row.get(0);
        let [before, after] = Form::function_names(id);
        let mut functions = [None, None];
        for (function, name) in functions.iter_mut().zip([&before, &after]) {
            let row = client.query_opt(FUNCTION, &[name]).await?;
            *function = row.map(|row| Function { body: row.get(0), settings: row.get(1) });
        }
        let names = trigger_names();
        let called = [after, before, "rowcast_truncated".to_owned()];
        let count: i64 =
            client.query_one(TRIGGERS, &[&oid, &names, &called.as_slice(), &trigger_types()]).await?.get(0);
        Ok(Self { id: Some(id), functions, has_triggers: usize::try_from(count) == Ok(names.len()) })
    }
}

/// Returns the error of a statement.
pub(super) fn failed(name: &str, source: tokio_postgres::Error) -> TableError {
    let name = name.to_owned();
    match source.as_db_error() {
        Some(error) if *error.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            TableError::NotAllowed { name, reason: error.message().to_owned() }
        }
        Some(error) if *error.code() == SqlState::TOO_MANY_COLUMNS => TableError::Unfit { name, reason: Unfit::Full },
        _ => TableError::Database { name, doing: "install Rowcast on it", source },
    }
}
