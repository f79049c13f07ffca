//! The path from one change to the sockets of all subscribers of its topic.
//!
//! The [`Hub`] routes a change to the core that owns the topic's shard; the shard's [`SubscriptionIndex`] names the
//! subscribers of each core; every such core gets one message, pushes the frame to its subscribers, and then flushes
//! each of them once. Nothing here knows sockets, HTTP, JSON or a database: a core delivers to a [`Subscriber`].

mod cast_run;
mod core;
mod hub;
mod idle;
mod index;
mod last;
mod memory;
mod message;
mod pace;
mod run;
mod shard;
mod under_way;
mod work;

#[cfg(test)]
pub(crate) use self::core::testing;
pub use self::core::{Core, LAST_VALUES_BYTES_MAX, Reads, Subscriber, TableStandings, Watch};
pub use self::hub::{Hub, Inbox};
pub use self::idle::{count_idle, idle_time};
pub use self::index::{Closing, CoreSubscribers, Keys, SubscriptionIndex};
pub use self::message::{
    Cast, CastRun, Command, Listed, Listing, Loaded, LoadedRow, Operation, Page, PageWish, Place, Pull, Pulled,
    Revocation, Value,
};
pub use self::run::run;

/// A core's number: 0 to the number of cores − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u16);

slotmap::new_key_type! {
    /// A connection on its core: its slot, and the number of times that the slot was used before, so that a message
    /// meant for an earlier connection never reaches a later one.
    pub struct SlotKey;
}

/// A connection, anywhere in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The core that owns it.
    pub core: CoreId,
    /// Its key on that core.
    pub key: SlotKey,
}
