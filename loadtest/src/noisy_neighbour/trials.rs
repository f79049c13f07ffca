//! The attacks that there are, as one table ([`TRIALS`]): the clients, their actions and rates, and the kind of server.
//! Pure.

use clap::ValueEnum;
use hyper::Method;
use serde::Serialize;

/// Attacks by name; some have several trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AttackName {
    /// Commands of 256 KiB, subscribing and unsubscribing in turn
    LargeCommands,
    /// The same, with products that fall into one shard where the hash has no seed
    OneShard,
    /// WebSocket continuation frames without a payload
    EmptyContinuations,
    /// WebSocket continuation frames of one byte
    ByteContinuations,
    /// Messages of 256 KiB that are no commands
    NotCommands,
    /// Many small commands in one segment
    PackedCommands,
    /// Lists of 1,000 rows of 1 MB that are hardly read
    LargeLists,
    /// Bodies of 1 MiB that do not end
    SlowBodies,
    /// GET /readyz in 200 loops
    Readyz,
    /// HTTP/2 `WINDOW_UPDATE` frames
    WindowUpdates,
    /// Pings in a WebSocket on an HTTP/2 stream
    StreamPings,
    /// GET of one product in 600 loops
    Reads,
    /// Readers of very many products that close
    Closing,
}

/// The action of each client of an attack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    LargeCommands,
    OneShard,
    PackedCommands,
    Continuations { payload_bytes: usize },
    NotCommands,
    ListsSlowly,
    ListsWithoutWindow,
    BodiesOnStreams { method: &'static Method, path: &'static str },
    BodiesInChunks,
    Requests { path: &'static str },
    WindowUpdates,
    StreamPings,
    CloseMany,
    CloseUnread,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) name: AttackName,
    pub(super) kind: Kind,
    /// The server's.
    pub(super) cores: u16,
    pub(super) clients: usize,
    /// A description of the clients, and of the unit that is counted.
    pub(super) what: &'static str,
    /// Further options of the server.
    pub(super) options: &'static [&'static str],
    /// A round with the attack lasts this long at least.
    pub(super) seconds_min: f64,
}

impl Trial {
    const fn new(name: AttackName, kind: Kind, cores: u16, clients: usize, what: &'static str) -> Self {
        Self { name, kind, cores, clients, what, options: &[], seconds_min: 0.0 }
    }

    /// Returns true if the attack is made on another server too. Lists take a gigabyte of disk on each.
    pub(super) const fn has_twin(&self) -> bool {
        !matches!(self.kind, Kind::ListsSlowly | Kind::ListsWithoutWindow)
    }

    const fn with_options(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    const fn for_at_least(mut self, seconds: f64) -> Self {
        self.seconds_min = seconds;
        self
    }
}

/// Commands that are packed are to be measured, and not how many may come in a second.
const AS_MANY_AS_COME: &[&str] = &["--commands-per-second", "0"];
/// The time that a gigabyte takes to be sent or listed.
const LONG: f64 = 6.0;

/// All of them.
pub(super) const TRIALS: &[Trial] = {
    use AttackName as A;
    use Kind as K;
    const fn empty() -> Kind {
        K::Continuations { payload_bytes: 0 }
    }
    const fn byte() -> Kind {
        K::Continuations { payload_bytes: 1 }
    }
    const fn bodies(method: &'static Method, path: &'static str) -> Kind {
        K::BodiesOnStreams { method, path }
    }
    &[
        Trial::new(A::LargeCommands, K::LargeCommands, 1, 1, "commands"),
        Trial::new(A::OneShard, K::OneShard, 2, 2, "commands"),
        Trial::new(A::EmptyContinuations, empty(), 1, 1, "frames"),
        Trial::new(A::EmptyContinuations, empty(), 2, 2, "frames"),
        Trial::new(A::ByteContinuations, byte(), 1, 1, "frames"),
        Trial::new(A::ByteContinuations, byte(), 2, 2, "frames"),
        Trial::new(A::NotCommands, K::NotCommands, 1, 1, "messages"),
        Trial::new(A::NotCommands, K::NotCommands, 2, 2, "messages"),
        Trial::new(A::PackedCommands, K::PackedCommands, 1, 1, "commands").with_options(AS_MANY_AS_COME),
        Trial::new(A::PackedCommands, K::PackedCommands, 2, 1, "commands").with_options(AS_MANY_AS_COME),
        Trial::new(A::LargeLists, K::ListsSlowly, 1, 4, "lists over HTTP/1, read slowly").for_at_least(LONG),
        Trial::new(A::LargeLists, K::ListsWithoutWindow, 1, 100, "lists, HTTP/2 without window").for_at_least(LONG),
        Trial::new(A::SlowBodies, bodies(&Method::POST, "/x"), 1, 20, "bodies to /x, HTTP/2").for_at_least(LONG),
        Trial::new(A::SlowBodies, bodies(&Method::PUT, "/products/1"), 1, 20, "bodies of a product, HTTP/2")
            .for_at_least(LONG),
        Trial::new(A::SlowBodies, K::BodiesInChunks, 1, 40, "bodies in chunks, HTTP/1").for_at_least(LONG),
        Trial::new(A::Readyz, K::Requests { path: "/readyz" }, 2, 200, "requests"),
        Trial::new(A::WindowUpdates, K::WindowUpdates, 1, 1, "frames"),
        Trial::new(A::StreamPings, K::StreamPings, 1, 1, "pings"),
        Trial::new(A::Reads, K::Requests { path: "/products/4000000007" }, 1, 600, "requests"),
        Trial::new(A::Closing, K::CloseMany, 1, 60, "readers of 100,000 products"),
        Trial::new(A::Closing, K::CloseUnread, 1, 200, "changes to readers of 20,000"),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_trial() {
        for name in AttackName::value_variants() {
            assert!(TRIALS.iter().any(|trial| trial.name == *name), "{name:?} has no trial");
        }
    }

    #[test]
    fn the_product_that_is_read_is_the_one_that_is_there() {
        let path = format!("/products/{}", super::super::probe::PRODUCT);
        assert!(TRIALS.iter().any(|trial| matches!(trial.kind, Kind::Requests { path: read } if read == path)));
    }
}
