//! The requests and their answers, of both versions of HTTP.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{RequestLabel, ResponseLabel};
use super::shown;

/// The upper bounds of a request's seconds: a read or write of a row takes some milliseconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Copy, Debug)]
struct RequestBuckets;

impl MetricConstructor<Histogram> for RequestBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// The numbers of requests.
#[derive(Debug)]
pub struct HttpMetrics {
    responses: Family<ResponseLabel, Counter>,
    seconds: Family<RequestLabel, Histogram, RequestBuckets>,
    /// HTTP/2 connections open now.
    pub http2_connections: Gauge,
    /// Assets pushed together with the page.
    pub http2_pushes: Counter,
}

impl HttpMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let seconds = Family::new_with_constructor(RequestBuckets);
        registry.register_with_unit(
            "http_request",
            "From a request's head to the head of its answer, by route and method",
            Unit::Seconds,
            seconds.clone(),
        );
        Self {
            responses: shown(registry, "http_responses", "HTTP responses, by route, method and status"),
            seconds,
            http2_connections: shown(registry, "http2_connections", "HTTP/2 connections open"),
            http2_pushes: shown(registry, "http2_pushes", "Assets pushed with the page"),
        }
    }

    /// Counts a response. `route` is a row of the table of routes, `method` a known method, or either is `other`.
    pub fn responded(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        self.responses.get_or_create(&ResponseLabel { route, method, status }).inc();
        self.seconds.get_or_create(&RequestLabel { route, method }).observe(took.as_secs_f64());
    }
}
