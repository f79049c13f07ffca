//! The parts that a server cannot do without, each a task or a thread: the first that ends before its time ends the
//! server. Half a server would say that it is ready, and take sockets that nobody serves.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The time in which the part that failed is heard of, too: its channels close while it unwinds, and the parts that
/// wait for them may end and say so first.
const CAUSE_TIMEOUT: Duration = Duration::from_millis(50);

/// The watch over every [`Part`], which hears of those that end before their time. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Supervisor {
    ends: Arc<Mutex<Vec<End>>>,
    /// Cancelled at the first end.
    failed: CancellationToken,
    /// Cancelled when parts may return.
    stopping: CancellationToken,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    part: Cow<'static, str>,
    panicked: bool,
}

/// The parts of a server that have ended before their time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    parts: Vec<Cow<'static, str>>,
    panicked: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.panicked { "panicked (the log says where)" } else { "ended before its time" };
        let parts = self.parts.join(", and ");
        write!(f, "{parts} {how}; a server without it would be half a one, so all of it ends: start it again")
    }
}

/// A fault for tests: the part with this name panics or returns once `strikes` is cancelled.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Fault {
    pub part: Cow<'static, str>,
    pub panics: bool,
    pub strikes: CancellationToken,
}

/// Runs the work of the process's main thread, in which a panic is an end like others. Nothing may be used after it
/// that it may have left half done.
///
/// # Errors
/// The work's own, or a sentence about the panic.
pub fn end_of_main_thread(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let panicked =
        |_| anyhow::anyhow!("the main thread panicked (the log says where), so the process ends: start it again");
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)?
}

impl Supervisor {
    /// Returns the supervisor of a server whose parts may return once `stopping` is cancelled. None of them may ever
    /// panic.
    #[must_use]
    pub fn new(stopping: CancellationToken) -> Self {
        Self { ends: Arc::default(), failed: CancellationToken::new(), stopping, fault: None }
    }

    /// Gives a part this fault.
    #[doc(hidden)]
    #[must_use]
    pub fn with_fault(self, fault: Option<Fault>) -> Self {
        Self { fault, ..self }
    }

    /// Returns a part with this name, which runs until it is dropped.
    #[must_use]
    pub fn part(&self, name: impl Into<Cow<'static, str>>) -> Part {
        Part { name: name.into(), supervisor: self.clone() }
    }

    /// Returns once a part has ended before its time. Cancel-safe.
    pub async fn failed(&self) -> Failure {
        self.failed.cancelled().await;
        sleep(CAUSE_TIMEOUT).await;
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        // If one has panicked, the others that ended had waited for it, or were unwound with it.
        if let Some(cause) = ends.iter().find(|end| end.panicked) {
            return Failure { parts: vec![cause.part.clone()], panicked: true };
        }
        Failure { parts: ends.iter().map(|end| end.part.clone()).collect(), panicked: false }
    }

    fn ended(&self, end: End) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
        self.failed.cancel();
    }
}

/// A task or a thread that runs as long as its server: the task or thread owns it, and drops it last.
#[derive(Debug)]
pub struct Part {
    name: Cow<'static, str>,
    supervisor: Supervisor,
}

impl Part {
    /// Runs the part's future.
    pub async fn run<T: Default>(self, future: impl Future<Output = T>) -> T {
        match self.supervisor.fault.clone().filter(|fault| fault.part == self.name) {
            None => future.await,
            Some(fault) => tokio::select! {
                result = future => result,
                () = fault.strike() => T::default(),
            },
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let panicked = thread::panicking();
        if panicked || !self.supervisor.stopping.is_cancelled() {
            self.supervisor.ended(End { part: std::mem::take(&mut self.name), panicked });
        }
    }
}

impl Fault {
    async fn strike(&self) {
        self.strikes.cancelled().await;
        assert!(!self.panics, "a fault for a test");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    fn supervisor() -> (Supervisor, CancellationToken) {
        let stopping = CancellationToken::new();
        (Supervisor::new(stopping.clone()), stopping)
    }

    fn failure(part: &'static str, panicked: bool) -> Failure {
        Failure { parts: vec![part.into()], panicked }
    }

    /// Returns the failure that must come.
    async fn failed(supervisor: &Supervisor) -> Failure {
        timeout(Duration::from_mins(1), supervisor.failed()).await.expect("a part has failed")
    }

    /// Closes a channel as its thread unwinds, and goes on when the part that waited for it has ended.
    struct Awaited(Supervisor, Option<oneshot::Sender<()>>);

    impl Drop for Awaited {
        fn drop(&mut self) {
            self.1 = None;
            while !self.0.failed.is_cancelled() {
                thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_or_returns_is_a_failure_with_its_name() {
        for panics in [false, true] {
            let (supervisor, _stopping) = supervisor();
            tokio::spawn(supervisor.part("the other").run(pending::<()>()));
            tokio::spawn(supervisor.part("the task").run(async move { assert!(!panics, "a fault") }));
            assert_eq!(failed(&supervisor).await, failure("the task", panics));
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_or_returns_is_a_failure_with_its_name() {
        for panics in [false, true] {
            let (supervisor, _stopping) = supervisor();
            let part = supervisor.part("the thread");
            let thread = thread::spawn(move || {
                let _part = part;
                assert!(!panics, "a fault");
            });
            assert_eq!(failed(&supervisor).await, failure("the thread", panics));
            assert_eq!(thread.join().is_err(), panics);
        }
    }

    #[tokio::test]
    async fn once_the_server_stops_a_part_may_return_but_not_panic() {
        let (supervisor, stopping) = supervisor();
        stopping.cancel();
        tokio::spawn(supervisor.part("a polite one").run(async {})).await.unwrap();
        let aborted = tokio::spawn(supervisor.part("an aborted one").run(pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        tokio::spawn(supervisor.part("a rude one").run::<()>(async { panic!("a fault") })).await.unwrap_err();
        assert_eq!(failed(&supervisor).await, failure("a rude one", true));
    }

    #[tokio::test]
    async fn the_part_that_panicked_is_named_and_not_those_that_waited_for_it() {
        let (supervisor, _stopping) = supervisor();
        let (sender, receiver) = oneshot::channel();
        let cause = supervisor.part("the cause");
        tokio::spawn(supervisor.part("the one that waits").run(async { drop(receiver.await) }));
        let awaited = Awaited(supervisor.clone(), Some(sender));
        thread::spawn(move || {
            let _part = cause;
            let _awaited = awaited;
            panic!("a fault");
        });
        assert_eq!(failed(&supervisor).await, failure("the cause", true));
    }

    #[test]
    fn a_failure_is_one_sentence() {
        let sentence = failure("the acceptor", false).to_string();
        assert!(sentence.starts_with("the acceptor ended before its time; ") && !sentence.contains('\n'));
    }
}
