//! The form of a message on the wire: [`frame`], the server's frames, and [`websocket`], RFC 6455 without I/O.

pub mod frame;
pub mod websocket;
