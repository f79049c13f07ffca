//! Rowcast casts every committed change of a product row to every WebSocket that subscribed to that product.
//!
//! The modules, in the order of a change's path:
//!
//! 1. [`model`]: the row, and its changes. [`store`]: the place where it is written; a commit there is a change.
//! 2. [`source`]: the origin of changes. [`ingest`] takes each, has its frame encoded once, and casts it.
//!    [`loader`] reads the rows that the shards do not know.
//! 3. [`fanout`]: the hub, the shards and their indexes, the cores.
//! 4. [`session`]: one reader: its commands, its queue, its heartbeat; pure. [`wire`]: its form on the wire.
//!    [`transport`]: its socket, plain, under TLS or on HTTP/2. [`connection`] joins the three; [`auth`] gives the grant
//!    of its token.
//! 5. [`http`]: the listener, the REST resource, the page, the upgrade.
//! 6. [`watch`]: a reader in a terminal, the other side of the protocol.
//! 7. [`program`]: the command. [`server`]: starts all of it and stops it ([`shutdown`], [`supervisor`]); [`config`], [`open_files`], [`watched_files`],
//!    [`allocator`], [`telemetry`] and [`metrics`] serve it.

#![warn(clippy::print_stderr)] // eprintln! panics where standard error cannot be written; the log does not

pub mod allocator;
pub mod auth;
mod backoff;
pub mod config;
pub mod connection;
pub mod fanout;
pub mod http;
pub mod ingest;
pub mod loader;
pub mod metrics;
pub mod model;
pub mod open_files;
mod pem;
pub mod program;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod transport;
pub mod watch;
pub mod watched_files;
pub mod wire;
