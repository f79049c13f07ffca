//! Every number that `/metrics` shows: all names stand here, and nowhere else. The values of their labels are those of
//! the types in `labels`.
//!
//! The numbers of a core have a `core` label, so that no two cores write to the same place; sum over it in queries.

mod labels;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use self::labels::{CoreLabel, LimitLabel, ObstacleLabel, OutcomeLabel, PolicyLabel, ReasonLabel, ResponseLabel};
pub use self::labels::{Handshake, Limit, Load};
use crate::source::Obstacle;

/// The content type of [`Metrics::encode`] (OpenMetrics 1.0, which Prometheus reads).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Copy, Debug)]
struct LatencyBuckets;

impl MetricConstructor<Histogram> for LatencyBuckets {
    /// Returns a histogram with buckets from 50 µs to 1.6 s, doubling.
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(50e-6, 2.0, 16))
    }
}

/// The numbers of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Changes that ingest took from the source.
    pub changes: Counter,
    /// Changes of rows whose keys are too long to be told.
    pub keys_too_long: Counter,
    /// Epochs that this server began, since the history of versions was replaced.
    pub epochs_begun: Counter,
    /// Products that were read for the shards and handed over.
    pub products_loaded: Counter,
    loads: Family<OutcomeLabel, Counter>,
    source_obstacle: Family<ObstacleLabel, Gauge>,
    connections: Family<CoreLabel, Gauge>,
    connections_opened: Family<CoreLabel, Counter>,
    connections_closed: Family<ReasonLabel, Counter>,
    subscriptions: Family<CoreLabel, Gauge>,
    last_values: Family<CoreLabel, Gauge>,
    last_values_loaded: Family<CoreLabel, Counter>,
    last_values_evicted: Family<CoreLabel, Counter>,
    frames_sent: Family<CoreLabel, Counter>,
    bytes_sent: Family<CoreLabel, Counter>,
    frames_skipped: Family<PolicyLabel, Counter>,
    queue_frames: Family<CoreLabel, Gauge>,
    queue_bytes: Family<CoreLabel, Gauge>,
    commit_to_socket: Family<CoreLabel, Histogram, LatencyBuckets>,
    responses: Family<ResponseLabel, Counter>,
    /// HTTP/2 connections open now.
    pub http2_connections: Gauge,
    /// Assets pushed together with the page.
    pub http2_pushes: Counter,
    tls_handshakes: Family<OutcomeLabel, Counter>,
    tls_certificate_reads: Family<OutcomeLabel, Counter>,
    refused: Family<LimitLabel, Counter>,
}

