//! The readers of the oracle that ask for states ([`Reader`]), each with a habit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::line::{Http, Line, Place};
use super::random::Random;
use super::table::{Id, PRODUCTS, Rows, Tables};
use super::witness::Witness;
use super::{differences, of};

/// What a slow reader reads in a second.
const SLOW_BYTES_PER_SECOND: u64 = 10_000;
/// The bytes that a server may send ahead to a slow reader, and to any other, over HTTP/2.
const SLOW_WINDOW: u32 = 4_096;
const WINDOW: u32 = 65_535;

/// The habit of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Reads as it comes, on one connection as long as that lives.
    Steady,
    /// Leaves at random, and comes back with its versions, perhaps to another server.
    Resuming,
    /// Leaves at random, and comes back knowing nothing.
    Forgetful,
    /// Reads some thousand bytes per second while writes go on.
    Slow,
    /// Reads nothing for seconds, then all.
    Stopping,
    /// Subscribes to some of the rows and unsubscribes from others at random.
    Churning,
    /// Wants everything; leaves at random, and comes back with what it knows, perhaps to another server.
    Wildcard,
}

impl Habit {
    pub(super) const ALL: [Self; 7] =
        [Self::Steady, Self::Resuming, Self::Forgetful, Self::Slow, Self::Stopping, Self::Churning, Self::Wildcard];

    pub(super) const fn window(self) -> u32 {
        if matches!(self, Self::Slow) { SLOW_WINDOW } else { WINDOW }
    }
}

/// What makes a reader this one: beside its habit, the protocol, and the place of its first server.
pub(super) struct Kind {
    pub(super) habit: Habit,
    pub(super) http: Http,
    pub(super) place: usize,
    pub(super) random: Random,
}

/// The servers, and whether writers are at work.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) places: Arc<[Place]>,
    pub(super) tables: Tables,
    /// All rows that there may be.
    pub(super) rows: BTreeSet<Id>,
    /// Those that every reader watches.
    pub(super) common: BTreeSet<Id>,
    pub(super) is_busy: watch::Receiver<bool>,
}

impl Surroundings {
    /// Returns the rows that a reader of this habit watches.
    const fn watched_by(&self, habit: Habit) -> &BTreeSet<Id> {
        if matches!(habit, Habit::Churning | Habit::Forgetful | Habit::Wildcard) { &self.rows } else { &self.common }
    }
}

/// A reader's pauses.
pub(super) struct Pace {
    pub(super) habit: Habit,
    pub(super) is_busy: watch::Receiver<bool>,
    pub(super) random: Random,
}

impl Pace {
    /// Waits after a message of so many bytes as the habit has it, at most until the writes end.
    pub(super) async fn rest(&mut self, bytes: usize) {
        let pause = match self.habit {
            Habit::Slow => Duration::from_secs(bytes as u64) / u32::try_from(SLOW_BYTES_PER_SECOND).unwrap(),
            Habit::Stopping if self.random.one_in(300) => Duration::from_secs(1 + self.random.below(3)),
            _ => return,
        };
        let _ = timeout(pause, self.is_busy.wait_for(|is_busy| !is_busy)).await;
    }
}

/// A reader as the oracle sees it.
pub(super) struct Reader {
    pub(super) name: String,
    pub(super) habit: Habit,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    witness: Witness,
    /// The place of the server that it has a connection to.
    at: Option<usize>,
}

impl Reader {
    pub(super) fn start(Kind { habit, http, place, random }: Kind, around: Surroundings) -> Self {
        let seen = Arc::new(Mutex::new(Seen { witness: Witness::new(around.tables.clone()), at: None }));
        let pace = Pace { habit, is_busy: around.is_busy.clone(), random };
        tokio::spawn(Life { http, around, pace, next: place, seen: Arc::clone(&seen) }.run());
        Self { name: format!("a reader, {habit:?}, HTTP/{http:?}"), habit, seen }
    }

