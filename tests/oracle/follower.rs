//! The readers of the oracle that ask for changes alone ([`Follower`]). Each subscribes at a quiet point, when it can know
//! the table by other means; from then on what it is told has to make the table of every later quiet point, and every
//! change is told or counted as skipped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::line::{Http, Line};
use super::reader::{Habit, Kind, Pace, Surroundings};
use super::table::{Id, Rows};
use super::witness::{Account, Witness};
use super::{differences, of};

/// A follower as the oracle sees it.
pub(super) struct Follower {
    pub(super) name: String,
    /// The place of its server.
    pub(super) server: usize,
    rows: BTreeSet<Id>,
    /// The number of its next connection.
    turn: watch::Sender<u64>,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    witness: Witness,
    /// The number of the connection on which it is subscribed; 0 if it is not.
    turn: u64,
}

impl Follower {
    pub(super) const HABITS: [Habit; 3] = [Habit::Steady, Habit::Slow, Habit::Stopping];

    pub(super) fn start(Kind { habit, http, place, random }: Kind, around: Surroundings) -> Self {
        let server = place % around.places.len();
        let (turn, turns) = watch::channel(0);
        let seen = Arc::new(Mutex::new(Seen { witness: Witness::new(around.tables.clone()), turn: 0 }));
        let rows = around.common.clone();
        let pace = Pace { habit, is_busy: around.is_busy.clone(), random };
        tokio::spawn(Life { http, around, pace, server, turns, seen: Arc::clone(&seen) }.run());
        Self { name: format!("a follower, {habit:?}, HTTP/{http:?}"), server, rows, turn, seen }
    }

    /// At a quiet point: returns once it is subscribed and shows the table. `anew` says that it has to leave its
    /// connection, whose account is not known to be exact.
    pub(super) async fn until_following(&self, table: &Rows, anew: bool, ignores_versions: bool) {
        let is_following = self.is_following();
        if anew || !is_following {
            self.turn.send_modify(|turn| *turn += 1);
            while !self.is_following() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.seen.lock().unwrap().witness.show(&of(table, &self.rows));
        }
        let witness = &mut self.seen.lock().unwrap().witness;
        (witness.account, witness.ignores_versions) = (Account::default(), ignores_versions);
    }

    fn is_following(&self) -> bool {
        self.seen.lock().unwrap().turn == *self.turn.borrow() && *self.turn.borrow() > 0
    }

    /// Returns in what it differs from the table, if it does. One whose connection is gone shows nothing.
    pub(super) fn differs_from(&self, table: &Rows, may_be_lost: bool) -> Option<String> {
        if !self.is_following() {
            return (!may_be_lost).then(|| "it has lost its connection".to_owned());
        }
        let seen = self.seen.lock().unwrap();
        let Some(rows) = seen.witness.rows() else { return Some(format!("it is not live, {}", seen.witness.wait())) };
        let wanted = of(table, &self.rows);
        (rows != wanted).then(|| differences(&rows, &wanted))
    }

    /// Returns in what its account of a round without faults differs from the number of changes, if it does. One
    /// that was told of a gap has no exact account.
    pub(super) fn miscounts(&self, committed: u64) -> Option<String> {
        let Account { received, skipped, perhaps, was_lost } = self.seen.lock().unwrap().witness.account;
        if was_lost {
            return None;
        }
        let told = received + skipped;
        let is_right = (told..=told + perhaps).contains(&committed);
        (!is_right).then(|| format!("{committed} changes: {received} received, {skipped} skipped, {perhaps} perhaps"))
    }

    /// Returns what it saw that must not be.
    pub(super) fn faults(&self) -> Vec<String> {
        self.seen.lock().unwrap().witness.faults()
    }

    /// Notes what happens, for who looks for the reason of a fault.
    pub(super) fn note(&self, what: &str) {
        self.seen.lock().unwrap().witness.note(what);
    }
}

struct Life {
    http: Http,
    around: Surroundings,
    pace: Pace,
    server: usize,
    turns: watch::Receiver<u64>,
    seen: Arc<Mutex<Seen>>,
}

impl Life {
    async fn run(mut self) {
        let mut served = 0;
        while self.turns.wait_for(|turn| *turn != served).await.is_ok() {
            let turn = *self.turns.borrow_and_update();
            let place = self.around.places[self.server].clone();
            if let Some(line) = Line::open(&place, self.http, self.pace.habit.window()).await {
                if self.follow(line, turn).await {
                    served = turn;
                }
                self.seen.lock().unwrap().turn = 0;
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Follows one connection until it ends or another one is wanted; returns whether it was subscribed there.
    async fn follow(&mut self, mut line: Line, turn: u64) -> bool {
        let commands = {
            let witness = &mut self.seen.lock().unwrap().witness;
            witness.forget();
            witness.begin();
            witness.follow(&self.around.common)
        };
        for command in commands {
            if !line.send(&command).await {
                return false;
            }
        }
        let mut is_subscribed = false;
        loop {
            let text = tokio::select! {
                text = line.read() => text,
                _ = self.turns.changed() => return is_subscribed,
            };
            let Some(text) = text else { return is_subscribed };
            {
                let seen = &mut *self.seen.lock().unwrap();
                seen.witness.take(&text);
                is_subscribed |= seen.witness.is_live();
                if is_subscribed {
                    seen.turn = turn;
                }
            }
            self.pace.rest(text.len()).await;
        }
    }
}
