//! A request as `/metrics` counts it: [`Asked`].

use std::time::Instant;

use hyper::{Method, Request, StatusCode};

use super::routes;
use crate::metrics::Metrics;

/// A request that is counted with its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    route: &'static str,
    method: &'static str,
    at: Instant,
}

impl Asked {
    /// Returns a request that has come now.
    pub(super) fn now<B>(head: &Request<B>) -> Self {
        Self { route: routes::label(head.uri().path()), method: label(head.method()), at: Instant::now() }
    }

    /// Counts it, as answered now.
    pub(super) fn answered(self, metrics: &Metrics, status: StatusCode) {
        metrics.http.responded(self.route, self.method, status.as_u16(), self.at.elapsed());
    }
}

/// Returns the label of a method. A method that anybody could invent is not a label of a metric.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}
