//! The form in which a reader is told what it is told: [`Encoding`]. All messages are made as frames of a WebSocket, since
//! most readers are such, and shared; those of an event stream are made of them.

use super::answer;
use super::close::CloseReason;
use crate::wire::event_stream;
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

/// The form of all that a reader is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Frames of a WebSocket (RFC 6455).
    WebSocket,
    /// Events (WHATWG HTML, §9.2), to a reader that cannot answer.
    EventStream,
}

impl Encoding {
    /// Returns this text message.
    pub(super) fn text(self, frame: Frame) -> Frame {
        match self {
            Self::WebSocket => frame,
            Self::EventStream => event_stream::event(&frame),
        }
    }

    /// Returns what shows after some silence that this side is there, and makes a WebSocket's peer say the same.
    pub(super) fn heartbeat(self) -> Frame {
        match self {
            Self::WebSocket => Frame::new(Opcode::Ping, b""),
            Self::EventStream => event_stream::ping(),
        }
    }

    /// Returns the request to come back after so many milliseconds.
    pub(super) fn reconnect(self, after_ms: u64) -> Frame {
        let frame = answer::reconnect(after_ms);
        match self {
            Self::WebSocket => frame,
            Self::EventStream => event_stream::reconnect(after_ms, &frame),
        }
    }

    /// Returns the last message.
    pub(super) fn close(self, reason: CloseReason) -> Frame {
        match self {
            Self::WebSocket => reason.frame(),
            Self::EventStream => event_stream::close(reason.code(), reason.sentence()),
        }
    }
}
