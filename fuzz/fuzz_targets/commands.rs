//! A text message: what simd-json makes of it must be what serde_json makes of it, and every answer must be JSON.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::fanout::Operation;
use rowcast::model::epoch::Epoch;
use rowcast::model::key::{BadKey, KeyKind};
use rowcast::model::product::ProductId;
use rowcast::model::table::{Table, TableId, Tables};
use rowcast::model::topic::{Subject, Subjects};
use rowcast::session::answer;
use rowcast::session::command::{self, Command, ReplyId, Request, States, Token};
use rowcast::session::refusal::{NamedBy, Refusal, Why};
use rowcast_fuzz::within;
use serde_json::{Map, Value};
use simd_json::Buffers;

/// Products, and a table with keys of every kind.
static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let tables = Tables::with_key([1, 2]);
    tables.add("orders", KeyKind::Any).expect("there is room");
    tables
});

thread_local! {
    /// Reused from message to message, as a core does.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

fuzz_target!(|data: &[u8]| -> Corpus {
    // The codec hands over nothing else.
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    // simd-json takes -0 for the integer, serde_json for a fraction; both may.
    if text.split("-0").skip(1).any(|rest| !rest.starts_with(['.', 'e', 'E'])) {
        return Corpus::Reject;
    }
    let fresh = command::parse(&mut data.to_vec(), &mut Buffers::default(), &TABLES, None);
    let mut working_space = data.to_vec();
    // The first term is for the reused buffers, which grow by doubling: this input pays for those before it as well.
    let bytes_max = 64 * 1024 + 64 * data.len();
    let parsed = within(bytes_max, || {
        BUFFERS.with_borrow_mut(|buffers| command::parse(&mut working_space, buffers, &TABLES, None))
    });
    assert_eq!(parsed, fresh, "what was read before makes a difference");
    let expected = second_reading(text);
    assert!(alike(&parsed, &expected), "simd-json: {parsed:?}\nserde_json: {expected:?}");
    check_answers(&parsed, bytes_max);
    Corpus::Keep
});

/// The same by way of `serde_json::Value`.
fn second_reading(text: &str) -> Result<Request, Refusal> {
    let refuse = |reply, why| Err(Refusal { reply, why });
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return refuse(None, Why::NotAnObject) };
    let reply = match fields.get("id") {
        None => None,
        Some(Value::String(text)) => Some(ReplyId::Text(text.clone())),
        Some(Value::Number(number)) => Some(match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => ReplyId::Unsigned(number),
            (None, Some(number)) => ReplyId::Signed(number),
            (None, None) => ReplyId::Float(number.as_f64().expect("it is one of the three")),
        }),
        Some(_) => return refuse(None, Why::BadId),
    };
    let operation = match fields.get("command") {
        Some(Value::String(command)) if command == "subscribe" => Operation::Subscribe,
        Some(Value::String(command)) if command == "unsubscribe" => Operation::Unsubscribe,
        Some(Value::String(command)) if command == "authorize" => {
            let token = fields.get("token").and_then(Value::as_str).map(|token| Token(token.to_owned()));
            return Ok(Request::Authorize { reply, token });
        }
        _ => return refuse(reply, Why::UnknownCommand),
    };
    let (table, listed, none) = match (fields.get("table"), fields.get("keys"), fields.get("productIDs")) {
        (None, None, ids) => (TABLES.get(TableId::PRODUCTS), ids, Why::NoProducts),
        (Some(Value::String(name)), keys, None) => match TABLES.find(name) {
            Some(table) => (table, keys, Why::NoKeys),
            None => return refuse(reply, Why::unknown_table(name)),
        },
        (Some(Value::String(_)), _, Some(_)) => return refuse(reply, Why::TwoTables),
        _ => return refuse(reply, Why::NoTable),
    };
    let is_by_id = fields.contains_key("productIDs");
    let named_by = if is_by_id { NamedBy::ProductIds } else { NamedBy::Keys };
    let keys = match listed {
        Some(Value::Array(keys)) => keys,
        Some(Value::String(all)) if all == "*" => {
            return everything(&fields, (table.id, named_by), operation, reply.clone())
                .map(Request::Rows)
                .or_else(|why| refuse(reply, why));
        }
        _ => return refuse(reply, none),
    };
    let mut topics = Subjects::default();
    for (place, key) in keys.iter().enumerate() {
        match subject(&table, key, is_by_id) {
            Ok(subject) => topics.push(subject),
            Err(_) if is_by_id => return refuse(reply, Why::BadProduct(place)),
            Err(why) => return refuse(reply, Why::BadKey(place, why)),
        }
    }
    let states = match operation {
        Operation::Subscribe => match states(&fields, topics.len(), named_by) {
            Ok(states) => states,
            Err(why) => return refuse(reply, why),
        },
        _ => None,
    };
    Ok(Request::Rows(Command { reply, operation, topics, states }))
}

