//! The reasons for which a client is not connected: [`Error`].

/// The reason for which a client is not connected, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none of a server.
    #[error("{url}: {reason}, as in ws://127.0.0.1:8080 or https://shop.example")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no certificates to trust.
    #[error("the certificates that this system trusts: {0}")]
    Roots(String),
    /// The function that gives tokens failed, or the token is none.
    #[error("the token: {0}")]
    Token(String),
    /// The server wants a token, or another one.
    #[error("{server} wants another token than this (HTTP {status})")]
    Unauthorized {
        /// The server's host and port.
        server: String,
        /// 401 or 403.
        status: u16,
    },
    /// The token has expired, and no function gives another.
    #[error("the token has expired")]
    TokenExpired,
    /// The server has no WebSocket there.
    #[error("{server} opens no WebSocket at {path} (HTTP {status})")]
    NoWebSocket {
        /// The server's host and port.
        server: String,
        /// The path that was asked for.
        path: String,
        /// The status of the answer.
        status: u16,
    },
    /// The certificate is not trusted, or the server speaks no TLS.
    #[error("TLS with {server}: {reason}")]
    Tls {
        /// The server's host and port.
        server: String,
        /// The reason.
        reason: String,
    },
    /// What the server says is nothing that this client knows.
    #[error("{server} speaks another protocol than this client: {reason}; bring both to one version")]
    Protocol {
        /// The server's host and port.
        server: String,
        /// The reason.
        reason: String,
    },
    /// No connection opens now.
    #[error("{server}: {reason}")]
    Unreachable {
        /// The server's host and port.
        server: String,
        /// The reason.
        reason: String,
    },
    /// The server closed.
    #[error("the server closed with {code}: {reason}")]
    Closed {
        /// The code (RFC 6455, §7.4.1).
        code: u16,
        /// Its sentence.
        reason: String,
    },
    /// An open connection has ended.
    #[error("{0}")]
    Lost(String),
}

/// The code of a server whose token has expired.
const TOKEN_EXPIRED: u16 = 4401;
/// The code of a server to which a message was too large.
const TOO_LARGE: u16 = 1009;

impl Error {
    /// Returns whether another token may help.
    pub(crate) fn is_of_token(&self) -> bool {
        self.is_expiry() || matches!(self, Self::Unauthorized { .. } | Self::Token(_))
    }

    pub(crate) fn is_expiry(&self) -> bool {
        matches!(self, Self::Closed { code: TOKEN_EXPIRED, .. })
    }

    /// Returns the code with which the server closed.
    pub(crate) const fn code(&self) -> Option<u16> {
        match self {
            Self::Closed { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Closed { code: TOO_LARGE, .. })
    }

    /// Returns whether another try does not help, if not with another token.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::NoWebSocket { .. } | Self::Tls { .. } | Self::Protocol { .. })
    }
}
