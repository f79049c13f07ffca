//! The faults of a run: all are counted, the first are kept ([`Faults`]). Pure.

use std::fmt;

/// The most faults that are told apart; one is enough to fail.
const KEPT_MAX: usize = 10;

/// A fault of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) socket: usize,
    pub(crate) product: u32,
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}, product {}: {}", self.socket, self.product, self.what)
    }
}

/// All faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    first: Vec<Fault>,
    /// The number of faults, those that are not kept included.
    pub(crate) count: u64,
}

impl Faults {
    /// Adds a fault, whose text is made only if it is kept.
    pub(crate) fn add(&mut self, socket: usize, product: u32, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(Fault { socket, product, what: what() });
        }
    }

    /// Returns the first of them, as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.first.iter().map(ToString::to_string).collect()
    }
}
