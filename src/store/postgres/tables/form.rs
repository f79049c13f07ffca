//! What is installed on a table, as SQL: [`Form`]. Pure.

use super::inspection::FoundTable;
use crate::store::postgres::stream::VERSIONS_LEFT_OUT;

/// The functions' texts, with names in braces where those of the table belong.
const BEFORE: &str = include_str!("before.sql");
const AFTER: &str = include_str!("after.sql");

/// The one rendering of a row, whatever the writer's session has set: all settings on which the text of a value depends,
/// beside `search_path`. Amounts of `money` are as the locale C has them, the one that every server has. The functions of
/// the migrations that read rows have the same.
const RENDERING: [(&str, &str); 7] = [
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("IntervalStyle", "iso_8601"),
    ("DateStyle", "ISO"),
    ("extra_float_digits", "1"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
];
/// A column that bears this comment is Rowcast's. A copy of the table has it, and so has a dump.
pub(super) const VERSION_MARK: &str = "Rowcast: the version of the last change of the row";

/// The triggers, in the order of their names, each with what it is called for, as SQL says it and as `pg_trigger.tgtype`
/// does. They are called in the order of their names: the stamp comes last, so that it sees the row as the triggers of
/// others left it; the notification comes first, so that what those do next is notified after it.
/// <https://www.postgresql.org/docs/15/trigger-definition.html>
const TRIGGERS: [(&str, &str, i16); 3] = [
    ("00_rowcast", "AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW", 1 + 4 + 8 + 16),
    ("zz_rowcast", "BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW", 1 + 2 + 4 + 16),
    // Not before: the file of which it tells is not there then.
    ("zz_rowcast_truncate", "AFTER TRUNCATE ON {table} FOR EACH STATEMENT", 32),
];

/// The names of the triggers.
pub(super) fn trigger_names() -> Vec<&'static str> {
    TRIGGERS.iter().map(|(name, ..)| *name).collect()
}

/// What they are called for, as the catalogue has it.
pub(super) fn trigger_types() -> Vec<i16> {
    TRIGGERS.iter().map(|(.., kind)| *kind).collect()
}

/// What a table is given: names and texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// The table, with its schema.
    pub(super) table: String,
    /// The functions' schema.
    schema: String,
    /// The table's number among those that are installed.
    id: i32,
    /// The function that stamps and the one that tells.
    pub(super) functions: [Function; 2],
}

/// A function of a trigger, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its text.
    pub(super) body: String,
    /// Its settings, as in `TimeZone=UTC`, in their order.
    pub(super) settings: Vec<String>,
}

impl Form {
    /// Returns what the table is given where Rowcast's own tables are in `schema`. In UTF-8 every text can be told.
    pub(super) fn new(found: &FoundTable, schema: &str, id: i32, is_utf8: bool) -> Self {
        let (schema, key) = (ident(schema), ident(&found.key));
        let table = format!("{}.{}", ident(&found.schema), ident(&found.table));
        let replaced = [
            ("{schema}", schema.clone()),
            ("{id}", id.to_string()),
            ("{table}", table.clone()),
            ("{versions}", literal(&format!("{schema}.product_versions"))),
            ("{deletes}", literal(&format!("{schema}.rowcast_deletes_{id}"))),
            ("{tombstones}", literal(&format!("{schema}.rowcast_tombstones"))),
            ("{sendable}", if is_utf8 { String::new() } else { format!("{schema}.rowcast_sendable") }),
            ("{restamp}", literal(&format!(" SET rowcast_version = 0 WHERE {key} = $1 AND rowcast_version = $2"))),
            ("{left_out}", VERSIONS_LEFT_OUT.to_string()),
            ("{key}", key),
            // Sessions keep plans for one type: with another the functions are new, and planned anew.
            ("{kind}", format!("{:?}, {}", found.kind, found.key_type)),
        ];
        let path = ("search_path", "pg_catalog, pg_temp");
        let telling = [path].into_iter().chain(RENDERING).chain([("row_security", "on")]).collect();
        let function = |(template, settings): (&str, Vec<(&str, &str)>)| Function {
            body: fill(template, &replaced),
            settings: settings.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        };
        Self { functions: [(BEFORE, vec![path]), (AFTER, telling)].map(function), table, schema, id }
    }

    /// The functions' names, without their schema.
    pub(super) fn function_names(id: i32) -> [String; 2] {
        [format!("rowcast_before_{id}"), format!("rowcast_after_{id}")]
    }

