//! A table of the database and the key of its rows: [`find`].

use tokio_postgres::error::SqlState;
use tokio_postgres::{GenericClient, Row};

use super::error::{TableError, Unfit};
use super::form::{VERSION_MARK, trigger_names};
use super::spec::{HiddenColumn, TableSpec};
use crate::model::key::KeyKind;

/// A table whose rows can be cast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundTable {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) key: String,
    pub(super) kind: KeyKind,
    /// The number of its type: functions that were planned for another fail.
    pub(super) key_type: u32,
    pub(super) version: VersionColumn,
}

/// The column of the version that a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionColumn {
    /// None.
    Missing,
    /// Rowcast's, from before it was marked.
    Unmarked,
    /// Rowcast's.
    Marked,
    /// Rowcast's, of another type since.
    Changed,
    /// Somebody else's.
    Theirs,
}

impl VersionColumn {
    /// Returns true if Rowcast made it.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::Unmarked | Self::Marked | Self::Changed)
    }
}

/// A trigger that has the name of one of Rowcast's.
pub(super) struct NamedTrigger {
    pub(super) name: String,
    /// The function that it calls.
    function: String,
    /// True if that is Rowcast's.
    pub(super) is_ours: bool,
}

/// Whose the column of the version is; the second argument is its mark. One that was made before columns were marked, of a
/// table that was not installed on since, is known by its default. It needs `rowcast_tables`, of any release.
const FIND_VERSION: &str = "SELECT atttypid = 'bigint'::regtype AND attnotnull AND attgenerated = '' AND attidentity = '' \
         AS is_fit, coalesce(col_description(attrelid, attnum) = $2::text, false) AS is_marked, \
         EXISTS (SELECT FROM rowcast_tables AS known WHERE relation = attrelid \
             AND to_jsonb(known) ->> 'is_marked' IS DISTINCT FROM 'true') AND EXISTS ( \
             SELECT FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum \
             AND pg_get_expr(adbin, adrelid) ~ '^''?[1-9][0-9]*''?(::bigint)?$') AS is_known \
     FROM pg_attribute WHERE attrelid = $1::oid AND attname = 'rowcast_version' AND NOT attisdropped";

const TABLE: &str = "SELECT class.oid, space.nspname AS schema, relname AS name, relkind, relpersistence, \
         relispartition OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = class.oid) AS is_child, \
         EXISTS (SELECT FROM pg_inherits WHERE inhparent = class.oid) AS is_parent, reloftype <> 0 AS is_typed, \
         space.nspname LIKE 'pg\\_%' OR space.nspname = 'information_schema' AS is_catalog, \
         EXISTS (SELECT FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid \
             WHERE tgrelid = class.oid AND proname = 'product_before' AND pronamespace = relnamespace) AS is_products, \
         relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('rowcast_tables')) \
             AND (relname LIKE 'rowcast\\_%' OR relname IN ('product_tombstones', 'oversize_changes')) AS is_own, \
         has_table_privilege(class.oid, 'SELECT') AS is_readable, current_user::text AS role \
     FROM pg_class AS class JOIN pg_namespace AS space ON space.oid = relnamespace WHERE class.oid = to_regclass($1::text)";

/// The columns of the primary key, in its order.
const PRIMARY_KEY: &str = "SELECT attname FROM pg_index \
     CROSS JOIN unnest(indkey) WITH ORDINALITY AS part (number, place) \
     JOIN pg_attribute ON attrelid = indrelid AND attnum = part.number \
     WHERE indrelid = $1 AND indisprimary AND place <= indnkeyatts ORDER BY place";

/// The column with this name. A domain counts as what it is made of. An index's collation may differ from the column's.
const COLUMN: &str = "WITH RECURSIVE type AS ( \
         SELECT atttypid AS oid FROM pg_attribute WHERE attrelid = $1 AND attname = $2::text AND NOT attisdropped \
         UNION ALL SELECT typbasetype FROM pg_type JOIN type USING (oid) WHERE typtype = 'd') \
     SELECT (SELECT typname FROM pg_type JOIN type USING (oid) \
             WHERE typtype <> 'd' AND typnamespace = 'pg_catalog'::regnamespace) AS base_type, \
         format_type(atttypid, atttypmod) AS type, atttypid, attnotnull, attgenerated <> '' AS is_generated, \
         coalesce((SELECT collisdeterministic FROM pg_collation WHERE oid = attcollation), true) AS is_deterministic, \
         EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indkey[0] = attnum AND indnkeyatts = 1 AND indisunique \
             AND indisvalid AND indisready AND indimmediate AND indpred IS NULL AND indexprs IS NULL \
             AND coalesce((SELECT collisdeterministic FROM pg_collation WHERE oid = indcollation[0]), true)) AS is_unique \
     FROM pg_attribute WHERE attrelid = $1 AND attname = $2::text AND attnum > 0 AND NOT attisdropped";