/// The row that a key names.
fn subject(table: &Table, key: &Value, is_by_id: bool) -> Result<Subject, BadKey> {
    let key = match key {
        Value::String(text) if !is_by_id => table.keys.of_text(text)?,
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            table.keys.of_number(number.as_i64().unwrap_or(i64::MAX))?
        }
        _ => return Err(BadKey::NoKey),
    };
    Ok(TABLES.subject(table.id, key))
}

/// A command that is for every row of a table.
fn everything(
    fields: &Map<String, Value>,
    (table, named_by): (TableId, NamedBy),
    operation: Operation,
    reply: Option<ReplyId>,
) -> Result<Command, Why> {
    let topics = Subjects::default();
    if operation == Operation::Unsubscribe {
        return Ok(Command { reply, operation: Operation::UnsubscribeAll(table), topics, states: None });
    }
    let (lists, epoch) = (is_snapshot(fields)?, epoch(fields)?);
    if fields.contains_key("versions") {
        return Err(Why::BadVersions(named_by));
    }
    let newest = match fields.get("newest") {
        None => 0,
        Some(newest) => newest.as_u64().filter(|&newest| newest <= ProductId::MAX.get()).ok_or(Why::BadNewest)?,
    };
    let states = lists.then_some(States::Everything { newest, epoch });
    Ok(Command { reply, operation: Operation::SubscribeAll { table, lists }, topics, states })
}

fn is_snapshot(fields: &Map<String, Value>) -> Result<bool, Why> {
    match fields.get("snapshot") {
        None => Ok(false),
        Some(Value::Bool(is_snapshot)) => Ok(*is_snapshot),
        Some(_) => Err(Why::BadSnapshot),
    }
}

fn epoch(fields: &Map<String, Value>) -> Result<Option<Epoch>, Why> {
    match fields.get("epoch") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(text.parse().ok()),
        Some(_) => Err(Why::BadEpoch),
    }
}

/// The states that a subscription to so many products asks for.
fn states(fields: &Map<String, Value>, products: usize, named_by: NamedBy) -> Result<Option<States>, Why> {
    let (is_snapshot, epoch) = (is_snapshot(fields)?, epoch(fields)?);
    let versions = match fields.get("versions") {
        None => return Ok(is_snapshot.then_some(States::All { epoch })),
        Some(Value::Array(versions)) if versions.len() == products && !is_snapshot => versions,
        Some(_) => return Err(Why::BadVersions(named_by)),
    };
    let version = |(place, version): (usize, &Value)| {
        let version = version.as_u64().filter(|&version| version <= ProductId::MAX.get());
        version.ok_or(Why::BadVersion(place))
    };
    let versions = versions.iter().enumerate().map(version).collect::<Result<_, _>>()?;
    Ok(Some(States::Since { versions, epoch }))
}

/// Whether both say the same; of fractions, which have many digits, nearly the same.
fn alike(one: &Result<Request, Refusal>, other: &Result<Request, Refusal>) -> bool {
    let near = |one: &Option<ReplyId>, other: &Option<ReplyId>| match (one, other) {
        (Some(ReplyId::Float(one)), Some(ReplyId::Float(other))) => {
            one == other || (one - other).abs() <= one.abs() * 1e-15
        }
        _ => one == other,
    };
    match (one, other) {
        (Ok(Request::Authorize { reply: one, token }), Ok(Request::Authorize { reply: other, token: its })) => {
            near(one, other) && token == its
        }
        (Ok(Request::Rows(one)), Ok(Request::Rows(other))) => {
            near(&one.reply, &other.reply)
                && one.operation == other.operation
                && (&one.topics, &one.states) == (&other.topics, &other.states)
        }
        (Err(one), Err(other)) => near(&one.reply, &other.reply) && one.why == other.why,
        _ => false,
    }
}

fn check_answers(parsed: &Result<Request, Refusal>, bytes_max: usize) {
    let (reply, ok, frame) = match parsed {
        Ok(Request::Rows(Command { reply: None, .. }) | Request::Authorize { reply: None, .. }) => return,
        Ok(Request::Rows(Command { reply: Some(reply), .. }) | Request::Authorize { reply: Some(reply), .. }) => {
            (Some(reply), true, within(bytes_max, || answer::accepted(reply, 7)))
        }
        Err(refusal) => (refusal.reply.as_ref(), false, within(bytes_max, || answer::refused(refusal))),
    };
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let answer: Value = serde_json::from_slice(&frame[head..]).expect("an answer is JSON");
    assert_eq!(answer.get("reply").is_some(), reply.is_some());
    match reply {
        Some(ReplyId::Text(text)) => assert_eq!(answer["reply"], text.as_str()),
        Some(ReplyId::Unsigned(number)) => assert_eq!(answer["reply"], *number),
        Some(ReplyId::Signed(number)) => assert_eq!(answer["reply"], *number),
        Some(ReplyId::Float(number)) => {
            let came = answer["reply"].as_f64().expect("a number comes back as a number");
            assert!((came - number).abs() <= number.abs() * 1e-15, "{number} came back as {came}");
        }
        None => {}
    }
    if reply.is_some() {
        assert_eq!(answer["ok"], ok);
    }
    assert_eq!(answer["error"].is_string(), !ok);
}
