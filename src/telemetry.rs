//! The log: lines on standard error, for people or for machines.
//!
//! Writing it never waits and never fails: a line that standard error does not take at once (its pipe is full or closed,
//! its disk is full) is lost and counted, since a server that nobody can read of is still one that serves.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{self, PanicHookInfo};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use prometheus_client::metrics::counter::Counter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::LogFormat;

/// The bytes that a pipe takes whole and at once when `poll` says that it can be written (`PIPE_BUF`, pipe(7)).
const PIECE_BYTES_MAX: usize = 4096;

static LINES_LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Starts the log, and has panics written to it. `RUST_LOG` chooses what is shown
/// (<https://docs.rs/tracing-subscriber/0.3/tracing_subscriber/filter/targets/struct.Targets.html>); without it, `info`.
pub fn start(format: LogFormat) {
    let shown = std::env::var("RUST_LOG").unwrap_or_default();
    let (targets, refused) = targets(&shown);
    let lines = fmt::layer()
        .with_writer(|| StandardError)
        // It would be told by eprintln!, which panics.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Registry::default().with(lines).with(targets).init();
    panic::set_hook(Box::new(log_panic));
    if let Some(error) = refused {
        tracing::warn!(%error, RUST_LOG = shown, "RUST_LOG is not understood, and info is shown; try rowcast=debug");
    }
}

/// Returns what `RUST_LOG` has shown, and the error of one that cannot be read.
fn targets(shown: &str) -> (Targets, Option<ParseError>) {
    let otherwise = Targets::new().with_default(LevelFilter::INFO);
    if shown.trim().is_empty() {
        return (otherwise, None);
    }
    match shown.parse() {
        Ok(targets) => (targets, None),
        Err(error) => (otherwise, Some(error)),
    }
}

/// Writes the last sentence of a process that fails.
pub fn say_at_the_end(sentence: &dyn std::fmt::Display) {
    // The exit code tells too.
    let _ = StandardError.write_all(format!("rowcast: {sentence}\n").as_bytes());
}

/// Writes to standard output what it takes at once; whoever started this may have closed it, or read nothing.
pub fn greet(text: &str) {
    // Its content can be found out otherwise.
    let _ = write_at_once(io::stdout().as_fd(), text.as_bytes());
}

/// The count of lines of this process's log that were lost.
#[must_use]
pub fn lines_lost() -> Counter {
    LINES_LOST.clone()
}

/// One line with the place of the panic, and a backtrace where `RUST_BACKTRACE` asks for it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message").replace('\n', " ");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(thread, place, message, %backtrace, "a panic, which is a fault of this program");
    } else {
        tracing::error!(thread, place, message, "a panic, which is a fault of this program");
    }
}

/// Standard error as the log writes to it: each write is one line, and none fails.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        static LINES: Mutex<Lines> = Mutex::new(Lines { is_torn: false });
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.write(io::stderr().as_fd(), line).is_err() {
            LINES_LOST.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way to a file, one at a time.
#[derive(Debug)]
struct Lines {
    /// True if the last line was written in part.
    is_torn: bool,
}

impl Lines {
    fn write(&mut self, file: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            write_at_once(file, b"\n").0?;
            self.is_torn = false;
        }
        let (result, written) = write_at_once(file, line);
        self.is_torn = result.is_err() && written > 0;
        result
    }
}

/// Writes without waiting; also how many bytes were written.
fn write_at_once(file: BorrowedFd<'_>, bytes: &[u8]) -> (io::Result<()>, usize) {
    let mut written = 0;
    while written < bytes.len() {
        let piece = &bytes[written..bytes.len().min(written + PIECE_BYTES_MAX)];
        let mut ready = [PollFd::from_borrowed_fd(file, PollFlags::OUT)];
        let result = match poll(&mut ready, Some(&Timespec::default())) {
            Ok(0) => Err(Errno::AGAIN),
            Ok(_) => rustix::io::write(file, piece),
            Err(error) => Err(error),
        };
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), written),
            Ok(bytes) => written += bytes,
            Err(Errno::INTR) => {}
            Err(error) => return (Err(error.into()), written),
        }
    }
    (Ok(()), written)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tracing::Level;

    use super::*;

    #[test]
    fn a_line_that_a_full_pipe_does_not_take_is_given_up_and_the_next_begins_anew() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut lines = Lines { is_torn: false };
        let line = vec![b'x'; 1024 * 1024];
        let error = lines.write(writer.as_fd(), &line).unwrap_err();
        assert_eq!((error.kind(), lines.is_torn), (io::ErrorKind::WouldBlock, true));
        assert!(lines.write(writer.as_fd(), b"lost\n").is_err());
        let mut taken = 0;
        while lines.write(writer.as_fd(), b"after\n").is_err() {
            taken += reader.read(&mut [0; 4096]).unwrap();
        }
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!((1..line.len()).contains(&(taken + rest.len())));
        assert_eq!(rest.trim_start_matches('x'), "\nafter\n");
    }

    #[test]
    fn what_is_shown_is_chosen_by_target_and_level() {
        let shows = |text: &str, target: &str, level: Level| targets(text).0.would_enable(target, &level);
        for text in ["", " ", "info", "rowcast=bright", "a=b=c"] {
            let levels = [Level::INFO, Level::DEBUG].map(|level| shows(text, "rowcast::server", level));
            assert_eq!(levels, [true, false], "{text}");
            assert_eq!(targets(text).1.is_some(), text.contains('='), "{text}");
        }
        assert!(shows("rowcast=debug", "rowcast::server", Level::DEBUG));
        assert!(!shows("rowcast=debug", "hyper", Level::ERROR));
        assert!(shows("warn,rowcast::http=trace", "rowcast::http::listener", Level::TRACE));
        assert!(!shows("warn,rowcast::http=trace", "rowcast::server", Level::INFO));
    }

    #[test]
    fn what_cannot_be_written_at_all_is_given_up() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut lines = Lines { is_torn: false };
        assert_eq!(lines.write(writer.as_fd(), b"line\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(lines.write(full.as_fd(), b"line\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!lines.is_torn);
    }
}
