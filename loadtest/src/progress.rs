//! The progress that is shown while a run goes on: a bar on a terminal, else a line now and then.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The interval between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// A part of the run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    done: Cell<u64>,
    last_line: Cell<Instant>,
}

impl Progress {
    /// Begins a part with this name and, if that is known, so many steps.
    pub(crate) fn new(what: &'static str, steps: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, steps));
        Self { bar, what, done: Cell::new(0), last_line: Cell::new(Instant::now()) }
    }

    /// Counts so many more steps as done.
    pub(crate) fn add(&self, steps: u64) {
        self.done.set(self.done.get() + steps);
        match &self.bar {
            Some(bar) => bar.inc(steps),
            None => self.line(|| format!("{} done", self.done.get())),
        }
    }

    /// Says how it stands.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(what());
                bar.tick();
            }
            None => self.line(what),
        }
    }

    fn line(&self, what: impl FnOnce() -> String) {
        if self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            // Whoever started this may have closed standard error.
            let _ = writeln!(std::io::stderr(), "{}: {}", self.what, what());
        }
    }

    /// Ends this part.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, steps: Option<u64>) -> ProgressBar {
    let (bar, template) = match steps {
        Some(steps) => (ProgressBar::new(steps), "{prefix} {wide_bar} {pos}/{len}"),
        None => (ProgressBar::new_spinner(), "{spinner} {prefix} {elapsed}: {msg}"),
    };
    bar.with_prefix(what).with_style(ProgressStyle::with_template(template).expect("the templates are right"))
}