/// Finds the table and its key, or the reason for which its rows cannot be cast.
pub(super) async fn find(client: &impl GenericClient, spec: &TableSpec) -> Result<FoundTable, TableError> {
    let unfit = |reason| TableError::Unfit { name: spec.name.clone(), reason };
    let rows = client.query(TABLE, &[&spec.name]).await.map_err(|error| misread(&spec.name, error))?;
    let row = rows.first().ok_or_else(|| unfit(Unfit::Absent))?;
    check_kind(row).map_err(unfit)?;
    if !row.get::<_, bool>("is_readable") {
        return Err(unfit(Unfit::Unreadable(row.get("role"))));
    }
    let oid: u32 = row.get("oid");
    let version = version_column(client, &spec.name, oid).await?;
    if matches!(version, VersionColumn::Changed | VersionColumn::Theirs) {
        return Err(unfit(Unfit::VersionColumn));
    }
    let triggers = named_triggers(client, &spec.name, oid).await?;
    if let Some(NamedTrigger { name, function, .. }) = triggers.into_iter().find(|trigger| !trigger.is_ours) {
        return Err(unfit(Unfit::Trigger { trigger: name, function }));
    }
    let key = key_column(client, spec, oid).await?;
    let column = client.query_opt(COLUMN, &[&oid, &key]).await.map_err(|error| failed(&spec.name, error))?;
    let column = column.ok_or_else(|| unfit(Unfit::NoColumn(key.clone())))?;
    let kind = key_kind(&key, &column).map_err(unfit)?;
    let key_type = column.get("atttypid");
    Ok(FoundTable { oid, schema: row.get("schema"), table: row.get("name"), key, kind, key_type, version })
}

/// Finds the column of the version.
pub(super) async fn version_column(
    client: &impl GenericClient,
    name: &str,
    oid: u32,
) -> Result<VersionColumn, TableError> {
    let row = client.query_opt(FIND_VERSION, &[&oid, &VERSION_MARK]).await.map_err(|error| failed(name, error))?;
    let Some(row) = row else { return Ok(VersionColumn::Missing) };
    Ok(match (row.get("is_marked"), row.get("is_known"), row.get("is_fit")) {
        (true, _, true) => VersionColumn::Marked,
        (true, _, false) => VersionColumn::Changed,
        (false, true, true) => VersionColumn::Unmarked,
        _ => VersionColumn::Theirs,
    })
}

/// Finds the triggers that have the names of Rowcast's. Those of a table that was put in the place of another may be that
/// one's.
pub(super) async fn named_triggers(
    client: &impl GenericClient,
    name: &str,
    oid: u32,
) -> Result<Vec<NamedTrigger>, TableError> {
    const NAMED: &str = "SELECT tgname::text, tgfoid::regprocedure::text AS function, \
             proname ~ '^rowcast_(truncated|(before|after)_[0-9]+)$' AND pronamespace = \
                 (SELECT relnamespace FROM pg_class WHERE oid = 'rowcast_tables'::regclass) AS is_ours \
         FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid \
         WHERE tgrelid = $1::oid AND tgname = ANY ($2::text[]) ORDER BY tgname";
    let rows = client.query(NAMED, &[&oid, &trigger_names()]).await.map_err(|error| failed(name, error))?;
    let named = |row: &Row| NamedTrigger { name: row.get(0), function: row.get(1), is_ours: row.get(2) };
    Ok(rows.iter().map(named).collect())
}

/// Answers the number of the table with this name, whatever it is.
pub(super) async fn oid(client: &impl GenericClient, name: &str) -> Result<Option<u32>, TableError> {
    let row = client.query_one("SELECT to_regclass($1::text)::oid", &[&name]).await;
    Ok(row.map_err(|error| misread(name, error))?.get(0))
}

/// Returns true if this is the table that has the name of products, and not Rowcast's.
pub(super) async fn has_name_of_products(client: &impl GenericClient, name: &str) -> Result<bool, TableError> {
    const THEIRS: &str = "SELECT coalesce(to_regclass($1::text) = to_regclass('products'), false) AND NOT EXISTS ( \
             SELECT FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid \
             WHERE tgrelid = to_regclass('products') AND proname = 'product_before')";
    let row = client.query_one(THEIRS, &[&name]).await;
    Ok(row.map_err(|error| misread(name, error))?.get(0))
}

