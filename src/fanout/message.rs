//! The messages between ingest and the cores, and from core to core.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use super::core::Revoking;
use super::index::Closing;
use super::{ConnectionId, CoreId, Keys, SlotKey};
use crate::auth::Grant;
use crate::model::epoch::Epoch;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Subjects, Topic};
use crate::wire::event_stream;
use crate::wire::frame::{Frame, FrameRun};

/// One change, encoded, for all subscribers of its topic.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The row that changed.
    pub subject: Subject,
    /// The version of the change.
    pub version: u64,
    /// The change as subscribers get it.
    pub frame: Frame,
    /// False if the frame has the topic's id alone, since its row is too large.
    pub is_whole: bool,
    /// True if the topic is gone with it.
    pub is_deletion: bool,
    /// The time at which this process learned that the change is committed.
    pub committed_at: Instant,
}

/// Changes of one topic as subscribers are given them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastRun {
    /// The row that changed.
    pub subject: Subject,
    /// The frame and the version of each change, oldest first.
    pub frames: FrameRun,
    /// The same as events with ids of this epoch, made for the first reader of an event stream and shared by all. Boxed
    /// because most changes have none.
    events: OnceLock<Box<(Option<Epoch>, FrameRun)>>,
}

impl CastRun {
    /// Returns the run of these frames, on changes of this row.
    #[must_use]
    pub const fn new(subject: Subject, frames: FrameRun) -> Self {
        Self { subject, frames, events: OnceLock::new() }
    }

    /// Returns its events, with ids of this epoch: that of all who read the changes of this row.
    pub fn events(&self, epoch: Option<Epoch>) -> Cow<'_, FrameRun> {
        let (its, events) = &**self.events.get_or_init(|| Box::new((epoch, event_stream::rows(epoch, &self.frames))));
        if *its == epoch { Cow::Borrowed(events) } else { Cow::Owned(event_stream::rows(epoch, &self.frames)) }
    }

    /// Returns the version of each change, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[u64] {
        self.frames.versions()
    }
}

/// The action of a command on each of its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Subscribe to it.
    Subscribe,
    /// End the subscription to it.
    Unsubscribe,
    /// Only count whether it is subscribed to.
    Count,
    /// Subscribe to every row of a table, those to come too; the command names none. Carried out once the shards know the
    /// version of each that the store has.
    SubscribeAll {
        /// The table.
        table: TableId,
        /// True if [`Subscriber::listed`](super::Subscriber::listed) is to tell first up to which version they are known:
        /// the connection [lists](super::Core::list) them afterwards.
        lists: bool,
    },
    /// End that, and every other subscription to rows of this table; the command names no topic.
    UnsubscribeAll(TableId),
    /// End the subscriptions that the command's [`Revocation`] does not leave; it names no topic.
    /// [`Subscriber::revoked`](super::Subscriber::revoked) tells the rows before the command is applied.
    Revoke,
}

/// The subscriptions that a connection may keep.
#[derive(Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Those to rows that this grant reads.
    pub grant: Arc<Grant>,
    /// The tables of which it is told every row no more. What it was subscribed to by keys stays, if the grant reads it.
    pub wholes: Vec<TableId>,
}

/// A connection's request to the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its number: the answer carries it, and no other command of the connection that is under way has it.
    pub number: u32,
    /// The action on each topic.
    pub operation: Operation,
    /// The topics; one that is repeated counts once where it makes a difference.
    pub topics: Subjects,
    /// Of a subscription to topics of which versions are known, the version of each; 0: none. The topics whose
    /// newest version is another are told before the command is applied
    /// ([`Subscriber::differ`](super::Subscriber::differ)). Empty for every other command.
    pub known: Vec<u64>,
    /// Of a command that revokes.
    pub revocation: Option<Arc<Revocation>>,
}

impl Command {
    /// Returns a command that knows no versions.
    #[must_use]
    pub const fn new(number: u32, operation: Operation, topics: Subjects) -> Self {
        Self { number, operation, topics, known: Vec::new(), revocation: None }
    }
}

