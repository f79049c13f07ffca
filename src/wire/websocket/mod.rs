//! RFC 6455 without I/O: the [`Decoder`] for the input from clients, and the [`handshake`]. The output of the server is
//! a [`Frame`](crate::wire::frame::Frame).

mod codec;
mod header;
mod opcode;

pub mod handshake;

pub use self::codec::{CodecError, Decoder, Received, UNIT_BYTES};
pub use self::opcode::Opcode;
