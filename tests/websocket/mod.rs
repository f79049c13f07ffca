//! The WebSocket protocol as a client sees it.

mod bad_input;
mod closing;
mod commands;
mod heartbeat;
