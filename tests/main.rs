//! The integration tests: one binary, so that they link once.
#![allow(clippy::unwrap_used)] // the lint knows tests by their attribute, not their helpers

mod auth;
mod client;
mod costs;
mod events;
mod fanout;
mod hostile;
mod http2;
mod limits;
mod lists;
mod log;
mod metrics;
mod oracle;
mod outage;
mod packaging;
mod postgres;
mod process;
mod prometheus;
mod rest;
mod routes;
mod rows;
mod scale;
mod stopping;
mod supervision;
mod support;
mod tables;
mod tls;
mod truth;
mod watch;
mod websocket;
