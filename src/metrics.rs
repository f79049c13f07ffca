//! Every number that `/metrics` shows, in groups: each group makes its numbers and names them, and no name stands
//! anywhere else. The values of their labels are those of the types in `labels`. `docs/monitoring.md` says what each
//! means, and has all of them.
//!
//! The numbers of a core have a `core` label, so that no two cores write to the same place; sum over it in queries.

mod clock;
mod http;
mod labels;
mod loads;
mod process;
mod readers;
mod readings;
mod source;
mod tls;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use self::clock::{Age, Lag};
pub use self::http::HttpMetrics;
pub use self::labels::{Handshake, Limit, Load};
use self::labels::{LimitLabel, VersionLabel};
pub use self::loads::LoadMetrics;
use self::process::Process;
pub use self::readers::{CoreMetrics, ReaderMetrics};
pub use self::readings::Readings;
pub use self::source::SourceMetrics;
pub use self::tls::TlsMetrics;

/// The content type of [`Metrics::encode`] (OpenMetrics 1.0, which Prometheus reads).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The numbers of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What the source tells.
    pub source: SourceMetrics,
    /// The reads for the shards.
    pub loads: LoadMetrics,
    /// The WebSockets.
    pub readers: ReaderMetrics,
    /// The requests.
    pub http: HttpMetrics,
    /// The handshakes and the certificate.
    pub tls: TlsMetrics,
    /// The further readings of the keys of tokens.
    pub key_reads: Readings,
    refused: Family<LimitLabel, Counter>,
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
        let mut all = Registry::default();
        all.register_collector(Box::new(Process::started()));
        let registry = all.sub_registry_with_prefix("rowcast");
        let (source, loads) = (SourceMetrics::registered(registry), LoadMetrics::registered(registry));
        let (readers, http) = (ReaderMetrics::registered(registry), HttpMetrics::registered(registry));
        let tls = TlsMetrics::registered(registry);
        let help = "How often changed keys of tokens were read, by whether they could be used";
        let key_reads = Readings::registered(registry, "token_key_reads", help);
        let refused: Family<LimitLabel, Counter> = shown(registry, "refused", "Times that a limit was met, by limit");
        for limit in Limit::ALL {
            drop(refused.get_or_create(&LimitLabel { limit: limit.label() }));
        }
        let lines_lost = crate::telemetry::lines_lost();
        registry.register("log_lines_lost", "Lines of the log that standard error did not take at once", lines_lost);
        registry.register("build", "The program", Info::new(VersionLabel { version: env!("CARGO_PKG_VERSION") }));
        Self { registry: all, source, loads, readers, http, tls, key_reads, refused }
    }

    /// Returns the numbers that this core counts, under the slow-consumer policy with this name.
    #[must_use]
    pub fn core(&self, core: u16, policy: &'static str) -> CoreMetrics {
        self.readers.core(core, policy)
    }

    /// Counts a TLS handshake.
    pub fn tls_handshake(&self, ended: Handshake) {
        self.tls.handshake(ended);
        if matches!(ended, Handshake::TooSlow) {
            self.refused(Limit::TlsHandshake);
        }
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

/// Makes a number that is shown from here on: a missing one cannot be told from an event that has not happened. The name
/// of a counter gets `_total` behind it.
fn shown<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Makes one with a unit, which its name gets behind it.
fn shown_in<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, unit: Unit, help: &str) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::session::close::CloseReason;

    /// The page that says what each number means.
    const PAGE: &str = include_str!("../docs/monitoring.md");

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        let core = metrics.core(1, "conflate");
        core.connections.inc();
        core.bytes_sent.inc_by(12);
        core.commit_to_socket.observe(0.000_06);
        core.frames_skipped.inc_by(3);
        metrics.readers.closed(CloseReason::SlowConsumer);
        metrics.http.responded("/products/{id}", "GET", 200, Duration::from_millis(2));
        metrics.refused(Limit::Handshakes);
        metrics.source.set_table("shop.\"Order Lines\"", true);
        let text = metrics.encode();
        for line in [
            "rowcast_connections{core=\"1\"} 1",
            "rowcast_sent_bytes_total{core=\"1\"} 12",
            "rowcast_commit_to_socket_seconds_bucket{le=\"0.0001\",core=\"1\"} 1",
            "rowcast_frames_skipped_total{policy=\"conflate\"} 3",
            "rowcast_connections_closed_total{reason=\"slow_consumer\"} 1",
            "rowcast_connections_closed_total{reason=\"silence\"} 0",
            "rowcast_http_responses_total{route=\"/products/{id}\",method=\"GET\",status=\"200\"} 1",
            "rowcast_http_request_seconds_bucket{le=\"0.001\",route=\"/products/{id}\",method=\"GET\"} 0",
            "rowcast_http_request_seconds_bucket{le=\"0.0025\",route=\"/products/{id}\",method=\"GET\"} 1",
            "rowcast_refused_total{limit=\"handshakes\"} 1",
            "rowcast_refused_total{limit=\"header_timeout\"} 0",
            "rowcast_table_gaps_total{table=\"shop.\\\"Order Lines\\\"\"} 0",
            concat!("rowcast_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_page_on_monitoring_has_all_names_and_no_others() {
        let metrics = Metrics::new();
        // Without a value, a number with labels has no name either.
        drop(metrics.core(0, "conflate"));
        metrics.http.responded("/", "GET", 200, Duration::ZERO);
        metrics.source.set_table("orders", true);
        let text = metrics.encode();
        let shown: BTreeSet<String> = text
            .lines()
            .filter_map(|line| {
                let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
                let suffix = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                Some(format!("{name}{suffix}"))
            })
            .collect();
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
        let named = rows.filter(|name| ["rowcast_", "process_"].iter().any(|prefix| name.starts_with(prefix)));
        assert_eq!(named.map(str::to_owned).collect::<BTreeSet<_>>(), shown);
    }
}
