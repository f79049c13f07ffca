//! The opcodes of frames.

/// The kinds of frames that the server sends (RFC 6455, §5.2); it fragments nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A whole text message.
    Text = 0x1,
    /// A whole binary message.
    Binary = 0x2,
    /// The end of this side's output.
    Close = 0x8,
    /// A question whether the other side is alive.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xA,
}
