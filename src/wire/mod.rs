//! How a message looks on the wire: [`frame`], what goes out, and [`websocket`], RFC 6455 without I/O.

pub mod frame;
pub mod websocket;
