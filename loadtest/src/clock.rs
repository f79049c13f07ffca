//! The time of a run, and waiting for it more exactly than a runtime's timer does.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Nanoseconds since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the current time.
    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A timer of the kernel's. The runtime's timer has the grain of a millisecond, which would be the greater part of the
/// latencies that are measured.
pub(crate) struct Alarm {
    clock: Clock,
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    pub(crate) fn new(clock: Clock) -> anyhow::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .context("create a timer")?;
        Ok(Self { clock, timer: watch(timer)? })
    }

    /// Returns at this time of the run, or at once if it is over.
    pub(crate) async fn until(&self, time_ns: u64) -> anyhow::Result<()> {
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= time_ns {
                return Ok(());
            }
            let wait = Duration::from_nanos(time_ns - now_ns);
            let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).context("set a timer")?;
            self.timer.readable().await?.clear_ready();
        }
    }
}

/// Has the runtime tell when a file of ours is readable.
#[expect(deprecated, reason = "the other constructor is unsafe, for owners that may close the file; an OwnedFd cannot")]
pub(crate) fn watch(file: OwnedFd) -> anyhow::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(file, Interest::READABLE).context("watch a file")
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: i64::from(duration.subsec_nanos()) }
}
