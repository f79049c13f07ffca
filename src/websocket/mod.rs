//! RFC 6455 without I/O: the [`Decoder`] for what clients send, and the [`handshake`]. What the server sends is a
//! [`Frame`](crate::frame::Frame).

mod codec;
mod header;

pub mod handshake;

pub use self::codec::{CodecError, Decoder, Received};