    /// Learns whether versions may go back in this round before a new epoch is told.
    pub(super) fn begin_round(&self, may_go_back: bool) {
        self.seen.lock().unwrap().witness.may_go_back = may_go_back;
    }

    /// Returns in what it differs from the table, if it does.
    pub(super) fn differs_from(&self, table: &Rows) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let Some(rows) = seen.witness.rows() else { return Some(format!("it is not live, {}", seen.witness.wait())) };
        let wanted = of(table, seen.witness.subscribed());
        (rows != wanted).then(|| differences(&rows, &wanted))
    }

    /// Returns what it saw that must not be.
    pub(super) fn faults(&self) -> Vec<String> {
        self.seen.lock().unwrap().witness.faults()
    }

    /// Notes what happens, for who looks for the reason of a fault.
    pub(super) fn note(&self, what: &str) {
        self.seen.lock().unwrap().witness.note(what);
    }

    pub(super) fn epoch(&self) -> Option<String> {
        self.seen.lock().unwrap().witness.epoch(PRODUCTS).cloned()
    }

    /// Returns whether it is connected to this server and takes what it shows for the present state.
    pub(super) fn is_live_at(&self, server: usize) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.at == Some(server) && seen.witness.is_live()
    }
}

struct Life {
    http: Http,
    around: Surroundings,
    pace: Pace,
    /// The place of the server to go to next.
    next: usize,
    seen: Arc<Mutex<Seen>>,
}

impl Life {
    async fn run(mut self) {
        loop {
            let at = self.next % self.around.places.len();
            let place = self.around.places[at].clone();
            if let Some(line) = Line::open(&place, self.http, self.pace.habit.window()).await {
                self.seen.lock().unwrap().at = Some(at);
                self.follow(line).await;
            } else {
                // It is being started again.
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.next += 1;
            }
            if matches!(self.pace.habit, Habit::Resuming | Habit::Wildcard) {
                self.next += 1;
            }
            let mut seen = self.seen.lock().unwrap();
            seen.at = None;
            seen.witness.lost();
        }
    }

    /// Follows one connection until it ends, or the reader leaves.
    async fn follow(&mut self, mut line: Line) {
        for command in self.begin() {
            if !line.send(&command).await {
                return;
            }
        }
        let leaves = matches!(self.pace.habit, Habit::Resuming | Habit::Forgetful | Habit::Wildcard);
        while let Some(text) = line.read().await {
            self.seen.lock().unwrap().witness.take(&text);
            if !*self.around.is_busy.borrow() {
                continue;
            }
            if leaves && self.pace.random.one_in(200) {
                return;
            }
            if self.pace.habit == Habit::Churning && self.pace.random.one_in(20) {
                for command in self.churn() {
                    if !line.send(&command).await {
                        return;
                    }
                }
            }
            self.pace.rest(text.len()).await;
        }
    }

    /// Returns the commands that begin a connection.
    fn begin(&self) -> Vec<String> {
        let witness = &mut self.seen.lock().unwrap().witness;
        let rows = match self.pace.habit {
            Habit::Churning if !witness.subscribed().is_empty() => witness.subscribed().clone(),
            habit => self.around.watched_by(habit).clone(),
        };
        if self.pace.habit == Habit::Forgetful {
            witness.forget();
        }
        witness.begin();
        match self.pace.habit {
            Habit::Wildcard => witness.everything(&rows),
            _ => witness.resume(&rows),
        }
    }

    /// Returns commands of a churning reader.
    fn churn(&mut self) -> Vec<String> {
        let random = &mut self.pace.random;
        let part = 2 + random.below(20);
        let mut some: BTreeSet<Id> = self.around.rows.iter().filter(|_| random.one_in(part)).cloned().collect();
        let place = usize::try_from(random.below(self.around.rows.len() as u64)).unwrap();
        some.extend(self.around.rows.iter().nth(place).cloned());
        let witness = &mut self.seen.lock().unwrap().witness;
        match random.below(4) {
            0 | 1 => witness.unsubscribe(&some),
            2 => witness.resume(&some),
            _ => witness.snapshot(&some),
        }
    }
}
