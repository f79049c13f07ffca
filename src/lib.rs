//! Rowcast casts every committed change of a product row to every WebSocket that subscribed to that product.
//!
//! The modules, in the order of a change's path:
//! [`product`] → [`store`] (where it is committed) → [`source`] (where the change comes from) → [`change`] → [`frame`]
//! (encoded once) → [`fanout`] (to its subscribers).

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
pub mod websocket;
