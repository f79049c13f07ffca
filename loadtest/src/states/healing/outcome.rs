//! The results of `healing`: [`Outcome`], as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::witness::Told;
use super::writing::Written;
use crate::cli::HealingArgs;
use crate::known::Compared;
use crate::report::{BOTTLENECK_SHARE, Rows, duration};
use crate::states::outcome::Opened;

/// Writes that reach less of their rate than this are told of.
const SHORT_SHARE: f64 = 0.95;

/// One end of the server's listening connection. Seconds count from it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kill {
    /// The first reader, and the last, were told that they are not live.
    pub(super) lost_s: (f64, f64),
    /// The server heard every change again.
    pub(super) heard_s: f64,
    /// The first reader, and the last, were told that they are live.
    pub(super) live_s: (f64, f64),
    /// From when the server heard every change again until the last reader was live.
    pub(super) healing_s: f64,
    /// What came until then.
    pub(super) told: Told,
    pub(super) server_cpu_s: f64,
    /// As a share of one processor.
    pub(super) load_cpu_share: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(super) parameters: HealingArgs,
    pub(super) opened: Opened,
    pub(super) kills: Vec<Kill>,
    /// The changes that were made beside them.
    pub(super) written: Written,
    /// What came in the whole run.
    pub(super) told: Told,
    pub(super) states: Compared,
    /// The readers of which something was another than in the store.
    pub(super) different_readers: u64,
    pub(super) faults_count: u64,
    pub(super) faults: Vec<String>,
    /// The machine's, at the end (`/proc/loadavg`): whatever else ran lengthens everything.
    pub(super) load_average: String,
}

impl Outcome {
    /// Returns true if all readers know what the store has, and were told nothing that is wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.faults_count == 0 && self.written.failures == 0
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut rows = Rows::default();
        let Opened { connections, seconds, server_cpu_us_per_connection: each } = self.opened;
        rows.add("connections", format!("{connections} in {seconds:.3} s, server CPU {each:.1} µs each"));
        for (number, kill) in (1..).zip(&self.kills) {
            let [lost, live] =
                [kill.lost_s, kill.live_s].map(|(first, last)| format!("{} – {}", time(first), time(last)));
            let [heard, healing] = [kill.heard_s, kill.healing_s].map(time);
            rows.add(&format!("kill {number}"), format!("not live after {lost}, live after {live}"));
            rows.add("", format!("source back after {heard}, the last reader live {healing} later"));
            let Told { frames, bytes, rows: told, newer, .. } = kill.told;
            let (mb, cpu) = (bytes as f64 / 1e6, kill.server_cpu_s);
            rows.add(
                "",
                format!("{told} rows, {newer} of them newer; {frames} frames, {mb:.1} MB, server CPU {cpu:.3} s"),
            );
        }
        let longest = |of: fn(&Kill) -> f64| time(self.kills.iter().map(of).fold(0.0, f64::max));
        rows.add("longest until live", longest(|kill| kill.live_s.1));
        rows.add("longest, source back", longest(|kill| kill.healing_s));
        rows.add("changes", format!("{}, {:.0}/s", self.written.changes, self.written.changes_per_s));
        rows.add("skipped, with a notice", self.told.skipped);
        let (connections, Compared { subscriptions, different }) = (connections as u64, self.states);
        rows.add("readers as the store", format!("{} of {connections}", connections - self.different_readers));
        rows.add("rows as in the store", format!("{} of {subscriptions}", subscriptions - different));
        rows.add("load average", &self.load_average);
        rows.0 + &self.verdict()
    }

    fn verdict(&self) -> String {
        let mut text = String::new();
        for (number, _) in (1..).zip(&self.kills).filter(|(_, kill)| kill.load_cpu_share >= BOTTLENECK_SHARE) {
            let number: u32 = number;
            let _ = writeln!(text, "note: after kill {number} the generator itself was at its limit");
        }
        let (made, asked) = (self.written.changes_per_s, self.parameters.rate);
        if made < asked * SHORT_SHARE {
            let _ = writeln!(text, "note: {made:.0} changes/s were made of {asked}; the writes are at their limit");
        }
        if let Some(failure) = &self.written.first_failure {
            let _ = writeln!(text, "FAILED: {} writes, the first because: {failure}", self.written.failures);
        }
        if self.faults_count > 0 {
            let _ = writeln!(text, "FAILED: {} faults, the first of them:", self.faults_count);
            for fault in &self.faults {
                let _ = writeln!(text, "  {fault}");
            }
        } else {
            text.push_str("every reader knows what the store has\n");
        }
        text
    }
}

fn time(seconds: f64) -> String {
    duration(seconds * 1e6)
}
