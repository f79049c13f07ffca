//! From one change to the sockets of everybody who subscribed to its product.
//!
//! The [`Hub`] routes a change to the core that owns the product's shard; the shard's [`SubscriptionIndex`] names the
//! subscribers of each core; every such core gets one message, pushes the frame to its subscribers, and then flushes
//! each of them once. Nothing here knows sockets, HTTP, JSON or a database: what a core delivers to is a
//! [`Subscriber`].

mod cast_run;
mod core;
mod hub;
mod idle;
mod index;
mod pace;
mod slots;

pub use self::core::{Applied, Core, Operation, Subscriber, run};
pub use self::hub::{Hub, Inbox};
pub use self::idle::count_idle;
pub use self::index::{CoreSubscribers, Keys, SubscriptionIndex};

/// Which core: 0 to the number of cores − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u16);

/// A connection on its core: the slot that it lives in, and how often that slot was used before, so that a message
/// meant for an earlier connection never reaches a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotKey {
    /// Index of the slot.
    pub slot: u32,
    /// How many connections had the slot before this one (modulo 2^32).
    pub generation: u32,
}

/// A connection, anywhere in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The core that owns it.
    pub core: CoreId,
    /// Where on that core.
    pub key: SlotKey,
}
