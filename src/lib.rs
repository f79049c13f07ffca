//! Rowcast casts every committed change of a product row to every WebSocket that subscribed to that product.
//!
//! The modules, in the order of a change's path:
//!
//! 1. [`product`]: the row. [`store`]: where it is written; a commit there is a [`change`].
//! 2. [`source`]: where changes come from. [`ingest`] takes each, has its [`frame`] encoded once, and casts it.
//! 3. [`fanout`]: the hub, the shards and their indexes, the cores, the send queues.
//! 4. [`connection`]: one WebSocket, on the codec of [`websocket`], over TCP or [`tls`]; [`auth`] says what its token lets
//!    it read.
//! 5. [`http`]: the listener, the REST resource, the page, the upgrade.
//! 6. [`server`]: starts all of it and stops it ([`shutdown`]); [`config`], [`limits`], [`telemetry`] and [`metrics`] serve
//!    it.

pub mod auth;
pub mod change;
pub mod config;
pub mod connection;
pub mod fanout;
pub mod frame;
pub mod http;
pub mod ingest;
pub mod limits;
pub mod metrics;
pub mod product;
pub mod server;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod websocket;
