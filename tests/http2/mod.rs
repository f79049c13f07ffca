//! HTTP/2 as a client sees it, by prior knowledge on plain TCP.

mod floods;
mod push;
mod requests;
mod stopping;
mod websockets;
