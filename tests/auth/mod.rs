//! Tokens, keys and origins as clients meet them.

mod authorize;
mod expiry;
mod key_types;
mod origins;
mod refusals;
mod reload;
mod rights;
mod secrecy;
mod start;
pub(crate) mod tokens;