/// The numbers of one core; it alone writes these.
#[derive(Clone, Debug)]
pub struct CoreMetrics {
    /// WebSockets open now.
    pub connections: Gauge,
    /// WebSockets opened.
    pub connections_opened: Counter,
    /// Subscriptions that this core's shards hold.
    pub subscriptions: Gauge,
    /// Bytes of the last values that this core's shards remember.
    pub last_values: Gauge,
    /// Rows that were read for this core's shards.
    pub last_values_loaded: Counter,
    /// Last values that this core's shards forgot for want of room.
    pub last_values_evicted: Counter,
    /// Changes written to sockets.
    pub frames_sent: Counter,
    /// Bytes written to WebSockets, control frames included.
    pub bytes_sent: Counter,
    /// Frames that gave way to newer ones.
    pub frames_skipped: Counter,
    /// Changes that wait because their sockets take no more.
    pub queue_frames: Gauge,
    /// The bytes of those changes.
    pub queue_bytes: Gauge,
    /// Seconds from a commit to its last write on this core.
    pub commit_to_socket: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Returns all numbers at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("rowcast"),
            changes: Counter::default(),
            keys_too_long: Counter::default(),
            epochs_begun: Counter::default(),
            products_loaded: Counter::default(),
            loads: Family::default(),
            source_obstacle: Family::default(),
            connections: Family::default(),
            connections_opened: Family::default(),
            connections_closed: Family::default(),
            subscriptions: Family::default(),
            last_values: Family::default(),
            last_values_loaded: Family::default(),
            last_values_evicted: Family::default(),
            frames_sent: Family::default(),
            bytes_sent: Family::default(),
            frames_skipped: Family::default(),
            queue_frames: Family::default(),
            queue_bytes: Family::default(),
            commit_to_socket: Family::new_with_constructor(LatencyBuckets),
            responses: Family::default(),
            http2_connections: Gauge::default(),
            http2_pushes: Counter::default(),
            tls_handshakes: Family::default(),
            tls_certificate_reads: Family::default(),
            refused: Family::default(),
        };
        metrics.register();
        // All are shown from the start: a missing number cannot be told from an event that has not happened.
        for limit in Limit::ALL {
            drop(metrics.refused.get_or_create(&LimitLabel { limit: limit.label() }));
        }
        for outcome in Load::ALL {
            drop(metrics.loads.get_or_create(&OutcomeLabel { outcome: outcome.label() }));
        }
        metrics.source_obstacle(None);
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("changes", "Committed changes taken from the source", self.changes.clone());
        registry.register(
            "source_obstacle",
            "1 while this is the reason for which changes do not arrive",
            self.source_obstacle.clone(),
        );
        registry.register(
            "keys_too_long",
            "Changes that were not cast, of rows whose keys are too long",
            self.keys_too_long.clone(),
        );
        registry.register(
            "epochs_begun",
            "Epochs that this server began, since the history of versions was replaced",
            self.epochs_begun.clone(),
        );
        registry.register("loads", "Reads of rows for the shards, by how they ended", self.loads.clone());
        registry.register("products_loaded", "Products read for the shards", self.products_loaded.clone());
        registry.register("connections", "WebSockets open", self.connections.clone());
        registry.register("connections_opened", "WebSockets opened", self.connections_opened.clone());
        registry.register("connections_closed", "WebSockets closed, by reason", self.connections_closed.clone());
        registry.register("subscriptions", "Subscriptions held by the shards", self.subscriptions.clone());
        registry.register_with_unit(
            "last_values",
            "Bytes of the newest changes and rows that the shards remember",
            Unit::Bytes,
            self.last_values.clone(),
        );
        registry.register(
            "last_values_loaded",
            "Rows read since a reader asked for them or changes may have been missed",
            self.last_values_loaded.clone(),
        );
        registry.register(
            "last_values_evicted",
            "Remembered values forgotten to keep --last-values-bytes",
            self.last_values_evicted.clone(),
        );
        registry.register("frames_sent", "Changes written to sockets", self.frames_sent.clone());
        registry.register_with_unit("sent", "Bytes written to WebSockets", Unit::Bytes, self.bytes_sent.clone());
        registry.register(
            "frames_skipped",
            "Changes not sent to a slow reader, by policy; the reader was told how many",
            self.frames_skipped.clone(),
        );
        registry.register("queue_frames", "Changes that wait for slow readers", self.queue_frames.clone());
        registry.register_with_unit(
            "queue",
            "Bytes of changes that wait for slow readers",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        registry.register_with_unit(
            "commit_to_socket",
            "From a commit (Postgres: its notification read) to the last write of it, per change and core",
            Unit::Seconds,
            self.commit_to_socket.clone(),
        );
        registry.register("http_responses", "HTTP responses, by method and status", self.responses.clone());
        registry.register("http2_connections", "HTTP/2 connections open", self.http2_connections.clone());
        registry.register("http2_pushes", "Assets pushed with the page", self.http2_pushes.clone());
        registry.register("tls_handshakes", "TLS handshakes, by how they ended", self.tls_handshakes.clone());
        registry.register(
            "tls_certificate_reads",
            "How often a changed certificate was read, by whether it could be used",
            self.tls_certificate_reads.clone(),
        );
        registry.register("refused", "Times that a limit was met, by limit", self.refused.clone());
        registry.register(
            "log_lines_lost",
            "Lines of this process's log that standard error did not take at once",
            crate::telemetry::lines_lost(),
        );
    }

    /// Returns the numbers that this core counts, under the slow-consumer policy with this name.
    #[must_use]
    pub fn core(&self, core: u16, policy: &'static str) -> CoreMetrics {
        let label = CoreLabel { core };
        CoreMetrics {
            connections: self.connections.get_or_create_owned(&label),
            connections_opened: self.connections_opened.get_or_create_owned(&label),
            subscriptions: self.subscriptions.get_or_create_owned(&label),
            last_values: self.last_values.get_or_create_owned(&label),
            last_values_loaded: self.last_values_loaded.get_or_create_owned(&label),
            last_values_evicted: self.last_values_evicted.get_or_create_owned(&label),
            frames_sent: self.frames_sent.get_or_create_owned(&label),
            bytes_sent: self.bytes_sent.get_or_create_owned(&label),
            frames_skipped: self.frames_skipped.get_or_create_owned(&PolicyLabel { policy }),
            queue_frames: self.queue_frames.get_or_create_owned(&label),
            queue_bytes: self.queue_bytes.get_or_create_owned(&label),
            commit_to_socket: self.commit_to_socket.get_or_create_owned(&label),
        }
    }

    /// Counts a closed WebSocket under its reason.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts an HTTP response. `method` is a known method, or `other`.
    pub fn responded(&self, method: &'static str, status: u16) {
        self.responses.get_or_create(&ResponseLabel { method, status }).inc();
    }

    /// Shows the obstacle between the source and its changes.
    pub fn source_obstacle(&self, obstacle: Option<Obstacle>) {
        for each in Obstacle::ALL {
            let label = ObstacleLabel { obstacle: each.label() };
            self.source_obstacle.get_or_create(&label).set(i64::from(obstacle == Some(each)));
        }
    }

    /// Counts a read of rows for the shards.
    pub fn load(&self, ended: Load) {
        self.loads.get_or_create(&OutcomeLabel { outcome: ended.label() }).inc();
    }

    /// Counts a TLS handshake.
    pub fn tls_handshake(&self, ended: Handshake) {
        self.tls_handshakes.get_or_create(&OutcomeLabel { outcome: ended.label() }).inc();
        if matches!(ended, Handshake::TooSlow) {
            self.refused(Limit::TlsHandshake);
        }
    }

    /// Counts a further reading of the certificate.
    pub fn tls_certificate_read(&self, is_usable: bool) {
        let outcome = if is_usable { "used" } else { "refused" };
        self.tls_certificate_reads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a limit that somebody met.
    pub fn refused(&self, limit: Limit) {
        self.refused.get_or_create(&LimitLabel { limit: limit.label() }).inc();
    }

    /// Returns all numbers as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        let core = metrics.core(1, "conflate");
        core.connections.inc();
        core.bytes_sent.inc_by(12);
        core.commit_to_socket.observe(0.000_06);
        core.frames_skipped.inc_by(3);
        metrics.connection_closed("slow_consumer");
        metrics.responded("GET", 200);
        metrics.refused(Limit::Handshakes);
        let text = metrics.encode();
        for line in [
            "rowcast_connections{core=\"1\"} 1",
            "rowcast_sent_bytes_total{core=\"1\"} 12",
            "rowcast_commit_to_socket_seconds_bucket{le=\"0.0001\",core=\"1\"} 1",
            "rowcast_frames_skipped_total{policy=\"conflate\"} 3",
            "rowcast_connections_closed_total{reason=\"slow_consumer\"} 1",
            "rowcast_http_responses_total{method=\"GET\",status=\"200\"} 1",
            "rowcast_refused_total{limit=\"handshakes\"} 1",
            "rowcast_refused_total{limit=\"header_timeout\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
