//! The memory that strangers cost a server process at its limits, against bounds. With `ROWCAST_COSTS=long`, as
//! many and as large as the limits allow, which takes minutes; otherwise a part of it.

mod answers;
mod bodies;
mod memory;

use crate::process::Running;

/// Returns the size of a test: the second only in a long run.
pub(crate) fn size(short: usize, long: usize) -> usize {
    if std::env::var("ROWCAST_COSTS").is_ok_and(|extent| extent == "long") { long } else { short }
}

pub(crate) const MIB: usize = 1024 * 1024;

/// The most that a process had in memory since [`forget_peak`], in bytes.
pub(crate) fn peak_bytes(server: &Running) -> usize {
    status_bytes(server, "VmHWM:")
}

/// The memory that a process has, in bytes.
pub(crate) fn resident_bytes(server: &Running) -> usize {
    status_bytes(server, "VmRSS:")
}

/// Has the kernel measure the peak anew (proc(5), `clear_refs`).
pub(crate) fn forget_peak(server: &Running) {
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("the process is ours");
}

fn status_bytes(server: &Running, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
    let kib: usize = line.trim().strip_suffix("kB").expect("in KiB").trim().parse().expect("a number");
    kib * 1024
}
