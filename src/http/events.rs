//! `GET /events`: what a request for an event stream asks for, and the head of its answer.
//!
//! The query is the subscription: `?productIDs=1,2`, `?productIDs=*`, or `?table=orders&key=17&key=a-9` and
//! `?table=orders&key=*`. It is a command with `"snapshot":true` and the id [`REPLY`].

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::stream;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::Access;
use super::problem::Problem;
use super::{Answer, AnswerBody, Services};
use crate::fanout::Operation;
use crate::model::epoch::Epoch;
use crate::model::product::ProductId;
use crate::model::table::{Table, TableId, Tables};
use crate::model::topic::Subjects;
use crate::session::command::{Command, ReplyId, States};
use crate::session::refusal::Why;
use crate::wire::event_stream;

/// The id of the one command of an event stream, which its reply carries.
const REPLY: &str = "events";
/// The header in which `EventSource` names the last event that it had.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// nginx passes each event on as it comes, rather than many at a time.
const NOT_BUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Returns the head of the answer, whose length nobody knows.
pub(super) fn answer() -> Answer {
    let mut answer = Answer::new(AnswerBody::pieces(stream::empty()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE));
    answer.headers_mut().extend([NOT_BUFFERED]);
    answer
}

/// Reads the subscription that a request asks for, of at most so many rows, some of which it may read.
///
/// # Errors
/// 400, which names the parameter; 403 if nothing of it may be read; 404 for a table that is not there.
pub(super) fn command(
    services: &Services,
    head: &Request<()>,
    access: &Access,
    rows_max: usize,
) -> Result<Command, Problem> {
    let tables = services.hub.tables();
    let query = Query::parse(head.uri().query().unwrap_or(""))?;
    let rows = query.rows(tables, access)?;
    rows.require_read(tables, access)?;
    let known = last_event(head.headers());
    let (operation, topics, states) = match rows {
        Rows::All(table) => {
            let operation = Operation::SubscribeAll { table: table.id, lists: true };
            (operation, Subjects::default(), States::Everything { newest: 0, epoch: None })
        }
        Rows::Named(topics) if topics.len() > rows_max => {
            let detail = format!("one event stream has at most {rows_max} rows; ask for some of them on another");
            return Err(Problem::bad_request(detail));
        }
        Rows::Named(topics) => {
            // One version says nothing of other rows.
            let states = match known.filter(|_| topics.len() == 1) {
                Some((epoch, version)) => States::Since { versions: vec![version], epoch: Some(epoch) },
                None => States::All { epoch: None },
            };
            (Operation::Subscribe, topics, states)
        }
    };
    Ok(Command { reply: Some(ReplyId::Text(REPLY.to_owned())), operation, topics, states: Some(states) })
}

/// Returns the epoch and the version of the last event that a reader had. What is no id of an event says nothing.
fn last_event(headers: &HeaderMap) -> Option<(Epoch, u64)> {
    let (epoch, version) = event_stream::read_id(headers.get(LAST_EVENT_ID)?.to_str().ok()?)?;
    ProductId::new(version).map(|_| (epoch, version))
}

/// The parameters of a request.
#[derive(Debug, Default, PartialEq)]
struct Query<'a> {
    /// The values of `productIDs`, as they stand.
    products: Vec<Cow<'a, str>>,
    table: Option<Cow<'a, str>>,
    keys: Vec<Cow<'a, str>>,
}

