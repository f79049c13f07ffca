//! The WebSockets, their subscriptions, and what is written to them, core by core.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labels::{CoreLabel, PolicyLabel, ReasonLabel};
use super::{shown, shown_in};
use crate::session::close::CloseReason;

#[derive(Clone, Copy, Debug, Default)]
struct LatencyBuckets;

impl MetricConstructor<Histogram> for LatencyBuckets {
    /// Returns a histogram with buckets from 50 µs to 1.6 s, doubling.
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(50e-6, 2.0, 16))
    }
}

/// The numbers of all cores.
#[derive(Debug)]
pub struct ReaderMetrics {
    by_core: Cores,
    closed: Family<ReasonLabel, Counter>,
    frames_skipped: Family<PolicyLabel, Counter>,
    heals: Counter,
}

/// The numbers that each core has for itself.
#[derive(Debug)]
struct Cores {
    live: Family<CoreLabel, Gauge>,
    connections: Family<CoreLabel, Gauge>,
    connections_opened: Family<CoreLabel, Counter>,
    subscriptions: Family<CoreLabel, Gauge>,
    last_values: Family<CoreLabel, Gauge>,
    last_values_loaded: Family<CoreLabel, Counter>,
    last_values_evicted: Family<CoreLabel, Counter>,
    frames_sent: Family<CoreLabel, Counter>,
    bytes_sent: Family<CoreLabel, Counter>,
    queue_frames: Family<CoreLabel, Gauge>,
    queue_bytes: Family<CoreLabel, Gauge>,
    commit_to_socket: Family<CoreLabel, Histogram, LatencyBuckets>,
}

/// The numbers of one core; it alone writes these.
#[derive(Clone, Debug)]
pub struct CoreMetrics {
    /// 1 while all that was missed is told, and nothing is being missed.
    pub live: Gauge,
    /// Times that this came to be so of all cores, which the first of them counts.
    pub heals: Counter,
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

impl ReaderMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let closed: Family<ReasonLabel, Counter> =
            shown(registry, "connections_closed", "WebSockets closed, by reason");
        for reason in CloseReason::ALL {
            drop(closed.get_or_create(&ReasonLabel { reason: reason.label() }));
        }
        Self {
            by_core: Cores::registered(registry),
            closed,
            frames_skipped: shown(
                registry,
                "frames_skipped",
                "Changes not sent to a slow reader, by policy; the reader was told how many",
            ),
            heals: shown(registry, "heals", "Times that all which was missed came to be told, at the start too"),
        }
    }

    /// Returns the numbers that this core counts, under the slow-consumer policy with this name.
    pub(super) fn core(&self, core: u16, policy: &'static str) -> CoreMetrics {
        let (all, label) = (&self.by_core, CoreLabel { core });
        CoreMetrics {
            live: all.live.get_or_create_owned(&label),
            heals: self.heals.clone(),
            connections: all.connections.get_or_create_owned(&label),
            connections_opened: all.connections_opened.get_or_create_owned(&label),
            subscriptions: all.subscriptions.get_or_create_owned(&label),
            last_values: all.last_values.get_or_create_owned(&label),
            last_values_loaded: all.last_values_loaded.get_or_create_owned(&label),
            last_values_evicted: all.last_values_evicted.get_or_create_owned(&label),
            frames_sent: all.frames_sent.get_or_create_owned(&label),
            bytes_sent: all.bytes_sent.get_or_create_owned(&label),
            frames_skipped: self.frames_skipped.get_or_create_owned(&PolicyLabel { policy }),
            queue_frames: all.queue_frames.get_or_create_owned(&label),
            queue_bytes: all.queue_bytes.get_or_create_owned(&label),
            commit_to_socket: all.commit_to_socket.get_or_create_owned(&label),
        }
    }

    /// Counts a closed WebSocket under its reason.
    pub fn closed(&self, reason: CloseReason) {
        self.closed.get_or_create(&ReasonLabel { reason: reason.label() }).inc();
    }
}

impl Cores {
    fn registered(all: &mut Registry) -> Self {
        let commit_to_socket = Family::new_with_constructor(LatencyBuckets);
        all.register_with_unit(
            "commit_to_socket",
            "From a commit (Postgres: its notification read) to the last write of it, per change and core",
            Unit::Seconds,
            commit_to_socket.clone(),
        );
        let kept = "Bytes of the newest changes and rows that the shards remember";
        let loaded = "Rows read since a reader asked for them or changes may have been missed";
        let evicted = "Remembered values forgotten to keep --last-values-bytes";
        Self {
            live: shown(all, "live", "1 while all that was missed is told and nothing is being missed"),
            connections: shown(all, "connections", "WebSockets open"),
            connections_opened: shown(all, "connections_opened", "WebSockets opened"),
            subscriptions: shown(all, "subscriptions", "Subscriptions held by the shards"),
            last_values: shown_in(all, "last_values", Unit::Bytes, kept),
            last_values_loaded: shown(all, "last_values_loaded", loaded),
            last_values_evicted: shown(all, "last_values_evicted", evicted),
            frames_sent: shown(all, "frames_sent", "Changes written to sockets"),
            bytes_sent: shown_in(all, "sent", Unit::Bytes, "Bytes written to WebSockets"),
            queue_frames: shown(all, "queue_frames", "Changes that wait for slow readers"),
            queue_bytes: shown_in(all, "queue", Unit::Bytes, "Bytes of changes that wait for slow readers"),
            commit_to_socket,
        }
    }
}
