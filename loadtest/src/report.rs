//! The results of a run: [`Outcome`], as a table and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::cli::FanoutArgs;
use crate::known::Compared;
use crate::latency::{Latencies, PERCENTILES};
use crate::opening::Memory;
use crate::process::CpuUsed;

/// A generator that uses this much of a processor measures itself.
pub(crate) const BOTTLENECK_SHARE: f64 = 0.95;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// The arguments of the run.
    pub(crate) parameters: FanoutArgs,
    /// The number of connections that published.
    pub(crate) publishers: u32,
    pub(crate) opening_seconds: f64,
    pub(crate) memory: Option<Memory>,
    pub(crate) seconds: f64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) answers_per_s: f64,
    /// During the whole run.
    pub(crate) skipped: u64,
    /// Sockets that the server closed.
    pub(crate) closed: u64,
    pub(crate) latencies: Latencies,
    pub(crate) server: Option<Server>,
    /// As a share of one processor.
    pub(crate) load_cpu_share: f64,
    pub(crate) publish_failures: u64,
    pub(crate) first_failure: Option<String>,
    /// What the readers knew at the end, beside the store.
    pub(crate) states: Option<Compared>,
    pub(crate) faults_count: u64,
    pub(crate) faults: Vec<String>,
}

/// The server's use in the measured span.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) user_us_per_delivery: f64,
    pub(crate) system_us_per_delivery: f64,
    /// As a share of one processor.
    pub(crate) cpu_share: f64,
    pub(crate) rss_end_kib: u64,
}

impl Server {
    pub(crate) fn new(used: CpuUsed, deliveries: u64, seconds: f64, rss_end_kib: u64) -> Self {
        let each = |us: f64| us / deliveries.max(1) as f64;
        Self {
            cpu_us_per_delivery: each(used.total_us),
            user_us_per_delivery: each(used.user_us),
            system_us_per_delivery: each(used.system_us),
            cpu_share: used.total_us / (seconds * 1e6),
            rss_end_kib,
        }
    }
}

impl Outcome {
    pub(crate) fn new(args: &FanoutArgs, opening_seconds: f64, memory: Option<Memory>) -> Self {
        Self {
            parameters: args.clone(),
            publishers: args.publishers(),
            opening_seconds,
            memory,
            seconds: 0.0,
            deliveries: 0,
            deliveries_per_s: 0.0,
            answers_per_s: 0.0,
            skipped: 0,
            closed: 0,
            latencies: Latencies::default(),
            server: None,
            load_cpu_share: 0.0,
            publish_failures: 0,
            first_failure: None,
            states: None,
            faults_count: 0,
            faults: Vec::new(),
        }
    }

    /// Returns true if everything arrived.
    pub(crate) fn is_good(&self) -> bool {
        self.faults_count == 0 && self.publish_failures == 0
    }

    /// Returns true if the generator was busier than a measurement bears.
    pub(crate) fn is_load_bound(&self) -> bool {
        self.load_cpu_share >= BOTTLENECK_SHARE
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut rows = Rows::default();
        rows.add("deliveries", format!("{} in {:.1} s", self.deliveries, self.seconds));
        rows.add("deliveries/s", format!("{:.0}", self.deliveries_per_s));
        rows.add("publisher answers/s", format!("{:.0} ({} publishers)", self.answers_per_s, self.publishers));
        for percentile in PERCENTILES {
            rows.add(&format!("latency p{percentile}"), duration(self.latencies.at(percentile)));
        }
        rows.add("latency max", duration(self.latencies.max_us));
        rows.add("skipped, with a notice", self.skipped.to_string());
        if let Some(Compared { subscriptions, different }) = self.states {
            rows.add("states as in the store", format!("{} of {subscriptions}", subscriptions - different));
        }
        if let Some(server) = &self.server {
            rows.add(
                "server CPU per delivery",
                format!(
                    "{:.2} µs ({:.2} user, {:.2} system)",
                    server.cpu_us_per_delivery, server.user_us_per_delivery, server.system_us_per_delivery
                ),
            );
            rows.add("server CPU", format!("{:.0} % of a processor", server.cpu_share * 100.0));
            rows.add("server memory", format!("{:.1} MiB", server.rss_end_kib as f64 / 1024.0));
        }
        if let Some(memory) = &self.memory {
            rows.add("memory per connection", format!("{:.2} KiB", memory.kib_per_connection));
        }
        rows.add("generator CPU", format!("{:.0} % of a processor", self.load_cpu_share * 100.0));
        rows.0 + &self.verdict()
    }

    fn verdict(&self) -> String {
        let mut text = String::new();
        if self.is_load_bound() {
            text.push_str("note: the generator itself was at its limit; the server may do more, and latencies are the generator's too\n");
        }
        if self.closed > 0 {
            let _ = writeln!(text, "note: the server closed {} sockets", self.closed);
        }
        if let Some(failure) = &self.first_failure {
            let _ = writeln!(text, "FAILED: {} publications, the first because: {failure}", self.publish_failures);
        }
        if self.faults_count > 0 {
            let _ = writeln!(text, "FAILED: {} faults, the first of them:", self.faults_count);
            for fault in &self.faults {
                let _ = writeln!(text, "  {fault}");
            }
        } else {
            text.push_str("every change arrived in order, or was named as skipped\n");
        }
        text
    }
}

/// Lines of a name and a value.
#[derive(Default)]
pub(crate) struct Rows(pub(crate) String);

impl Rows {
    pub(crate) fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name:<26}{value}");
    }
}

/// Writes a latency in the unit that suits it.
pub(crate) fn duration(us: f64) -> String {
    if us < 1000.0 {
        format!("{us:.0} µs")
    } else if us < 1_000_000.0 {
        format!("{:.2} ms", us / 1000.0)
    } else {
        format!("{:.2} s", us / 1_000_000.0)
    }
}

/// Writes JSON to a file.
pub(crate) fn write_json(file: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
