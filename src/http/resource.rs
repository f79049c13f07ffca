//! The resources of a table: the list of its rows, and one row. `/products` and `/tables/…` are forms of the same.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, LOCATION};

use super::access::Access;
use super::answer::AnswerBody;
use super::budget::Lease;
use super::cursor::Cursor;
use super::form::Form;
use super::problem::Problem;
use super::routes::Call;
use super::row::body_of_row;
use super::rows::{Listing, room_for_rows};
use super::{Answer, Services, bodies, preconditions};
use crate::model::key::{Key, KeyKind};
use crate::model::row::Row;
use crate::model::table::{Table, TableId};
use crate::store::{Precondition, Put, RowId, StoreError, Versioned, Written};

const LIMIT_DEFAULT: usize = 100;
/// The most rows of a list.
pub(super) const LIMIT_MAX: usize = 1000;

/// A table that a row is written to.
pub(super) enum WrittenTable {
    /// One that is there.
    There(Arc<Table>),
    /// One of this name and with these keys, which its first row makes.
    New(Box<str>, KeyKind),
}

impl WrittenTable {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::There(table) => &table.name,
            Self::New(name, _) => name,
        }
    }

    pub(super) fn keys(&self) -> KeyKind {
        match self {
            Self::There(table) => table.keys,
            Self::New(_, keys) => *keys,
        }
    }

    fn is_products(&self) -> bool {
        matches!(self, Self::There(table) if table.id == TableId::PRODUCTS)
    }

    fn row(&self, key: Key) -> RowId {
        match self {
            Self::There(table) => RowId::of(table, key),
            Self::New(name, _) => RowId::new(name, key),
        }
    }
}

/// The rows that a list is asked for, by its query string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Those with these keys, if there are any.
    pub(super) keys: Vec<Key>,
    /// Those after this one.
    pub(super) after: Option<Key>,
    /// The most of them.
    pub(super) limit: Option<usize>,
}

impl Query {
    fn into_cursor(self) -> Cursor {
        if self.keys.is_empty() {
            Cursor::Range(super::cursor::Range::new(self.after, self.limit.unwrap_or(LIMIT_DEFAULT)))
        } else {
            Cursor::Keys(self.keys.into_iter())
        }
    }
}

/// Reads the `limit` of a list.
///
/// # Errors
/// The sentence to tell the client.
pub(super) fn limit(value: &str) -> Result<usize, String> {
    let given = value.parse().ok().filter(|given| (1..=LIMIT_MAX).contains(given));
    given.ok_or_else(|| format!("limit is an integer from 1 to {LIMIT_MAX}"))
}

/// Answers a request for the list of these rows.
pub(super) async fn list(call: Call<'_>, form: Form, table: Arc<Table>, query: Query) -> Result<Answer, Problem> {
    let listing = Listing::begin(call.services, call.access, table, form, query.into_cursor()).await?;
    let body = if listing.is_short() {
        let (whole, lease) = listing.whole().await;
        AnswerBody::whole(whole, lease)
    } else {
        AnswerBody::pieces(listing.pieces())
    };
    Ok(json(StatusCode::OK, body))
}

/// Answers a request to add a row, under this key or the one that the body carries. `location` makes the path of a row.
pub(super) async fn create(
    call: Call<'_>,
    form: Form,
    table: WrittenTable,
    key: Option<Key>,
    location: impl FnOnce(&RowId) -> String,
) -> Result<Answer, Problem> {
    call.access.require_write(table.name())?;
    let condition = preconditions::read(call.head.headers())?;
    let (body, lease) = call.body.object().await?;
    let (key, row) = match key {
        Some(key) => {
            let id = table.row(key);
            let row = bodies::whole(&id, body).await?;
            (Some(id.key), row)
        }
        None => bodies::new(table.keys(), table.is_products(), body).await?,
    };
    let (store, name, sent) = (call.services.store.clone(), table.name().to_owned(), row.clone());
    let (added, lease) = to_the_end(async move { store.insert(&name, key, row, condition).await }, lease).await?;
    let added = match there(added) {
        Ok(added) => added,
        Err(removal) => return Ok(done(removal)),
    };
    let mut answer =
        show_written(call.services, &call.access, (form, StatusCode::CREATED), &table, &sent, &added, lease);
    answer.headers_mut().insert(LOCATION, path(location(&table.row(added.key))));
    Ok(answer)
}

/// Answers a request for one row.
pub(super) async fn read(call: Call<'_>, form: Form, table: &Table, key: Key) -> Result<Answer, Problem> {
    call.access.require_read(table, &key)?;
    let id = RowId::of(table, key);
    let condition = preconditions::read(call.head.headers())?;
    let lease = room_for_rows(call.services).await?;
    let found = call.services.store.get(id.clone()).await?;
    let version = Some(found.version);
    if !(Precondition { unwanted: None, ..condition.clone() }).holds(version) {
        return Err(StoreError::PreconditionFailed(id).into());
    }
    // RFC 9110, §13.2.2: 304 to a client that has this version already.
    let is_new = condition.holds(version);
    Ok(if is_new { show(call.services, form, StatusCode::OK, &found, lease) } else { not_modified(found.version) })
}