/// The rows that a request asks for.
enum Rows {
    /// All of a table.
    All(Arc<Table>),
    /// Each once, and at least one.
    Named(Subjects),
}

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Result<Self, Problem> {
        // What follows reads U+FFFD in the place of what is no text, and that is another key.
        if percent_decode_str(query).decode_utf8().is_err() {
            return Err(Problem::bad_request("the query is no text in UTF-8"));
        }
        let mut found = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "productIDs" => found.products.push(value),
                "key" => found.keys.push(value),
                "table" if found.table.is_some() => return Err(Problem::bad_request("table is given once")),
                "table" => found.table = Some(value),
                // `access` has read it.
                "token" => {}
                name => {
                    let detail = format!("/events knows productIDs, or table and key; not {name:?}");
                    return Err(Problem::bad_request(detail));
                }
            }
        }
        Ok(found)
    }

    fn rows(&self, tables: &Tables, access: &Access) -> Result<Rows, Problem> {
        match &self.table {
            None if !self.keys.is_empty() => Err(Problem::bad_request("key names rows of a table: give table too")),
            None => self.products(tables),
            Some(_) if !self.products.is_empty() => {
                Err(Problem::bad_request("name either products by productIDs, or rows of a table by table and key"))
            }
            Some(name) => {
                access.require_table(name)?;
                let table = tables.find(name).ok_or_else(|| Problem::unknown_table(name))?;
                self.keys(&table, tables).map(|keys| keys.map_or(Rows::All(table), Rows::Named))
            }
        }
    }

    /// Returns the rows of `productIDs`, lists with commas, or the one `*`.
    fn products(&self, tables: &Tables) -> Result<Rows, Problem> {
        const WANTED: &str = "productIDs is a list of product ids like 1,2, or *";
        if self.products.is_empty() {
            return Err(Problem::bad_request("name products by productIDs=1,2, or rows by table=orders&key=17"));
        }
        let Some(table) = tables.products() else {
            return Err(Problem::new(StatusCode::NOT_FOUND, Why::no_products(tables).to_string()));
        };
        if self.products == ["*"] {
            return Ok(Rows::All(table));
        }
        let ids = self.products.iter().flat_map(|list| list.split(','));
        let topics = ids.map(|text| {
            let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
            let id = number.and_then(ProductId::new).map(ProductId::subject);
            id.ok_or_else(|| Problem::bad_request(format!("{WANTED}; {text:?} is none")))
        });
        Ok(Rows::Named(topics.collect::<Result<Subjects, _>>()?.once_each(Vec::new()).0))
    }

    /// Returns the rows of `key`; `None` for the one `*`, which is all.
    fn keys(&self, table: &Table, tables: &Tables) -> Result<Option<Subjects>, Problem> {
        if self.keys.is_empty() {
            return Err(Problem::bad_request("name rows by key=17&key=a-9, or all of the table by key=*"));
        }
        if self.keys == ["*"] {
            return Ok(None);
        }
        let topics = self.keys.iter().map(|key| {
            let key = table.keys.of_text(key).map_err(|error| Problem::bad_request(format!("key: {error}")))?;
            Ok(tables.subject(table.id, key))
        });
        Ok(Some(topics.collect::<Result<Subjects, Problem>>()?.once_each(Vec::new()).0))
    }
}

impl Rows {
    /// Lets a request on if it may read some of the rows; the reply says which it may not.
    fn require_read(&self, tables: &Tables, access: &Access) -> Result<(), Problem> {
        match self {
            Self::All(table) => access.require_read_some(table),
            Self::Named(topics) => {
                let table = tables.get(topics.topics().first().map_or(TableId::PRODUCTS, |topic| topic.table()));
                if topics.iter().any(|subject| access.may_read(&table, &subject.key())) {
                    return Ok(());
                }
                access.require_read(&table, &topics.get(0).key())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_products_or_rows_of_a_table() {
        let query = |text| Query::parse(text).map_err(|problem| format!("{problem:?}"));
        let texts = |texts: &[&str]| texts.iter().map(|text| Cow::Owned((*text).to_owned())).collect::<Vec<_>>();
        let found = query("productIDs=1,2&productIDs=3&token=x").unwrap();
        assert_eq!(found, Query { products: texts(&["1,2", "3"]), ..Query::default() });
        let found = query("table=a.b&key=17&key=a%2Cb&key=").unwrap();
        assert_eq!((found.table, found.keys), (Some("a.b".into()), texts(&["17", "a,b", ""])));
        for (bad, complaint) in [
            ("productIDs=1&limit=3", "limit"),
            ("table=a&table=b", "table is given once"),
            ("table=a&key=%FF", "UTF-8"),
        ] {
            assert!(query(bad).unwrap_err().contains(complaint), "{bad}: {:?}", query(bad));
        }
    }

    #[test]
    fn only_the_id_of_an_event_spares_a_row() {
        let last = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            last_event(&headers).map(|(epoch, version)| (epoch.to_string(), version))
        };
        assert_eq!(last("k3-42"), Some(("k3".to_owned(), 42)));
        for value in ["", "42", "k3", "k3-9007199254740992", "k3-1\u{e9}"] {
            assert_eq!(last(value), None, "{value}");
        }
    }
}
