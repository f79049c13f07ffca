//! The options about TLS in a database URL, which are taken out of it because tokio-postgres knows only some of their
//! values: [`take_tls_options`].
//!
//! Taken out by hand, since a URL of libpq may be none of RFC 3986: several hosts with a port each, a question mark
//! in a password, a plus sign that is no space.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::ConfigError;

/// The options about TLS in a URL.
#[derive(Default)]
pub(super) struct TlsOptions {
    /// `sslmode`.
    pub(super) mode: Option<String>,
    /// `sslrootcert`.
    pub(super) roots: Option<String>,
}

impl TlsOptions {
    /// Keeps the value if the option is about TLS.
    fn take(&mut self, key: &str, value: impl FnOnce() -> Option<String>) -> Result<bool, ConfigError> {
        let slot = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            _ => return Ok(false),
        };
        *slot = Some(value().ok_or(ConfigError::Unreadable)?);
        Ok(true)
    }
}

/// Splits a URL, in either form, into the rest of it and its options for TLS.
pub(super) fn take_tls_options(url: &str) -> Result<(String, TlsOptions), ConfigError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        take_from_url(url)
    } else {
        take_from_pairs(url)
    }
}

fn take_from_url(url: &str) -> Result<(String, TlsOptions), ConfigError> {
    let mut tls = TlsOptions::default();
    // A password may hold a question mark.
    let authority = url.find('@').unwrap_or(0);
    let Some(query) = url[authority..].find('?').map(|at| authority + at) else {
        return Ok((url.to_owned(), tls));
    };
    let mut kept = Vec::new();
    for pair in url[query + 1..].split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !tls.take(key, || percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned))? {
            kept.push(pair);
        }
    }
    let question_mark = if kept.is_empty() { "" } else { "?" };
    Ok((format!("{}{question_mark}{}", &url[..query], kept.join("&")), tls))
}

fn take_from_pairs(text: &str) -> Result<(String, TlsOptions), ConfigError> {
    let mut tls = TlsOptions::default();
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after_key) = rest.split_once('=').ok_or(ConfigError::Unreadable)?;
        let value = after_key.trim_start();
        let (value, after) = value.split_at(value_end(value).ok_or(ConfigError::Unreadable)?);
        if !tls.take(key.trim_end(), || Some(unquoted(value)))? {
            kept.extend([key.trim_end(), "=", value, " "]);
        }
        rest = after.trim_start();
    }
    Ok((kept, tls))
}

/// Returns the end of the value that `text` begins with: behind its closing quote, or before white space.
fn value_end(text: &str) -> Option<usize> {
    let is_quoted = text.starts_with('\'');
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(usize::from(is_quoted)) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' if is_quoted => return Some(at + 1),
            _ if !is_quoted && character.is_whitespace() => return Some(at),
            _ => {}
        }
    }
    (!is_quoted).then_some(text.len())
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    let mut characters = inner.chars();
    let mut text = String::new();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}
