//! The commands of clients, in JSON: pure functions.
//!
//! ```json
//! {"command":"subscribe","productIDs":[1,2,3],"id":"optional, comes back in the reply"}
//! {"command":"subscribe","productIDs":[1,2,3],"snapshot":true}
//! {"command":"subscribe","productIDs":[1,2,3],"versions":[42,0,7],"epoch":"k3x…"}
//! {"command":"subscribe","productIDs":"*","snapshot":true,"epoch":"k3x…","newest":412}
//! {"command":"subscribe","table":"orders","keys":[17,"a-9"],"snapshot":true}
//! {"command":"authorize","token":"eyJ…"}
//! ```

use std::fmt;
use std::sync::Arc;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::refusal::{NamedBy, Refusal, Why};
use crate::auth::Grant;
use crate::fanout::Operation;
use crate::model::epoch::Epoch;
use crate::model::product::ProductId;
use crate::model::table::{Table, TableId, Tables};
use crate::model::topic::{Subject, Subjects};

/// A client's message.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// One on rows.
    Rows(Command),
    /// Another token.
    Authorize {
        /// If present, the client wants a reply that carries it.
        reply: Option<ReplyId>,
        /// The token, if it is a string.
        token: Option<Token>,
    },
}

/// A token as it came, of any length, which nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A client's request on rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// If present, the client wants a reply that carries it.
    pub reply: Option<ReplyId>,
    /// Subscribe or unsubscribe.
    pub operation: Operation,
    /// The rows, as listed, repetitions included.
    pub topics: Subjects,
    /// The states of its products that it asks for first, if any.
    pub states: Option<States>,
}

impl Command {
    /// Leaves each row once, with the greatest of its versions.
    pub fn drop_repetitions(&mut self) {
        let topics = std::mem::take(&mut self.topics);
        let none = &mut Vec::new();
        let versions = match &mut self.states {
            Some(States::Since { versions, .. }) => versions,
            _ => none,
        };
        (self.topics, *versions) = topics.once_each(std::mem::take(versions));
    }
}

/// The states of its products that a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum States {
    /// All of them.
    All {
        /// The epoch that the reader keeps of their table, if it is one that a store may have.
        epoch: Option<Epoch>,
    },
    /// Those that differ from what the reader knows.
    Since {
        /// The version of each of the command's products, 0 for none.
        versions: Vec<u64>,
        /// The epoch of these versions, if it is one that a store may have.
        epoch: Option<Epoch>,
    },
    /// Every product, to a reader that knows versions up to this one of this epoch.
    Everything {
        /// The greatest version that it knows; 0: none.
        newest: u64,
        /// As above.
        epoch: Option<Epoch>,
    },
}

impl States {
    /// Returns the epoch that the reader keeps of the table, though it may know no version of it.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::All { epoch } | Self::Since { epoch, .. } | Self::Everything { epoch, .. } => *epoch,
        }
    }
}

/// A client's name for its command, sent back as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyId {
    /// A non-negative integer.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
}

/// The most products that an answer names of those that may not be read.
const FORBIDDEN_NAMED_MAX: usize = 10;

/// Takes the products that `grant` does not let its bearer read, with their versions, out of a command that subscribes;
/// returns `None` if there are none.
pub fn withhold(command: &mut Command, grant: &Grant, tables: &Tables) -> Option<Why> {
    if command.operation != Operation::Subscribe {
        return None;
    }
    // A command is on one table.
    let table = tables.get(command.topics.topics().first()?.table());
    let may_read = |subject: &Subject| grant.may_read_row(&table, &subject.key());
    if let Some(States::Since { versions, .. }) = &mut command.states {
        let mut is_readable = command.topics.iter().map(|subject| may_read(&subject));
        versions.retain(|_| is_readable.next().unwrap_or(false));
    }
    let (readable, forbidden): (Subjects, Subjects) = command.topics.iter().partition(may_read);
    command.topics = readable;
    let (forbidden, _) = forbidden.once_each(Vec::new());
    let more = forbidden.len().saturating_sub(FORBIDDEN_NAMED_MAX);
    let named = forbidden.iter().take(FORBIDDEN_NAMED_MAX).map(|subject| subject.key()).collect::<Vec<_>>();
    (!named.is_empty()).then_some(Why::Forbidden { keys: named, more })
}

