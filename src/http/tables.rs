//! `/tables`: every table, and its rows as they are.
//!
//! A row is named by the second segment of the path, or by `key` in the query, which names also what a path cannot: `.` and
//! `..`, which clients take out of it, and the empty key.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use hyper::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Answer;
use super::form::Form;
use super::problem::Problem;
use super::resource::{self, LIMIT_MAX, Query, WrittenTable};
use super::routes::Call;
use crate::model::key::{BadKey, Key, KeyKind};
use crate::model::table::Table;
use crate::store::RowId;

/// The characters of a segment that stand as they are (RFC 3986, §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Answers `GET /tables`: `{"tables":[{"table":"orders","keys":"any"},…]}`, those that may be read, by their names.
pub(super) fn all(call: &Call<'_>) -> Answer {
    let mut tables = call.services.hub.tables().all();
    tables.retain(|table| call.access.may_read_some(table));
    tables.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut body = br#"{"tables":["#.to_vec();
    for (place, table) in tables.iter().enumerate() {
        body.extend_from_slice(if place == 0 { br#"{"table":"# } else { br#",{"table":"# });
        table.write_name(&mut body);
        body.extend_from_slice(format!(r#","keys":"{}"}}"#, table.keys.as_str()).as_bytes());
    }
    body.extend_from_slice(b"]}");
    resource::json(StatusCode::OK, body.into())
}

/// Answers `GET /tables/{table}`.
pub(super) async fn list(call: Call<'_>) -> Result<Answer, Problem> {
    let name = name(&call)?;
    let table = find(&call, &name)?;
    let query = query(&call, table.keys)?;
    for key in &query.keys {
        call.access.require_read(&table, key)?;
    }
    resource::list(call, Form::Row, table, query).await
}

/// Answers `POST /tables/{table}`.
pub(super) async fn create(call: Call<'_>) -> Result<Answer, Problem> {
    let name = name(&call)?;
    let table = table_to_write(&call, &name)?;
    let keys = table.keys();
    let key = match &query_keys(&call, keys)?[..] {
        [] => None,
        [key] => Some(key.clone()),
        _ => return Err(Problem::bad_request("a POST adds one row; name one key")),
    };
    resource::create(call, Form::Row, table, key, path).await
}

/// Answers `GET /tables/{table}/{key}`.
pub(super) async fn read(call: Call<'_>) -> Result<Answer, Problem> {
    let table = find(&call, &name(&call)?)?;
    let key = key(&call, table.keys)?;
    resource::read(call, Form::Row, &table, key).await
}

/// Answers `PUT /tables/{table}/{key}`.
pub(super) async fn put(call: Call<'_>) -> Result<Answer, Problem> {
    let name = name(&call)?;
    let table = table_to_write(&call, &name)?;
    let key = key(&call, table.keys())?;
    resource::put(call, Form::Row, table, key, path).await
}

/// Answers `PATCH /tables/{table}/{key}`.
pub(super) async fn patch(call: Call<'_>) -> Result<Answer, Problem> {
    let table = find(&call, &name(&call)?)?;
    let key = key(&call, table.keys)?;
    resource::patch(call, Form::Row, &table, key).await
}

/// Answers `DELETE /tables/{table}/{key}`.
pub(super) async fn delete(call: Call<'_>) -> Result<Answer, Problem> {
    let table = find(&call, &name(&call)?)?;
    let key = key(&call, table.keys)?;
    resource::delete(call, RowId::of(&table, key)).await
}

/// Returns the name of the table, which the request may use.
fn name(call: &Call<'_>) -> Result<String, Problem> {
    let name = decoded(call.segments[0])?;
    call.access.require_table(&name)?;
    Ok(name.into_owned())
}

fn find(call: &Call<'_>, name: &str) -> Result<Arc<Table>, Problem> {
    call.services.hub.tables().find(name).ok_or_else(|| Problem::unknown_table(name))
}

/// Returns the table that is there, or that its first row makes.
fn table_to_write(call: &Call<'_>, name: &str) -> Result<WrittenTable, Problem> {
    Ok(match call.services.hub.tables().find(name) {
        Some(table) => WrittenTable::There(table),
        None => WrittenTable::New(name.into(), call.services.store.keys_of_new_table(name)?),
    })
}

/// Returns the key of the one row that a request is for.
fn key(call: &Call<'_>, keys: KeyKind) -> Result<Key, Problem> {
    let segment = call.segments[1];
    if !segment.is_empty() {
        if names_a_key(call.head.uri().query().unwrap_or("")) {
            return Err(Problem::bad_request("the path names the row, and key another; give one of them"));
        }
        return keys.of_text(&decoded(segment)?).map_err(|error| Problem::bad_request(error.to_string()));
    }
    match &query_keys(call, keys)?[..] {
        [key] => Ok(key.clone()),
        _ => Err(Problem::bad_request("name one row, by its key: /tables/orders/17, or /tables/orders?key=17")),
    }
}

/// Returns true if a query string has a key.
fn names_a_key(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "key")
}

/// Returns the keys that the query of a request for one row names.
fn query_keys(call: &Call<'_>, keys: KeyKind) -> Result<Vec<Key>, Problem> {
    let Query { keys, after, limit } = query(call, keys)?;
    if after.is_some() || limit.is_some() {
        return Err(Problem::bad_request("after and limit are for lists"));
    }
    Ok(keys)
}

fn query(call: &Call<'_>, keys: KeyKind) -> Result<Query, Problem> {
    parse_query(call.head.uri().query().unwrap_or(""), keys).map_err(Problem::bad_request)
}

/// Reads `key`, `after` and `limit` from a query string.
fn parse_query(query: &str, keys: KeyKind) -> Result<Query, String> {
    let mut found = Query::default();
    // What follows reads U+FFFD in the place of what is no text, and that is another key.
    if percent_decode_str(query).decode_utf8().is_err() {
        return Err("the query is no text in UTF-8".to_owned());
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let key = || keys.of_text(&value).map_err(|error| format!("{name}: {error}"));
        match &*name {
            "key" => found.keys.push(key()?),
            // A list goes on after any key that it named, also one that is too long to name a row.
            "after" => {
                found.after = Some(match keys.of_text(&value) {
                    Err(BadKey::TooLong) if keys == KeyKind::Text => Key::Text(value.into()),
                    _ => key()?,
                });
            }
            "limit" => found.limit = Some(resource::limit(&value)?),
            // `access` has read it, and its holder.
            "token" => {}
            name => return Err(format!("a list knows key, after and limit, not {name:?}")),
        }
    }
    if found.keys.len() > LIMIT_MAX {
        return Err(format!("a list has at most {LIMIT_MAX} keys"));
    }
    if !found.keys.is_empty() && (found.after.is_some() || found.limit.is_some()) {
        return Err("key is given without after and limit".to_owned());
    }
    Ok(found)
}

/// Reads a segment of a path (RFC 3986, §2.1).
fn decoded(segment: &str) -> Result<Cow<'_, str>, Problem> {
    percent_decode_str(segment).decode_utf8().map_err(|_| Problem::bad_request("the path is no text in UTF-8"))
}

/// Returns the path of a row.
fn path(id: &RowId) -> String {
    let mut path = format!("/tables/{}", utf8_percent_encode(&id.table, ENCODED));
    let key = id.key.to_string();
    let separator = if matches!(&*key, "" | "." | "..") { "?key=" } else { "/" };
    let _ = write!(path, "{separator}{}", utf8_percent_encode(&key, ENCODED));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(text: &str) -> Key {
        KeyKind::Any.of_text(text).unwrap()
    }

    #[test]
    fn a_query_names_keys_or_a_page() {
        let query = |text| parse_query(text, KeyKind::Any);
        assert_eq!(query("token=x"), Ok(Query::default()));
        let keys = ["17", "a,b", ".", "..", "", "a/b", "é"].map(any).to_vec();
        let expected = Query { keys, ..Query::default() };
        assert_eq!(query("key=17&key=a,b&key=.&key=..&key=&key=a%2Fb&key=%C3%A9"), Ok(expected));
        let page = Query { after: Some(any("a b")), limit: Some(3), keys: Vec::new() };
        assert_eq!(query("after=a+b&limit=3"), Ok(page));
        let long = "a".repeat(300);
        let after_long = parse_query(&format!("after={long}"), KeyKind::Text).unwrap().after;
        assert_eq!(after_long, Some(Key::Text(long.as_str().into())));
        for (bad, complaint) in [
            (&*format!("after={long}"), "256 bytes"),
            ("key=a&limit=3", "without after"),
            ("after=b&key=a", "without after"),
            ("limit=0", "limit is"),
            ("limit=1001", "limit is"),
            ("offset=3", "not \"offset\""),
            ("key=%00", "U+0000"),
            ("key=%FF", "UTF-8"),
            ("key=a&after=%C3", "UTF-8"),
            (&format!("key={}", "a".repeat(257)), "256 bytes"),
            (&"key=a&".repeat(1001), "at most 1000 keys"),
        ] {
            assert!(query(bad).unwrap_err().contains(complaint), "{bad}");
        }
    }

    #[test]
    fn a_key_in_the_query_is_seen_however_it_is_written() {
        for (query, expected) in
            [("", false), ("token=key", false), ("key", true), ("a=1&k%65y=2", true), ("keys=1", false)]
        {
            assert_eq!(names_a_key(query), expected, "{query}");
        }
    }

    #[test]
    fn the_path_of_a_row_names_it() {
        for (key, expected) in [
            ("17", "/tables/a.b/17"),
            ("a-9_~", "/tables/a.b/a-9_~"),
            ("a/b?c#d%", "/tables/a.b/a%2Fb%3Fc%23d%25"),
            ("é ", "/tables/a.b/%C3%A9%20"),
            ("...", "/tables/a.b/..."),
            ("..", "/tables/a.b?key=.."),
            (".", "/tables/a.b?key=."),
            ("", "/tables/a.b?key="),
        ] {
            assert_eq!(path(&RowId::new("a.b", any(key))), expected);
        }
    }
}
