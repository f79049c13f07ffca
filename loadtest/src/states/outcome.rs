//! The results of a storm: [`Outcome`], as a table and as JSON.

use std::fmt::Write;
use std::fs;

use serde::Serialize;

use crate::faults::Faults;
use crate::percentiles::Percentiles;
use crate::report::{BOTTLENECK_SHARE, Rows, duration};

/// One round: all readers ask at once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// The products that were asked for, over all readers.
    pub(super) ids: u64,
    /// The states that came.
    pub(super) states: u64,
    /// From the first command to the last reply.
    pub(super) seconds: f64,
    pub(super) ids_per_s: f64,
    pub(super) server_cpu_us_per_id: f64,
    /// For each reader, from the beginning of the round to its last reply.
    pub(super) last_reply: Percentiles,
    /// The rows that the server read from its store.
    pub(super) rows_read: u64,
    /// As a share of one processor.
    pub(super) load_cpu_share: f64,
}

/// The cost of the connections, before anything is asked for on them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Opened {
    pub(super) connections: usize,
    pub(super) seconds: f64,
    pub(super) server_cpu_us_per_connection: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome<P> {
    parameters: P,
    is_on_postgres: bool,
    opened: Opened,
    phases: Vec<Phase>,
    faults_count: u64,
    faults: Vec<String>,
    /// The machine's, at the end (`/proc/loadavg`): whatever else ran lengthens everything.
    load_average: String,
}

/// Returns the machine's load average over the last minute.
pub(super) fn load_average() -> String {
    let all = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or_default().to_owned()
}

impl<P> Outcome<P> {
    pub(super) fn new(parameters: P, is_on_postgres: bool, opened: Opened, phases: Vec<Phase>) -> Self {
        let load_average = load_average();
        Self { parameters, is_on_postgres, opened, phases, faults_count: 0, faults: Vec::new(), load_average }
    }

    /// Adds what was wrong.
    pub(super) fn with(mut self, faults: &Faults) -> Self {
        self.faults_count += faults.count;
        self.faults.extend(faults.texts());
        self
    }

    /// Returns true if all readers were told what they had to be, and nothing else.
    pub(crate) fn is_good(&self) -> bool {
        self.faults_count == 0
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut rows = Rows::default();
        let Opened { connections, seconds, server_cpu_us_per_connection: each } = self.opened;
        rows.add("connections", format!("{connections} in {seconds:.3} s, server CPU {each:.1} µs each"));
        for phase in &self.phases {
            let Phase { name, ids, seconds, ids_per_s, server_cpu_us_per_id: each, .. } = phase;
            rows.add(
                name,
                format!("{ids} ids in {seconds:.3} s, {ids_per_s:.0} ids/s, server CPU {each:.3} µs per id"),
            );
            let Phase { states, rows_read, last_reply: Percentiles { p50_us, p99_us, max_us, .. }, .. } = phase;
            rows.add("", format!("{states} states came, {rows_read} rows were read from the store"));
            let [p50, p99, max] = [p50_us, p99_us, max_us].map(|us| duration(*us));
            rows.add("", format!("last reply of a reader: p50 {p50}, p99 {p99}, max {max}"));
        }
        rows.add("load average", &self.load_average);
        rows.0 + &self.verdict()
    }

    fn verdict(&self) -> String {
        let mut text = String::new();
        for phase in self.phases.iter().filter(|phase| phase.load_cpu_share >= BOTTLENECK_SHARE) {
            let _ = writeln!(text, "note: in {:?} the generator itself was at its limit", phase.name);
        }
        if self.faults_count > 0 {
            let _ = writeln!(text, "FAILED: {} faults, the first of them:", self.faults_count);
            for fault in &self.faults {
                let _ = writeln!(text, "  {fault}");
            }
        } else {
            text.push_str("every reader knows what the store has, and was told nothing that it knew\n");
        }
        text
    }
}
