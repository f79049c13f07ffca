//! The readers of the oracle: each keeps a [`Replica`], and says what it saw that must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowcast::watch::message::Message;
use rowcast::watch::replica::{Effect, Replica};
use rowcast::watch::socket::{self, Server, Socket};
use tokio::sync::watch;

use super::random::Random;

/// The habits of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Reads as it comes, on one connection as long as that lives.
    Steady,
    /// Leaves at random, and comes back with its versions, perhaps to another server.
    Resuming,
    /// Leaves at random, and comes back knowing nothing.
    Forgetful,
    /// Waits between two messages while writes go on.
    Slow,
    /// Reads nothing for seconds, then all.
    Stopping,
}

pub(super) const HABITS: [Habit; 5] = [Habit::Steady, Habit::Resuming, Habit::Forgetful, Habit::Slow, Habit::Stopping];

/// A reader as the oracle sees it.
pub(super) struct Reader {
    pub(super) name: String,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    replica: Replica,
    /// The greatest version heard of each product in this epoch, rows or absences.
    versions: BTreeMap<u64, u64>,
    epoch: Option<String>,
    faults: Vec<String>,
}

impl Reader {
    /// Starts a reader of these products.
    pub(super) fn start(
        number: usize,
        habit: Habit,
        products: &BTreeSet<u64>,
        servers: Arc<[Server]>,
        is_busy: watch::Receiver<bool>,
        random: Random,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            replica: Replica::new(products.clone()),
            versions: BTreeMap::new(),
            epoch: None,
            faults: Vec::new(),
        }));
        let life = Life { habit, products: products.clone(), servers, is_busy, random, seen: Arc::clone(&seen) };
        tokio::spawn(life.run());
        Self { name: format!("reader {number}, {habit:?}"), seen }
    }

    /// Returns the rows of a reader that says that they are the present state.
    pub(super) fn rows(&self) -> Option<BTreeMap<u64, (u64, String)>> {
        let seen = self.seen.lock().unwrap();
        let rows = || seen.replica.rows().map(|(id, version, row)| (id, (version, row.to_owned()))).collect();
        seen.replica.is_live().then(rows)
    }

    /// Returns what it saw that must not be.
    pub(super) fn faults(&self) -> Vec<String> {
        self.seen.lock().unwrap().faults.clone()
    }
}

struct Life {
    habit: Habit,
    products: BTreeSet<u64>,
    servers: Arc<[Server]>,
    is_busy: watch::Receiver<bool>,
    random: Random,
    seen: Arc<Mutex<Seen>>,
}

impl Life {
    async fn run(mut self) {
        let mut at = usize::try_from(self.random.below(self.servers.len() as u64)).unwrap();
        loop {
            if self.habit == Habit::Resuming {
                at = (at + 1) % self.servers.len();
            }
            let servers = Arc::clone(&self.servers);
            if let Ok(socket) = socket::open(&servers[at]).await {
                self.follow(socket).await;
            } else {
                // It is being started again.
                tokio::time::sleep(Duration::from_millis(20)).await;
                at = (at + 1) % self.servers.len();
            }
            self.seen.lock().unwrap().replica.lost();
        }
    }

    /// Follows one connection until it ends, or the reader leaves.
    async fn follow(&mut self, mut socket: Socket) {
        let commands = {
            let mut seen = self.seen.lock().unwrap();
            if self.habit == Habit::Forgetful {
                *seen = Seen {
                    replica: Replica::new(self.products.clone()),
                    versions: BTreeMap::new(),
                    epoch: None,
                    faults: std::mem::take(&mut seen.faults),
                };
            }
            seen.replica.begin()
        };
        for command in commands {
            if socket.send(&command).await.is_err() {
                return;
            }
        }
        let leaves = matches!(self.habit, Habit::Resuming | Habit::Forgetful);
        loop {
            let Ok(text) = socket.read().await else { return };
            let message = match Message::parse(&text) {
                Ok(message) => message,
                Err(error) => {
                    self.seen.lock().unwrap().faults.push(format!("{error}: {}", String::from_utf8_lossy(&text)));
                    return;
                }
            };
            self.seen.lock().unwrap().take(&message, &text);
            let is_busy = *self.is_busy.borrow();
            if is_busy && leaves && self.random.one_in(200) {
                return;
            }
            if is_busy {
                self.dawdle().await;
            }
        }
    }

    async fn dawdle(&mut self) {
        let pause = match self.habit {
            Habit::Slow => Duration::from_millis(self.random.below(30)),
            Habit::Stopping if self.random.one_in(300) => Duration::from_secs(1 + self.random.below(3)),
            _ => return,
        };
        // Until the writes end: then it reads all that waits.
        let _ = tokio::time::timeout(pause, self.is_busy.wait_for(|is_busy| !is_busy)).await;
    }
}

impl Seen {
    fn take(&mut self, message: &Message, text: &[u8]) {
        let mut fault = |what: String| self.faults.push(format!("{what}: {}", String::from_utf8_lossy(text)));
        match message {
            Message::Epoch(epoch) if self.epoch.as_ref() != Some(epoch) => {
                self.epoch = Some(epoch.clone());
                self.versions.clear();
            }
            Message::Change(change) => {
                let known = self.versions.entry(change.product_id).or_default();
                if change.version < *known {
                    fault(format!("a version went back from {known}"));
                }
                *known = change.version.max(*known);
            }
            Message::Absent { products, versions } => {
                for (product, version) in products.iter().zip(versions) {
                    let known = self.versions.entry(*product).or_default();
                    *known = (*version).max(*known);
                }
            }
            _ => {}
        }
        if let Effect::Refused(why) = self.replica.take(message) {
            self.faults.push(format!("refused: {why}"));
        }
    }
}
