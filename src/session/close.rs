//! The reason for which a WebSocket or an event stream ended: [`CloseReason`], from which follow its code, its metric label, its log
//! level, and the advice to the reader to come back or not; and the steps of a session's close.

use super::heartbeat::CLOSE_SECONDS_MAX;
use super::{Effects, End, Given, Phase, Session};
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

impl Session {
    /// Puts the close frame into the queue, behind the rest of a frame that was begun and the answers that wait.
    /// Commands in progress go without an answer.
    pub(super) fn close(&mut self, reason: CloseReason, given: &Given<'_>, effects: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Answering) {
            return;
        }
        self.commands = None;
        self.values = None;
        self.queue.discard_ordered();
        self.queue.push_control(self.encoding.close(reason));
        self.phase = Phase::Closing { is_peers_here: self.phase == Phase::Answering };
        self.reason = reason;
        self.second = given.now.saturating_add(CLOSE_SECONDS_MAX);
        effects.look_at = Some(self.second);
        effects.close_begins = true;
    }

    /// Takes the peer's close frame; a second one means nothing (RFC 6455, §5.5.1).
    pub(super) fn peer_closed(&mut self, code: Option<u16>, given: &Given<'_>, effects: &mut Effects) {
        if self.phase == Phase::Answering {
            return;
        }
        let reason = CloseReason::Peer(code);
        let is_answered = self.commands.as_ref().is_some_and(|commands| !commands.needs_values()) && !self.is_asked();
        if self.phase == Phase::Open && is_answered {
            self.values = None;
            self.queue.discard_ordered();
            self.phase = Phase::Answering;
            self.reason = reason;
            self.second = given.now.saturating_add(CLOSE_SECONDS_MAX);
            effects.look_at = Some(self.second);
            return;
        }
        self.close(reason, given, effects);
        match self.phase {
            Phase::Closing { .. } => self.phase = Phase::Closing { is_peers_here: true },
            // Both sides have closed: the server is the one to end the connection (RFC 6455, §7.1.1).
            Phase::Lingering => self.end(CloseReason::Vanished, effects),
            Phase::Open | Phase::Answering | Phase::Ended => {}
        }
    }

    pub(super) fn flushed(&mut self, effects: &mut Effects) {
        if let Phase::Closing { is_peers_here } = self.phase
            && self.queue.is_empty()
        {
            self.phase = Phase::Lingering;
            effects.ends_writing = true;
            if is_peers_here {
                self.end(CloseReason::Vanished, effects);
            }
        }
    }

    pub(super) fn end(&mut self, reason: CloseReason, effects: &mut Effects) {
        self.commands = None;
        self.values = None;
        effects.end = (self.phase != Phase::Ended).then_some(End::InTime);
        if self.phase == Phase::Open {
            self.reason = reason;
        }
        self.phase = Phase::Ended;
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