/// Reads one text message, which it uses as working space, on rows of these tables. `buffers` are reused from message to
/// message. Of a table on which `grant` gives no rights nothing is said, not even whether there is one; nor are all rows
/// subscribed to of one of which it lets its bearer read none.
///
/// # Errors
/// The refusal to send to the sender; the connection stays.
pub fn parse(
    text: &mut [u8],
    buffers: &mut Buffers,
    tables: &Tables,
    grant: Option<&Grant>,
) -> Result<Request, Refusal> {
    let unread = Refusal { reply: None, why: Why::NotAnObject };
    // The tape of an array of 131,000 numbers, which is no command, would keep the core for 3 ms.
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if text.iter().find(|byte| !is_white(byte)) != Some(&b'{') {
        return Err(unread);
    }
    let tape = simd_json::to_tape_with_buffers(text, buffers).map_err(|_| unread)?;
    let fields = Fields::of(&tape)?;
    let reply = match fields.id {
        None => None,
        Some(node) => Some(reply_id(node).ok_or(Refusal { reply: None, why: Why::BadId })?),
    };
    let refuse = |why| Refusal { reply: reply.clone(), why };
    let operation = match fields.command {
        Some(Node::String("subscribe")) => Operation::Subscribe,
        Some(Node::String("unsubscribe")) => Operation::Unsubscribe,
        Some(Node::String("authorize")) => return Ok(Request::Authorize { token: token(&tape), reply }),
        _ => return Err(refuse(Why::UnknownCommand)),
    };
    let (table, listed) = fields.rows(tables, grant).map_err(refuse)?;
    let nodes = match listed {
        Listed::Everything => {
            let table = table.among(tables);
            return fields.everything(&table, operation, reply.clone(), grant).map(Request::Rows).map_err(refuse);
        }
        Listed::Rows(nodes) => nodes,
        Listed::Other => return Err(refuse(Why::NoKeys)),
    };
    let topics = match table {
        Its::Products => products(nodes),
        Its::Other(table) => rows(nodes, &table, tables),
    };
    let topics = topics.map_err(refuse)?;
    let states = match operation {
        Operation::Subscribe => fields.states(topics.len()).map_err(refuse)?,
        _ => None,
    };
    Ok(Request::Rows(Command { reply, operation, topics, states }))
}

/// Returns the member `token` of a message. Apart, so that those on rows do not pay for it.
#[inline(never)]
fn token(tape: &Tape<'_>) -> Option<Token> {
    let mut rest = tape.0.get(1..)?;
    let mut token = None;
    while let [Node::String(name), value, tail @ ..] = rest {
        let inner = match value {
            Node::Array { count, .. } | Node::Object { count, .. } => *count,
            Node::String(_) | Node::Static(_) => 0,
        };
        if *name == "token" {
            token = if let Node::String(text) = value { Some(Token((*text).to_owned())) } else { None };
        }
        rest = &tail[inner..];
    }
    token
}

/// The table that a command is on.
enum Its {
    /// That of products, by `productIDs`.
    Products,
    /// One that is named.
    Other(Arc<Table>),
}

impl Its {
    #[inline(never)]
    fn among(self, tables: &Tables) -> Arc<Table> {
        match self {
            Self::Products => tables.get(TableId::PRODUCTS),
            Self::Other(table) => table,
        }
    }
}

/// The value of `productIDs` or `keys`.
#[derive(Clone, Copy)]
enum Listed<'t, 'i> {
    Rows(&'t [Node<'i>]),
    Everything,
    /// It means nothing.
    Other,
}

