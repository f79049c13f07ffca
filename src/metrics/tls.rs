//! TLS: its handshakes and its certificate.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{Handshake, OutcomeLabel};
use super::{shown, shown_in};

/// The label of a reading of a certificate that can be used, and of one that cannot.
const CERTIFICATE_READS: [&str; 2] = ["used", "refused"];

/// The numbers of TLS; without it they stay at zero.
#[derive(Debug)]
pub struct TlsMetrics {
    handshakes: Family<OutcomeLabel, Counter>,
    certificate_reads: Family<OutcomeLabel, Counter>,
    certificate_ends: Gauge,
}

impl TlsMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            handshakes: shown(registry, "tls_handshakes", "TLS handshakes, by how they ended"),
            certificate_reads: shown(
                registry,
                "tls_certificate_reads",
                "How often a changed certificate was read, by whether it could be used",
            ),
            certificate_ends: shown_in(
                registry,
                "tls_certificate_not_after_timestamp",
                Unit::Seconds,
                "The last second of the certificate that is served; 0 without TLS",
            ),
        };
        for outcome in Handshake::ALL {
            drop(metrics.handshakes.get_or_create(&OutcomeLabel { outcome: outcome.label() }));
        }
        for outcome in CERTIFICATE_READS {
            drop(metrics.certificate_reads.get_or_create(&OutcomeLabel { outcome }));
        }
        metrics
    }

    /// Counts a handshake.
    pub(super) fn handshake(&self, ended: Handshake) {
        self.handshakes.get_or_create(&OutcomeLabel { outcome: ended.label() }).inc();
    }

    /// Counts a further reading of the certificate.
    pub fn certificate_read(&self, is_usable: bool) {
        let [used, refused] = CERTIFICATE_READS;
        self.certificate_reads.get_or_create(&OutcomeLabel { outcome: if is_usable { used } else { refused } }).inc();
    }

    /// Shows the Unix time at which the certificate that is served ends.
    pub fn serves_until(&self, ends_at: Duration) {
        self.certificate_ends.set(ends_at.as_secs().try_into().unwrap_or(i64::MAX));
    }
}
