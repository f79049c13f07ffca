//! The form of a message on the wire: [`frame`], the server's frames, [`event_stream`], the same as events, and
//! [`websocket`], RFC 6455 without I/O.

pub mod event_stream;
pub mod frame;
pub mod websocket;
