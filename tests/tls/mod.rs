//! HTTPS as a client sees it.

mod bad_input;
mod close;
mod fanout;
mod files;
mod redirect;
mod reload;
mod serving;
