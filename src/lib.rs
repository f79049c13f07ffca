//! Rowcast casts every committed change of a product row to every WebSocket that subscribed to that product.
//!
//! The modules, in the order of a change's path:
//! [`product`] → [`store`] (where it is committed) → [`source`] (where the change comes from) → [`change`] → [`frame`]
//! (encoded once) → [`fanout`] (to its subscribers).

pub mod change;
pub mod connection;
pub mod fanout;
pub mod frame;
pub mod metrics;
pub mod product;
pub mod source;
pub mod store;
pub mod websocket;
