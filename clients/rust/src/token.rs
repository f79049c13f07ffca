//! Where tokens come from: [`Token`].

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
    /// Returns the tokens that a function gives. It is asked when the client connects first, when the token has expired,
    /// and when a server refuses it; not for other reconnects. If it fails, it is asked again later.
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
