//! TLS: its handshakes and its certificate.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{Handshake, OutcomeLabel};
use super::readings::Readings;
use super::{shown, shown_in};

/// The numbers of TLS; without it they stay at zero.
#[derive(Debug)]
pub struct TlsMetrics {
    handshakes: Family<OutcomeLabel, Counter>,
    /// The further readings of the certificate.
    pub certificate_reads: Readings,
    certificate_ends: Gauge,
}

impl TlsMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            handshakes: shown(registry, "tls_handshakes", "TLS handshakes, by how they ended"),
            certificate_reads: Readings::registered(
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
        metrics
    }

    /// Counts a handshake.
    pub(super) fn handshake(&self, ended: Handshake) {
        self.handshakes.get_or_create(&OutcomeLabel { outcome: ended.label() }).inc();
    }

    /// Shows the Unix time at which the certificate that is served ends.
    pub fn serves_until(&self, ends_at: Duration) {
        self.certificate_ends.set(ends_at.as_secs().try_into().unwrap_or(i64::MAX));
    }
}
