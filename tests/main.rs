//! The integration tests: one binary, so that they link once.

mod fanout;
mod rest;
mod support;
mod websocket;
