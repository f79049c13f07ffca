//! Where tokens come from: [`Token`]; and the one that counts: [`Tokens`], pure.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

type Asking = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// A token, or a function that gives one.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Text(Arc<str>),
    Function(Arc<dyn Fn() -> Asking + Send + Sync>),
}

impl Token {
    /// Returns the tokens that a function gives. It is asked when the client connects first, when the token has
    /// expired, and when a server refuses it; not for other reconnects. If it fails, it is asked again later.
    #[must_use]
    pub fn from_fn<F, A, E>(ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        let ask = move || -> Asking {
            let asking = ask();
            Box::pin(async move { asking.await.map_err(|error| error.to_string()) })
        };
        Self(Source::Function(Arc::new(ask)))
    }

    pub(crate) const fn is_fixed(&self) -> bool {
        matches!(self.0, Source::Text(_))
    }

    pub(crate) async fn ask(&self) -> Result<String, String> {
        match &self.0 {
            Source::Text(text) => Ok((**text).to_owned()),
            Source::Function(ask) => ask().await,
        }
    }
}

/// The tokens of a client, and what is to be done with one of another source.
#[derive(Default)]
pub(crate) struct Tokens {
    source: Option<Token>,
    /// The token that was given last, as long as it is good.
    good: Option<Arc<str>>,
    renewal: Renewal,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Renewal {
    /// There is none: the server has the token, or has refused it.
    #[default]
    Done,
    /// The server is to be given a token of the source.
    Due,
    /// It takes one with a handshake alone.
    ByHandshake,
}

impl Tokens {
    pub(crate) fn new(source: Option<Token>) -> Self {
        Self { source, ..Self::default() }
    }

    /// Sets another source, of which the server is to be given a token.
    pub(crate) fn set(&mut self, source: Token) {
        (self.source, self.renewal) = (Some(source), Renewal::Due);
    }

    pub(crate) fn good(&self) -> Option<Arc<str>> {
        self.good.clone()
    }

    /// Learns a token, which counts from here on.
    pub(crate) fn take(&mut self, token: Arc<str>) {
        self.good = Some(token);
    }

    /// Forgets the token that counted. Returns whether another may be had.
    pub(crate) fn forget(&mut self) -> bool {
        self.good = None;
        self.renewal != Renewal::Done || self.source.as_ref().is_some_and(|source| !source.is_fixed())
    }

    /// Begins a handshake. Returns the source to be asked for its token, unless the one that counts is good.
    pub(crate) fn for_handshake(&mut self) -> Option<Token> {
        if std::mem::take(&mut self.renewal) != Renewal::Done {
            self.good = None;
        }
        self.source.clone().filter(|_| self.good.is_none())
    }

    /// Returns the source to be asked for a token for the open connection, once for each that was set.
    pub(crate) fn for_renewal(&mut self) -> Option<Token> {
        if self.renewal != Renewal::Due {
            return None;
        }
        self.renewal = Renewal::Done;
        self.source.clone()
    }

    /// Learns that what was given for a renewal did not reach the server.
    pub(crate) fn renew_again(&mut self) {
        self.renewal = Renewal::Due;
    }

    /// Learns that the server takes tokens with a handshake alone.
    pub(crate) fn need_handshake(&mut self) {
        self.renewal = Renewal::ByHandshake;
    }

    /// Returns whether a connection is to be opened at once.
    pub(crate) fn want_handshake(&self, is_open: bool) -> bool {
        self.renewal == Renewal::ByHandshake || self.renewal == Renewal::Due && !is_open
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(Source::Text(text.into()))
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_fixed() { "Token(a text)" } else { "Token(a function)" })
    }
}
