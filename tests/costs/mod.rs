//! What strangers may cost: memory of a server process at its limits, against what it may be.

mod answers;
mod bodies;
mod memory;

use crate::process::Running;

pub(crate) const MIB: usize = 1024 * 1024;

/// The most that a process had in memory since [`forget_peak`], in bytes.
pub(crate) fn peak_bytes(server: &Running) -> usize {
    status_bytes(server, "VmHWM:")
}

/// What a process has in memory, in bytes.
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
