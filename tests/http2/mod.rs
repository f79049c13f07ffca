//! HTTP/2 as a client sees it, by prior knowledge on plain TCP, and by ALPN over TLS.

mod access;
mod floods;
mod push;
mod requests;
mod seeds;
mod stopping;
mod tls;
mod websockets;
