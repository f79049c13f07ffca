//! The bytes of a connection, below its messages: [`socket`] over TCP, [`tls`] or a stream of HTTP/2 ([`h2_stream`]),
//! [`admission`], the bounds on the number of connections, and the pace at which answers are to be taken.

pub mod admission;
pub mod h2_stream;
pub mod handshake_rate;
pub(crate) mod pace;
pub mod socket;
pub mod tls;