impl<'t, 'i> Listed<'t, 'i> {
    fn of(value: &Node<'i>, elements: &'t [Node<'i>]) -> Self {
        match value {
            Node::Array { .. } => Self::Rows(elements),
            Node::String("*") => Self::Everything,
            _ => Self::Other,
        }
    }
}

/// Reads the elements of `productIDs`.
fn products(nodes: &[Node<'_>]) -> Result<Subjects, Why> {
    // Not collected: a list of results has no room from the start.
    let mut topics = Vec::with_capacity(nodes.len());
    for (place, node) in nodes.iter().enumerate() {
        // No `ok_or`, which would make a reason for each and drop it.
        let Some(id) = product_id(node) else { return Err(Why::BadProduct(place)) };
        topics.push(id.topic());
    }
    Ok(Subjects::from(topics))
}

/// Reads the elements of `keys`.
fn rows(nodes: &[Node<'_>], table: &Table, tables: &Tables) -> Result<Subjects, Why> {
    let subject = |(place, node): (usize, &Node<'_>)| {
        let key = match *node {
            Node::String(text) => table.keys.of_text(text),
            Node::Static(StaticNode::I64(number)) => table.keys.of_number(number),
            // Beyond the greatest of i64, which is beyond what is exact.
            Node::Static(StaticNode::U64(number)) => table.keys.of_number(i64::try_from(number).unwrap_or(i64::MAX)),
            _ => Err(table.keys.complaint()),
        };
        key.map(|key| tables.subject(table.id, key)).map_err(|why| Why::BadKey(place, why))
    };
    nodes.iter().enumerate().map(subject).collect()
}

/// The members of a message that mean something. Others are ignored, so that a newer client can talk to an older
/// server; of a repeated one the last counts, as in JavaScript.
#[derive(Default)]
struct Fields<'t, 'i> {
    command: Option<&'t Node<'i>>,
    id: Option<&'t Node<'i>>,
    /// `productIDs`.
    products: Option<Listed<'t, 'i>>,
    table: Option<&'t Node<'i>>,
    keys: Option<Listed<'t, 'i>>,
    snapshot: Option<&'t Node<'i>>,
    /// `versions`, and its elements if it is an array.
    versions: Option<(&'t Node<'i>, &'t [Node<'i>])>,
    epoch: Option<&'t Node<'i>>,
    newest: Option<&'t Node<'i>>,
}

impl<'t, 'i> Fields<'t, 'i> {
    fn of(tape: &'t Tape<'i>) -> Result<Self, Refusal> {
        let Some((Node::Object { .. }, mut rest)) = tape.0.split_first() else {
            return Err(Refusal { reply: None, why: Why::NotAnObject });
        };
        let mut fields = Self::default();
        while let [Node::String(name), value, tail @ ..] = rest {
            let inner = match value {
                Node::Array { count, .. } | Node::Object { count, .. } => *count,
                Node::String(_) | Node::Static(_) => 0,
            };
            let (elements, after) = tail.split_at(inner);
            match *name {
                "command" => fields.command = Some(value),
                "id" => fields.id = Some(value),
                "productIDs" => fields.products = Some(Listed::of(value, elements)),
                "table" => fields.table = Some(value),
                "keys" => fields.keys = Some(Listed::of(value, elements)),
                "snapshot" => fields.snapshot = Some(value),
                "versions" => fields.versions = Some((value, elements)),
                "epoch" => fields.epoch = Some(value),
                "newest" => fields.newest = Some(value),
                _ => {}
            }
            rest = after;
        }
        Ok(fields)
    }

    /// Returns the member that names the rows.
    fn named_by(&self) -> NamedBy {
        if self.table.is_some() { NamedBy::Keys } else { NamedBy::ProductIds }
    }

    /// Returns the rows that are meant: `productIDs`, or the `keys` of a `table`.
    fn rows(&self, tables: &Tables, grant: Option<&Grant>) -> Result<(Its, Listed<'t, 'i>), Why> {
        let name = match (self.table, self.keys, self.products) {
            (None, None, Some(listed @ (Listed::Rows(_) | Listed::Everything))) => {
                return if tables.products().is_some() {
                    Ok((Its::Products, listed))
                } else {
                    Err(Why::no_products(tables))
                };
            }
            (None, None, _) => return Err(Why::NoProducts),
            (Some(Node::String(name)), _, None) => name,
            (Some(Node::String(_)), _, Some(_)) => return Err(Why::TwoTables),
            _ => return Err(Why::NoTable),
        };
        if grant.is_some_and(|grant| !grant.names(name)) {
            return Err(Why::no_rights(name));
        }
        let table = tables.find(name).ok_or_else(|| Why::unknown_table(name))?;
        let listed = self.keys.filter(|keys| !matches!(keys, Listed::Other)).ok_or(Why::NoKeys)?;
        Ok((Its::Other(table), listed))
    }

    /// Returns the command that is for every row of a table. Apart, so that those that list rows do not pay for it.
    #[inline(never)]
    fn everything(
        &self,
        table: &Table,
        operation: Operation,
        reply: Option<ReplyId>,
        grant: Option<&Grant>,
    ) -> Result<Command, Why> {
        if operation == Operation::Unsubscribe {
            let operation = Operation::UnsubscribeAll(table.id);
            return Ok(Command { reply, operation, topics: Subjects::default(), states: None });
        }
        if grant.is_some_and(|grant| !grant.may_read_some(table)) {
            return Err(Why::nothing_to_read(&table.name));
        }
        let (lists, epoch) = (self.is_snapshot()?, self.epoch()?);
        if self.versions.is_some() {
            return Err(Why::BadVersions(self.named_by()));
        }
        let newest = match self.newest {
            None => 0,
            Some(node) => integer(node).filter(|newest| ProductId::new(*newest).is_some()).ok_or(Why::BadNewest)?,
        };
        let states = lists.then_some(States::Everything { newest, epoch });
        Ok(Command {
            reply,
            operation: Operation::SubscribeAll { table: table.id, lists },
            topics: Subjects::default(),
            states,
        })
    }

    fn is_snapshot(&self) -> Result<bool, Why> {
        match self.snapshot {
            None => Ok(false),
            Some(Node::Static(StaticNode::Bool(is_snapshot))) => Ok(*is_snapshot),
            Some(_) => Err(Why::BadSnapshot),
        }
    }

    /// Returns the epoch. One that no store can have is one of another history.
    fn epoch(&self) -> Result<Option<Epoch>, Why> {
        match self.epoch {
            None => Ok(None),
            Some(Node::String(text)) => Ok(text.parse().ok()),
            Some(_) => Err(Why::BadEpoch),
        }
    }

    /// Returns the states that are asked for, of so many products.
    fn states(&self, products: usize) -> Result<Option<States>, Why> {
        let (is_snapshot, epoch) = (self.is_snapshot()?, self.epoch()?);
        let nodes = match self.versions {
            None => return Ok(is_snapshot.then_some(States::All { epoch })),
            Some((Node::Array { .. }, nodes)) if nodes.len() == products && !is_snapshot => nodes,
            Some(_) => return Err(Why::BadVersions(self.named_by())),
        };
        let version = |(place, node)| integer(node).ok_or(Why::BadVersion(place));
        let versions = nodes.iter().enumerate().map(version).collect::<Result<_, _>>()?;
        Ok(Some(States::Since { versions, epoch }))
    }
}

fn reply_id(node: &Node<'_>) -> Option<ReplyId> {
    match *node {
        Node::String(text) => Some(ReplyId::Text(text.to_owned())),
        Node::Static(StaticNode::U64(number)) => Some(ReplyId::Unsigned(number)),
        Node::Static(StaticNode::I64(number)) => {
            Some(u64::try_from(number).map_or(ReplyId::Signed(number), ReplyId::Unsigned))
        }
        Node::Static(StaticNode::F64(number)) => Some(ReplyId::Float(number)),
        _ => None,
    }
}

fn product_id(node: &Node<'_>) -> Option<ProductId> {
    integer(node).and_then(ProductId::new)
}

/// Returns an integer that a JavaScript number holds exactly, as ids and versions are.
fn integer(node: &Node<'_>) -> Option<u64> {
    let number = match *node {
        Node::Static(StaticNode::U64(number)) => number,
        Node::Static(StaticNode::I64(number)) => u64::try_from(number).ok()?,
        _ => return None,
    };
    (number <= ProductId::MAX.get()).then_some(number)
}

#[cfg(test)]
mod tests;
