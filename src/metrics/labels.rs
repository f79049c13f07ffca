//! The labels of numbers, and the limits and outcomes that they name.

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CoreLabel {
    pub(super) core: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PolicyLabel {
    pub(super) policy: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabel {
    pub(super) route: &'static str,
    pub(super) method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResponseLabel {
    pub(super) route: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

/// A table that an operator named, so that there are few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TableLabel {
    table: String,
}

impl TableLabel {
    pub(super) fn of(table: &str) -> Self {
        Self { table: table.to_owned() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VersionLabel {
    pub(super) version: &'static str,
}

/// A limit that somebody met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// WebSockets in all.
    Connections,
    /// WebSockets from one address.
    ConnectionsPerAddress,
    /// Sockets that are not WebSockets, in all.
    HttpSockets,
    /// Sockets that are not WebSockets, from one address.
    HttpSocketsPerAddress,
    /// WebSockets that open in a second.
    Handshakes,
    /// The time for the first request of a socket to begin and for its head to arrive.
    HeaderTimeout,
    /// The time for a body to arrive.
    BodyTimeout,
    /// The time for which a client may take nothing of an answer.
    WriteTimeout,
    /// The time for a TLS handshake.
    TlsHandshake,
    /// The size of a head.
    HeaderBytes,
    /// The size of a body.
    BodyBytes,
    /// The bytes of all bodies that are on their way or waiting for the store.
    BodiesBytes,
    /// The bytes of all rows that wait until their readers take them.
    AnswersBytes,
    /// The size of a message from a WebSocket.
    MessageBytes,
    /// Messages from a WebSocket in a second; counted once in each second in which one was made to wait.
    Commands,
    /// Subscriptions of a WebSocket.
    Subscriptions,
    /// The rows of the store for a reader that subscribes to all of them.
    WildcardRows,
    /// Frames that flood an HTTP/2 connection, and streams that its client opens beyond what it may, or resets.
    Http2Flood,
}

impl Limit {
    pub(super) const ALL: [Self; 18] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::HttpSockets,
        Self::HttpSocketsPerAddress,
        Self::Handshakes,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::WriteTimeout,
        Self::TlsHandshake,
        Self::HeaderBytes,
        Self::BodyBytes,
        Self::BodiesBytes,
        Self::AnswersBytes,
        Self::MessageBytes,
        Self::Commands,
        Self::Subscriptions,
        Self::WildcardRows,
        Self::Http2Flood,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::HttpSockets => "http_sockets",
            Self::HttpSocketsPerAddress => "http_sockets_per_address",
            Self::Handshakes => "handshakes",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::TlsHandshake => "tls_handshake",
            Self::HeaderBytes => "header_bytes",
            Self::BodyBytes => "body_bytes",
            Self::BodiesBytes => "bodies_bytes",
            Self::AnswersBytes => "answers_bytes",
            Self::MessageBytes => "message_bytes",
            Self::Commands => "commands",
            Self::Subscriptions => "subscriptions",
            Self::WildcardRows => "wildcard_rows",
            Self::Http2Flood => "http2_flood",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabel {
    pub(super) limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ObstacleLabel {
    pub(super) obstacle: &'static str,
}

/// The outcome of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It succeeded, with keys of its own.
    Full,
    /// It succeeded, with those of an earlier one.
    Resumed,
    /// The client ended it, broke it, or could not agree.
    Failed,
    /// It passed its deadline.
    TooSlow,
}

impl Handshake {
    pub(super) const ALL: [Self; 4] = [Self::Full, Self::Resumed, Self::Failed, Self::TooSlow];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::TooSlow => "too_slow",
        }
    }
}

/// The outcome of a read of rows for the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Its rows were handed over at its barrier.
    Done,
    /// The store failed, or the barrier was not heard.
    Failed,
    /// The source lost its way meanwhile.
    Void,
}

impl Load {
    pub(super) const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Void];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Void => "void",
        }
    }
}