    /// Returns the statements that make the functions, or bring them up to date.
    pub(super) fn create_functions(&self) -> String {
        let create = |(name, Function { body, settings }): (&String, &Function)| {
            let function = format!("{}.{name}()", self.schema);
            let settings: String = settings.iter().map(|setting| set(setting)).collect();
            format!(
                "CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings} AS {}; \
                 REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC; ",
                literal(body)
            )
        };
        Self::function_names(self.id).iter().zip(&self.functions).map(create).collect()
    }

    /// Returns the statement that makes the count of deletes.
    pub(super) fn sequence(&self) -> String {
        format!("CREATE SEQUENCE IF NOT EXISTS {}.rowcast_deletes_{} CACHE 1; ", self.schema, self.id)
    }

    /// Returns the statements that add the column, and mark it. A default that is a constant is not written into the rows,
    /// and neither are they looked at (<https://www.postgresql.org/docs/15/sql-altertable.html>, Notes).
    pub(super) fn column(&self, version: i64) -> String {
        let add = format!("ALTER TABLE {} ADD COLUMN rowcast_version bigint NOT NULL DEFAULT {version}; ", self.table);
        add + &self.mark()
    }

    /// Returns the statement that marks the column as Rowcast's.
    pub(super) fn mark(&self) -> String {
        format!("COMMENT ON COLUMN {}.rowcast_version IS {}; ", self.table, literal(VERSION_MARK))
    }

    /// Returns the statements that make the triggers anew. Writers whose `session_replication_role` is `replica` fire
    /// them too.
    pub(super) fn triggers(&self) -> String {
        let Self { table, schema, id, .. } = self;
        let functions = [format!("rowcast_after_{id}"), format!("rowcast_before_{id}"), "rowcast_truncated".into()];
        let trigger = |((name, called, _), function): (&(&str, &str, i16), &String)| {
            let called = called.replace("{table}", table);
            format!(
                "DROP TRIGGER IF EXISTS \"{name}\" ON {table}; \
                 CREATE TRIGGER \"{name}\" {called} EXECUTE FUNCTION {schema}.{function}(); \
                 ALTER TABLE {table} ENABLE ALWAYS TRIGGER \"{name}\"; "
            )
        };
        TRIGGERS.iter().zip(&functions).map(trigger).collect()
    }
}

/// Returns the clause that sets a setting of a function. A list is not quoted as one text.
fn set(setting: &str) -> String {
    let (name, value) = setting.split_once('=').expect("a setting has a value");
    let value = if name == "search_path" { value.to_owned() } else { literal(value) };
    format!(" SET {name} = {value}")
}

/// Puts the texts in the places of the names. What is put in is not looked at again.
fn fill(template: &str, replaced: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        filled.push_str(before);
        let (name, text) = replaced
            .iter()
            .find(|(name, _)| from.starts_with(name))
            .expect("every name in the templates is one of these");
        filled.push_str(text);
        rest = &from[name.len()..];
    }
    filled + rest
}

/// Quotes a name for SQL.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text for SQL, with `standard_conforming_strings` on.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::inspection::VersionColumn;
    use super::*;
    use crate::model::key::KeyKind;

    fn found(key: &str) -> FoundTable {
        FoundTable {
            oid: 1,
            schema: "s".into(),
            table: "Order \"Lines\"".into(),
            key: key.into(),
            kind: KeyKind::Uuid,
            key_type: 2950,
            version: VersionColumn::Missing,
        }
    }

    #[test]
    fn names_are_quoted_and_not_taken_for_places() {
        let form = Form::new(&found("{id} 'x' \"y\""), "rowcast", 7, true);
        assert_eq!(form.table, r#""s"."Order ""Lines""""#);
        let [before, after] = form.functions.map(|function| function.body);
        assert!(before.contains(r#"NEW."{id} 'x' ""y""" IS DISTINCT FROM"#), "{before}");
        assert!(after.contains(r#"WHERE "{id} ''x'' ""y""" = $1"#), "{after}");
        assert!(after.contains("rowcast_deletes_7") && !after.contains("{deletes}"));
    }

    /// With another text, every table is installed anew.
    #[test]
    fn a_sequence_that_was_set_back_is_lifted_as_before() {
        let [before, _] = Form::new(&found("id"), "rowcast", 7, true).functions.map(|function| function.body);
        assert!(
            before.contains("\n            least(OLD.rowcast_version + 16777216, 9007199254740990)));\n"),
            "{before}"
        );
    }

    #[test]
    fn texts_are_checked_only_where_they_may_be_no_utf_8() {
        let has =
            |is_utf8| Form::new(&found("id"), "rowcast", 7, is_utf8).functions[1].body.contains("rowcast_sendable");
        assert_eq!([has(true), has(false)], [false, true]);
    }
}
