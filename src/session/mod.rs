//! One reader, without socket, clock or runtime: its [`command`]s, its [`queue`], its [`heartbeat`], and why it
//! [`close`]s.

pub mod close;
pub mod command;
pub mod drain;
pub mod heartbeat;
pub mod queue;
