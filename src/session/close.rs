//! The reason for which a WebSocket or an event stream ended: [`CloseReason`], from which follow its code, its metric label, its log
//! level, and the advice to the reader to come back or not.

use crate::wire::frame::Frame;
use crate::wire::websocket::CodecError;
use crate::wire::websocket::Opcode;

/// The reason for which a WebSocket or an event stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed, with this code if it gave one; or left its event stream.
    Peer(Option<u16>),
    /// The peer's TCP connection ended without a close frame.
    Vanished,
    /// The peer broke RFC 6455.
    Protocol(&'static str),
    /// The peer sent a binary message.
    Binary,
    /// The peer sent text that is not UTF-8.
    InvalidUtf8,
    /// The peer sent a message above the limit.
    MessageTooBig,
    /// The reader was too slow, under the policy `disconnect`.
    SlowConsumer,
    /// Nothing was heard from the peer for as long as [`silence_seconds_max`](super::heartbeat::silence_seconds_max)
    /// says.
    Silence,
    /// This server stops.
    Restart,
    /// The peer's token has expired.
    TokenExpired,
    /// Its task panicked, so that its session cannot be trusted with a farewell.
    Panicked,
}

impl CloseReason {
    /// All of them, without their particulars.
    pub const ALL: [Self; 11] = [
        Self::Peer(None),
        Self::Vanished,
        Self::Protocol(""),
        Self::Binary,
        Self::InvalidUtf8,
        Self::MessageTooBig,
        Self::SlowConsumer,
        Self::Silence,
        Self::Restart,
        Self::TokenExpired,
        Self::Panicked,
    ];

    /// Returns the status code of the close frame (RFC 6455, §7.4.1, and the IANA registry of WebSocket close codes);
    /// `None` if there is nobody to tell, or nothing to say.
    #[must_use]
    pub const fn code(self) -> Option<u16> {
        match self {
            Self::Peer(code) => code,
            Self::Vanished | Self::Panicked => None,
            Self::Protocol(_) => Some(1002),
            Self::Binary => Some(1003),
            Self::InvalidUtf8 => Some(1007),
            Self::Silence => Some(1008),
            Self::MessageTooBig => Some(1009),
            Self::Restart => Some(1012),
            Self::SlowConsumer => Some(1013),
            // From the range for applications: HTTP's 401, after the upgrade.
            Self::TokenExpired => Some(4401),
        }
    }

    /// Returns the sentence in the close frame; at most 123 bytes (RFC 6455, §5.5).
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::Peer(_) | Self::Vanished | Self::Panicked => "",
            Self::Protocol(what) => what,
            Self::Binary => "commands are text messages",
            Self::InvalidUtf8 => "a text message is not UTF-8",
            Self::MessageTooBig => "a message is longer than this server takes",
            Self::SlowConsumer => "too slow for its subscriptions",
            Self::Silence => "nothing was heard for too long, and nothing taken",
            Self::Restart => "the server restarts, come back",
            Self::TokenExpired => "the token has expired, come back with another",
        }
    }

    /// Returns the value of the label `reason` in `/metrics`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Peer(_) => "peer",
            Self::Vanished => "vanished",
            Self::Protocol(_) => "protocol",
            Self::Binary => "binary",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::SlowConsumer => "slow_consumer",
            Self::Silence => "silence",
            Self::Restart => "restart",
            Self::TokenExpired => "token_expired",
            Self::Panicked => "panicked",
        }
    }

    /// Returns whether operators see it at info.
    #[must_use]
    pub const fn is_noteworthy(self) -> bool {
        matches!(self, Self::Protocol(_) | Self::SlowConsumer | Self::Panicked)
    }

    /// Returns the close frame with this reason.
    #[must_use]
    pub fn frame(self) -> Frame {
        let mut payload = Vec::new();
        if let Some(code) = self.code() {
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(self.sentence().as_bytes());
        }
        Frame::new(Opcode::Close, &payload)
    }
}

impl From<CodecError> for CloseReason {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Protocol(what) => Self::Protocol(what),
            CodecError::InvalidUtf8 => Self::InvalidUtf8,
            CodecError::MessageTooBig => Self::MessageTooBig,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_carries_the_code_and_a_sentence() {
        assert_eq!(CloseReason::Binary.frame()[..4], [0x88, 28, 0x03, 0xEB]);
        assert_eq!(*CloseReason::Peer(Some(1000)).frame(), [0x88, 2, 0x03, 0xE8]);
        assert_eq!(*CloseReason::Peer(None).frame(), [0x88, 0]);
    }
}
