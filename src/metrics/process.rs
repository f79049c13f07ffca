//! The process, under the names that all client libraries of Prometheus give these numbers
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;
use std::fs;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// The process, looked at when it is shown.
#[derive(Debug)]
pub(super) struct Process {
    started_at: SystemTime,
}

/// Its use of the machine (proc(5), `/proc/pid/stat`).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Process {
    /// Returns the process, which starts now.
    pub(super) fn started() -> Self {
        Self { started_at: SystemTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut all: DescriptorEncoder<'_>) -> fmt::Result {
        let started_at = self.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let help = "When the process started, in seconds of Unix time.";
        gauge(&mut all, "process_start_time", Some(&Unit::Seconds), help, started_at.as_secs_f64())?;
        if let Some(Usage { cpu_seconds, virtual_bytes, resident_bytes }) = usage() {
            let (cpu, help) = (ConstCounter::new(cpu_seconds), "CPU time, in user and kernel mode.");
            cpu.encode(all.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)?;
            gauge(&mut all, "process_resident_memory", Some(&Unit::Bytes), "Resident memory.", resident_bytes)?;
            gauge(&mut all, "process_virtual_memory", Some(&Unit::Bytes), "Virtual memory.", virtual_bytes)?;
        }
        if let Some(open) = open_files() {
            gauge(&mut all, "process_open_fds", None, "Open file descriptors.", open)?;
        }
        let max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        gauge(&mut all, "process_max_fds", None, "The most file descriptors that may be open.", max)
    }
}

fn gauge<N>(all: &mut DescriptorEncoder<'_>, name: &str, unit: Option<&Unit>, help: &str, value: N) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    let value = ConstGauge::new(value);
    value.encode(all.encode_descriptor(name, help, unit, value.metric_type())?)
}

/// Returns what the kernel says of this process.
fn usage() -> Option<Usage> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Reads the line. The name of the program, which is in parentheses, may have anything in it.
fn parse(line: &str) -> Option<Usage> {
    let (_, rest) = line.rsplit_once(") ")?;
    // The first is the third of proc(5).
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
    let cpu_seconds = seconds(number(14)? + number(15)?);
    Some(Usage { cpu_seconds, virtual_bytes: number(23)?, resident_bytes: number(24)? * page_size() as u64 })
}

#[allow(clippy::cast_precision_loss)] // 2^53 ticks are a million years
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

/// Returns the number of open files: the size of the directory since Linux 6.2, which is 0 before; there its entries are
/// counted, about a microsecond each.
fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // One is the directory itself, while it is read.
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64),
        files => Some(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_have_anything_in_it() {
        let rest = "S 1 7 7 0 -1 4194560 900 0 0 0 250 150 0 0 20 0 5 0 4242 123456789 321 18446744073709551615 1 1";
        for name in ["rowcast", "a) S 9 9", ""] {
            let read = parse(&format!("7 ({name}) {rest}\n")).unwrap();
            assert!((read.cpu_seconds - seconds(400)).abs() < 1e-6, "{read:?}");
            assert_eq!((read.virtual_bytes, read.resident_bytes), (123_456_789, 321 * page_size() as u64), "{name}");
        }
        for broken in ["", "7 (a)", "7 (a) S 1", &format!("7 (a) {}", rest.replace("150", "x"))] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn both_ways_of_counting_open_files_agree() {
        // Other tests open files meanwhile.
        let agree = || open_files() == Some(fs::read_dir("/proc/self/fd").unwrap().count().saturating_sub(1) as u64);
        assert!((0..10_000).any(|_| agree()));
        assert!(usage().is_some_and(|usage| usage.resident_bytes > 0));
    }
}