/// Checks that the rows of this kind of table can be cast at all.
fn check_kind(row: &Row) -> Result<(), Unfit> {
    let is = |name| row.get::<_, Option<bool>>(name) == Some(true);
    let letter = |name| char::from(row.get::<_, i8>(name).cast_unsigned());
    let kind = match letter("relkind") {
        'r' if is("is_catalog") => Some("one of the database's own"),
        'r' if letter("relpersistence") == 't' => Some("temporary"),
        'r' if is("is_typed") => Some("a typed table (CREATE TABLE … OF)"),
        'r' if is("is_child") => Some("a partition of another table, or inherits from one"),
        'r' if is("is_parent") => Some("a table that others inherit from"),
        'r' => None,
        'p' => Some("a partitioned table"),
        'v' => Some("a view"),
        'm' => Some("a materialized view"),
        'f' => Some("a foreign table"),
        _ => Some("no table"),
    };
    match kind {
        Some(kind) => Err(Unfit::Kind(kind)),
        None if letter("relpersistence") == 'u' => Err(Unfit::Unlogged),
        None if is("is_products") => Err(Unfit::Products),
        None if is("is_own") => Err(Unfit::Own),
        None => Ok(()),
    }
}

/// Returns the name of the key's column: the one that was given, as SQL reads it, or that of the primary key.
async fn key_column(client: &impl GenericClient, spec: &TableSpec, oid: u32) -> Result<String, TableError> {
    let unfit = |reason| TableError::Unfit { name: spec.name.clone(), reason };
    if let Some(key) = &spec.key {
        return identifier(client, &spec.name, key).await;
    }
    let rows = client.query(PRIMARY_KEY, &[&oid]).await.map_err(|error| failed(&spec.name, error))?;
    let mut columns: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    match columns.len() {
        0 => Err(unfit(Unfit::NoKey)),
        1 => Ok(columns.remove(0)),
        _ => Err(unfit(Unfit::Composite(columns.join(", ")))),
    }
}

/// Returns a column's name as SQL reads it.
async fn identifier(client: &impl GenericClient, table: &str, text: &str) -> Result<String, TableError> {
    let parts = client.query_one("SELECT parse_ident($1::text)", &[&text]).await;
    let parts: Vec<String> = parts.map_err(|error| misread(table, error))?.get(0);
    let [name] = <[String; 1]>::try_from(parts)
        .map_err(|_| TableError::Unfit { name: table.to_owned(), reason: Unfit::NoColumn(text.to_owned()) })?;
    Ok(name)
}

/// Finds the columns that are to be hidden, each with the number of its table, which must be one of these.
pub(super) async fn find_hidden(
    client: &impl GenericClient,
    hidden: &[HiddenColumn],
    found: &[FoundTable],
) -> Result<Vec<(u32, String)>, TableError> {
    const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1 AND attname = $2::text \
         AND attnum > 0 AND NOT attisdropped)";
    let mut columns = Vec::with_capacity(hidden.len());
    for HiddenColumn { table, column } in hidden {
        let unfit = |reason| TableError::Unfit { name: table.clone(), reason };
        let oid = oid(client, table).await?.ok_or_else(|| unfit(Unfit::Absent))?;
        let name = identifier(client, table, column).await?;
        let owner = found.iter().find(|found| found.oid == oid).ok_or_else(|| unfit(Unfit::NotNamed))?;
        let exists = client.query_one(EXISTS, &[&oid, &name]).await.map_err(|error| failed(table, error))?;
        match name {
            name if !exists.get::<_, bool>(0) => return Err(unfit(Unfit::NoColumn(name))),
            name if name == owner.key => return Err(unfit(Unfit::HiddenKey(name))),
            name => columns.push((oid, name)),
        }
    }
    Ok(columns)
}

fn key_kind(key: &str, column: &Row) -> Result<KeyKind, Unfit> {
    let is = |name| column.get::<_, bool>(name);
    let kind = match column.get::<_, Option<&str>>("base_type") {
        Some("int2") => KeyKind::Integer(i16::MIN.into(), i16::MAX.into()),
        Some("int4") => KeyKind::Integer(i32::MIN.into(), i32::MAX.into()),
        Some("int8") => KeyKind::Integer(i64::MIN, i64::MAX),
        Some("uuid") => KeyKind::Uuid,
        Some("text" | "varchar") => KeyKind::Text,
        _ => return Err(Unfit::Type { column: key.to_owned(), kind: column.get("type") }),
    };
    match key.to_owned() {
        key if !is("attnotnull") => Err(Unfit::Nullable(key)),
        key if is("is_generated") => Err(Unfit::Generated(key)),
        key if !is("is_deterministic") => Err(Unfit::Collation(key)),
        key if !is("is_unique") => Err(Unfit::NotUnique(key)),
        _ => Ok(kind),
    }
}

/// Returns the error of a statement that was given a name from outside: the name may be none.
fn misread(name: &str, source: tokio_postgres::Error) -> TableError {
    let is_of_the_name = |code: &SqlState| ["42602", "42601", "0A000", "22023"].contains(&code.code());
    match source.as_db_error() {
        Some(error) if is_of_the_name(error.code()) => {
            TableError::Unfit { name: name.to_owned(), reason: Unfit::Name(error.message().to_owned()) }
        }
        _ => failed(name, source),
    }
}

fn failed(name: &str, source: tokio_postgres::Error) -> TableError {
    TableError::Database { name: name.to_owned(), doing: "look at it", source }
}
