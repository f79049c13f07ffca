//! Rowcast casts every committed change of a product row to every WebSocket that subscribed to that product.
//!
//! The modules, in the order of a change's path:
//! [`product`] → [`store`] (where it is committed) → [`source`] (where the change comes from) → [`change`].

pub mod change;
pub mod product;
pub mod source;
pub mod store;
