//! The integration tests: one binary, so that they link once.

mod postgres;
mod support;
