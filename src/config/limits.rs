//! The options that bound what strangers may take.

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use clap::Args;

use super::ConfigError;
use crate::http::HttpLimits;
use crate::model::product::Product;
use crate::session::SessionLimits;
use crate::session::heartbeat::PING_AFTER_SECONDS;
use crate::session::queue::SendQueueLimits;
use crate::transport::admission::AdmissionLimits;

/// Limits, each with an answer to who meets it, and a count in `rowcast_refused_total`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// WebSockets and event streams at once; one more is answered 503
    #[arg(long, env = "ROWCAST_MAX_CONNECTIONS", value_name = "N", default_value = "100000")]
    max_connections: NonZeroUsize,

    /// WebSockets at once from one address (IPv6: from one /64); one more is answered 503. 0 sets no limit, as is right
    /// behind a proxy, from whose address all come
    #[arg(long, env = "ROWCAST_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value = "0")]
    max_connections_per_address: usize,

    /// Sockets at once that are not WebSockets: those with requests, and those in their handshake. One more is answered
    /// 503 and closed
    #[arg(long, env = "ROWCAST_MAX_HTTP_SOCKETS", value_name = "N", default_value = "20000")]
    max_http_sockets: NonZeroUsize,

    /// Of those, sockets from one address (IPv6: from one /64); 0 sets no limit
    #[arg(long, env = "ROWCAST_MAX_HTTP_SOCKETS_PER_ADDRESS", value_name = "N", default_value = "0")]
    max_http_sockets_per_address: usize,

    /// WebSockets that may open in a second, and as many at once after a quiet second; one more is answered 503 and told
    /// when to come back. 0 sets no limit
    #[arg(long, env = "ROWCAST_HANDSHAKES_PER_SECOND", value_name = "N", default_value = "0")]
    handshakes_per_second: u32,

    /// Seconds in which the head of a request must arrive; also how long a socket may be silent between two requests
    #[arg(long, env = "ROWCAST_HEADER_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "30")]
    header_timeout_seconds: NonZeroU16,

    /// Seconds in which the body of a request must arrive; 408 then
    #[arg(long, env = "ROWCAST_BODY_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "30")]
    body_timeout_seconds: NonZeroU16,

    /// Seconds in which a client must take 16 KiB of an answer, or the rest of it; its request is cut otherwise
    #[arg(long, env = "ROWCAST_WRITE_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "30")]
    write_timeout_seconds: NonZeroU16,

    /// Bytes of a request's first line and headers; 431 above
    #[arg(long, env = "ROWCAST_MAX_HEADER_BYTES", value_name = "BYTES", default_value = "16384",
        value_parser = clap::value_parser!(u32).range(1024..=1024 * 1024))]
    max_header_bytes: u32,

    /// Bytes of a request's body; 413 above
    #[arg(long, env = "ROWCAST_MAX_BODY_BYTES", value_name = "BYTES", default_value = "1048576",
        value_parser = clap::value_parser!(u32).range(1024..=1024 * 1024))]
    max_body_bytes: u32,

    /// Bytes that all bodies hold together, from their arrival until their request is answered; one more is answered 503. An
    /// HTTP/2 connection may hold a quarter of them
    #[arg(long, env = "ROWCAST_MAX_BODIES_BYTES", value_name = "BYTES", default_value = "67108864",
        value_parser = clap::value_parser!(u32).range(1024 * 1024..))]
    max_bodies_bytes: u32,

    /// Bytes of rows that all answers hold together while their readers take them (64 KiB each, or one row); one more waits,
    /// and is answered 503 after 2 seconds. An HTTP/2 connection may hold a quarter of them
    #[arg(long, env = "ROWCAST_MAX_ANSWERS_BYTES", value_name = "BYTES", default_value = "67108864",
        value_parser = clap::value_parser!(u32).range(1024 * 1024..))]
    max_answers_bytes: u32,

    /// Requests and WebSockets at once on one HTTP/2 connection; what is above is refused. Each may make the server keep 48 KiB
    #[arg(long, env = "ROWCAST_HTTP2_MAX_STREAMS", value_name = "N", default_value = "128",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    http2_max_streams: u32,

    /// Bytes of a message from a WebSocket; closed with 1009 above. The page sends up to 20,000
    #[arg(long, env = "ROWCAST_MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "262144",
        value_parser = clap::value_parser!(u32).range(1024..=64 * 1024 * 1024))]
    max_message_bytes: u32,

    /// Units of work that one WebSocket may ask for in a second; what is above waits in the socket. A frame is a unit: a
    /// command, a ping, a pong, a fragment of any length. So is each further 4 KiB of a message. 0 sets no limit
    #[arg(long, env = "ROWCAST_COMMANDS_PER_SECOND", value_name = "N", default_value = "1000")]
    commands_per_second: u32,

    /// Seconds of silence after which a WebSocket is pinged; one that is silent for three times as long is closed with 1008.
    /// An event stream is sent a comment, and closed if its socket takes nothing for three times as long.
    /// Keep it below what proxies on the way allow an idle connection (often 30 or 60 seconds)
    #[arg(long, env = "ROWCAST_PING_SECONDS", value_name = "SECONDS", default_value_t = PING_AFTER_SECONDS,
        value_parser = clap::value_parser!(u32).range(1..=120))]
    ping_seconds: u32,

    /// Rows that one connection may subscribe to
    #[arg(long, env = "ROWCAST_MAX_SUBSCRIPTIONS", value_name = "N", default_value = "100000")]
    max_subscriptions: NonZeroUsize,
}

impl LimitArgs {
    pub(super) const fn admission(&self) -> AdmissionLimits {
        AdmissionLimits {
            connections_max: self.max_connections.get(),
            connections_per_address_max: self.max_connections_per_address,
            http_sockets_max: self.max_http_sockets.get(),
            http_sockets_per_address_max: self.max_http_sockets_per_address,
            handshakes_per_second_max: self.handshakes_per_second,
        }
    }

    pub(super) fn http(&self) -> HttpLimits {
        let seconds = |seconds: NonZeroU16| Duration::from_secs(seconds.get().into());
        HttpLimits {
            head_timeout: seconds(self.header_timeout_seconds),
            body_timeout: seconds(self.body_timeout_seconds),
            write_timeout: seconds(self.write_timeout_seconds),
            head_bytes_max: self.max_header_bytes as usize,
            body_bytes_max: self.max_body_bytes as usize,
            bodies_bytes_max: self.max_bodies_bytes as usize,
            answers_bytes_max: self.max_answers_bytes as usize,
            http2_streams_max: self.http2_max_streams,
        }
    }

    pub(super) fn connection(&self, queue: SendQueueLimits) -> Result<SessionLimits, ConfigError> {
        let subscriptions_max = self.max_subscriptions.get();
        if subscriptions_max > u32::MAX as usize {
            return Err(ConfigError::Subscriptions(subscriptions_max));
        }
        Ok(SessionLimits {
            queue,
            subscriptions_max,
            message_bytes_max: self.max_message_bytes as usize,
            units_per_second_max: self.commands_per_second,
            ping_after: self.ping_seconds,
        })
    }
}

const _: () =
    assert!(Product::JSON_BYTES_MAX <= 1024 * 1024, "the default of --max-body-bytes holds the largest product");
