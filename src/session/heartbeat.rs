//! The times at which silent peers are asked whether they live: one [`Wheel`] for all connections of a core, pure data; and
//! what a session does when it is looked at.
//!
//! The wheel turns once a second. Each connection stands in the one slot of the second at which it is to be looked at
//! next; hearing from a peer only writes the time down, and moves nothing. The cost of a look is that of the
//! connections that are due, however many are open.

use super::close::CloseReason;
use super::{Effects, End, Given, Phase, Session};
use crate::fanout::SlotKey;

/// A peer that was silent for this long is pinged, unless an operator says otherwise: proxies cut a connection that is
/// idle for 30 s, or 60.
pub const PING_AFTER_SECONDS: u32 = 25;
/// The time for which a closing connection waits for the peer's side of the close.
pub const CLOSE_SECONDS_MAX: u32 = 5;

/// The longest that a wheel waits: a connection that is to be looked at later is looked at now and then before.
pub const LOOK_SECONDS_MAX: u32 = SLOTS - 1;

const SLOTS: u32 = 128;

/// Returns the seconds for which a peer may be silent, the pings included, before it is gone: three times as long as it
/// takes to ping it.
#[must_use]
pub const fn silence_seconds_max(ping_after: u32) -> u32 {
    ping_after.saturating_mul(3)
}

/// Seconds since the core began.
pub type Second = u32;

/// The action that silence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The peer was heard of; look again at that second.
    Wait(Second),
    /// Send a ping, and look again at that second.
    Ping(Second),
    /// The peer is gone.
    Close,
}

/// Returns the action for a peer that was last heard at `heard`, and is pinged after so many seconds of silence.
#[must_use]
pub const fn beat(now: Second, heard: Second, ping_after: u32) -> Beat {
    let silent = now.saturating_sub(heard);
    let silent_max = silence_seconds_max(ping_after);
    if silent >= silent_max {
        Beat::Close
    } else if silent >= ping_after {
        let (given_up, next_ping) = (heard + silent_max, now + ping_after);
        Beat::Ping(if given_up < next_ping { given_up } else { next_ping })
    } else {
        Beat::Wait(heard + ping_after)
    }
}

/// The connections to look at in each second.
#[derive(Debug)]
pub struct Wheel {
    now: Second,
    due_by_slot: Vec<Vec<SlotKey>>,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { now: 0, due_by_slot: vec![Vec::new(); SLOTS as usize] }
    }
}

impl Wheel {
    /// Returns the second that the wheel has reached.
    #[must_use]
    pub const fn now(&self) -> Second {
        self.now
    }

    /// Schedules a look at a connection in that second; in the next one if it has passed, and before if it is far away.
    /// Returns the second in which it is.
    pub fn schedule(&mut self, key: SlotKey, at: Second) -> Second {
        let at = at.clamp(self.now + 1, self.now + LOOK_SECONDS_MAX);
        self.due_by_slot[(at % SLOTS) as usize].push(key);
        at
    }

    /// Goes one second on and returns the connections that are due. Those that closed meanwhile are still among them.
    pub fn turn(&mut self) -> Vec<SlotKey> {
        self.now += 1;
        std::mem::take(&mut self.due_by_slot[(self.now % SLOTS) as usize])
    }
}

impl Session {
    pub(super) fn look(&mut self, grant_seconds: Option<u32>, given: &Given<'_>, effects: &mut Effects) {
        match self.phase {
            Phase::Closing { .. } | Phase::Lingering if given.now >= self.second => {
                self.end(self.reason, effects);
                effects.end = Some(End::Cut);
            }
            Phase::Answering if given.now >= self.second => self.close(self.reason, given, effects),
            // Scheduled again when closing began; the look that is due is the heartbeat's from before.
            Phase::Answering | Phase::Closing { .. } | Phase::Lingering | Phase::Ended => {}
            Phase::Open if grant_seconds == Some(0) => self.close(CloseReason::TokenExpired, given, effects),
            Phase::Open => {
                let Some(at) = self.beat(given) else { return self.close(CloseReason::Silence, given, effects) };
                let expires = grant_seconds.map_or(at, |seconds| given.now.saturating_add(seconds));
                effects.look_at = Some(at.min(expires));
            }
        }
    }

    /// Says that this side is there, where it is time; returns when to look again, or `None` if the peer is gone.
    fn beat(&mut self, given: &Given<'_>) -> Option<Second> {
        let (now, ping_after) = (given.now, given.limits.ping_after);
        // A peer that this side does not read is not silent, unless it reads nothing either.
        if !self.is_event_stream() && (self.is_held || self.is_full() && !self.is_blocked) {
            self.second = now;
        }
        // Nobody answers on an event stream: who takes what is written is there.
        let is_taken = self.is_event_stream() && !self.is_blocked;
        match beat(now, self.second, ping_after) {
            Beat::Wait(at) => Some(at),
            Beat::Close if !is_taken => None,
            Beat::Ping(at) if !is_taken => {
                self.answer(self.encoding.heartbeat());
                Some(at)
            }
            Beat::Ping(_) | Beat::Close => {
                self.answer(self.encoding.heartbeat());
                self.second = now;
                Some(now.saturating_add(ping_after))
            }
        }
    }

    /// Learns that the socket takes more: a peer that reads is not silent.
    pub(super) fn writable(&mut self, given: &Given<'_>) {
        if std::mem::take(&mut self.is_blocked) && self.phase == Phase::Open {
            self.second = given.now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the seconds at which a peer that is heard at the seconds of `heard` gets a ping, and the one at which it
    /// is given up.
    fn pings(ping_after: u32, heard: &[Second], until: Second) -> (Vec<Second>, Option<Second>) {
        let mut wheel = Wheel::default();
        let mut pinged = Vec::new();
        wheel.schedule(SlotKey::default(), ping_after);
        while wheel.now() < until {
            for key in wheel.turn() {
                let now = wheel.now();
                let last = heard.iter().copied().filter(|&second| second <= now).max().unwrap_or(0);
                match beat(now, last, ping_after) {
                    Beat::Wait(at) => {
                        wheel.schedule(key, at);
                    }
                    Beat::Ping(at) => {
                        pinged.push(now);
                        wheel.schedule(key, at);
                    }
                    Beat::Close => return (pinged, Some(now)),
                }
            }
        }
        (pinged, None)
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_given_up() {
        assert_eq!(pings(25, &[], 200), (vec![25, 50], Some(75)));
        assert_eq!(pings(1, &[], 200), (vec![1, 2], Some(3)));
        assert_eq!(pings(120, &[], 400), (vec![120, 240], Some(360)), "beyond what the wheel reaches");
    }

    #[test]
    fn a_peer_that_answers_is_pinged_again_after_as_long() {
        assert_eq!(pings(30, &[31, 62], 70), (vec![30, 61], None));
        assert_eq!(pings(30, &[31], 200), (vec![30, 61, 91], Some(121)));
    }

    #[test]
    fn a_peer_that_talks_is_never_pinged() {
        let heard: Vec<_> = (0..60).map(|n| n * 10).collect();
        assert_eq!(pings(25, &heard, 600), (vec![], None));
    }

    #[test]
    fn what_should_have_been_looked_at_is_looked_at_next() {
        let mut wheel = Wheel::default();
        for _ in 0..SLOTS * 2 {
            wheel.turn();
        }
        wheel.schedule(SlotKey::default(), 3);
        assert_eq!(wheel.turn(), [SlotKey::default()]);
    }
}