/// Answers a request to replace a row whole, or to add it. `location` makes the path of a row, for one that was added under
/// another key: a trigger of its table may change it.
pub(super) async fn put(
    call: Call<'_>,
    form: Form,
    table: WrittenTable,
    key: Key,
    location: impl FnOnce(&RowId) -> String,
) -> Result<Answer, Problem> {
    call.access.require_write(table.name())?;
    let condition = preconditions::read(call.head.headers())?;
    let (body, lease) = call.body.object().await?;
    let id = table.row(key.clone());
    let row = bodies::whole(&id, body).await?;
    let (store, sent) = (call.services.store.clone(), row.clone());
    let ((put, written), lease) = to_the_end(async move { store.put(id, row, condition).await }, lease).await?;
    let status = match put {
        Put::Inserted => StatusCode::CREATED,
        Put::Replaced => StatusCode::OK,
    };
    let written = match there(written) {
        Ok(written) => written,
        Err(removal) => return Ok(done(removal)),
    };
    let mut answer = show_written(call.services, &call.access, (form, status), &table, &sent, &written, lease);
    if status == StatusCode::CREATED && written.key != key {
        answer.headers_mut().insert(LOCATION, path(location(&table.row(written.key))));
    }
    Ok(answer)
}

/// Answers a request to change a part of a row.
pub(super) async fn patch(call: Call<'_>, form: Form, table: &Table, key: Key) -> Result<Answer, Problem> {
    call.access.require_write(&table.name)?;
    // The rest of the row is for readers.
    let may_read = call.access.may_read(table, &key);
    let id = RowId::of(table, key);
    let condition = preconditions::read(call.head.headers())?;
    let (body, lease) = call.body.object().await?;
    let patch = bodies::patch(&id, body).await?;
    let room = room_for_rows(call.services).await?;
    let store = call.services.store.clone();
    let (patched, _) = to_the_end(async move { store.patch(id, patch, condition).await }, lease).await?;
    Ok(match there(patched) {
        Ok(patched) if may_read => show(call.services, form, StatusCode::OK, &patched, room),
        Ok(patched) => done(patched.version),
        Err(removal) => done(removal),
    })
}

/// Answers a request to remove a row.
pub(super) async fn delete(call: Call<'_>, id: RowId) -> Result<Answer, Problem> {
    call.access.require_write(&id.table)?;
    let condition = preconditions::read(call.head.headers())?;
    Ok(done(call.services.store.delete(id, condition).await?))
}

/// Carries out a write to its end, whoever leaves meanwhile: its part of the budget is held as long as the store holds
/// the row.
async fn to_the_end<T: Send + 'static>(
    write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    lease: Lease,
) -> Result<(T, Lease), StoreError> {
    let writing = tokio::spawn(async move { write.await.map(|written| (written, lease)) });
    writing.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

/// Returns the row that was written, or the version of its removal where a trigger has removed it again.
fn there(written: Written) -> Result<Versioned, u64> {
    let Written { key, version, row } = written;
    row.map(|row| Versioned { key, version, row }).ok_or(version)
}

/// Shows a row, which holds the lease until it is taken.
fn show(services: &Services, form: Form, status: StatusCode, row: &Versioned, lease: Lease) -> Answer {
    let mut answer = json(status, body_of_row(services, form, row, lease));
    answer.headers_mut().insert(ETAG, etag(row.version));
    answer
}

/// Shows a row to whoever wrote all of it. What a schema or a trigger has put into it, beside what was sent, is for readers.
fn show_written(
    services: &Services,
    access: &Access,
    (form, status): (Form, StatusCode),
    table: &WrittenTable,
    sent: &Row,
    row: &Versioned,
    lease: Lease,
) -> Answer {
    let may_read = match table {
        _ if row.row == *sent => true,
        WrittenTable::There(table) if table.keys != KeyKind::Any => access.may_read(table, &row.key),
        _ => true,
    };
    if may_read {
        return show(services, form, status, row, lease);
    }
    let mut answer = done(row.version);
    if status == StatusCode::CREATED {
        *answer.status_mut() = status;
    }
    answer
}

fn not_modified(version: u64) -> Answer {
    let mut answer = done(version);
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}

/// Returns the answer of a write that shows nothing but its version, if that is known.
fn done(version: u64) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    if version > 0 {
        answer.headers_mut().insert(ETAG, etag(version));
    }
    answer
}

fn path(path: String) -> HeaderValue {
    HeaderValue::try_from(path).expect("a path is text")
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits between quotes")
}

/// Makes an answer of JSON.
pub(super) fn json(status: StatusCode, body: AnswerBody) -> Answer {
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
