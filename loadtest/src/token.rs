//! The token that a server wants: [`Token`], which no message and no file shows.

use std::fmt;

use anyhow::ensure;

/// A bearer token (RFC 6750).
#[derive(Clone, Default)]
pub(crate) struct Token(Option<String>);

impl Token {
    /// Reads the token that the command line gave.
    ///
    /// # Errors
    ///
    /// Characters that a token cannot have (RFC 6750, section 2.1), and that would end the header.
    pub(crate) fn given(text: Option<&Secret>) -> anyhow::Result<Self> {
        let Some(Secret(text)) = text else { return Ok(Self(None)) };
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        ensure!(
            !text.is_empty() && text.bytes().all(is_token),
            "--token is no token: letters, digits and -._~+/= only, without the word Bearer"
        );
        Ok(Self(Some(text.clone())))
    }

    /// Returns the value of `Authorization`, if there is a token.
    pub(crate) fn value(&self) -> Option<String> {
        self.0.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Returns the line of `Authorization` in a head of HTTP/1.1; nothing where there is no token.
    pub(crate) fn line(&self) -> String {
        self.value().map_or_else(String::new, |value| format!("Authorization: {value}\r\n"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Token(…)" } else { "Token(none)" })
    }
}

/// Text of the command line that is not shown.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_line_of_a_head_and_is_not_shown() {
        let secret = Secret::from("eyJ.a-b_c.d~+/=");
        let token = Token::given(Some(&secret)).unwrap();
        assert_eq!(token.line(), "Authorization: Bearer eyJ.a-b_c.d~+/=\r\n");
        assert!(!format!("{secret:?}{token:?}").contains("eyJ"));
        assert_eq!(Token::given(None).unwrap().line(), "");
    }

    #[test]
    fn what_would_end_the_header_is_refused_without_being_shown() {
        for text in ["", "a b", "Bearer abc", "abc\r\nX: y", "abc\u{e9}"] {
            let error = Token::given(Some(&Secret::from(text))).unwrap_err().to_string();
            assert!(error.starts_with("--token is no token") && (text.is_empty() || !error.contains(text)), "{error}");
        }
    }
}
