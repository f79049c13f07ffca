//! The bytes of a connection, below its messages: [`socket`] over TCP, [`tls`] or a stream of HTTP/2 ([`h2_stream`]),
//! and [`admission`], the bounds on the number of connections.

pub mod admission;
pub mod h2_stream;
pub mod handshake_rate;
pub mod socket;
pub mod tls;