/// A connection's question for the newest state of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The row.
    pub subject: Subject,
    /// The version that the reader knows; 0: none.
    pub known: u64,
    /// A number of the connection's choice, which the answer carries.
    pub number: u32,
}

/// The answer to a [`Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The row.
    pub subject: Subject,
    /// The pull's number.
    pub number: u32,
    /// The newest state.
    pub value: Value,
}

/// The newest state of a topic, for a reader that may know a version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The version that the reader knows is the newest.
    Same,
    /// This is newer than what the reader knows: a change, a deletion among them, or a row.
    Present {
        /// Its version.
        version: u64,
        /// It, as subscribers get it.
        frame: Frame,
    },
    /// The row does not exist.
    Absent {
        /// The version of its deletion; 0: not known.
        version: u64,
    },
    /// The reader claims a version that a read after its pull did not reach: what it knows is of another history.
    Unreached,
    /// The connection is not subscribed to the topic, or it pulled it once more before it had the answer.
    Ended,
}

/// A row that the loader read for a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The topic.
    pub topic: Topic,
    /// The number with which the shard wished for it.
    pub number: u32,
    /// The result.
    pub row: LoadedRow,
}

/// The result of reading one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadedRow {
    /// It exists.
    Present {
        /// Its version.
        version: u64,
        /// The row as subscribers get it.
        frame: Frame,
    },
    /// It does not exist.
    Absent {
        /// The version of its deletion; 0: not known.
        version: u64,
    },
    /// It exists, and its row cannot be read.
    Unreadable {
        /// Its version; 0: not known.
        version: u64,
    },
}

/// A change's right to be under way between ingest and the last core that delivers it; dropping it gives its units
/// back.
#[derive(Debug)]
pub(super) struct CastPermit {
    pub(super) committed_at: Instant,
    pub(super) _units: OwnedSemaphorePermit,
}

/// An epoch of versions, with its number in this process. What is told of an older one means nothing where the versions
/// of its table began anew since ([`Beginning`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// 0: none is known.
    pub(super) number: u32,
    pub(super) epoch: Option<Epoch>,
}

/// The beginning of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The number of the history that began with it.
    pub(super) number: u32,
    /// The table whose versions are of it; `None`: all are.
    pub(super) table: Option<TableId>,
    pub(super) epoch: Epoch,
}

/// The source's word on one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableTerm {
    pub(super) table: TableId,
    /// Its number among the words on all tables.
    pub(super) number: u32,
    pub(super) history: History,
    pub(super) word: TableWord,
}

/// What a source says of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableWord {
    /// Changes may be missed from here on.
    Lost,
    /// Changes may have been missed until here.
    Missed,
    /// The same, and the history of its versions is another.
    Began,
}

/// A time in which every change comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Term {
    /// 0: none has begun.
    pub(super) number: u32,
    pub(super) history: History,
}

/// A run on its way to its subscribers, with the permits of its changes.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) run: CastRun,
    pub(super) history: History,
    /// True if the topic is gone with the newest of its changes.
    pub(super) is_gone: bool,
    pub(super) permits: SmallVec<[CastPermit; 1]>,
}

/// The work that a core's shards are still to do for a connection.
#[derive(Debug)]
pub(super) enum Job {
    /// A command, from its `next` topic on; `changed` is how many topics before that were new, ended or counted
    /// here. The versions that it knows are of this history.
    Command { command: Command, next: usize, changed: usize, history: History },
    /// Pulls, from the `next` one on; the versions that they know are of this history.
    Pulls { pulls: Vec<Pull>, next: usize, history: History },
    /// A page of the list of all topics.
    List(PageWish),
    /// The end of the subscriptions that a new grant does not cover.
    Revoke(Revoking),
    /// The end of all its subscriptions, from this shard of the core on, of which so many have ended: of a connection that
    /// is gone, or by the command with this number.
    Close { shard: usize, closing: Closing, ended: usize, command: Option<(u32, TableId)> },
}

