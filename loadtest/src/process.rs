//! The kernel's figures on a process: its processor time and its memory.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Processor time since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// All of it, to the nanosecond.
    pub(crate) total_ns: u64,
    /// Ticks outside and inside of the kernel, which only tell the proportion.
    user_ticks: u64,
    system_ticks: u64,
}

impl Cpu {
    /// Reads the processor time of these processes.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Self> {
        pids.iter().try_fold(Self::default(), |sum, pid| Ok(sum.plus(&Self::read(&format!("/proc/{pid}"))?)))
    }

    /// Reads that of this process.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::read("/proc/self")
    }

    fn read(directory: &str) -> anyhow::Result<Self> {
        let mut total_ns = 0;
        for task in fs::read_dir(Path::new(directory).join("task")).with_context(|| gone(directory))? {
            // A thread may end while its directory is read.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            total_ns += on_cpu_ns(&text);
        }
        let stat = fs::read_to_string(format!("{directory}/stat")).with_context(|| gone(directory))?;
        let (user_ticks, system_ticks) = ticks(&stat).context("read the process's stat")?;
        Ok(Self { total_ns, user_ticks, system_ticks })
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            total_ns: self.total_ns + other.total_ns,
            user_ticks: self.user_ticks + other.user_ticks,
            system_ticks: self.system_ticks + other.system_ticks,
        }
    }

    /// Returns the time that was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> CpuUsed {
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(before.system_ticks) as f64;
        let total_us = self.total_ns.saturating_sub(before.total_ns) as f64 / 1000.0;
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        CpuUsed { total_us, user_us: total_us * user_share, system_us: total_us * (1.0 - user_share) }
    }
}

/// Processor time that was used.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "units come last")]
pub(crate) struct CpuUsed {
    pub(crate) total_us: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
}

/// Reads the resident memory of these processes, in KiB.
pub(crate) fn rss_kib(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().try_fold(0, |sum, pid| {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| gone(&format!("/proc/{pid}")))?;
        Ok(sum + vm_rss_kib(&status).context("read the process's VmRSS")?)
    })
}

fn gone(directory: &str) -> String {
    format!("there is no {directory}; --pid takes the process id of the running server")
}

fn on_cpu_ns(schedstat: &str) -> u64 {
    schedstat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Returns `utime` and `stime`, counted from the end of the name, which may contain anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn vm_rss_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found() {
        assert_eq!(on_cpu_ns("123456 7 8\n"), 123_456);
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0 20 0 1 0 5";
        assert_eq!(ticks(stat), Some((111, 222)));
        assert_eq!(vm_rss_kib("Name:\tx\nVmRSS:\t  1234 kB\n"), Some(1234));
    }

    #[test]
    fn this_process_has_used_some() {
        let before = Cpu::own().unwrap();
        let used = Cpu::of(&[std::process::id()]).unwrap().since(&before);
        assert!(before.total_ns > 0 && used.total_us >= 0.0);
        assert!(rss_kib(&[std::process::id()]).unwrap() > 100);
    }
}
