//! The limit of open files that the operating system sets this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to the most that this user may have, and returns it. Every socket is an open file,
/// and the usual soft limit of 1,024 is meant for programs that use `select`
/// (<https://0pointer.net/blog/file-descriptor-limits.html>).
#[must_use]
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    limit.current.unwrap_or(u64::MAX)
}