impl Job {
    pub(super) const fn command(command: Command, history: History) -> Self {
        Self::Command { command, next: 0, changed: 0, history }
    }

    pub(super) const fn pulls(pulls: Vec<Pull>, history: History) -> Self {
        Self::Pulls { pulls, next: 0, history }
    }

    pub(super) fn close(command: Option<(u32, TableId)>) -> Self {
        Self::Close { shard: 0, closing: Closing::default(), ended: 0, command }
    }
}

/// A job for the shards of another core.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) connection: ConnectionId,
    pub(super) job: Job,
}

/// The shards' refusal of a command: the store has more rows than may be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// The result of a command's part: the number of its topics that were new, ended or counted.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) key: SlotKey,
    pub(super) number: u32,
    pub(super) topics: Result<usize, Refused>,
}

/// Topics of a command whose newest versions are not those that its connection knows.
#[derive(Debug)]
pub(super) struct Differing {
    pub(super) key: SlotKey,
    /// The command's.
    pub(super) number: u32,
    pub(super) topics: Vec<Topic>,
}

/// A place in the list of all topics: shard after shard, each by rising ids. The default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The shard.
    pub shard: usize,
    /// The topic before the place, if it is not the beginning of the shard.
    pub after: Option<Topic>,
}

/// A connection's question for the next topics of the list of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWish {
    /// The table.
    pub table: TableId,
    /// The place from which on it has not been told.
    pub from: Place,
    /// A number of the connection's choice, which the answer carries.
    pub number: u32,
}

/// The word of the shards to a connection that lists all topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// The greatest version of any row of a table that the shards of one core know; 0: none is known.
    Newest(TableId, u64),
    /// The answer to a [`PageWish`].
    Page(Page),
}

/// Topics that follow each other in the list of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The question's number.
    pub number: u32,
    /// Those that may exist, perhaps none.
    pub topics: Subjects,
    /// The place of the next page; `None` if this is the last.
    pub next: Option<Place>,
}

/// A part of the store's rows, for the shards of a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Topics whose rows exist, each with its version.
    Rows(Vec<(Subject, u64)>),
    /// There are no more.
    End,
    /// There are more than may be listed.
    TooMany,
}

/// A message in a core's inbox.
#[derive(Debug)]
pub(super) enum Message {
    /// To the core of the topic's shard: find the subscribers.
    Cast(Cast, CastPermit),
    /// To a core with subscribers: deliver.
    Deliver(Arc<Delivery>, Arc<Keys>),
    /// To a core with shards of the topics, from the connections' core; each connection's orders in their order.
    Orders(Vec<Order>),
    /// To the connections' core, before the answers to their commands.
    Differ(Vec<Differing>),
    /// To the connections' core, before the answers to the commands that revoked.
    Revoked(Vec<(SlotKey, Subjects)>),
    /// To the connections' core.
    Answers(Vec<Answer>),
    /// To all cores: changes may have been missed.
    Gap,
    /// To all cores: from here on every change comes.
    Began(Term),
    /// To all cores: the source's word on one table.
    Table(TableTerm),
    /// To all cores: this core has told all that was missed before the term with this number.
    Healed(CoreId, u32),
    /// To all cores: this core has told all that was missed of a table before the word with this number.
    TableHealed(CoreId, TableId, u32),
    /// To the connections' core, from one with shards that are in this history.
    Pulled(History, Vec<(SlotKey, Pulled)>),
    /// To the core that wished for them.
    Loaded(Vec<Loaded>),
    /// To a core whose connections subscribe to every topic: for its watch with this number.
    Listing(TableId, u32, Listing),
    /// To the connections' core: before the answer to their command, or for a page that they wished for.
    Listed(Vec<(SlotKey, Listed)>),
    /// To the core itself: some work waits for its next turn.
    Turn,
}
